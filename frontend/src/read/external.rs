//! Tensor bytes kept in files beside the model.
//!
//! Invariant: no file outside the model's folder is opened, whatever the path says and wherever
//! symbolic links lead; each file is mapped once.

use super::source;
use super::tensor::TensorProblem;
use crate::proto::StringStringEntryProto;
use bytes::Bytes;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The files that a model's tensors refer to.
#[derive(Debug, Default)]
pub(super) struct ExternalFiles {
    /// The model's folder; a model given as bytes has none.
    folder: Option<PathBuf>,
    mapped: Mutex<HashMap<PathBuf, Bytes>>,
}

impl ExternalFiles {
    pub(super) fn beside(model: &Path) -> Self {
        let folder = match model.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        ExternalFiles { folder: Some(folder), mapped: Mutex::default() }
    }

    /// The `expected` bytes that the entries of a tensor's `external_data` tell the place of.
    pub(super) fn bytes(
        &self,
        entries: &[StringStringEntryProto],
        expected: usize,
    ) -> Result<Bytes, TensorProblem> {
        let entry =
            |key: &str| entries.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
        let number = |key: &'static str| match entry(key) {
            None => Ok(None),
            Some(text) => text.trim().parse::<usize>().map(Some).map_err(|_| {
                TensorProblem::ExternalEntry { key, value: text.chars().take(80).collect() }
            }),
        };
        let location = entry("location").ok_or(TensorProblem::NoLocation)?;
        let offset = number("offset")?.unwrap_or(0);
        let file = self.file(location)?;
        let length = match number("length")? {
            Some(length) => length,
            None => file.len().saturating_sub(offset),
        };
        if length != expected {
            return Err(TensorProblem::Length { expected, actual: length });
        }
        let end = offset.checked_add(length).filter(|&end| end <= file.len()).ok_or_else(|| {
            TensorProblem::ExternalRange {
                location: location.to_owned(),
                offset,
                length,
                file: file.len(),
            }
        })?;
        Ok(file.slice(offset..end))
    }

    fn file(&self, location: &str) -> Result<Bytes, TensorProblem> {
        let folder = self.folder.as_deref().ok_or(TensorProblem::NoFolder)?;
        let outside = || TensorProblem::OutsideFolder { location: location.to_owned() };
        let unreadable = |source: std::io::Error| TensorProblem::ExternalIo {
            location: location.to_owned(),
            reason: source.to_string(),
        };
        let relative = Path::new(location);
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(plain) {
            return Err(outside());
        }
        // Links are followed before the comparison, so that one that leads out is seen.
        let root = folder.canonicalize().map_err(unreadable)?;
        let path = root.join(relative).canonicalize().map_err(unreadable)?;
        if !path.starts_with(&root) {
            return Err(outside());
        }
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(unreadable(std::io::Error::other("not a regular file")));
        }
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = mapped.get(&path) {
            return Ok(bytes.clone());
        }
        let bytes = source::map(&path).map_err(unreadable)?;
        mapped.insert(path, bytes.clone());
        Ok(bytes)
    }
}
