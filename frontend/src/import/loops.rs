//! Loops and scans: a body becomes a graph of its own, run until its condition fails.
//!
//! Invariant: a value that goes from one iteration to the next keeps its type.

use super::build::V;
use super::control::{body, captures, common_type, one_element, results};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::resolve::Body;
use kiln_ir::TensorType;
use kiln_ir::op;
use kiln_tensor::{DType, Dim, Tensor};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("Loop", 1, loop_), onnx("Scan", 9, scan)];

/// A result of a loop's body that goes into the next iteration, in the type that it started with.
fn carried(x: &mut Use<'_, '_, '_>, number: usize, v: V, initial: V) -> Result<V, Fault> {
    let (before, after) = (x.ty(initial).clone(), x.ty(v).clone());
    let common = common_type(&before, &after, x.facts());
    if common.is_none() {
        return Err(Fault::unsupported(
            format!(
                "value {number} of the loop changes its type from one iteration to the next: \
                 {before} becomes {after}"
            ),
            "unroll the loop when exporting the model",
        ));
    }
    x.assume(v, before.shape)
}

fn loop_(x: &mut Use<'_, '_, '_>) -> Results {
    let constant = |x: &mut Use<'_, '_, '_>, value: i64, dtype: DType| {
        let tensor = Tensor::scalar(value).map_err(|error| Fault::malformed(error.to_string()))?;
        let value = x.constant(tensor);
        x.cast(value, dtype)
    };
    let trip = match x.optional(0) {
        Some(trip) => one_element(x, trip, DType::I64, "the trip count")?,
        None => constant(x, i64::MAX, DType::I64)?,
    };
    let condition = match x.optional(1) {
        Some(condition) => one_element(x, condition, DType::Bool, "the condition")?,
        None => constant(x, 1, DType::Bool)?,
    };
    let body = body(x, "body")?;
    let initial =
        (2..x.inputs.len()).map(|number| x.input(number)).collect::<Result<Vec<_>, _>>()?;
    if body.inputs.len() != initial.len() + 2 || body.outputs.len() < initial.len() + 1 {
        let (inputs, outputs) = (body.inputs.len(), body.outputs.len());
        let count = initial.len();
        return Err(Fault::malformed(format!(
            "the body has {inputs} inputs and {outputs} outputs, but {count} values are carried"
        )));
    }
    let captured = captures(x, &[body]);
    x.importer.build.enter("body");
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let mut types = vec![scalar(DType::I64), scalar(DType::Bool)];
    types.extend(initial.iter().map(|&v| x.ty(v).clone()));
    let made = in_body(x, body, types, &captured, |x, inputs, results| {
        let again = one_element(x, results[0], DType::Bool, "the condition of the body")?;
        let goes_on = again == inputs[1]
            || x.importer
                .build
                .contents(again)
                .is_some_and(|truth| truth[0].as_integer() == Some(1));
        let mut outputs = vec![again];
        for (number, (&v, &initial)) in results[1..].iter().zip(&initial).enumerate() {
            outputs.push(carried(x, number, v, initial)?);
        }
        outputs.extend(&results[1 + initial.len()..]);
        Ok((outputs, goes_on))
    });
    let graph = x.importer.build.leave();
    let goes_on = made?;
    let scan = body.outputs.len() - 1 - initial.len();
    let begins = x.importer.build.contents(condition);
    let begins = begins.is_some_and(|truth| truth[0].as_integer() == Some(1));
    let count = x.importer.build.contents(trip).and_then(|trip| trip[0].as_dim().cloned());
    let scan_length = match count {
        Some(count) if begins && goes_on => x.facts().maximum(&count, &Dim::from(0i64)),
        _ => Dim::symbol(x.importer.build.fresh_symbol("iterations")),
    };
    let op = op::Loop { carried: initial.len(), scan, scan_length };
    let operands = [vec![trip, condition], initial, captured].concat();
    x.importer.build.add_node(op, &operands, vec![graph])
}

/// Fills the graph in hand with a body: inputs of these types, then what it captures; its results
/// are what `finish` makes of them.
fn in_body<'i, 'r, 'm, T>(
    x: &mut Use<'i, 'r, 'm>,
    body: &Body<'m>,
    types: Vec<TensorType>,
    captured: &[V],
    finish: impl FnOnce(&mut Use<'i, 'r, 'm>, &[V], &[V]) -> Result<(Vec<V>, T), Fault>,
) -> Result<T, Fault> {
    let mut inputs = Vec::with_capacity(types.len());
    for ((id, info), ty) in body.inputs.iter().zip(types) {
        let v = x.importer.build.graph_input(info.name(), ty)?;
        x.importer.define(*id, Some(v));
        inputs.push(v);
    }
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    let results = results(x, body)?;
    let (outputs, made) = finish(x, &inputs, &results)?;
    for (number, v) in outputs.into_iter().enumerate() {
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(made)
}

/// Runs `step` `trip` times: from the number of the iteration and what is carried to what is
/// carried on and what is stacked. `used` are the values from outside that it uses. Gives what is
/// carried at last, then the stacks, along a new first dimension of `stacked`.
pub(super) fn repeat<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    trip: V,
    (initial, used): (&[V], &[V]),
    stacked: Option<&Dim>,
    step: impl FnOnce(&mut Use<'i, 'r, 'm>, V, &[V]) -> Result<(Vec<V>, Vec<V>), Fault>,
) -> Results {
    let truth = x.scalar(DType::Bool, 1.0)?;
    let mut captured: Vec<V> = Vec::new();
    for &v in used {
        if !x.importer.build.is_known(v) && !captured.contains(&v) {
            captured.push(v);
        }
    }
    x.importer.build.enter("body");
    let made = step_body(x, initial, &captured, step);
    let graph = x.importer.build.leave();
    let scan = made?;
    let scan_length = match stacked {
        Some(length) => length.clone(),
        None => Dim::from(0i64),
    };
    let op = op::Loop { carried: initial.len(), scan, scan_length };
    let operands = [vec![trip, truth], initial.to_vec(), captured].concat();
    x.importer.build.add_node(op, &operands, vec![graph])
}

/// Fills the body of [`repeat`]; gives how many values are stacked.
fn step_body<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    initial: &[V],
    captured: &[V],
    step: impl FnOnce(&mut Use<'i, 'r, 'm>, V, &[V]) -> Result<(Vec<V>, Vec<V>), Fault>,
) -> Result<usize, Fault> {
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let iteration = x.importer.build.graph_input("iteration", scalar(DType::I64))?;
    let again = x.importer.build.graph_input("condition", scalar(DType::Bool))?;
    let mut values = Vec::with_capacity(initial.len());
    for (number, &v) in initial.iter().enumerate() {
        let ty = x.ty(v).clone();
        values.push(x.importer.build.graph_input(&format!("carried_{number}"), ty)?);
    }
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    let (values, stacked) = step(x, iteration, &values)?;
    x.importer.build.output(again, "condition")?;
    for (number, (&v, &initial)) in values.iter().zip(initial).enumerate() {
        let v = carried(x, number, v, initial)?;
        x.importer.build.output(v, &format!("carried_{number}"))?;
    }
    for (number, &v) in stacked.iter().enumerate() {
        x.importer.build.output(v, &format!("stacked_{number}"))?;
    }
    Ok(stacked.len())
}

/// Directions or axes of scanned values: a number each, by default 0.
fn each_of(x: &Use<'_, '_, '_>, name: &str, count: usize) -> Result<Vec<i64>, Fault> {
    let given = x.ints(name)?.map_or(vec![0; count], <[i64]>::to_vec);
    if given.len() == count {
        return Ok(given);
    }
    Err(Fault::malformed(format!("`{name}` has {} entries for {count} values", given.len())))
}

/// A loop over the slices of its scanned operands, which each iteration takes one of.
fn scan(x: &mut Use<'_, '_, '_>) -> Results {
    let body = body(x, "body")?;
    let operands = x.all_inputs()?;
    let scanned = x.int_or("num_scan_inputs", 0)?;
    let scanned =
        usize::try_from(scanned).ok().filter(|&count| (1..=operands.len()).contains(&count));
    let scanned = scanned.ok_or_else(|| Fault::malformed("num_scan_inputs does not fit"))?;
    let (initial, scans) = operands.split_at(operands.len() - scanned);
    let outputs = body.outputs.len().checked_sub(initial.len());
    let (Some(outputs), true) = (outputs, body.inputs.len() == operands.len()) else {
        return Err(Fault::malformed("the body does not fit the operands"));
    };
    let mut axes = Vec::with_capacity(scanned);
    for (&v, axis) in scans.iter().zip(each_of(x, "scan_input_axes", scanned)?) {
        axes.push(x.axis(axis, x.rank(v))?);
    }
    let backwards = each_of(x, "scan_input_directions", scanned)?;
    let length = x.shape(scans[0])[axes[0]].clone();
    let mut sequences = Vec::with_capacity(scanned);
    for (&v, &axis) in scans.iter().zip(&axes) {
        sequences.push(x.with_dim(v, axis, &length)?);
    }
    let mut captured = captures(x, &[body]);
    for &v in &sequences {
        if !x.importer.build.is_known(v) && !captured.contains(&v) {
            captured.push(v);
        }
    }
    let trip = x.add(op::SizeOf { dims: vec![length.clone()], scalar: true }, &[])?;
    let truth = x.scalar(DType::Bool, 1.0)?;
    x.importer.build.enter("body");
    let made = scan_body(x, body, (initial, &sequences), (&axes, &backwards), (&length, &captured));
    let graph = x.importer.build.leave();
    made?;
    let op = op::Loop { carried: initial.len(), scan: outputs, scan_length: length };
    let operands = [vec![trip, truth], initial.to_vec(), captured].concat();
    let mut results = x.importer.build.add_node(op, &operands, vec![graph])?;
    let axes = each_of(x, "scan_output_axes", outputs)?;
    let backwards = each_of(x, "scan_output_directions", outputs)?;
    for (number, result) in results[initial.len()..].iter_mut().enumerate() {
        if backwards[number] != 0 {
            let shape = x.shape(*result);
            let (mut starts, mut steps) =
                (vec![Dim::from(0i64); shape.len()], vec![1; shape.len()]);
            (starts[0], steps[0]) = (shape[0].clone() - Dim::from(1i64), -1);
            *result = x.add(op::Slice { starts, sizes: shape, steps }, &[*result])?;
        }
        let rank = x.rank(*result);
        let axis = x.axis(axes[number], rank)?;
        let mut perm: Vec<usize> = (1..rank).collect();
        perm.insert(axis, 0);
        *result = x.transpose(*result, perm)?;
    }
    Ok(results)
}

fn scan_body<'m>(
    x: &mut Use<'_, '_, 'm>,
    body: &Body<'m>,
    (initial, sequences): (&[V], &[V]),
    (axes, backwards): (&[usize], &[i64]),
    (length, captured): (&Dim, &[V]),
) -> Result<(), Fault> {
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let iteration = x.importer.build.graph_input("iteration", scalar(DType::I64))?;
    let again = x.importer.build.graph_input("condition", scalar(DType::Bool))?;
    for ((id, info), &v) in body.inputs.iter().zip(initial) {
        let ty = x.ty(v).clone();
        let v = x.importer.build.graph_input(info.name(), ty)?;
        x.importer.define(*id, Some(v));
    }
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    for (number, (id, _)) in body.inputs[initial.len()..].iter().enumerate() {
        let mut place = iteration;
        if backwards[number] != 0 {
            let last = length.clone() - Dim::from(1i64);
            let last = x.add(op::SizeOf { dims: vec![last], scalar: true }, &[])?;
            place = x.binary(op::BinaryFn::Sub, last, iteration)?;
        }
        let slice = x.add(op::Gather { axis: axes[number] }, &[sequences[number], place])?;
        x.importer.define(*id, Some(slice));
    }
    let results = results(x, body)?;
    x.importer.build.output(again, "condition")?;
    for (number, &v) in results.iter().enumerate() {
        let v = match initial.get(number) {
            Some(&initial) => carried(x, number, v, initial)?,
            None => v,
        };
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(())
}
