//! Operators that take parts of a tensor: slices, splits, and places by index.
//!
//! Invariant: starts and ends are clamped here, as the standard says; a core slice never reaches
//! outside of its operand.

use super::build::V;
use super::fault::Fault;
use super::node::{Use, place};
use super::operator::{Entry, onnx};
use super::shape::counted;
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Gather", 1, gather),
    onnx("ReverseSequence", 10, reverse_sequence),
    onnx("Slice", 1, slice),
    onnx("Split", 1, split),
];

/// What a slice takes of each axis, as it stands in the model.
struct Cut {
    axis: usize,
    start: Dim,
    end: Dim,
    step: i64,
}

/// Attributes up to opset 9, operands from 10 on.
fn cuts(x: &mut Use<'_, '_, '_>, rank: usize) -> Result<Vec<Cut>, Fault> {
    let dims = |values: &[i64]| values.iter().map(|&value| Dim::from(value)).collect::<Vec<_>>();
    let missing = || Fault::malformed("starts or ends are missing");
    let (starts, ends, axes, steps);
    if x.opset() < 10 {
        starts = dims(x.ints("starts")?.ok_or_else(missing)?);
        ends = dims(x.ints("ends")?.ok_or_else(missing)?);
        (axes, steps) = (x.ints("axes")?.map(<[i64]>::to_vec), None);
    } else {
        starts = x.dims(x.input(1)?, "where the slice starts")?;
        ends = x.dims(x.input(2)?, "where the slice ends")?;
        axes = x.optional(3).map(|v| x.integers(v, "the sliced axes")).transpose()?;
        steps = x.optional(4).map(|v| x.integers(v, "the steps of the slice")).transpose()?;
    }
    let count = starts.len();
    let axes = axes.unwrap_or_else(|| (0..count as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; count]);
    if [ends.len(), axes.len(), steps.len()] != [count; 3] {
        return Err(Fault::malformed("starts, ends, axes and steps differ in number"));
    }
    let axes = x.axes(&axes, rank)?;
    let parts = axes.into_iter().zip(steps).zip(starts.into_iter().zip(ends));
    let cuts = parts.map(|((axis, step), (start, end))| match step {
        0 => Err(Fault::malformed(format!("the step along axis {axis} is 0"))),
        step => Ok(Cut { axis, start, end, step }),
    });
    cuts.collect()
}

fn slice(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let bounds: Vec<V> = (1..5).filter_map(|number| x.optional(number)).collect();
    if x.opset() >= 10 && !bounds.iter().all(|&v| x.is_known(v)) {
        return late_slice(x, operand);
    }
    let mut starts = vec![Dim::from(0i64); shape.len()];
    let mut sizes = shape.clone();
    let mut steps = vec![1; shape.len()];
    for cut in cuts(x, shape.len())? {
        let size = &shape[cut.axis];
        let (start, count) = extent(x, &cut, size);
        starts[cut.axis] = start;
        sizes[cut.axis] = count;
        // A step past the end is never taken; core operations ask for no more than they use.
        steps[cut.axis] = if sizes[cut.axis].is(1) { cut.step.signum() } else { cut.step };
    }
    if sizes == shape && steps.iter().all(|&step| step == 1) {
        return Ok(vec![operand]);
    }
    Ok(vec![x.add(op::Slice { starts, sizes, steps }, &[operand])?])
}

/// A slice of which something is data.
fn late_slice(x: &mut Use<'_, '_, '_>, operand: V) -> Results {
    let (starts, ends) = (x.input(1)?, x.input(2)?);
    let (shape, count) = (x.shape(operand), x.count(starts)?);
    let steps = x.optional(4);
    let axes = match x.optional(3) {
        Some(axes) if !x.is_known(axes) => {
            let axes = x.late_axes(axes, shape.len())?;
            return late_cuts(x, operand, (starts, ends, steps), axes);
        }
        Some(axes) => x.integers(axes, "the sliced axes")?,
        None => (0..count as i64).collect(),
    };
    let axes = x.axes(&axes, shape.len())?;
    if x.count(ends)? != count || axes.len() != count {
        return Err(Fault::malformed("starts, ends and axes differ in number"));
    }
    let mut result = operand;
    for (number, &axis) in axes.iter().enumerate() {
        let mut of = |v: V| {
            let v = x.cast(v, DType::I64)?;
            x.element(v, 0, number)
        };
        let (start, end) = (of(starts)?, of(ends)?);
        let step = steps.map(of).transpose()?;
        result = late_cut(x, result, axis, (start, end, step))?;
    }
    Ok(vec![result])
}

/// A slice along axes that are data: along each dimension, those that are not among them from
/// start to end.
fn late_cuts(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    (starts, ends, steps): (V, V, Option<V>),
    axes: V,
) -> Results {
    let shape = x.shape(operand);
    let rank = vec![Dim::from(shape.len())];
    let (zeros, ones) =
        (x.filled(DType::I64, 0.0, rank.clone())?, x.filled(DType::I64, 1.0, rank)?);
    let sizes = x.vector(shape.clone())?;
    let mut placed = |into: V, v: V| {
        let v = x.cast(v, DType::I64)?;
        let scatter = op::ScatterElements { axis: 0, reduction: op::ScatterReduction::None };
        x.add(scatter, &[into, axes, v])
    };
    let (starts, ends) = (placed(zeros, starts)?, placed(sizes, ends)?);
    let steps = steps.map(|steps| placed(ones, steps)).transpose()?;
    let mut result = operand;
    for axis in 0..shape.len() {
        let (start, end) = (x.element(starts, 0, axis)?, x.element(ends, 0, axis)?);
        let step = steps.map(|steps| x.element(steps, 0, axis)).transpose()?;
        result = late_cut(x, result, axis, (start, end, step))?;
    }
    Ok(vec![result])
}

/// Places from start to end along one axis, all three scalars that are data.
fn late_cut(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    axis: usize,
    (start, end, step): (V, V, Option<V>),
) -> Result<V, Fault> {
    let size = x.shape(operand)[axis].clone();
    let size = x.add(op::SizeOf { dims: vec![size], scalar: true }, &[])?;
    let step = match step {
        Some(step) => {
            x.not_zero(step, "a step")?;
            step
        }
        None => x.scalar(DType::I64, 1.0)?,
    };
    let backwards = x.with_number(BinaryFn::Less, step, 0.0)?;
    // One less at both ends for a slice that runs backwards.
    let less = x.cast(backwards, DType::I64)?;
    let (zero, least) = (x.scalar(DType::I64, 0.0)?, x.unary(UnaryFn::Neg, less)?);
    let most = x.binary(BinaryFn::Sub, size, less)?;
    let mut clamped = |at: V, least: V| {
        let negative = x.with_number(BinaryFn::Less, at, 0.0)?;
        let from_end = x.binary(BinaryFn::Add, at, size)?;
        let at = x.select(negative, from_end, at)?;
        let at = x.binary(BinaryFn::Max, at, least)?;
        x.binary(BinaryFn::Min, at, most)
    };
    let (start, end) = (clamped(start, zero)?, clamped(end, least)?);
    // ⌈(end − start)/step⌉, at least 0: the quotient is truncated, so the sign is added first.
    let span = x.binary(BinaryFn::Sub, end, start)?;
    let sign = x.unary(UnaryFn::Sign, step)?;
    let reach = x.binary(BinaryFn::Add, span, step)?;
    let reach = x.binary(BinaryFn::Sub, reach, sign)?;
    let length = x.binary(BinaryFn::Div, reach, step)?;
    let length = x.binary(BinaryFn::Max, length, zero)?;
    let length = x.sizes(length)?.pop().ok_or(Fault::Silent)?;
    let place = x.add(op::Iota { length }, &[])?;
    let place = x.binary(BinaryFn::Mul, place, step)?;
    let place = x.binary(BinaryFn::Add, place, start)?;
    x.add(op::Gather { axis }, &[operand, place])
}

/// The first element and how many there are.
fn extent(x: &mut Use<'_, '_, '_>, cut: &Cut, size: &Dim) -> (Dim, Dim) {
    let (zero, one) = (Dim::from(0i64), Dim::from(1i64));
    let step = Dim::from(cut.step.saturating_abs());
    let span = if cut.step > 0 {
        let start = clamped(x, &cut.start, size, &zero, size);
        let end = clamped(x, &cut.end, size, &zero, size);
        (start.clone(), start, end)
    } else {
        let last = size.clone() - one.clone();
        let start = clamped(x, &cut.start, size, &zero, &last);
        let end = clamped(x, &cut.end, size, &-one, &last);
        (start.clone(), end, start)
    };
    let (start, low, high) = span;
    let length = high - low;
    let length = if x.facts().at_least_of_sizes(&length, &zero) {
        length
    } else {
        x.facts().maximum(&length, &zero)
    };
    (start, length.ceil_div(&step))
}

/// A coordinate, counted from the end if negative, between `least` and `most`.
fn clamped(x: &mut Use<'_, '_, '_>, at: &Dim, size: &Dim, least: &Dim, most: &Dim) -> Dim {
    /// Exporters write the greatest 32- or 64-bit integers for "to the end".
    const FAR: i64 = i32::MAX as i64;
    let zero = Dim::from(0i64);
    let at = match at.as_const() {
        Some(at) if at >= FAR => return most.clone(),
        Some(at) if at <= -FAR => return least.clone(),
        Some(at) if at < 0 => size.clone() + Dim::from(at),
        Some(_) => at.clone(),
        None => match x.facts().at_least(at, &zero) {
            Some(true) => at.clone(),
            Some(false) => size.clone() + at.clone(),
            // The sizes of one run decide: one size more for what is below zero.
            None if !x.facts().at_least_of_sizes(at, &zero) => {
                let below = (-at.clone()).maximum(&zero).minimum(&Dim::from(1i64));
                at.clone() + size.clone() * below
            }
            None => at.clone(),
        },
    };
    let facts = x.facts();
    let at = if facts.at_least_of_sizes(&at, least) { at } else { facts.maximum(&at, least) };
    if facts.at_least_of_sizes(most, &at) { at } else { facts.minimum(&at, most) }
}

fn split(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let axis = x.axis(x.int_or("axis", 0)?, shape.len())?;
    let outputs = x.node.outputs.len();
    let given = if x.opset() < 13 {
        let split = x.ints("split")?;
        let split =
            split.map(|sizes| sizes.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>());
        match x.optional(1) {
            Some(v) if x.opset() < 2 => Some(x.dims(v, "the sizes to split into")?),
            _ => split,
        }
    } else {
        x.optional(1).map(|v| x.dims(v, "the sizes to split into")).transpose()?
    };
    let sizes = match given {
        Some(sizes) => sizes,
        None => {
            let count = x.int("num_outputs")?.unwrap_or(outputs as i64);
            if count != outputs as i64 || count == 0 {
                let message = format!("num_outputs is {count}, but there are {outputs} outputs");
                return Err(Fault::malformed(message));
            }
            let rest = shape[axis].as_const().map(|size| size % count);
            if x.opset() < 18 && rest.is_some_and(|rest| rest != 0) {
                let ty = x.ty(operand);
                let message = format!("{ty} does not split into {count} equal parts");
                return Err(Fault::malformed(message));
            }
            // The last part is the smaller one.
            let part = shape[axis].ceil_div(&Dim::from(outputs));
            let last = shape[axis].clone() - part.clone() * Dim::from(outputs - 1);
            let mut sizes = vec![part; outputs - 1];
            sizes.push(last);
            sizes
        }
    };
    let total: Dim = sizes.iter().cloned().sum();
    if x.opset() >= 13 && x.optional(1).is_some_and(|split| !x.is_known(split)) {
        x.check(total.clone(), shape[axis].clone())?;
    } else if !x.facts().may_meet(&total, &shape[axis]) {
        let size = &shape[axis];
        return Err(Fault::malformed(format!("parts of {total} in all do not make up {size}")));
    }
    let operand = x.with_dim(operand, axis, &total)?;
    let mut results = Vec::with_capacity(sizes.len());
    let mut start = Dim::from(0i64);
    for size in sizes {
        let mut starts = vec![Dim::from(0i64); shape.len()];
        let mut part = x.shape(operand);
        starts[axis] = start.clone();
        part[axis] = size.clone();
        start = start + size;
        let steps = vec![1; shape.len()];
        results.push(x.add(op::Slice { starts, sizes: part, steps }, &[operand])?);
    }
    Ok(results)
}

fn gather(x: &mut Use<'_, '_, '_>) -> Results {
    let (data, indices) = (x.input(0)?, x.input(1)?);
    let axis = x.axis(x.int_or("axis", 0)?, x.rank(data))?;
    // One known place needs no table lookup when the model runs.
    if x.rank(indices) == 0
        && let Ok(index) = x.integers(indices, "the index")
        && let [index] = index[..]
    {
        let size = &x.shape(data)[axis];
        let known = size.as_const().and_then(|size| place(index, usize::try_from(size).ok()?));
        let start = match known {
            Some(start) => Some(Dim::from(start)),
            None if size.as_const().is_some() => None,
            None if index < 0 => Some(size.clone() + Dim::from(index)),
            None => Some(Dim::from(index)),
        };
        if let Some(start) = start {
            return Ok(vec![taken(x, data, axis, start)?]);
        }
    }
    let size = x.shape(data)[axis].clone();
    x.inside(indices, &[size])?;
    Ok(vec![x.add(op::Gather { axis }, &[data, indices])?])
}

/// One place of a dimension, which is dropped.
fn taken(x: &mut Use<'_, '_, '_>, data: V, axis: usize, start: Dim) -> Result<V, Fault> {
    let rank = x.rank(data);
    let (mut starts, mut sizes) = (vec![Dim::from(0i64); rank], x.shape(data));
    starts[axis] = start;
    sizes[axis] = Dim::from(1i64);
    let part = x.add(op::Slice { starts, sizes, steps: vec![1; rank] }, &[data])?;
    let mut shape = x.shape(part);
    shape.remove(axis);
    x.reshape(part, shape)
}

/// The first elements of each batch in reverse, as many as its length says.
fn reverse_sequence(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, lengths) = (x.input(0)?, x.input(1)?);
    let rank = x.rank(operand);
    let time = x.axis(x.int_or("time_axis", 0)?, rank)?;
    let batch = x.axis(x.int_or("batch_axis", 1)?, rank)?;
    x.of_rank(lengths, 1, "the lengths")?;
    Ok(vec![reversed(x, operand, lengths, [time, batch])?])
}

/// A tensor whose batches have their first elements along an axis of time in reverse, as many as
/// lengths say; what comes after stays.
pub(super) fn reversed(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    lengths: V,
    [time, batch]: [usize; 2],
) -> Result<V, Fault> {
    let shape = x.shape(operand);
    let rank = shape.len();
    let lengths = x.cast(lengths, DType::I64)?;
    let lengths = x.with_dim(lengths, 0, &shape[batch])?;
    let lengths = x.along(lengths, batch, rank)?;
    let place = counted(x, shape[time].clone(), time, rank)?;
    let last = x.with_number(BinaryFn::Sub, lengths, 1.0)?;
    let mirrored = x.binary(BinaryFn::Sub, last, place)?;
    let inside = x.binary(BinaryFn::Less, place, lengths)?;
    let from = x.select(inside, mirrored, place)?;
    let from = x.broadcast(from, shape)?;
    x.add(op::GatherElements { axis: time }, &[operand, from])
}
