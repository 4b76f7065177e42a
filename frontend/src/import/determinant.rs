//! Determinants of square matrices.
//!
//! Invariant: a matrix is eliminated with its largest pivots first, as LAPACK does, whatever its
//! size; only the smallest are written out.

use super::build::V;
use super::fault::Fault;
use super::loops::repeat;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::sampling::computed_in;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("Det", 11, det)];

fn det(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (shape, dtype) = (x.shape(operand), x.dtype(operand));
    let square = shape.len().checked_sub(2).filter(|&batch| {
        (shape[batch].clone() - shape[batch + 1].clone()).as_const().is_none_or(|odds| odds == 0)
    });
    let Some(batch) = square.filter(|_| dtype.is_float()) else {
        let ty = x.ty(operand);
        return Err(Fault::malformed(format!("{ty} does not hold square matrices of floats")));
    };
    let operand = x.with_dim(operand, batch + 1, &shape[batch])?;
    let wide = computed_in(&[dtype]);
    let size = shape[batch].clone();
    let count = shape[..batch].iter().cloned().product::<Dim>();
    let matrices = x.cast(operand, wide)?;
    let matrices = x.reshape(matrices, vec![count.clone(), size.clone(), size.clone()])?;
    let result = match size.as_const() {
        Some(1) => x.reshape(matrices, vec![count])?,
        Some(2) => {
            let mut products = Vec::with_capacity(2);
            for (a, d) in [([0, 0], [1, 1]), ([0, 1], [1, 0])] {
                let mut factors = Vec::with_capacity(2);
                for [row, column] in [a, d] {
                    let row = x.element(matrices, 1, row)?;
                    factors.push(x.element(row, 1, column)?);
                }
                products.push(x.binary(BinaryFn::Mul, factors[0], factors[1])?);
            }
            x.binary(BinaryFn::Sub, products[0], products[1])?
        }
        _ => eliminated(x, matrices, &count, &size)?,
    };
    let result = x.cast(result, dtype)?;
    Ok(vec![x.reshape(result, shape[..batch].to_vec())?])
}

/// The product of the pivots of `[count, size, size]`.
fn eliminated(
    x: &mut Use<'_, '_, '_>,
    matrices: V,
    count: &Dim,
    size: &Dim,
) -> Result<V, Fault> {
    let dtype = x.dtype(matrices);
    let start = x.filled(dtype, 1.0, vec![count.clone()])?;
    let trip = x.size(size, DType::I64)?;
    let results = repeat(x, trip, (&[matrices, start], &[]), None, |x, step, carried| {
        let [matrices, product] = [carried[0], carried[1]];
        let row = x.counter(size, DType::I64, 1, 2)?;
        let column = x.add(op::Gather { axis: 2 }, &[matrices, step])?;
        let sizes = x.unary(UnaryFn::Abs, column)?;
        let done = x.binary(BinaryFn::Less, row, step)?;
        let never = x.scalar(dtype, -1.0)?;
        let candidates = x.select(done, never, sizes)?;
        let largest = op::ArgReduce { f: ReduceFn::Max, axis: 1, keep: true, last: false };
        let chosen = x.add(largest, &[candidates])?;
        let pivot_row = x.add(op::GatherNd { batch_dims: 1 }, &[matrices, chosen])?;
        let this_row = x.add(op::Gather { axis: 1 }, &[matrices, step])?;
        let pivot = x.add(op::Gather { axis: 1 }, &[pivot_row, step])?;
        let in_place = x.binary(BinaryFn::Equal, chosen, step)?;
        let in_place = x.reshape(in_place, vec![count.clone()])?;
        let (one, minus) = (x.scalar(dtype, 1.0)?, x.scalar(dtype, -1.0)?);
        let sign = x.select(in_place, one, minus)?;
        let signed = x.binary(BinaryFn::Mul, pivot, sign)?;
        let product = x.binary(BinaryFn::Mul, product, signed)?;
        // The row that was here goes where the pivot's row was.
        let is_chosen = x.binary(BinaryFn::Equal, row, chosen)?;
        let is_chosen = beside(x, is_chosen, 2)?;
        let (pivot_row, this_row) = (beside(x, pivot_row, 1)?, beside(x, this_row, 1)?);
        let swapped = x.select(is_chosen, this_row, matrices)?;
        let column = x.add(op::Gather { axis: 2 }, &[swapped, step])?;
        let divisor = beside(x, pivot, 1)?;
        let factor = x.binary(BinaryFn::Div, column, divisor)?;
        // Without a pivot the product is 0 already.
        let zero = x.scalar(dtype, 0.0)?;
        let singular = x.with_number(BinaryFn::Equal, divisor, 0.0)?;
        let factor = x.select(singular, zero, factor)?;
        let factor = beside(x, factor, 2)?;
        let taken = x.binary(BinaryFn::Mul, factor, pivot_row)?;
        let next = x.binary(BinaryFn::Sub, swapped, taken)?;
        Ok((vec![next, product], Vec::new()))
    })?;
    Ok(results[1])
}

/// The value with a dimension of 1 put in at `axis`.
fn beside(x: &mut Use<'_, '_, '_>, v: V, axis: usize) -> Result<V, Fault> {
    let mut shape = x.shape(v);
    shape.insert(axis, Dim::from(1i64));
    x.reshape(v, shape)
}
