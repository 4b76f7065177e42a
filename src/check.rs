//! ONNX backend test folders: find them, run them, compare.
//!
//! Invariant: a case passes only if every one of its data sets ran and every output agreed in
//! type, shape and values; nothing that went wrong counts as skipped.

use crate::tensor_file;
use kiln_tensor::{DType, Tensor};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with `model.onnx` and `test_data_set_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name of the folder.
    pub name: String,
    /// The model.
    pub model: PathBuf,
    /// The data sets, by name.
    pub data_sets: Vec<PathBuf>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// All data sets agreed.
    Passed,
    /// Why it failed.
    Failed(String),
    /// Why there was nothing to run.
    Skipped(String),
}

/// How far an output may be from the expected one: `|a - e| ≤ absolute + relative · |e|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closeness {
    /// Relative part.
    pub relative: f64,
    /// Absolute part.
    pub absolute: f64,
}

/// ONNX's own backend-test tolerances.
pub const ONNX_CLOSENESS: Closeness = Closeness { relative: 1e-3, absolute: 1e-7 };

/// The case that a folder is, or the cases among its children, in name order.
pub fn find_cases(folder: &Path) -> std::io::Result<Vec<Case>> {
    if let Some(case) = case_in(folder)? {
        return Ok(vec![case]);
    }
    let mut cases = Vec::new();
    for child in sorted_children(folder)? {
        if child.is_dir() {
            cases.extend(case_in(&child)?);
        }
    }
    Ok(cases)
}

fn sorted_children(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut children = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

fn case_in(folder: &Path) -> std::io::Result<Option<Case>> {
    let model = folder.join("model.onnx");
    if !model.is_file() {
        return Ok(None);
    }
    let data_sets = sorted_children(folder)?
        .into_iter()
        .filter(|child| child.is_dir() && file_name(child).starts_with("test_data_set_"))
        .collect();
    Ok(Some(Case { name: file_name(folder), model, data_sets }))
}

fn file_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The tensors `input_0.pb`, `input_1.pb` … (or `output_…`) of a folder, until one is missing.
pub fn numbered_tensors(
    folder: &Path,
    prefix: &str,
) -> Result<Vec<Tensor>, tensor_file::TensorFileError> {
    (0..)
        .map(|index| folder.join(format!("{prefix}_{index}.pb")))
        .take_while(|path| path.exists())
        .map(|path| tensor_file::read(&path))
        .collect()
}

/// What differs between an output and the expected one, if anything.
pub fn difference(actual: &Tensor, expected: &Tensor, closeness: Closeness) -> Option<String> {
    if actual.dtype() != expected.dtype() {
        return Some(format!("type is {}, expected {}", actual.dtype(), expected.dtype()));
    }
    if actual.sizes() != expected.sizes() {
        return Some(format!("shape is {:?}, expected {:?}", actual.sizes(), expected.sizes()));
    }
    if actual.bytes() == expected.bytes() {
        return None;
    }
    if let (Some(actual), Some(expected)) = (parts(actual), parts(expected)) {
        return difference(&actual, &expected, closeness);
    }
    let (a, e) = (actual.to_f64(), expected.to_f64());
    let mut wrong = 0usize;
    let mut worst: Option<(usize, f64)> = None;
    for (index, (&a, &e)) in a.iter().zip(&e).enumerate() {
        let equal = a == e || (a.is_nan() && e.is_nan());
        let excess = (a - e).abs() - (closeness.absolute + closeness.relative * e.abs());
        if equal || excess <= 0.0 {
            continue;
        }
        wrong += 1;
        // A NaN on one side only is worse than any number.
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if worst.is_none_or(|(_, most)| excess > most) {
            worst = Some((index, excess));
        }
    }
    worst.map(|(index, _)| {
        format!(
            "{wrong} of {} values differ; worst at {:?}: {} instead of {}",
            a.len(),
            coordinates(index, expected.sizes()),
            a[index],
            e[index]
        )
    })
}

/// Real and imaginary parts of complex numbers, in a last dimension.
fn parts(tensor: &Tensor) -> Option<Tensor> {
    let of = match tensor.dtype() {
        DType::C64 => DType::F32,
        DType::C128 => DType::F64,
        _ => return None,
    };
    let sizes = [tensor.sizes(), &[2]].concat();
    Tensor::from_storage(of, sizes, tensor.storage().clone()).ok()
}

fn coordinates(mut index: usize, sizes: &[usize]) -> Vec<usize> {
    let mut position = vec![0; sizes.len()];
    for (slot, &size) in position.iter_mut().zip(sizes).rev() {
        *slot = index % size.max(1);
        index /= size.max(1);
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_and_placed() {
        let expected = Tensor::from_slice(vec![2, 2], &[1f32, 2.0, f32::NAN, 4.0]).unwrap();
        let near = Tensor::from_slice(vec![2, 2], &[1.0005f32, 2.0, f32::NAN, 4.0]).unwrap();
        assert_eq!(difference(&near, &expected, ONNX_CLOSENESS), None);
        let far = Tensor::from_slice(vec![2, 2], &[1f32, 2.0, f32::NAN, 5.0]).unwrap();
        let message = difference(&far, &expected, ONNX_CLOSENESS).unwrap();
        assert!(message.contains("1 of 4") && message.contains("[1, 1]"), "{message}");
        let nan = Tensor::from_slice(vec![2, 2], &[f32::NAN, 2.0, 3.0, 4.0]).unwrap();
        assert!(difference(&nan, &expected, ONNX_CLOSENESS).unwrap().contains("2 of 4"));
        let other = Tensor::from_slice(vec![4], &[1f32, 2.0, 3.0, 4.0]).unwrap();
        assert!(difference(&other, &expected, ONNX_CLOSENESS).unwrap().contains("shape"));
    }
}
