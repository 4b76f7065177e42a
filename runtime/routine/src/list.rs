//! Lists of tensors: made, taken apart, changed (into new ones), split and joined.
//!
//! Invariant: a list never changes; what changes one gives another that shares its elements.

use crate::{RoutineError, integer, place};
use kiln_tensor::{DType, Objects, Tensor};
use std::sync::Arc;

fn holding(elements: Vec<Tensor>, objects: &Arc<Objects>) -> Result<Tensor, RoutineError> {
    let handle = objects.list(elements);
    Ok(objects.holding(DType::Sequence, Vec::new(), &[handle])?)
}

pub(crate) fn list(
    elements: &[Tensor],
    dtype: DType,
    objects: &Arc<Objects>,
) -> Result<Tensor, RoutineError> {
    if !dtype.is_list() {
        return Err(RoutineError::new(format!("{dtype} is no type of list")));
    }
    let handle = objects.list(elements.to_vec());
    Ok(objects.holding(dtype, Vec::new(), &[handle])?)
}

pub(crate) fn length([x]: &[Tensor; 1]) -> Result<Tensor, RoutineError> {
    Ok(Tensor::scalar(x.list()?.len() as i64)?)
}

fn at(index: i64, count: usize) -> Result<usize, RoutineError> {
    place(index, count)
        .ok_or_else(|| RoutineError::new(format!("a list of {count} has no place {index}")))
}

pub(crate) fn element([x, index]: &[Tensor; 2]) -> Result<Tensor, RoutineError> {
    let list = x.list()?;
    let index = at(integer(index, "the place")?, list.len())?;
    Ok(list[index].clone())
}

pub(crate) fn insert(
    [x, element, index]: &[Tensor; 3],
    objects: &Arc<Objects>,
) -> Result<Tensor, RoutineError> {
    let mut elements = x.list()?.to_vec();
    let index = integer(index, "the place")?;
    // The end is a place, too; the last place counted from the end is that of the last element.
    let index = match index == elements.len() as i64 {
        true => elements.len(),
        false => at(index, elements.len())?,
    };
    elements.insert(index, element.clone());
    holding(elements, objects)
}

pub(crate) fn erase(
    [x, index]: &[Tensor; 2],
    objects: &Arc<Objects>,
) -> Result<Tensor, RoutineError> {
    let mut elements = x.list()?.to_vec();
    let index = at(integer(index, "the place")?, elements.len())?;
    elements.remove(index);
    holding(elements, objects)
}

pub(crate) fn join([x]: &[Tensor; 1], axis: i64, new_axis: bool) -> Result<Tensor, RoutineError> {
    let elements = x.list()?;
    let first = elements.first();
    let first =
        first.ok_or_else(|| RoutineError::new("a list without elements cannot be joined"))?;
    let rank = first.sizes().len() + usize::from(new_axis);
    let axis = place(axis, rank)
        .ok_or_else(|| RoutineError::new(format!("axis {axis} does not exist in rank {rank}")))?;
    let along = |tensor: &Tensor| if new_axis { 1 } else { tensor.sizes()[axis] };
    let agrees = |tensor: &Tensor| {
        tensor.dtype() == first.dtype()
            && tensor.sizes().len() == first.sizes().len()
            && (0..first.sizes().len()).all(|number| {
                (!new_axis && number == axis) || tensor.sizes()[number] == first.sizes()[number]
            })
    };
    if let Some(other) = elements.iter().find(|element| !agrees(element)) {
        return Err(RoutineError::new(format!(
            "elements of shapes {:?} and {:?} cannot be joined",
            first.sizes(),
            other.sizes()
        )));
    }
    let mut sizes = first.sizes().to_vec();
    let total = elements.iter().map(along).sum();
    if new_axis {
        sizes.insert(axis, total)
    } else {
        sizes[axis] = total
    }
    let outer: usize = sizes[..axis].iter().product();
    let mut bytes = Vec::with_capacity(Tensor::byte_length(first.dtype(), &sizes)?);
    for o in 0..outer {
        for element in elements.iter() {
            let block = element.bytes().len() / outer;
            bytes.extend_from_slice(&element.bytes()[o * block..(o + 1) * block]);
        }
    }
    let joined = Tensor::from_bytes(first.dtype(), sizes, &bytes)?;
    Ok(match first.objects() {
        Some(objects) => joined.with_objects(objects),
        None => joined,
    })
}

pub(crate) fn split(
    [x, sizes]: &[Tensor; 2],
    axis: usize,
    keep: bool,
    objects: &Arc<Objects>,
) -> Result<Tensor, RoutineError> {
    let size = x.sizes().get(axis).copied();
    let size = size.ok_or_else(|| RoutineError::new(format!("there is no axis {axis}")))?;
    let parts: Option<Vec<usize>> =
        sizes.to_i64().into_iter().map(|part| usize::try_from(part).ok()).collect();
    let parts = parts.filter(|parts| {
        parts.iter().try_fold(0usize, |sum, &part| sum.checked_add(part)) == Some(size)
    });
    let parts = parts.ok_or_else(|| {
        RoutineError::new(format!("parts {:?} do not make up an axis of {size}", sizes.to_i64()))
    })?;
    let outer: usize = x.sizes()[..axis].iter().product();
    let inner = x.sizes()[axis + 1..].iter().product::<usize>() * x.dtype().size();
    let mut elements = Vec::with_capacity(parts.len());
    let mut start = 0;
    for part in parts {
        let mut sizes = x.sizes().to_vec();
        sizes[axis] = part;
        if !keep {
            if part != 1 {
                return Err(RoutineError::new(format!("a part of {part} keeps its axis")));
            }
            sizes.remove(axis);
        }
        let mut bytes = Vec::with_capacity(outer * part * inner);
        for o in 0..outer {
            let from = (o * size + start) * inner;
            bytes.extend_from_slice(&x.bytes()[from..from + part * inner]);
        }
        let element = Tensor::from_bytes(x.dtype(), sizes, &bytes)?;
        elements.push(element.with_objects(objects));
        start += part;
    }
    holding(elements, objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(value: i64) -> Tensor {
        Tensor::scalar(value).unwrap()
    }

    #[test]
    fn lists_change_into_others() {
        let objects = Arc::new(Objects::default());
        let x = list(&[scalar(1), scalar(2)], DType::Sequence, &objects).unwrap();
        let values =
            |x: &Tensor| x.list().unwrap().iter().map(|t| t.to_i64()[0]).collect::<Vec<_>>();
        let longer = insert(&[x.clone(), scalar(9), scalar(-1)], &objects).unwrap();
        assert_eq!(values(&longer), [1, 9, 2]);
        let longer = insert(&[x.clone(), scalar(9), scalar(2)], &objects).unwrap();
        assert_eq!(values(&longer), [1, 2, 9]);
        assert_eq!(values(&erase(&[longer, scalar(0)], &objects).unwrap()), [2, 9]);
        assert_eq!(values(&x), [1, 2]);
        assert!(element(&[x.clone(), scalar(2)]).is_err());
        assert_eq!(element(&[x, scalar(-2)]).unwrap(), scalar(1));
    }

    #[test]
    fn splitting_and_joining_are_inverse() {
        let objects = Arc::new(Objects::default());
        let x = Tensor::from_slice(vec![2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let sizes = Tensor::from_slice(vec![2], &[1i64, 2]).unwrap();
        let parts = split(&[x.clone(), sizes], 1, true, &objects).unwrap();
        assert_eq!(join(&[parts], -1, false).unwrap(), x);
        let ones = Tensor::from_slice(vec![3], &[1i64; 3]).unwrap();
        let parts = split(&[x.clone(), ones], 1, false, &objects).unwrap();
        assert_eq!(join(std::slice::from_ref(&parts).try_into().unwrap(), 1, true).unwrap(), x);
        assert!(join(&[parts], 3, true).is_err());
    }
}
