//! Branches: each becomes a graph of its own, unless sizes decide which is taken.
//!
//! Invariant: a branch that is decided by sizes is imported alone; a body takes what it uses from
//! around it as inputs, and its results have the same types whichever way it goes.

use super::build::{Level, V};
use super::fault::Fault;
use super::form::Form;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::random::draws;
use super::scalar::Scalar;
use crate::resolve::{Attribute, Body};
use kiln_ir::TensorType;
use kiln_ir::op;
use kiln_tensor::{DType, Dim};
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
    either(x, condition, &branches)
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
    let common = match common_types(x, first, second, Decides::Sizes) {
        Err(Fault::Problem { .. }) => match assumed(x, condition, branches[0])? {
            Some(results) => return Ok(results),
            None => common_types(x, first, second, Decides::Data)?,
        },
        common => common?,
    };
    let elements = |v: V| x.importer.build.elements_of(v);
    let forms = first.iter().zip(second).map(|(&a, &b)| joined(elements(a), elements(b)));
    let forms = forms.collect::<Result<Vec<_>, _>>()?;
    let mut regions = Vec::with_capacity(2);
    for (level, values) in levels.into_iter().zip(&values) {
        x.importer.build.resume(level);
        let declared = declare(x, values, &common);
        let graph = x.importer.build.leave();
        declared?;
        regions.push(graph);
    }
    let operands = [vec![condition], captured].concat();
    let results = x.importer.build.add_node(op::If {}, &operands, regions)?;
    for (&v, form) in results.iter().zip(forms) {
        if let Some(form) = form {
            x.holding(v, form);
        }
    }
    Ok(results)
}

/// What the elements of a list are that is one of two; `None` if they are no lists.
pub(super) fn joined(a: Option<&Form>, b: Option<&Form>) -> Result<Option<Form>, Fault> {
    a.zip(b).map(|(a, b)| a.joined(b)).transpose()
}

/// Makes the values the results of the graph in hand, said to have these types. Sizes that the
/// branches do not share are symbols of the results, which each branch gives its own value.
fn declare(x: &mut Use<'_, '_, '_>, values: &[V], common: &Common) -> Result<(), Fault> {
    for (number, (&v, ty)) in values.iter().zip(&common.types).enumerate() {
        let mut raised = x.shape(v);
        raise(&mut raised, ty.rank());
        let v = x.reshape(v, raised)?;
        let own = x.shape(v);
        let mut bound = Vec::new();
        for (own, dim) in own.iter().zip(&ty.shape) {
            if common.own.contains(dim) && !bound.contains(dim) {
                let size = x.vector(vec![own.clone()])?;
                let bind = op::Bind { symbols: vec![dim.clone()] };
                x.importer.build.add_node(bind, &[size], Vec::new())?;
                bound.push(dim.clone());
            }
        }
        let v = x.assume(v, ty.shape.clone())?;
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(())
}

/// Types of results, and the symbols in them that each branch gives its own value.
struct Common {
    types: Vec<TensorType>,
    own: BTreeSet<Dim>,
}

/// The types of the results, whichever branch is taken.
fn common_types(
    x: &mut Use<'_, '_, '_>,
    first: &[V],
    second: &[V],
    decides: Decides,
) -> Result<Common, Fault> {
    if first.len() != second.len() {
        let (a, b) = (first.len(), second.len());
        return Err(Fault::malformed(format!("one branch has {a} results, the other {b}")));
    }
    let (mut types, mut own) = (Vec::with_capacity(first.len()), BTreeSet::new());
    for (number, (&a, &b)) in first.iter().zip(second).enumerate() {
        let (mut a, mut b) = (x.ty(a).clone(), x.ty(b).clone());
        let single = |ty: &TensorType| ty.shape.iter().all(|dim| dim.is(1));
        if decides == Decides::Data && single(&a) && single(&b) {
            let rank = a.rank().max(b.rank());
            [&mut a, &mut b].into_iter().for_each(|ty| raise(&mut ty.shape, rank));
        }
        let same_kind = a.dtype == b.dtype && a.rank() == b.rank();
        let mut shape = Vec::with_capacity(a.rank());
        for (a, b) in a.shape.iter().zip(&b.shape) {
            shape.push(match (a.as_const(), b.as_const()) {
                _ if a == b => Some(a.clone()),
                (Some(_), Some(_)) if decides == Decides::Sizes => None,
                _ => {
                    let size = x.found("either");
                    own.insert(size.clone());
                    Some(size)
                }
            });
        }
        let shape = shape.into_iter().collect::<Option<Vec<Dim>>>().filter(|_| same_kind);
        let shape = shape.ok_or_else(|| {
            Fault::unsupported(
                format!("result {number} is {a} in one branch and {b} in the other"),
                "fix sizes with --dim so that the branch is decided, or export the model \
                 without it",
            )
        })?;
        types.push(TensorType::new(a.dtype, shape));
    }
    Ok(Common { types, own })
}

/// The shape of one element with more dimensions: an exporter writes a scalar in one branch and a
/// vector of one in the other.
fn raise(shape: &mut Vec<Dim>, rank: usize) {
    if shape.len() < rank {
        shape.resize(rank, Dim::from(1i64));
    }
}

/// What decides which branch is taken, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decides {
    /// Sizes: results that cannot be the same mean that the condition is known after all.
    Sizes,
    /// Data.
    Data,
}
