//! One stage: its vector axis, the axes of its register tile, and its loop order.
//!
//! Invariant: parallel loops stand outside of reduction loops, and every axis named here may be
//! tiled (sequential axes never are).

use super::access::{Along, Memory, Touch};
use super::bytes::{GROUP, Groups};
use super::layouts::Layouts;
use super::register::{self, Chosen, Shape};
use super::window::{Body, Window};
use super::{TileTarget, expected};
use kiln_ir::kernel::{Axis, AxisKind, Combine, Kernel, ScalarOp, ScalarProgram};
use kiln_ir::schedule::{LoopLevel, Schedule, StageSchedule, VectorAxis};
use kiln_tensor::DType;

/// Rows of a register tile, about.
const ROWS: f64 = 8.0;
/// Accumulators that are few.
const FEW: u64 = 8;
/// Terms of a long sum that few accumulators add up apart: a lane that adds thousands of numbers one by one
/// rounds as often, each time by the size of the sum. In products, whose tiles leave no registers, the bound
/// on roundings has it.
const BLOCK: u64 = 256;

/// How a stage is run, and what tasks and packing need to know of it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) schedule: StageSchedule,
    /// Points of the register tile along each axis of the stage.
    pub(super) tile: Vec<u64>,
    /// The axis whose vectors constants are laid out for, and how many points of it stand together.
    pub(super) panel: Option<(usize, u64)>,
    /// Reduction axes in loop order.
    pub(super) reductions: Vec<usize>,
    /// Whether the stage is a product that reads each operand along only one side of the tile.
    pub(super) product: bool,
    /// The groups in which it takes the terms of a sum of products of bytes.
    pub(super) groups: Option<Groups>,
}

impl Plan {
    /// What a stage's schedule, by whomever it was made, means for tasks and packing.
    pub(super) fn of(kernel: &Kernel, number: usize, schedule: &Schedule) -> Plan {
        let memory = Memory { kernel, points: schedule.points };
        let axes: Vec<&Axis> = kernel.axes(&kernel.stages[number]).collect();
        let schedule = schedule.stages.get(number).cloned().unwrap_or_default();
        let mut tile = vec![1; axes.len()];
        if let Some(vector) = schedule.vector {
            tile[vector.axis] = vector.lanes.into();
        }
        let mut reductions = Vec::new();
        for level in &schedule.loops {
            tile[level.axis] = level.step;
            if axes[level.axis].kind == AxisKind::Reduction && !reductions.contains(&level.axis) {
                reductions.push(level.axis);
            }
        }
        let rest = (0..axes.len()).filter(|&axis| axes[axis].kind == AxisKind::Reduction);
        let rest: Vec<usize> = rest.filter(|axis| !reductions.contains(axis)).collect();
        reductions.extend(rest);
        let panel = schedule.vector.map(|vector| (vector.axis, tile[vector.axis]));
        let groups =
            Groups::of(memory, number).filter(|groups| tile[groups.axis].is_multiple_of(GROUP));
        Plan { schedule, tile, panel, reductions, product: false, groups }
    }
}

/// The facts that choices rest on.
struct Facts<'k> {
    axes: Vec<&'k Axis>,
    sizes: Vec<f64>,
    body: Vec<Touch<'k>>,
    finish: Vec<Touch<'k>>,
    writes: Vec<Touch<'k>>,
    /// Bytes of the widest element that is read or written.
    width: usize,
    layouts: Layouts<'k>,
    memory: Memory<'k>,
    program: &'k ScalarProgram,
    /// Values that are combined over the reduction.
    results: usize,
    /// The groups in which terms can be taken.
    groups: Option<Groups>,
}

/// How a stage should be run, and what it then takes, about, in operations on single elements: for holding one
/// place of the points in temporaries against the other.
pub(super) fn plan(
    memory: Memory<'_>,
    number: usize,
    layouts: Layouts<'_>,
    target: &TileTarget,
) -> (Plan, f64) {
    let kernel = memory.kernel;
    let stage = &kernel.stages[number];
    let axes: Vec<&Axis> = kernel.axes(stage).collect();
    let count = axes.len();
    let facts = Facts {
        sizes: axes.iter().map(|axis| expected(&axis.extent, &kernel.symbols)).collect(),
        axes,
        body: memory.reads(&stage.body, count),
        finish: memory.reads(&stage.finish, count),
        writes: memory.writes(stage, count),
        width: width(kernel, number),
        layouts,
        memory,
        program: &stage.body,
        results: stage.combine.len(),
        groups: Groups::of(memory, number)
            .filter(|groups| target.bytes && layouts.takes_groups(groups.operand)),
    };
    let reductions: Vec<usize> = (0..count).filter(|&axis| facts.is_reduction(axis)).collect();
    let mut plan = Plan {
        schedule: StageSchedule::default(),
        tile: vec![1; count],
        panel: None,
        reductions,
        product: false,
        groups: None,
    };
    let ordered = stage.combine.iter().any(|how| !matches!(how, Combine::Reduce(_)));
    let lanes = target.lanes(facts.width);
    let Some((gain, vector)) = facts.vector_axis(lanes, ordered) else {
        return (plan, facts.points() / facts.scalar_gain());
    };
    // More lanes than points would only be masked.
    let points = facts.axes[vector].extent.as_const().and_then(|points| u32::try_from(points).ok());
    let lanes =
        points.and_then(u32::checked_next_power_of_two).map_or(lanes, |most| lanes.min(most));
    plan.schedule.vector = Some(VectorAxis { axis: vector, lanes });
    if facts.is_reduction(vector) {
        facts.dot_products(&mut plan, vector, lanes, &stage.body, target);
    } else if plan.reductions.is_empty() {
        facts.pointwise(&mut plan, vector, lanes, &stage.finish);
    } else {
        facts.accumulators(&mut plan, vector, lanes, target);
    }
    (plan, facts.points() / gain)
}

/// Bytes of the widest element that a stage reads or writes.
fn width(kernel: &Kernel, stage: usize) -> usize {
    let stage = &kernel.stages[stage];
    let accesses = stage.body.reads().chain(stage.finish.reads());
    let accesses = accesses.chain(stage.writes.iter().map(|write| &write.access));
    let operands = accesses.filter_map(|access| kernel.operands.get(access.operand));
    let computed = |dtype: DType| match dtype {
        DType::F16 | DType::BF16 => DType::F32.size(),
        other => other.size(),
    };
    // Index tensors do not set the pace where something else is computed.
    let widths: Vec<usize> = operands.map(|operand| computed(operand.dtype)).collect();
    let written = stage.writes.iter().filter_map(|write| kernel.operands.get(write.access.operand));
    let written = written.map(|operand| computed(operand.dtype)).max().unwrap_or(4);
    let floats = stage.body.code.iter().chain(&stage.finish.code);
    let narrow = floats.clone().any(|(_, dtype)| *dtype == DType::F32)
        && !floats.clone().any(|(op, dtype)| {
            *dtype == DType::F64 && !matches!(op, ScalarOp::Cast(_) | ScalarOp::Constant(_))
        });
    let widest = widths.into_iter().max().unwrap_or(4);
    if narrow { written.max(4).min(widest.max(4)) } else { widest.max(written) }
}

impl Facts<'_> {
    fn is_reduction(&self, axis: usize) -> bool {
        self.axes[axis].kind == AxisKind::Reduction
    }

    fn is_parallel(&self, axis: usize) -> bool {
        self.axes[axis].kind == AxisKind::Parallel
    }

    fn is_constant(&self, touch: &Touch) -> bool {
        self.layouts.has(touch.access.operand) && !touch.guarded
    }

    /// How a read moves along an axis, once constants are laid out for it.
    fn packed(&self, touch: &Touch, axis: usize, lanes: u32) -> Along {
        let fixed = self.layouts.fixed(touch.access.operand).is_some();
        match touch.along[axis] {
            Along::Contiguous | Along::Near | Along::Strided if fixed => {
                if self.layouts.side_by_side(touch.access, axis, lanes) {
                    Along::Contiguous
                } else {
                    Along::Strided
                }
            }
            Along::Near | Along::Strided if self.is_constant(touch) => Along::Contiguous,
            other => other,
        }
    }

    /// Points of work that one round of the finish stands for.
    fn reduced(&self) -> f64 {
        let each = (0..self.axes.len()).filter(|&axis| self.is_reduction(axis));
        each.map(|axis| self.sizes[axis]).product::<f64>().max(1.0)
    }

    /// Rows of a register tile with vectors along a parallel axis that a vector which is read serves, about.
    fn shared(&self, touch: &Touch, axis: usize) -> f64 {
        if touch.along[axis] == Along::Same || self.is_reduction(axis) || self.reduced() <= 1.0 {
            return 1.0;
        }
        let others = (0..self.axes.len()).filter(|&other| other != axis && self.is_parallel(other));
        let serves = others.filter(|&other| touch.along[other] == Along::Same);
        serves.map(|other| self.sizes[other].min(ROWS)).fold(1.0, f64::max)
    }

    /// Points of the stage.
    fn points(&self) -> f64 {
        self.sizes.iter().product()
    }

    /// What one point after the other gains over as many operations without memory.
    fn scalar_gain(&self) -> f64 {
        let once = (self.finish.len() + self.writes.len()) as f64;
        1.0 / (1.0 + self.body.len() as f64 + once / self.reduced())
    }

    /// The axis along which vectors pay most, if any does, and what they gain over as many operations without
    /// memory.
    fn vector_axis(&self, lanes: u32, ordered: bool) -> Option<(f64, usize)> {
        let wide = f64::from(lanes);
        if lanes == 1 {
            return None;
        }
        let reduced = self.reduced();
        let cost = |touch: &Touch, axis: usize, packed: bool| {
            let along = if packed { self.packed(touch, axis, lanes) } else { touch.along[axis] };
            match along {
                Along::Same => 0.3,
                Along::Contiguous => 1.0,
                Along::Near => 0.6 * wide,
                Along::Strided => 0.9 * wide,
                Along::Scattered => 1.5 * wide,
            }
        };
        let mut best: Option<(f64, usize)> = None;
        // Later axes first: they win ties.
        for axis in (0..self.axes.len()).rev() {
            let reduction = self.is_reduction(axis);
            if !(reduction && !ordered || self.is_parallel(axis)) || self.axes[axis].extent.is(1) {
                continue;
            }
            // A write that stays in place along a parallel axis has no vector form.
            if !reduction && self.writes.iter().any(|touch| touch.along[axis] == Along::Same) {
                continue;
            }
            let size = self.sizes[axis];
            let filled = size / ((size / wide).ceil() * wide).max(1.0);
            let mut work = 1.0;
            let body = self.body.iter();
            work +=
                body.map(|touch| cost(touch, axis, true) / self.shared(touch, axis)).sum::<f64>();
            let mut once: f64 = self.finish.iter().map(|touch| cost(touch, axis, false)).sum();
            // Stores to many places cost more than loads from them.
            once += 1.5 * self.writes.iter().map(|touch| cost(touch, axis, false)).sum::<f64>();
            if reduction {
                // The finish runs for single points, after lanes are combined.
                once = (self.finish.len() + self.writes.len()) as f64 * wide + 8.0 * wide;
            }
            work += once / reduced;
            let gain = wide * filled / work;
            if best.is_none_or(|(most, _)| gain > most * 1.001) {
                best = Some((gain, axis));
            }
        }
        best.filter(|(gain, _)| *gain > 0.3)
    }

    /// Vectors along a reduction: several accumulators for each of a few results.
    fn dot_products(
        &self,
        plan: &mut Plan,
        vector: usize,
        lanes: u32,
        body: &ScalarProgram,
        target: &TileTarget,
    ) {
        let wide = u64::from(lanes);
        let vectors = (self.sizes[vector] / f64::from(lanes)).ceil().max(1.0) as u64;
        // Both sides of a product of rows are shared by a square tile of results.
        let sides: Vec<usize> = (0..self.axes.len())
            .filter(|&axis| self.is_parallel(axis) && self.sizes[axis] > 1.0)
            .filter(|&axis| self.body.iter().any(|touch| touch.along[axis] == Along::Same))
            .collect();
        let square = self.body.len() >= 2 && sides.len() >= 2;
        if let (true, &[.., a, b]) = (square, sides.as_slice()) {
            let side = if target.vector_registers >= 32 { 4 } else { 2 };
            let (a_side, b_side) = (fit(self.sizes[a], side), fit(self.sizes[b], side));
            (plan.tile[a], plan.tile[b], plan.tile[vector]) = (a_side, b_side, wide);
            plan.schedule.loops = vec![level(a, a_side), level(b, b_side), level(vector, wide)];
            return;
        }
        // What is long anyway needs no others beside it.
        let unroll = if is_short(body) { vectors.min(4) * wide } else { wide };
        plan.tile[vector] = unroll;
        plan.schedule.loops = vec![level(vector, unroll)];
    }

    /// No reduction: vectors innermost; where a read is contiguous along another axis, that axis runs
    /// inside of the vectors, so that cache lines are used up.
    fn pointwise(&self, plan: &mut Plan, vector: usize, lanes: u32, finish: &ScalarProgram) {
        let wide = u64::from(lanes);
        let vectors =
            if is_short(finish) && self.sizes[vector] >= 4.0 * f64::from(lanes) { 2 } else { 1 };
        plan.tile[vector] = wide * vectors;
        let across = (0..self.axes.len()).rev().find(|&axis| {
            axis != vector
                && self.is_parallel(axis)
                && self.finish.iter().any(|touch| {
                    touch.along[axis] == Along::Contiguous && touch.along[vector] >= Along::Near
                })
        });
        match across {
            Some(across) => {
                plan.tile[vector] = wide;
                let unroll = fit(self.sizes[across], 4);
                plan.tile[across] = unroll;
                plan.schedule.loops = vec![level(vector, wide), level(across, unroll)];
            }
            None => plan.schedule.loops = vec![level(vector, plan.tile[vector])],
        }
    }

    /// Vectors along a parallel axis: a tile of accumulators that shares loads.
    fn accumulators(&self, plan: &mut Plan, vector: usize, lanes: u32, target: &TileTarget) {
        let wide = f64::from(lanes);
        let along_vector: Vec<&Touch> =
            self.body.iter().filter(|touch| touch.along[vector] != Along::Same).collect();
        // The other side: an axis along which vector loads can be kept.
        let shared = |axis: usize| {
            along_vector.iter().filter(|touch| touch.along[axis] == Along::Same).count()
        };
        let side = (0..self.axes.len())
            .filter(|&axis| axis != vector && self.is_parallel(axis) && self.sizes[axis] > 1.0)
            .filter(|&axis| shared(axis) > 0)
            .max_by_key(|&axis| (shared(axis), self.tiles_well(axis), axis));
        let static_size = |axis: usize| self.axes[axis].extent.as_const().map(|size| size as f64);
        let kept = side.map_or(along_vector.len(), shared) as f64;
        let window = side.and_then(|side| {
            Window::of(side, &self.body, &plan.reductions, &self.axes, &self.memory.kernel.operands)
        });
        let groups = self.groups.filter(|groups| groups.axis != vector);
        if let Some(groups) = groups {
            plan.reductions.retain(|&axis| axis != groups.axis);
            plan.reductions.push(groups.axis);
            plan.groups = Some(groups);
        }
        let reduced: f64 = plan.reductions.iter().map(|&axis| self.sizes[axis]).product();
        let bytes = if groups.is_some() { 1 } else { self.width };
        let streamed = reduced * wide * 2.0 * bytes as f64 > target.l1 as f64;
        let room = side.map_or(f64::INFINITY, |side| {
            let scalars = self.body.iter().filter(|touch| touch.along[vector] == Along::Same);
            let steps = scalars
                .filter_map(|touch| self.memory.step_bytes(self.program, touch.access, side));
            steps.map(|step| rows_in_cache(step, target.l1)).fold(f64::INFINITY, f64::min)
        });
        let shape = |body: &Body| Shape {
            side: side.map(|side| (static_size(side), self.sizes[side])),
            vectors: (static_size(vector), self.sizes[vector]),
            lanes: wide,
            kept,
            moving: along_vector.len() as f64 - kept,
            scalars: (self.body.len() - along_vector.len()) as f64,
            results: self.results as f64,
            unroll: body.points() as f64,
            apart: !body.innermost,
            overlap: window.is_some_and(|window| window.overlaps() && body.has(window.axis)),
            streamed,
            room,
            window: window.filter(|window| !body.has(window.axis)),
        };
        // Constants that are read from several places need panels that begin at each of them.
        let takes =
            |touch: &Touch, width: u64| self.layouts.takes_panels(touch.access, vector, width);
        let constants: Vec<&&Touch> = along_vector
            .iter()
            .filter(|touch| self.is_constant(touch) && takes(touch, u64::from(lanes)))
            .collect();
        let fits = |width: u64| constants.iter().all(|touch| takes(touch, width));
        // A group counts as one point, and beside it stands no other.
        let bodies = match groups {
            Some(_) => vec![Body::ONE],
            None => Body::all(&self.axes, &plan.reductions),
        };
        let choices = bodies
            .iter()
            .filter_map(|body| Some((register::choose(&shape(body), target, &fits)?, body)));
        let best = choices.min_by(|(a, _), (b, _)| a.cost.total_cmp(&b.cost));
        let Some((Chosen { rows, vectors, .. }, body)) = best else { return };
        let panel = vectors * u64::from(lanes);
        plan.tile[vector] = panel;
        plan.panel = Some((vector, panel));
        plan.product = side.is_some_and(|side| {
            let both = |touch: &&Touch| {
                touch.along[vector] != Along::Same && touch.along[side] != Along::Same
            };
            !self.body.iter().any(|touch| both(&touch))
        });
        let mut loops = Vec::new();
        if plan.product {
            // One product after the other, and panel by panel, so that one panel of the vector side serves all
            // rows of the task.
            let others = (0..self.axes.len())
                .filter(|&axis| axis != vector && Some(axis) != side && self.is_parallel(axis));
            let apart =
                |axis: &usize| self.body.iter().all(|touch| touch.along[*axis] != Along::Same);
            let (products, along): (Vec<usize>, Vec<usize>) = others.partition(apart);
            loops.extend(products.into_iter().map(|axis| level(axis, 1)));
            loops.push(level(vector, panel));
            loops.extend(along.into_iter().map(|axis| level(axis, 1)));
            loops.extend(side.map(|side| level(side, rows)));
        } else {
            loops.extend(side.map(|side| level(side, rows)));
            loops.push(level(vector, panel));
        }
        if let Some(side) = side {
            plan.tile[side] = rows;
        }
        // Beside few accumulators a body of one point is so short that the loop itself would show.
        let few = || {
            let &last = plan.reductions.last()?;
            let few = rows * vectors * self.results as u64 <= FEW;
            few.then(|| (last, fit(self.sizes[last], 4)))
        };
        let grouped = |groups: Groups| {
            let most = (self.sizes[groups.axis] / GROUP as f64).max(1.0);
            let rounds = if rows * vectors <= FEW { fit(most, 4) } else { 1 };
            (groups.axis, GROUP * rounds)
        };
        if let Some((axis, points)) = groups.map(grouped).or(body.axis).or_else(few) {
            plan.tile[axis] = points;
        }
        let last = plan.reductions.last().copied().filter(|_| groups.is_none() && few().is_some());
        let long = last.filter(|&axis| {
            self.axes[axis].extent.as_const().is_none_or(|points| points > 2 * BLOCK as i64)
        });
        if plan.reductions.iter().any(|&axis| plan.tile[axis] > 1) || long.is_some() {
            for &axis in &plan.reductions {
                loops.extend((long == Some(axis)).then(|| level(axis, BLOCK)));
                loops.push(level(axis, plan.tile[axis]));
            }
        }
        plan.schedule.loops = loops;
    }

    /// Axes with more points make better sides of a tile; a few points more than a tile are enough.
    fn tiles_well(&self, axis: usize) -> u64 {
        self.sizes[axis].min(14.0) as u64
    }
}

/// Rows at such a distance whose lines a first-level cache of this size keeps, two ways of each of its sets left to
/// what passes through. Lines a page apart share a set.
fn rows_in_cache(step: u64, l1: u64) -> f64 {
    const PAGE: u64 = 4096;
    const LINE: u64 = 64;
    // The largest power of two that divides the distance, up to a page.
    let apart = (step | PAGE) & (step | PAGE).wrapping_neg();
    if step == 0 || apart < LINE {
        return f64::INFINITY;
    }
    (PAGE / apart * (l1 / PAGE).saturating_sub(2).max(1)) as f64
}

/// Whether a program is no more than a few simple operations.
fn is_short(program: &ScalarProgram) -> bool {
    program.code.len() <= 8 && !program.code.iter().any(|(op, _)| matches!(op, ScalarOp::Unary(..)))
}

/// The largest tile of at most `most` points that fits the size.
fn fit(size: f64, most: u64) -> u64 {
    (1..=most).rev().find(|&tile| tile as f64 <= size).unwrap_or(1)
}

fn level(axis: usize, step: u64) -> LoopLevel {
    LoopLevel { axis, step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_a_page_apart_share_a_set() {
        // Eight ways: three of 4096 bytes, half a page more, a line, less than a line, any odd distance.
        for (step, rows) in
            [(12288, 6.0), (6144, 12.0), (3072, 24.0), (64, 384.0), (96, f64::INFINITY)]
        {
            assert_eq!(rows_in_cache(step, 32 << 10), rows, "{step}");
        }
        assert_eq!(rows_in_cache(8192, 48 << 10), 10.0);
        assert_eq!(rows_in_cache(0, 32 << 10), f64::INFINITY);
    }
}
