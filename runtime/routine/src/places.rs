//! Indices that a model is given, against what they index, and numbers against their bounds.
//!
//! Invariant: compiled code never leaves its operands, whatever the indices are; this is what tells
//! that a result would be made of the wrong elements.

use super::RoutineError;
use kiln_tensor::{DType, Tensor};

/// `indices, sizes i64[k] → `: the last dimension of the indices has `k` places, one in each of the
/// sizes; or `k` is 1, and all are in the one.
pub(super) fn inside([indices, sizes]: &[Tensor; 2]) -> Result<(), RoutineError> {
    let sizes = sizes.to_i64();
    let bytes = indices.bytes();
    match indices.dtype() {
        DType::I64 => check(bytes, &sizes, i64::from_le_bytes),
        DType::I32 => check(bytes, &sizes, |bytes| i32::from_le_bytes(bytes).into()),
        dtype => Err(RoutineError::new(format!("indices must be i32 or i64, not {dtype}"))),
    }
}

fn check<const N: usize>(
    bytes: &[u8],
    sizes: &[i64],
    read: impl Fn([u8; N]) -> i64,
) -> Result<(), RoutineError> {
    let indices = bytes.as_chunks::<N>().0;
    if let [size] = *sizes {
        // Without an exit, so that the loop is done in vectors.
        let outside = |index: i64| index < size.wrapping_neg() || index >= size;
        if !indices.iter().fold(false, |any, index| any | outside(read(*index))) {
            return Ok(());
        }
    }
    let places = indices.iter().map(|index| read(*index)).zip(sizes.iter().cycle()).enumerate();
    for (number, (index, &size)) in places {
        if index < size.wrapping_neg() || index >= size {
            let message = format!(
                "index {index} (element {number} of the indices) is outside of a dimension of {size}"
            );
            return Err(RoutineError::new(message));
        }
    }
    Ok(())
}

/// `numbers, bounds i64[2] → `: the numbers are from the first of the bounds to the second.
pub(super) fn within([numbers, bounds]: &[Tensor; 2], what: &str) -> Result<(), RoutineError> {
    let [least, most] = bounds.to_i64()[..] else {
        return Err(RoutineError::new("there must be two bounds"));
    };
    if !numbers.dtype().is_integer() {
        let dtype = numbers.dtype();
        return Err(RoutineError::new(format!("numbers must be integers, not {dtype}")));
    }
    let mut numbers = numbers.to_i64().into_iter().enumerate();
    match numbers.find(|(_, number)| !(least..=most).contains(number)) {
        None => Ok(()),
        Some((place, number)) => {
            let wanted = match most {
                i64::MAX => format!("at least {least}"),
                _ if least == most => format!("{least}"),
                _ => format!("from {least} to {most}"),
            };
            let message = format!("{what} must be {wanted}, but is {number} (element {place})");
            Err(RoutineError::new(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_is_held_against_its_own_size() {
        let sizes = |sizes: &[i64]| Tensor::from_slice(vec![sizes.len()], sizes).unwrap();
        let wide = |of: &[i64]| Tensor::from_slice(vec![of.len()], of).unwrap();
        let narrow = |of: &[i32]| Tensor::from_slice(vec![of.len()], of).unwrap();
        let message = |indices: Tensor, limits: &[i64]| {
            inside(&[indices, sizes(limits)]).err().map(|error| error.message)
        };
        assert_eq!(message(wide(&[0, -3, 2]), &[3]), None);
        assert_eq!(message(wide(&[]), &[0]), None);
        assert_eq!(message(wide(&[0, 4, 1, -5]), &[2, 5]), None);
        assert_eq!(
            message(narrow(&[0, 1, 3]), &[3]).as_deref(),
            Some("index 3 (element 2 of the indices) is outside of a dimension of 3")
        );
        assert_eq!(
            message(wide(&[1, 4, -3, 0]), &[2, 5]).as_deref(),
            Some("index -3 (element 2 of the indices) is outside of a dimension of 2")
        );
        assert!(message(wide(&[i64::MIN]), &[i64::MIN]).is_some());
        assert!(message(Tensor::from_slice(vec![1], &[0.0f32]).unwrap(), &[1]).is_some());
    }

    #[test]
    fn numbers_are_held_against_both_bounds() {
        let message = |numbers: &[i32], bounds: &[i64]| {
            let numbers = Tensor::from_slice(vec![numbers.len()], numbers).unwrap();
            let bounds = Tensor::from_slice(vec![bounds.len()], bounds).unwrap();
            within(&[numbers, bounds], "the length").err().map(|error| error.message)
        };
        assert_eq!(message(&[0, 3, 5], &[0, 5]), None);
        assert_eq!(message(&[], &[1, 0]), None);
        assert_eq!(
            message(&[2, 6], &[0, 5]).as_deref(),
            Some("the length must be from 0 to 5, but is 6 (element 1)")
        );
        assert_eq!(
            message(&[-1], &[0, 5]).as_deref(),
            Some("the length must be from 0 to 5, but is -1 (element 0)")
        );
        assert_eq!(
            message(&[0], &[1, i64::MAX]).as_deref(),
            Some("the length must be at least 1, but is 0 (element 0)")
        );
        assert_eq!(
            message(&[0], &[2, 2]).as_deref(),
            Some("the length must be 2, but is 0 (element 0)")
        );
        assert!(message(&[0], &[0]).is_some());
    }
}
