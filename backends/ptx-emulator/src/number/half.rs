//! Arithmetic of `f16` and `bf16` (PTX ISA, Half Precision Floating Point Instructions).
//!
//! Invariant: operands are exact in `f64`, and each result is rounded once to its format.

use super::format::{BF16, F16, Format, Rounding, sum_to_odd};

/// Modes of an operation on a small format.
#[derive(Clone, Copy)]
pub(crate) struct Small {
    pub format: Format,
    pub flush: bool,
    pub saturate: bool,
    pub relu: bool,
}

impl Small {
    /// Modes as bits of a constant: 1 BF16, 2 flush, 4 saturate, 8 relu.
    pub const fn of(bits: u8) -> Small {
        Small {
            format: if bits & 1 != 0 { BF16 } else { F16 },
            flush: bits & 2 != 0,
            saturate: bits & 4 != 0,
            relu: bits & 8 != 0,
        }
    }

    fn flushed(self, bits: u64) -> u64 {
        let exponent = ((1 << self.format.exponent) - 1) << self.format.fraction;
        if self.flush && bits & exponent == 0 { bits & 0x8000 } else { bits }
    }

    fn input(self, bits: u64) -> f64 {
        self.format.decode(self.flushed(bits & 0xffff))
    }

    fn output(self, value: f64) -> u64 {
        let value = if self.saturate {
            if value > 0.0 { value.min(1.0) } else { 0.0 }
        } else if self.relu && value <= 0.0 {
            0.0
        } else {
            value
        };
        self.flushed(self.format.encode(value, Rounding::Nearest, false))
    }
}

/// `a·b + c`.
pub(crate) fn small_fma(mode: Small, a: u64, b: u64, c: u64) -> u64 {
    mode.output(sum_to_odd(mode.input(a) * mode.input(b), mode.input(c)))
}

/// `a + b`, or `a − b`.
pub(crate) fn small_sum(mode: Small, a: u64, b: u64, negate: bool) -> u64 {
    let b = mode.input(b);
    mode.output(sum_to_odd(mode.input(a), if negate { -b } else { b }))
}

fn extreme(mode: Small, a: u64, b: u64, nan: bool, less: bool) -> u64 {
    let (x, y) = (mode.input(a), mode.input(b));
    let chosen = if nan && (x.is_nan() || y.is_nan()) {
        f64::NAN
    } else if x.is_nan() {
        y
    } else if y.is_nan() {
        x
    } else if x == y {
        if x.is_sign_negative() == less { x } else { y }
    } else if (x < y) == less {
        x
    } else {
        y
    };
    mode.output(chosen)
}

/// The smaller of two.
pub(crate) fn small_minimum(mode: Small, a: u64, b: u64, nan: bool) -> u64 {
    extreme(mode, a, b, nan, true)
}

/// The larger of two.
pub(crate) fn small_maximum(mode: Small, a: u64, b: u64, nan: bool) -> u64 {
    extreme(mode, a, b, nan, false)
}

/// The value that a comparison sees.
pub(crate) fn small_compare_value(mode: Small, bits: u64) -> f64 {
    mode.input(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_products_round_once() {
        let half = Small::of(0);
        // 1 + 2^-11 is half way, and stays at the even 1; a little more goes up.
        assert_eq!(small_sum(half, 0x3c00, 0x1000, false), 0x3c00);
        assert_eq!(small_sum(half, 0x3c00, 0x1001, false), 0x3c01);
        assert_eq!(small_fma(half, 0x4000, 0x4200, 0x3c00), 0x4700);
        assert_eq!(small_fma(Small::of(8), 0xc000, 0x4200, 0x3c00), 0);
        assert_eq!(small_sum(Small::of(1), 0x3f80, 0x3f80, false), 0x4000);
        assert_eq!(small_maximum(half, 0x7e00, 0x3c00, false), 0x3c00);
        assert_eq!(small_maximum(half, 0x7e00, 0x3c00, true), 0x7fff);
    }
}
