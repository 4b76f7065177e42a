//! The order of elements: keys that compare as the elements do.
//!
//! Invariant: equal elements have equal keys (0 and -0 are equal, and so are all NaN), and NaN comes
//! after every number.

use crate::RoutineError;
use kiln_tensor::{DType, Tensor};

/// One key for each element.
pub(crate) fn keys(tensor: &Tensor) -> Result<Vec<u64>, RoutineError> {
    const SIGN: u64 = 1 << 63;
    Ok(match tensor.dtype() {
        DType::String => {
            let strings = tensor.strings()?;
            let mut distinct: Vec<&str> = strings.iter().map(AsRef::as_ref).collect();
            distinct.sort_unstable();
            distinct.dedup();
            let key = |text: &str| distinct.partition_point(|other| *other < text) as u64;
            strings.iter().map(|text| key(text)).collect()
        }
        dtype if dtype.is_list() => return Err(RoutineError::new("lists have no order")),
        DType::U64 => tensor.to_i64().into_iter().map(|bits| bits as u64).collect(),
        dtype if dtype.is_integer() || dtype == DType::Bool => {
            tensor.to_i64().into_iter().map(|value| value as u64 ^ SIGN).collect()
        }
        _ => {
            let key = |value: f64| match value {
                value if value.is_nan() => u64::MAX,
                0.0 => SIGN,
                value if value.is_sign_negative() => !value.to_bits(),
                value => value.to_bits() | SIGN,
            };
            tensor.to_f64().into_iter().map(key).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_elements_do() {
        let floats = [f64::NEG_INFINITY, -2.0, -1e-300, 0.0, 1e-300, 2.0, f64::INFINITY, f64::NAN];
        let floats = keys(&Tensor::from_slice(vec![8], &floats).unwrap()).unwrap();
        assert!(floats.is_sorted_by(|a, b| a < b));
        let zeros = keys(&Tensor::from_slice(vec![2], &[0f32, -0.0]).unwrap()).unwrap();
        assert_eq!(zeros[0], zeros[1]);
        let integers = keys(&Tensor::from_slice(vec![3], &[i64::MIN, -1, 1]).unwrap()).unwrap();
        assert!(integers.is_sorted_by(|a, b| a < b));
        let text = keys(&Tensor::from_strings(vec![3], &["b", "a", "b"]).unwrap()).unwrap();
        assert_eq!(text, [1, 0, 1]);
    }
}
