//! The bytes of a file, mapped.
//!
//! Invariant: only regular files are opened, so that opening never blocks.

use super::{MAX_MODEL_BYTES, ReadError};
use bytes::Bytes;
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Maps the model file at `path`.
pub(super) fn map_model(path: &Path) -> Result<Bytes, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() > MAX_MODEL_BYTES {
        return Err(ReadError::TooLarge { bytes: metadata.len(), limit: MAX_MODEL_BYTES });
    }
    map(path).map_err(io)
}

/// Maps a regular file.
pub(super) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        // A mapping of no bytes is an error on Linux.
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only. Another process that shortens the file while
    // it is mapped can end this one with SIGBUS, as for every program that maps its input.
    let mapping = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapping))
}
