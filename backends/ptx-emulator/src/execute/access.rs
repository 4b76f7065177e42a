//! Loads, stores and atomics of threads.
//!
//! Invariant: lanes access one after another in the order of their numbers; lanes that write the same place in one
//! instruction race if it is shared memory, and the last one wins if it is not.

use super::Machine;
use super::address::Target;
use super::warp::Warp;
use crate::fault::{FaultKind, Outcome, Space, Trouble, trouble};
use crate::instruction::{Atomic, Change, Load, Order, SINK, Store};
use crate::lanes::{Lanes, WIDTH, set};
use crate::memory::Access;
use crate::syntax::{low_bits, sign_extend};

impl Machine<'_> {
    /// What a thread's access is recorded as.
    pub fn generic(&self, thread: usize, strong: bool) -> Access {
        Access { thread, stamp: self.clocks.now(thread), asynchronous: false, strong }
    }

    /// Reads bytes for a lane.
    pub fn read_bytes(
        &mut self,
        warp: &Warp,
        lane: usize,
        target: Target,
        strong: bool,
        out: &mut [u8],
    ) -> Outcome<()> {
        let found = match target {
            Target::Global(address) => {
                self.tally.counters.global_bytes_read += out.len() as u64;
                self.memory.read(address, out)
            }
            Target::Shared(block, address) => {
                let access = self.generic(warp.thread + lane, strong);
                self.blocks[block].shared.read(address, out, &self.clocks, access)
            }
            Target::Local(address) => self.read_local(warp, lane, address, out),
            Target::Parameter(address) => {
                let end = address.checked_add(out.len() as u64);
                match end.and_then(|end| self.parameters.get(address as usize..end as usize)) {
                    Some(bytes) => {
                        out.copy_from_slice(bytes);
                        Ok(())
                    }
                    None => {
                        let bytes = out.len() as u64;
                        Err(FaultKind::OutOfBounds { space: Space::Parameter, address, bytes })
                    }
                }
            }
        };
        found.map_err(|kind| Box::new(Trouble { lane, kind }))
    }

    fn local_at(&self, lane: usize, address: u64, bytes: usize) -> Result<usize, FaultKind> {
        let size = self.kernel.local_bytes;
        let inside = address >= crate::decode::LOCAL_START
            && address.checked_add(bytes as u64).is_some_and(|end| end <= size);
        if !inside {
            return Err(FaultKind::OutOfBounds {
                space: Space::Local,
                address,
                bytes: bytes as u64,
            });
        }
        Ok(lane * size as usize + address as usize)
    }

    fn read_local(
        &self,
        warp: &Warp,
        lane: usize,
        address: u64,
        out: &mut [u8],
    ) -> Result<(), FaultKind> {
        let at = self.local_at(lane, address, out.len())?;
        if self.grid.checks.uninitialised
            && let Some(missing) = warp.local_written.first_missing(at, out.len())
        {
            let address = address + (missing - at) as u64;
            return Err(FaultKind::UninitialisedMemory { space: Space::Local, address });
        }
        out.copy_from_slice(&warp.local[at..at + out.len()]);
        Ok(())
    }

    /// Writes bytes for a lane.
    pub fn write_bytes(
        &mut self,
        warp: &mut Warp,
        lane: usize,
        target: Target,
        strong: bool,
        data: &[u8],
    ) -> Outcome<()> {
        let done = match target {
            Target::Global(address) => {
                self.tally.counters.global_bytes_written += data.len() as u64;
                self.memory.write(address, data, false)
            }
            Target::Shared(block, address) => {
                let access = self.generic(warp.thread + lane, strong);
                self.blocks[block].shared.write(address, data, &self.clocks, access)
            }
            Target::Local(address) => self.local_at(lane, address, data.len()).map(|at| {
                warp.local[at..at + data.len()].copy_from_slice(data);
                warp.local_written.set(at, data.len());
            }),
            Target::Parameter(address) => {
                Err(FaultKind::ReadOnly { space: Space::Parameter, address })
            }
        };
        done.map_err(|kind| Box::new(Trouble { lane, kind }))
    }

    /// A lane's address, if it is a multiple of the access's size.
    fn aligned(&self, lane: usize, target: Target, bytes: u64) -> Outcome<()> {
        let (space, address) = match target {
            Target::Global(a) => (Space::Global, a),
            Target::Shared(_, a) => (Space::Shared, a),
            Target::Local(a) => (Space::Local, a),
            Target::Parameter(a) => (Space::Parameter, a),
        };
        if address % bytes != 0 {
            return trouble(lane, FaultKind::Misaligned { space, address, bytes });
        }
        Ok(())
    }

    /// Where all lanes go, checked for alignment and counted.
    pub fn targets(
        &mut self,
        warp: &Warp,
        mask: u32,
        window: crate::instruction::Window,
        addresses: &Lanes,
        bytes: u64,
    ) -> Outcome<[Target; WIDTH]> {
        let mut targets = [Target::Global(0); WIDTH];
        for lane in set(mask) {
            let target = self.resolve(warp, lane, window, addresses[lane])?;
            self.aligned(lane, target, bytes)?;
            targets[lane] = target;
        }
        self.count_access(mask, &targets, bytes);
        Ok(targets)
    }

    /// `ld`.
    pub fn load(&mut self, warp: &mut Warp, mask: u32, load: &Load) -> Outcome<()> {
        let addresses = self.addresses(warp, load.place, mask)?;
        let size = load.kind.bytes() as usize;
        let count = load.targets.len();
        let targets = self.targets(warp, mask, load.window, &addresses, (size * count) as u64)?;
        let mut values = [[0u64; WIDTH]; 8];
        let mut buffer = [0u8; 32];
        for lane in set(mask) {
            let bytes = &mut buffer[..size * count];
            self.read_bytes(warp, lane, targets[lane], load.order.strong, bytes)?;
            for (element, value) in values.iter_mut().enumerate().take(count) {
                let mut word = [0u8; 8];
                word[..size].copy_from_slice(&bytes[element * size..(element + 1) * size]);
                let raw = u64::from_le_bytes(word);
                value[lane] = if load.kind.is_signed() {
                    sign_extend(raw, load.kind.bits()) & low_bits(load.bits)
                } else {
                    raw
                };
            }
            self.observe(warp, lane, targets[lane], load.order);
        }
        for (target, value) in load.targets.iter().zip(&values) {
            self.write(warp, *target, mask, value)?;
        }
        Ok(())
    }

    /// `st`.
    pub fn store(&mut self, warp: &mut Warp, mask: u32, store: &Store) -> Outcome<()> {
        let addresses = self.addresses(warp, store.place, mask)?;
        let size = store.kind.bytes() as usize;
        let count = store.values.len();
        let targets = self.targets(warp, mask, store.window, &addresses, (size * count) as u64)?;
        let mut buffers = [[0u8; 32]; WIDTH];
        for (element, source) in store.values.iter().enumerate() {
            let values = self.fetch(warp, *source, mask)?;
            for lane in set(mask) {
                buffers[lane][element * size..(element + 1) * size]
                    .copy_from_slice(&values[lane].to_le_bytes()[..size]);
            }
        }
        for lane in set(mask) {
            self.publish(warp, lane, targets[lane], store.order);
            let data = &buffers[lane][..size * count];
            self.write_bytes(warp, lane, targets[lane], store.order.strong, data)?;
        }
        Ok(())
    }

    /// `atom`, `red`.
    pub fn atomic(&mut self, warp: &mut Warp, mask: u32, atomic: &Atomic) -> Outcome<()> {
        let addresses = self.addresses(warp, atomic.place, mask)?;
        let size = atomic.kind.bytes();
        let count = atomic.values.len();
        let targets = self.targets(warp, mask, atomic.window, &addresses, size * count as u64)?;
        let mut operands = Vec::with_capacity(count);
        for source in &atomic.values {
            operands.push(self.fetch(warp, *source, mask)?);
        }
        let second = match atomic.second {
            Some(source) => self.fetch(warp, source, mask)?,
            None => [0; WIDTH],
        };
        let mut old = vec![[0u64; WIDTH]; count];
        for lane in set(mask) {
            self.observe(warp, lane, targets[lane], atomic.order);
            self.publish(warp, lane, targets[lane], atomic.order);
            for element in 0..count {
                let shift = element as u64 * size;
                let target = match targets[lane] {
                    Target::Global(a) => Target::Global(a + shift),
                    Target::Shared(block, a) => Target::Shared(block, a + shift),
                    Target::Local(a) => Target::Local(a + shift),
                    Target::Parameter(a) => Target::Parameter(a + shift),
                };
                let mut word = [0u8; 8];
                self.read_bytes(warp, lane, target, true, &mut word[..size as usize])?;
                let before = u64::from_le_bytes(word);
                old[element][lane] = before;
                let operand = operands[element][lane];
                let after = match atomic.change {
                    Change::Exchange => operand,
                    Change::CompareAndSwap if before == operand => second[lane],
                    Change::CompareAndSwap => before,
                    Change::Apply(f) => {
                        // One lane at a time, since lanes may share a place.
                        let (mut a, mut b) = ([0; WIDTH], [0; WIDTH]);
                        (a[0], b[0]) = (before, operand);
                        f(&a, &b)[0]
                    }
                };
                self.write_bytes(warp, lane, target, true, &after.to_le_bytes()[..size as usize])?;
            }
        }
        for (target, value) in atomic.targets.iter().zip(&old) {
            if *target != SINK {
                self.write(warp, *target, mask, value)?;
            }
        }
        Ok(())
    }

    fn key(target: Target) -> Option<(u32, u64)> {
        match target {
            Target::Global(address) => Some((u32::MAX, address)),
            Target::Shared(block, address) => Some((block as u32, address)),
            _ => None,
        }
    }

    /// A strong read finds what strong writes published.
    fn observe(&mut self, warp: &mut Warp, lane: usize, target: Target, order: Order) {
        if !order.strong || self.published.is_empty() {
            return;
        }
        let Some(joined) = Self::key(target).and_then(|key| self.published.get(&key)) else {
            return;
        };
        let (seen, fenced) = joined.share();
        if order.acquire {
            self.clocks.acquire(warp.thread + lane, &seen, &fenced);
            return;
        }
        let observed = &mut warp.fences_of(lane).observed;
        if observed.len() >= 16 {
            observed.remove(0);
        }
        observed.push((seen, fenced));
    }

    /// A strong write publishes what the thread knows, if it releases or follows a fence.
    fn publish(&mut self, warp: &mut Warp, lane: usize, target: Target, order: Order) {
        if !order.strong || !order.release && warp.fences.is_empty() {
            return;
        }
        let Some(key) = Self::key(target) else { return };
        if order.release {
            let joined = self.published.entry(key).or_default();
            self.clocks.release(warp.thread + lane, joined);
        } else if let Some(released) = &warp.fences_of(lane).released {
            self.published.entry(key).or_default().merge(released);
        }
    }
}
