//! Gradients of operations that move elements: they move back, and add up where one went to
//! several places.
//!
//! Invariant: an operand's gradient has the operand's shape.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::{Step, narrowed, no_rule};
use kiln_ir::op::{self, BinaryFn, Op, PadMode, ReduceFn, ScatterReduction};
use kiln_tensor::{DType, Dim};

type Part = Result<Option<V>, Fault>;

pub(super) fn of_operand(x: &mut Use<'_, '_, '_>, step: &Step, number: usize) -> Part {
    let (operand, g) = (step.inputs[number], step.gradient);
    let shape = x.shape(operand);
    Ok(Some(match &step.op {
        Op::Reshape(_) => x.reshape(g, shape)?,
        Op::Assume(_) => x.assume(g, shape)?,
        Op::Transpose(transpose) => {
            let mut back = vec![0; shape.len()];
            transpose.perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
            x.transpose(g, back)?
        }
        Op::Broadcast(_) => narrowed(x, g, shape)?,
        Op::Slice(slice) => of_slice(x, slice, g, &shape)?,
        Op::Concat(concat) => {
            let mut start = Dim::from(0i64);
            for &before in &step.inputs[..number] {
                start = start + x.shape(before)[concat.axis].clone();
            }
            let mut starts = vec![Dim::from(0i64); shape.len()];
            starts[concat.axis] = start;
            let steps = vec![1; shape.len()];
            x.add(op::Slice { starts, sizes: shape, steps }, &[g])?
        }
        Op::Pad(pad) => return of_pad(x, step, pad, number),
        Op::Gather(gather) => of_gather(x, step, gather.axis, &shape)?,
        Op::GatherElements(op::GatherElements { axis }) => {
            let zeros = x.filled(x.dtype(g), 0.0, shape)?;
            let scatter = op::ScatterElements { axis: *axis, reduction: ScatterReduction::Add };
            x.add(scatter, &[zeros, step.inputs[1], g])?
        }
        Op::GatherNd(op::GatherNd { batch_dims: 0 }) => {
            let zeros = x.filled(x.dtype(g), 0.0, shape)?;
            let scatter = op::ScatterNd { reduction: ScatterReduction::Add };
            x.add(scatter, &[zeros, step.inputs[1], g])?
        }
        Op::ScatterElements(scatter) => {
            let back = Op::from(op::GatherElements { axis: scatter.axis });
            return of_scatter(x, step, scatter.reduction, back, number);
        }
        Op::ScatterNd(scatter) => {
            let back = Op::from(op::GatherNd { batch_dims: 0 });
            return of_scatter(x, step, scatter.reduction, back, number);
        }
        op => return Err(no_rule(op)),
    }))
}

/// Rows of `v` put into zeros along one axis, where `places` says.
fn put(x: &mut Use<'_, '_, '_>, v: V, axis: usize, places: V, size: Dim) -> Result<V, Fault> {
    let rank = x.rank(v);
    let first: Vec<usize> =
        std::iter::once(axis).chain((0..rank).filter(|&at| at != axis)).collect();
    let rows = x.transpose(v, first)?;
    let mut shape = x.shape(rows);
    shape[0] = size;
    let zeros = x.filled(x.dtype(v), 0.0, shape)?;
    let tuples = x.along(places, 0, 2)?;
    let scatter = op::ScatterNd { reduction: ScatterReduction::Add };
    let scattered = x.add(scatter, &[zeros, tuples, rows])?;
    let mut back: Vec<usize> = (1..rank).collect();
    back.insert(axis, 0);
    x.transpose(scattered, back)
}

fn of_slice(x: &mut Use<'_, '_, '_>, slice: &op::Slice, g: V, shape: &[Dim]) -> Result<V, Fault> {
    let zero = Dim::from(0i64);
    let mut result = g;
    let (mut before, mut after) = (vec![zero.clone(); shape.len()], vec![zero; shape.len()]);
    for (axis, size) in shape.iter().enumerate() {
        let (start, count) = (&slice.starts[axis], &slice.sizes[axis]);
        if slice.steps[axis] == 1 {
            before[axis] = start.clone();
            after[axis] = size.clone() - start.clone() - count.clone();
            continue;
        }
        let numbers = x.add(op::Iota { length: count.clone() }, &[])?;
        let scaled = x.with_number(BinaryFn::Mul, numbers, slice.steps[axis] as f64)?;
        let start = x.add(op::SizeOf { dims: vec![start.clone()], scalar: true }, &[])?;
        let places = x.binary(BinaryFn::Add, scaled, start)?;
        result = put(x, result, axis, places, size.clone())?;
    }
    if before.iter().chain(&after).all(|amount| amount.is(0)) {
        return Ok(result);
    }
    let nothing = x.scalar(x.dtype(g), 0.0)?;
    let padded = x.add(op::Pad { before, after, mode: PadMode::Constant }, &[result, nothing])?;
    x.assume(padded, shape.to_vec())
}

fn of_pad(x: &mut Use<'_, '_, '_>, step: &Step, pad: &op::Pad, number: usize) -> Part {
    if pad.mode != PadMode::Constant {
        return Err(no_rule(&step.op));
    }
    let shape = x.shape(step.inputs[0]);
    let steps = vec![1; shape.len()];
    // What is cut off by a negative amount has no part in the result.
    if pad.before.iter().chain(&pad.after).any(|amount| amount.as_const().is_none_or(|n| n < 0)) {
        return Err(no_rule(&step.op));
    }
    let slice = op::Slice { starts: pad.before.clone(), sizes: shape, steps };
    let inside = x.add(slice, &[step.gradient])?;
    if number == 0 {
        return Ok(Some(inside));
    }
    let sum = |x: &mut Use<'_, '_, '_>, v: V| {
        let axes = (0..x.rank(v)).collect();
        x.reduce(ReduceFn::Sum, v, axes, false)
    };
    let (all, inside) = (sum(x, step.gradient)?, sum(x, inside)?);
    Ok(Some(x.binary(BinaryFn::Sub, all, inside)?))
}

fn of_gather(x: &mut Use<'_, '_, '_>, step: &Step, axis: usize, shape: &[Dim]) -> Result<V, Fault> {
    let places = step.inputs[1];
    let indices = x.shape(places);
    let count: Dim = indices.iter().cloned().product();
    let flat = x.reshape(places, vec![count.clone()])?;
    let flat = x.cast(flat, DType::I64)?;
    let mut rows = shape.to_vec();
    rows[axis] = count;
    let rows = x.reshape(step.gradient, rows)?;
    put(x, rows, axis, flat, shape[axis].clone())
}

/// The data loses what is put over it; an update has the gradient of its place.
fn of_scatter(
    x: &mut Use<'_, '_, '_>,
    step: &Step,
    reduction: ScatterReduction,
    back: Op,
    number: usize,
) -> Part {
    let (g, places) = (step.gradient, step.inputs[1]);
    Ok(Some(match (reduction, number) {
        (ScatterReduction::Add, 0) => g,
        (ScatterReduction::None, 0) => {
            let shape = x.shape(step.inputs[2]);
            let zeros = x.filled(x.dtype(g), 0.0, shape)?;
            x.add(step.op.clone(), &[g, places, zeros])?
        }
        (ScatterReduction::None | ScatterReduction::Add, 2) => x.add(back, &[g, places])?,
        _ => return Err(no_rule(&step.op)),
    }))
}
