//! Reductions along axes, searches and running sums.
//!
//! Invariant: axes that are data are moved to the end, so every core operation knows its axes.

use super::build::V;
use super::fault::Fault;
use super::movement::{Axes, axes};
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
    let axes = match axes(x, since, 1)? {
        Axes::Data(axes) if x.count(axes)? > 0 => return late_reduce(x, f, operand, axes),
        Axes::Known(axes) if !axes.is_empty() => {
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

/// The reduced axes are moved to the end, whichever they are.
fn late_reduce(x: &mut Use<'_, '_, '_>, f: Reduction, operand: V, axes: V) -> Results {
    let (shape, count) = (x.shape(operand), x.count(axes)?);
    let rank = shape.len();
    let kept = rank.checked_sub(count).ok_or_else(|| {
        Fault::malformed(format!("{count} axes are to be reduced of a tensor of rank {rank}"))
    })?;
    let axes = x.late_axes(axes, rank)?;
    let reduced = x.among(axes, rank)?;
    let order = x.marked_last(reduced, count)?;
    let last = x.permuted(operand, order)?;
    let result = f(x, last, &(kept..rank).collect::<Vec<_>>())?;
    let mut result_shape = x.shape(result);
    result_shape.truncate(kept);
    if x.flag("keepdims", true)? {
        let (sizes, one) = (x.vector(shape)?, x.scalar(DType::I64, 1.0)?);
        let sizes = x.select(reduced, one, sizes)?;
        result_shape = x.sizes(sizes)?;
    }
    Ok(vec![x.reshape(result, result_shape)?])
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
    let (exclusive, reverse) = (x.flag("exclusive", false)?, x.flag("reverse", false)?);
    along(x, operand, axis, |x, v, axis| {
        x.add(op::Accumulate { f, axis, exclusive, reverse }, &[v])
    })
}

/// `f` along an axis that may be data: it is moved to the end and back then.
pub(super) fn along<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    operand: V,
    axis: V,
    f: impl FnOnce(&mut Use<'i, 'r, 'm>, V, usize) -> Result<V, Fault>,
) -> Results {
    let rank = x.rank(operand);
    if x.is_known(axis) {
        let axis = match x.integers(axis, "the axis")?[..] {
            [axis] => x.axis(axis, rank)?,
            _ => return Err(Fault::malformed("the axis must be one number")),
        };
        return Ok(vec![f(x, operand, axis)?]);
    }
    if x.count(axis)? != 1 || rank == 0 {
        return Err(Fault::malformed("the axis must be one number, of a tensor with dimensions"));
    }
    let shape = x.shape(operand);
    let axis = x.late_axes(axis, rank)?;
    let marked = x.among(axis, rank)?;
    let order = x.marked_last(marked, 1)?;
    let last = x.permuted(operand, order)?;
    let result = f(x, last, rank - 1)?;
    let back = x.inverse(order)?;
    let result = x.permuted(result, back)?;
    Ok(vec![x.assume(result, shape)?])
}
