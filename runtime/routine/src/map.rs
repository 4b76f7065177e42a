//! Maps: made from keys and rows of values, and asked for what stands beside keys.
//!
//! Invariant: a map is a list of two elements, its keys in a vector and its values in a sequence of
//! single elements; of several equal keys the last counts.

use crate::RoutineError;
use kiln_tensor::{DType, Objects, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a value is found by; in this order maps are gone through.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(Arc<str>),
}

/// The elements of a tensor as keys.
fn keys(tensor: &Tensor) -> Result<Vec<Key>, RoutineError> {
    Ok(match tensor.dtype() {
        DType::String => tensor.strings()?.into_iter().map(Key::Text).collect(),
        DType::I64 => tensor.to_i64().into_iter().map(Key::Number).collect(),
        dtype => return Err(RoutineError::new(format!("{dtype} is no type of keys"))),
    })
}

fn shown(tensor: &Tensor) -> String {
    format!("{}{:?}", tensor.dtype(), tensor.sizes())
}

/// Where each key stands.
fn places(tensor: &Tensor) -> Result<BTreeMap<Key, usize>, RoutineError> {
    Ok(keys(tensor)?.into_iter().zip(0..).collect())
}

/// `keys[c], values[n, c] → sequence[]`: a map for each row.
pub(crate) fn maps(
    [keys, values]: &[Tensor; 2],
    objects: &Arc<Objects>,
) -> Result<Tensor, RoutineError> {
    let places = places(keys)?;
    let &[rows, columns] = values.sizes() else {
        return Err(RoutineError::new(format!("values must be rows, but are {}", shown(values))));
    };
    if keys.sizes() != [columns] {
        return Err(RoutineError::new(format!(
            "{} are no keys for {columns} values a row",
            shown(keys)
        )));
    }
    let order: Vec<usize> = places.into_values().collect();
    let picked = |of: &Tensor, sizes: Vec<usize>, at: &[usize]| {
        let size = of.dtype().size();
        let bytes: Vec<u8> =
            at.iter().flat_map(|&at| &of.bytes()[at * size..][..size]).copied().collect();
        Ok::<_, RoutineError>(Tensor::from_bytes(of.dtype(), sizes, &bytes)?.with_objects(objects))
    };
    let keys = picked(keys, vec![order.len()], &order)?;
    let map = |row: usize| {
        let values =
            order.iter().map(|&column| picked(values, Vec::new(), &[row * columns + column]));
        let values = objects.list(values.collect::<Result<_, _>>()?);
        let values = objects.holding(DType::Sequence, Vec::new(), &[values])?;
        let map = objects.list(vec![keys.clone(), values]);
        Ok(objects.holding(DType::Map, Vec::new(), &[map])?)
    };
    let maps = (0..rows).map(map).collect::<Result<_, RoutineError>>()?;
    Ok(objects.holding(DType::Sequence, Vec::new(), &[objects.list(maps)])?)
}

/// `map[] → values[n]`: its values, in the order of their keys.
pub(crate) fn values([map]: &[Tensor; 1], keys: DType, of: DType) -> Result<Tensor, RoutineError> {
    let (places, values) = entries(map, keys)?;
    let values: Vec<Option<&Tensor>> = places.into_values().map(|at| values.get(at)).collect();
    joined(&values, of, vec![values.len()])
}

/// `map[], keys → values`: the value of each key, of the shape of the keys; zero, or the empty
/// string, where there is none.
pub(crate) fn look_up([map, wanted]: &[Tensor; 2], of: DType) -> Result<Tensor, RoutineError> {
    let (places, values) = entries(map, wanted.dtype())?;
    let found = keys(wanted)?;
    let found: Vec<Option<&Tensor>> =
        found.iter().map(|key| values.get(*places.get(key)?)).collect();
    joined(&found, of, wanted.sizes().to_vec())
}

/// Where the value of each key stands, and the values.
type Entries = (BTreeMap<Key, usize>, Arc<[Tensor]>);

fn entries(map: &Tensor, dtype: DType) -> Result<Entries, RoutineError> {
    let parts = map.list()?;
    let [keys, values] = &parts[..] else {
        return Err(RoutineError::new("a map must have keys and values"));
    };
    let values = values.list()?;
    if keys.sizes() != [values.len()] {
        let (count, keys) = (values.len(), shown(keys));
        return Err(RoutineError::new(format!("a map has {count} values, but keys {keys}")));
    }
    // Without any, a file does not tell of what type they are.
    if keys.dtype() != dtype && !values.is_empty() {
        let message = format!("the map must have keys of {dtype}, but they are {}", keys.dtype());
        return Err(RoutineError::new(message));
    }
    Ok((places(keys)?, values))
}

/// Single elements in one tensor; zero where there is none.
fn joined(
    elements: &[Option<&Tensor>],
    dtype: DType,
    sizes: Vec<usize>,
) -> Result<Tensor, RoutineError> {
    let mut bytes = Vec::with_capacity(Tensor::byte_length(dtype, &sizes)?);
    for element in elements {
        match element {
            None => bytes.extend(std::iter::repeat_n(0, dtype.size())),
            Some(value) if value.dtype() == dtype && value.bytes().len() == dtype.size() => {
                bytes.extend_from_slice(value.bytes());
            }
            Some(value) => {
                let value = shown(value);
                return Err(RoutineError::new(format!("{value} is no value for a map to {dtype}")));
            }
        }
    }
    let joined = Tensor::from_bytes(dtype, sizes, &bytes)?;
    let objects = elements.iter().find_map(|element| element.as_ref()?.objects());
    Ok(match objects {
        Some(objects) => joined.with_objects(objects),
        None => joined,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[&str]) -> Tensor {
        Tensor::from_strings(vec![values.len()], values).unwrap()
    }

    #[test]
    fn what_is_put_in_is_found_by_its_key() {
        let objects = Arc::new(Objects::default());
        let keys = objects.adopt(&strings(&["b", "a", "b"])).unwrap();
        let rows = Tensor::from_slice(vec![2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let made = maps(&[keys, rows], &objects).unwrap().list().unwrap();
        let each = |f: &dyn Fn(&Tensor) -> Tensor| -> Vec<Vec<f64>> {
            made.iter().map(|map| f(map).to_f64()).collect()
        };
        let (text, of) = (DType::String, DType::F32);
        assert_eq!(
            each(&|map| values(std::slice::from_ref(map).try_into().unwrap(), text, of).unwrap()),
            [[2.0, 3.0], [5.0, 6.0]]
        );
        let asked = strings(&["b", "c", "a", "b"]);
        let found = |map: &Tensor| look_up(&[map.clone(), asked.clone()], of).unwrap();
        assert_eq!(each(&found), [[3.0, 0.0, 2.0, 3.0], [6.0, 0.0, 5.0, 6.0]]);
        assert!(values(&[made[0].clone()], text, DType::F64).is_err());
        assert!(look_up(&[made[0].clone(), Tensor::scalar(1.0f32).unwrap()], of).is_err());
        assert!(look_up(&[made[0].clone(), Tensor::scalar(1i64).unwrap()], of).is_err());
        assert!(values(&[made[0].clone()], DType::I64, of).is_err());
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let objects = Arc::new(Objects::default());
        let keys = Tensor::from_slice(vec![2], &[1i64, 2]).unwrap();
        let row = Tensor::from_slice(vec![1, 3], &[1f32; 3]).unwrap();
        assert!(maps(&[keys.clone(), row], &objects).is_err());
        let short = Tensor::from_list(DType::Sequence, &[Tensor::scalar(1f32).unwrap()]).unwrap();
        let map = Tensor::from_list(DType::Map, &[keys.clone(), short]).unwrap();
        assert!(values(&[map], DType::I64, DType::F32).is_err());
        let map = Tensor::from_list(DType::Map, &[keys]).unwrap();
        assert!(values(&[map], DType::I64, DType::F32).is_err());
    }
}
