//! Reading an artefact: mapped, checked, and handed out in place.
//!
//! Invariant: an [`Artefact`] exists only if everything but its weights matches its checksums.

use super::layout::{HEAD, Layout, MAGIC, Part};
use super::{ArtefactError, Contents, Manifest};
use crate::{CodeVariant, Program, WeightRange};
use kiln_tensor::Storage;
use memmap2::Mmap;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// How deeply the data of a program may nest. Real ones stay below 50; without a limit, a made-up
/// file could exhaust the stack.
const MAX_DEPTH: usize = 256;

/// Bytes behind an artefact.
type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// An artefact in memory.
pub struct Artefact {
    owner: Owner,
    layout: Layout,
    weights: Storage,
    program: Program,
    code: Vec<CodeVariant<Range<usize>>>,
    notes: BTreeMap<String, String>,
}

impl Artefact {
    /// Whether a file begins as artefacts do, whatever its name; false if it cannot be read.
    pub fn is_one(path: &Path) -> bool {
        let mut start = [0; MAGIC.len()];
        // Only regular files are opened: opening a pipe could block.
        path.is_file()
            && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
            && start == MAGIC
    }

    /// Maps the file and checks everything but the weights.
    ///
    /// The file must not be written or cut short by others while it is in use, as with any
    /// executable.
    pub fn open(path: &Path) -> Result<Self, ArtefactError> {
        let failed = |source| ArtefactError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // Before mapping: a pipe or an empty file cannot be mapped.
        if !metadata.is_file() || metadata.len() < HEAD as u64 {
            return Err(ArtefactError::NotAnArtefact);
        }
        // SAFETY: the mapping is private and read only; the documentation asks callers to leave the
        // file alone while it is mapped.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Self::from_bytes(Arc::new(map))
    }

    /// Checks and takes an artefact that is in memory already. It should start at a multiple of 64
    /// (weights that do not are copied when they are used).
    pub fn from_bytes(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<Self, ArtefactError> {
        let file: &[u8] = (*owner).as_ref();
        let layout = Layout::decode(file)?;
        for part in [Part::Program, Part::Manifest, Part::Objects] {
            if xxh3_64(bytes_of(file, &layout, part)) != layout.section(part).checksum {
                return Err(ArtefactError::damaged(part.name(), "its checksum does not match"));
            }
        }
        let program = decode(file, &layout, Part::Program)?;
        let manifest: Manifest = decode(file, &layout, Part::Manifest)?;
        let code = code_ranges(&layout, &manifest)?;
        let weights = layout
            .section(Part::Weights)
            .range()
            .and_then(|range| Storage::shared(Arc::clone(&owner), range.start, range.len()))
            .ok_or_else(|| ArtefactError::damaged("weights", "they lie outside the file"))?;
        Ok(Artefact { owner, layout, weights, program, code, notes: manifest.notes })
    }

    /// The program; its consistency is checked by [`Program::validate`].
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What was noted when it was compiled.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// The versions of the code; that they fit the program is checked when one is loaded.
    pub fn code(&self) -> impl Iterator<Item = CodeVariant<&[u8]>> {
        let file: &[u8] = (*self.owner).as_ref();
        self.code.iter().map(move |variant| CodeVariant {
            architecture: variant.architecture,
            features: variant.features.clone(),
            objects: variant
                .objects
                .iter()
                .map(|range| file.get(range.clone()).unwrap_or_default())
                .collect(),
            partitions: variant.partitions.clone(),
        })
    }

    /// Writes the same program, weights and notes to a file, with these of its versions of the code.
    pub fn save<'c>(
        &self,
        path: &Path,
        code: impl IntoIterator<Item = CodeVariant<&'c [u8]>>,
    ) -> Result<(), ArtefactError> {
        let code: Vec<CodeVariant> = code.into_iter().map(CodeVariant::into_owned).collect();
        let contents = Contents { program: &self.program, code: &code, notes: &self.notes };
        let range = WeightRange { offset: 0, length: self.weights.len() as u64 };
        let all = (range.length > 0).then_some((range, Cow::Borrowed(&self.weights[..])));
        super::write(path, contents, all)
    }

    /// The weights, in place.
    pub fn weights(&self) -> Storage {
        self.weights.clone()
    }

    /// Checks the weights against their checksum, which reads all of them.
    pub fn verify(&self) -> Result<(), ArtefactError> {
        if xxh3_64(&self.weights) != self.layout.section(Part::Weights).checksum {
            return Err(ArtefactError::damaged("weights", "their checksum does not match"));
        }
        Ok(())
    }
}

fn bytes_of<'a>(file: &'a [u8], layout: &Layout, part: Part) -> &'a [u8] {
    layout.section(part).range().and_then(|range| file.get(range)).unwrap_or_default()
}

fn decode<T: DeserializeOwned>(
    file: &[u8],
    layout: &Layout,
    part: Part,
) -> Result<T, ArtefactError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes_of(file, layout, part));
    decoder.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut decoder).map_err(|error| ArtefactError::damaged(part.name(), error))
}

/// The places of all objects in the file.
fn code_ranges(
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<CodeVariant<Range<usize>>>, ArtefactError> {
    let section = layout.section(Part::Objects);
    let place = |&(offset, length): &(u64, u64)| {
        let end = offset.checked_add(length).filter(|&end| end <= section.length)?;
        let begin = usize::try_from(section.offset.checked_add(offset)?).ok()?;
        Some(begin..usize::try_from(section.offset.checked_add(end)?).ok()?)
    };
    manifest
        .variants
        .iter()
        .map(|variant| {
            let objects = variant.objects.iter().map(place).collect::<Option<Vec<_>>>();
            // Named again and again, an object would take any amount of memory.
            let lengths = variant.objects.iter().map(|&(_, length)| length);
            if lengths.fold(0, u64::saturating_add) > section.length {
                return Err(ArtefactError::damaged("manifest", "objects overlap"));
            }
            Ok(CodeVariant {
                architecture: variant.architecture,
                features: variant.features.clone(),
                objects: objects
                    .ok_or_else(|| ArtefactError::damaged("manifest", "an object lies outside"))?,
                partitions: variant.partitions.clone(),
            })
        })
        .collect()
}
