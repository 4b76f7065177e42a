//! Warps: registers, and the groups of lanes that stand at the same instruction.
//!
//! Invariant: the groups of a warp are disjoint, and hold all of its lanes that have not exited.

use crate::instruction::BarrierReduction;
use crate::lanes::{Lanes, WIDTH};
use crate::memory::{Clock, Joined, Written};
use crate::module::Kernel;

/// What a group waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing.
    Ready,
    /// Lanes of the warp that have to execute the same instruction.
    Converge(u32),
    /// `bar.warp.sync` of these lanes; what follows is executed when all are there.
    WarpBarrier(u32),
    /// A barrier of the block, in a generation; then a reduction's result goes to a register.
    Barrier { id: usize, generation: u64, result: Option<(BarrierReduction, u32)> },
    /// A phase of an mbarrier.
    Mbarrier { block: usize, address: u64, phase: u64 },
    /// The barrier of the cluster.
    Cluster(u64),
}

impl Wait {
    pub fn describe(&self) -> String {
        match self {
            Wait::Ready => String::from("it can go on"),
            Wait::Converge(mask) => format!("lanes {mask:#010x} to execute the same instruction"),
            Wait::WarpBarrier(mask) => format!("lanes {mask:#010x} at bar.warp.sync"),
            Wait::Barrier { id, .. } => format!("barrier {id}"),
            Wait::Mbarrier { address, phase, .. } => {
                format!("phase {phase} of the mbarrier at shared address {address:#x}")
            }
            Wait::Cluster(_) => String::from("the barrier of the cluster"),
        }
    }
}

/// Lanes that stand at the same instruction.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub pc: u32,
    pub mask: u32,
    pub wait: Wait,
}

impl Group {
    /// The instruction that waits: the one before, where the wait comes after it.
    pub fn line_at(&self) -> usize {
        let after = matches!(self.wait, Wait::WarpBarrier(_) | Wait::Barrier { .. });
        (self.pc as usize).saturating_sub(usize::from(after))
    }
}

/// What vectors of clocks a strong read found.
type Observed = (Clock, Clock);

/// What a lane's fences order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fences {
    /// What it knew at its last fence: published by strong writes that follow.
    pub released: Option<Joined>,
    /// What strong reads found: known after the next fence.
    pub observed: Vec<Observed>,
}

/// A `wgmma` in flight.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub group: u32,
    pub registers: Vec<u32>,
}

/// A warp.
#[derive(Debug, Default)]
pub(crate) struct Warp {
    /// Within its block.
    pub number: usize,
    /// Its block within the cluster.
    pub block: usize,
    /// The number of lane 0 among the threads of the cluster.
    pub thread: usize,
    /// Lanes that were started.
    pub exists: u32,
    pub exited: u32,
    pub registers: Vec<Lanes>,
    /// Lanes that have written each register.
    pub defined: Vec<u32>,
    pub groups: Vec<Group>,
    /// Branches backwards that the running group took while others could run.
    pub spins: u32,
    /// The line of the instruction that was executed last.
    pub line: u32,
    pub last: u32,
    /// Local memory, one lane after another.
    pub local: Vec<u8>,
    pub local_written: Written,
    pub fences: Vec<Fences>,
    /// Lanes' generations of the barrier of the cluster.
    pub cluster_arrived: [u64; WIDTH],
    /// `wgmma.fence`s so far; and at which of them each register was written.
    pub wgmma_fences: u32,
    pub written_at: Vec<u32>,
    pub busy: Vec<u16>,
    pub flights: Vec<Flight>,
    pub wgmma_group: u32,
}

impl Warp {
    /// Makes it a fresh warp, with the memory it has.
    pub fn reset(&mut self, kernel: &Kernel, number: usize, warps: usize, threads: usize) {
        self.number = number % warps;
        self.block = number / warps;
        self.thread = number * WIDTH;
        let lanes = (threads - self.number * WIDTH).min(WIDTH);
        self.exists = if lanes == WIDTH { u32::MAX } else { (1 << lanes) - 1 };
        self.exited = 0;
        self.registers.resize(kernel.registers, [0; WIDTH]);
        self.defined.clear();
        self.defined.resize(kernel.registers, 0);
        self.groups.clear();
        self.groups.push(Group { pc: 0, mask: self.exists, wait: Wait::Ready });
        self.spins = 0;
        self.line = 0;
        self.last = 0;
        self.local.resize(kernel.local_bytes as usize * WIDTH, 0);
        self.local_written = Written::new(self.local.len());
        self.fences.clear();
        self.cluster_arrived = [0; WIDTH];
        self.wgmma_fences = 0;
        let tracked = if kernel.uses_wgmma { kernel.registers } else { 0 };
        self.written_at.clear();
        self.written_at.resize(tracked, 0);
        self.busy.clear();
        self.busy.resize(tracked, 0);
        self.flights.clear();
        self.wgmma_group = 0;
    }

    /// Lanes that have not exited.
    pub fn alive(&self) -> u32 {
        self.exists & !self.exited
    }

    /// The fences of a lane.
    pub fn fences_of(&mut self, lane: usize) -> &mut Fences {
        if self.fences.is_empty() {
            self.fences.resize(WIDTH, Fences::default());
        }
        &mut self.fences[lane]
    }
}
