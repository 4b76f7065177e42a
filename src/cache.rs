//! Machine code of kernels, kept in a folder from one compilation to the next.
//!
//! Invariant: what is found is what compiling would give, to the byte. The name of a file is a hash of all
//! that its code follows from, which the file's checksum covers, too; a file that is damaged counts as absent,
//! and one that is being written has a name that nobody looks for.

use crate::folders;
use kiln_backends::{CodeGenerator, Target, Unit};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

/// Bytes that the files of a cache may take in all, unless something else is asked for.
const LIMIT: u64 = 1 << 30;
/// Bytes beyond which a file is no code of a kernel.
const LARGEST: u64 = 64 << 20;
/// A file that was used is marked so once in such a time.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// What a file begins with; the checksum and the code follow.
const MAGIC: &[u8; 8] = b"KILNOBJ1";

/// Why there is no cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The folder cannot be used.
    #[error("{}: {error}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Nobody says where the user's cache is.
    #[error("there is no folder for compiled kernels: neither XDG_CACHE_HOME nor HOME is set")]
    NoHome,
}

/// A folder with the code of kernels.
///
/// What is in it runs with the rights of whoever uses it, as programs of the same user do: keep it where
/// only they write. Several processes may use one at once.
#[derive(Debug)]
pub struct KernelCache {
    folder: PathBuf,
    limit: u64,
    /// The folder that was written to last.
    written: Mutex<Option<PathBuf>>,
    /// The first thing that went wrong with keeping code, which costs no compilation.
    fault: Mutex<Option<io::Error>>,
}

/// How much of a program's code was there already, for all machines that it has code for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheUse {
    /// Distinct functions that were found.
    pub found: usize,
    /// Functions that were compiled.
    pub compiled: usize,
    /// Why what was compiled could not be kept, if it could not.
    pub fault: Option<String>,
}

impl CacheUse {
    /// Of two programs together.
    pub(crate) fn and(self, other: CacheUse) -> Self {
        CacheUse {
            found: self.found + other.found,
            compiled: self.compiled + other.compiled,
            fault: self.fault.or(other.fault),
        }
    }
}

impl KernelCache {
    /// The user's own: `kiln/kernels` in `XDG_CACHE_HOME`, which is `~/.cache` if it is not set.
    pub fn default_path() -> Result<PathBuf, CacheError> {
        let folder = folders::of_user("XDG_CACHE_HOME", ".cache").ok_or(CacheError::NoHome)?;
        Ok(folder.join("kiln").join("kernels"))
    }

    /// The cache in a folder, which is made if it is not there.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let folder = folder.into();
        match fs::create_dir_all(&folder) {
            Ok(()) => Ok(KernelCache {
                folder,
                limit: LIMIT,
                written: Mutex::default(),
                fault: Mutex::default(),
            }),
            Err(error) => Err(CacheError::Folder { path: folder, error }),
        }
    }

    /// The same with so many bytes at most: what was not used for longest goes first.
    pub fn limit(self, bytes: u64) -> Self {
        KernelCache { limit: bytes, ..self }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What went wrong since this was last asked, if anything did; compilations went on without.
    pub(crate) fn take_fault(&self) -> Option<String> {
        let fault = lock(&self.fault).take()?;
        Some(format!("{}: {fault}", self.folder.display()))
    }

    /// The code of a unit, if it is there.
    pub(crate) fn find(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        let about = fs::metadata(&path).ok()?;
        if !about.is_file() || about.len() > LARGEST {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let (head, code) = bytes.split_at_checked(HEAD)?;
        if head != self::head(key, code) {
            return None;
        }
        let old = about.modified().ok().and_then(|time| time.elapsed().ok());
        if old.is_some_and(|old| old > FRESH) {
            // One that cannot be marked is only forgotten sooner.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
        Some(code.to_vec())
    }

    /// Keeps the code of a unit.
    pub(crate) fn keep(&self, key: &Key, code: &[u8]) {
        if code.len() as u64 > LARGEST - HEAD as u64 {
            return;
        }
        if let Err(error) = self.write(key, code) {
            lock(&self.fault).get_or_insert(error);
        }
    }

    fn write(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        let mut aside = tempfile::Builder::new().suffix(".part").tempfile_in(folder)?;
        aside.write_all(&head(key, code))?;
        aside.write_all(code)?;
        aside.persist(&path).map_err(|error| error.error)?;
        *lock(&self.written) = Some(folder.to_owned());
        Ok(())
    }

    /// Deletes what was not used for longest, until the files take no more than they may. Looks at all of them
    /// only if one of their folders, which hashes fill alike, holds its share of that.
    pub(crate) fn trim(&self) {
        let Some(written) = lock(&self.written).take() else { return };
        let share: u64 = files(&written).map(|(_, bytes, _)| bytes).sum();
        if share.saturating_mul(FOLDERS) <= self.limit {
            return;
        }
        let mut files: Vec<_> =
            entries(&self.folder).flat_map(|folder| files(&folder.path())).collect();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        if bytes <= self.limit {
            return;
        }
        files.sort();
        for (_, size, path) in files {
            // Room for what comes next.
            if bytes <= self.limit / 4 * 3 {
                return;
            }
            match fs::remove_file(&path) {
                Ok(()) => bytes -= size,
                Err(error) if error.kind() == ErrorKind::NotFound => bytes -= size,
                Err(_) => {}
            }
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name = format!("{:032x}", key.0);
        let (folder, file) = name.split_at(2);
        self.folder.join(folder).join(file)
    }
}

/// Folders of a cache, by the first two digits of the names.
const FOLDERS: u64 = 256;
/// Bytes before the code.
const HEAD: usize = 16;

/// What stands in a file before the code.
fn head(key: &Key, code: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    let sum = xxh3_64_with_seed(code, xxh3_64(&key.0.to_le_bytes()));
    head[8..].copy_from_slice(&sum.to_le_bytes());
    head
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// When each file of a folder was used last, its size and its path. What cannot be looked at is passed over.
fn files(folder: &Path) -> impl Iterator<Item = (SystemTime, u64, PathBuf)> + use<> {
    entries(folder).filter_map(|entry| {
        let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some((used, about.len(), entry.path()))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that the code of a unit follows from, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u128);

impl Key {
    /// The key of a unit; `None` for what has no serial form, of which there is nothing.
    pub(crate) fn of(
        generator: &dyn CodeGenerator,
        target: &Target,
        unit: &Unit<'_>,
    ) -> Option<Self> {
        // Not the caches and cores of the machine, which schedules follow from and code does not.
        let Target { triple, cpu, features, vector_bits, vector_registers, machine: _ } = target;
        let target = (triple, cpu, features, vector_bits, vector_registers);
        let Unit { kernel, schedule, symbol } = unit;
        let all = (generator.revision(), target, kernel, schedule, symbol);
        Some(Key(xxh3_128(&rmp_serde::to_vec(&all).ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(limit: u64) -> (tempfile::TempDir, KernelCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache::open(folder.path().join("kernels")).unwrap().limit(limit);
        (folder, cache)
    }

    #[test]
    fn code_comes_back_as_it_was_and_damage_is_absence() {
        let (_folder, cache) = cache(LIMIT);
        let (key, other) = (Key(7), Key(7 << 120));
        assert_eq!(cache.find(&key), None);
        cache.keep(&key, b"some code");
        cache.keep(&other, b"");
        assert_eq!(cache.find(&key).as_deref(), Some(&b"some code"[..]));
        assert_eq!(cache.find(&other).as_deref(), Some(&b""[..]));
        let whole = fs::read(cache.path(&key)).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            fs::write(cache.path(&key), &damaged).unwrap();
            assert_eq!(cache.find(&key), None, "byte {place}");
            fs::write(cache.path(&key), &whole[..place]).unwrap();
            assert_eq!(cache.find(&key), None, "cut at {place}");
        }
        // What is damaged is written anew.
        cache.keep(&key, b"some code");
        assert_eq!(cache.find(&key).as_deref(), Some(&b"some code"[..]));
        assert!(cache.take_fault().is_none());
        // A file under another's name is damage, too.
        fs::copy(cache.path(&key), cache.path(&other)).unwrap();
        assert_eq!(cache.find(&other), None);
        let mut all = entries(cache.folder()).flat_map(|folder| files(&folder.path()));
        assert!(all.all(|(.., path)| path.extension().is_none()));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let (_folder, cache) = cache(1000);
        let now = SystemTime::now();
        for number in 0..10u8 {
            // All in one folder, so that its share is more than it should be.
            let key = Key(u128::from(number));
            cache.keep(&key, &[number; 100]);
            // Seconds apart, the first used last.
            let file = File::open(cache.path(&key)).unwrap();
            let before = Duration::from_secs(if number == 0 { 0 } else { 100 - u64::from(number) });
            file.set_modified(now - before).unwrap();
        }
        cache.trim();
        let left: Vec<u8> =
            (0..10u8).filter(|&number| cache.find(&Key(u128::from(number))).is_some()).collect();
        assert_eq!(left, [0, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error_and_one_that_vanishes_is_noticed() {
        let (folder, cache) = cache(LIMIT);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = KernelCache::open(&file).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
        fs::remove_dir_all(cache.folder()).unwrap();
        fs::write(cache.folder(), "").unwrap();
        cache.keep(&Key(1), b"code");
        assert!(cache.take_fault().is_some() && cache.take_fault().is_none());
        cache.trim();
    }
}
