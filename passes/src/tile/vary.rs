//! The space of schedules: from one to the next by changing one choice.
//!
//! Invariant: what comes out is [`legal`] and differs from what went in; every order of loops, place of vectors and
//! tile of [`POINTS`] can be reached by such steps, with tasks of powers of two and blocks of a few multiples.

use super::access::Memory;
use super::layouts::Layouts;
use super::stage::Plan;
use super::{TileTarget, legal, packing};
use fastrand::Rng;
use kiln_ir::kernel::{AxisKind, Combine, Kernel};
use kiln_ir::schedule::{LoopLevel, Schedule, StageSchedule, VectorAxis, WHOLE};
use std::collections::BTreeSet;

/// Points of a register tile, or vectors, that are tried along one axis.
const SIDES: [u64; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// Points of a register tile in all, vectors counted once. Larger ones spill, and take long to compile.
pub const POINTS: u64 = 128;
/// Blocks are so many register tiles.
const BLOCKS: [u64; 6] = [2, 4, 8, 16, 32, 64];
/// Draws before a neighbour is given up.
const TRIES: usize = 64;

/// What is changed.
#[derive(Clone, Copy)]
enum Choice {
    /// Points of an axis in the register tile.
    Tile,
    /// The order of two loops.
    Order,
    /// A loop over blocks of register tiles.
    Block,
    /// The axis of the vectors, or their lanes.
    Vector,
    /// Points of an outer axis in a task.
    Task,
    /// The axis along which tasks follow each other.
    Fastest,
    /// Where the points of a task stand in temporaries.
    Temporaries,
    /// Whether constants are laid out for the register tile.
    Packing,
    /// Whether reads of constants are announced.
    Ahead,
}

/// The weight of each choice is how often it stands here.
const CHOICES: [Choice; 12] = [
    Choice::Tile,
    Choice::Tile,
    Choice::Tile,
    Choice::Order,
    Choice::Block,
    Choice::Vector,
    Choice::Task,
    Choice::Task,
    Choice::Fastest,
    Choice::Temporaries,
    Choice::Packing,
    Choice::Ahead,
];

/// A kernel whose schedules are looked through.
pub struct Space<'k> {
    kernel: &'k Kernel,
    /// Operands that may be laid out as the schedule likes.
    constants: &'k BTreeSet<usize>,
    target: TileTarget,
}

impl<'k> Space<'k> {
    /// The schedules of a kernel, whose operands in `constants` may be laid out as they like.
    pub fn of(kernel: &'k Kernel, constants: &'k BTreeSet<usize>, target: &TileTarget) -> Self {
        Space { kernel, constants, target: *target }
    }

    /// A schedule that differs in one choice; `None` if none is found, as where there is nothing to
    /// choose.
    pub fn neighbour(&self, from: &Schedule, random: &mut Rng) -> Option<Schedule> {
        (0..TRIES).find_map(|_| {
            let choice = CHOICES[random.usize(..CHOICES.len())];
            let mut next = self.explicit(from);
            self.change(&mut next, choice, random)?;
            self.settle(&mut next, !from.packing.is_empty() ^ matches!(choice, Choice::Packing));
            if let Some(packing) = from.packing.first() {
                let ahead = match choice {
                    Choice::Ahead if packing.ahead == 0 => packing::AHEAD,
                    Choice::Ahead => 0,
                    _ => packing.ahead,
                };
                next.packing.iter_mut().for_each(|packing| packing.ahead = ahead);
            }
            let small = next.stages.iter().all(|stage| points(stage) <= POINTS);
            (small && next != self.explicit(from) && legal(self.kernel, &next).is_ok())
                .then_some(next)
        })
    }

    /// A schedule so many choices away.
    pub fn walk(&self, from: &Schedule, steps: usize, random: &mut Rng) -> Schedule {
        let mut at = from.clone();
        for _ in 0..steps {
            at = self.neighbour(&at, random).unwrap_or(at);
        }
        at
    }

    /// The same schedule with a loop for every axis that may have one.
    fn explicit(&self, schedule: &Schedule) -> Schedule {
        let mut schedule = schedule.clone();
        schedule.stages.resize(self.kernel.stages.len(), StageSchedule::default());
        for (stage, how) in self.kernel.stages.iter().zip(&mut schedule.stages) {
            let kinds: Vec<AxisKind> = self.kernel.axes(stage).map(|axis| axis.kind).collect();
            let missing = |kind: AxisKind, loops: &[LoopLevel]| -> Vec<LoopLevel> {
                let lanes = |axis| how.vector.filter(|vector| vector.axis == axis);
                (0..kinds.len())
                    .filter(|&axis| kinds[axis] == kind)
                    .filter(|&axis| !loops.iter().any(|level| level.axis == axis))
                    .map(|axis| LoopLevel { axis, step: lanes(axis).map_or(1, |v| v.lanes.into()) })
                    .collect()
            };
            let mut loops = missing(AxisKind::Parallel, &how.loops);
            let inner = missing(AxisKind::Reduction, &how.loops);
            loops.append(&mut how.loops);
            loops.extend(inner);
            how.loops = loops;
        }
        schedule
    }

    fn change(&self, schedule: &mut Schedule, choice: Choice, random: &mut Rng) -> Option<()> {
        let outer = self.kernel.outer.len();
        let is_parallel = |&axis: &usize| self.kernel.outer[axis].kind == AxisKind::Parallel;
        let parallel: Vec<usize> = (0..outer).filter(is_parallel).collect();
        match choice {
            Choice::Packing => return (!self.constants.is_empty()).then_some(()),
            Choice::Ahead => return (!schedule.packing.is_empty()).then_some(()),
            Choice::Fastest => {
                let axis = pick(&parallel, random)?;
                schedule.fastest = (axis + 1 != outer).then_some(axis);
                return Some(());
            }
            Choice::Temporaries => {
                let memory = Memory { kernel: self.kernel, points: schedule.points };
                schedule.points = schedule.points.other();
                return memory.has_choice().then_some(());
            }
            Choice::Task => {
                let axis = pick(&parallel, random)?;
                let power = random.u32(0..12);
                // Once in a while the whole axis.
                schedule.task[axis] = if power == 0 { WHOLE } else { 1 << (power - 1) };
                return Some(());
            }
            _ => {}
        }
        let number = random.usize(..schedule.stages.len().max(1));
        let (stage, how) = (self.kernel.stages.get(number)?, schedule.stages.get_mut(number)?);
        let kinds: Vec<AxisKind> = self.kernel.axes(stage).map(|axis| axis.kind).collect();
        match choice {
            Choice::Tile => {
                let place = innermost(&how.loops, random)?;
                let lanes = lanes(how, how.loops[place].axis);
                how.loops[place].step = pick(&SIDES, random)? * lanes;
            }
            Choice::Order => {
                let place = random.usize(..how.loops.len().checked_sub(1).filter(|&n| n > 0)?);
                let (a, b) = (how.loops[place].axis, how.loops[place + 1].axis);
                if a == b || kinds[a] != kinds[b] {
                    return None;
                }
                how.loops.swap(place, place + 1);
            }
            Choice::Block => {
                let place = random.usize(..how.loops.len().max(1));
                let level = *how.loops.get(place)?;
                let inside = how.loops[place + 1..].iter().any(|other| other.axis == level.axis);
                if inside {
                    how.loops.remove(place);
                } else {
                    let first = how.loops.iter().position(|l| kinds[l.axis] == kinds[level.axis]);
                    let at = random.usize(first.unwrap_or(0)..=place);
                    let step = level.step * pick(&BLOCKS, random)?;
                    how.loops.insert(at, LoopLevel { axis: level.axis, step });
                }
            }
            Choice::Vector => {
                let ordered =
                    stage.combine.iter().any(|combine| !matches!(combine, Combine::Reduce(_)));
                let may = |&axis: &usize| match kinds[axis] {
                    AxisKind::Parallel => true,
                    AxisKind::Reduction => !ordered,
                    AxisKind::Sequential => false,
                };
                let axis = pick(&(0..kinds.len()).filter(may).collect::<Vec<_>>(), random)?;
                let widest = self.target.lanes(1);
                let most = self.target.lanes(4).max(2);
                let narrow = [most / 2, most / 4].map(|lanes| lanes.max(2));
                let lanes = [most, most, narrow[0], narrow[1], (2 * most).min(widest)];
                let lanes = pick(&lanes, random)?;
                if let Some(old) = how.vector.take() {
                    let tiles = how.loops.iter_mut().filter(|level| level.axis == old.axis);
                    tiles.for_each(|level| level.step = level.step.div_ceil(old.lanes.into()));
                }
                // One vector less is a choice, too.
                if lanes > 1 && random.u32(0..8) > 0 {
                    how.vector = Some(VectorAxis { axis, lanes });
                    let tiles = how.loops.iter_mut().filter(|level| level.axis == axis);
                    tiles.for_each(|level| level.step = level.step.min(2) * u64::from(lanes));
                }
            }
            Choice::Task
            | Choice::Fastest
            | Choice::Temporaries
            | Choice::Packing
            | Choice::Ahead => {}
        }
        Some(())
    }

    /// Makes what depends on the other choices fit them: outer steps are no smaller than inner ones,
    /// loops over blocks of everything are none, tasks are whole register tiles, and packed constants
    /// lie as the register tile reads them.
    fn settle(&self, schedule: &mut Schedule, packed: bool) {
        for (stage, how) in self.kernel.stages.iter().zip(&mut schedule.stages) {
            let extent = |axis: usize| {
                let axis = self.kernel.axes(stage).nth(axis)?;
                axis.extent.as_const().and_then(|extent| u64::try_from(extent).ok())
            };
            let loops = std::mem::take(&mut how.loops);
            for (place, level) in loops.iter().enumerate() {
                let inner = loops[place + 1..].iter().find(|other| other.axis == level.axis);
                let idle = inner.is_some_and(|inner| {
                    level.step <= inner.step
                        || extent(level.axis).is_some_and(|extent| level.step >= extent)
                });
                if !idle {
                    how.loops.push(*level);
                }
            }
        }
        let plans: Vec<Plan> =
            (0..schedule.stages.len()).map(|at| Plan::of(self.kernel, at, schedule)).collect();
        for (axis, points) in schedule.task.iter_mut().enumerate() {
            let unit = plans.iter().map(|plan| plan.tile[axis]).max().unwrap_or(1);
            let extent = self.kernel.outer[axis].extent.as_const().unwrap_or(i64::MAX);
            if *points != WHOLE {
                *points = points.div_ceil(unit) * unit;
                if i64::try_from(*points).is_ok_and(|points| points >= extent) {
                    *points = WHOLE;
                }
            }
        }
        schedule.packing = match packed {
            true => {
                packing::choose(self.kernel, &plans, Layouts::Free(self.constants), &self.target)
            }
            false => Vec::new(),
        };
    }
}

/// Points of the register tile of a stage, vectors counted once.
fn points(how: &StageSchedule) -> u64 {
    let all = how.loops.iter().enumerate().filter(|(place, level)| {
        !how.loops[place + 1..].iter().any(|other| other.axis == level.axis)
    });
    all.fold(1, |points: u64, (_, level)| {
        points.saturating_mul(level.step / lanes(how, level.axis))
    })
}

/// Lanes of the vectors along an axis.
fn lanes(how: &StageSchedule, axis: usize) -> u64 {
    how.vector.filter(|vector| vector.axis == axis).map_or(1, |vector| vector.lanes.into())
}

/// The place of a loop that leaves its axis to the register tile.
fn innermost(loops: &[LoopLevel], random: &mut Rng) -> Option<usize> {
    let places: Vec<usize> = (0..loops.len())
        .filter(|&place| !loops[place + 1..].iter().any(|other| other.axis == loops[place].axis))
        .collect();
    pick(&places, random)
}

fn pick<T: Copy>(from: &[T], random: &mut Rng) -> Option<T> {
    (!from.is_empty()).then(|| from[random.usize(..from.len())])
}
