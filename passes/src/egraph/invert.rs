//! When `x/c` may be written as `x·(1/c)`.
//!
//! Invariant: the inverse of every element is a normal number of the type, so that the product is
//! off by one more rounding and nothing else.

use kiln_tensor::{DType, Tensor};

/// Whether all elements have an inverse that the type represents as a normal number.
pub(super) fn invertible(tensor: &Tensor) -> bool {
    let Some((least, most)) = normal_range(tensor.dtype()) else { return false };
    tensor.to_f64().into_iter().all(|c| (least..=most).contains(&(1.0 / c).abs()))
}

/// The least and the greatest positive normal number.
fn normal_range(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::F16 => (6.103515625e-5, 65504.0),
        DType::BF16 | DType::F32 => (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)),
        DType::F64 => (f64::MIN_POSITIVE, f64::MAX),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_must_be_normal() {
        let all =
            |values: &[f32]| invertible(&Tensor::from_slice(vec![values.len()], values).unwrap());
        assert!(all(&[8.0, -0.3, 1e30]));
        for wrong in [0.0, 1e-40, 3e38, f32::INFINITY, f32::NAN] {
            assert!(!all(&[2.0, wrong]), "{wrong}");
        }
    }
}
