//! Schedules: how a kernel is run — tiles, loop order, registers, vectors, packing.
//!
//! Invariant: a schedule never changes what is computed; it is plain data beside the kernel, and a
//! kernel under an illegal schedule is refused, not miscompiled.

use crate::kernel::{AxisKind, Kernel, Role};
use kiln_tensor::{ALIGNMENT, Dim};
use serde::{Deserialize, Serialize};

/// How one kernel is run.
///
/// The parallel outer axes are cut into tasks: a task is a box of `task` points along each of them.
/// Tasks are numbered with `fastest` fastest, and then the last of the other axes; a thread runs tasks
/// whose numbers follow each other. Within a task every stage iterates over the
/// task's box of outer points and its own axes by its [`StageSchedule`]; with several stages the
/// temporaries hold one value for each outer point of the box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schedule {
    /// Points of each outer axis in one task; [`WHOLE`] for all of them (always so for sequential
    /// axes, which run inside a task as its outermost loops).
    pub task: Vec<u64>,
    /// The outer axis along which tasks that follow each other lie, which then find in the cache what
    /// does not change along it; the last if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fastest: Option<usize>,
    /// Where the points of a task stand among the dimensions of its temporaries.
    #[serde(default, skip_serializing_if = "PointsPlace::is_default")]
    pub points: PointsPlace,
    /// One for each stage.
    pub stages: Vec<StageSchedule>,
    /// Operands that are not stored in row-major order of their shape.
    pub packing: Vec<Packing>,
}

/// Where the points of a task stand among the dimensions of its temporaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PointsPlace {
    /// Before the last dimension, so that what many points multiply with one matrix stands together.
    #[default]
    BeforeLast,
    /// Behind all dimensions, so that vectors can lie along them.
    Last,
}

impl PointsPlace {
    /// Dimensions, of so many, that stand before the points.
    pub fn slices(self, rank: usize) -> usize {
        match self {
            PointsPlace::BeforeLast => rank.saturating_sub(1),
            PointsPlace::Last => rank,
        }
    }

    /// The other place.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            PointsPlace::BeforeLast => PointsPlace::Last,
            PointsPlace::Last => PointsPlace::BeforeLast,
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Stands for the whole extent of an axis.
pub const WHOLE: u64 = 0;

/// How one stage is run inside a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StageSchedule {
    /// Serial loops from the outermost in, over axis numbers of the stage (outer axes first): each
    /// advances its axis by `step`. An axis may occur several times with falling steps
    /// (multi-level tiling). What remains of each axis inside the innermost loops is the register
    /// tile: an axis whose innermost step is `s` has `s` of its points unrolled.
    pub loops: Vec<LoopLevel>,
    /// The axis along which vectors lie, and the lanes of one vector. The register tile of that
    /// axis is a whole number of vectors (one, if no loop gives it a step).
    pub vector: Option<VectorAxis>,
}

/// One serial loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoopLevel {
    /// Axis number in the stage.
    pub axis: usize,
    /// Points that one iteration covers.
    pub step: u64,
}

/// The vector axis of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VectorAxis {
    /// Axis number in the stage.
    pub axis: usize,
    /// Elements of one vector.
    pub lanes: u32,
}

/// How an operand's elements lie in memory, when not in row-major order of its shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packing {
    /// Number of the operand in the kernel.
    pub operand: usize,
    /// How it lies.
    pub layout: PackedLayout,
    /// Bytes by which reads are announced before, so that what comes from memory is there in time; 0 for
    /// not at all.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ahead: u64,
}

/// Whether nothing is announced.
fn is_none(ahead: &u64) -> bool {
    *ahead == 0
}

/// A blocked layout: a row-major array over the levels, padded with zeros to whole blocks.
///
/// For `B[k, n]` in panels of 32 columns: `[(1, Outer{32}), (0, Whole), (1, Inner{32})]`, i.e.
/// element `(k, n)` lies at `[n / 32][k][n % 32]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackedLayout {
    /// Levels from the slowest to the fastest: a dimension of the operand and the part of it.
    pub levels: Vec<(usize, Part)>,
}

impl PackedLayout {
    /// Panels of so many places along a dimension; in each the other dimensions, in this order.
    pub fn panels(dim: usize, width: u64, others: impl IntoIterator<Item = usize>) -> Self {
        let mut levels = vec![(dim, Part::Outer(width))];
        levels.extend(others.into_iter().map(|other| (other, Part::Whole)));
        levels.push((dim, Part::Inner(width)));
        PackedLayout { levels }
    }
}

/// A part of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// The dimension whole.
    Whole,
    /// The number of the block of this many elements.
    Outer(u64),
    /// The position in the block of this many elements.
    Inner(u64),
}

/// Where a kernel's temporaries lie in the scratch memory of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScratchLayout {
    /// Byte offset of each operand that is a temporary; `None` for the others. A temporary lies in
    /// row-major order of its own shape with the task's box (its points along the parallel outer axes)
    /// where the schedule's [`PointsPlace`] has it.
    pub offsets: Vec<Option<Dim>>,
    /// Bytes in all.
    pub bytes: Dim,
}

impl Schedule {
    /// Points of each outer axis in a full task; 1 for sequential axes, which a task runs through
    /// one after the other.
    pub fn task_box(&self, kernel: &Kernel) -> Vec<Dim> {
        let whole = |index: usize| self.task.get(index).copied().unwrap_or(WHOLE) == WHOLE;
        kernel
            .outer
            .iter()
            .enumerate()
            .map(|(index, axis)| match axis.kind {
                AxisKind::Sequential => Dim::from(1usize),
                _ if whole(index) => axis.extent.clone(),
                _ => Dim::from(self.task[index] as usize),
            })
            .collect()
    }

    /// Number of tasks along each outer axis.
    pub fn task_grid(&self, kernel: &Kernel) -> Vec<Dim> {
        self.task_box(kernel)
            .into_iter()
            .zip(&kernel.outer)
            .map(|(points, axis)| match axis.kind {
                AxisKind::Sequential => Dim::from(1usize),
                // An axis that is whole in a task gives one task, or none if it is empty.
                _ if points == axis.extent => axis.extent.minimum(&Dim::from(1usize)),
                _ => axis.extent.ceil_div(&points),
            })
            .collect()
    }

    /// The outer axes in the order in which the number of a task counts them, the fastest last.
    pub fn task_order(&self, kernel: &Kernel) -> Vec<usize> {
        let others = (0..kernel.outer.len()).filter(|&axis| Some(axis) != self.fastest);
        others.chain(self.fastest.filter(|&axis| axis < kernel.outer.len())).collect()
    }

    /// Number of tasks in all.
    pub fn tasks(&self, kernel: &Kernel) -> Dim {
        self.task_grid(kernel).into_iter().product()
    }

    /// Where the temporaries lie.
    pub fn scratch(&self, kernel: &Kernel) -> ScratchLayout {
        let points: Dim = self.task_box(kernel).into_iter().product();
        let alignment = Dim::from(ALIGNMENT);
        let mut bytes = Dim::default();
        let offsets = kernel
            .operands
            .iter()
            .map(|operand| {
                if operand.role != Role::Temporary {
                    return None;
                }
                let offset = bytes.clone();
                let elements = points.clone() * operand.shape.iter().cloned().product();
                let length = elements * Dim::from(operand.dtype.size());
                bytes = offset.clone() + length.ceil_div(&alignment) * alignment.clone();
                Some(offset)
            })
            .collect();
        ScratchLayout { offsets, bytes }
    }
}

impl PackedLayout {
    /// Extents of the levels for an operand of this shape.
    pub fn extents(&self, shape: &[Dim]) -> Vec<Dim> {
        self.levels
            .iter()
            .map(|&(dim, part)| {
                let extent = shape.get(dim).cloned().unwrap_or_default();
                match part {
                    Part::Whole => extent,
                    Part::Outer(block) => extent.ceil_div(&Dim::from(block as usize)),
                    Part::Inner(block) => Dim::from(block as usize),
                }
            })
            .collect()
    }
}
