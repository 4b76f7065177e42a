//! Distinct elements, or distinct slices along an axis.
//!
//! Invariant: of equal ones the first stands for all.

use crate::RoutineError;
use crate::order::keys;
use kiln_tensor::Tensor;

pub(crate) fn unique(
    [x]: &[Tensor; 1],
    axis: Option<usize>,
    sorted: bool,
) -> Result<Vec<Tensor>, RoutineError> {
    let (outer, count, inner) = match axis {
        None => (1, x.len(), 1),
        Some(axis) => {
            let count = x.sizes().get(axis).copied();
            let count =
                count.ok_or_else(|| RoutineError::new(format!("there is no axis {axis}")))?;
            let inner: usize = x.sizes()[axis + 1..].iter().product();
            (x.sizes()[..axis].iter().product(), count, inner)
        }
    };
    let keys = keys(x)?;
    let slice = |number: usize| {
        (0..outer).flat_map(move |o| (0..inner).map(move |i| (o * count + number) * inner + i))
    };
    let compare = |a: usize, b: usize| {
        slice(a).map(|place| keys[place]).cmp(slice(b).map(|place| keys[place]))
    };
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| compare(a, b));
    // Groups of equals in ascending order, each by its first member.
    let (mut first, mut group) = (Vec::new(), vec![0usize; count]);
    for (position, &number) in order.iter().enumerate() {
        if position == 0 || compare(order[position - 1], number).is_ne() {
            first.push(number);
        }
        group[number] = first.len() - 1;
    }
    if !sorted {
        let mut by_place: Vec<usize> = (0..first.len()).collect();
        by_place.sort_by_key(|&group| first[group]);
        let mut renumbered = vec![0; first.len()];
        by_place.iter().enumerate().for_each(|(new, &old)| renumbered[old] = new);
        group.iter_mut().for_each(|group| *group = renumbered[*group]);
        first.sort_unstable();
    }
    let mut counts = vec![0i64; first.len()];
    group.iter().for_each(|&group| counts[group] += 1);
    let width = x.dtype().size();
    let mut bytes = Vec::with_capacity(outer * first.len() * inner * width);
    for o in 0..outer {
        for &number in &first {
            let from = (o * count + number) * inner * width;
            bytes.extend_from_slice(&x.bytes()[from..from + inner * width]);
        }
    }
    let mut sizes = vec![first.len()];
    if let Some(axis) = axis {
        sizes = x.sizes().to_vec();
        sizes[axis] = first.len();
    }
    let mut values = Tensor::from_bytes(x.dtype(), sizes, &bytes)?;
    if let Some(objects) = x.objects() {
        values = values.with_objects(objects);
    }
    let integers = |values: Vec<usize>| {
        let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
        Tensor::from_slice(vec![values.len()], &values)
    };
    let counts = Tensor::from_slice(vec![counts.len()], &counts)?;
    Ok(vec![values, integers(first)?, integers(group)?, counts])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(results: &[Tensor]) -> Vec<Vec<i64>> {
        results.iter().map(Tensor::to_i64).collect()
    }

    #[test]
    fn elements() {
        let x = Tensor::from_slice(vec![6], &[2i32, 1, 1, 3, 4, 3]).unwrap();
        let sorted = unique(std::slice::from_ref(&x).try_into().unwrap(), None, true).unwrap();
        let expected =
            [vec![1, 2, 3, 4], vec![1, 0, 3, 4], vec![1, 0, 0, 2, 3, 2], vec![2, 1, 2, 1]];
        assert_eq!(integers(&sorted), expected);
        let met = integers(&unique(&[x], None, false).unwrap());
        assert_eq!(met[0], [2, 1, 3, 4]);
        assert_eq!(met[2], [0, 1, 1, 2, 3, 2]);
    }

    #[test]
    fn slices_and_nothing() {
        let x = Tensor::from_slice(vec![3, 2], &[1i32, 0, 1, 0, 2, 3]).unwrap();
        let rows = unique(&[x], Some(0), true).unwrap();
        assert_eq!((rows[0].sizes(), rows[0].to_i64()), (&[2, 2][..], vec![1, 0, 2, 3]));
        let none = unique(&[Tensor::from_slice::<f32>(vec![0], &[]).unwrap()], None, true).unwrap();
        assert!(none.iter().all(Tensor::is_empty));
    }
}
