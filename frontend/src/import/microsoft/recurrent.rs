//! The LSTM with quantised weights.
//!
//! Invariant: rounding is ONNX Runtime's: of the sequence all at once, up to the last step that any
//! sequence of the batch has, of the state at every step.

use super::super::fault::Fault;
use super::super::loops::repeat;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::quantisation::{dequantized, dynamically_quantized};
use super::super::recurrent::{Layer, lstm_layer};
use super::super::slicing::reversed;
use super::Results;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn, Direction, ReduceFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] = &[microsoft("DynamicQuantizeLSTM", dynamic_quantize_lstm)];

/// `[directions, in, 4·hidden]` as `[directions, 4·hidden, in]`, in floating point.
fn weights(x: &mut Use<'_, '_, '_>, v: V, scale: V, zero: V) -> Result<V, Fault> {
    if x.rank(v) != 3 {
        let ty = x.ty(v);
        return Err(Fault::malformed(format!("weights must have rank 3, but are {ty}")));
    }
    // One for each direction, or for each of its columns.
    let mut apart = [scale, zero];
    for slot in &mut apart {
        let shape = x.shape(*slot);
        let one = Dim::from(1i64);
        let shape = match &shape[..] {
            [directions] => vec![directions.clone(), one.clone(), one],
            [directions, columns] => vec![directions.clone(), one, columns.clone()],
            _ => return Err(Fault::malformed("scales and zero points must have rank 1 or 2")),
        };
        *slot = x.reshape(*slot, shape)?;
    }
    let [scale, zero] = apart;
    let numbers = dequantized(x, v, scale, Some(zero), x.dtype(scale))?;
    x.transpose(numbers, vec![0, 2, 1])
}

/// The sequence with zeros, which every range holds, at the steps that are none of any sequence.
fn up_to_last(x: &mut Use<'_, '_, '_>, sequence: V, lengths: V) -> Result<V, Fault> {
    let lengths = x.cast(lengths, DType::I64)?;
    let axes = (0..x.rank(lengths)).collect();
    let longest = x.reduce(ReduceFn::Max, lengths, axes, false)?;
    let time = x.shape(sequence)[0].clone();
    let step = x.counter(&time, DType::I64, 0, 3)?;
    let read = x.binary(BinaryFn::Less, step, longest)?;
    let zero = x.scalar(x.dtype(sequence), 0.0)?;
    x.select(read, sequence, zero)
}

fn dynamic_quantize_lstm(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    x.of_rank(operand, 3, "the sequence")?;
    let read = match x.optional(4) {
        Some(lengths) => up_to_last(x, operand, lengths)?,
        None => operand,
    };
    let (rounded, scale, zero) = dynamically_quantized(x, read)?;
    let operand = dequantized(x, rounded, scale, Some(zero), x.dtype(scale))?;
    let (w, scale, zero) = (x.input(1)?, x.input(8)?, x.input(9)?);
    let w = weights(x, w, scale, zero)?;
    let (r, scale, zero) = (x.input(2)?, x.input(10)?, x.input(11)?);
    let r = weights(x, r, scale, zero)?;
    let mut inputs = x.inputs.clone();
    inputs.truncate(8);
    (inputs[0], inputs[1], inputs[2]) = (Some(operand), Some(w), Some(r));
    let layer = x.with_inputs(inputs, lstm_layer)?;
    let results = step_by_step(x, &layer)?;
    layer.ordered(x, results)
}

/// The layer a step at a time, with the state rounded before each.
fn step_by_step(x: &mut Use<'_, '_, '_>, layer: &Layer) -> Results {
    let directions: &[bool] = match layer.op.direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    let gates = layer.op.activations.len() / directions.len();
    let mut joined = [Vec::new(), Vec::new(), Vec::new()];
    for (number, &reverse) in directions.iter().enumerate() {
        let activations = &layer.op.activations[gates * number..gates * (number + 1)];
        let op = op::Recurrent {
            direction: Direction::Forward,
            activations: activations.to_vec(),
            lengths: false,
            ..layer.op.clone()
        };
        let results = one_direction(x, layer, op, number, reverse)?;
        joined.iter_mut().zip(results).for_each(|(all, result)| all.push(result));
    }
    let axes = [1, 0, 0];
    let joined = joined.iter().zip(axes).map(|(parts, axis)| match parts[..] {
        [only] => Ok(only),
        _ => x.add(op::Concat { axis }, parts),
    });
    joined.collect()
}

/// All states of a direction `[time, 1, batch, hidden]`, and the last state and cell
/// `[1, batch, hidden]`.
fn one_direction(
    x: &mut Use<'_, '_, '_>,
    layer: &Layer,
    op: op::Recurrent,
    number: usize,
    reverse: bool,
) -> Results {
    let sequence = layer.operands[0];
    let time = x.shape(sequence)[0].clone();
    let mut own = Vec::new();
    for &v in &layer.operands[1..6] {
        own.push(x.part(v, 0, number, 1i64)?);
    }
    let mut rest = layer.operands[6..].iter().copied();
    let lengths = if layer.op.lengths { rest.next() } else { None };
    let peepholes = match rest.next() {
        Some(peepholes) => Some(x.part(peepholes, 0, number, 1i64)?),
        None => None,
    };
    let [w, r, b, state, cell] = own[..] else { return Err(Fault::Silent) };
    // Sequences of lengths of their own are turned around each in itself.
    let turned = lengths.filter(|_| reverse);
    let sequence = match turned {
        Some(lengths) => reversed(x, sequence, lengths, [0, 1])?,
        None => sequence,
    };
    let reverse = reverse && turned.is_none();
    let ends = match lengths {
        Some(lengths) => {
            let lengths = x.cast(lengths, DType::I64)?;
            Some(x.along(lengths, 1, 3)?)
        }
        None => None,
    };
    let trip = x.size(&time, DType::I64)?;
    let last = x.with_number(BinaryFn::Sub, trip, 1.0)?;
    let mut used = vec![sequence, w, r, b, last];
    used.extend(ends);
    used.extend(peepholes);
    let results = repeat(x, trip, (&[state, cell], &used), Some(&time), |x, step, carried| {
        let at = if reverse { x.binary(BinaryFn::Sub, last, step)? } else { step };
        let now = x.add(op::Gather { axis: 0 }, &[sequence, at])?;
        let one = [vec![Dim::from(1i64)], x.shape(now)].concat();
        let now = x.reshape(now, one)?;
        let (before, kept) = (carried[0], carried[1]);
        let dtype = x.dtype(before);
        let zero = x.scalar(dtype, 0.0)?;
        // Beyond its end a sequence has no result, and its state stays; that is rounded with the
        // others once more.
        let (lasts, seen) = match ends {
            Some(ends) => {
                let ended = x.binary(BinaryFn::Less, ends, at)?;
                let lasts = x.binary(BinaryFn::Less, at, ends)?;
                (Some(lasts), x.select(ended, zero, before)?)
            }
            None => (None, before),
        };
        let (rounded, scale, middle) = dynamically_quantized(x, seen)?;
        let known = dequantized(x, rounded, scale, Some(middle), dtype)?;
        let mut operands = vec![now, w, r, b, known, kept];
        operands.extend(peepholes);
        let made = x.importer.build.add_node(op, &operands, Vec::new())?;
        let [_, mut state, mut cell] = made[..] else { return Err(Fault::Silent) };
        let mut shown = state;
        if let Some(lasts) = lasts {
            shown = x.select(lasts, state, zero)?;
            state = x.select(lasts, state, before)?;
            cell = x.select(lasts, cell, kept)?;
        }
        Ok((vec![state, cell], vec![shown]))
    })?;
    let [state, cell, mut shown] = results[..] else { return Err(Fault::Silent) };
    if reverse {
        let sizes = x.shape(shown);
        let (mut starts, mut steps) = (vec![Dim::default(); sizes.len()], vec![1; sizes.len()]);
        (starts[0], steps[0]) = (time - Dim::from(1i64), -1);
        shown = x.add(op::Slice { starts, sizes, steps }, &[shown])?;
    }
    if let Some(lengths) = turned {
        shown = reversed(x, shown, lengths, [0, 2])?;
    }
    Ok(vec![shown, state, cell])
}
