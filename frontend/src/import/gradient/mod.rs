//! The operator `Gradient`: reverse-mode differentiation of the part of the graph that lies between
//! the tensors of `xs` and the tensor `y`.
//!
//! Invariant: what is differentiated are core operations, each by a rule of its own; an operation
//! on the way that has none is an error, never a gradient of 0.

mod elementwise;
mod movement;
mod reduction;

use super::build::{Made, V};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, preview};
use super::optimisers::TRAINING;
use crate::resolve::{Attribute, Body};
use kiln_ir::op::{BinaryFn, Op, ReduceFn};
use kiln_tensor::Dim;
use std::collections::{BTreeMap, BTreeSet};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[preview(TRAINING, "Gradient", gradient)];

/// One operation whose results depend on what is differentiated by.
struct Step {
    op: Op,
    inputs: Vec<V>,
    output: V,
    /// The gradient of the result.
    gradient: V,
}

/// Names of tensors by which a graph, or one inside it, is differentiated: what they hold must not
/// be calculated with before.
pub(super) fn differentiated<'m>(body: &Body<'m>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for node in &body.nodes {
        let ours = node.site.domain == TRAINING && node.site.op == "Gradient";
        for (name, attribute) in &node.attributes {
            match attribute {
                Attribute::Strings(values) if ours && matches!(*name, "xs" | "zs") => {
                    let texts = values.iter().map(|name| String::from_utf8_lossy(name));
                    names.extend(texts.map(|name| name.into_owned()));
                }
                Attribute::Graph(body) => names.extend(differentiated(body)),
                _ => {}
            }
        }
    }
    names
}

/// The tensors of the model that an attribute names.
fn named(x: &Use<'_, '_, '_>, name: &str) -> Result<Vec<V>, Fault> {
    let names: Vec<String> = match x.attribute(name) {
        None => Vec::new(),
        Some(Attribute::Strings(names)) => {
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        }
        Some(Attribute::String(name)) => vec![String::from_utf8_lossy(name).into_owned()],
        Some(_) => return Err(Fault::malformed(format!("attribute `{name}` must be names"))),
    };
    names.iter().map(|name| tensor(x, name)).collect()
}

fn tensor(x: &Use<'_, '_, '_>, name: &str) -> Result<V, Fault> {
    let ids = x.importer.values.iter().filter(|(id, v)| {
        v.is_some() && x.importer.names.get(id.index()).is_some_and(|&other| other == name)
    });
    let last = ids.max_by_key(|(id, _)| **id).and_then(|(_, v)| *v);
    last.ok_or_else(|| Fault::malformed(format!("there is no tensor `{name}` before the node")))
}

fn gradient(x: &mut Use<'_, '_, '_>) -> Results {
    let xs = named(x, "xs")?;
    let arguments = [xs.clone(), named(x, "zs")?].concat();
    let given = x.all_inputs()?;
    if given.len() != arguments.len() || xs.is_empty() {
        let (inputs, names) = (given.len(), arguments.len());
        return Err(Fault::malformed(format!("{inputs} inputs are given for {names} names")));
    }
    let [target] = named(x, "y")?[..] else {
        return Err(Fault::malformed("attribute `y` must be one name"));
    };
    for v in xs.iter().chain([&target]) {
        if !x.dtype(*v).is_float() {
            let ty = x.ty(*v);
            return Err(Fault::malformed(format!("{ty} cannot be differentiated")));
        }
    }
    let mut meaning: BTreeMap<V, V> = arguments.into_iter().zip(given.iter().copied()).collect();
    let tape = tape(x, &meaning, target);
    replay(x, &tape, &mut meaning)?;
    let means = |v: V| meaning.get(&v).copied().unwrap_or(v);
    let mut active: BTreeSet<V> = xs.iter().map(|&v| means(v)).collect();
    let steps: Vec<(Op, Vec<V>, V)> = tape
        .into_iter()
        .filter_map(|(op, inputs, output)| {
            let inputs: Vec<V> = inputs.into_iter().map(means).collect();
            let depends = inputs.iter().any(|v| active.contains(v));
            depends.then(|| {
                active.insert(means(output));
                (op, inputs, means(output))
            })
        })
        .collect();
    let target = means(target);
    let (shape, dtype) = (x.shape(target), x.dtype(target));
    let mut gradients = BTreeMap::from([(target, x.filled(dtype, 1.0, shape)?)]);
    for (op, inputs, output) in steps.into_iter().rev() {
        let Some(&gradient) = gradients.get(&output) else { continue };
        let step = Step { op, inputs, output, gradient };
        for (number, &operand) in step.inputs.iter().enumerate() {
            if !active.contains(&operand) || !x.dtype(operand).is_float() {
                continue;
            }
            let Some(part) = of_operand(x, &step, number)? else { continue };
            let sum = match gradients.get(&operand) {
                Some(&other) => x.binary(BinaryFn::Add, other, part)?,
                None => part,
            };
            gradients.insert(operand, sum);
        }
    }
    let mut results = Vec::with_capacity(xs.len());
    for &v in &given[..xs.len()] {
        results.push(match gradients.get(&v) {
            Some(&gradient) => gradient,
            None => {
                let (shape, dtype) = (x.shape(v), x.dtype(v));
                x.filled(dtype, 0.0, shape)?
            }
        });
    }
    Ok(results)
}

/// The operations that lead from the arguments to the target, in order.
fn tape(x: &Use<'_, '_, '_>, meaning: &BTreeMap<V, V>, target: V) -> Vec<(Op, Vec<V>, V)> {
    let mut depends: BTreeSet<V> = meaning.keys().copied().collect();
    let mut forward: Vec<Made> = Vec::new();
    for made in x.importer.build.nodes() {
        if made.inputs.iter().any(|v| depends.contains(v)) {
            depends.extend(&made.outputs);
            forward.push(made);
        }
    }
    let mut needed = BTreeSet::from([target]);
    let mut tape = Vec::new();
    for made in forward.into_iter().rev() {
        // Arguments are where it begins, whatever they were computed from.
        let asked = made.outputs.iter().find(|v| needed.contains(v) && !meaning.contains_key(v));
        if let Some(&output) = asked {
            needed.extend(&made.inputs);
            tape.push((made.op, made.inputs, output));
        }
    }
    tape.reverse();
    tape
}

/// Repeats operations on other operands, where the node is given other tensors than it names.
fn replay(
    x: &mut Use<'_, '_, '_>,
    tape: &[(Op, Vec<V>, V)],
    meaning: &mut BTreeMap<V, V>,
) -> Result<(), Fault> {
    for (op, inputs, output) in tape {
        let operands: Vec<V> =
            inputs.iter().map(|v| meaning.get(v).copied().unwrap_or(*v)).collect();
        if operands != *inputs {
            if matches!(op, Op::If(_) | Op::Loop(_) | Op::Recurrent(_)) {
                return Err(no_rule(op));
            }
            let again = x.add(op.clone(), &operands)?;
            meaning.insert(*output, again);
        }
    }
    Ok(())
}

fn no_rule(op: &Op) -> Fault {
    let message = format!("the gradient of the core operation {} is not supported", op.name());
    Fault::unsupported(message, "leave the operation out of what is differentiated")
}

/// What one operand of a step adds to its gradient; nothing where the result does not change with
/// it but in jumps.
fn of_operand(x: &mut Use<'_, '_, '_>, step: &Step, number: usize) -> Result<Option<V>, Fault> {
    match &step.op {
        Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) => {
            elementwise::of_operand(x, step, number)
        }
        Op::Reshape(_)
        | Op::Assume(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Concat(_)
        | Op::Pad(_)
        | Op::Gather(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_) => movement::of_operand(x, step, number),
        Op::Reduce(_) | Op::Accumulate(_) | Op::Contract(_) | Op::Softmax(_) | Op::Normalize(_) => {
            reduction::of_operand(x, step, number)
        }
        Op::ArgReduce(_) => Ok(None),
        op => Err(no_rule(op)),
    }
}

/// The gradient of what was stretched: summed where it was.
fn narrowed(x: &mut Use<'_, '_, '_>, v: V, shape: Vec<Dim>) -> Result<V, Fault> {
    let wide = x.shape(v);
    let offset = wide.len() - shape.len().min(wide.len());
    let stretched = |axis: usize| axis < offset || shape[axis - offset].is(1) && !wide[axis].is(1);
    let axes: Vec<usize> = (0..wide.len()).filter(|&axis| stretched(axis)).collect();
    let sum = if axes.is_empty() { v } else { x.reduce(ReduceFn::Sum, v, axes, true)? };
    let tail = x.shape(sum)[offset..].to_vec();
    let sum = x.reshape(sum, tail)?;
    x.assume(sum, shape)
}
