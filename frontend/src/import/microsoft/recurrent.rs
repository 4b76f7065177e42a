//! The LSTM with quantised weights.
//!
//! Invariant: the sequence is rounded as ONNX Runtime rounds it, all at once; the state is not.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::quantisation::{dequantized, dynamically_quantized};
use super::super::recurrent::lstm;
use super::Results;
use crate::import::build::V;
use kiln_tensor::Dim;

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
    x.with_inputs(inputs, lstm)
}
