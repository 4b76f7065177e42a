//! The artefact: one file with program, code and weights, which is mapped and never copied.
//!
//! Invariant: equal contents give equal bytes; every byte outside the weights is covered by a
//! checksum that is checked before the byte is believed, or is padding that must be zero.
//!
//! | bytes | what |
//! |---|---|
//! | 0..64 | header: magic, version, file length, checksum of header and section table |
//! | 64..192 | section table: kind, offset, length, checksum of each section, in file order |
//! | | program: MessagePack of [`Program`] |
//! | | manifest: MessagePack of the code variants and notes |
//! | | objects: relocatable ELF objects, each at a multiple of 64 |
//! | | weights: from the next page to the end of the file, each constant at a multiple of 64 |
//!
//! All numbers are little-endian; checksums are XXH3-64.

mod layout;
mod read;
mod write;

pub use layout::VERSION;
pub use read::Artefact;
pub use write::{Contents, write};

use crate::{Architecture, Partition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use thiserror::Error;

/// Why an artefact cannot be read or written.
#[derive(Debug, Error)]
pub enum ArtefactError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not begin as an artefact does.
    #[error("not a compiled Kiln model")]
    NotAnArtefact,
    /// Made by another version of Kiln.
    #[error(
        "compiled for format version {found}, but this Kiln reads version {VERSION}; \
         compile the model again"
    )]
    Version {
        /// Version in the file.
        found: u32,
    },
    /// The file is not what was written.
    #[error("the compiled model is damaged ({part}: {reason}); compile it again")]
    Damaged {
        /// Part of the file.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that the format cannot hold.
    #[error("cannot be written as an artefact: {0}")]
    Unrepresentable(String),
}

impl ArtefactError {
    fn damaged(part: &'static str, reason: impl ToString) -> Self {
        ArtefactError::Damaged { part, reason: reason.to_string() }
    }
}

/// What is known of the code without looking at it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    variants: Vec<VariantEntry>,
    notes: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VariantEntry {
    architecture: Architecture,
    features: Vec<String>,
    /// Offset in the objects section and length of each object.
    objects: Vec<(u64, u64)>,
    partitions: Vec<Partition>,
}

#[cfg(test)]
mod tests;
