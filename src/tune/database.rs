//! The file that records are kept in: one line of JSON each.
//!
//! Invariant: the file only grows, a line at a time; a line that is damaged costs only itself; the
//! order of lines means nothing, so files are merged by putting them together.

use super::record::{Outcome, Record};
use crate::calibrate::Calibration;
use crate::folders;
use kiln_passes::CostModel;
use kiln_passes::tile::Book;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of a line beyond which it is no record.
const LONGEST: u64 = 1 << 20;
/// Bytes of a file beyond which it is not read.
const LARGEST: u64 = 1 << 30;

/// Why a database cannot be used.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The file cannot be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is larger than any database.
    #[error("{}: {bytes} bytes are more than a database of schedules has (at most {LARGEST})", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Nobody says where the user's data is.
    #[error(
        "there is no folder for the database of schedules: neither XDG_DATA_HOME nor HOME is set"
    )]
    NoHome,
}

/// Records, and the file that they are kept in.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    records: Vec<Record>,
    calibrations: Vec<Calibration>,
    /// Hashes of the lines of both.
    known: HashSet<u128>,
    damaged: usize,
}

impl Database {
    /// The user's own: `kiln/schedules.jsonl` in `XDG_DATA_HOME`, which is `~/.local/share` if it
    /// is not set.
    pub fn default_path() -> Result<PathBuf, DatabaseError> {
        let folder =
            folders::of_user("XDG_DATA_HOME", ".local/share").ok_or(DatabaseError::NoHome)?;
        Ok(folder.join("kiln").join("schedules.jsonl"))
    }

    /// Reads a database; one that is not there yet is empty.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DatabaseError> {
        let path = path.into();
        let mut database = Database {
            path,
            records: Vec::new(),
            calibrations: Vec::new(),
            known: HashSet::new(),
            damaged: 0,
        };
        match File::open(&database.path) {
            Ok(file) => database.read(file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(database.fault(error)),
        }
        Ok(database)
    }

    fn read(&mut self, file: File) -> Result<(), DatabaseError> {
        let about = file.metadata().map_err(|error| self.fault(error))?;
        if about.is_dir() {
            return Err(self.fault(io::Error::from(ErrorKind::IsADirectory)));
        }
        if about.len() > LARGEST {
            return Err(DatabaseError::Size { path: self.path.clone(), bytes: about.len() });
        }
        // What grows while it is read, or has no length, ends there, too.
        let mut reader = BufReader::new(file.take(LARGEST));
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line);
            match read.map_err(|error| self.fault(error))? {
                0 => return Ok(()),
                _ if line.iter().all(u8::is_ascii_whitespace) => {}
                _ => match serde_json::from_slice(&line) {
                    Ok(entry) => {
                        self.take(entry);
                    }
                    Err(_) => self.damaged += 1,
                },
            }
        }
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every record.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.calibrations.is_empty()
    }

    /// Lines that are no records.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Adds a record to the file and to what is known.
    pub fn append(&mut self, record: Record) -> Result<(), DatabaseError> {
        self.extend([record])
    }

    /// Adds what was measured of a machine.
    pub fn calibrate(&mut self, calibration: Calibration) -> Result<(), DatabaseError> {
        self.add([Entry::Calibration(calibration)])
    }

    /// Adds the records that are not known yet.
    pub fn extend(
        &mut self,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<(), DatabaseError> {
        self.add(records.into_iter().map(Entry::Record))
    }

    fn add(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), DatabaseError> {
        let mut lines = String::new();
        for entry in entries {
            let line = line(&entry);
            if self.take(entry) {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.write(lines.as_bytes()).map_err(|error| self.fault(error))
    }

    /// Whether an entry was not known.
    fn take(&mut self, entry: Entry) -> bool {
        let new = self.known.insert(xxh3_128(line(&entry).as_bytes()));
        match entry {
            Entry::Record(record) if new => self.records.push(record),
            Entry::Calibration(calibration) if new => self.calibrations.push(calibration),
            Entry::Record(_) | Entry::Calibration(_) => {}
        }
        new
    }

    /// One write at the end, so that lines of several processes do not mix.
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&self.path)?;
        // A line that was cut short must not swallow the next one.
        let cut = ends_within_a_line(&mut file)?;
        let start: &[u8] = if cut { b"\n" } else { b"" };
        file.write_all(&[start, lines].concat())
    }

    /// The schedules that were kept for a target, by kernel; of several the last, since each was compared in
    /// a whole model with the one before.
    pub fn book(&self, target: &str, version: &str) -> Book {
        let mut last = BTreeMap::new();
        for record in &self.records {
            let Outcome::Kept { ratio } = record.outcome else { continue };
            if record.target != target || record.version != version || !ratio.is_finite() {
                continue;
            }
            let known = last.entry(&record.kernel).or_insert((ratio, record));
            // Of several at once the fastest, and of equal ones, one that does not depend on their order in
            // the file.
            let order = known.1.time.cmp(&record.time).then_with(|| ratio.total_cmp(&known.0));
            if order.then_with(|| line(record).cmp(&line(known.1))).is_lt() {
                *known = (ratio, record);
            }
        }
        let mut book = Book::default();
        for (kernel, (_, record)) in last {
            book.enter(kernel.clone(), record.schedule.clone());
        }
        book
    }

    /// The constants that were measured last for a target.
    pub fn cost(&self, target: &str, version: &str) -> Option<CostModel> {
        let here = |c: &&Calibration| c.target == target && c.version == version;
        let sound = self.calibrations.iter().filter(here).filter(|c| c.cost.is_sound());
        // Of several at once, one that does not depend on their order in the file.
        let last = sound.max_by_key(|calibration| (calibration.time, line(calibration)))?;
        Some(last.cost.clone())
    }

    fn fault(&self, error: io::Error) -> DatabaseError {
        DatabaseError::File { path: self.path.clone(), error }
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Record(Record),
    Calibration(Calibration),
}

/// The line of an entry; entries hold nothing that has no JSON.
fn line(entry: &impl Serialize) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    use std::io::{Seek, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
