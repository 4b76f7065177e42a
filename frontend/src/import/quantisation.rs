//! Integers that stand for numbers: quantisation, its inverse, and products of quantised tensors.
//!
//! Invariant: rounding is to the nearest, halves to even, and saturates, as the standard says.

use super::build::V;
use super::contraction::product;
use super::convolution::{add_bias, convolve};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::read::element_type;
use kiln_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("DequantizeLinear", 10, dequantize),
    onnx("DynamicQuantizeLinear", 11, dynamic_quantize),
    onnx("QLinearConv", 10, quantized_convolution),
    onnx("QLinearMatMul", 10, quantized_product),
    onnx("QuantizeLinear", 10, quantize),
];

/// Least and greatest value of an integer type of at most 32 bits.
fn range(dtype: DType) -> Result<(f64, f64), Fault> {
    match dtype {
        DType::U8 => Ok((0.0, 255.0)),
        DType::I8 => Ok((-128.0, 127.0)),
        DType::U16 => Ok((0.0, 65535.0)),
        DType::I16 => Ok((-32768.0, 32767.0)),
        DType::I32 => Ok((-2147483648.0, 2147483647.0)),
        other => {
            let message = format!("quantisation to {other} is not supported");
            Err(Fault::unsupported(message, "quantise to 8 or 16 bits"))
        }
    }
}

/// A scale or zero point in the place where it applies to `operand`: one number, one for each
/// place along `axis`, or one for each block along it.
fn spread(x: &mut Use<'_, '_, '_>, parameter: V, operand: V) -> Result<V, Fault> {
    let shape = x.shape(operand);
    let given = x.shape(parameter);
    if given.iter().all(|dim| dim.is(1)) && given.len() <= 1 {
        return x.reshape(parameter, Vec::new());
    }
    let axis = x.axis(x.int_or("axis", 1)?, shape.len())?;
    let block = x.int_or("block_size", 0)?;
    if block == 0 && given.len() == 1 {
        return x.along(parameter, axis, shape.len());
    }
    if given.len() != shape.len() || block < 1 {
        let (parameter, operand) = (x.ty(parameter), x.ty(operand));
        return Err(Fault::malformed(format!("{parameter} does not fit {operand}")));
    }
    let mut apart = given.clone();
    apart.insert(axis + 1, Dim::from(1i64));
    let parameter = x.reshape(parameter, apart.clone())?;
    apart[axis + 1] = Dim::from(block);
    let parameter = x.broadcast(parameter, apart)?;
    let mut joined = given;
    joined[axis] = joined[axis].clone() * Dim::from(block);
    let parameter = x.reshape(parameter, joined)?;
    x.with_dim(parameter, axis, &shape[axis])
}

/// `saturate(round(v/scale) + zero)`, computed in f32.
pub(super) fn quantized(
    x: &mut Use<'_, '_, '_>,
    v: V,
    scale: V,
    zero: Option<V>,
    to: DType,
) -> Result<V, Fault> {
    let (least, most) = range(to)?;
    let of = if x.dtype(v) == DType::F64 { DType::F64 } else { DType::F32 };
    let (v, scale) = (x.cast(v, of)?, x.cast(scale, of)?);
    let scaled = x.binary(BinaryFn::Div, v, scale)?;
    let mut rounded = x.unary(UnaryFn::Round, scaled)?;
    if let Some(zero) = zero {
        let zero = x.cast(zero, of)?;
        rounded = x.binary(BinaryFn::Add, rounded, zero)?;
    }
    let above = x.with_number(BinaryFn::Max, rounded, least)?;
    let inside = x.with_number(BinaryFn::Min, above, most)?;
    x.cast(inside, to)
}

pub(super) fn quantize(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, scale, zero) = (x.input(0)?, x.input(1)?, x.optional(2));
    let given = x.int_or("output_dtype", 0)?;
    let to =
        match (zero, given) {
            (Some(zero), _) => x.dtype(zero),
            (None, 0) => DType::U8,
            (None, number) => i32::try_from(number)
                .ok()
                .and_then(|number| element_type(number).ok())
                .ok_or_else(|| Fault::unsupported(format!("type {number} is not supported"), ""))?,
        };
    let scale = spread(x, scale, operand)?;
    let zero = zero.map(|zero| spread(x, zero, operand)).transpose()?;
    Ok(vec![quantized(x, operand, scale, zero, to)?])
}

/// `(v − zero)·scale` in the type of the scale.
pub(super) fn dequantized(
    x: &mut Use<'_, '_, '_>,
    v: V,
    scale: V,
    zero: Option<V>,
) -> Result<V, Fault> {
    let (to, mut wide) = (x.dtype(scale), x.cast(v, DType::I32)?);
    if let Some(zero) = zero {
        let zero = x.cast(zero, DType::I32)?;
        wide = x.binary(BinaryFn::Sub, wide, zero)?;
    }
    let number = x.cast(wide, to)?;
    x.binary(BinaryFn::Mul, number, scale)
}

pub(super) fn dequantize(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, scale) = (x.input(0)?, x.input(1)?);
    let scale = spread(x, scale, operand)?;
    let zero = x.optional(2).map(|zero| spread(x, zero, operand)).transpose()?;
    let to = x.int_or("output_dtype", 0)?;
    let result = dequantized(x, operand, scale, zero)?;
    let to = i32::try_from(to).ok().and_then(|number| element_type(number).ok());
    Ok(vec![match to {
        Some(to) => x.cast(result, to)?,
        None => result,
    }])
}

/// To `u8` over the range of the operand, which always holds 0.
fn dynamic_quantize(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (result, scale, zero) = dynamically_quantized(x, operand)?;
    Ok(vec![result, scale, zero])
}

/// The operand in `u8`, its scale and its zero point.
pub(super) fn dynamically_quantized(
    x: &mut Use<'_, '_, '_>,
    operand: V,
) -> Result<(V, V, V), Fault> {
    let axes: Vec<usize> = (0..x.rank(operand)).collect();
    let least = x.reduce(ReduceFn::Min, operand, axes.clone(), false)?;
    let least = x.with_number(BinaryFn::Min, least, 0.0)?;
    let most = x.reduce(ReduceFn::Max, operand, axes, false)?;
    let most = x.with_number(BinaryFn::Max, most, 0.0)?;
    let span = x.binary(BinaryFn::Sub, most, least)?;
    let scale = x.with_number(BinaryFn::Div, span, 255.0)?;
    let below = x.unary(UnaryFn::Neg, least)?;
    let ratio = x.binary(BinaryFn::Div, below, scale)?;
    let inside = x.with_number(BinaryFn::Max, ratio, 0.0)?;
    let inside = x.with_number(BinaryFn::Min, inside, 255.0)?;
    let rounded = x.unary(UnaryFn::Round, inside)?;
    let zero = x.cast(rounded, DType::U8)?;
    let result = quantized(x, operand, scale, Some(zero), DType::U8)?;
    Ok((result, scale, zero))
}

/// A product of quantised matrices, quantised.
fn quantized_product(x: &mut Use<'_, '_, '_>) -> Results {
    let mut shifted = Vec::with_capacity(2);
    let mut scales = Vec::with_capacity(2);
    for number in [0, 3] {
        let v = x.input(number)?;
        let wide = x.cast(v, DType::I32)?;
        let (scale, zero) = (x.input(number + 1)?, x.input(number + 2)?);
        let zero = x.cast(zero, DType::I32)?;
        // A vector is one for each row of the first operand, each column of the second.
        let rows = number == 0 && x.rank(zero) == 1 && !x.shape(zero)[0].is(1);
        let zero = if rows { x.along(zero, 0, 2)? } else { zero };
        scales.push(if rows { x.along(scale, 0, 2)? } else { scale });
        shifted.push(x.binary(BinaryFn::Sub, wide, zero)?);
    }
    let (scale, zero) = (x.input(6)?, x.input(7)?);
    let to = x.dtype(zero);
    let sums = product(x, shifted[0], shifted[1])?;
    // Halves lose what f32 keeps.
    let [a, b] = [x.cast(scales[0], DType::F32)?, x.cast(scales[1], DType::F32)?];
    let both = x.binary(BinaryFn::Mul, a, b)?;
    let sums = x.cast(sums, DType::F32)?;
    let number = x.binary(BinaryFn::Mul, sums, both)?;
    let (scale, zero) = (x.cast(scale, DType::F32)?, zero);
    let single = |x: &mut Use<'_, '_, '_>, v: V| {
        if x.ty(v).elements().is(1) { x.reshape(v, Vec::new()) } else { Ok(v) }
    };
    let (scale, zero) = (single(x, scale)?, single(x, zero)?);
    Ok(vec![quantized(x, number, scale, Some(zero), to)?])
}

/// A convolution of quantised tensors, summed in 32 bits and quantised.
pub(super) fn quantized_convolution(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, w) = (x.input(0)?, x.input(3)?);
    let rank = x.rank(operand);
    let mut shifted = [operand, w];
    let mut scales = [operand; 2];
    for (number, slot) in shifted.iter_mut().enumerate() {
        let zero = x.input(3 * number + 2)?;
        scales[number] = x.input(3 * number + 1)?;
        let (wide, mut zero) = (x.cast(*slot, DType::I32)?, x.cast(zero, DType::I32)?);
        // One for each filter, which are dimension 0 of `w`.
        if x.rank(zero) == 1 {
            zero = x.along(zero, 0, rank)?;
        }
        *slot = x.binary(BinaryFn::Sub, wide, zero)?;
    }
    let sums = convolve(x, shifted[0], shifted[1])?;
    let bias = x.optional(8);
    let sums = add_bias(x, sums, bias)?;
    let sums = x.cast(sums, DType::F32)?;
    let [by_operand, mut by_filter] = scales;
    if x.rank(by_filter) == 1 {
        by_filter = x.along(by_filter, 0, rank - 1)?;
    }
    let both = x.binary(BinaryFn::Mul, by_operand, by_filter)?;
    let number = x.binary(BinaryFn::Mul, sums, both)?;
    let (scale, zero) = (x.input(6)?, x.input(7)?);
    let to = x.dtype(zero);
    Ok(vec![quantized(x, number, scale, Some(zero), to)?])
}
