//! Element types and the Rust types that carry them.
//!
//! Invariant: `DType` is the only list of element types; names in text forms come from it. There is
//! arithmetic on `bool`, integers of 8 to 64 bits and floats of 16 to 64; all other types are only
//! moved and converted. An element of fewer than 8 bits fills a byte: integers are extended as their
//! sign says, codes of floats with zeros.

mod format;

pub use format::{FloatFormat, Special};
pub(crate) use format::{nearest_scale, scale_of};

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The type of one tensor element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Unsigned 2-bit integer.
    U2,
    /// Unsigned 4-bit integer.
    U4,
    /// Signed 2-bit integer.
    I2,
    /// Signed 4-bit integer.
    I4,
    /// Float of 2 exponent and 1 fraction bits, all of them finite.
    F4E2M1,
    /// Float of 2 exponent and 3 fraction bits, all of them finite.
    F6E2M3,
    /// Float of 3 exponent and 2 fraction bits, all of them finite.
    F6E3M2,
    /// Float of 4 exponent and 3 fraction bits, with NaN and without infinity.
    F8E4M3FN,
    /// Float of 4 exponent and 3 fraction bits, whose negative zero is NaN.
    F8E4M3FNUZ,
    /// Float of 5 exponent and 2 fraction bits, with NaN and infinity.
    F8E5M2,
    /// Float of 5 exponent and 2 fraction bits, whose negative zero is NaN.
    F8E5M2FNUZ,
    /// A power of two from 2⁻¹²⁷ to 2¹²⁷, or NaN.
    F8E8M0,
    /// Two binary32: real and imaginary part.
    C64,
    /// Two binary64: real and imaginary part.
    C128,
    /// Text, by a handle into a table of [`crate::Objects`].
    String,
    /// A list of tensors, by a handle likewise.
    Sequence,
    /// A list of at most one tensor, which may itself hold a list.
    Optional,
    /// A list of two tensors: keys and values.
    Map,
}

impl DType {
    /// Every element type, in declaration order.
    pub const ALL: [DType; 31] = [
        DType::Bool,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::U2,
        DType::U4,
        DType::I2,
        DType::I4,
        DType::F4E2M1,
        DType::F6E2M3,
        DType::F6E3M2,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::C64,
        DType::C128,
        DType::String,
        DType::Sequence,
        DType::Optional,
        DType::Map,
    ];

    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    /// Bits of an element that mean something.
    pub const fn bits(self) -> u32 {
        match self {
            DType::U2 | DType::I2 => 2,
            DType::U4 | DType::I4 | DType::F4E2M1 => 4,
            DType::F6E2M3 | DType::F6E3M2 => 6,
            DType::Bool | DType::U8 | DType::I8 => 8,
            DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F8E8M0 => 8,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 16,
            DType::U32 | DType::I32 | DType::F32 => 32,
            DType::U64 | DType::I64 | DType::F64 | DType::C64 => 64,
            DType::String | DType::Sequence | DType::Optional | DType::Map => 64,
            DType::C128 => 128,
        }
    }

    /// The name used in text forms, e.g. `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::U2 => "u2",
            DType::U4 => "u4",
            DType::I2 => "i2",
            DType::I4 => "i4",
            DType::F4E2M1 => "f4e2m1",
            DType::F6E2M3 => "f6e2m3",
            DType::F6E3M2 => "f6e3m2",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::C64 => "c64",
            DType::C128 => "c128",
            DType::String => "string",
            DType::Sequence => "sequence",
            DType::Optional => "optional",
            DType::Map => "map",
        }
    }

    /// Whether this is a floating-point type that there is arithmetic on.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Whether this is an integer type that there is arithmetic on (`bool` is not).
    pub const fn is_integer(self) -> bool {
        matches!(self, DType::U8 | DType::U16 | DType::U32 | DType::U64)
            || matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }

    /// Whether elements are handles of objects: they can be moved, and strings compared.
    pub const fn is_handle(self) -> bool {
        matches!(self, DType::String) || self.is_list()
    }

    /// Whether elements are lists of tensors.
    pub const fn is_list(self) -> bool {
        matches!(self, DType::Sequence | DType::Optional | DType::Map)
    }

    /// The type in which kernels move the elements.
    pub const fn carrier(self) -> DType {
        if self.is_handle() { DType::U64 } else { self }
    }

    /// Whether this is a signed integer, or a floating-point type that there is arithmetic on.
    pub const fn is_signed(self) -> bool {
        matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64)
            || matches!(self, DType::I2 | DType::I4)
            || self.is_float()
    }

    /// Whether an element is a code that says nothing as an integer: it can be moved, and converted
    /// unless it is complex.
    pub const fn is_code(self) -> bool {
        self.is_complex()
            || self.is_handle()
            || self.format().is_some()
            || matches!(self, DType::F8E8M0)
    }

    /// Whether an element is a pair of floats.
    pub const fn is_complex(self) -> bool {
        matches!(self, DType::C64 | DType::C128)
    }

    /// Whether there is a conversion to the other type: none from and to complex numbers, and none
    /// to `f8e8m0`, which would have to say how it rounds.
    pub fn converts_to(self, to: DType) -> bool {
        let numbers = |dtype: DType| !dtype.is_complex() && !dtype.is_handle();
        numbers(self) && numbers(to) && (to != DType::F8E8M0 || self == to)
    }

    /// The format of a float of at most 8 bits with a sign.
    pub const fn format(self) -> Option<FloatFormat> {
        let (bits, fraction, bias, special) = match self {
            DType::F4E2M1 => (4, 1, 1, Special::None),
            DType::F6E2M3 => (6, 3, 1, Special::None),
            DType::F6E3M2 => (6, 2, 3, Special::None),
            DType::F8E4M3FN => (8, 3, 7, Special::Nan),
            DType::F8E4M3FNUZ => (8, 3, 8, Special::NanIsNegativeZero),
            DType::F8E5M2 => (8, 2, 15, Special::InfinityAndNan),
            DType::F8E5M2FNUZ => (8, 2, 16, Special::NanIsNegativeZero),
            _ => return None,
        };
        Some(FloatFormat { bits, fraction, bias, special })
    }

    /// The number that a code of a float of at most 8 bits stands for.
    pub fn decode(self, code: u8) -> Option<f64> {
        match self.format() {
            Some(format) => Some(format.decode(code)),
            None if self == DType::F8E8M0 => Some(scale_of(code)),
            None => None,
        }
    }

    /// The code of a float of at most 8 bits that is nearest to a number.
    pub fn encode(self, number: f64) -> Option<u8> {
        match self.format() {
            Some(format) => Some(format.encode(number)),
            None if self == DType::F8E8M0 => Some(nearest_scale(number)),
            None => None,
        }
    }

    /// The byte of an element that is one byte in memory, from a byte of which the low bits are the
    /// element's: extended as its sign says; of `bool` everything but 0 is true.
    pub const fn extended(self, byte: u8) -> u8 {
        let spare = 8u32.saturating_sub(self.bits());
        match self {
            DType::Bool => (byte != 0) as u8,
            _ if self.is_signed() => ((byte << spare) as i8 >> spare) as u8,
            _ => byte << spare >> spare,
        }
    }

    /// Least and greatest value of an integer type or `bool`.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        let bits = self.bits();
        match self {
            DType::Bool => Some((0, 1)),
            _ if self.is_code() || self.is_float() => None,
            _ if self.is_signed() => Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)),
            _ => Some((0, (1i128 << bits) - 1)),
        }
    }

    /// The unit roundoff of a floating-point type (half the distance from 1 to the next number
    /// above it); zero for exact types. Error bounds are stated in it.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F64 => 1.1102230246251565e-16,
            DType::F32 => 5.960464477539063e-8,
            DType::F16 => 4.8828125e-4,
            DType::BF16 => 3.90625e-3,
            _ => 0.0,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| format!("unknown element type `{text}`"))
    }
}

/// A Rust type that is the host form of one element type.
///
/// `bool` tensors are carried as bytes; read them through [`crate::Tensor::to_f64`] or as `u8`.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The element type that this Rust type carries.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })*
    };
}

elements! {
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    f16 => F16, bf16 => BF16, f32 => F32, f64 => F64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for dtype in DType::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
        assert!("f31".parse::<DType>().is_err());
    }
}
