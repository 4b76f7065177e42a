//! Shared memory of a block: bytes, and who touched each of them last.
//!
//! Invariant: a word of four bytes has one record while all accesses took it as a whole, and four after one did not;
//! so races are found to the byte, and whole words are as fast as if they were not.

use super::clocks::{Clocks, Stamp};
use crate::decode::SHARED_START;
use crate::fault::{FaultKind, Space};

/// Who reads or writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// The thread that accesses, or that asked an agent to.
    pub thread: usize,
    /// What is recorded: the thread's clock, or the agent's.
    pub stamp: Stamp,
    /// Whether the asynchronous proxy does it.
    pub asynchronous: bool,
    /// Whether it is not weak (atomics): such accesses do not race with each other.
    pub strong: bool,
}

const NOBODY: u32 = u32::MAX;

/// What is known of a word or of a byte.
#[derive(Clone, Copy, Debug)]
struct Record {
    writer: u32,
    written: u32,
    /// A reader, or [`MANY`] with the number of a list.
    reader: u32,
    read: u32,
    flags: u8,
}

const MANY: u32 = u32::MAX - 1;

/// The last write was one of the asynchronous proxy.
const ASYNCHRONOUS: u8 = 1;
/// The last write was strong.
const STRONG: u8 = 2;
/// It is part of an mbarrier.
const OPAQUE: u8 = 4;
/// The bytes of this word have records of their own, whose number is `written`.
const SPLIT: u8 = 8;
/// All reads were strong.
const STRONG_READ: u8 = 16;

const FRESH: Record = Record { writer: NOBODY, written: 0, reader: NOBODY, read: 0, flags: 0 };

/// The shared memory of a block.
#[derive(Debug)]
pub(crate) struct Shared {
    data: Vec<u8>,
    records: Vec<Record>,
    split: Vec<[Record; 4]>,
    readers: Vec<Vec<Stamp>>,
    pub check_races: bool,
    pub check_uninitialised: bool,
}

impl Shared {
    pub fn new(bytes: u64) -> Self {
        let size = bytes as usize;
        Shared {
            data: vec![0; size],
            records: vec![FRESH; size.div_ceil(4)],
            split: Vec::new(),
            readers: Vec::new(),
            check_races: true,
            check_uninitialised: true,
        }
    }

    /// Whether bytes are inside.
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        address >= SHARED_START
            && address
                .checked_add(bytes)
                .is_some_and(|end| end - SHARED_START <= self.data.len() as u64)
    }

    fn offset(&self, address: u64, bytes: usize) -> Result<usize, FaultKind> {
        if self.holds(address, bytes as u64) {
            return Ok((address - SHARED_START) as usize);
        }
        Err(FaultKind::OutOfBounds { space: Space::Shared, address, bytes: bytes as u64 })
    }

    /// What bytes hold, after it is checked that they may be read.
    pub fn read(
        &mut self,
        address: u64,
        out: &mut [u8],
        clocks: &Clocks,
        access: Access,
    ) -> Result<(), FaultKind> {
        let offset = self.offset(address, out.len())?;
        out.copy_from_slice(&self.data[offset..offset + out.len()]);
        self.touch(offset, out.len(), clocks, access, false)
    }

    /// Writes bytes, after it is checked that they may be.
    pub fn write(
        &mut self,
        address: u64,
        data: &[u8],
        clocks: &Clocks,
        access: Access,
    ) -> Result<(), FaultKind> {
        let offset = self.offset(address, data.len())?;
        self.touch(offset, data.len(), clocks, access, true)?;
        self.data[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }

    /// Marks the bytes of an mbarrier, which nothing but its own instructions may touch, or unmarks them.
    pub fn mark(&mut self, address: u64, opaque: bool) {
        let Ok(offset) = self.offset(address, 8) else { return };
        for word in offset / 4..offset.div_ceil(4) + 2 {
            if let Some(record) = self.records.get_mut(word) {
                *record = if opaque { Record { flags: OPAQUE, ..FRESH } } else { FRESH };
            }
        }
    }

    fn touch(
        &mut self,
        offset: usize,
        bytes: usize,
        clocks: &Clocks,
        access: Access,
        write: bool,
    ) -> Result<(), FaultKind> {
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let word = at / 4;
            let whole = at.is_multiple_of(4) && end - at >= 4;
            let record = self.records[word];
            if record.flags & SPLIT == 0 && whole {
                self.records[word] = self.check(record, at, clocks, access, write)?;
                at += 4;
                continue;
            }
            if record.flags & SPLIT == 0 {
                self.split_word(word);
            }
            let parts = self.records[word].written as usize;
            let stop = end.min(word * 4 + 4);
            while at < stop {
                let record = self.split[parts][at % 4];
                let changed = self.check(record, at, clocks, access, write)?;
                self.split[parts][at % 4] = changed;
                at += 1;
            }
        }
        Ok(())
    }

    fn split_word(&mut self, word: usize) {
        let record = self.records[word];
        let mut parts = [record; 4];
        if record.reader == MANY {
            let list = self.readers[record.read as usize].clone();
            for part in parts.iter_mut().skip(1) {
                part.read = self.readers.len() as u32;
                self.readers.push(list.clone());
            }
        }
        self.records[word] = Record { written: self.split.len() as u32, flags: SPLIT, ..FRESH };
        self.split.push(parts);
    }

    fn check(
        &mut self,
        mut record: Record,
        at: usize,
        clocks: &Clocks,
        access: Access,
        write: bool,
    ) -> Result<Record, FaultKind> {
        let address = at as u64 + SHARED_START;
        if record.flags & OPAQUE != 0 {
            return Err(FaultKind::Mbarrier {
                address,
                message: "its bytes are accessed as memory",
            });
        }
        if record.writer == NOBODY {
            if !write && self.check_uninitialised {
                return Err(FaultKind::UninitialisedMemory { space: Space::Shared, address });
            }
        } else if self.check_races {
            let stamp = Stamp { by: record.writer, clock: record.written };
            let both_strong = access.strong && record.flags & STRONG != 0;
            if !both_strong && stamp != access.stamp && !clocks.knows(access.thread, stamp) {
                let by = name(clocks, stamp.by);
                let this = describe(access.asynchronous, write);
                let earlier = describe(record.flags & ASYNCHRONOUS != 0, true);
                return Err(FaultKind::Race { address, this, earlier, by });
            }
            if access.asynchronous
                && record.flags & ASYNCHRONOUS == 0
                && !clocks.knows_fenced(access.thread, stamp)
            {
                return Err(FaultKind::MissingProxyFence { address, by: name(clocks, stamp.by) });
            }
        }
        if !self.check_races {
            if write {
                record.writer = access.stamp.by;
                record.written = access.stamp.clock;
            }
            return Ok(record);
        }
        if !write {
            self.note_reader(&mut record, clocks, access);
            return Ok(record);
        }
        if record.reader != NOBODY && !(access.strong && record.flags & STRONG_READ != 0) {
            let unknown =
                |stamp: &Stamp| *stamp != access.stamp && !clocks.knows(access.thread, *stamp);
            let found = if record.reader == MANY {
                self.readers[record.read as usize].iter().find(|s| unknown(s)).copied()
            } else {
                Some(Stamp { by: record.reader, clock: record.read }).filter(unknown)
            };
            if let Some(stamp) = found {
                let by = name(clocks, stamp.by);
                let this = describe(access.asynchronous, true);
                let earlier = describe(clocks.is_agent(stamp.by), false);
                return Err(FaultKind::Race { address, this, earlier, by });
            }
        }
        if record.reader == MANY {
            self.readers[record.read as usize].clear();
        }
        let list = if record.reader == MANY { (MANY, record.read) } else { (NOBODY, 0) };
        let flags = if access.asynchronous { ASYNCHRONOUS } else { 0 }
            | if access.strong { STRONG } else { 0 };
        Ok(Record {
            writer: access.stamp.by,
            written: access.stamp.clock,
            reader: list.0,
            read: list.1,
            flags: flags | STRONG_READ,
        })
    }

    /// Remembers a reader. One that knows the reader before it stands for both.
    fn note_reader(&mut self, record: &mut Record, clocks: &Clocks, access: Access) {
        if !access.strong {
            record.flags &= !STRONG_READ;
        }
        let now = access.stamp;
        if record.reader == NOBODY {
            (record.reader, record.read) = (now.by, now.clock);
            return;
        }
        if record.reader != MANY {
            let before = Stamp { by: record.reader, clock: record.read };
            if before.by == now.by || !access.asynchronous && clocks.knows(access.thread, before) {
                (record.reader, record.read) = (now.by, now.clock);
                return;
            }
            (record.reader, record.read) = (MANY, self.readers.len() as u32);
            self.readers.push(vec![before, now]);
            return;
        }
        let list = &mut self.readers[record.read as usize];
        if let Some(own) = list.iter_mut().find(|s| s.by == now.by) {
            own.clock = own.clock.max(now.clock);
            return;
        }
        // Those that this reader knows need no record of their own.
        if list.len() >= 32 && !access.asynchronous {
            list.retain(|s| !clocks.knows(access.thread, *s));
        }
        list.push(now);
    }
}

fn describe(asynchronous: bool, write: bool) -> &'static str {
    match (asynchronous, write) {
        (false, false) => "read",
        (false, true) => "write",
        (true, false) => "asynchronous read",
        (true, true) => "asynchronous write",
    }
}

fn name(clocks: &Clocks, by: u32) -> String {
    if clocks.is_agent(by) {
        String::from("an asynchronous operation")
    } else {
        format!("warp {} lane {} of the cluster", by / 32, by % 32)
    }
}
