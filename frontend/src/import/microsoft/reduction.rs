//! Sums and distances.
//!
//! Invariant: small integers are summed in 32 bits, with the sign that they have.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::Results;
use kiln_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] =
    &[microsoft("CDist", distances), microsoft("ReduceSumInteger", reduce_sum_integer)];

fn reduce_sum_integer(x: &mut Use<'_, '_, '_>) -> Results {
    let v = x.input(0)?;
    let wide = x.cast(v, DType::I32)?;
    let axes = x.ints("axes")?.unwrap_or_default();
    let rank = x.rank(v);
    let axes = if axes.is_empty() { (0..rank).collect() } else { x.axes(axes, rank)? };
    let keep = x.flag("keepdims", true)?;
    Ok(vec![x.reduce(ReduceFn::Sum, wide, axes, keep)?])
}

/// The distance of each row of one matrix from each of another.
fn distances(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    let ([rows, depth], [columns, _]) = (&x.shape(a)[..], &x.shape(b)[..]) else {
        return Err(Fault::malformed("the operands must be matrices"));
    };
    let one = Dim::from(1i64);
    let left = vec![rows.clone(), one.clone(), depth.clone()];
    let right = vec![one, columns.clone(), depth.clone()];
    let b = x.with_dim(b, 1, depth)?;
    let (a, b) = (x.reshape(a, left)?, x.reshape(b, right)?);
    let apart = x.binary(BinaryFn::Sub, a, b)?;
    let square = x.binary(BinaryFn::Mul, apart, apart)?;
    let sum = x.reduce(ReduceFn::Sum, square, vec![2], false)?;
    match x.string_or("metric", "sqeuclidean")? {
        "sqeuclidean" => Ok(vec![sum]),
        "euclidean" => Ok(vec![x.unary(UnaryFn::Sqrt, sum)?]),
        other => {
            let help = "use euclidean or sqeuclidean";
            Err(Fault::unsupported(format!("the metric `{other}`"), help))
        }
    }
}
