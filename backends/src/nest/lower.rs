//! A kernel under a schedule as a loop nest: tasks, their boxes, sequential axes, stages.
//!
//! Invariant: the nest computes what the kernel says, whatever the schedule; a schedule that cannot
//! be followed is an error.

use super::build::{Builder, OpenFor};
use super::functions::memory_element_of;
use super::place::Offset;
use super::scalar::{Context, Layout};
use super::tile::{Length, Range};
use super::{Address, Buffer, Capabilities, Nest, NestError, Place};
use kiln_ir::kernel::{AxisKind, Kernel, Role, verify};
use kiln_ir::schedule::{Schedule, StageSchedule};
use kiln_tensor::Dim;

/// The loop nest of a kernel under a schedule, for a code generator of these capabilities.
pub fn lower(
    kernel: &Kernel,
    schedule: &Schedule,
    capabilities: Capabilities,
) -> Result<Nest, NestError> {
    let malformed = |reason: String| NestError::Kernel { kernel: kernel.name.clone(), reason };
    let unfit = |reason: String| NestError::Schedule { kernel: kernel.name.clone(), reason };
    verify(kernel).map_err(|error| malformed(error.to_string()))?;
    if schedule.stages.len() > kernel.stages.len() {
        return Err(unfit("it has more stages than the kernel".to_owned()));
    }
    let layouts = layouts(kernel, schedule).map_err(unfit)?;
    let mut build = Builder::new(&kernel.symbols, capabilities);
    build.announce(ahead(kernel, schedule));
    let (begin, end) = build.task_bounds();
    let task_loop = build.open_for(begin, end, 1, &[]);
    let (low, mut ranges) = boxes(kernel, schedule, &task_loop, &mut build);
    let task_box = schedule.task_box(kernel);
    let mut context = Context { kernel, points: schedule.points, layouts, low, task_box };

    let sequential: Vec<usize> = (0..kernel.outer.len())
        .filter(|&axis| kernel.outer[axis].kind == AxisKind::Sequential)
        .collect();
    if !sequential.is_empty() {
        clear_temporaries(&context, &mut build);
    }
    let mut loops = Vec::new();
    for axis in sequential {
        let zero = build.index(0);
        let extent = build.dim(&kernel.outer[axis].extent);
        let open = build.open_for(zero, extent, 1, &[]);
        let from = open.variable();
        let one = build.index(1);
        let to = build.add(from, one);
        context.low[axis] = Offset::value(&build, from);
        ranges[axis] = Range { from, to, length: Length::OneOf(vec![1]) };
        loops.push(open);
    }
    for (number, stage) in kernel.stages.iter().enumerate() {
        let none = StageSchedule::default();
        let how = schedule.stages.get(number).unwrap_or(&none);
        context.stage(stage, how, &ranges, &mut build)?;
    }
    for open in loops.into_iter().rev() {
        build.close_for(open, &[]);
    }
    build.close_for(task_loop, &[]);

    if let Some(symbol) = build.undeclared() {
        return Err(malformed(format!("symbol `{symbol}` is not declared")));
    }
    let (types, body) = build.finish();
    Ok(Nest {
        name: kernel.name.clone(),
        params: kernel.symbols.keys().cloned().collect(),
        buffers: buffers(&context, schedule),
        tasks: schedule.tasks(kernel),
        scratch: schedule.scratch(kernel).bytes,
        types,
        body,
    })
}

fn layouts(kernel: &Kernel, schedule: &Schedule) -> Result<Vec<Layout>, String> {
    let scratch = schedule.scratch(kernel);
    let mut layouts = Vec::with_capacity(kernel.operands.len());
    for (number, operand) in kernel.operands.iter().enumerate() {
        layouts.push(match scratch.offsets.get(number) {
            Some(Some(offset)) if operand.role == Role::Temporary => {
                // Offsets are whole numbers of cache lines, hence of elements.
                Layout::Temporary(offset.floor_div(&Dim::from(operand.dtype.size())))
            }
            _ => Layout::RowMajor,
        });
    }
    for packing in &schedule.packing {
        let what = kernel.operands.get(packing.operand);
        if what.is_none_or(|operand| operand.role == Role::Temporary) {
            return Err(format!("operand {} cannot be packed", packing.operand));
        }
        layouts[packing.operand] = Layout::Packed(packing.layout.clone());
    }
    Ok(layouts)
}

/// For each operand the elements by which reads of it are announced before.
fn ahead(kernel: &Kernel, schedule: &Schedule) -> Vec<i64> {
    let mut ahead = vec![0; kernel.operands.len()];
    for packing in &schedule.packing {
        if let Some(operand) = kernel.operands.get(packing.operand) {
            let elements = packing.ahead / operand.dtype.size().max(1) as u64;
            ahead[packing.operand] = i64::try_from(elements).unwrap_or(0);
        }
    }
    ahead
}

fn buffers(context: &Context, schedule: &Schedule) -> Vec<Buffer> {
    let points: Dim = context.task_box.iter().cloned().product();
    let operands = context.kernel.operands.iter().enumerate();
    operands
        .map(|(slot, operand)| {
            let elements = || operand.shape.iter().cloned().product::<Dim>();
            let packed = schedule.packing.iter().find(|packing| packing.operand == slot);
            let (length, place) = match (&context.layouts[slot], packed) {
                (Layout::Temporary(start), _) => {
                    (points.clone() * elements(), Place::Scratch { start: start.clone() })
                }
                (_, packed) => {
                    let written = operand.role == Role::Output;
                    let length = packed.map_or_else(elements, |packing| {
                        packing.layout.extents(&operand.shape).into_iter().product()
                    });
                    (length, Place::Bound { slot: slot as u32, written })
                }
            };
            Buffer { name: operand.name.clone(), dtype: operand.dtype, length, place }
        })
        .collect()
}

/// First point and range of the task along each outer axis.
fn boxes(
    kernel: &Kernel,
    schedule: &Schedule,
    task_loop: &OpenFor,
    build: &mut Builder,
) -> (Vec<Offset>, Vec<Range>) {
    let grid = schedule.task_grid(kernel);
    let task_box = schedule.task_box(kernel);
    let mut rest = task_loop.variable();
    let mut found = vec![None; kernel.outer.len()];
    let order = schedule.task_order(kernel);
    for (place, &number) in order.iter().enumerate().rev() {
        let axis = &kernel.outer[number];
        let whole = task_box[number] == axis.extent || grid[number].is(1);
        if whole || axis.kind == AxisKind::Sequential {
            let (from, to) = (build.index(0), build.dim(&axis.extent));
            let range = Range { from, to, length: Length::of(&axis.extent) };
            found[number] = Some((Offset::default(), range));
            continue;
        }
        let alone = order[..place].iter().all(|&slower| grid[slower].is(1));
        let count = build.dim(&grid[number]);
        let place = if alone { rest } else { build.floor_mod(rest, count) };
        if !alone {
            rest = build.floor_div(rest, count);
        }
        let low = Offset::value(build, place).times(&task_box[number], build);
        let from = low.base(build);
        let (points, extent) = (build.dim(&task_box[number]), build.dim(&axis.extent));
        let full = build.add(from, points);
        let step = task_box[number].as_const().filter(|step| *step > 0);
        let length = step.map_or(Length::Unknown, |step| Length::of(&axis.extent).block(step));
        let even = step.is_some() && length.as_const() == step;
        let to = if even { full } else { build.min(full, extent) };
        found[number] = Some((Offset::value(build, from), Range { from, to, length }));
    }
    found.into_iter().flatten().unzip()
}

/// Temporaries start as zeros where a sequential axis carries them from step to step.
fn clear_temporaries(context: &Context, build: &mut Builder) {
    let points: Dim = context.task_box.iter().cloned().product();
    for (number, operand) in context.kernel.operands.iter().enumerate() {
        let Layout::Temporary(start) = &context.layouts[number] else { continue };
        let length = points.clone() * operand.shape.iter().cloned().product();
        let from = build.dim(start);
        let to = build.dim(&(start.clone() + length));
        let open = build.open_for(from, to, 1, &[]);
        let element = memory_element_of(operand.dtype);
        let zero =
            if element.is_float() { build.float(element, 0.0) } else { build.integer(element, 0) };
        build.store(number as u32, Address::Contiguous(open.variable()), zero, None);
        build.close_for(open, &[]);
    }
}
