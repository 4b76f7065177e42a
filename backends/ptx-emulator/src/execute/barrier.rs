//! Barriers of blocks, warps and clusters, and fences (PTX ISA, bar, barrier.cluster, bar.warp.sync, fence).
//!
//! Invariant: who arrives publishes what it knows, who has waited knows what was published.

use super::Machine;
use super::step::Flow;
use super::warp::{Wait, Warp};
use crate::fault::{FaultKind, Outcome, trouble};
use crate::instruction::{BarrierReduction, Source};
use crate::lanes::{WIDTH, set};
use crate::memory::{Clock, Joined};

type Known = (Clock, Clock);

/// One of the sixteen barriers of a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Barrier {
    arrived: u32,
    expected: Option<u32>,
    generation: u64,
    joined: Joined,
    known: Known,
    /// Of the predicates so far: how many, and how many held.
    voted: (u32, u32),
    result: (u32, u32),
}

/// The barrier of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterBarrier {
    alive: u32,
    arrived: u32,
    generation: u64,
    joined: Joined,
    known: Known,
}

impl ClusterBarrier {
    pub fn new(threads: u32) -> Self {
        ClusterBarrier {
            alive: threads,
            arrived: 0,
            generation: 0,
            joined: Joined::default(),
            known: Known::default(),
        }
    }

    /// Threads exit; those that are left may then all have arrived.
    pub fn leave(&mut self, threads: u32) {
        self.alive -= threads.min(self.alive);
        self.complete();
    }

    fn complete(&mut self) {
        if self.arrived > 0 && self.arrived >= self.alive {
            self.arrived = 0;
            self.generation += 1;
            self.known = std::mem::take(&mut self.joined).share();
        }
    }
}

impl Machine<'_> {
    /// `bar.sync`, `bar.arrive`, `bar.red`.
    #[allow(clippy::too_many_arguments)]
    pub fn barrier(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        group: u32,
        id: Source,
        count: Option<Source>,
        wait: bool,
        aligned: bool,
        reduce: Option<(BarrierReduction, u32, Source, bool)>,
    ) -> Outcome<Flow> {
        let lane = mask.trailing_zeros() as usize;
        let missing = warp.alive() & !mask;
        if aligned && missing & group != 0 {
            return trouble(lane, FaultKind::DivergentBarrier { arrived: mask, missing });
        }
        if aligned && missing != 0 {
            // Lanes that are elsewhere may be on their way here; if they are not, nothing goes on in the end.
            return Ok(Flow::Stay(Wait::Converge(warp.alive())));
        }
        let ids = self.fetch(warp, id, mask)?;
        let threads = self.grid.block.iter().product::<u32>().next_multiple_of(WIDTH as u32);
        let expected = match count {
            Some(count) => self.fetch(warp, count, mask)?[lane] as u32,
            None => threads,
        };
        let id = ids[lane] as usize;
        if set(mask).any(|l| ids[l] as usize != id) || id >= 16 {
            return trouble(lane, FaultKind::Operand(format!("barrier {id}")));
        }
        if expected == 0 || expected % WIDTH as u32 != 0 || expected > threads {
            return trouble(lane, FaultKind::Operand(format!("a barrier of {expected} threads")));
        }
        let votes = match reduce {
            Some((.., p, negated)) => {
                let values = self.fetch(warp, p, mask)?;
                set(mask).filter(|l| (values[*l] != 0) != negated).count() as u32
            }
            None => 0,
        };
        let (block, thread) = (warp.block, warp.thread);
        let barrier = &mut self.blocks[block].barriers[id];
        if *barrier.expected.get_or_insert(expected) != expected {
            let message = format!(
                "barrier {id} is used with {expected} threads and with another number at once"
            );
            return trouble(lane, FaultKind::Operand(message));
        }
        for lane in set(mask) {
            self.clocks.release(thread + lane, &mut barrier.joined);
        }
        // Lanes that a last, partial warp lacks arrive with its lane 0.
        let lacking = if mask & 1 == 1 { (!warp.exists).count_ones() } else { 0 };
        barrier.arrived += mask.count_ones() + lacking;
        barrier.voted.0 += mask.count_ones();
        barrier.voted.1 += votes;
        if barrier.arrived > expected {
            let message = format!("{} threads at barrier {id} of {expected}", barrier.arrived);
            return trouble(lane, FaultKind::Operand(message));
        }
        let generation = barrier.generation;
        if barrier.arrived == expected {
            barrier.arrived = 0;
            barrier.expected = None;
            barrier.generation += 1;
            barrier.known = std::mem::take(&mut barrier.joined).share();
            barrier.result = std::mem::take(&mut barrier.voted);
            self.tally.counters.barriers += 1;
        }
        if !wait {
            return Ok(Flow::Next);
        }
        let result = reduce.map(|(how, target, ..)| (how, target));
        Ok(Flow::Then(Wait::Barrier { id, generation, result }))
    }

    /// Whether a barrier's generation is over; then its lanes know what the others knew.
    pub fn barrier_over(
        &mut self,
        warp: &mut Warp,
        index: usize,
        id: usize,
        generation: u64,
        result: Option<(BarrierReduction, u32)>,
    ) -> bool {
        let barrier = &self.blocks[warp.block].barriers[id];
        if barrier.generation == generation {
            return false;
        }
        let (seen, fenced) = barrier.known.clone();
        let (all, held) = barrier.result;
        let mask = warp.groups[index].mask;
        for lane in set(mask) {
            self.clocks.acquire(warp.thread + lane, &seen, &fenced);
        }
        if let Some((how, target)) = result {
            let value = match how {
                BarrierReduction::Count => u64::from(held),
                BarrierReduction::And => u64::from(held == all),
                BarrierReduction::Or => u64::from(held > 0),
            };
            // A register of a barrier's result is none that a wgmma in flight owns: it was checked when it waited.
            let _ = self.write(warp, target, mask, &[value; WIDTH]);
        }
        true
    }

    /// `bar.warp.sync`.
    pub fn warp_barrier(&mut self, warp: &mut Warp, mask: u32, named: Source) -> Outcome<Flow> {
        let lane = mask.trailing_zeros() as usize;
        let masks = self.fetch(warp, named, mask)?;
        let named = masks[lane] as u32;
        if set(mask).any(|l| masks[l] as u32 != named) || mask & !named != 0 {
            let message = "a lane executes it that the mask does not name";
            return trouble(lane, FaultKind::LaneMask { executing: mask, mask: named, message });
        }
        if named & warp.exited != 0 {
            let message = "a named lane has exited";
            return trouble(lane, FaultKind::LaneMask { executing: mask, mask: named, message });
        }
        Ok(Flow::Then(Wait::WarpBarrier(named & warp.exists)))
    }

    pub fn warp_barrier_over(&mut self, warp: &mut Warp, mask: u32) -> bool {
        let waiting = |g: &super::warp::Group| g.wait == Wait::WarpBarrier(mask);
        let there = warp.groups.iter().filter(|g| waiting(g)).fold(0, |all, g| all | g.mask);
        if there & mask != mask {
            return false;
        }
        let mut joined = Joined::default();
        for lane in set(mask) {
            self.clocks.release(warp.thread + lane, &mut joined);
        }
        let (seen, fenced) = joined.share();
        for lane in set(mask) {
            self.clocks.acquire(warp.thread + lane, &seen, &fenced);
        }
        for group in warp.groups.iter_mut().filter(|g| waiting(g)) {
            group.wait = Wait::Ready;
        }
        true
    }

    /// `barrier.cluster.arrive`.
    pub fn cluster_arrive(&mut self, warp: &mut Warp, mask: u32, release: bool) -> Outcome<()> {
        for lane in set(mask) {
            if warp.cluster_arrived[lane] > self.cluster_barrier.generation {
                let message = String::from("barrier.cluster.arrive twice in one phase");
                return trouble(lane, FaultKind::Operand(message));
            }
            if release {
                self.clocks.release(warp.thread + lane, &mut self.cluster_barrier.joined);
            }
            warp.cluster_arrived[lane] = self.cluster_barrier.generation + 1;
        }
        self.cluster_barrier.arrived += mask.count_ones();
        self.cluster_barrier.complete();
        Ok(())
    }

    /// `barrier.cluster.wait`.
    pub fn cluster_wait(&mut self, warp: &Warp, mask: u32) -> Outcome<Flow> {
        let lane = mask.trailing_zeros() as usize;
        let generation = set(mask).map(|l| warp.cluster_arrived[l]).max().unwrap_or(0);
        if set(mask).any(|l| warp.cluster_arrived[l] == 0) {
            let message = String::from("barrier.cluster.wait without an arrival");
            return trouble(lane, FaultKind::Operand(message));
        }
        Ok(Flow::Then(Wait::Cluster(generation)))
    }

    pub fn cluster_over(&mut self, warp: &mut Warp, index: usize, generation: u64) -> bool {
        if self.cluster_barrier.generation < generation {
            return false;
        }
        let (seen, fenced) = self.cluster_barrier.known.clone();
        for lane in set(warp.groups[index].mask) {
            self.clocks.acquire(warp.thread + lane, &seen, &fenced);
        }
        true
    }

    /// `fence`, `membar`: orders strong accesses before and after it.
    pub fn fence(&mut self, warp: &mut Warp, mask: u32) {
        let thread = warp.thread;
        for lane in set(mask) {
            let observed = std::mem::take(&mut warp.fences_of(lane).observed);
            for (seen, fenced) in &observed {
                self.clocks.acquire(thread + lane, seen, fenced);
            }
            let mut joined = Joined::default();
            self.clocks.release(thread + lane, &mut joined);
            warp.fences_of(lane).released = Some(joined);
        }
    }
}
