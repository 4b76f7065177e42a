//! Operators on 8-bit integers that stand for numbers.
//!
//! Invariant: products are summed in integers; everything else is computed in f32 between one
//! dequantisation and one quantisation, all of it elementwise around the operation, so that it
//! becomes one kernel with it.

use super::super::contraction::matmul_integer;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::pooling::average_pool;
use super::super::quantisation::{
    Quantized, dequantize, dequantized, dynamically_quantized, quantize, quantized,
    quantized_convolution,
};
use super::Results;
use super::convolution::{channels_first, channels_last};
use crate::import::build::V;
use crate::import::contraction::contract;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::DType;

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("DequantizeLinear", dequantize),
    microsoft("DynamicQuantizeMatMul", dynamic_quantize_matmul),
    microsoft("MatMulIntegerToFloat", matmul_integer_to_float),
    microsoft("QGemm", gemm),
    microsoft("QLinearAdd", |x| binary(x, BinaryFn::Add)),
    microsoft("QLinearAveragePool", |x| pooled(x, average_pool)),
    microsoft("QLinearConcat", concat),
    microsoft("QLinearConv", convolution),
    microsoft("QLinearGlobalAveragePool", |x| pooled(x, global_average)),
    microsoft("QLinearLeakyRelu", leaky_relu),
    microsoft("QLinearMul", |x| binary(x, BinaryFn::Mul)),
    microsoft("QLinearReduceMean", mean),
    microsoft("QLinearSigmoid", |x| unary(x, |x, v| x.unary(UnaryFn::Sigmoid, v))),
    microsoft("QLinearSoftmax", softmax),
    microsoft("QLinearWhere", choice),
    microsoft("QuantizeLinear", quantize),
];

/// A scale or zero point, which may be written as one number in a vector.
fn single(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    if x.ty(v).elements().is(1) { x.reshape(v, Vec::new()) } else { Ok(v) }
}

/// The number that input `first` stands for, its scale and zero point being the next two.
fn number(x: &mut Use<'_, '_, '_>, first: usize) -> Result<V, Fault> {
    let (v, scale) = (x.input(first)?, x.input(first + 1)?);
    let scale = single(x, scale)?;
    let zero = x.optional(first + 2).map(|zero| single(x, zero)).transpose()?;
    dequantized(x, v, scale, zero, x.dtype(scale))
}

/// The result as integers, by the scale of input `first` and the zero point after it.
fn integer(x: &mut Use<'_, '_, '_>, v: V, first: usize, to: DType) -> Result<V, Fault> {
    let scale = x.input(first)?;
    let scale = single(x, scale)?;
    let zero = x.optional(first + 1).map(|zero| single(x, zero)).transpose()?;
    quantized(x, v, scale, Quantized::to(to, zero))
}

fn binary(x: &mut Use<'_, '_, '_>, f: BinaryFn) -> Results {
    let to = x.dtype(x.input(0)?);
    let (a, b) = (number(x, 0)?, number(x, 3)?);
    let result = x.binary(f, a, b)?;
    Ok(vec![integer(x, result, 6, to)?])
}

fn unary(x: &mut Use<'_, '_, '_>, f: fn(&mut Use<'_, '_, '_>, V) -> Result<V, Fault>) -> Results {
    let to = x.dtype(x.input(0)?);
    let v = number(x, 0)?;
    let result = f(x, v)?;
    Ok(vec![integer(x, result, 3, to)?])
}

fn leaky_relu(x: &mut Use<'_, '_, '_>) -> Results {
    unary(x, |x, v| {
        let alpha = x.float_or("alpha", 0.01)?;
        let below = x.with_number(BinaryFn::Mul, v, alpha)?;
        let negative = x.with_number(BinaryFn::Less, v, 0.0)?;
        x.select(negative, below, v)
    })
}

/// Over one axis, or up to opset 12 over all from it on.
fn softmax(x: &mut Use<'_, '_, '_>) -> Results {
    unary(x, |x, v| {
        let shape = x.shape(v);
        let axis = x.axis(x.int_or("axis", -1)?, shape.len())?;
        if x.int_or("opset", 13)? >= 13 || axis + 1 == shape.len() {
            return x.add(op::Softmax { axis }, &[v]);
        }
        let (outer, inner) = shape.split_at(axis);
        let two = vec![outer.iter().cloned().product(), inner.iter().cloned().product()];
        let matrix = x.reshape(v, two)?;
        let result = x.add(op::Softmax { axis: 1 }, &[matrix])?;
        x.reshape(result, shape)
    })
}

/// `scale, zero point`, then three inputs for each part.
fn concat(x: &mut Use<'_, '_, '_>) -> Results {
    let to = x.dtype(x.input(2)?);
    let mut parts = Vec::new();
    for first in (2..x.inputs.len()).step_by(3) {
        parts.push(number(x, first)?);
    }
    let rank = parts.first().map_or(0, |&part| x.rank(part));
    let axis = x.axis(x.int_or("axis", 0)?, rank)?;
    let parts = x.agreeing(&parts, |number| number == axis)?;
    let whole = x.add(op::Concat { axis }, &parts)?;
    Ok(vec![integer(x, whole, 0, to)?])
}

fn choice(x: &mut Use<'_, '_, '_>) -> Results {
    let (condition, to) = (x.input(0)?, x.dtype(x.input(1)?));
    let (a, b) = (number(x, 1)?, number(x, 4)?);
    let result = x.select(condition, a, b)?;
    Ok(vec![integer(x, result, 7, to)?])
}

/// A pooling of numbers, with channels first or last.
fn pooled(x: &mut Use<'_, '_, '_>, pool: fn(&mut Use<'_, '_, '_>) -> Results) -> Results {
    let (to, last) = (x.dtype(x.input(0)?), x.flag("channels_last", false)?);
    let mut v = number(x, 0)?;
    if last {
        v = channels_first(x, v)?;
    }
    let results = x.with_inputs(vec![Some(v)], pool)?;
    let [mut result] = results[..] else { return Ok(results) };
    if last {
        result = channels_last(x, result)?;
    }
    Ok(vec![integer(x, result, 3, to)?])
}

fn global_average(x: &mut Use<'_, '_, '_>) -> Results {
    let v = x.input(0)?;
    let axes = (2..x.rank(v)).collect();
    Ok(vec![x.reduce(ReduceFn::Mean, v, axes, true)?])
}

fn mean(x: &mut Use<'_, '_, '_>) -> Results {
    unary(x, |x, v| {
        let axes = x.ints("axes")?.unwrap_or_default();
        let rank = x.rank(v);
        let axes = if axes.is_empty() { (0..rank).collect() } else { x.axes(axes, rank)? };
        let keep = x.flag("keepdims", true)?;
        x.reduce(ReduceFn::Mean, v, axes, keep)
    })
}

/// The standard operator, whose channels may be last here.
fn convolution(x: &mut Use<'_, '_, '_>) -> Results {
    if !x.flag("channels_last", false)? {
        return quantized_convolution(x);
    }
    let (mut inputs, operand) = (x.inputs.clone(), x.input(0)?);
    inputs[0] = Some(channels_first(x, operand)?);
    let results = x.with_inputs(inputs, quantized_convolution)?;
    results.into_iter().map(|v| channels_last(x, v)).collect()
}

/// `sums·(a scale·b scale)[ + bias]` in the type of the scales.
fn scaled(x: &mut Use<'_, '_, '_>, sums: V, a: V, b: V, bias: Option<V>) -> Result<V, Fault> {
    let (a, b) = (single(x, a)?, single(x, b)?);
    let factor = x.binary(BinaryFn::Mul, a, b)?;
    let dtype = x.dtype(factor);
    let sums = x.cast(sums, dtype)?;
    let result = x.binary(BinaryFn::Mul, sums, factor)?;
    bias.map_or(Ok(result), |bias| x.binary(BinaryFn::Add, result, bias))
}

/// The product of integers less their zero points; single ones stretch.
fn product(x: &mut Use<'_, '_, '_>, a: V, b: V, zeros: [Option<V>; 2]) -> Result<V, Fault> {
    let mut inputs = vec![Some(a), Some(b)];
    for zero in zeros {
        inputs.push(zero.map(|zero| single(x, zero)).transpose()?);
    }
    let sums = x.with_inputs(inputs, matmul_integer)?;
    sums.first().copied().ok_or(Fault::Silent)
}

/// `A, B, a scale, b scale[, zero points][, bias]`.
fn matmul_integer_to_float(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b, bias) = (x.input(0)?, x.input(1)?, x.optional(6));
    let zeros = [x.optional(4), x.optional(5)];
    let sums = product(x, a, b, zeros)?;
    let (a, b) = (x.input(2)?, x.input(3)?);
    Ok(vec![scaled(x, sums, a, b, bias)?])
}

/// `A, B, b scale[, b zero point][, bias]`; `A` is quantised as it comes.
fn dynamic_quantize_matmul(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    let (rounded, a_scale, a_zero) = dynamically_quantized(x, a)?;
    let zeros = [Some(a_zero), x.optional(3)];
    let sums = product(x, rounded, b, zeros)?;
    let (b_scale, bias) = (x.input(2)?, x.optional(4));
    Ok(vec![scaled(x, sums, a_scale, b_scale, bias)?])
}

/// `alpha·a scale·b scale·(A·B + C)`, quantised if there is a scale for it.
fn gemm(x: &mut Use<'_, '_, '_>) -> Results {
    let mut shifted = Vec::with_capacity(2);
    for (first, name) in [(0, "transA"), (3, "transB")] {
        let (v, zero) = (x.input(first)?, x.optional(first + 2));
        if x.rank(v) != 2 {
            let ty = x.ty(v);
            return Err(Fault::malformed(format!(
                "the operands must be matrices, but one is {ty}"
            )));
        }
        let transposed = x.flag(name, false)?;
        let mut wide = x.cast(v, DType::I32)?;
        if let Some(zero) = zero {
            let zero = x.cast(zero, DType::I32)?;
            let mut zero = single(x, zero)?;
            // One for each column of the product, which are the rows of what is transposed.
            if x.rank(zero) == 1 && transposed {
                zero = x.along(zero, 0, 2)?;
            }
            wide = x.binary(BinaryFn::Sub, wide, zero)?;
        }
        shifted.push((wide, transposed));
    }
    let [(a, a_transposed), (b, b_transposed)] = shifted[..] else { return Err(Fault::Silent) };
    let spec = op::ContractSpec {
        lhs: if a_transposed { b"km" } else { b"mk" }.to_vec(),
        rhs: if b_transposed { b"nk" } else { b"kn" }.to_vec(),
        out: b"mn".to_vec(),
    };
    let mut sums = contract(x, a, b, spec)?;
    if let Some(c) = x.optional(6) {
        sums = x.binary(BinaryFn::Add, sums, c)?;
    }
    let (a, b) = (x.input(1)?, x.input(4)?);
    let alpha = x.float_or("alpha", 1.0)?;
    let a = if alpha == 1.0 { a } else { x.with_number(BinaryFn::Mul, a, alpha)? };
    let result = scaled(x, sums, a, b, None)?;
    if x.optional(7).is_none() {
        return Ok(vec![result]);
    }
    let to = match x.optional(8) {
        Some(zero) => x.dtype(zero),
        None => x.dtype(x.input(0)?),
    };
    Ok(vec![integer(x, result, 7, to)?])
}
