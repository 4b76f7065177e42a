//! `Scan` as opset 8 had it: operands have a batch dimension first, every batch is scanned by
//! itself, and may be shorter than the operands are long.
//!
//! Invariant: a body sees no batch; what it makes of elements after a batch's end is dropped, so
//! that states stay as they were there and outputs are 0.

use super::build::V;
use super::control::{body, captures, results};
use super::fault::Fault;
use super::loops::{each_of, in_iteration, repeat};
use super::node::Use;
use crate::resolve::Body;
use kiln_ir::op::{self, BinaryFn};
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
}

pub(super) fn scan(x: &mut Use<'_, '_, '_>) -> Results {
    let body = body(x, "body")?;
    let operands = (1..x.inputs.len()).map(|number| x.input(number));
    let operands = operands.collect::<Result<Vec<V>, Fault>>()?;
    let scanned = usize::try_from(x.int_or("num_scan_inputs", 0)?).ok();
    let scanned = scanned.filter(|count| (1..=operands.len()).contains(count));
    let scanned = scanned.ok_or_else(|| Fault::malformed("num_scan_inputs does not fit"))?;
    let (states, scans) = operands.split_at(operands.len() - scanned);
    if body.outputs.len() < states.len() || body.inputs.len() != operands.len() {
        return Err(Fault::malformed("the body does not fit the operands"));
    }
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
    let own = scan.states.iter().chain(&scan.sequences).copied().chain(scan.lengths);
    let used = captures(x, &[body]).into_iter().chain(own).collect::<Vec<V>>();
    let trip = x.add(op::SizeOf { dims: vec![batch.clone()], scalar: true }, &[])?;
    repeat(x, trip, (&[], &used), Some(&batch), |x, number, _| {
        Ok((Vec::new(), in_iteration(x, number, |x| of_batch(x, &scan, number))?))
    })
}

/// What is made of one batch.
fn of_batch<'m>(x: &mut Use<'_, '_, 'm>, scan: &Scan<'_, 'm>, batch: V) -> Results {
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
    let own = sequences.iter().copied().chain(end);
    let used = captures(x, &[scan.body]).into_iter().chain(own).collect::<Vec<V>>();
    let trip = x.add(op::SizeOf { dims: vec![scan.length.clone()], scalar: true }, &[])?;
    repeat(x, trip, (&states, &used), Some(&scan.length), |x, number, before| {
        of_element(x, scan, number, (before, &sequences), end)
    })
}

/// The states after an element of a batch, and what is stacked of it.
fn of_element<'m>(
    x: &mut Use<'_, '_, 'm>,
    scan: &Scan<'_, 'm>,
    number: V,
    (before, sequences): (&[V], &[V]),
    end: Option<V>,
) -> Result<(Vec<V>, Vec<V>), Fault> {
    for ((id, _), &v) in scan.body.inputs.iter().zip(before) {
        x.importer.define(*id, Some(v));
    }
    let inside = match end {
        Some(end) => Some(x.binary(BinaryFn::Less, number, end)?),
        None => None,
    };
    for (scanned, (id, _)) in scan.body.inputs[before.len()..].iter().enumerate() {
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
    let mut made = in_iteration(x, number, |x| results(x, scan.body))?;
    for (number, slot) in made.iter_mut().enumerate() {
        let otherwise = match before.get(number) {
            Some(&state) => {
                let shape = x.shape(state);
                *slot = x.with_dims(*slot, &shape)?;
                state
            }
            None => x.scalar(x.dtype(*slot), 0.0)?,
        };
        if let Some(inside) = inside {
            *slot = x.select(inside, *slot, otherwise)?;
        }
    }
    let stacked = made.split_off(before.len().min(made.len()));
    Ok((made, stacked))
}
