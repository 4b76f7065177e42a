//! Floating-point formats of up to 32 bits, decoded to and rounded from `f64`.
//!
//! Invariant: decoding is exact; encoding rounds once. A value that an `f64` cannot hold is handed over rounded to
//! odd (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums"), which rounding to at most 51 bits
//! afterwards cannot tell from the exact one.

/// How a value between two numbers is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// To the nearest, ties away from zero.
    Away,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
}

/// A format of at most 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of the exponent.
    pub exponent: u32,
    /// Bits of the fraction that are kept.
    pub fraction: u32,
    /// Zero bits below the fraction (of TF32, which fills 32 bits).
    pub unused: u32,
    /// Whether the largest exponent holds infinities; E4M3 has none, and one NaN only.
    pub infinite: bool,
}

pub(crate) const F16: Format = Format { exponent: 5, fraction: 10, unused: 0, infinite: true };
pub(crate) const BF16: Format = Format { exponent: 8, fraction: 7, unused: 0, infinite: true };
pub(crate) const TF32: Format = Format { exponent: 8, fraction: 10, unused: 13, infinite: true };
pub(crate) const F32: Format = Format { exponent: 8, fraction: 23, unused: 0, infinite: true };
pub(crate) const E4M3: Format = Format { exponent: 4, fraction: 3, unused: 0, infinite: false };
pub(crate) const E5M2: Format = Format { exponent: 5, fraction: 2, unused: 0, infinite: true };

impl Format {
    const fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    const fn sign(self) -> u64 {
        1 << (self.exponent + self.fraction + self.unused)
    }

    /// The NaN that operations give (PTX ISA: canonical NaN).
    pub const fn nan(self) -> u64 {
        ((1 << (self.exponent + self.fraction)) - 1) << self.unused
    }

    /// The largest finite number.
    pub const fn largest(self) -> u64 {
        if self.infinite {
            (((1 << self.exponent) - 1) << self.fraction << self.unused) - (1 << self.unused)
        } else {
            self.nan() - 1
        }
    }

    /// The value of bits.
    pub fn decode(self, bits: u64) -> f64 {
        let bits = bits >> self.unused;
        if self.exponent == 8 {
            // A cut f32.
            return f64::from(f32::from_bits((bits << (23 - self.fraction)) as u32));
        }
        let fraction = bits & ((1 << self.fraction) - 1);
        let exponent = (bits >> self.fraction) & ((1 << self.exponent) - 1);
        let negative = bits >> (self.fraction + self.exponent) & 1 == 1;
        let top = (1 << self.exponent) - 1;
        let magnitude = if exponent == top && self.infinite {
            if fraction == 0 { f64::INFINITY } else { f64::NAN }
        } else if !self.infinite && exponent == top && fraction == (1 << self.fraction) - 1 {
            f64::NAN
        } else if exponent == 0 {
            fraction as f64 * power(1 - self.bias() - self.fraction as i32)
        } else {
            let biased = (exponent as i32 - self.bias() + 1023) as u64;
            f64::from_bits(biased << 52 | fraction << (52 - self.fraction))
        };
        if negative { -magnitude } else { magnitude }
    }

    /// The bits of a value, rounded. What is too large becomes infinity, or the largest number where the rounding
    /// says so, `saturate` asks for it, or the format has no infinity.
    pub fn encode(self, value: f64, rounding: Rounding, saturate: bool) -> u64 {
        if value.is_nan() {
            return self.nan();
        }
        let negative = value.is_sign_negative();
        let sign = if negative { self.sign() } else { 0 };
        if value == 0.0 {
            return sign;
        }
        let overflow = |inexact: bool| {
            let clipped = saturate
                || !self.infinite
                || inexact
                    && match rounding {
                        Rounding::Nearest | Rounding::Away => false,
                        Rounding::Zero => true,
                        Rounding::Down => !negative,
                        Rounding::Up => negative,
                    };
            if clipped {
                self.largest()
            } else {
                ((1 << self.exponent) - 1) << self.fraction << self.unused
            }
        };
        if value.is_infinite() {
            return sign | if self.infinite || saturate { overflow(false) } else { self.nan() };
        }
        let bits = value.to_bits() & !(1 << 63);
        let (mut exponent, mut mantissa) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
        if exponent == 0 {
            // A subnormal f64 is far below half of the least number of any of the formats.
            exponent = 1;
        } else {
            mantissa |= 1 << 52;
        }
        let unbiased = exponent - 1023;
        // Bits of the 53 that are below the result's last one.
        let least = 1 - self.bias();
        let cut = 52 - self.fraction as i32 + (least - unbiased).max(0);
        let (kept, rest, half) = if cut > 62 {
            (0, u64::from(mantissa != 0), 2)
        } else {
            (mantissa >> cut, mantissa & ((1 << cut) - 1), 1u64 << (cut - 1))
        };
        let up = match rounding {
            Rounding::Nearest => rest > half || rest == half && kept & 1 == 1,
            Rounding::Away => rest >= half,
            Rounding::Zero => false,
            Rounding::Down => negative && rest != 0,
            Rounding::Up => !negative && rest != 0,
        };
        let rounded = kept + u64::from(up);
        // Subnormal results have a biased exponent of 0; a carry into the next exponent adds up by itself.
        let base =
            if unbiased < least { 0 } else { ((unbiased - least + 1) as u64) << self.fraction };
        let magnitude =
            if unbiased < least { rounded } else { base + rounded - (1 << self.fraction) };
        let top = self.largest() >> self.unused;
        if unbiased - least > 1 << self.exponent || magnitude > top {
            return sign | overflow(true);
        }
        sign | magnitude << self.unused
    }
}

/// A power of two whose exponent an `f64` has.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The sum of two numbers, rounded to odd.
pub(crate) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() {
        return sum;
    }
    // Knuth's TwoSum: `error` is what `sum` lacks, exactly.
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    odd(sum, error)
}

/// `value` moved to the neighbour with an odd last bit, if the exact value differs from it by `error`.
pub(crate) fn odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || error.is_nan() || value.to_bits() & 1 == 1 {
        return value;
    }
    if value == 0.0 {
        return error;
    }
    let outwards = (error > 0.0) == (value > 0.0);
    let bits = value.to_bits();
    f64::from_bits(if outwards { bits + 1 } else { bits - 1 })
}

/// An integer of up to 64 bits from a float, rounded and kept within its range; NaN gives 0 (PTX ISA, cvt).
pub(crate) fn to_integer(value: f64, rounding: Rounding, bits: u32, signed: bool) -> u64 {
    if value.is_nan() {
        return 0;
    }
    let rounded = match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Away => value.round(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    };
    if signed {
        let (low, high) = (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
        ((rounded as i128).clamp(low, high) as i64 as u64) & crate::syntax::low_bits(bits)
    } else {
        (rounded as i128).clamp(0, (1i128 << bits) - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_a_round_trip() {
        for format in [F16, BF16, E5M2, E4M3] {
            for bits in 0..1u64 << (1 + format.exponent + format.fraction) {
                let value = format.decode(bits);
                if value.is_nan() {
                    assert_eq!(format.encode(value, Rounding::Nearest, false), format.nan());
                } else {
                    for rounding in [Rounding::Nearest, Rounding::Zero, Rounding::Up] {
                        assert_eq!(format.encode(value, rounding, false), bits, "{format:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_to_f32_is_what_the_processor_does() {
        let mut state = 1u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Exponents near those of f32, subnormals and overflows among them.
            let exponent = 1023 - 160 + (state >> 33) % 300;
            let value = f64::from_bits(state & !(0x7ff << 52) | exponent << 52);
            let expected = u64::from((value as f32).to_bits());
            assert_eq!(F32.encode(value, Rounding::Nearest, false), expected, "{value:e}");
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(F16.encode(65520.0, Rounding::Nearest, false), 0x7c00);
        assert_eq!(F16.encode(65520.0, Rounding::Zero, false), 0x7bff);
        assert_eq!(F16.encode(65519.0, Rounding::Nearest, false), 0x7bff);
        assert_eq!(E4M3.encode(1000.0, Rounding::Nearest, true), 0x7e);
        assert_eq!(E4M3.decode(0x7e), 448.0);
        assert_eq!(E5M2.decode(0x7b), 57344.0);
        assert_eq!(BF16.encode(1.0 + 1.0 / 256.0, Rounding::Nearest, false), 0x3f80);
        assert_eq!(TF32.encode(1.0 + 1.0 / 2048.0, Rounding::Away, false), 0x3f80_2000);
        assert_eq!(to_integer(2.5, Rounding::Nearest, 32, true), 2);
        assert_eq!(to_integer(-1.0, Rounding::Zero, 32, false), 0);
        assert_eq!(to_integer(1e20, Rounding::Zero, 32, true), 0x7fff_ffff);
        assert_eq!(to_integer(-3.7, Rounding::Zero, 8, true), 0xfd);
    }
}
