//! Conversions between types (PTX ISA, cvt).
//!
//! Invariant: one rounding a conversion; integers of 64 bits reach a float by way of a value rounded to odd.

use crate::instruction::Conversion;
use crate::lanes::{Lanes, WIDTH};
use crate::number::{
    BF16, CANONICAL_NAN, E4M3, E5M2, F16, F32, Format, Rounding, TF32, sum_to_odd, to_integer,
};
use crate::syntax::{Type, low_bits, sign_extend};

fn format(kind: Type) -> Option<Format> {
    Some(match kind {
        Type::F16 | Type::F16x2 => F16,
        Type::BF16 | Type::BF16x2 => BF16,
        Type::TF32 => TF32,
        Type::F32 => F32,
        Type::E4M3 | Type::E4M3x2 => E4M3,
        Type::E5M2 | Type::E5M2x2 => E5M2,
        _ => return None,
    })
}

/// Bits of one element of a packed type.
fn element_bits(kind: Type) -> u32 {
    match kind {
        Type::F16x2 | Type::BF16x2 => 16,
        Type::E4M3x2 | Type::E5M2x2 => 8,
        other => other.bits(),
    }
}

fn integer_to_integer(c: &Conversion, a: u64) -> u64 {
    let value = if c.from.is_signed() {
        i128::from(sign_extend(a, c.from.bits()) as i64)
    } else {
        i128::from(a & low_bits(c.from.bits()))
    };
    let bits = c.to.bits();
    let value = if !c.saturate {
        value
    } else if c.to.is_signed() {
        value.clamp(-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        value.clamp(0, (1i128 << bits) - 1)
    };
    spread(c, value as u64)
}

/// The result in its register: integers fill it, with their sign where they have one.
fn spread(c: &Conversion, value: u64) -> u64 {
    let bits = c.to.bits();
    let value = if c.to.is_signed() { sign_extend(value, bits) } else { value & low_bits(bits) };
    value & low_bits(c.bits)
}

/// The value of an operand, and whether it is an integer that no `f64` holds: then rounded to odd.
fn value(c: &Conversion, a: u64) -> f64 {
    if c.from == Type::F64 {
        return f64::from_bits(a);
    }
    if let Some(format) = format(c.from) {
        let value = format.decode(a & low_bits(element_bits(c.from)));
        // `.ftz` is about f32 only.
        let subnormal = c.from == Type::F32 && f32::from_bits(a as u32).is_subnormal();
        return if c.flush && subnormal { 0.0f64.copysign(value) } else { value };
    }
    let bits = c.from.bits();
    let signed = c.from.is_signed();
    let whole = if signed {
        i128::from(sign_extend(a, bits) as i64)
    } else {
        i128::from(a & low_bits(bits))
    };
    if bits <= 32 {
        return whole as f64;
    }
    // Both parts are exact.
    let (high, low) = (whole >> 32, whole & 0xffff_ffff);
    sum_to_odd(high as f64 * 4294967296.0, low as f64)
}

/// Rounds to the result's format.
fn to_float(c: &Conversion, value: f64) -> u64 {
    let mut value = value;
    if c.integral {
        value = match c.rounding {
            Rounding::Nearest => value.round_ties_even(),
            Rounding::Away => value.round(),
            Rounding::Zero => value.trunc(),
            Rounding::Down => value.floor(),
            Rounding::Up => value.ceil(),
        };
    }
    if c.saturate {
        value = if value > 0.0 { value.min(1.0) } else { 0.0 };
    }
    if c.relu && value <= 0.0 {
        value = 0.0;
    }
    let Some(format) = format(c.to) else { return value.to_bits() };
    if value.is_nan() && c.to == Type::F32 {
        return u64::from(CANONICAL_NAN);
    }
    let bits = format.encode(value, c.rounding, c.finite);
    let small = c.to == Type::F32 && c.flush && f32::from_bits(bits as u32).is_subnormal();
    if small { bits & 0x8000_0000 } else { bits }
}

fn scalar(c: &Conversion, a: u64) -> u64 {
    match (c.from.is_integer(), c.to.is_integer()) {
        (true, true) => integer_to_integer(c, a),
        (true, false) if c.to == Type::F64 => {
            // An `f64` that is rounded once more would be rounded twice.
            let bits = c.from.bits();
            if c.from.is_signed() {
                (sign_extend(a, bits) as i64 as f64).to_bits()
            } else {
                ((a & low_bits(bits)) as f64).to_bits()
            }
        }
        (_, false) => to_float(c, value(c, a)),
        (false, true) => {
            let whole = to_integer(value(c, a), c.rounding, c.to.bits(), c.to.is_signed());
            spread(c, whole)
        }
    }
}

/// A conversion of all lanes. Of two operands the first is the upper half.
pub(crate) fn convert(c: &Conversion, a: &Lanes, b: Option<&Lanes>) -> Lanes {
    let mut out = [0; WIDTH];
    let bits = element_bits(c.to);
    for lane in 0..WIDTH {
        out[lane] = match b {
            Some(b) => scalar(c, a[lane]) << bits | scalar(c, b[lane]),
            None if bits != c.to.bits() => {
                let from = element_bits(c.from);
                scalar(c, a[lane] >> from & low_bits(from)) << bits
                    | scalar(c, a[lane] & low_bits(from))
            }
            None => scalar(c, a[lane]),
        };
    }
    out
}
