//! Numbers in another element type, by value (`Cast`) or by bits (`BitCast`).
//!
//! Invariant: a number is rounded once. What is out of range follows ONNX's tables: saturated floats
//! of 8 bits are the plain conversion of what lies between their greatest numbers, and integers of
//! fewer than 8 bits keep the low bits.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::text;
use crate::proto::tensor_proto::DataType;
use crate::read::element_type;
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::{DType, Special};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("BitCast", 26, bit_cast), onnx("Cast", 1, cast), onnx("CastLike", 15, cast_like)];

/// How a power of two is chosen for a number between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounding {
    Up,
    Down,
    /// The nearest, and the upper one from the middle.
    Nearest,
}

fn cast(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let to = if x.opset() < 6 { named_type(x)? } else { x.element_type("to")? };
    let to = to.ok_or_else(|| Fault::malformed("attribute `to` is missing"))?;
    Ok(vec![with_attributes(x, operand, to)?])
}

/// The element type that opset 1 to 5 give by name.
fn named_type(x: &Use<'_, '_, '_>) -> Result<Option<DType>, Fault> {
    let to = x.string_or("to", "")?;
    let known = DataType::from_str_name(&to.to_uppercase());
    let number = known.ok_or_else(|| Fault::malformed(format!("type `{to}` is not known")))?;
    let dtype = element_type(number.into());
    dtype.map(Some).map_err(|error| Fault::unsupported(error.to_string(), error.help()))
}

fn cast_like(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, like) = (x.input(0)?, x.input(1)?);
    let to = x.dtype(like);
    Ok(vec![with_attributes(x, operand, to)?])
}

fn with_attributes(x: &mut Use<'_, '_, '_>, operand: V, to: DType) -> Result<V, Fault> {
    if let Some(made) = text::converted(x, operand, to)? {
        return Ok(made);
    }
    let saturates = x.flag("saturate", true)?;
    if to != DType::F8E8M0 || x.dtype(operand) == to {
        return converted(x, operand, to, saturates);
    }
    let rounding = match x.string_or("round_mode", "up")? {
        "up" => Rounding::Up,
        "down" => Rounding::Down,
        "nearest" => Rounding::Nearest,
        other => return Err(Fault::malformed(format!("round_mode `{other}` is not known"))),
    };
    power_of_two(x, operand, rounding, saturates)
}

/// The number in an element type other than `f8e8m0`, out of range as ONNX says.
pub(super) fn converted(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    to: DType,
    saturates: bool,
) -> Result<V, Fault> {
    let from = x.dtype(operand);
    let is_number = from.is_integer() || from.is_float();
    match to.format() {
        Some(format) if saturates && from != to && format.special != Special::None => {
            let wide = match from {
                _ if from.is_float() => from,
                _ if from.is_integer() && from.size() == 8 => DType::F64,
                _ => DType::F32,
            };
            let number = x.cast(operand, wide)?;
            let most = format.greatest();
            let above = x.with_number(BinaryFn::Max, number, -most)?;
            let inside = x.with_number(BinaryFn::Min, above, most)?;
            x.cast(inside, to)
        }
        None if to.bits() < 8 && !(is_number && from.is_integer()) && from != DType::Bool => {
            // Floats are truncated to integers of which the low bits are kept.
            let whole = x.cast(operand, DType::I32)?;
            x.cast(whole, to)
        }
        _ => x.cast(operand, to),
    }
}

/// A number as a power of two, its sign left out; from the bits of an f64, whose exponent rounds up
/// where adding to the fraction carries into it. What `f8e8m0` has no code for is NaN, or the least
/// or greatest power where it saturates, as ONNX's table has it (zero and infinity too).
fn power_of_two(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    rounding: Rounding,
    saturates: bool,
) -> Result<V, Fault> {
    /// Bits of the fraction, and the exponent of code 0.
    const FRACTION: u32 = 52;
    const LEAST: i64 = 1023 - 127;
    let wide = x.cast(operand, DType::F64)?;
    let size = x.unary(UnaryFn::Abs, wide)?;
    let bits = x.add(op::BitCast { to: DType::I64 }, &[size])?;
    let carry = match rounding {
        Rounding::Up => (1u64 << FRACTION) - 1,
        Rounding::Down => 0,
        Rounding::Nearest => 1 << (FRACTION - 1),
    };
    let rounded = x.with_number(BinaryFn::Add, bits, carry as f64)?;
    let exponent = x.with_number(BinaryFn::Shr, rounded, f64::from(FRACTION))?;
    let code = x.with_number(BinaryFn::Sub, exponent, LEAST as f64)?;
    let above = x.with_number(BinaryFn::Max, code, 0.0)?;
    let inside = x.with_number(BinaryFn::Min, above, 254.0)?;
    let nan = x.scalar(DType::I64, 255.0)?;
    let outside = if saturates {
        x.unary(UnaryFn::IsNan, wide)?
    } else {
        let large = x.with_number(BinaryFn::Greater, code, 254.0)?;
        let small = x.with_number(BinaryFn::Less, size, 2f64.powi(-127))?;
        x.binary(BinaryFn::Or, large, small)?
    };
    let code = x.select(outside, nan, inside)?;
    let code = x.cast(code, DType::U8)?;
    x.add(op::BitCast { to: DType::F8E8M0 }, &[code])
}

fn bit_cast(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let to = x.element_type("to")?.ok_or_else(|| Fault::malformed("attribute `to` is missing"))?;
    Ok(vec![x.add(op::BitCast { to }, &[operand])?])
}

impl Use<'_, '_, '_> {
    /// An attribute that is the number of an element type; 0 is none.
    pub(super) fn element_type(&self, name: &str) -> Result<Option<DType>, Fault> {
        let Some(number) = self.int(name)?.filter(|&number| number != 0) else { return Ok(None) };
        let number = i32::try_from(number)
            .map_err(|_| Fault::malformed(format!("type {number} is not known")))?;
        let dtype = element_type(number).map_err(|error| Fault::malformed(error.to_string()))?;
        Ok(Some(dtype))
    }
}
