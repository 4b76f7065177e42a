//! Arithmetic of `f32` and `f64` (PTX ISA, Floating Point Instructions).
//!
//! Invariant: the modes of an instruction are a constant of the function that does it, so that a loop over lanes
//! has no branch on them.

use super::format::{F32, Rounding, odd, sum_to_odd};

/// What `f32` operations give for NaN.
pub(crate) const CANONICAL_NAN: u32 = 0x7fff_ffff;

/// Of the low two bits of a mode: nearest, zero, down, up.
const ROUNDING: u8 = 3;
/// `.ftz`.
pub(crate) const FLUSH: u8 = 4;
/// `.sat`.
pub(crate) const SATURATE: u8 = 8;

fn rounding(mode: u8) -> Rounding {
    match mode & ROUNDING {
        0 => Rounding::Nearest,
        1 => Rounding::Zero,
        2 => Rounding::Down,
        _ => Rounding::Up,
    }
}

/// Subnormals become zeros of their sign.
pub(crate) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

fn input<const M: u8>(bits: u64) -> f32 {
    let value = f32::from_bits(bits as u32);
    if M & FLUSH != 0 { flush(value) } else { value }
}

fn output<const M: u8>(value: f32) -> u64 {
    if M & SATURATE != 0 {
        // NaN becomes +0.
        return u64::from(if value > 0.0 { value.min(1.0) } else { 0.0 }.to_bits());
    }
    if value.is_nan() {
        return u64::from(CANONICAL_NAN);
    }
    u64::from(if M & FLUSH != 0 { flush(value) } else { value }.to_bits())
}

/// From a value that is exact, or rounded to odd.
fn round<const M: u8>(value: f64) -> u64 {
    output::<M>(f32::from_bits(F32.encode(value, rounding(M), false) as u32))
}

/// A sum that is exactly zero is −0 when rounding down (IEEE 754, 6.3).
fn signed_zero<const M: u8>(value: f64, agree: bool) -> f64 {
    if value == 0.0 && !agree && M & ROUNDING == 2 { -0.0 } else { value }
}

pub(crate) fn f32_add<const M: u8>(a: u64, b: u64) -> u64 {
    let (a, b) = (input::<M>(a), input::<M>(b));
    if M & ROUNDING == 0 {
        return output::<M>(a + b);
    }
    let agree = a.is_sign_negative() == b.is_sign_negative();
    round::<M>(signed_zero::<M>(sum_to_odd(f64::from(a), f64::from(b)), agree))
}

pub(crate) fn f32_mul<const M: u8>(a: u64, b: u64) -> u64 {
    let (a, b) = (input::<M>(a), input::<M>(b));
    if M & ROUNDING == 0 {
        return output::<M>(a * b);
    }
    round::<M>(f64::from(a) * f64::from(b))
}

pub(crate) fn f32_fma<const M: u8>(a: u64, b: u64, c: u64) -> u64 {
    let (a, b, c) = (input::<M>(a), input::<M>(b), input::<M>(c));
    // A product of two f32 is exact in f64.
    let product = f64::from(a) * f64::from(b);
    let sum = product + f64::from(c);
    if M & ROUNDING == 0 && sum.to_bits() & 0x1fff_ffff != 0x1000_0000 && sum.abs() > 1e-36 {
        // Not half way between two f32: the rounding of the sum cannot change that of the result.
        return output::<M>(sum as f32);
    }
    let agree = product.is_sign_negative() == c.is_sign_negative();
    round::<M>(signed_zero::<M>(sum_to_odd(product, f64::from(c)), agree))
}

pub(crate) fn f32_divide<const M: u8>(a: u64, b: u64) -> u64 {
    let (a, b) = (input::<M>(a), input::<M>(b));
    if M & ROUNDING == 0 {
        return output::<M>(a / b);
    }
    let (a, b) = (f64::from(a), f64::from(b));
    let quotient = a / b;
    // The remainder's sign tells on which side of the quotient the exact one is.
    let rest = (-quotient).mul_add(b, a) * b.signum();
    round::<M>(if quotient.is_finite() { odd(quotient, rest) } else { quotient })
}

pub(crate) fn f32_reciprocal<const M: u8>(a: u64) -> u64 {
    f32_divide::<M>(u64::from(1.0f32.to_bits()), a)
}

pub(crate) fn f32_root<const M: u8>(a: u64) -> u64 {
    let a = input::<M>(a);
    if M & ROUNDING == 0 {
        return output::<M>(a.sqrt());
    }
    let root = f64::from(a).sqrt();
    let rest = (-root).mul_add(root, f64::from(a));
    round::<M>(if root.is_finite() { odd(root, rest) } else { root })
}

/// Minimum: a NaN loses, or wins where the instruction has `.NaN`; −0 is below +0.
pub(crate) fn f32_minimum<const M: u8, const NAN: bool>(a: u64, b: u64) -> u64 {
    let (a, b) = (input::<M>(a), input::<M>(b));
    extreme::<M, NAN>(a, b, a < b || a == b && a.is_sign_negative())
}

/// Maximum, likewise.
pub(crate) fn f32_maximum<const M: u8, const NAN: bool>(a: u64, b: u64) -> u64 {
    let (a, b) = (input::<M>(a), input::<M>(b));
    extreme::<M, NAN>(a, b, a > b || a == b && !a.is_sign_negative())
}

fn extreme<const M: u8, const NAN: bool>(a: f32, b: f32, first: bool) -> u64 {
    let chosen = if NAN && (a.is_nan() || b.is_nan()) {
        f32::NAN
    } else if a.is_nan() {
        b
    } else if b.is_nan() || first {
        a
    } else {
        b
    };
    output::<M>(chosen)
}

/// An operation that is computed in `f64` and rounded to `f32` (the approximations, and conversions).
pub(crate) fn f32_unary<const M: u8>(a: u64, f: impl Fn(f32) -> f64) -> u64 {
    output::<M>(f(input::<M>(a)) as f32)
}

/// A sum of `f64` in one of four roundings.
pub(crate) fn f64_add<const M: u8>(a: u64, b: u64) -> u64 {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let sum = a + b;
    if M & ROUNDING == 0 || !sum.is_finite() {
        return sum.to_bits();
    }
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    let agree = a.is_sign_negative() == b.is_sign_negative();
    directed::<M>(signed_zero::<M>(sum, agree), error).to_bits()
}

/// A product of `f64`.
pub(crate) fn f64_mul<const M: u8>(a: u64, b: u64) -> u64 {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let product = a * b;
    if M & ROUNDING == 0 || !product.is_finite() {
        return product.to_bits();
    }
    directed::<M>(product, a.mul_add(b, -product)).to_bits()
}

/// A fused multiplication and addition of `f64`, to the nearest.
pub(crate) fn f64_fma(a: u64, b: u64, c: u64) -> u64 {
    f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits()
}

fn directed<const M: u8>(value: f64, error: f64) -> f64 {
    let down = match rounding(M) {
        Rounding::Zero if value > 0.0 => true,
        Rounding::Zero => false,
        Rounding::Down => true,
        Rounding::Up => false,
        Rounding::Nearest | Rounding::Away => return value,
    };
    if error < 0.0 && down {
        value.next_down()
    } else if error > 0.0 && !down {
        value.next_up()
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(value: f32) -> u64 {
        u64::from(value.to_bits())
    }

    #[test]
    fn fma_is_rounded_once() {
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let raw = (state >> 32) as u32;
            // Exponents near each other, so that sums cancel and round.
            f32::from_bits(raw & 0x807f_ffff | (120 + raw % 16) << 23)
        };
        for _ in 0..100_000 {
            let (a, b, c) = (draw(), draw(), draw());
            let exact = a.mul_add(b, c);
            assert_eq!(f32_fma::<0>(bits(a), bits(b), bits(c)), bits(exact), "{a:e} {b:e} {c:e}");
        }
        let tiny = f32::from_bits(1);
        assert_eq!(f32_fma::<0>(bits(tiny), bits(0.5), bits(tiny)), bits(tiny.mul_add(0.5, tiny)));
    }

    #[test]
    fn directed_roundings_enclose() {
        let (third, one) = (f32_divide::<2>(bits(1.0), bits(3.0)), bits(1.0));
        assert_eq!(f32_divide::<3>(one, bits(3.0)), third + 1);
        assert_eq!(f32_add::<3>(one, bits(1e-20)), one + 1);
        assert_eq!(f32_add::<1>(one, bits(1e-20)), one);
        assert_eq!(f32_add::<2>(one, bits(-1.0)), bits(-0.0));
        assert_eq!(f32_root::<2>(bits(2.0)) + 1, f32_root::<3>(bits(2.0)));
        assert_eq!(f64_add::<3>(1f64.to_bits(), 1e-40f64.to_bits()), 1f64.to_bits() + 1);
    }

    #[test]
    fn modes() {
        assert_eq!(f32_add::<SATURATE>(bits(3.0), bits(1.0)), bits(1.0));
        assert_eq!(f32_add::<SATURATE>(bits(f32::NAN), bits(1.0)), 0);
        assert_eq!(f32_mul::<FLUSH>(bits(1e-30), bits(1e-10)), 0);
        assert_eq!(f32_minimum::<0, false>(bits(f32::NAN), bits(2.0)), bits(2.0));
        assert_eq!(f32_minimum::<0, true>(bits(f32::NAN), bits(2.0)), 0x7fff_ffff);
        assert_eq!(f32_maximum::<0, false>(bits(-0.0), bits(0.0)), 0);
    }
}
