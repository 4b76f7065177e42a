//! Tasks: boxes of outer points, large enough to be worth a hand-over and small enough to share.
//!
//! Invariant: a box is a whole number of register tiles along every axis that it cuts, and the
//! temporaries of one box stay in a cache.

use super::access::{Along, Memory};
use super::stage::Plan;
use super::{TileTarget, expected};
use crate::form::flops;
use kiln_ir::kernel::{AxisKind, Kernel, Operand, Role, Stage};
use kiln_ir::schedule::WHOLE;
use kiln_tensor::Dim;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds below which a task is not worth handing over.
const LEAST: f64 = 20e-6;
/// Tasks for each core that even out what cores do.
const PER_CORE: f64 = 6.0;
/// Cycles and bytes in a second of one core.
const CLOCK: f64 = 3e9;
const BANDWIDTH: f64 = 1e10;
/// How many times longer a task should take than to read what every task reads.
const AGAIN: f64 = 8.0;
/// Tiles of rows that share one panel before the next panel is read.
const ROWS: u64 = 8;

/// Points of each outer axis in one task.
pub(super) fn boxes(memory: Memory<'_>, stages: &[Plan], target: &TileTarget) -> Vec<u64> {
    let kernel = memory.kernel;
    let outer = kernel.outer.len();
    let sizes: Vec<f64> =
        kernel.outer.iter().map(|axis| expected(&axis.extent, &kernel.symbols)).collect();
    let points: f64 = sizes.iter().product::<f64>().max(1.0);
    let each = seconds(kernel, target) / points;
    let known = kernel.outer.iter().all(|axis| axis.extent.as_const().is_some());
    let shared = each * points / (f64::from(target.cores.max(1)) * PER_CORE);
    let wanted = if known { shared.max(LEAST) } else { shared.clamp(LEAST, 4.0 * LEAST) };
    // Few tasks, but one for each core, where each reads much that the others read, too.
    let alike = AGAIN * again(memory) / BANDWIDTH;
    let wanted = wanted.max(alike.min(each * points / f64::from(target.cores.max(1))));

    // Least box: one register tile.
    let unit = |axis: usize| -> u64 {
        let tiles = stages.iter().filter_map(|plan| plan.tile.get(axis).copied());
        tiles.max().unwrap_or(1)
    };
    let mut points: Vec<f64> = (0..outer)
        .map(|axis| match kernel.outer[axis].kind {
            AxisKind::Sequential => sizes[axis],
            _ => (unit(axis) as f64).min(sizes[axis].max(1.0)),
        })
        .collect();
    let scratch = scratch_bytes(kernel);
    let room = if stages.iter().any(|plan| plan.product) {
        target.l2 as f64
    } else {
        target.l1 as f64 / 2.0
    };
    let fits = |points: &[f64]| {
        let count: f64 = (0..outer)
            .filter(|&axis| kernel.outer[axis].kind == AxisKind::Parallel)
            .map(|axis| points[axis])
            .product();
        let tolerable = scratch == 0.0 || count * scratch <= room;
        // What is wanted may be all points, computed another way.
        tolerable && points.iter().product::<f64>() * each <= wanted * (1.0 + 1e-9)
    };
    let grow = |axis: usize, most: f64, points: &mut Vec<f64>| {
        if kernel.outer[axis].kind == AxisKind::Sequential {
            return;
        }
        let step = unit(axis) as f64;
        // Doubling first, then step by step, keeps this short for large sizes.
        let mut stride = step;
        loop {
            let mut next = points.clone();
            next[axis] = (points[axis] + stride).min(most);
            if next[axis] > points[axis] && fits(&next) {
                *points = next;
                stride *= 2.0;
            } else if stride > step {
                stride = step;
            } else {
                return;
            }
        }
    };
    // Rows of a product first, so that a panel that is read serves several tiles.
    for (stage, plan) in kernel.stages.iter().zip(stages).filter(|(_, plan)| plan.product) {
        let mut tiles = 1;
        for axis in rows(memory, stage, plan).into_iter().rev() {
            let most = plan.tile[axis] * (ROWS / tiles).max(1);
            grow(axis, sizes[axis].min(most as f64), &mut points);
            tiles *= (points[axis] as u64).div_ceil(plan.tile[axis]);
        }
    }
    for axis in (0..outer).rev() {
        grow(axis, sizes[axis], &mut points);
    }
    (0..outer)
        .map(|axis| {
            let extent = kernel.outer[axis].extent.as_const();
            let whole = match extent {
                Some(extent) => points[axis] >= extent as f64,
                None => false,
            };
            if whole || kernel.outer[axis].kind == AxisKind::Sequential {
                return WHOLE;
            }
            let step = unit(axis);
            let mut points = ((points[axis] as u64).div_ceil(step) * step).max(1);
            if let Some(extent) = extent.and_then(|extent| u64::try_from(extent).ok()) {
                // As many boxes, but of equal size.
                let boxes = extent.div_ceil(points).max(1);
                points = extent.div_ceil(boxes).div_ceil(step) * step;
            }
            points
        })
        .collect()
}

/// The outer axes of a product along which its panels are the same.
fn rows(memory: Memory<'_>, stage: &Stage, plan: &Plan) -> Vec<usize> {
    let kernel = memory.kernel;
    let Some((columns, _)) = plan.panel else { return Vec::new() };
    let reads = memory.reads(&stage.body, kernel.axes(stage).count());
    let panels = reads.iter().filter(|touch| touch.along[columns] != Along::Same);
    let panels: Vec<_> = panels.collect();
    (0..kernel.outer.len())
        .filter(|&axis| axis != columns && kernel.outer[axis].kind == AxisKind::Parallel)
        .filter(|&axis| panels.iter().all(|touch| touch.along[axis] == Along::Same))
        .collect()
}

/// The axis along which tasks should follow each other: the rows of a product whose columns are more than
/// a cache holds, so that all rows are multiplied with some columns before the next columns are read.
pub(super) fn fastest(
    memory: Memory<'_>,
    stages: &[Plan],
    task: &[u64],
    target: &TileTarget,
) -> Option<usize> {
    let kernel = memory.kernel;
    let (stage, plan) = kernel.stages.iter().zip(stages).find(|(_, plan)| plan.product)?;
    let (columns, _) = plan.panel.filter(|&(axis, _)| axis < kernel.outer.len())?;
    let rows = (0..kernel.outer.len()).find(|&axis| axis != columns && plan.tile[axis] > 1)?;
    let tasks = |axis: usize| match task[axis] {
        WHOLE => 1.0,
        points => (expected(&kernel.outer[axis].extent, &kernel.symbols) / points as f64).ceil(),
    };
    let reads = memory.reads(&stage.body, kernel.axes(stage).count());
    let bytes = |along: usize| -> f64 {
        let moves = reads.iter().filter(|touch| touch.along[along] != Along::Same);
        let operands: BTreeSet<usize> = moves.map(|touch| touch.access.operand).collect();
        let operands = operands.iter().filter_map(|&operand| kernel.operands.get(operand));
        operands.map(|operand| operand_bytes(kernel, operand)).sum()
    };
    // What is read along the fast axis comes again for each task along the other, unless it is kept.
    let again = |bytes: f64, times: f64| {
        if bytes > target.l2 as f64 / 2.0 { bytes * times } else { bytes }
    };
    let (of_rows, of_columns) = (bytes(rows), bytes(columns));
    let rows_fastest = of_columns + again(of_rows, tasks(columns));
    let columns_fastest = of_rows + again(of_columns, tasks(rows));
    let last = if rows < columns { columns } else { rows };
    let better = if rows_fastest < columns_fastest { rows } else { columns };
    (better != last).then_some(better)
}

/// Bytes of operands that are the same at all points of the outer axes.
fn again(memory: Memory<'_>) -> f64 {
    let kernel = memory.kernel;
    let mut bytes: BTreeMap<usize, f64> = BTreeMap::new();
    for stage in &kernel.stages {
        let axes = kernel.axes(stage).count();
        for touch in memory.reads(&stage.body, axes) {
            let number = touch.access.operand;
            let Some(operand) = kernel.operands.get(number) else { continue };
            let moves = touch.along[..kernel.outer.len()].iter().any(|along| *along != Along::Same);
            if moves || operand.role != Role::Input {
                bytes.insert(number, 0.0);
            } else {
                bytes.entry(number).or_insert_with(|| operand_bytes(kernel, operand));
            }
        }
    }
    bytes.values().sum()
}

fn operand_bytes(kernel: &Kernel, operand: &Operand) -> f64 {
    let elements: Dim = operand.shape.iter().cloned().product();
    expected(&elements, &kernel.symbols) * operand.dtype.size() as f64
}

/// Bytes of temporaries for one outer point.
fn scratch_bytes(kernel: &Kernel) -> f64 {
    kernel
        .operands
        .iter()
        .filter(|operand| operand.role == Role::Temporary)
        .map(|operand| operand_bytes(kernel, operand))
        .sum()
}

/// Predicted time of one launch on one core.
fn seconds(kernel: &Kernel, target: &TileTarget) -> f64 {
    let lanes = f64::from(target.lanes(4));
    let computing =
        expected(&flops(kernel), &kernel.symbols) / (lanes * target.multiply_adds() * CLOCK);
    let moving = expected(&crate::form::bytes(kernel), &kernel.symbols) / BANDWIDTH;
    computing.max(moving)
}
