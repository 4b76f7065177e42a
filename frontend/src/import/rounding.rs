//! Which constants may meet a size in floating point: `⌊n·0.7⌋` is 7 for 10, because the product is
//! rounded, while the number nearest to 0.7 times 10 is less than 7.
//!
//! Invariant: a constant stands for a fraction `p/q` only where it is within half of the rounding
//! error of a product. Rounded products and quotients then hit every whole number that the exact
//! ones hit, and between two of those they stay, as long as `n·p` and `n·q` are below 2²³.

use kiln_tensor::DType;

/// The greatest numerator and denominator of a fraction that is not whole.
const MOST: i64 = 1 << 10;

/// The fraction that products and quotients with sizes round to as they do with the constant.
pub(super) fn fraction(constant: f64, dtype: DType) -> Option<(i64, i64)> {
    let bits = match dtype {
        DType::F32 => 25,
        DType::F64 => 54,
        _ => return None,
    };
    let tolerance = 0.5f64.powi(bits);
    if constant.trunc() == constant {
        return (constant.abs() < (1u64 << 53) as f64).then_some((constant as i64, 1));
    }
    // Powers of two round nothing, however large they are.
    let denominators = (2..=MOST).chain((11..=24).map(|exponent| 1 << exponent));
    let mut fractions = denominators.map(|q| ((constant * q as f64).round(), q));
    let found = fractions.find(|&(p, q)| {
        p.abs() <= MOST as f64 && constant.mul_add(q as f64, -p).abs() <= p.abs() * tolerance
    });
    found.map(|(p, q)| (p as i64, q))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_their_fractions() {
        for (constant, dtype, expected) in [
            (f64::from(0.7f32), DType::F32, Some((7, 10))),
            (f64::from(-0.1f32), DType::F32, Some((-1, 10))),
            (f64::from(0.7f32), DType::F64, None),
            (1.5, DType::F64, Some((3, 2))),
            (0.0, DType::F32, Some((0, 1))),
            (f64::from(1e-9f32), DType::F32, None),
            (f64::from(0.123_456_7_f32), DType::F32, None),
            (f64::NAN, DType::F32, None),
        ] {
            assert_eq!(fraction(constant, dtype), expected, "{constant} in {dtype}");
        }
    }

    #[test]
    fn products_and_quotients_round_alike() {
        let (mut known, mut refused) = (0, 0);
        for of in [3, 7, 10] {
            for k in (1..4 * of).filter(|k| k % of != 0) {
                let scale = k as f32 / of as f32;
                let Some((p, q)) = fraction(f64::from(scale), DType::F32) else {
                    refused += 1;
                    continue;
                };
                known += 1;
                for n in 0..5000i64 {
                    let (product, quotient) = (n as f32 * scale, n as f32 / scale);
                    assert_eq!(product.floor() as i64, (n * p).div_euclid(q), "{n}·{p}/{q}");
                    assert_eq!(product.ceil() as i64, -(-n * p).div_euclid(q), "{n}·{p}/{q}");
                    assert_eq!(quotient.floor() as i64, (n * q).div_euclid(p), "{n}:{p}/{q}");
                }
            }
        }
        assert!(known > 2 * refused, "{known} are known, {refused} are not");
    }
}
