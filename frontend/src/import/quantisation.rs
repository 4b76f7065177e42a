//! Integers that stand for numbers: quantisation, its inverse, and products of quantised tensors.
//!
//! Invariant: rounding is to the nearest, halves to even, and saturates, as the standard says.

use super::build::V;
use super::contraction::product;
use super::conversion::converted;
use super::convolution::{add_bias, convolve};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("DequantizeLinear", 10, dequantize),
    onnx("DynamicQuantizeLinear", 11, dynamic_quantize),
    onnx("QLinearConv", 10, quantized_convolution),
    onnx("QLinearMatMul", 10, quantized_product),
    onnx("QuantizeLinear", 10, quantize),
];

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
    let parameter = x.reshape(parameter, joined.clone())?;
    match (joined[axis].as_const(), shape[axis].as_const()) {
        // The last block need not be whole.
        (Some(covered), Some(size)) if covered > size && covered - size < block => {
            joined[axis] = shape[axis].clone();
            let (starts, steps) = (vec![Dim::default(); joined.len()], vec![1; joined.len()]);
            x.add(op::Slice { starts, sizes: joined, steps }, &[parameter])
        }
        _ => x.with_dim(parameter, axis, &shape[axis]),
    }
}

/// `saturate(round(v/scale) + zero)`, divided in one type and rounded in f32 or f64; floats round on
/// the way out, and keep NaN and infinity if they are not to saturate.
pub(super) fn quantized(
    x: &mut Use<'_, '_, '_>,
    v: V,
    scale: V,
    how: Quantized,
) -> Result<V, Fault> {
    let Quantized { zero, to, precision, saturates } = how;
    let (v, scale) = (x.cast(v, precision)?, x.cast(scale, precision)?);
    let scaled = x.binary(BinaryFn::Div, v, scale)?;
    let wide = if precision == DType::F64 { DType::F64 } else { DType::F32 };
    let mut number = x.cast(scaled, wide)?;
    let range = match to {
        DType::U64 | DType::I64 | DType::U32 | DType::Bool => None,
        _ => to.integer_range(),
    };
    if range.is_some() {
        number = x.unary(UnaryFn::Round, number)?;
    }
    if let Some(zero) = zero {
        let zero = x.cast(zero, wide)?;
        number = x.binary(BinaryFn::Add, number, zero)?;
    }
    if let Some((least, most)) = range {
        let above = x.with_number(BinaryFn::Max, number, least as f64)?;
        let inside = x.with_number(BinaryFn::Min, above, most as f64)?;
        x.cast(inside, to)
    } else if to.format().is_some() {
        converted(x, number, to, saturates)
    } else {
        let message = format!("quantisation to {to} is not supported");
        Err(Fault::unsupported(message, "quantise to at most 16 bits"))
    }
}

/// How a number becomes a quantised one.
pub(super) struct Quantized {
    zero: Option<V>,
    to: DType,
    /// The type that numbers are divided in.
    precision: DType,
    saturates: bool,
}

impl Quantized {
    /// To the type of the zero point, divided in f32.
    fn like(x: &Use<'_, '_, '_>, zero: V) -> Self {
        Self::to(x.dtype(zero), Some(zero))
    }

    /// To this type, divided in f32.
    pub(super) fn to(to: DType, zero: Option<V>) -> Self {
        Quantized { zero, to, precision: DType::F32, saturates: true }
    }
}

pub(super) fn quantize(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, scale, zero) = (x.input(0)?, x.input(1)?, x.optional(2));
    let given = x.element_type("output_dtype")?;
    let to = match (zero.map(|zero| x.dtype(zero)), given) {
        (Some(of_zero), Some(given)) if of_zero != given => {
            return Err(Fault::malformed(format!(
                "the zero point is {of_zero}, but output_dtype is {given}"
            )));
        }
        (of_zero, given) => of_zero.or(given).unwrap_or(DType::U8),
    };
    // The scale's type says in which the division is done, where it is one for that.
    let precision = match (x.element_type("precision")?, x.dtype(scale)) {
        (Some(given), _) if given.is_float() => given,
        (Some(given), _) => {
            return Err(Fault::malformed(format!("precision {given} is no floating-point type")));
        }
        (None, own) if own.is_float() => own,
        (None, own) if own.is_integer() => DType::F64,
        (None, _) => DType::F32,
    };
    let saturates = x.flag("saturate", true)?;
    let scale = spread(x, scale, operand)?;
    let zero = zero.map(|zero| spread(x, zero, operand)).transpose()?;
    let how = Quantized { zero, to, precision, saturates };
    Ok(vec![quantized(x, operand, scale, how)?])
}

/// `(v − zero)·scale`, in f32 (or wider, as the scale), rounded to a type once.
pub(super) fn dequantized(
    x: &mut Use<'_, '_, '_>,
    v: V,
    scale: V,
    zero: Option<V>,
    to: DType,
) -> Result<V, Fault> {
    let mut number = v;
    let exact = if x.dtype(v).is_code() { DType::F32 } else { DType::I32 };
    if let Some(zero) = zero {
        let (wide, zero) = (x.cast(v, exact)?, x.cast(zero, exact)?);
        number = x.binary(BinaryFn::Sub, wide, zero)?;
    }
    let wide = if to == DType::F64 { DType::F64 } else { DType::F32 };
    let (number, scale) = (x.cast(number, wide)?, x.cast(scale, wide)?);
    let product = x.binary(BinaryFn::Mul, number, scale)?;
    x.cast(product, to)
}

pub(super) fn dequantize(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, scale, zero) = (x.input(0)?, x.input(1)?, x.optional(2));
    if let Some(zero) = zero.filter(|&zero| x.dtype(zero) != x.dtype(operand)) {
        let (operand, zero) = (x.ty(operand), x.ty(zero));
        return Err(Fault::malformed(format!(
            "the zero point {zero} is for another type than {operand}"
        )));
    }
    let to = x.element_type("output_dtype")?.unwrap_or(x.dtype(scale));
    if !to.is_float() {
        return Err(Fault::malformed(format!(
            "output_dtype must say what the result is, not {to}"
        )));
    }
    let scale = spread(x, scale, operand)?;
    let zero = zero.map(|zero| spread(x, zero, operand)).transpose()?;
    Ok(vec![dequantized(x, operand, scale, zero, to)?])
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
    // Zeros alone have no range, and would have no scale.
    let ranges = x.with_number(BinaryFn::Greater, span, 0.0)?;
    let one = x.scalar(x.dtype(scale), 1.0)?;
    let scale = x.select(ranges, scale, one)?;
    let below = x.unary(UnaryFn::Neg, least)?;
    let ratio = x.binary(BinaryFn::Div, below, scale)?;
    let inside = x.with_number(BinaryFn::Max, ratio, 0.0)?;
    let inside = x.with_number(BinaryFn::Min, inside, 255.0)?;
    let rounded = x.unary(UnaryFn::Round, inside)?;
    let zero = x.cast(rounded, DType::U8)?;
    let result = quantized(x, operand, scale, Quantized::like(x, zero))?;
    Ok((result, scale, zero))
}

/// A product of quantised matrices, quantised.
fn quantized_product(x: &mut Use<'_, '_, '_>) -> Results {
    let mut shifted = Vec::with_capacity(2);
    let mut scales = Vec::with_capacity(2);
    for number in [0, 3] {
        let v = x.input(number)?;
        let exact = if x.dtype(v).is_code() { DType::F32 } else { DType::I32 };
        let wide = x.cast(v, exact)?;
        let (scale, zero) = (x.input(number + 1)?, x.input(number + 2)?);
        let zero = x.cast(zero, exact)?;
        // A vector is one for each row of the first operand, each column of the second.
        let rows = number == 0 && x.rank(zero) == 1 && !x.shape(zero)[0].is(1);
        let zero = if rows { x.along(zero, 0, 2)? } else { zero };
        scales.push(if rows { x.along(scale, 0, 2)? } else { scale });
        shifted.push(x.binary(BinaryFn::Sub, wide, zero)?);
    }
    let (scale, zero) = (x.input(6)?, x.input(7)?);
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
    Ok(vec![quantized(x, number, scale, Quantized::like(x, zero))?])
}

/// A convolution of quantised tensors, summed in 32 bits and quantised.
pub(super) fn quantized_convolution(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, w) = (x.input(0)?, x.input(3)?);
    let rank = x.rank(operand);
    if rank < 3 || x.rank(w) != rank {
        let (operand, w) = (x.ty(operand), x.ty(w));
        let message = format!("{operand} and filters {w} differ in spatial dimensions");
        return Err(Fault::malformed(message));
    }
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
    Ok(vec![quantized(x, number, scale, Quantized::like(x, zero))?])
}
