//! Softmax in the arithmetic of its element type.
//!
//! Invariant: it is one operation, but for bf16, whose sums are not what a reduction gives.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{self, BinaryFn, PadMode, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

/// How many elements of a bf16 are added in their own type. ONNX's expected values come from sums
/// that are rounded at every addition, which is what short sums are here. A long one would stop at
/// 256 times its terms: eights of it are added in f32.
const NARROW: i64 = 8;

/// The softmax along an axis.
pub(super) fn softmax(x: &mut Use<'_, '_, '_>, v: V, axis: usize) -> Result<V, Fault> {
    if x.dtype(v) != DType::BF16 {
        return x.add(op::Softmax { axis }, &[v]);
    }
    let greatest = x.reduce(ReduceFn::Max, v, vec![axis], true)?;
    let below = x.binary(BinaryFn::Sub, v, greatest)?;
    let power = x.unary(UnaryFn::Exp, below)?;
    let total = narrow_sum(x, power, axis)?;
    x.binary(BinaryFn::Div, power, total)
}

/// The sum along an axis, which stays, of eights that are added in the elements' type.
fn narrow_sum(x: &mut Use<'_, '_, '_>, v: V, axis: usize) -> Result<V, Fault> {
    let shape = x.shape(v);
    let length = shape[axis].clone();
    if let Some(length) = length.as_const().filter(|length| (1..=NARROW).contains(length)) {
        return in_order(x, v, axis, length);
    }
    let blocks = (length.clone() + Dim::from(NARROW - 1)).floor_div(&Dim::from(NARROW));
    let mut after = vec![Dim::default(); shape.len()];
    let before = after.clone();
    after[axis] = blocks.clone() * Dim::from(NARROW) - length;
    let zero = x.scalar(x.dtype(v), 0.0)?;
    let whole = x.add(op::Pad { before, after, mode: PadMode::Constant }, &[v, zero])?;
    let mut apart = shape.clone();
    apart[axis] = blocks.clone();
    apart.insert(axis + 1, Dim::from(NARROW));
    let apart = x.reshape(whole, apart)?;
    let sums = in_order(x, apart, axis + 1, NARROW)?;
    let mut joined = shape;
    joined[axis] = blocks;
    let sums = x.reshape(sums, joined)?;
    x.reduce(ReduceFn::Sum, sums, vec![axis], true)
}

/// The sum along an axis, which stays, one element after the other.
fn in_order(x: &mut Use<'_, '_, '_>, v: V, axis: usize, length: i64) -> Result<V, Fault> {
    let mut sum = None;
    for place in 0..length {
        let mut sizes = x.shape(v);
        sizes[axis] = Dim::from(1i64);
        let mut starts = vec![Dim::default(); sizes.len()];
        starts[axis] = Dim::from(place);
        let steps = vec![1; sizes.len()];
        let term = x.add(op::Slice { starts, sizes, steps }, &[v])?;
        sum = Some(match sum {
            None => term,
            Some(sum) => x.binary(BinaryFn::Add, sum, term)?,
        });
    }
    Ok(sum.unwrap_or(v))
}
