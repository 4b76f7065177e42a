//! `Scan` as opset 8 had it: operands have a batch dimension first, every batch is scanned by
//! itself, and may be shorter than the operands are long.
//!
//! Invariant: a body sees no batch; what it makes of elements after a batch's end is dropped, so
//! that states stay as they were there and outputs are 0.

use super::build::V;
use super::control::{body, captures};
use super::fault::Fault;
use super::loops::{each_of, in_iteration, state as state_of};
use super::node::Use;
use crate::resolve::Body;
use kiln_ir::op::{self, BinaryFn};
use kiln_ir::{Graph, TensorType};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

/// What all batches share.
struct Scan<'r, 'm> {
    body: &'r Body<'m>,
    /// How long each batch is, if they are not as long as the operands.
    lengths: Option<V>,
    states: Vec<V>,
    sequences: Vec<V>,
    backwards: Vec<i64>,
    length: Dim,
    outputs: usize,
}

pub(super) fn scan(x: &mut Use<'_, '_, '_>) -> Results {
    let body = body(x, "body")?;
    let operands = (1..x.inputs.len()).map(|number| x.input(number));
    let operands = operands.collect::<Result<Vec<V>, Fault>>()?;
    let scanned = usize::try_from(x.int_or("num_scan_inputs", 0)?).ok();
    let scanned = scanned.filter(|count| (1..=operands.len()).contains(count));
    let scanned = scanned.ok_or_else(|| Fault::malformed("num_scan_inputs does not fit"))?;
    let (states, scans) = operands.split_at(operands.len() - scanned);
    let outputs = body.outputs.len().checked_sub(states.len());
    let (Some(outputs), true) = (outputs, body.inputs.len() == operands.len()) else {
        return Err(Fault::malformed("the body does not fit the operands"));
    };
    let ranks = |least: usize, values: &[V]| values.iter().all(|&v| x.rank(v) >= least);
    if !ranks(1, states) || !ranks(2, scans) {
        return Err(Fault::malformed("an operand has no batch, or no dimension to scan"));
    }
    let (batch, length) = (x.shape(scans[0])[0].clone(), x.shape(scans[0])[1].clone());
    let backwards = each_of(x, "directions", scanned)?;
    let mut scan = Scan {
        body,
        lengths: x.optional(0),
        states: Vec::with_capacity(states.len()),
        sequences: Vec::with_capacity(scanned),
        backwards,
        length: length.clone(),
        outputs,
    };
    for &v in states {
        scan.states.push(x.of_dim(v, 0, &batch, "a state")?);
    }
    for &v in scans {
        let v = x.of_dim(v, 0, &batch, "an operand")?;
        scan.sequences.push(x.with_dim(v, 1, &length)?);
    }
    if let Some(lengths) = scan.lengths {
        let lengths = x.cast(lengths, DType::I64)?;
        scan.lengths = Some(x.with_dim(lengths, 0, &batch)?);
    }
    let mut captured = captures(x, &[body]);
    let own = scan.states.iter().chain(&scan.sequences).copied().chain(scan.lengths);
    for v in own.collect::<Vec<_>>() {
        if !x.importer.build.is_known(v) && !captured.contains(&v) {
            captured.push(v);
        }
    }
    let trip = x.add(op::SizeOf { dims: vec![batch.clone()], scalar: true }, &[])?;
    let truth = x.scalar(DType::Bool, 1.0)?;
    x.importer.build.enter("batches");
    let made = of_batch(x, &scan, &captured);
    let graph = x.importer.build.leave();
    made?;
    let count = scan.states.len() + outputs;
    let op = op::Loop { carried: 0, scan: count, scan_length: batch };
    x.importer.build.add_node(op, &[vec![trip, truth], captured].concat(), vec![graph])
}

/// The inputs that every loop's body has.
fn counters(x: &mut Use<'_, '_, '_>) -> Result<(V, V), Fault> {
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let number = x.importer.build.graph_input("number", scalar(DType::I64))?;
    Ok((number, x.importer.build.graph_input("condition", scalar(DType::Bool))?))
}

/// The body of the loop over batches.
fn of_batch<'m>(x: &mut Use<'_, '_, 'm>, scan: &Scan<'_, 'm>, captured: &[V]) -> Result<(), Fault> {
    let (batch, again) = counters(x)?;
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    x.importer.iterations.push(batch);
    let made = batch_of(x, scan, batch, again);
    x.importer.iterations.pop();
    made
}

fn batch_of<'m>(
    x: &mut Use<'_, '_, 'm>,
    scan: &Scan<'_, 'm>,
    batch: V,
    again: V,
) -> Result<(), Fault> {
    let mut own = |v: V| x.add(op::Gather { axis: 0 }, &[v, batch]);
    let mut states = Vec::with_capacity(scan.states.len());
    for &v in &scan.states {
        states.push(own(v)?);
    }
    let mut sequences = Vec::with_capacity(scan.sequences.len());
    for &v in &scan.sequences {
        sequences.push(own(v)?);
    }
    let end = match scan.lengths {
        Some(lengths) => Some(own(lengths)?),
        None => None,
    };
    let mut inner = captures(x, &[scan.body]);
    for v in sequences.iter().copied().chain(end) {
        if !x.importer.build.is_known(v) && !inner.contains(&v) {
            inner.push(v);
        }
    }
    let trip = x.add(op::SizeOf { dims: vec![scan.length.clone()], scalar: true }, &[])?;
    let truth = x.scalar(DType::Bool, 1.0)?;
    let graph = of_element(x, scan, (&states, &sequences), end, &inner)?;
    let (carried, length) = (states.len(), scan.length.clone());
    let op = op::Loop { carried, scan: scan.outputs, scan_length: length };
    let operands = [vec![trip, truth], states, inner].concat();
    let results = x.importer.build.add_node(op, &operands, vec![graph])?;
    x.importer.build.output(again, "again")?;
    for (number, v) in results.into_iter().enumerate() {
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(())
}

/// The graph that is run for each element of a batch.
fn of_element<'m>(
    x: &mut Use<'_, '_, 'm>,
    scan: &Scan<'_, 'm>,
    (states, sequences): (&[V], &[V]),
    end: Option<V>,
    captured: &[V],
) -> Result<Graph, Fault> {
    x.importer.build.enter("elements");
    let made = element(x, scan, (states, sequences), end, captured);
    let graph = x.importer.build.leave();
    made.map(|()| graph)
}

fn element<'m>(
    x: &mut Use<'_, '_, 'm>,
    scan: &Scan<'_, 'm>,
    (states, sequences): (&[V], &[V]),
    end: Option<V>,
    captured: &[V],
) -> Result<(), Fault> {
    let (number, again) = counters(x)?;
    let mut before = Vec::with_capacity(states.len());
    for ((id, info), &state) in scan.body.inputs.iter().zip(states) {
        let ty = x.ty(state).clone();
        let v = x.importer.build.graph_input(info.name(), ty)?;
        x.importer.define(*id, Some(v));
        before.push(v);
    }
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    let inside = match end {
        Some(end) => Some(x.binary(BinaryFn::Less, number, end)?),
        None => None,
    };
    for (scanned, (id, _)) in scan.body.inputs[states.len()..].iter().enumerate() {
        let mut place = number;
        if scan.backwards[scanned] != 0 {
            // From the batch's own end.
            let dims = vec![scan.length.clone()];
            let end = match end {
                Some(end) => end,
                None => x.add(op::SizeOf { dims, scalar: true }, &[])?,
            };
            let last = x.with_number(BinaryFn::Sub, end, 1.0)?;
            let back = x.binary(BinaryFn::Sub, last, number)?;
            place = x.with_number(BinaryFn::Max, back, 0.0)?;
        }
        let slice = x.add(op::Gather { axis: 0 }, &[sequences[scanned], place])?;
        x.importer.define(*id, Some(slice));
    }
    let made = in_iteration(x, number, scan.body)?;
    x.importer.build.output(again, "again")?;
    for (number, &v) in made.iter().enumerate() {
        let (v, otherwise) = match states.get(number) {
            Some(&state) => {
                let changes = || {
                    let message = format!("value {number} of the scan changes its shape");
                    Fault::unsupported(message, "unroll the scan when exporting the model")
                };
                (state_of(x, number, v, state)?.ok_or_else(changes)?, before[number])
            }
            None => (v, x.scalar(x.dtype(v), 0.0)?),
        };
        let v = match inside {
            Some(inside) => x.select(inside, v, otherwise)?,
            None => v,
        };
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(())
}
