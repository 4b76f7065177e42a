//! Branches: each becomes a graph of its own, unless sizes decide which is taken.
//!
//! Invariant: a branch that is decided by sizes is imported alone; a body takes what it uses from
//! around it as inputs, and its results have the same types whichever way it goes.

use super::bounds::Facts;
use super::build::{Level, V};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::random::draws;
use super::scalar::Scalar;
use crate::resolve::{Attribute, Body};
use kiln_ir::TensorType;
use kiln_ir::op;
use kiln_tensor::DType;
use std::collections::BTreeSet;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("If", 1, if_)];

/// A body that an attribute holds.
pub(super) fn body<'r, 'm>(x: &Use<'_, 'r, 'm>, name: &str) -> Result<&'r Body<'m>, Fault> {
    match x.attribute(name) {
        Some(Attribute::Graph(body)) => Ok(body),
        _ => Err(Fault::malformed(format!("attribute `{name}` must be a graph"))),
    }
}

/// What the bodies use from around them that they cannot make anew; where random numbers are drawn,
/// that is how often the loops around them ran, too.
pub(super) fn captures(x: &Use<'_, '_, '_>, bodies: &[&Body<'_>]) -> Vec<V> {
    let ids: BTreeSet<_> = bodies.iter().flat_map(|body| &body.captures).copied().collect();
    let mut values: BTreeSet<V> = ids.into_iter().filter_map(|id| x.importer.value(id)).collect();
    if bodies.iter().any(|body| draws(body)) {
        values.extend(&x.importer.iterations);
    }
    values.into_iter().filter(|&v| !x.importer.build.is_known(v)).collect()
}

/// Imports a body whose inputs are there, into the graph in hand; gives its results.
pub(super) fn results<'m>(x: &mut Use<'_, '_, 'm>, body: &Body<'m>) -> Results {
    x.importer.body(body);
    let outputs = body.outputs.iter();
    outputs.map(|(id, _)| x.importer.value(*id).ok_or(Fault::Silent)).collect()
}

/// A scalar, which some exporters write as a tensor of one element.
pub(super) fn one_element(
    x: &mut Use<'_, '_, '_>,
    v: V,
    dtype: DType,
    what: &str,
) -> Result<V, Fault> {
    if x.dtype(v) != dtype || x.rank(v) > 1 {
        let ty = x.ty(v);
        return Err(Fault::malformed(format!("{what} must be {dtype}[], but is {ty}")));
    }
    x.reshape(v, Vec::new())
}

fn if_(x: &mut Use<'_, '_, '_>) -> Results {
    let condition = x.input(0)?;
    let condition = one_element(x, condition, DType::Bool, "the condition")?;
    let branches = [body(x, "then_branch")?, body(x, "else_branch")?];
    if let Some(contents) = x.importer.build.contents(condition)
        && let [decided] = &contents[..]
        && let Some(decided) = decided.as_integer()
    {
        return results(x, branches[if decided != 0 { 0 } else { 1 }]);
    }
    match either(x, condition, &branches) {
        Err(fault @ Fault::Problem { .. }) => match assumed(x, condition, branches[0])? {
            Some(results) => Ok(results),
            None => Err(fault),
        },
        other => other,
    }
}

/// The branch that is taken if two sizes are equal, if its results cannot be those of the other
/// one too: exporters write `squeeze` like that. That they are equal is said of the values that
/// the branch uses, and checked when the model runs; `None` if there is nothing to say it of.
fn assumed<'m>(
    x: &mut Use<'_, '_, 'm>,
    condition: V,
    branch: &Body<'m>,
) -> Result<Option<Vec<V>>, Fault> {
    let contents = x.importer.build.contents(condition);
    let Some([Scalar::Equal { a, b }]) = contents.as_deref() else { return Ok(None) };
    let (open, fixed) = if a.as_const().is_none() { (a, b) } else { (b, a) };
    let mut before = Vec::new();
    for &id in &branch.captures {
        let Some(v) = x.importer.value(id) else { continue };
        let shape = x.shape(v);
        if shape.contains(open) {
            let shape = shape.iter().map(|dim| if dim == open { fixed } else { dim }.clone());
            let v = x.assume(v, shape.collect())?;
            before.push((id, x.importer.values.insert(id, Some(v))));
        }
    }
    if before.is_empty() {
        return Ok(None);
    }
    let made = results(x, branch);
    for (id, v) in before {
        x.importer.values.insert(id, v.flatten());
    }
    made.map(Some)
}

/// A branch that is decided when the model runs.
fn either<'m>(x: &mut Use<'_, '_, 'm>, condition: V, branches: &[&Body<'m>; 2]) -> Results {
    let captured = captures(x, branches);
    let mut built: Vec<(Level, Results)> = Vec::with_capacity(2);
    for (branch, name) in branches.iter().zip(["then", "else"]) {
        x.importer.build.enter(name);
        let values = captured.iter().try_for_each(|&v| x.importer.build.capture(v));
        let values = values.and_then(|()| results(x, branch));
        built.extend(x.importer.build.suspend().map(|level| (level, values)));
    }
    let mut values = Vec::with_capacity(2);
    let mut levels = Vec::with_capacity(2);
    for (level, results) in built {
        values.push(results?);
        levels.push(level);
    }
    let [first, second] = &values[..] else { return Err(Fault::Silent) };
    let types = common_types(x, first, second)?;
    let mut regions = Vec::with_capacity(2);
    for (level, values) in levels.into_iter().zip(&values) {
        x.importer.build.resume(level);
        let declared = declare(x, values, &types);
        let graph = x.importer.build.leave();
        declared?;
        regions.push(graph);
    }
    let operands = [vec![condition], captured].concat();
    x.importer.build.add_node(op::If {}, &operands, regions)
}

/// Makes the values the results of the graph in hand, said to have these types.
fn declare(x: &mut Use<'_, '_, '_>, values: &[V], types: &[TensorType]) -> Result<(), Fault> {
    for (number, (&v, ty)) in values.iter().zip(types).enumerate() {
        let v = x.assume(v, ty.shape.clone())?;
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(())
}

/// The types of the results, whichever branch is taken.
fn common_types(
    x: &mut Use<'_, '_, '_>,
    first: &[V],
    second: &[V],
) -> Result<Vec<TensorType>, Fault> {
    if first.len() != second.len() {
        let (a, b) = (first.len(), second.len());
        return Err(Fault::malformed(format!("one branch has {a} results, the other {b}")));
    }
    let pairs = first.iter().zip(second).enumerate();
    let types = pairs.map(|(number, (&a, &b))| {
        let (a, b) = (x.ty(a).clone(), x.ty(b).clone());
        common_type(&a, &b, x.facts()).ok_or_else(|| {
            Fault::unsupported(
                format!("result {number} is {a} in one branch and {b} in the other"),
                "fix sizes with --dim so that the branch is decided, or export the model \
                 without it",
            )
        })
    });
    types.collect()
}

pub(super) fn common_type(a: &TensorType, b: &TensorType, facts: &Facts) -> Option<TensorType> {
    if a.dtype != b.dtype || a.rank() != b.rank() {
        return None;
    }
    let dims = a.shape.iter().zip(&b.shape).map(|(a, b)| match facts.may_meet(a, b) {
        false => None,
        true if a.as_const().is_none() && b.as_const().is_some() => Some(b.clone()),
        true => Some(a.clone()),
    });
    Some(TensorType::new(a.dtype, dims.collect::<Option<_>>()?))
}
