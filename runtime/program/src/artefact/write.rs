//! Writing an artefact: streamed to a file aside, which then takes its place.
//!
//! Invariant: at the path there is the old file or the whole new one, never a part; weights are
//! never held in memory all at once.

use super::layout::{ALIGNMENT, Layout, Part};
use super::{ArtefactError, Manifest, VariantEntry};
use crate::{CodeVariant, Program, WeightRange};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// What an artefact holds beside its weights.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The program.
    pub program: &'a Program,
    /// Versions of the code, the preferred first.
    pub code: &'a [CodeVariant],
    /// What people may want to know of how it was compiled. No times or paths: equal input must
    /// give equal bytes.
    pub notes: &'a BTreeMap<String, String>,
}

/// Writes an artefact to `path`. The weights come in ascending order of their ranges; gaps between
/// them are filled with zeros.
pub fn write<'w>(
    path: &Path,
    contents: Contents<'_>,
    weights: impl IntoIterator<Item = (WeightRange, Cow<'w, [u8]>)>,
) -> Result<(), ArtefactError> {
    let failed = |source| ArtefactError::Io { path: path.to_owned(), source };
    // Following links, so that a link stays one; a device or folder is never replaced.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.exists() && !path.is_file() {
        let kind = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(failed(kind));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kiln-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As for any new file: the user's mask takes away what it should.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The name aside means nothing to anybody.
    let mut aside = builder.tempfile_in(folder).map_err(|error| failed(error.kind().into()))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, aside.as_file_mut());
    write_to(&mut buffered, contents, weights, path)?;
    buffered.flush().map_err(failed)?;
    drop(buffered);
    aside.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Writes an artefact from the start of `sink`; `path` is for messages.
pub(super) fn write_to<'w>(
    sink: &mut (impl Write + Seek),
    contents: Contents<'_>,
    weights: impl IntoIterator<Item = (WeightRange, Cow<'w, [u8]>)>,
    path: &Path,
) -> Result<(), ArtefactError> {
    let failed = |source| ArtefactError::Io { path: path.to_owned(), source };
    let program = encode(contents.program)?;
    let (variants, objects) = place_objects(contents.code);
    let manifest = encode(&Manifest { variants, notes: contents.notes.clone() })?;
    let parts = [&program, &manifest, &objects];
    let lengths =
        |weights| [parts[0].len() as u64, parts[1].len() as u64, parts[2].len() as u64, weights];
    let too_large = || ArtefactError::Unrepresentable("larger than 2^64 bytes".to_owned());

    // Where the weights begin does not depend on their length, which is known only after them.
    let start = Layout::of_lengths(lengths(0)).ok_or_else(too_large)?.section(Part::Weights);
    sink.seek(SeekFrom::Start(start.offset)).map_err(failed)?;
    let mut stream = Checksummed { sink: &mut *sink, length: 0, checksum: Xxh3Default::new() };
    for (range, bytes) in weights {
        if range.length != bytes.len() as u64
            || !range.offset.is_multiple_of(ALIGNMENT)
            || range.offset < stream.length
        {
            return Err(ArtefactError::Unrepresentable(format!(
                "weights of {} bytes at {range:?}, after {} bytes",
                bytes.len(),
                stream.length
            )));
        }
        stream.fill_to(range.offset).map_err(failed)?;
        stream.write(&bytes).map_err(failed)?;
    }
    let (weight_length, weight_checksum) = (stream.length, stream.checksum.digest());

    let mut layout = Layout::of_lengths(lengths(weight_length)).ok_or_else(too_large)?;
    let checksums = parts.map(|part| xxh3_64(part));
    for (section, checksum) in layout.sections.iter_mut().zip(checksums) {
        section.checksum = checksum;
    }
    if let Some(section) = layout.sections.last_mut() {
        section.checksum = weight_checksum;
    }
    sink.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut head = Checksummed { sink, length: 0, checksum: Xxh3Default::new() };
    head.write(&layout.encode()).map_err(failed)?;
    for (section, part) in layout.sections.iter().zip(parts) {
        head.fill_to(section.offset).map_err(failed)?;
        head.write(part).map_err(failed)?;
    }
    head.fill_to(start.offset).map_err(failed)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, ArtefactError> {
    rmp_serde::to_vec(value).map_err(|error| ArtefactError::Unrepresentable(error.to_string()))
}

/// The objects one after the other, each distinct one once, and where each variant's are.
fn place_objects(code: &[CodeVariant]) -> (Vec<VariantEntry>, Vec<u8>) {
    let mut section = Vec::new();
    let mut places: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
    let variants = code
        .iter()
        .map(|variant| VariantEntry {
            architecture: variant.architecture,
            features: variant.features.clone(),
            partitions: variant.partitions.clone(),
            objects: variant
                .objects
                .iter()
                .map(|object| {
                    *places.entry(object).or_insert_with(|| {
                        section.resize(section.len().next_multiple_of(ALIGNMENT as usize), 0);
                        let offset = section.len() as u64;
                        section.extend_from_slice(object);
                        (offset, object.len() as u64)
                    })
                })
                .collect(),
        })
        .collect();
    (variants, section)
}

/// A writer that counts and sums up what it writes.
struct Checksummed<W> {
    sink: W,
    length: u64,
    checksum: Xxh3Default,
}

impl<W: Write> Checksummed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.checksum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros up to this position.
    fn fill_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.length < position {
            let length = (position - self.length).min(ZEROS.len() as u64) as usize;
            self.write(&ZEROS[..length])?;
        }
        Ok(())
    }
}
