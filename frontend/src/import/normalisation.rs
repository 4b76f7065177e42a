//! Normalisations and softmaxes.
//!
//! Invariant: statistics are of the operand itself.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::reduction::{l1, l2};
use super::softmax;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn, WindowFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("GroupNormalization", 18, group_normalization),
    onnx("Hardmax", 1, hardmax),
    onnx("InstanceNormalization", 1, instance_normalization),
    onnx("LRN", 1, local_response),
    onnx("LayerNormalization", 17, |x| layer_normalization(x, true)),
    onnx("LogSoftmax", 1, log_softmax),
    onnx("LpNormalization", 1, lp_normalization),
    onnx("MeanVarianceNormalization", 9, mean_variance),
    onnx("RMSNormalization", 23, |x| layer_normalization(x, false)),
    onnx("SimplifiedLayerNormalization", 1, |x| layer_normalization(x, false)),
    onnx("Softmax", 1, softmax),
];

/// Normalises the last dimensions of the value under another shape; scale and bias are for each
/// channel.
fn by_channel(
    x: &mut Use<'_, '_, '_>,
    shape: Vec<Dim>,
    parameters: [V; 2],
    epsilon: f64,
) -> Result<V, Fault> {
    let operand = x.input(0)?;
    let (own, axis) = (x.shape(operand), shape.len() - 1);
    let flat = x.reshape(operand, shape)?;
    let normalized = x.add(op::Normalize { axis, epsilon, center: true }, &[flat])?;
    let normalized = x.reshape(normalized, own.clone())?;
    let mut along = parameters;
    for slot in &mut along {
        *slot = x.along(*slot, 0, own.len() - 1)?;
    }
    let scaled = x.binary(BinaryFn::Mul, normalized, along[0])?;
    x.binary(BinaryFn::Add, scaled, along[1])
}

fn instance_normalization(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, parameters) = (x.input(0)?, [x.input(1)?, x.input(2)?]);
    let shape = x.shape(operand);
    let [batch, channels, plane @ ..] = &shape[..] else {
        return Err(Fault::malformed("the operand must have batch and channel dimensions"));
    };
    let flat = vec![batch.clone(), channels.clone(), plane.iter().cloned().product()];
    let epsilon = x.float_or("epsilon", 1e-5)?;
    Ok(vec![by_channel(x, flat, parameters, epsilon)?])
}

/// Scale and bias are for each group in opset 18 to 20, for each channel from 21 on.
fn group_normalization(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, mut parameters) = (x.input(0)?, [x.input(1)?, x.input(2)?]);
    let groups = x.int_or("num_groups", 0)?;
    if groups < 1 {
        return Err(Fault::malformed("num_groups must be at least 1"));
    }
    let groups = Dim::from(groups);
    let shape = x.shape(operand);
    let [batch, channels, plane @ ..] = &shape[..] else {
        return Err(Fault::malformed("the operand must have batch and channel dimensions"));
    };
    let depth = channels.floor_div(&groups);
    if x.opset() < 21 {
        for slot in &mut parameters {
            *slot = x.with_dim(*slot, 0, &groups)?;
            let column = x.along(*slot, 0, 2)?;
            let each = x.broadcast(column, vec![groups.clone(), depth.clone()])?;
            *slot = x.reshape(each, vec![channels.clone()])?;
        }
    }
    let plane: Dim = plane.iter().cloned().product();
    let flat = vec![batch.clone(), groups, depth * plane];
    let epsilon = x.float_or("epsilon", 1e-5)?;
    Ok(vec![by_channel(x, flat, parameters, epsilon)?])
}

/// Normalises from an axis on, with scale and bias stretched to what is normalised.
pub(super) fn normalized(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    axis: usize,
    parameters: [Option<V>; 2],
    center: bool,
    epsilon: f64,
) -> Result<V, Fault> {
    let (shape, dtype) = (x.shape(operand)[axis..].to_vec(), x.dtype(operand));
    let mut operands = vec![operand];
    let mut rest = None;
    for (number, parameter) in parameters.into_iter().enumerate() {
        let Some(parameter) = parameter else { continue };
        let parameter = x.cast(parameter, dtype)?;
        let own = x.rank(parameter);
        if number > operands.len() - 1 || own > shape.len() {
            rest = Some((number, parameter));
            continue;
        }
        let mut fitting = parameter;
        let offset = shape.len() - own;
        for place in 0..own {
            if !x.shape(fitting)[place].is(1) {
                fitting = x.with_dim(fitting, place, &shape[offset + place])?;
            }
        }
        operands.push(x.broadcast(fitting, shape.clone())?);
    }
    let result = x.add(op::Normalize { axis, epsilon, center }, &operands)?;
    match rest {
        None => Ok(result),
        Some((0, scale)) => x.binary(BinaryFn::Mul, result, scale),
        Some((_, bias)) => x.binary(BinaryFn::Add, result, bias),
    }
}

fn layer_normalization(x: &mut Use<'_, '_, '_>, center: bool) -> Results {
    let operand = x.input(0)?;
    let axis = x.axis(x.int_or("axis", -1)?, x.rank(operand))?;
    let parameters = [x.optional(1), x.optional(2)];
    let epsilon = x.float_or("epsilon", 1e-5)?;
    let mut results = vec![normalized(x, operand, axis, parameters, center, epsilon)?];
    if x.wants(1) || x.wants(2) {
        let (mean, inverse) = statistics(x, operand, axis, center, epsilon)?;
        results.extend(if center { vec![mean, inverse] } else { vec![inverse] });
    }
    Ok(results)
}

/// The mean and the inverse deviation from an axis on, in f32 as the standard has them.
pub(super) fn statistics(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    axis: usize,
    center: bool,
    epsilon: f64,
) -> Result<(V, V), Fault> {
    let stash = if x.dtype(operand) == DType::F64 { DType::F64 } else { DType::F32 };
    let wide = x.cast(operand, stash)?;
    let axes: Vec<usize> = (axis..x.rank(operand)).collect();
    let mean = x.reduce(ReduceFn::Mean, wide, axes.clone(), true)?;
    let centred = if center { x.binary(BinaryFn::Sub, wide, mean)? } else { wide };
    let square = x.binary(BinaryFn::Mul, centred, centred)?;
    let variance = x.reduce(ReduceFn::Mean, square, axes, true)?;
    let shifted = x.with_number(BinaryFn::Add, variance, epsilon)?;
    let inverse = x.unary(UnaryFn::Rsqrt, shifted)?;
    Ok((x.cast(mean, DType::F32)?, x.cast(inverse, DType::F32)?))
}

/// The axis, and whether dimensions from it on are one: up to opset 12 they are.
fn softmax_axis(x: &Use<'_, '_, '_>, operand: V) -> Result<(usize, bool), Fault> {
    let rank = x.rank(operand);
    if x.opset() >= 13 {
        return Ok((x.axis(x.int_or("axis", -1)?, rank)?, false));
    }
    let axis = x.int_or("axis", 1)?;
    // Flattened at the end, every number is by itself.
    let axis = if axis == rank as i64 { rank } else { x.axis(axis, rank)? };
    Ok((axis, axis + 1 != rank))
}

/// Applies `f` along an axis, or along all from it on as one.
fn along_softmax_axis<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    f: impl FnOnce(&mut Use<'i, 'r, 'm>, V, usize) -> Result<V, Fault>,
) -> Results {
    let operand = x.input(0)?;
    let (axis, flat) = softmax_axis(x, operand)?;
    if !flat {
        return Ok(vec![f(x, operand, axis)?]);
    }
    let shape = x.shape(operand);
    let (outer, inner) = shape.split_at(axis);
    let two = vec![outer.iter().cloned().product(), inner.iter().cloned().product()];
    let matrix = x.reshape(operand, two)?;
    let result = f(x, matrix, 1)?;
    Ok(vec![x.reshape(result, shape)?])
}

fn softmax(x: &mut Use<'_, '_, '_>) -> Results {
    along_softmax_axis(x, softmax::softmax)
}

fn log_softmax(x: &mut Use<'_, '_, '_>) -> Results {
    along_softmax_axis(x, logarithm_of_softmax)
}

/// `ln(softmax(x))` along an axis, without a quotient that could be 0.
pub(super) fn logarithm_of_softmax(x: &mut Use<'_, '_, '_>, v: V, axis: usize) -> Result<V, Fault> {
    if x.shape(v).iter().any(|size| size.is(0)) {
        return Ok(v);
    }
    let greatest = x.reduce(ReduceFn::Max, v, vec![axis], true)?;
    let shifted = x.binary(BinaryFn::Sub, v, greatest)?;
    let exponential = x.unary(UnaryFn::Exp, shifted)?;
    let sum = x.reduce(ReduceFn::Sum, exponential, vec![axis], true)?;
    let logarithm = x.unary(UnaryFn::Log, sum)?;
    x.binary(BinaryFn::Sub, shifted, logarithm)
}

/// 1 at the first of the greatest, 0 elsewhere.
fn hardmax(x: &mut Use<'_, '_, '_>) -> Results {
    along_softmax_axis(x, |x, v, axis| {
        if x.shape(v).iter().any(|size| size.is(0)) {
            return Ok(v);
        }
        let greatest = op::ArgReduce { f: ReduceFn::Max, axis, keep: true, last: false };
        let place = x.add(greatest, &[v])?;
        let (shape, dtype) = (x.shape(v), x.dtype(v));
        let places = super::shape::counted(x, shape[axis].clone(), axis, shape.len())?;
        let hot = x.binary(BinaryFn::Equal, places, place)?;
        x.cast(hot, dtype)
    })
}

fn lp_normalization(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let axis = x.axis(x.int_or("axis", -1)?, x.rank(operand))?;
    let norm = match x.int_or("p", 2)? {
        1 => l1(x, operand, &[axis])?,
        2 => l2(x, operand, &[axis])?,
        p => return Err(Fault::malformed(format!("p must be 1 or 2, but is {p}"))),
    };
    // What has no length stays as it is: zero.
    let zero = x.with_number(BinaryFn::Equal, norm, 0.0)?;
    let one = x.scalar(x.dtype(operand), 1.0)?;
    let divisor = x.select(zero, one, norm)?;
    Ok(vec![x.binary(BinaryFn::Div, operand, divisor)?])
}

fn mean_variance(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let axes = x.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = x.axes(axes, x.rank(operand))?;
    let mean = x.reduce(ReduceFn::Mean, operand, axes.clone(), true)?;
    let centred = x.binary(BinaryFn::Sub, operand, mean)?;
    let square = x.binary(BinaryFn::Mul, centred, centred)?;
    let variance = x.reduce(ReduceFn::Mean, square, axes, true)?;
    let deviation = x.unary(UnaryFn::Sqrt, variance)?;
    let divisor = x.with_number(BinaryFn::Add, deviation, 1e-9)?;
    Ok(vec![x.binary(BinaryFn::Div, centred, divisor)?])
}

/// `x/(bias + alpha/size·Σx²)^beta`, the sum over neighbouring channels.
fn local_response(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let rank = x.rank(operand);
    let size = x.int("size")?.filter(|&size| size > 0).and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or_else(|| Fault::malformed("attribute `size` must be at least 1"))?;
    if rank < 2 {
        return Err(Fault::malformed("the operand must have batch and channel dimensions"));
    }
    let (alpha, beta) = (x.float_or("alpha", 1e-4)?, x.float_or("beta", 0.75)?);
    let bias = x.float_or("bias", 1.0)?;
    let square = x.binary(BinaryFn::Mul, operand, operand)?;
    let channels = |value: usize, other: usize| -> Vec<usize> {
        (0..rank).map(|axis| if axis == 1 { value } else { other }).collect()
    };
    let padding = |value: usize| channels(value, 0).iter().map(|&value| value as i64).collect();
    // Beyond the other channels there is nothing, however large the window is.
    let others = x.ty(operand).shape[1].as_const().and_then(|count| usize::try_from(count).ok());
    let others = others.map_or(usize::MAX, |count| count.saturating_sub(1));
    let (before, after) = (((size - 1) / 2).min(others), (size / 2).min(others));
    let window = op::WindowReduce {
        f: WindowFn::Sum,
        window: channels(before + after + 1, 1),
        strides: vec![1; rank],
        dilations: vec![1; rank],
        before: padding(before),
        after: padding(after),
    };
    let sum = x.add(window, &[square])?;
    let scaled = x.with_number(BinaryFn::Mul, sum, alpha / size as f64)?;
    let shifted = x.with_number(BinaryFn::Add, scaled, bias)?;
    let power = x.with_number(BinaryFn::Pow, shifted, beta)?;
    Ok(vec![x.binary(BinaryFn::Div, operand, power)?])
}
