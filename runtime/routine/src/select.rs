//! Selections by value: what is not zero, and the first few in order.
//!
//! Invariant: among equals the one that comes first in memory is first.

use crate::order::keys;
use crate::{RoutineError, integer};
use kiln_tensor::{DType, Tensor};
use std::cmp::Reverse;

pub(crate) fn non_zero([x]: &[Tensor; 1]) -> Result<Tensor, RoutineError> {
    let size = x.dtype().size();
    let float = x.dtype().is_float();
    // A negative zero is zero, whatever its bits.
    let is_zero = |bytes: &[u8]| match bytes.split_last() {
        Some((last, rest)) if float => last & 0x7f == 0 && rest.iter().all(|&byte| byte == 0),
        _ => bytes.iter().all(|&byte| byte == 0),
    };
    let elements = x.bytes().chunks_exact(size).enumerate();
    let found: Vec<usize> =
        elements.filter(|(_, bytes)| !is_zero(bytes)).map(|(number, _)| number).collect();
    let mut places = Vec::with_capacity(x.sizes().len() * found.len());
    let mut stride = x.len();
    for &dim in x.sizes() {
        stride /= dim.max(1);
        places.extend(found.iter().map(|&number| (number / stride.max(1) % dim.max(1)) as i64));
    }
    Ok(Tensor::from_slice(vec![x.sizes().len(), found.len()], &places)?)
}

pub(crate) fn top_k(
    [x, k]: &[Tensor; 2],
    axis: usize,
    largest: bool,
) -> Result<Vec<Tensor>, RoutineError> {
    let size = x.sizes().get(axis).copied();
    let size = size.ok_or_else(|| RoutineError::new(format!("there is no axis {axis}")))?;
    let count = integer(k, "k")?;
    let count = usize::try_from(count).ok().filter(|&count| count <= size).ok_or_else(|| {
        RoutineError::new(format!("{count} elements are asked for along an axis of {size}"))
    })?;
    let inner: usize = x.sizes()[axis + 1..].iter().product();
    let outer: usize = x.sizes()[..axis].iter().product();
    let (keys, width) = (keys(x)?, x.dtype().size());
    let mut sizes = x.sizes().to_vec();
    sizes[axis] = count;
    let mut values = Tensor::zeros(x.dtype(), sizes.clone())?;
    let mut places = Tensor::zeros(DType::I64, sizes)?;
    let target = values.bytes_mut();
    let order = places.as_mut_slice::<i64>()?;
    let mut row: Vec<usize> = Vec::with_capacity(size);
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let at = |place: usize| (o * size + place) * inner + i;
        let compare = |a: &usize, b: &usize| {
            let keys = (keys[at(*a)], keys[at(*b)]);
            if largest { Reverse(keys.0).cmp(&Reverse(keys.1)) } else { keys.0.cmp(&keys.1) }
                .then(a.cmp(b))
        };
        row.clear();
        row.extend(0..size);
        if count < size && count > 0 {
            row.select_nth_unstable_by(count - 1, compare);
        }
        row.truncate(count);
        row.sort_unstable_by(compare);
        for (number, &place) in row.iter().enumerate() {
            let to = (o * count + number) * inner + i;
            order[to] = place as i64;
            target[to * width..][..width].copy_from_slice(&x.bytes()[at(place) * width..][..width]);
        }
    }
    let values = match x.objects() {
        Some(objects) => values.with_objects(objects),
        None => values,
    };
    Ok(vec![values, places])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_of_what_is_not_zero() {
        let x = Tensor::from_slice(vec![2, 3], &[1f32, -0.0, 0.0, f32::NAN, 2.0, 0.0]).unwrap();
        let found = non_zero(&[x]).unwrap();
        assert_eq!((found.sizes(), found.to_i64()), (&[2, 3][..], vec![0, 1, 1, 0, 0, 1]));
        let none = non_zero(&[Tensor::zeros(DType::I32, vec![3, 0, 2]).unwrap()]).unwrap();
        assert_eq!(none.sizes(), [3, 0]);
    }

    #[test]
    fn first_in_order() {
        let x = Tensor::from_slice(vec![2, 4], &[1i32, 3, 3, 2, -1, -1, -5, 0]).unwrap();
        let two = Tensor::scalar(2i64).unwrap();
        let top = top_k(&[x.clone(), two.clone()], 1, true).unwrap();
        assert_eq!(top[0].to_i64(), [3, 3, 0, -1]);
        assert_eq!(top[1].to_i64(), [1, 2, 3, 0]);
        let down = top_k(&[x.clone(), two], 0, false).unwrap();
        assert_eq!(down[1].to_i64(), [1, 1, 1, 1, 0, 0, 0, 0]);
        let nine = Tensor::scalar(9i64).unwrap();
        assert!(top_k(&[x, nine], 0, true).is_err());
    }
}
