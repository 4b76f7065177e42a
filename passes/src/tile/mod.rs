//! Default schedules, by an analytic model of registers, caches and cores.
//!
//! Invariant: a pure function of kernel, constants and target; what comes out is [`legal`].
//!
//! Each stage gets a vector axis (where most accesses are contiguous), a register tile (as many
//! accumulators as fit, so that loads are shared), and a loop order. Constant operands are laid out
//! in the order in which the tile reads them. The parallel outer axes are cut into tasks that each
//! take some tens of microseconds and whose temporaries stay in a cache.

mod access;
mod book;
mod bytes;
pub(crate) mod identity;
mod layouts;
mod legal;
mod pack;
mod packing;
mod register;
mod stage;
mod task;
mod text;
mod vary;
mod window;

pub use book::{Book, fits};
pub use identity::Identity;
pub use legal::{Illegal, legal};
pub use pack::pack;
pub use text::describe;
pub use vary::{POINTS, Space};

use crate::simplify::IntegerProducts;
use access::Memory;
use kiln_ir::kernel::{Axis, AxisKind, Kernel};
use kiln_ir::schedule::{Packing, PointsPlace, Schedule};
use kiln_tensor::{Dim, Symbol, SymbolTable};
use layouts::Layouts;
use std::collections::BTreeSet;

/// What the model knows of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileTarget {
    /// Bits of a vector register.
    pub vector_bits: u32,
    /// Number of vector registers.
    pub vector_registers: u32,
    /// Whether products are added in one operation.
    pub fma: bool,
    /// Whether four products of bytes are added in one operation.
    pub bytes: bool,
    /// Bytes of first-level data cache of a core.
    pub l1: u64,
    /// Bytes of second-level cache of a core.
    pub l2: u64,
    /// Bytes of third-level cache for a core.
    pub l3: u64,
    /// Cores that share the work.
    pub cores: u32,
}

impl TileTarget {
    /// A core with AVX-512 and caches as servers have them.
    pub const fn avx512(cores: u32) -> Self {
        let (l1, l2, l3) = (32 << 10, 1 << 20, 2 << 20);
        TileTarget {
            vector_bits: 512,
            vector_registers: 32,
            fma: true,
            bytes: false,
            l1,
            l2,
            l3,
            cores,
        }
    }

    /// What products of bytes are made of.
    pub fn integer_products(&self) -> IntegerProducts {
        if self.bytes { IntegerProducts::InBytes } else { IntegerProducts::InFloats }
    }

    /// Lanes of a vector of elements of this many bytes.
    pub(crate) fn lanes(&self, bytes: usize) -> u32 {
        (self.vector_bits / 8 / bytes.max(1) as u32).max(1)
    }

    /// Vector multiply-adds that start in one cycle: two narrow units or one wide one.
    pub(crate) fn multiply_adds(&self) -> f64 {
        if self.vector_bits >= 512 { 1.0 } else { 2.0 }
    }
}

/// What an unknown size is taken for.
const UNKNOWN: i64 = 64;

/// The size that a dimension is taken for.
fn expected(dim: &Dim, symbols: &SymbolTable) -> f64 {
    if let Some(size) = dim.as_const() {
        return size.max(0) as f64;
    }
    let guess = |symbol: &Symbol| {
        let bounds = symbols.get(symbol).copied().unwrap_or_default();
        let most = bounds.max.unwrap_or(UNKNOWN);
        Some(Dim::from(UNKNOWN.min(most).max(bounds.min)))
    };
    dim.substitute(&guess).as_const().unwrap_or(UNKNOWN).max(1) as f64
}

/// A schedule for a kernel whose operands in `constants` (by number) may be laid out as it likes.
pub fn tile(kernel: &Kernel, constants: &BTreeSet<usize>, target: &TileTarget) -> Schedule {
    schedule(kernel, Layouts::Free(constants), target)
}

/// A schedule for a kernel whose constants lie as another schedule has them, so that both serve one program.
pub fn tile_around(kernel: &Kernel, packing: &[Packing], target: &TileTarget) -> Schedule {
    schedule(kernel, Layouts::Fixed(packing), target)
}

/// How temporaries should lie, and how the stages should be run then.
fn arranged<'k>(
    kernel: &'k Kernel,
    layouts: Layouts<'k>,
    target: &TileTarget,
) -> (Memory<'k>, Vec<stage::Plan>) {
    let with = |points: PointsPlace| {
        let memory = Memory { kernel, points };
        let stages = 0..kernel.stages.len();
        let (plans, costs): (Vec<_>, Vec<f64>) =
            stages.map(|number| stage::plan(memory, number, layouts, target)).unzip();
        (memory, plans, costs.iter().sum::<f64>())
    };
    let (memory, plans, cost) = with(PointsPlace::default());
    if memory.has_choice() {
        let (other, others, less) = with(memory.points.other());
        if less < cost {
            return (other, others);
        }
    }
    (memory, plans)
}

/// A task of one point, or of all points that run one after the other.
fn alone(axis: &Axis) -> u64 {
    if axis.kind == AxisKind::Sequential { kiln_ir::schedule::WHOLE } else { 1 }
}

fn schedule(kernel: &Kernel, layouts: Layouts<'_>, target: &TileTarget) -> Schedule {
    let (memory, stages) = arranged(kernel, layouts, target);
    let task = task::boxes(memory, &stages, target);
    let fastest = task::fastest(memory, &stages, &task, target);
    let points = memory.points;
    let packing = packing::choose(kernel, &stages, layouts, target);
    let stages = stages.into_iter().map(|plan| plan.schedule).collect();
    let schedule = Schedule { task, fastest, points, stages, packing };
    match legal(kernel, &schedule) {
        Ok(()) => schedule,
        // One point after the other is always possible.
        Err(_) => Schedule {
            task: kernel.outer.iter().map(alone).collect(),
            packing: match layouts {
                Layouts::Free(_) => Vec::new(),
                Layouts::Fixed(packing) => packing.to_vec(),
            },
            ..Schedule::default()
        },
    }
}
