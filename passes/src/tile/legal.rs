//! Which schedules a kernel may have.
//!
//! Invariant: a schedule that passes can be followed by every backend; a backend that cannot use all
//! of it (vectors that it lacks) computes the same without.

use kiln_ir::kernel::{AxisKind, Kernel, Role, Stage};
use kiln_ir::schedule::{Packing, Part, Schedule, StageSchedule, WHOLE};
use thiserror::Error;

/// Points of a register tile, vectors counted once, beyond which code would only grow.
pub const MOST_POINTS: u64 = 1024;

/// Points of a step or of a task beyond which there is nothing to win, and sums of them could overflow.
const MOST_STEP: u64 = 1 << 31;
/// Points of a task each of which has temporaries of its own, and bytes of those where they are known.
const MOST_SCRATCH: (u64, i64) = (1 << 16, 1 << 28);
/// Lanes of the longest vectors that any target is asked for.
const MOST_LANES: u32 = 64;
/// Elements of a packed operand for each of its own, blocks of short dimensions filled up, and how many may
/// be whatever it has.
const MOST_PACKED: (u64, u64) = (64, 1 << 16);

/// Bytes by which reads may be announced: what lies further than a first-level cache drives itself out.
const MOST_AHEAD: u64 = 1 << 20;

/// Why a kernel cannot have a schedule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Illegal {
    /// There are entries for more or fewer outer axes than the kernel has.
    #[error("tasks are given for {given} outer axes, but there are {axes}")]
    Tasks {
        /// Entries.
        given: usize,
        /// Outer axes of the kernel.
        axes: usize,
    },
    /// Tasks cannot follow each other along an axis that is none of the parallel outer ones.
    #[error("tasks follow each other along axis {axis}, which is no parallel outer axis")]
    Fastest {
        /// The axis number.
        axis: usize,
    },
    /// There are more stages than the kernel has.
    #[error("{given} stages are scheduled, but there are {stages}")]
    Stages {
        /// Entries.
        given: usize,
        /// Stages of the kernel.
        stages: usize,
    },
    /// A stage names an axis that it does not have.
    #[error("stage {stage} has no axis {axis}")]
    Axis {
        /// The stage.
        stage: usize,
        /// The axis number.
        axis: usize,
    },
    /// An axis whose points run in order cannot be tiled inside a stage or vectorised.
    #[error("stage {stage} tiles axis `{axis}`, which is sequential")]
    Sequential {
        /// The stage.
        stage: usize,
        /// The axis.
        axis: String,
    },
    /// Steps of one axis must fall from loop to loop and be at least 1.
    #[error("stage {stage}: the steps of axis `{axis}` do not fall")]
    Steps {
        /// The stage.
        stage: usize,
        /// The axis.
        axis: String,
    },
    /// A loop over a parallel axis stands inside one over a reduction axis.
    #[error("stage {stage}: parallel axis `{axis}` is looped over inside of a reduction")]
    InsideReduction {
        /// The stage.
        stage: usize,
        /// The axis.
        axis: String,
    },
    /// Lanes must be a power of two, and the innermost step of the vector axis a multiple of them.
    #[error("stage {stage}: {lanes} lanes do not fit axis `{axis}`")]
    Lanes {
        /// The stage.
        stage: usize,
        /// The axis.
        axis: String,
        /// The lanes.
        lanes: u32,
    },
    /// The register tile has more points than any register file holds.
    #[error("stage {stage}: the register tile has {points} points")]
    Tile {
        /// The stage.
        stage: usize,
        /// Points, vectors counted once.
        points: u64,
    },
    /// A step, or a task, has more points than any kernel gains from.
    #[error("a {what} of {points} points is too large")]
    TooLarge {
        /// What has the points.
        what: &'static str,
        /// The points.
        points: u64,
    },
    /// An operand that cannot be packed like this.
    #[error("operand {operand} cannot be packed: {reason}")]
    Packing {
        /// The operand.
        operand: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Checks a schedule against a kernel.
pub fn legal(kernel: &Kernel, schedule: &Schedule) -> Result<(), Illegal> {
    if schedule.task.len() != kernel.outer.len() {
        return Err(Illegal::Tasks { given: schedule.task.len(), axes: kernel.outer.len() });
    }
    let large = |&points: &u64| points != WHOLE && points > MOST_STEP;
    if let Some(&points) = schedule.task.iter().find(|points| large(points)) {
        return Err(Illegal::TooLarge { what: "task", points });
    }
    let points = kernel.outer.iter().zip(&schedule.task).map(|(axis, &points)| match points {
        // Points that run one after the other share their temporaries.
        _ if axis.kind == AxisKind::Sequential => 1,
        // As many as there will be, which is not known.
        WHOLE => axis.extent.as_const().map_or(u64::MAX, |extent| extent.max(0) as u64),
        points => points,
    });
    let points = points.fold(1u64, u64::saturating_mul);
    let temporary = kernel.operands.iter().any(|operand| operand.role == Role::Temporary);
    let (most, most_bytes) = MOST_SCRATCH;
    let bytes =
        || schedule.scratch(kernel).bytes.as_const().is_some_and(|bytes| bytes > most_bytes);
    if temporary && (points > most || bytes() && points > 1) {
        return Err(Illegal::TooLarge { what: "task with temporaries", points });
    }
    let parallel =
        |axis: usize| kernel.outer.get(axis).is_some_and(|axis| axis.kind == AxisKind::Parallel);
    if let Some(axis) = schedule.fastest.filter(|&axis| !parallel(axis)) {
        return Err(Illegal::Fastest { axis });
    }
    if schedule.stages.len() > kernel.stages.len() {
        return Err(Illegal::Stages { given: schedule.stages.len(), stages: kernel.stages.len() });
    }
    for (number, (stage, how)) in kernel.stages.iter().zip(&schedule.stages).enumerate() {
        of_stage(kernel, stage, how, number)?;
    }
    schedule.packing.iter().try_for_each(|packing| of_packing(kernel, packing))
}

fn of_stage(
    kernel: &Kernel,
    stage: &Stage,
    how: &StageSchedule,
    number: usize,
) -> Result<(), Illegal> {
    let axes: Vec<_> = kernel.axes(stage).collect();
    let named = |axis: usize| match axes.get(axis) {
        None => Err(Illegal::Axis { stage: number, axis }),
        Some(found) if found.kind == AxisKind::Sequential => {
            Err(Illegal::Sequential { stage: number, axis: found.name.clone() })
        }
        Some(found) => Ok(*found),
    };
    let mut innermost = vec![None; axes.len()];
    let mut reducing = false;
    for level in &how.loops {
        let axis = named(level.axis)?;
        let name = || axis.name.clone();
        if level.step == 0 || innermost[level.axis].is_some_and(|step| step < level.step) {
            return Err(Illegal::Steps { stage: number, axis: name() });
        }
        if level.step > MOST_STEP {
            return Err(Illegal::TooLarge { what: "step", points: level.step });
        }
        innermost[level.axis] = Some(level.step);
        match axis.kind {
            AxisKind::Reduction => reducing = true,
            _ if reducing => {
                return Err(Illegal::InsideReduction { stage: number, axis: name() });
            }
            _ => {}
        }
    }
    if let Some(vector) = how.vector {
        let axis = named(vector.axis)?;
        let step = innermost[vector.axis].unwrap_or(u64::from(vector.lanes));
        let fits = vector.lanes.is_power_of_two() && vector.lanes <= MOST_LANES;
        if !fits || !step.is_multiple_of(u64::from(vector.lanes)) {
            let axis = axis.name.clone();
            return Err(Illegal::Lanes { stage: number, axis, lanes: vector.lanes });
        }
        innermost[vector.axis] = Some(step / u64::from(vector.lanes));
    }
    let points = innermost.into_iter().flatten().fold(1u64, u64::saturating_mul);
    if points > MOST_POINTS {
        return Err(Illegal::Tile { stage: number, points });
    }
    Ok(())
}

fn of_packing(kernel: &Kernel, packing: &Packing) -> Result<(), Illegal> {
    let illegal = |reason| Illegal::Packing { operand: packing.operand, reason };
    if packing.ahead > MOST_AHEAD {
        return Err(illegal("its reads are announced too far before"));
    }
    let operand = kernel.operands.get(packing.operand).ok_or(illegal("it does not exist"))?;
    if operand.role != Role::Input {
        return Err(illegal("only inputs can be"));
    }
    for dim in 0..operand.shape.len() {
        let parts: Vec<Part> = packing
            .layout
            .levels
            .iter()
            .filter(|(of, _)| *of == dim)
            .map(|(_, part)| *part)
            .collect();
        let whole = match parts.as_slice() {
            [Part::Whole] => true,
            [Part::Outer(outer), Part::Inner(inner)] => outer == inner && *outer > 0,
            _ => false,
        };
        if !whole {
            return Err(illegal("each dimension must be whole, or in blocks of one size"));
        }
    }
    if packing.layout.levels.iter().any(|(dim, _)| *dim >= operand.shape.len()) {
        return Err(illegal("it has fewer dimensions"));
    }
    let sizes = operand.shape.iter().map(|dim| dim.as_const().and_then(|n| u64::try_from(n).ok()));
    if let Some(sizes) = sizes.collect::<Option<Vec<u64>>>() {
        let block = |dim: usize| {
            let inner = packing.layout.levels.iter().find_map(|&(of, part)| match part {
                Part::Inner(block) if of == dim => Some(block),
                _ => None,
            });
            inner.unwrap_or(1)
        };
        let own = sizes.iter().fold(1u64, |all, &size| all.saturating_mul(size));
        let filled = |(dim, &size): (usize, &u64)| size.checked_next_multiple_of(block(dim));
        let mut filled = sizes.iter().enumerate().map(filled);
        let packed = filled.try_fold(1u64, |all, size| all.checked_mul(size?));
        let most = own.saturating_mul(MOST_PACKED.0).max(MOST_PACKED.1);
        if packed.is_none_or(|packed| packed > most) {
            return Err(illegal("its blocks would be mostly empty"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
