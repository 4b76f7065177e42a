//! Floating-point numbers of at most eight bits: what their codes mean, and the code nearest to a
//! number.
//!
//! Invariant: a number is rounded once, to nearest and ties to even, from all of its bits. The
//! formats are those of Micikevicius et al. (2022, <https://arxiv.org/abs/2209.05433>), of Noune et
//! al. (2022, <https://arxiv.org/abs/2206.02915>, "FNUZ") and of OCP's Microscaling specification.

/// What the codes beyond the finite numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// As in IEEE 754: the greatest exponent holds infinity and NaN.
    InfinityAndNan,
    /// The code of all ones is NaN; there is no infinity.
    Nan,
    /// The code of negative zero is NaN; there is neither infinity nor negative zero.
    NanIsNegativeZero,
    /// Every code is a finite number: what is too large is the greatest, NaN is negative zero.
    None,
}

/// A floating-point format of at most eight bits with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatFormat {
    /// Bits of a code, which fill the low end of a byte.
    pub bits: u32,
    /// Bits of the fraction.
    pub fraction: u32,
    /// What is taken from the exponent's bits.
    pub bias: i32,
    /// What lies beyond the finite numbers.
    pub special: Special,
}

impl FloatFormat {
    /// The code's bit for the sign.
    pub const fn sign(self) -> u8 {
        1 << (self.bits - 1)
    }

    /// The code of the greatest number.
    pub const fn greatest_code(self) -> u8 {
        let ones = self.sign() - 1;
        match self.special {
            Special::InfinityAndNan => ones - (1 << self.fraction),
            Special::Nan => ones - 1,
            Special::NanIsNegativeZero | Special::None => ones,
        }
    }

    /// The code of what rounds to more than the greatest number, without its sign.
    pub const fn overflow_code(self) -> u8 {
        match self.special {
            Special::InfinityAndNan | Special::Nan => self.greatest_code() + 1,
            Special::NanIsNegativeZero => self.sign(),
            Special::None => self.greatest_code(),
        }
    }

    /// The code of NaN; where a format has two, that without the sign.
    pub const fn nan_code(self) -> u8 {
        match self.special {
            Special::InfinityAndNan => self.greatest_code() + 1 + (1 << (self.fraction - 1)),
            Special::Nan => self.greatest_code() + 1,
            Special::NanIsNegativeZero | Special::None => self.sign(),
        }
    }

    /// Whether a NaN keeps its sign.
    pub const fn nan_has_sign(self) -> bool {
        matches!(self.special, Special::InfinityAndNan | Special::Nan)
    }

    /// The greatest number.
    pub fn greatest(self) -> f64 {
        self.decode(self.greatest_code())
    }

    /// Exponent of the distance between the least numbers.
    pub const fn least_exponent(self) -> i32 {
        1 - self.bias - self.fraction as i32
    }

    /// The number of a code.
    pub fn decode(self, code: u8) -> f64 {
        let negative = code & self.sign() != 0;
        let size = code & (self.sign() - 1);
        if negative && size == 0 && self.special == Special::NanIsNegativeZero {
            return f64::NAN;
        }
        let magnitude = if size <= self.greatest_code() {
            let (fraction, exponent) =
                (size & ((1 << self.fraction) - 1), i32::from(size >> self.fraction));
            let whole = if exponent == 0 { fraction } else { fraction | (1 << self.fraction) };
            f64::from(whole) * 2f64.powi(self.least_exponent() + (exponent - 1).max(0))
        } else if size == self.overflow_code() && self.special == Special::InfinityAndNan {
            f64::INFINITY
        } else {
            f64::NAN
        };
        if negative { -magnitude } else { magnitude }
    }

    /// The code nearest to a number.
    pub fn encode(self, number: f64) -> u8 {
        let sign = if number.is_sign_negative() { self.sign() } else { 0 };
        if number.is_nan() {
            return if self.nan_has_sign() { self.nan_code() | sign } else { self.nan_code() };
        }
        let magnitude = number.abs();
        // The exponent of an f64, of which subnormal ones are far below every format.
        let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
        let steps = (exponent - (1 - self.bias)).max(0);
        let code = if steps > 32 {
            u32::MAX
        } else {
            // In units of the last place; a carry moves into the exponent by itself.
            let units = magnitude * 2f64.powi(-self.least_exponent() - steps);
            ((steps as u32) << self.fraction) + units.round_ties_even() as u32
        };
        let size =
            if code > u32::from(self.greatest_code()) { self.overflow_code() } else { code as u8 };
        match self.special {
            Special::NanIsNegativeZero if size == 0 => 0,
            _ => size | sign,
        }
    }
}

/// The number of a code of `f8e8m0`: a power of two, or NaN for the last.
pub(crate) fn scale_of(code: u8) -> f64 {
    if code == 255 { f64::NAN } else { 2f64.powi(i32::from(code) - 127) }
}

/// The code of the power of two nearest to a positive number, upwards from the middle; the least
/// or greatest where it lies beyond, NaN for a negative number.
pub(crate) fn nearest_scale(number: f64) -> u8 {
    if number.is_nan() || number < 0.0 {
        return 255;
    }
    let rounded = ((number.abs().to_bits() + (1 << 51)) >> 52) as i64 - 1023 + 127;
    rounded.clamp(0, 254) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn formats() -> impl Iterator<Item = (DType, FloatFormat)> {
        DType::ALL.into_iter().filter_map(|dtype| Some((dtype, dtype.format()?)))
    }

    #[test]
    fn every_code_is_the_nearest_to_its_number() {
        for (dtype, format) in formats() {
            for code in 0..=(format.sign() - 1) | format.sign() {
                let number = format.decode(code);
                if number.is_nan() {
                    assert!(format.decode(format.encode(number)).is_nan(), "{dtype} {code:#x}");
                } else {
                    assert_eq!(format.encode(number), code, "{dtype} {code:#x} {number}");
                }
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_the_last_bit_of_an_f64_counts() {
        for (dtype, format) in formats() {
            for code in 0..format.greatest_code() {
                let (low, high) = (format.decode(code), format.decode(code + 1));
                let middle = (low + high) / 2.0;
                let even = if code & 1 == 0 { code } else { code + 1 };
                assert_eq!(format.encode(middle), even, "{dtype} {middle}");
                assert_eq!(format.encode(middle.next_up()), code + 1, "{dtype} above {middle}");
                assert_eq!(format.encode(middle.next_down()), code, "{dtype} below {middle}");
                if code > 0 {
                    let minus = format.encode(-middle.next_down());
                    assert_eq!(minus, code | format.sign(), "{dtype} -{middle}");
                }
            }
        }
    }

    #[test]
    fn the_ends_are_those_of_the_formats() {
        for (name, greatest, overflow, nan) in [
            ("f8e4m3fn", 448.0, 0x7f, 0x7f),
            ("f8e4m3fnuz", 240.0, 0x80, 0x80),
            ("f8e5m2", 57344.0, 0x7c, 0x7e),
            ("f8e5m2fnuz", 57344.0, 0x80, 0x80),
            ("f6e2m3", 7.5, 0x1f, 0x20),
            ("f6e3m2", 28.0, 0x1f, 0x20),
            ("f4e2m1", 6.0, 0x7, 0x8),
        ] {
            let format = name.parse::<DType>().unwrap().format().unwrap();
            assert_eq!(format.greatest(), greatest, "{name}");
            for number in [greatest * 1.1, 1e30, f64::MAX, f64::INFINITY] {
                assert_eq!(format.encode(number), overflow, "{name} of {number}");
            }
            assert_eq!(format.encode(f64::NAN), nan, "{name}");
            assert_eq!(format.encode(f64::MIN_POSITIVE), 0, "{name}");
        }
        assert_eq!(
            (scale_of(0), scale_of(127), scale_of(254)),
            (2f64.powi(-127), 1.0, 2f64.powi(127))
        );
        assert_eq!(
            [0.0, 1.0, 1.4, 1.5, 3.0, 1e300].map(nearest_scale),
            [0, 127, 127, 128, 129, 254]
        );
    }
}
