//! Header and section table: where the parts of an artefact lie.
//!
//! Invariant: sections lie in table order without overlap, with nothing but zeros between them, and
//! the last one ends where the file ends.

use super::ArtefactError;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Version of the format. It changes with every change of what is written.
pub const VERSION: u32 = 5;

/// Not text, and broken by anything that treats the file as text.
pub(super) const MAGIC: [u8; 8] = *b"\x89KILN\r\n\x1a";

/// Bytes of the header and of the table.
const HEADER: usize = 64;
const ENTRY: usize = 32;
pub(super) const HEAD: usize = HEADER + Part::ALL.len() * ENTRY;

/// Alignment of all sections but the weights, and of each object and constant in theirs.
pub(super) const ALIGNMENT: u64 = 64;
/// Alignment of the weights.
pub(super) const PAGE: u64 = 4096;

/// A section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Program,
    Manifest,
    Objects,
    Weights,
}

impl Part {
    /// All sections in file order.
    pub(super) const ALL: [Part; 4] = [Part::Program, Part::Manifest, Part::Objects, Part::Weights];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Part::Program => "program",
            Part::Manifest => "manifest",
            Part::Objects => "objects",
            Part::Weights => "weights",
        }
    }

    const fn alignment(self) -> u64 {
        match self {
            Part::Weights => PAGE,
            _ => ALIGNMENT,
        }
    }
}

/// Place and checksum of one section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) checksum: u64,
}

impl Section {
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }

    pub(super) fn range(&self) -> Option<Range<usize>> {
        Some(usize::try_from(self.offset).ok()?..usize::try_from(self.end()?).ok()?)
    }
}

/// Places of all sections, in the order of [`Part::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) sections: [Section; Part::ALL.len()],
}

impl Layout {
    pub(super) fn section(&self, part: Part) -> Section {
        self.sections[part as usize]
    }

    /// Puts sections of these lengths one after the other; `None` if that overflows.
    pub(super) fn of_lengths(lengths: [u64; Part::ALL.len()]) -> Option<Layout> {
        let mut layout = Layout::default();
        let mut end = HEAD as u64;
        for ((part, section), length) in Part::ALL.iter().zip(&mut layout.sections).zip(lengths) {
            section.offset = end.checked_next_multiple_of(part.alignment())?;
            section.length = length;
            end = section.end()?;
        }
        Some(layout)
    }

    fn file_length(&self) -> Option<u64> {
        self.section(Part::Weights).end()
    }

    /// Header and table as they stand in the file.
    pub(super) fn encode(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let length = self.file_length().unwrap_or_default();
        head[16..24].copy_from_slice(&length.to_le_bytes());
        let entries = head[HEADER..].chunks_exact_mut(ENTRY);
        for ((entry, part), section) in entries.zip(Part::ALL).zip(&self.sections) {
            entry[..4].copy_from_slice(&(part as u32).to_le_bytes());
            entry[8..16].copy_from_slice(&section.offset.to_le_bytes());
            entry[16..24].copy_from_slice(&section.length.to_le_bytes());
            entry[24..].copy_from_slice(&section.checksum.to_le_bytes());
        }
        let checksum = xxh3_64(&head);
        head[24..32].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    /// Reads and checks header and table of this file.
    pub(super) fn decode(file: &[u8]) -> Result<Layout, ArtefactError> {
        if !file.starts_with(&MAGIC) {
            return Err(ArtefactError::NotAnArtefact);
        }
        let cut_off = || ArtefactError::damaged("header", "the file is cut off");
        // The version stands where it stood in every version.
        let version = file.get(8..12).and_then(|bytes| bytes.first_chunk()).ok_or_else(cut_off)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(ArtefactError::Version { found: version });
        }
        let head: &[u8; HEAD] = file.first_chunk().ok_or_else(cut_off)?;
        let mut layout = Layout::default();
        for (entry, section) in head[HEADER..].chunks_exact(ENTRY).zip(&mut layout.sections) {
            let number = |at: usize| {
                entry[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).unwrap_or(0)
            };
            *section = Section { offset: number(8), length: number(16), checksum: number(24) };
        }
        // Whatever is not a section's place or checksum is a function of those.
        if layout.encode() != *head {
            return Err(ArtefactError::damaged("header", "its checksum does not match"));
        }
        layout.check_places(file)?;
        Ok(layout)
    }

    /// A table with a right checksum may still have been made by something else than Kiln.
    fn check_places(&self, file: &[u8]) -> Result<(), ArtefactError> {
        let lengths = self.sections.map(|section| section.length);
        let expected = Layout::of_lengths(lengths).map(|layout| layout.sections);
        let places = |sections: [Section; Part::ALL.len()]| sections.map(|s| s.offset);
        if expected.map(places) != Some(places(self.sections)) {
            return Err(ArtefactError::damaged("section table", "sections lie elsewhere"));
        }
        if self.file_length() != Some(file.len() as u64) {
            let expected = self.file_length().unwrap_or_default();
            let reason = format!("the file has {} bytes instead of {expected}", file.len());
            return Err(ArtefactError::damaged("section table", reason));
        }
        let mut end = HEAD;
        for section in &self.sections {
            let range = section.range().unwrap_or_default();
            let padding = file.get(end..range.start).unwrap_or_default();
            if padding.iter().any(|&byte| byte != 0) {
                return Err(ArtefactError::damaged("padding", "it is not zero"));
            }
            end = range.end;
        }
        Ok(())
    }
}
