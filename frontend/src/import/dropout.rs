//! Dropout: nothing when a model is run, random zeros when it is trained.
//!
//! Invariant: for a given seed the zeros are those of ONNX's reference; without one they are the
//! node's own.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::{mersenne_twister, random};
use kiln_ir::op::BinaryFn;
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("Dropout", 1, dropout)];

/// Whether it trains, where an operand or attribute says so: `is_test` up to opset 6, nothing up
/// to 11, an operand from 12 on.
fn training(x: &mut Use<'_, '_, '_>) -> Result<Option<V>, Fault> {
    let opset = x.opset();
    let truth = match x.optional(2) {
        Some(v) if opset >= 12 => x.reshape(v, Vec::new())?,
        None if opset < 7 && !x.flag("is_test", false)? => x.scalar(DType::Bool, 1.0)?,
        _ => return Ok(None),
    };
    if x.dtype(truth) != DType::Bool {
        let ty = x.ty(truth);
        return Err(Fault::malformed(format!("whether it trains must be bool, but is {ty}")));
    }
    let known = x.importer.build.contents(truth);
    let off = known.is_some_and(|truth| truth[0].as_integer() == Some(0));
    Ok((!off).then_some(truth))
}

fn dropout(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (shape, dtype) = (x.shape(operand), x.dtype(operand));
    if let Some(ratio) = x.optional(1)
        && x.opset() >= 12
        && !x.ty(ratio).shape.iter().all(|dim| dim.as_const().is_none_or(|size| size == 1))
    {
        let ty = x.ty(ratio);
        return Err(Fault::malformed(format!("the ratio must be one number, but is {ty}")));
    }
    let mask_type = if x.opset() < 10 { dtype } else { DType::Bool };
    let Some(training) = training(x)? else {
        if !x.wants(1) {
            return Ok(vec![operand]);
        }
        let mask = x.filled(mask_type, 1.0, shape)?;
        return Ok(vec![operand, mask]);
    };
    let ratio = match x.optional(1) {
        Some(ratio) if x.opset() >= 12 => {
            let ratio = x.reshape(ratio, Vec::new())?;
            x.cast(ratio, DType::F64)?
        }
        _ => {
            let ratio = x.float_or("ratio", 0.5)?;
            x.scalar(DType::F64, ratio)?
        }
    };
    let numbers = match x.int("seed")? {
        // NumPy takes no other seeds.
        Some(seed) => match u32::try_from(seed) {
            Ok(seed) => mersenne_twister::uniform(x, seed, shape)?,
            Err(_) => return Err(Fault::malformed(format!("seed {seed} does not fit 32 bits"))),
        },
        None => {
            let key = random::position_key(x);
            random::uniform(x, key, shape)?
        }
    };
    let one = x.scalar(DType::F64, 1.0)?;
    let none = x.scalar(DType::F64, 0.0)?;
    // Nothing is below 0: all is kept, and as it is.
    let ratio = x.select(training, ratio, none)?;
    let kept = x.binary(BinaryFn::GreaterEqual, numbers, ratio)?;
    let rest = x.binary(BinaryFn::Sub, one, ratio)?;
    let scale = x.binary(BinaryFn::Div, one, rest)?;
    let scale = x.cast(scale, dtype)?;
    let scaled = x.binary(BinaryFn::Mul, operand, scale)?;
    let zero = x.scalar(dtype, 0.0)?;
    let result = x.select(kept, scaled, zero)?;
    Ok(vec![result, x.cast(kept, mask_type)?])
}
