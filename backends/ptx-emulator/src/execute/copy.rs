//! Asynchronous copies of bytes: `cp.async` and `cp.async.bulk` (PTX ISA, Data Movement, Asynchronous copy).
//!
//! Invariant: bytes are moved when the copy is issued, but who has not waited for it does not know that: another access
//! to them is a race until then. `cp.async` belongs to the generic proxy, bulk copies to the asynchronous one.

use super::Machine;
use super::address::Target;
use super::warp::Warp;
use crate::fault::{FaultKind, Outcome, Space, Trouble, trouble};
use crate::instruction::{BulkCopy, Completion, Place, Reduction, Source, Window};
use crate::lanes::{Lanes, WIDTH, set};
use crate::memory::{Access, Stamp};
use crate::syntax::Type;

/// The kinds of the agents of copies and of bulk groups.
const COPIES: u8 = 0;
const BULK: u8 = 1;
/// Bytes that one bulk copy moves at most.
const MAX_BULK: u64 = 1 << 20;

impl Machine<'_> {
    /// `cp.async`.
    pub fn copy_async(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        to: Place,
        (from, from_window): (Place, Window),
        bytes: u32,
        source_bytes: Option<Source>,
    ) -> Outcome<()> {
        let (to, from) = (self.addresses(warp, to, mask)?, self.addresses(warp, from, mask)?);
        let given = match source_bytes {
            Some(source) => self.fetch(warp, source, mask)?,
            None => [u64::from(bytes); WIDTH],
        };
        let to = self.targets(warp, mask, Window::Shared, &to, u64::from(bytes))?;
        let reading = set(mask).filter(|l| given[*l] > 0).fold(0u32, |m, l| m | 1 << l);
        let mut sources = [Target::Global(0); WIDTH];
        if reading != 0 {
            sources = self.targets(warp, reading, from_window, &from, u64::from(bytes))?;
        }
        for lane in set(mask) {
            let count = given[lane] as usize;
            if count > bytes as usize {
                let message = format!("{count} bytes of a copy of {bytes}");
                return trouble(lane, FaultKind::Operand(message));
            }
            let mut data = [0u8; 16];
            if count > 0 {
                self.read_bytes(warp, lane, sources[lane], false, &mut data[..count])?;
            }
            let thread = warp.thread + lane;
            let agent = self.clocks.agent(COPIES, thread as u64);
            let stamp = self.clocks.agent_now(agent);
            let access = Access { thread, stamp, asynchronous: false, strong: false };
            if let Target::Shared(block, address) = to[lane] {
                let data = &data[..bytes as usize];
                let written = self.blocks[block].shared.write(address, data, &self.clocks, access);
                written.map_err(|kind| Box::new(Trouble { lane, kind }))?;
            }
        }
        Ok(())
    }

    /// `cp.async.commit_group`.
    pub fn copy_commit(&mut self, warp: &Warp, mask: u32) {
        for lane in set(mask) {
            self.copies_so_far(warp.thread + lane);
        }
    }

    /// The stamp of all copies of a thread until now; those that follow have another.
    pub fn copies_so_far(&mut self, thread: usize) -> Stamp {
        let agent = self.clocks.agent(COPIES, thread as u64);
        self.clocks.agent_advance(agent)
    }

    /// `cp.async.wait_group`, `cp.async.wait_all`.
    pub fn copy_wait(&mut self, warp: &Warp, mask: u32, pending: u32) {
        if pending == u32::MAX {
            self.copy_commit(warp, mask);
        }
        let pending = if pending == u32::MAX { 0 } else { pending };
        for lane in set(mask) {
            self.wait_agent(COPIES, warp.thread + lane, pending);
        }
    }

    fn wait_agent(&mut self, kind: u8, thread: usize, pending: u32) {
        let agent = self.clocks.agent(kind, thread as u64);
        let mut stamp = self.clocks.agent_now(agent);
        stamp.clock = stamp.clock.saturating_sub(1).saturating_sub(pending);
        self.clocks.learn(thread, stamp);
    }

    /// `cp.async.bulk.commit_group`.
    pub fn bulk_commit(&mut self, warp: &Warp, mask: u32) {
        for lane in set(mask) {
            let agent = self.clocks.agent(BULK, (warp.thread + lane) as u64);
            self.clocks.agent_advance(agent);
        }
    }

    /// `cp.async.bulk.wait_group`.
    pub fn bulk_wait(&mut self, warp: &Warp, mask: u32, pending: u32) {
        for lane in set(mask) {
            self.wait_agent(BULK, warp.thread + lane, pending);
        }
    }

    /// What a bulk copy of a thread reads of shared memory.
    pub fn bulk_access(&mut self, thread: usize) -> Access {
        let agent = self.clocks.agent(BULK, thread as u64);
        Access { thread, stamp: self.clocks.agent_now(agent), asynchronous: true, strong: false }
    }

    /// Blocks that a copy writes to, and their mbarriers.
    pub fn destinations(
        &mut self,
        warp: &Warp,
        lane: usize,
        block: usize,
        mbarrier: u64,
        multicast: Option<u64>,
    ) -> Outcome<Vec<(usize, usize, u64)>> {
        let (own, address) = self.mbarrier_at(warp, lane, mbarrier)?;
        let Some(mask) = multicast else { return Ok(vec![(block, own, address)]) };
        let blocks = self.blocks.len();
        if mask == 0 || mask >> blocks != 0 {
            return trouble(
                lane,
                FaultKind::Operand(format!("a multicast to blocks {mask:#x} of {blocks}")),
            );
        }
        Ok((0..blocks).filter(|b| mask >> b & 1 == 1).map(|b| (b, b, address)).collect())
    }

    /// The mbarriers that hear of a copy, and the blocks that get it, if it is for several.
    pub(super) fn told(
        &mut self,
        warp: &Warp,
        mask: u32,
        completion: Completion,
        multicast: Option<Source>,
    ) -> Outcome<(Option<Lanes>, Option<Lanes>)> {
        let mbarriers = match completion {
            Completion::Mbarrier(place) => Some(self.addresses(warp, place, mask)?),
            Completion::Group => None,
        };
        let multicast = multicast.map(|source| self.fetch(warp, source, mask)).transpose()?;
        Ok((mbarriers, multicast))
    }

    /// `cp.async.bulk`, `cp.reduce.async.bulk`.
    pub fn bulk_copy(&mut self, warp: &mut Warp, mask: u32, copy: &BulkCopy) -> Outcome<()> {
        let (to, from) =
            (self.addresses(warp, copy.to, mask)?, self.addresses(warp, copy.from, mask)?);
        let bytes = self.fetch(warp, copy.bytes, mask)?;
        let (mbarriers, multicast) = self.told(warp, mask, copy.completion, copy.multicast)?;
        for lane in set(mask) {
            let size = bytes[lane];
            if size == 0 || size % 16 != 0 || size > MAX_BULK {
                return trouble(lane, FaultKind::Operand(format!("a bulk copy of {size} bytes")));
            }
            let from = self.resolve(warp, lane, copy.from_window, from[lane])?;
            let to = self.resolve(warp, lane, copy.to_window, to[lane])?;
            for target in [from, to] {
                let (space, address) = match target {
                    Target::Global(a) => (Space::Global, a),
                    Target::Shared(_, a) => (Space::Shared, a),
                    _ => {
                        return trouble(
                            lane,
                            FaultKind::Operand(String::from("a bulk copy of another space")),
                        );
                    }
                };
                if address % 16 != 0 {
                    return trouble(lane, FaultKind::Misaligned { space, address, bytes: 16 });
                }
            }
            let thread = warp.thread + lane;
            let mut data = vec![0u8; size as usize];
            self.bulk_read(lane, thread, from, &mut data)?;
            match (to, &mbarriers) {
                (Target::Shared(block, address), Some(mbarriers)) => {
                    let cast = multicast.as_ref().map(|m| m[lane]);
                    let list = self.destinations(warp, lane, block, mbarriers[lane], cast)?;
                    for (block, signalled, mbarrier) in list {
                        let stamp = self.transaction_stamp(thread, lane, signalled, mbarrier)?;
                        let access = Access { thread, stamp, asynchronous: true, strong: false };
                        let shared = &mut self.blocks[block].shared;
                        let written = shared.write(address, &data, &self.clocks, access);
                        written.map_err(|kind| Box::new(Trouble { lane, kind }))?;
                        self.complete_bytes(thread, lane, signalled, mbarrier, size)?;
                    }
                }
                (Target::Global(address), None) => {
                    self.bulk_write(lane, address, &data, copy.reduction)?;
                }
                _ => {
                    return trouble(
                        lane,
                        FaultKind::Operand(String::from("a bulk copy of other spaces")),
                    );
                }
            }
        }
        Ok(())
    }

    /// Reads the source of a bulk copy.
    fn bulk_read(
        &mut self,
        lane: usize,
        thread: usize,
        from: Target,
        data: &mut [u8],
    ) -> Outcome<()> {
        let read = match from {
            Target::Global(address) => {
                self.tally.counters.global_bytes_read += data.len() as u64;
                self.tally.counters.global_sectors += data.len().div_ceil(32) as u64;
                self.memory.read(address, data)
            }
            Target::Shared(block, address) => {
                let access = self.bulk_access(thread);
                self.blocks[block].shared.read(address, data, &self.clocks, access)
            }
            _ => Err(FaultKind::Operand(String::from("a bulk copy of another space"))),
        };
        read.map_err(|kind| Box::new(Trouble { lane, kind }))
    }

    /// Writes bytes to device memory, or combines them with what is there.
    pub fn bulk_write(
        &mut self,
        lane: usize,
        address: u64,
        data: &[u8],
        reduction: Option<(Reduction, Type)>,
    ) -> Outcome<()> {
        let fault = |kind| Box::new(Trouble { lane, kind });
        self.tally.counters.global_bytes_written += data.len() as u64;
        self.tally.counters.global_sectors += data.len().div_ceil(32) as u64;
        let Some((how, kind)) = reduction else {
            return self.memory.write(address, data, false).map_err(fault);
        };
        let name = match how {
            Reduction::Add => "add",
            Reduction::Minimum => "min",
            Reduction::Maximum => "max",
            Reduction::Increment => "inc",
            Reduction::Decrement => "dec",
            Reduction::And => "and",
            Reduction::Or => "or",
            Reduction::Xor => "xor",
        };
        let Some(f) = crate::decode::reduction(name, kind) else {
            return trouble(lane, FaultKind::Operand(format!("a reduction {name} of {kind:?}")));
        };
        let mut before = vec![0u8; data.len()];
        self.memory.read(address, &mut before).map_err(fault)?;
        let size = kind.bytes() as usize;
        for (old, new) in before.chunks_exact_mut(size).zip(data.chunks_exact(size)) {
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
            let result = f(&[word(old); WIDTH], &[word(new); WIDTH])[0];
            old.copy_from_slice(&result.to_le_bytes()[..size]);
        }
        self.memory.write(address, &before, false).map_err(fault)
    }
}
