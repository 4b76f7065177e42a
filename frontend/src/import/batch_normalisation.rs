//! Batch normalisation: with statistics that the model holds, or, in training, with those of the
//! batch, which then move the model's.
//!
//! Invariant: whether it trains is decided here, in the way of each version: by `is_test` up to
//! opset 6, by how many results are asked for up to 13, by `training_mode` from 14 on.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{BinaryFn, ReduceFn, UnaryFn};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("BatchNormalization", 1, batch_normalization)];

fn batch_normalization(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let rank = x.rank(operand);
    if rank < 2 {
        return Err(Fault::malformed("the operand must have batch and channel dimensions"));
    }
    let training = match x.opset() {
        ..7 => !x.flag("is_test", false)?,
        7..14 => (1..5).any(|number| x.wants(number)),
        _ => x.flag("training_mode", false)?,
    };
    // Up to opset 8 there could be statistics for each place instead of each channel.
    let each_place = x.opset() < 9 && !x.flag("spatial", true)?;
    let shape = x.shape(operand);
    let mut parameters = Vec::with_capacity(4);
    for number in 1..5 {
        let v = x.input(number)?;
        if x.opset() >= 9 {
            x.of_rank(v, 1, &format!("input {number}"))?;
        }
        parameters.push(if each_place { v } else { x.with_dim(v, 0, &shape[1])? });
    }
    let [scale, bias, mean, variance] = parameters[..] else { return Err(Fault::Silent) };
    if !training {
        return Ok(vec![normalized(x, operand, [scale, bias, mean, variance], each_place)?]);
    }
    let stash = x.dtype(mean);
    let wide = x.cast(operand, stash)?;
    let axes: Vec<usize> = (0..rank).filter(|&axis| axis == 0 || !each_place && axis > 1).collect();
    let kept = x.reduce(ReduceFn::Mean, wide, axes.clone(), true)?;
    let centred = x.binary(BinaryFn::Sub, wide, kept)?;
    let square = x.binary(BinaryFn::Mul, centred, centred)?;
    let mut batch = [kept, x.reduce(ReduceFn::Mean, square, axes, true)?];
    for (slot, model) in batch.iter_mut().zip([mean, variance]) {
        let shape = x.shape(model);
        *slot = x.reshape(*slot, shape)?;
    }
    let result = normalized(x, operand, [scale, bias, batch[0], batch[1]], each_place)?;
    let momentum = x.float_or("momentum", 0.9)?;
    let mut results = vec![result];
    for (model, batch) in [mean, variance].into_iter().zip(batch) {
        let batch = x.cast(batch, stash)?;
        let before = x.with_number(BinaryFn::Mul, model, momentum)?;
        let moved = x.with_number(BinaryFn::Mul, batch, 1.0 - momentum)?;
        results.push(x.binary(BinaryFn::Add, before, moved)?);
    }
    if x.opset() < 14 {
        results.extend(batch);
    }
    Ok(results)
}

/// `x·s + (bias − mean·s)` with `s = scale/√(variance + epsilon)`: a product and a sum, as later
/// passes fold them into what stands before.
fn normalized(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    parameters: [V; 4],
    each_place: bool,
) -> Result<V, Fault> {
    let (rank, dtype) = (x.rank(operand), x.dtype(operand));
    let epsilon = x.float_or("epsilon", 1e-5)?;
    let mut along = parameters;
    for slot in &mut along {
        *slot = x.cast(*slot, dtype)?;
        if !each_place {
            *slot = x.along(*slot, 0, rank - 1)?;
        }
    }
    let [scale, bias, mean, variance] = along;
    let shifted = x.with_number(BinaryFn::Add, variance, epsilon)?;
    let deviation = x.unary(UnaryFn::Sqrt, shifted)?;
    let slope = x.binary(BinaryFn::Div, scale, deviation)?;
    let taken = x.binary(BinaryFn::Mul, mean, slope)?;
    let offset = x.binary(BinaryFn::Sub, bias, taken)?;
    let scaled = x.binary(BinaryFn::Mul, operand, slope)?;
    x.binary(BinaryFn::Add, scaled, offset)
}
