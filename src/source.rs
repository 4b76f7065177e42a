//! Where a model comes from.
//!
//! Invariant: a path is kept as it is; only the reader opens it.

use bytes::Bytes;
use std::path::{Path, PathBuf};

/// A model to compile.
#[derive(Clone, Debug)]
pub enum Source {
    /// An ONNX file. It is mapped, and external data is looked for in its folder.
    Path(PathBuf),
    /// The bytes of an ONNX file, without external data.
    Bytes(Bytes),
}

impl From<&str> for Source {
    fn from(path: &str) -> Self {
        Source::Path(path.into())
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Source::Path(path.to_owned())
    }
}

impl From<&PathBuf> for Source {
    fn from(path: &PathBuf) -> Self {
        Source::Path(path.clone())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Source::Path(path)
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Source::Bytes(bytes.into())
    }
}

impl From<&[u8]> for Source {
    fn from(bytes: &[u8]) -> Self {
        Source::Bytes(Bytes::copy_from_slice(bytes))
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Source::Bytes(bytes)
    }
}
