//! mbarriers: arrivals and bytes that complete phases (PTX ISA, mbarrier).
//!
//! Invariant: a phase is complete when no arrival is pending and no byte is expected; who arrives publishes what it
//! knows, and who finds the phase complete knows it. What copies wrote is known with the phase that counts their bytes.

use super::Machine;
use super::address::Target;
use super::step::Flow;
use super::warp::{Wait, Warp};
use crate::decode::SHARED_START;
use crate::fault::{FaultKind, Outcome, Space, trouble};
use crate::instruction::{Mbarrier, Place, Window};
use crate::lanes::{Lanes, WIDTH, set};
use crate::memory::{Clock, Joined, Stamp};

/// The kind of the agents of transactions.
const AGENT: u8 = 3;
/// Arrivals that an mbarrier counts at most (PTX ISA, Size and alignment of mbarrier object).
const MAX_COUNT: u64 = (1 << 20) - 1;

/// The phases of an mbarrier.
#[derive(Debug)]
pub(crate) struct Phases {
    expected: i64,
    pending: i64,
    bytes: i64,
    /// The number of the phase that is not complete.
    pub phase: u64,
    arriving: Joined,
    known: Option<(Clock, Clock)>,
    agent: u32,
    initialised: Stamp,
}

impl Machine<'_> {
    /// The block and the address of an mbarrier.
    pub fn mbarrier_at(&self, warp: &Warp, lane: usize, address: u64) -> Outcome<(usize, u64)> {
        let window = if address >> 40 != 0 { Window::Generic } else { Window::Cluster };
        let Target::Shared(block, address) = self.resolve(warp, lane, window, address)? else {
            return trouble(
                lane,
                FaultKind::Operand(String::from("an mbarrier that is not in shared memory")),
            );
        };
        if address % 8 != 0 {
            return trouble(
                lane,
                FaultKind::Misaligned { space: Space::Shared, address, bytes: 8 },
            );
        }
        if !self.blocks[block].shared.holds(address, 8) {
            return trouble(
                lane,
                FaultKind::OutOfBounds { space: Space::Shared, address, bytes: 8 },
            );
        }
        Ok((block, address))
    }

    /// An mbarrier that a thread may use: its initialisation happened before.
    fn phases(
        &mut self,
        thread: usize,
        lane: usize,
        block: usize,
        address: u64,
    ) -> Outcome<&mut Phases> {
        let known = match self.blocks[block].mbarriers.get(&address) {
            Some(phases) => self.clocks.knows(thread, phases.initialised),
            None => {
                return trouble(
                    lane,
                    FaultKind::Mbarrier { address, message: "it was not initialised" },
                );
            }
        };
        if !known && self.grid.checks.races {
            let message = "its initialisation is not ordered before its use";
            return trouble(lane, FaultKind::Mbarrier { address, message });
        }
        match self.blocks[block].mbarriers.get_mut(&address) {
            Some(phases) => Ok(phases),
            None => {
                trouble(lane, FaultKind::Mbarrier { address, message: "it was not initialised" })
            }
        }
    }

    /// The stamp of copies that complete on an mbarrier.
    pub fn transaction_stamp(
        &mut self,
        thread: usize,
        lane: usize,
        block: usize,
        address: u64,
    ) -> Outcome<Stamp> {
        let agent = self.phases(thread, lane, block, address)?.agent;
        Ok(self.clocks.agent_now(agent))
    }

    /// Bytes of a copy have come.
    pub fn complete_bytes(
        &mut self,
        thread: usize,
        lane: usize,
        block: usize,
        address: u64,
        bytes: u64,
    ) -> Outcome<()> {
        self.phases(thread, lane, block, address)?.bytes -= bytes as i64;
        self.complete(lane, block, address)
    }

    fn complete(&mut self, lane: usize, block: usize, address: u64) -> Outcome<()> {
        let Some(phases) = self.blocks[block].mbarriers.get_mut(&address) else { return Ok(()) };
        if phases.bytes.unsigned_abs() > MAX_COUNT {
            return trouble(
                lane,
                FaultKind::Mbarrier { address, message: "its transaction count overflows" },
            );
        }
        if phases.pending < 0 {
            return trouble(
                lane,
                FaultKind::Mbarrier { address, message: "more arrivals than it expects" },
            );
        }
        if phases.pending == 0 && phases.bytes == 0 {
            phases.phase += 1;
            phases.pending = phases.expected;
            let mut joined = std::mem::take(&mut phases.arriving);
            joined.add(self.clocks.agent_advance(phases.agent));
            phases.known = Some(joined.share());
        }
        Ok(())
    }

    fn lanes_of(&mut self, warp: &Warp, place: Place, mask: u32) -> Outcome<[(usize, u64); WIDTH]> {
        let addresses = self.addresses(warp, place, mask)?;
        let mut out = [(0, 0); WIDTH];
        for lane in set(mask) {
            out[lane] = self.mbarrier_at(warp, lane, addresses[lane])?;
        }
        Ok(out)
    }

    /// An instruction on mbarriers.
    pub fn mbarrier(&mut self, warp: &mut Warp, mask: u32, mbarrier: &Mbarrier) -> Outcome<Flow> {
        match mbarrier {
            Mbarrier::Init { place, count } => {
                let (at, counts) =
                    (self.lanes_of(warp, *place, mask)?, self.fetch(warp, *count, mask)?);
                for lane in set(mask) {
                    self.init(warp, lane, at[lane], counts[lane])?;
                }
            }
            Mbarrier::Invalidate { place } => {
                let at = self.lanes_of(warp, *place, mask)?;
                for lane in set(mask) {
                    let (block, address) = at[lane];
                    self.phases(warp.thread + lane, lane, block, address)?;
                    self.blocks[block].mbarriers.remove(&address);
                    self.blocks[block].shared.mark(address, false);
                }
            }
            Mbarrier::Arrive { place, count, expect, target, drop, no_complete, .. } => {
                let at = self.lanes_of(warp, *place, mask)?;
                let counts = self.fetch(warp, *count, mask)?;
                let bytes = match expect {
                    Some(source) => self.fetch(warp, *source, mask)?,
                    None => [0; WIDTH],
                };
                let mut states = [0; WIDTH];
                for lane in set(mask) {
                    let count = counts[lane];
                    states[lane] =
                        self.arrive(warp.thread + lane, lane, at[lane], count, bytes[lane], *drop)?;
                    let (block, address) = at[lane];
                    let completed = self.blocks[block].mbarriers.get(&address);
                    if *no_complete
                        && completed.is_some_and(|p| p.phase != states[lane] & 0xffff_ffff)
                    {
                        let message = "an arrival with .noComplete completes its phase";
                        return trouble(lane, FaultKind::Mbarrier { address, message });
                    }
                }
                self.write(warp, *target, mask, &states)?;
            }
            Mbarrier::Expect { place, bytes, .. } => {
                let (at, bytes) =
                    (self.lanes_of(warp, *place, mask)?, self.fetch(warp, *bytes, mask)?);
                for lane in set(mask) {
                    let (block, address) = at[lane];
                    self.phases(warp.thread + lane, lane, block, address)?.bytes +=
                        bytes[lane] as i64;
                    self.complete(lane, block, address)?;
                }
            }
            Mbarrier::Complete { place, bytes, .. } => {
                let (at, bytes) =
                    (self.lanes_of(warp, *place, mask)?, self.fetch(warp, *bytes, mask)?);
                for lane in set(mask) {
                    let (block, address) = at[lane];
                    self.complete_bytes(warp.thread + lane, lane, block, address, bytes[lane])?;
                }
            }
            Mbarrier::Test { place, target, state, parity, blocking } => {
                let (at, states) =
                    (self.lanes_of(warp, *place, mask)?, self.fetch(warp, *state, mask)?);
                return self.test(warp, mask, &at, &states, *target, *parity, *blocking);
            }
            Mbarrier::Pending { target, state } => {
                let states = self.fetch(warp, *state, mask)?;
                self.write(warp, *target, mask, &states.map(|s| s >> 32))?;
            }
            Mbarrier::CopiesArrive { place, no_increment } => {
                let at = self.lanes_of(warp, *place, mask)?;
                for lane in set(mask) {
                    let (block, address) = at[lane];
                    let stamp = self.copies_so_far(warp.thread + lane);
                    let phases = self.phases(warp.thread + lane, lane, block, address)?;
                    phases.arriving.add(stamp);
                    // Without `.noinc` the arrival is counted as expected first.
                    if *no_increment {
                        phases.pending -= 1;
                    }
                    self.complete(lane, block, address)?;
                }
            }
        }
        Ok(Flow::Next)
    }

    fn init(&mut self, warp: &Warp, lane: usize, at: (usize, u64), count: u64) -> Outcome<()> {
        let (block, address) = at;
        if count == 0 || count > MAX_COUNT {
            return trouble(
                lane,
                FaultKind::Mbarrier { address, message: "its count is out of range" },
            );
        }
        if self.blocks[block].mbarriers.contains_key(&address) {
            return trouble(
                lane,
                FaultKind::Mbarrier { address, message: "it is initialised twice" },
            );
        }
        // It is a write of its bytes, and races as such.
        let access = self.generic(warp.thread + lane, false);
        let write = self.blocks[block].shared.write(address, &[0; 8], &self.clocks, access);
        if let Err(kind) = write {
            return trouble(lane, kind);
        }
        self.blocks[block].shared.mark(address, true);
        let owner = (block as u64) << 32 | (address - SHARED_START);
        let agent = self.clocks.agent(AGENT, owner);
        let initialised = self.clocks.now(warp.thread + lane);
        let count = count as i64;
        self.blocks[block].mbarriers.insert(
            address,
            Phases {
                expected: count,
                pending: count,
                bytes: 0,
                phase: 0,
                arriving: Joined::default(),
                known: None,
                agent,
                initialised,
            },
        );
        Ok(())
    }

    /// An arrival; gives the state before it: the phase, and from bit 32 on what was pending.
    fn arrive(
        &mut self,
        thread: usize,
        lane: usize,
        (block, address): (usize, u64),
        count: u64,
        bytes: u64,
        drop: bool,
    ) -> Outcome<u64> {
        if count == 0 || count > MAX_COUNT {
            return trouble(
                lane,
                FaultKind::Mbarrier { address, message: "an arrival's count is out of range" },
            );
        }
        self.phases(thread, lane, block, address)?;
        let Some(phases) = self.blocks[block].mbarriers.get_mut(&address) else { return Ok(0) };
        let state = phases.phase & 0xffff_ffff | (phases.pending as u64) << 32;
        phases.bytes += bytes as i64;
        phases.pending -= count as i64;
        if drop {
            phases.expected -= count as i64;
        }
        self.clocks.release(thread, &mut phases.arriving);
        self.complete(lane, block, address)?;
        Ok(state)
    }

    #[allow(clippy::too_many_arguments)]
    fn test(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        at: &[(usize, u64); WIDTH],
        states: &Lanes,
        target: u32,
        parity: bool,
        blocking: bool,
    ) -> Outcome<Flow> {
        let mut out = [0; WIDTH];
        let mut incomplete = None;
        for lane in set(mask) {
            let (block, address) = at[lane];
            let thread = warp.thread + lane;
            let phases = self.phases(thread, lane, block, address)?;
            let (phase, known) = (phases.phase, phases.known.clone());
            let complete = if parity {
                phase & 1 != states[lane] & 1
            } else {
                phase & 0xffff_ffff != states[lane] & 0xffff_ffff
            };
            out[lane] = u64::from(complete);
            match known {
                Some((seen, fenced)) if complete => self.clocks.acquire(thread, &seen, &fenced),
                _ => {}
            }
            if !complete {
                incomplete = Some(Wait::Mbarrier { block, address, phase });
            }
        }
        // A `try_wait` may suspend its thread until the phase is complete, so a whole group is; one of which only some
        // lanes would wait goes on, since the others may be what they wait for.
        match incomplete {
            Some(wait) if blocking && out.iter().all(|v| *v == 0) => Ok(Flow::Stay(wait)),
            _ => {
                self.write(warp, target, mask, &out)?;
                Ok(Flow::Next)
            }
        }
    }
}
