//! The inverse of square matrices.
//!
//! Invariant: the row with the greatest number in a column eliminates it, so that a zero on the
//! diagonal does no harm; a matrix that has no inverse gives numbers that are infinite or none.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::shape::counted;
use super::Results;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] = &[microsoft("Inverse", inverse)];

/// Larger matrices are refused: each column is a few operations of the graph.
const MOST_COLUMNS: i64 = 64;

/// One column of a stack of matrices, `[batch, n, 1]`.
fn column(x: &mut Use<'_, '_, '_>, v: V, number: i64) -> Result<V, Fault> {
    let (mut starts, mut sizes) = (vec![Dim::from(0i64); 3], x.shape(v));
    (starts[2], sizes[2]) = (Dim::from(number), Dim::from(1i64));
    x.add(op::Slice { starts, sizes, steps: vec![1; 3] }, &[v])
}

/// The row of which the condition holds, `[batch, 1, …]`.
fn row(x: &mut Use<'_, '_, '_>, v: V, here: V) -> Result<V, Fault> {
    let zero = x.scalar(x.dtype(v), 0.0)?;
    let alone = x.select(here, v, zero)?;
    x.reduce(ReduceFn::Sum, alone, vec![1], true)
}

/// How great the numbers of a column are; those above its diagonal do not count.
fn magnitudes(x: &mut Use<'_, '_, '_>, v: V, place: V, number: i64) -> Result<V, Fault> {
    let candidates = column(x, v, number)?;
    let absolute = x.unary(UnaryFn::Abs, candidates)?;
    let below = x.with_number(BinaryFn::GreaterEqual, place, number as f64)?;
    let none = x.scalar(x.dtype(v), -1.0)?;
    x.select(below, absolute, none)
}

/// Elimination after Gauss and Jordan on the matrix with the identity beside it.
fn inverse(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (shape, dtype) = (x.shape(operand), x.dtype(operand));
    let [outer @ .., rows, columns] = &shape[..] else {
        return Err(Fault::malformed("the operand must be matrices"));
    };
    let size = match (rows.as_const(), columns.as_const()) {
        (Some(rows), Some(columns)) if rows == columns && rows <= MOST_COLUMNS => rows,
        _ => {
            let ty = x.ty(operand);
            let help = format!("fix sizes with --dim, up to {MOST_COLUMNS} columns");
            return Err(Fault::unsupported(format!("the inverse of {ty}"), help));
        }
    };
    let batch: Dim = outer.iter().cloned().product();
    let wide = if dtype == DType::F16 { DType::F32 } else { dtype };
    let square = vec![batch, rows.clone(), columns.clone()];
    let matrix = x.reshape(operand, square.clone())?;
    let matrix = x.cast(matrix, wide)?;
    let place = counted(x, rows.clone(), 1, 3)?;
    let across = counted(x, rows.clone(), 2, 3)?;
    let diagonal = x.binary(BinaryFn::Equal, place, across)?;
    let identity = x.cast(diagonal, wide)?;
    let identity = x.broadcast(identity, square)?;
    let mut both = x.add(op::Concat { axis: 2 }, &[matrix, identity])?;
    for number in 0..size {
        let size_of = magnitudes(x, both, place, number)?;
        let greatest = op::ArgReduce { f: ReduceFn::Max, axis: 1, keep: true, last: false };
        let pivot = x.add(greatest, &[size_of])?;
        let at_pivot = x.binary(BinaryFn::Equal, place, pivot)?;
        let at_number = x.with_number(BinaryFn::Equal, place, number as f64)?;
        let (upper, lower) = (row(x, both, at_number)?, row(x, both, at_pivot)?);
        let swapped = x.select(at_pivot, upper, both)?;
        let head = column(x, lower, number)?;
        let unit = x.binary(BinaryFn::Div, lower, head)?;
        let factor = column(x, swapped, number)?;
        let taken = x.binary(BinaryFn::Mul, factor, unit)?;
        let rest = x.binary(BinaryFn::Sub, swapped, taken)?;
        both = x.select(at_number, unit, rest)?;
    }
    let right = crate::import::attention::part(x, both, rows.clone(), rows.clone(), 1)?;
    let result = x.cast(right, dtype)?;
    Ok(vec![x.reshape(result, shape)?])
}
