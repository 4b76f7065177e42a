//! Operators that treat every element alone and have a core operation of their own, or are one
//! with another element type.
//!
//! Invariant: element types are ONNX's: where operands may differ in type, the result's is chosen
//! as the standard does.

use super::build::V;
use super::fault::Fault;
use super::legacy;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Abs", 1, |x| unary(x, UnaryFn::Abs)),
    onnx("Acos", 7, |x| unary(x, UnaryFn::Acos)),
    onnx("Acosh", 9, |x| unary(x, UnaryFn::Acosh)),
    onnx("Add", 1, |x| binary(x, BinaryFn::Add)),
    onnx("And", 1, |x| binary(x, BinaryFn::And)),
    onnx("Asin", 7, |x| unary(x, UnaryFn::Asin)),
    onnx("Asinh", 9, |x| unary(x, UnaryFn::Asinh)),
    onnx("Atan", 7, |x| unary(x, UnaryFn::Atan)),
    onnx("Atanh", 9, |x| unary(x, UnaryFn::Atanh)),
    onnx("BitShift", 11, bit_shift),
    onnx("BitwiseAnd", 18, |x| binary(x, BinaryFn::BitAnd)),
    onnx("BitwiseNot", 18, |x| unary(x, UnaryFn::BitNot)),
    onnx("BitwiseOr", 18, |x| binary(x, BinaryFn::BitOr)),
    onnx("BitwiseXor", 18, |x| binary(x, BinaryFn::BitXor)),
    onnx("Ceil", 1, |x| unary(x, UnaryFn::Ceil)),
    onnx("Clip", 1, clip),
    onnx("Cos", 7, |x| unary(x, UnaryFn::Cos)),
    onnx("Cosh", 9, |x| unary(x, UnaryFn::Cosh)),
    onnx("Div", 1, |x| binary(x, BinaryFn::Div)),
    onnx("Equal", 1, |x| binary(x, BinaryFn::Equal)),
    onnx("Erf", 9, |x| unary(x, UnaryFn::Erf)),
    onnx("Exp", 1, |x| unary(x, UnaryFn::Exp)),
    onnx("Floor", 1, |x| unary(x, UnaryFn::Floor)),
    onnx("Greater", 1, |x| binary(x, BinaryFn::Greater)),
    onnx("GreaterOrEqual", 12, |x| binary(x, BinaryFn::GreaterEqual)),
    onnx("IsInf", 10, is_inf),
    onnx("IsNaN", 9, |x| unary(x, UnaryFn::IsNan)),
    onnx("Less", 1, |x| binary(x, BinaryFn::Less)),
    onnx("LessOrEqual", 12, |x| binary(x, BinaryFn::LessEqual)),
    onnx("Log", 1, |x| unary(x, UnaryFn::Log)),
    onnx("Max", 1, |x| variadic(x, BinaryFn::Max)),
    onnx("Mean", 1, mean),
    onnx("Min", 1, |x| variadic(x, BinaryFn::Min)),
    onnx("Mod", 10, modulo),
    onnx("Mul", 1, |x| binary(x, BinaryFn::Mul)),
    onnx("Neg", 1, |x| unary(x, UnaryFn::Neg)),
    onnx("Not", 1, |x| unary(x, UnaryFn::Not)),
    onnx("Or", 1, |x| binary(x, BinaryFn::Or)),
    onnx("Pow", 1, power),
    onnx("Reciprocal", 1, |x| unary(x, UnaryFn::Reciprocal)),
    onnx("Relu", 1, |x| unary(x, UnaryFn::Relu)),
    onnx("Round", 11, |x| unary(x, UnaryFn::Round)),
    onnx("Sigmoid", 1, |x| unary(x, UnaryFn::Sigmoid)),
    onnx("Sign", 9, |x| unary(x, UnaryFn::Sign)),
    onnx("Sin", 7, |x| unary(x, UnaryFn::Sin)),
    onnx("Sinh", 9, |x| unary(x, UnaryFn::Sinh)),
    onnx("Sqrt", 1, |x| unary(x, UnaryFn::Sqrt)),
    onnx("Sub", 1, |x| binary(x, BinaryFn::Sub)),
    onnx("Sum", 1, |x| variadic(x, BinaryFn::Add)),
    onnx("Tan", 7, |x| unary(x, UnaryFn::Tan)),
    onnx("Tanh", 1, |x| unary(x, UnaryFn::Tanh)),
    onnx("Where", 9, where_),
    onnx("Xor", 1, |x| binary(x, BinaryFn::Xor)),
];

fn unary(x: &mut Use<'_, '_, '_>, f: UnaryFn) -> Results {
    let operand = x.input(0)?;
    Ok(vec![x.unary(f, operand)?])
}

fn binary(x: &mut Use<'_, '_, '_>, f: BinaryFn) -> Results {
    let (a, b) = legacy::operands(x)?;
    Ok(vec![x.binary(f, a, b)?])
}

fn fold(x: &mut Use<'_, '_, '_>, f: BinaryFn) -> Result<V, Fault> {
    let operands = legacy::many(x)?;
    let mut result = x.input(0)?;
    for operand in operands.into_iter().skip(1) {
        result = x.binary(f, result, operand)?;
    }
    Ok(result)
}

fn variadic(x: &mut Use<'_, '_, '_>, f: BinaryFn) -> Results {
    Ok(vec![fold(x, f)?])
}

fn mean(x: &mut Use<'_, '_, '_>) -> Results {
    let sum = fold(x, BinaryFn::Add)?;
    let count = x.inputs.len() as f64;
    Ok(vec![x.with_number(BinaryFn::Div, sum, count)?])
}

fn bit_shift(x: &mut Use<'_, '_, '_>) -> Results {
    let f = match x.string_or("direction", "")? {
        "LEFT" => BinaryFn::Shl,
        "RIGHT" => BinaryFn::Shr,
        other => return Err(Fault::malformed(format!("direction `{other}` is not known"))),
    };
    binary(x, f)
}

fn modulo(x: &mut Use<'_, '_, '_>) -> Results {
    if x.flag("fmod", false)? {
        return binary(x, BinaryFn::Rem);
    }
    let rest = binary(x, BinaryFn::Mod)?.pop().ok_or(Fault::Silent)?;
    let dtype = x.dtype(rest);
    if !dtype.is_float() {
        return Ok(vec![rest]);
    }
    // A rest of zero has the divisor's sign, too.
    let divisor = x.input(1)?;
    let (zero, minus) = (x.scalar(dtype, 0.0)?, x.scalar(dtype, -0.0)?);
    let negative = x.binary(BinaryFn::Less, divisor, zero)?;
    let signed = x.select(negative, minus, zero)?;
    let none = x.binary(BinaryFn::Equal, rest, zero)?;
    Ok(vec![x.select(none, signed, rest)?])
}

/// The exponent may be of another type; the result has the base's.
fn power(x: &mut Use<'_, '_, '_>) -> Results {
    let (base, exponent) = legacy::operands(x)?;
    let (to, of) = (x.dtype(base), x.dtype(exponent));
    // Computed in the type that holds fractions, if one does.
    let common = if !to.is_float() && of.is_float() { of } else { to };
    let (base, exponent) = (x.cast(base, common)?, x.cast(exponent, common)?);
    let result = x.binary(BinaryFn::Pow, base, exponent)?;
    Ok(vec![x.cast(result, to)?])
}

fn is_inf(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let both = (x.flag("detect_negative", true)?, x.flag("detect_positive", true)?);
    let infinite = x.unary(UnaryFn::IsInf, operand)?;
    let sign = match both {
        (true, true) => return Ok(vec![infinite]),
        (true, false) => BinaryFn::Less,
        (false, true) => BinaryFn::Greater,
        (false, false) => {
            // Never both infinite and not.
            let finite = x.unary(UnaryFn::Not, infinite)?;
            return Ok(vec![x.binary(BinaryFn::And, infinite, finite)?]);
        }
    };
    let of_sign = x.with_number(sign, operand, 0.0)?;
    Ok(vec![x.binary(BinaryFn::And, infinite, of_sign)?])
}

/// Bounds were attributes up to opset 10. If the lower is above the upper, the upper counts.
fn clip(x: &mut Use<'_, '_, '_>) -> Results {
    let mut result = x.input(0)?;
    for (number, name, f) in [(1, "min", BinaryFn::Max), (2, "max", BinaryFn::Min)] {
        if x.opset() >= 11 {
            if let Some(bound) = x.optional(number) {
                if !x.ty(bound).elements().is(1) {
                    let bound = x.ty(bound);
                    return Err(Fault::malformed(format!(
                        "`{name}` must be one number, not {bound}"
                    )));
                }
                let bound = x.reshape(bound, Vec::new())?;
                result = x.binary(f, result, bound)?;
            }
        } else if let Some(bound) = x.float(name)? {
            result = x.with_number(f, result, bound)?;
        }
    }
    Ok(vec![result])
}

fn where_(x: &mut Use<'_, '_, '_>) -> Results {
    let (condition, a, b) = (x.input(0)?, x.input(1)?, x.input(2)?);
    if x.dtype(condition) != DType::Bool {
        return Err(Fault::malformed("the condition must be bool"));
    }
    Ok(vec![x.select(condition, a, b)?])
}
