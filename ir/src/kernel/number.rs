//! Arithmetic of the kernel evaluator: numbers of every element type and the functions on them.
//!
//! Invariant: a number lies in the range of its element type; floats are computed in f64 and rounded
//! once for every function.

use super::Scalar;
use crate::op::{BinaryFn, ReduceFn, UnaryFn};
use half::{bf16, f16};
use kiln_tensor::DType;

/// A value of an element type. `bool` is carried as the integers 0 and 1, and what is only moved and
/// converted ([`DType::is_code`]) by its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Float(f64),
    Int(i128),
    Code(u128),
}

use Number::{Code, Float, Int};

impl Number {
    pub(crate) fn of(scalar: Scalar, dtype: DType) -> Number {
        match scalar {
            Scalar::Int(value) if dtype.is_code() => Code(u128::from(value as u64)),
            Scalar::Pair(low, high) => {
                Code(u128::from(low as u64) | u128::from(high as u64) << 64).rounded(dtype)
            }
            Scalar::Float(value) => Float(value).rounded(dtype),
            Scalar::Int(value) => Int(i128::from(value)).rounded(dtype),
        }
    }

    pub(crate) fn float(self) -> f64 {
        match self {
            Float(value) => value,
            Int(value) => value as f64,
            Code(bits) => bits as f64,
        }
    }

    pub(crate) fn int(self) -> i128 {
        match self {
            Float(value) => value as i128,
            Int(value) => value,
            Code(bits) => bits as i128,
        }
    }

    pub(crate) fn is_true(self) -> bool {
        self != Int(0) && self != Float(0.0)
    }

    /// The number as one of this type: floats rounded to nearest, integers wrapped.
    pub(crate) fn rounded(self, dtype: DType) -> Number {
        match dtype {
            DType::F64 => Float(self.float()),
            DType::F32 => Float(f64::from(self.float() as f32)),
            DType::F16 => Float(f16::from_f32(odd(self.float())).to_f64()),
            DType::BF16 => Float(bf16::from_f32(odd(self.float())).to_f64()),
            DType::Bool => Int(i128::from(self.is_true())),
            _ if dtype.is_code() => match self {
                Float(value) => Code(u128::from(dtype.encode(value).unwrap_or(0))),
                other => other,
            },
            _ => {
                let bits = dtype.bits();
                let low = self.int() & ((1i128 << bits) - 1);
                let negative = dtype.is_signed() && low >> (bits - 1) == 1;
                Int(if negative { low - (1i128 << bits) } else { low })
            }
        }
    }

    /// Conversion: floats to integers truncate and saturate, NaN gives 0, non-zero is true.
    pub(crate) fn cast(self, from: DType, to: DType) -> Number {
        if from == to {
            return self;
        }
        let value = match self {
            Code(bits) => Float(from.decode(bits as u8).unwrap_or(f64::NAN)),
            other => other,
        };
        match (value, to.integer_range()) {
            (Float(value), Some((least, most))) if to != DType::Bool => {
                Int((value as i128).clamp(least, most))
            }
            (Int(value), _) if to.is_code() => Float(value as f64).rounded(to),
            (other, _) => other.rounded(to),
        }
    }

    /// The number of another type that has the same bits.
    pub(crate) fn bit_cast(self, from: DType, to: DType) -> Option<Number> {
        let mut bytes = self.store(from);
        if let [byte] = bytes.as_mut_slice() {
            *byte = to.extended(*byte);
        }
        Number::load(to, &bytes)
    }

    /// Reads the element of this type at the start of `bytes` (little-endian).
    pub(crate) fn load(dtype: DType, bytes: &[u8]) -> Option<Number> {
        fn part<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.get(..N)?.try_into().ok()
        }
        Some(match dtype {
            DType::Bool => Int(i128::from(*bytes.first()? != 0)),
            DType::U8 => Int(i128::from(*bytes.first()?)),
            DType::U16 => Int(i128::from(u16::from_le_bytes(part(bytes)?))),
            DType::U32 => Int(i128::from(u32::from_le_bytes(part(bytes)?))),
            DType::U64 => Int(i128::from(u64::from_le_bytes(part(bytes)?))),
            DType::I8 => Int(i128::from(i8::from_le_bytes(part(bytes)?))),
            DType::I16 => Int(i128::from(i16::from_le_bytes(part(bytes)?))),
            DType::I32 => Int(i128::from(i32::from_le_bytes(part(bytes)?))),
            DType::I64 => Int(i128::from(i64::from_le_bytes(part(bytes)?))),
            DType::F16 => Float(f16::from_le_bytes(part(bytes)?).to_f64()),
            DType::BF16 => Float(bf16::from_le_bytes(part(bytes)?).to_f64()),
            DType::F32 => Float(f64::from(f32::from_le_bytes(part(bytes)?))),
            DType::F64 => Float(f64::from_le_bytes(part(bytes)?)),
            DType::U2 | DType::U4 => Int(i128::from(*bytes.first()?)),
            DType::I2 | DType::I4 => Int(i128::from(*bytes.first()? as i8)),
            DType::C64 => Code(u128::from(u64::from_le_bytes(part(bytes)?))),
            handle if handle.is_handle() => Code(u128::from(u64::from_le_bytes(part(bytes)?))),
            DType::C128 => Code(u128::from_le_bytes(part(bytes)?)),
            _ => Code(u128::from(*bytes.first()?)),
        })
    }

    /// The bytes of the number as this type.
    pub(crate) fn store(self, dtype: DType) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(dtype.size());
        self.append(dtype, &mut bytes);
        bytes
    }

    /// Appends the bytes of the number as this type.
    pub(crate) fn append(self, dtype: DType, to: &mut Vec<u8>) {
        let (float, int) = (self.float(), self.int());
        match dtype {
            DType::Bool => to.push(u8::from(self.is_true())),
            DType::U8 | DType::I8 | DType::U2 | DType::U4 | DType::I2 | DType::I4 => {
                to.push(int as u8);
            }
            DType::U16 | DType::I16 => to.extend((int as u16).to_le_bytes()),
            DType::U32 | DType::I32 => to.extend((int as u32).to_le_bytes()),
            DType::U64 | DType::I64 => to.extend((int as u64).to_le_bytes()),
            DType::F16 => to.extend(f16::from_f32(odd(float)).to_le_bytes()),
            DType::BF16 => to.extend(bf16::from_f32(odd(float)).to_le_bytes()),
            DType::F32 => to.extend((float as f32).to_le_bytes()),
            DType::F64 => to.extend(float.to_le_bytes()),
            code => {
                let Code(bits) = self.rounded(code) else { return };
                to.extend(&bits.to_le_bytes()[..code.size()]);
            }
        }
    }

    /// A function of one number of type `dtype`.
    pub(crate) fn unary(f: UnaryFn, x: Number, dtype: DType) -> Number {
        let result = f.result(dtype).unwrap_or(dtype);
        match x {
            Float(x) => float_unary(f, x),
            Int(x) => Int(match f {
                UnaryFn::Neg => -x,
                UnaryFn::Abs => x.abs(),
                UnaryFn::Sign => x.signum(),
                UnaryFn::Relu => x.max(0),
                UnaryFn::Not => 1 - x,
                UnaryFn::BitNot => !x,
                _ => x,
            }),
            Code(_) => Float(f64::NAN),
        }
        .rounded(result)
    }

    /// A function of two numbers of type `dtype`. An integer divided by zero has no value that
    /// anything may depend on: it is taken as divided by one.
    pub(crate) fn binary(f: BinaryFn, a: Number, b: Number, dtype: DType) -> Number {
        let result = f.result(dtype).unwrap_or(dtype);
        let truth = |truth: bool| Int(i128::from(truth));
        match (a, b) {
            (Code(a), Code(b)) if f == BinaryFn::Equal => truth(a == b),
            (Int(a), Int(b)) => {
                let divisor = if b == 0 { 1 } else { b };
                let bits = dtype.size() as i128 * 8;
                match f {
                    BinaryFn::Add => Int(a + b),
                    BinaryFn::Sub => Int(a - b),
                    BinaryFn::Mul => Int(a.wrapping_mul(b)),
                    BinaryFn::Div => Int(a / divisor),
                    BinaryFn::Rem => Int(a % divisor),
                    BinaryFn::Mod => Int((a % divisor + divisor) % divisor),
                    BinaryFn::Pow => Int(int_pow(a, b)),
                    BinaryFn::Min => Int(a.min(b)),
                    BinaryFn::Max => Int(a.max(b)),
                    BinaryFn::And | BinaryFn::BitAnd => Int(a & b),
                    BinaryFn::Or | BinaryFn::BitOr => Int(a | b),
                    BinaryFn::Xor | BinaryFn::BitXor => Int(a ^ b),
                    BinaryFn::Shl if (0..bits).contains(&b) => Int(a.wrapping_shl(b as u32)),
                    BinaryFn::Shl => Int(0),
                    BinaryFn::Shr if (0..bits).contains(&b) => Int(a >> b),
                    BinaryFn::Shr => Int(if a < 0 { -1 } else { 0 }),
                    BinaryFn::Equal => truth(a == b),
                    BinaryFn::Less => truth(a < b),
                    BinaryFn::LessEqual => truth(a <= b),
                    BinaryFn::Greater => truth(a > b),
                    BinaryFn::GreaterEqual => truth(a >= b),
                }
            }
            (a, b) => {
                let (a, b) = (a.float(), b.float());
                match f {
                    BinaryFn::Add => Float(a + b),
                    BinaryFn::Sub => Float(a - b),
                    BinaryFn::Mul => Float(a * b),
                    BinaryFn::Div => Float(a / b),
                    BinaryFn::Rem => Float(a % b),
                    BinaryFn::Mod => {
                        let rest = a % b;
                        Float(if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
                            rest + b
                        } else {
                            rest
                        })
                    }
                    BinaryFn::Pow => Float(a.powf(b)),
                    BinaryFn::Min if a.is_nan() || b.is_nan() => Float(f64::NAN),
                    BinaryFn::Max if a.is_nan() || b.is_nan() => Float(f64::NAN),
                    BinaryFn::Min => Float(a.min(b)),
                    BinaryFn::Max => Float(a.max(b)),
                    BinaryFn::Equal => truth(a == b),
                    BinaryFn::Less => truth(a < b),
                    BinaryFn::LessEqual => truth(a <= b),
                    BinaryFn::Greater => truth(a > b),
                    BinaryFn::GreaterEqual => truth(a >= b),
                    _ => Float(f64::NAN),
                }
            }
        }
        .rounded(result)
    }

    /// What a reduction starts from.
    pub(crate) fn neutral(f: ReduceFn, dtype: DType) -> Number {
        let (least, most) = range(dtype);
        let float = dtype.is_float();
        match f {
            ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Any => Int(0).rounded(dtype),
            ReduceFn::Prod | ReduceFn::All => Int(1).rounded(dtype),
            ReduceFn::Max if float => Float(f64::NEG_INFINITY),
            ReduceFn::Min if float => Float(f64::INFINITY),
            ReduceFn::Max => Int(least),
            ReduceFn::Min => Int(most),
        }
    }

    /// Two values of a reduction as one.
    pub(crate) fn combine(f: ReduceFn, a: Number, b: Number, dtype: DType) -> Number {
        let function = match f {
            ReduceFn::Sum | ReduceFn::Mean => BinaryFn::Add,
            ReduceFn::Max => BinaryFn::Max,
            ReduceFn::Min => BinaryFn::Min,
            ReduceFn::Prod => BinaryFn::Mul,
            ReduceFn::Any => BinaryFn::Or,
            ReduceFn::All => BinaryFn::And,
        };
        Number::binary(function, a, b, dtype)
    }
}

/// The number in binary32, rounded to odd: rounding that once more to a 16-bit type gives what
/// rounding the number itself would give (Boldo and Melquiond, 2008), which rounding to nearest
/// twice does not.
fn odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if back == value || !nearest.is_finite() || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // The neighbour on the other side of the value has an odd last bit. Bits of floats of one
    // sign are ordered by magnitude.
    let toward_zero = back.abs() > value.abs();
    let bits = nearest.to_bits();
    f32::from_bits(if toward_zero { bits - 1 } else { bits + 1 })
}

/// Least and greatest value of an exact type.
fn range(dtype: DType) -> (i128, i128) {
    dtype.integer_range().unwrap_or((0, 0))
}

/// Wraps in 128 bits, which leaves the low 64 right; negative powers truncate towards zero.
fn int_pow(base: i128, exponent: i128) -> i128 {
    match (base, exponent) {
        (_, 0..) => {
            let (mut power, mut square, mut rest) = (1i128, base, exponent);
            while rest > 0 {
                if rest & 1 == 1 {
                    power = power.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                rest >>= 1;
            }
            power
        }
        (1, _) => 1,
        (-1, _) if exponent % 2 == 0 => 1,
        (-1, _) => -1,
        _ => 0,
    }
}

fn float_unary(f: UnaryFn, x: f64) -> Number {
    let root_half = std::f64::consts::FRAC_1_SQRT_2;
    Float(match f {
        UnaryFn::IsNan => return Int(i128::from(x.is_nan())),
        UnaryFn::IsInf => return Int(i128::from(x.is_infinite())),
        UnaryFn::Neg => -x,
        UnaryFn::Abs => x.abs(),
        UnaryFn::Sign if x == 0.0 || x.is_nan() => x,
        UnaryFn::Sign => x.signum(),
        UnaryFn::Exp => x.exp(),
        UnaryFn::Log => x.ln(),
        UnaryFn::Sqrt => x.sqrt(),
        UnaryFn::Rsqrt => 1.0 / x.sqrt(),
        UnaryFn::Reciprocal => 1.0 / x,
        UnaryFn::Sin => x.sin(),
        UnaryFn::Cos => x.cos(),
        UnaryFn::Tan => x.tan(),
        UnaryFn::Asin => x.asin(),
        UnaryFn::Acos => x.acos(),
        UnaryFn::Atan => x.atan(),
        UnaryFn::Sinh => x.sinh(),
        UnaryFn::Cosh => x.cosh(),
        UnaryFn::Asinh => x.asinh(),
        UnaryFn::Acosh => x.acosh(),
        UnaryFn::Atanh => x.atanh(),
        UnaryFn::Tanh => x.tanh(),
        UnaryFn::Erf => erf(x),
        UnaryFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryFn::Floor => x.floor(),
        UnaryFn::Ceil => x.ceil(),
        UnaryFn::Round => x.round_ties_even(),
        UnaryFn::Relu if x.is_nan() => x,
        UnaryFn::Relu => x.max(0.0),
        UnaryFn::Gelu => x * (1.0 + erf(x * root_half)) / 2.0,
        UnaryFn::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * (1.0 + inner.tanh()) / 2.0
        }
        UnaryFn::Silu => x / (1.0 + (-x).exp()),
        UnaryFn::Not | UnaryFn::BitNot => f64::NAN,
    })
}

/// The error function: its power series (DLMF 7.6.2) near zero, the continued fraction of erfc
/// (DLMF 7.9.1) further out.
fn erf(x: f64) -> f64 {
    let root_pi = std::f64::consts::PI.sqrt();
    if x.is_nan() {
        return x;
    }
    if x.abs() > 6.0 {
        return x.signum();
    }
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        return 2.0 / root_pi * (-x * x).exp() * sum;
    }
    let a = x.abs();
    let tail = (1..60).rev().fold(a, |tail, n| a + f64::from(n) / 2.0 / tail);
    x.signum() * (1.0 - (-a * a).exp() / (root_pi * tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_accurate() {
        let known = [
            (0.1, 0.1124629160182849),
            (1.0, 0.8427007929497149),
            (2.4, 0.9993114861033549),
            (2.6, 0.9997639655834707),
            (4.0, 0.9999999845827421),
        ];
        for (x, expected) in known {
            assert!((erf(x) - expected).abs() < 1e-14, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + expected).abs() < 1e-14, "erf(-{x})");
        }
    }

    #[test]
    fn numbers_are_rounded_to_16_bits_once() {
        let half_unit = 2f64.powi(-11);
        let above = 1.0 + half_unit + 2f64.powi(-40);
        assert_eq!(Float(1.0 + half_unit).rounded(DType::F16), Float(1.0));
        assert_eq!(Float(above).rounded(DType::F16), Float(1.0 + 2.0 * half_unit));
        assert_eq!(Float(-above).rounded(DType::F16), Float(-1.0 - 2.0 * half_unit));
        let above = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        assert_eq!(Float(above).rounded(DType::BF16), Float(1.0 + 2f64.powi(-7)));
        assert_eq!(Float(1e300).rounded(DType::BF16), Float(f64::INFINITY));
        assert_eq!(Float(1e-300).rounded(DType::F16), Float(0.0));
    }

    #[test]
    fn integers_wrap_and_floats_saturate_on_conversion() {
        assert_eq!(Number::binary(BinaryFn::Add, Int(200), Int(100), DType::U8), Int(44));
        assert_eq!(Number::unary(UnaryFn::Neg, Int(-128), DType::I8), Int(-128));
        assert_eq!(Float(1e9).cast(DType::F64, DType::I8), Int(127));
        assert_eq!(Float(f64::NAN).cast(DType::F64, DType::I32), Int(0));
        assert_eq!(Int(300).cast(DType::I32, DType::U8), Int(44));
        assert_eq!(Number::binary(BinaryFn::Mod, Int(-7), Int(3), DType::I32), Int(2));
        assert_eq!(Number::binary(BinaryFn::Rem, Int(-7), Int(3), DType::I32), Int(-1));
    }
}
