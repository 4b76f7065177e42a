//! Plans: the sizes of a run with these input shapes, and where its buffers lie.
//!
//! Invariant: a plan depends on the program and the sizes of the inputs, so it is made once for each distinct
//! combination and then used again; how launches are cut up it asks the kernel's code, which may change.

use super::RunError;
use super::bind::{Given, bind};
use super::prepare::{EARLY, Group, Launch};
use crate::kernel::{Tier, Version};
use crate::model::LoadedModel;
use kiln_program::{BufferId, Location, Program, place};
use kiln_tensor::{ALIGNMENT, Dim, Symbol, SymbolValues, Tensor};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A plan for one combination of input sizes.
#[derive(Debug)]
pub(super) struct Plan {
    /// The inputs' sizes.
    pub(super) inputs: Vec<Vec<usize>>,
    pub(super) symbols: SymbolValues,
    pub(super) early: GroupPlan,
    /// For each launch whose sizes are known, these.
    pub(super) launches: Vec<Option<LaunchSizes>>,
    /// Greatest need of scratch memory of a thread in those launches, and how often kernels had been given other
    /// code when that was so.
    scratch: AtomicU64,
    scratch_of: AtomicUsize,
}

/// Where the members of a group lie.
#[derive(Debug, Default)]
pub(super) struct GroupPlan {
    /// In the order of the group's members.
    pub(super) places: Vec<Place>,
    /// Bytes of the group's block.
    pub(super) arena: u64,
    /// Bytes of its outputs.
    pub(super) outputs: u64,
}

/// Where one buffer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this offset in the group's block.
    Arena { offset: u64, bytes: u64 },
    /// In an output of this number and of these sizes.
    Output { number: u32, sizes: Vec<usize> },
    /// Its size came out impossible. That is an error if it is used: a branch that is not taken
    /// may well have such buffers.
    Nowhere,
}

/// The sizes of a launch.
#[derive(Clone, Debug)]
pub(super) struct LaunchSizes {
    pub(super) params: Vec<i64>,
    pub(super) flops: i64,
    pub(super) bytes: i64,
    /// How each version of the kernel cuts up the work, once it was asked for.
    parts: [OnceLock<Parts>; 2],
}

/// How the work of a launch is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) tasks: i64,
    /// Bytes for each thread.
    pub(super) scratch: u64,
    /// Least number of tasks that a thread should get.
    pub(super) grain: i64,
}

impl Plan {
    pub(super) fn new(model: &LoadedModel, given: &[Given<'_>]) -> Result<Self, RunError> {
        let (program, prepared) = (model.program(), model.prepared());
        let symbols = bind(program, given)?;
        let early = GroupPlan::new(program, &prepared.groups[EARLY], &symbols)?;
        let launches: Vec<Option<LaunchSizes>> = prepared
            .launches
            .iter()
            // What has no size in a branch that is not taken must not stop the run.
            .map(|launch| {
                launch.early.then(|| LaunchSizes::new(launch, model, &symbols).ok()).flatten()
            })
            .collect();
        let inputs = given.iter().map(|given| given.sizes.to_vec()).collect();
        let (scratch, scratch_of) = (AtomicU64::new(0), AtomicUsize::new(usize::MAX));
        Ok(Plan { inputs, symbols, early, launches, scratch, scratch_of })
    }

    /// Greatest need of scratch memory of a thread in launches whose sizes are known, with the code that there
    /// is now.
    pub(super) fn scratch(&self, model: &LoadedModel) -> u64 {
        let now = model.improvements();
        if self.scratch_of.load(Ordering::Acquire) == now {
            return self.scratch.load(Ordering::Relaxed);
        }
        let launches = self.launches.iter().zip(&model.prepared().launches);
        let scratch = launches.filter_map(|(sizes, launch)| {
            let (sizes, kernel) = (sizes.as_ref()?, model.kernels().get(launch.kernel)?);
            let entry = model.program().kernels.get(launch.kernel)?;
            let (tier, version) = kernel.best();
            // What has no size in a branch that is not taken needs none.
            Some(sizes.parts(tier, version, &entry.params).map_or(0, |parts| parts.scratch))
        });
        let scratch = scratch.max().unwrap_or(0);
        self.scratch.store(scratch, Ordering::Relaxed);
        self.scratch_of.store(now, Ordering::Release);
        scratch
    }
}

impl GroupPlan {
    pub(super) fn new(
        program: &Program,
        group: &Group,
        symbols: &SymbolValues,
    ) -> Result<Self, RunError> {
        let mut plan = GroupPlan::default();
        let mut arena = Vec::new();
        let mut arena_members = Vec::new();
        for &id in &group.members {
            let Some(buffer) = program.buffer(id) else { continue };
            let sized = sizes_of(program, id, symbols)
                .and_then(|sizes| Ok((Tensor::byte_length(buffer.dtype, &sizes)? as u64, sizes)));
            plan.places.push(match (&buffer.location, sized) {
                (Location::Arena(lifetime), Ok((bytes, _))) => {
                    arena.push((*lifetime, bytes));
                    arena_members.push(plan.places.len());
                    Place::Arena { offset: 0, bytes }
                }
                (Location::Output(number), Ok((bytes, sizes))) => {
                    plan.outputs = plan.outputs.saturating_add(bytes);
                    Place::Output { number: *number, sizes }
                }
                _ => Place::Nowhere,
            });
        }
        let placement = place(&arena).ok_or_else(|| RunError::ImpossibleSize {
            place: "arena".to_owned(),
            value: "more than 2^63 bytes".to_owned(),
        })?;
        for (member, placed) in arena_members.into_iter().zip(placement.offsets) {
            if let Some(Place::Arena { offset, .. }) = plan.places.get_mut(member) {
                *offset = placed;
            }
        }
        plan.arena = placement.size;
        Ok(plan)
    }
}

/// The sizes of a buffer.
pub(super) fn sizes_of(
    program: &Program,
    id: BufferId,
    symbols: &SymbolValues,
) -> Result<Vec<usize>, RunError> {
    let place = || format!("buffer {}", id.0);
    let Some(buffer) = program.buffer(id) else {
        return Err(RunError::ImpossibleSize { place: place(), value: "unknown".to_owned() });
    };
    sizes(&buffer.shape, symbols, place)
}

/// The sizes of a shape that belongs to `place`.
pub(super) fn sizes(
    shape: &[Dim],
    symbols: &SymbolValues,
    place: impl Fn() -> String,
) -> Result<Vec<usize>, RunError> {
    let size = |dim: &Dim| {
        let value = evaluate(dim, symbols, &place)?;
        let value_text = || format!("{dim} = {value}");
        usize::try_from(value)
            .map_err(|_| RunError::ImpossibleSize { place: place(), value: value_text() })
    };
    shape.iter().map(size).collect()
}

/// The value of a size that belongs to `place`.
pub(super) fn evaluate(
    dim: &Dim,
    symbols: &SymbolValues,
    place: impl Fn() -> String,
) -> Result<i64, RunError> {
    dim.evaluate(symbols).map_err(|error| RunError::Size { place: place(), error })
}

impl LaunchSizes {
    /// The sizes of a launch under these values of the symbols; an error, too, where the version of its kernel
    /// that there is now has none.
    pub(super) fn new(
        launch: &Launch,
        model: &LoadedModel,
        symbols: &SymbolValues,
    ) -> Result<Self, RunError> {
        let value = |dim: &Dim| evaluate(dim, symbols, || "launch".to_owned());
        // Figures for planning only: what they cannot say does not stop the run.
        let figure = |dim: &Dim| dim.evaluate(symbols).unwrap_or(0).max(0);
        let sizes = LaunchSizes {
            params: launch.sizes.params.iter().map(value).collect::<Result<_, _>>()?,
            flops: figure(&launch.sizes.flops),
            bytes: figure(&launch.sizes.bytes),
            parts: [OnceLock::new(), OnceLock::new()],
        };
        let kernel = model.kernels().get(launch.kernel);
        if let (Some(kernel), Some(entry)) = (kernel, model.program().kernels.get(launch.kernel)) {
            let (tier, version) = kernel.best();
            sizes.parts(tier, version, &entry.params)?;
        }
        Ok(sizes)
    }

    /// How a version of the kernel cuts up the work.
    pub(super) fn parts(
        &self,
        tier: Tier,
        version: &Version,
        params: &[Symbol],
    ) -> Result<Parts, RunError> {
        let slot = match tier {
            Tier::First => &self.parts[0],
            Tier::Better => &self.parts[1],
        };
        if let Some(known) = slot.get() {
            return Ok(*known);
        }
        let symbols: SymbolValues =
            params.iter().cloned().zip(self.params.iter().copied()).collect();
        let place = || "launch".to_owned();
        let size = |dim: &Dim| {
            let value = evaluate(dim, &symbols, place)?;
            let text = format!("{dim} = {value}");
            u64::try_from(value)
                .map_err(|_| RunError::ImpossibleSize { place: place(), value: text })
        };
        let partition = version.partition();
        let tasks = size(&partition.tasks)? as i64;
        let scratch = size(&partition.scratch)?.checked_next_multiple_of(2 * ALIGNMENT as u64);
        let scratch = scratch.ok_or_else(|| RunError::ImpossibleSize {
            place: place(),
            value: partition.scratch.to_string(),
        })?;
        let parts = Parts { tasks, scratch, grain: grain(tasks, self.flops, self.bytes) };
        Ok(*slot.get_or_init(|| parts))
    }
}

/// Nanoseconds of work below which another thread costs more than it gives: handing it over takes
/// a few microseconds, and the caches start cold.
const LEAST_WORK: f64 = 10_000.0;
/// A core's arithmetic and its share of the memory's bandwidth, for judging the size of work: low,
/// because work that takes longer than was thought only gets more threads than it needs.
const FLOPS_A_NANOSECOND: f64 = 20.0;
const BYTES_A_NANOSECOND: f64 = 10.0;

/// Least number of tasks that a thread should get.
fn grain(tasks: i64, flops: i64, bytes: i64) -> i64 {
    let work = (flops as f64 / FLOPS_A_NANOSECOND).max(bytes as f64 / BYTES_A_NANOSECOND);
    // At most all tasks; the conversion saturates, so that no work at all gives one share.
    (tasks as f64 * LEAST_WORK / work).ceil().min(tasks as f64).max(1.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_work_is_not_cut_up() {
        // 20 tasks of 1 µs each: two threads' worth.
        assert_eq!(grain(20, 20 * 20_000, 0), 10);
        assert_eq!(grain(20, 0, 20 * 10_000), 10);
        assert_eq!(grain(20, 1, 0), 20);
        assert_eq!(grain(20, 0, 0), 20);
        assert_eq!(grain(8, i64::MAX, 0), 1);
        assert_eq!(grain(0, 0, 0), 1);
    }
}
