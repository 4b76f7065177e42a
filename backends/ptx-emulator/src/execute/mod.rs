//! Execution: clusters one after another, their warps by turns.
//!
//! Invariant: the order in which warps take turns depends on the launch's seed alone, so a run can be repeated. Where
//! no warp can go on, that is a deadlock, and a fault; what runs for ever meets the bound on steps.

mod access;
mod address;
mod alu;
mod barrier;
mod conversion;
mod copy;
mod count;
mod exchange;
mod fragment;
mod mbarrier;
mod mma;
mod step;
mod tensor;
mod warp;
mod wgmma;

use crate::counters::Counters;
use crate::device::Checks;
use crate::fault::{Fault, FaultKind, Trouble, Waiting};
use crate::instruction::Operation;
use crate::lanes::WIDTH;
use crate::memory::{Clocks, Global, Joined, Shared};
use crate::module::Kernel;
use barrier::{Barrier, ClusterBarrier};
use fragment::Layouts;
use mbarrier::Phases;
use std::collections::{BTreeMap, HashMap};
use warp::{Wait, Warp};

/// Bytes that registers and local memory of a cluster may take.
const MAX_STATE: u64 = 4 << 30;
/// Instructions that a warp executes before others have their turn, without a seed.
const TURN: u32 = 4096;

/// A launch that was checked.
pub(crate) struct Grid {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    /// Bytes of shared memory, static and dynamic.
    pub shared: u64,
    /// Where the dynamic part begins.
    pub dynamic_start: u64,
    pub seed: u64,
    pub checks: Checks,
    pub steps: u64,
}

/// A block that is being executed.
pub(crate) struct Block {
    pub index: [u32; 3],
    pub shared: Shared,
    pub barriers: Vec<Barrier>,
    pub mbarriers: BTreeMap<u64, Phases>,
    /// Threads that have not exited.
    pub alive: u32,
}

/// A cluster that is being executed.
pub(crate) struct Machine<'a> {
    pub memory: &'a mut Global,
    pub kernel: &'a Kernel,
    pub grid: &'a Grid,
    pub parameters: &'a [u8],
    pub symbols: &'a [u64],
    pub cluster: [u32; 3],
    pub blocks: Vec<Block>,
    pub clocks: Clocks,
    pub cluster_barrier: ClusterBarrier,
    /// What strong writes published, by block (or device memory) and address.
    pub published: HashMap<(u32, u64), Joined>,
    pub tally: &'a mut Tally,
}

/// What is counted while a launch runs.
pub(crate) struct Tally {
    pub counters: Counters,
    pub opcodes: Vec<u64>,
    pub steps: u64,
    pub layouts: Layouts,
}

/// Runs a grid.
pub(crate) fn run(
    memory: &mut Global,
    kernel: &Kernel,
    grid: &Grid,
    parameters: &[u8],
    symbols: &[u64],
) -> Result<Counters, Fault> {
    let mut tally = Tally {
        counters: Counters::default(),
        opcodes: vec![0; kernel.opcodes.len()],
        steps: 0,
        layouts: Layouts::new(),
    };
    let threads = grid.block.iter().product::<u32>() as usize;
    let warps = threads.div_ceil(WIDTH);
    let blocks = grid.cluster.iter().product::<u32>() as usize;
    let state = (warps * blocks) as u64 * 32 * (kernel.registers as u64 * 8 + kernel.local_bytes);
    let at = |cluster: [u32; 3]| [0, 1, 2].map(|i| cluster[i] * grid.cluster[i]);
    if state > MAX_STATE {
        return Err(Fault {
            kernel: kernel.name.clone(),
            line: 0,
            block: [0; 3],
            thread: [0; 3],
            kind: FaultKind::Launch(format!(
                "registers and local memory of a cluster take {state} bytes"
            )),
        });
    }
    let clusters = [0, 1, 2].map(|i| grid.grid[i] / grid.cluster[i]);
    let mut random = Random(grid.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut spare: Vec<Warp> = Vec::new();
    for z in 0..clusters[2] {
        for y in 0..clusters[1] {
            for x in 0..clusters[0] {
                let cluster = [x, y, z];
                let first = at(cluster);
                let list = (0..blocks as u32).map(|rank| {
                    let within = within(rank, grid.cluster);
                    Block {
                        index: [0, 1, 2].map(|i| first[i] + within[i]),
                        shared: shared(grid),
                        barriers: vec![Barrier::default(); 16],
                        mbarriers: BTreeMap::new(),
                        alive: threads as u32,
                    }
                });
                let mut machine = Machine {
                    memory,
                    kernel,
                    grid,
                    parameters,
                    symbols,
                    cluster,
                    blocks: list.collect(),
                    clocks: Clocks::new(warps * blocks * WIDTH),
                    cluster_barrier: ClusterBarrier::new((threads * blocks) as u32),
                    published: HashMap::new(),
                    tally: &mut tally,
                };
                let mut list = Vec::with_capacity(warps * blocks);
                for number in 0..warps * blocks {
                    let mut warp = spare.pop().unwrap_or_default();
                    warp.reset(kernel, number, warps, threads);
                    list.push(warp);
                }
                machine.cluster(&mut list, &mut random)?;
                spare = list;
            }
        }
    }
    let Tally { mut counters, opcodes, steps, .. } = tally;
    counters.warp_instructions = steps;
    counters.instructions =
        kernel.opcodes.iter().cloned().zip(opcodes).filter(|(_, count)| *count > 0).collect();
    Ok(counters)
}

fn shared(grid: &Grid) -> Shared {
    let mut shared = Shared::new(grid.shared);
    shared.check_races = grid.checks.races;
    shared.check_uninitialised = grid.checks.uninitialised;
    shared
}

/// The index that a rank has within a box.
fn within(rank: u32, sizes: [u32; 3]) -> [u32; 3] {
    [rank % sizes[0], rank / sizes[0] % sizes[1], rank / (sizes[0] * sizes[1])]
}

/// Draws turns (xorshift64*; Vigna, "An experimental exploration of Marsaglia's xorshift generators").
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}

impl Machine<'_> {
    /// Runs the warps of a cluster to their end.
    fn cluster(&mut self, warps: &mut [Warp], random: &mut Random) -> Result<(), Fault> {
        let mut alive: Vec<usize> = (0..warps.len()).collect();
        while !alive.is_empty() {
            let mut progressed = false;
            let start =
                if self.grid.seed == 0 { 0 } else { random.below(alive.len() as u64) as usize };
            for turn in 0..alive.len() {
                let number = alive[(start + turn) % alive.len()];
                let quantum = if self.grid.seed == 0 { TURN } else { 1 + random.below(48) as u32 };
                progressed |= self.turn(&mut warps[number], quantum)?;
            }
            alive.retain(|number| !warps[*number].groups.is_empty());
            if !progressed && !alive.is_empty() {
                return Err(self.deadlock(warps));
            }
        }
        Ok(())
    }

    /// A fault of a lane.
    pub fn fault(&self, warp: &Warp, line: u32, trouble: Trouble) -> Fault {
        let thread = (warp.number * WIDTH + trouble.lane) as u32;
        Fault {
            kernel: self.kernel.name.clone(),
            line,
            block: self.blocks[warp.block].index,
            thread: within(thread, self.grid.block),
            kind: trouble.kind,
        }
    }

    fn deadlock(&self, warps: &[Warp]) -> Fault {
        let mut waiting = Vec::new();
        let mut first = None;
        for warp in warps {
            for group in &warp.groups {
                let instruction = self.kernel.code.get(group.line_at());
                let line = instruction.map_or(0, |i| i.line);
                let barrier =
                    instruction.is_some_and(|i| matches!(i.operation, Operation::Barrier { .. }));
                if barrier && matches!(group.wait, Wait::Converge(_)) {
                    // A barrier that the other lanes of the warp never reach.
                    let (arrived, missing) = (group.mask, warp.exists & !group.mask);
                    let kind = FaultKind::DivergentBarrier { arrived, missing };
                    let lane = group.mask.trailing_zeros() as usize;
                    return self.fault(warp, line, Trouble { lane, kind });
                }
                first.get_or_insert((warp, line, group.mask));
                waiting.push(Waiting {
                    block: self.blocks[warp.block].index,
                    warp: warp.number as u32,
                    lanes: group.mask,
                    line,
                    what: group.wait.describe(),
                });
            }
        }
        let kind = FaultKind::Deadlock(waiting);
        match first {
            Some((warp, line, mask)) => {
                let lane = mask.trailing_zeros() as usize;
                self.fault(warp, line, Trouble { lane, kind })
            }
            None => Fault {
                kernel: self.kernel.name.clone(),
                line: 0,
                block: [0; 3],
                thread: [0; 3],
                kind,
            },
        }
    }
}
