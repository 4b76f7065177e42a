//! The LSTM with quantised weights.
//!
//! Invariant: numbers are rounded as ONNX Runtime rounds them: the sequence all at once, the hidden
//! state of all rows at every step. Only where rows end at lengths of their own is the state not.

use super::super::fault::Fault;
use super::super::loops::repeat;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::quantisation::{dequantized, dynamically_quantized};
use super::super::recurrent::lstm_by;
use super::Results;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn, Direction};
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

fn dynamic_quantize_lstm(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (rounded, scale, zero) = dynamically_quantized(x, operand)?;
    let operand = dequantized(x, rounded, scale, Some(zero), x.dtype(scale))?;
    let (w, scale, zero) = (x.input(1)?, x.input(8)?, x.input(9)?);
    let w = weights(x, w, scale, zero)?;
    let (r, scale, zero) = (x.input(2)?, x.input(10)?, x.input(11)?);
    let r = weights(x, r, scale, zero)?;
    let mut inputs = x.inputs.clone();
    inputs.truncate(8);
    (inputs[0], inputs[1], inputs[2]) = (Some(operand), Some(w), Some(r));
    x.with_inputs(inputs, |x| lstm_by(x, in_steps))
}

/// The layer one step at a time, with what the last step hands on rounded in between.
fn in_steps(x: &mut Use<'_, '_, '_>, layer: op::Recurrent, operands: &[V]) -> Results {
    if layer.lengths {
        return x.importer.build.add_node(layer, operands, Vec::new());
    }
    let ways = match layer.direction {
        Direction::Forward => vec![false],
        Direction::Reverse => vec![true],
        Direction::Bidirectional => vec![false, true],
    };
    let each = layer.activations.len() / ways.len();
    let mut results: [Vec<V>; 3] = Default::default();
    for (number, &backwards) in ways.iter().enumerate() {
        let mut own = vec![operands[0]];
        for &v in &operands[1..] {
            own.push(x.part(v, 0, number, 1i64)?);
        }
        let step = op::Recurrent {
            direction: Direction::Forward,
            activations: layer.activations[number * each..][..each].to_vec(),
            ..layer.clone()
        };
        for (all, one) in results.iter_mut().zip(one_way(x, &step, &own, backwards)?) {
            all.push(one);
        }
    }
    let axes = [1, 0, 0];
    let joined = results.iter().zip(axes).map(|(parts, axis)| match parts[..] {
        [only] => Ok(only),
        _ => x.add(op::Concat { axis }, parts),
    });
    joined.collect()
}

/// All steps of one direction: the states at each, `[time, 1, batch, hidden]`, and the last ones.
fn one_way(
    x: &mut Use<'_, '_, '_>,
    layer: &op::Recurrent,
    operands: &[V],
    backwards: bool,
) -> Result<[V; 3], Fault> {
    let &[sequence, w, r, b, h, c, ref peepholes @ ..] = operands else {
        return Err(Fault::Silent);
    };
    let time = x.shape(sequence)[0].clone();
    let sequence = if backwards { reversed(x, sequence, &time)? } else { sequence };
    let trip = x.size(&time, DType::I64)?;
    let used = [&[sequence, w, r, b], peepholes].concat();
    let results = repeat(x, trip, (&[h, c], &used), Some(&time), |x, step, state| {
        let now = x.add(op::Gather { axis: 0 }, &[sequence, step])?;
        let shape = [vec![Dim::from(1i64)], x.shape(now)].concat();
        let now = x.reshape(now, shape)?;
        let (rounded, scale, zero) = dynamically_quantized(x, state[0])?;
        let h = dequantized(x, rounded, scale, Some(zero), x.dtype(scale))?;
        let operands = [&[now, w, r, b, h, state[1]], peepholes].concat();
        let results = x.importer.build.add_node(layer.clone(), &operands, Vec::new())?;
        let [_, h, c] = results[..] else { return Err(Fault::Silent) };
        Ok((vec![h, c], vec![h]))
    })?;
    let [h, c, states] = results[..] else { return Err(Fault::Silent) };
    Ok([if backwards { reversed(x, states, &time)? } else { states }, h, c])
}

/// From the last step to the first.
fn reversed(x: &mut Use<'_, '_, '_>, v: V, time: &Dim) -> Result<V, Fault> {
    let last = x.size(&(time.clone() - Dim::from(1i64)), DType::I64)?;
    let steps = x.counter(time, DType::I64, 0, 1)?;
    let steps = x.binary(BinaryFn::Sub, last, steps)?;
    x.add(op::Gather { axis: 0 }, &[v, steps])
}
