//! Reductions along axes, searches and running sums.
//!
//! Invariant: which axes are reduced is known before the model runs.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("ArgMax", 1, |x| search(x, ReduceFn::Max)),
    onnx("ArgMin", 1, |x| search(x, ReduceFn::Min)),
    onnx("CumProd", 26, |x| accumulate(x, ReduceFn::Prod)),
    onnx("CumSum", 11, |x| accumulate(x, ReduceFn::Sum)),
    onnx("ReduceL1", 1, |x| reduce(x, l1)),
    onnx("ReduceL2", 1, |x| reduce(x, l2)),
    onnx("ReduceLogSum", 1, |x| reduce(x, log_sum)),
    onnx("ReduceLogSumExp", 1, |x| reduce(x, log_sum_exp)),
    onnx("ReduceMax", 1, |x| reduce(x, |x, v, axes| extreme(x, ReduceFn::Max, v, axes))),
    onnx("ReduceMean", 1, |x| reduce(x, |x, v, axes| kept(x, ReduceFn::Mean, v, axes))),
    onnx("ReduceMin", 1, |x| reduce(x, |x, v, axes| extreme(x, ReduceFn::Min, v, axes))),
    onnx("ReduceProd", 1, |x| reduce(x, |x, v, axes| kept(x, ReduceFn::Prod, v, axes))),
    onnx("ReduceSum", 1, |x| reduce(x, |x, v, axes| kept(x, ReduceFn::Sum, v, axes))),
    onnx("ReduceSumSquare", 1, |x| reduce(x, sum_square)),
];

/// What an operator does with a value and its axes, which stay with size 1.
type Reduction = fn(&mut Use<'_, '_, '_>, V, &[usize]) -> Result<V, Fault>;

/// Axes are an attribute up to opset 12 (`ReduceSum`) or 17 (all others); none means all, unless
/// the operator says that it means none.
fn reduce(x: &mut Use<'_, '_, '_>, f: Reduction) -> Results {
    let operand = x.input(0)?;
    let rank = x.rank(operand);
    let since = if x.node.site.op == "ReduceSum" { 13 } else { 18 };
    let given = if x.opset() < since {
        x.ints("axes")?.map(<[i64]>::to_vec)
    } else {
        x.optional(1).map(|v| x.integers(v, "the reduced axes")).transpose()?
    };
    let axes = match given {
        Some(axes) if !axes.is_empty() => {
            let mut axes = x.axes(&axes, rank)?;
            axes.sort_unstable();
            axes
        }
        _ if x.flag("noop_with_empty_axes", false)? => Vec::new(),
        _ => (0..rank).collect(),
    };
    let result = f(x, operand, &axes)?;
    if x.flag("keepdims", true)? {
        return Ok(vec![result]);
    }
    let kept = x.shape(result).into_iter().enumerate();
    let shape = kept.filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| dim).collect();
    Ok(vec![x.reshape(result, shape)?])
}

fn kept(x: &mut Use<'_, '_, '_>, f: ReduceFn, v: V, axes: &[usize]) -> Result<V, Fault> {
    x.reduce(f, v, axes.to_vec(), true)
}

fn extreme(x: &mut Use<'_, '_, '_>, f: ReduceFn, v: V, axes: &[usize]) -> Result<V, Fault> {
    let f = match (x.dtype(v), f) {
        (DType::Bool, ReduceFn::Max) => ReduceFn::Any,
        (DType::Bool, _) => ReduceFn::All,
        _ => f,
    };
    kept(x, f, v, axes)
}

pub(super) fn l1(x: &mut Use<'_, '_, '_>, v: V, axes: &[usize]) -> Result<V, Fault> {
    let absolute = x.unary(UnaryFn::Abs, v)?;
    kept(x, ReduceFn::Sum, absolute, axes)
}

fn sum_square(x: &mut Use<'_, '_, '_>, v: V, axes: &[usize]) -> Result<V, Fault> {
    let square = x.binary(BinaryFn::Mul, v, v)?;
    kept(x, ReduceFn::Sum, square, axes)
}

pub(super) fn l2(x: &mut Use<'_, '_, '_>, v: V, axes: &[usize]) -> Result<V, Fault> {
    let sum = sum_square(x, v, axes)?;
    of_floats(x, sum, |x, v| x.unary(UnaryFn::Sqrt, v))
}

fn log_sum(x: &mut Use<'_, '_, '_>, v: V, axes: &[usize]) -> Result<V, Fault> {
    let sum = kept(x, ReduceFn::Sum, v, axes)?;
    of_floats(x, sum, |x, v| x.unary(UnaryFn::Log, v))
}

/// The greatest is taken off first, so that nothing overflows, but not if it is infinite: infinity
/// less infinity is not a number.
fn log_sum_exp(x: &mut Use<'_, '_, '_>, v: V, axes: &[usize]) -> Result<V, Fault> {
    let axes = axes.to_vec();
    of_floats(x, v, |x, v| {
        let greatest = kept(x, ReduceFn::Max, v, &axes)?;
        let infinite = x.unary(UnaryFn::IsInf, greatest)?;
        let zero = x.scalar(x.dtype(v), 0.0)?;
        let shift = x.select(infinite, zero, greatest)?;
        let shifted = x.binary(BinaryFn::Sub, v, shift)?;
        let exponential = x.unary(UnaryFn::Exp, shifted)?;
        let sum = kept(x, ReduceFn::Sum, exponential, &axes)?;
        let logarithm = x.unary(UnaryFn::Log, sum)?;
        x.binary(BinaryFn::Add, logarithm, shift)
    })
}

/// `f` of a value that may be of integers, for which it is computed in f64.
fn of_floats<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    v: V,
    f: impl FnOnce(&mut Use<'i, 'r, 'm>, V) -> Result<V, Fault>,
) -> Result<V, Fault> {
    let dtype = x.dtype(v);
    if dtype.is_float() {
        return f(x, v);
    }
    let wide = x.cast(v, DType::F64)?;
    let result = f(x, wide)?;
    x.cast(result, dtype)
}

fn search(x: &mut Use<'_, '_, '_>, f: ReduceFn) -> Results {
    let operand = x.input(0)?;
    let axis = x.axis(x.int_or("axis", 0)?, x.rank(operand))?;
    let (keep, last) = (x.flag("keepdims", true)?, x.flag("select_last_index", false)?);
    Ok(vec![x.add(op::ArgReduce { f, axis, keep, last }, &[operand])?])
}

fn accumulate(x: &mut Use<'_, '_, '_>, f: ReduceFn) -> Results {
    let (operand, axis) = (x.input(0)?, x.input(1)?);
    let axis = match x.integers(axis, "the axis")?[..] {
        [axis] => x.axis(axis, x.rank(operand))?,
        _ => return Err(Fault::malformed("the axis must be one number")),
    };
    let (exclusive, reverse) = (x.flag("exclusive", false)?, x.flag("reverse", false)?);
    Ok(vec![x.add(op::Accumulate { f, axis, exclusive, reverse }, &[operand])?])
}
