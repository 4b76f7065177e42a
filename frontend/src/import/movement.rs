//! Operators that move elements without looking at them.
//!
//! Invariant: what was an attribute in one version and an operand in another is read in one place
//! each, whatever the version.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx, onnx_until};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Concat", 1, concat),
    onnx("DepthToSpace", 1, depth_to_space),
    onnx("Expand", 8, expand),
    onnx("Flatten", 1, flatten),
    onnx("GatherElements", 11, gather_elements),
    onnx("GatherND", 11, gather_nd),
    onnx("Pad", 1, pad),
    onnx("Reshape", 1, reshape),
    onnx_until("Scatter", 9, 10, scatter_elements),
    onnx("ScatterElements", 11, scatter_elements),
    onnx("ScatterND", 11, scatter_nd),
    onnx("SpaceToDepth", 1, space_to_depth),
    onnx("Squeeze", 1, squeeze),
    onnx("Tile", 1, tile),
    onnx("Transpose", 1, transpose),
    onnx("Unsqueeze", 1, unsqueeze),
];

/// Axes, as they stand in the model.
pub(super) enum Axes {
    /// Not given.
    Absent,
    /// Known before the model runs.
    Known(Vec<i64>),
    /// An operand that is computed, or an input of the model.
    Data(V),
}

/// Axes that are an attribute before opset `since` and operand `number` from there on.
pub(super) fn axes(x: &Use<'_, '_, '_>, since: i64, number: usize) -> Result<Axes, Fault> {
    if x.opset() < since {
        return Ok(x.ints("axes")?.map_or(Axes::Absent, |axes| Axes::Known(axes.to_vec())));
    }
    Ok(match x.optional(number) {
        None => Axes::Absent,
        Some(v) if x.is_known(v) => Axes::Known(x.integers(v, "axes")?),
        Some(v) => Axes::Data(v),
    })
}

fn concat(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = x.all_inputs()?;
    let first = x.input(0)?;
    let axis = match x.int("axis")? {
        Some(axis) => axis,
        None if x.opset() < 4 => 1,
        None => return Err(Fault::malformed("attribute `axis` is missing")),
    };
    let axis = x.axis(axis, x.rank(first))?;
    let operands = x.agreeing(&operands, |number| number == axis)?;
    if let [only] = operands.as_slice() {
        return Ok(vec![*only]);
    }
    Ok(vec![x.add(op::Concat { axis }, &operands)?])
}

fn transpose(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let rank = x.rank(operand);
    let perm = match x.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => x.axes(perm, rank)?,
    };
    Ok(vec![x.transpose(operand, perm)?])
}

fn flatten(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let axis = x.int_or("axis", 1)?;
    let axis = if axis == shape.len() as i64 { shape.len() } else { x.axis(axis, shape.len())? };
    let (outer, inner) = shape.split_at(axis);
    let shape = vec![outer.iter().cloned().product(), inner.iter().cloned().product()];
    Ok(vec![x.reshape(operand, shape)?])
}

fn reshape(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let allow_zero = x.flag("allowzero", false)?;
    let target: Vec<Dim> = if x.opset() < 5 {
        let shape = x.ints("shape")?.ok_or_else(|| Fault::malformed("`shape` is missing"))?;
        shape.iter().map(|&size| Dim::from(size)).collect()
    } else {
        let target = x.input(1)?;
        x.of_rank(target, 1, "the shape to reshape to")?;
        match x.is_known(target) {
            true => x.dims(target, "the shape to reshape to")?,
            false => late_shape(x, operand, target, allow_zero)?,
        }
    };
    if !Dim::is_small_product(&target) {
        return Err(Fault::too_large());
    }
    let from = x.shape(operand);
    let mut shape = Vec::with_capacity(target.len());
    let mut rest = None;
    for (number, dim) in target.into_iter().enumerate() {
        shape.push(match dim.as_const() {
            Some(0) if !allow_zero => from.get(number).cloned().ok_or_else(|| {
                let rank = from.len();
                Fault::malformed(format!("dimension {number} is to be kept, but there are {rank}"))
            })?,
            Some(-1) if rest.is_some() => {
                return Err(Fault::malformed("two dimensions are to be inferred"));
            }
            Some(-1) => {
                rest = Some(number);
                Dim::from(1i64)
            }
            Some(size) if size < 0 => {
                return Err(Fault::malformed(format!("the new shape has a dimension of {size}")));
            }
            _ => dim,
        });
    }
    if let Some(number) = rest {
        shape[number] = remaining(&from, &shape)?;
    }
    Ok(vec![x.reshape(operand, shape)?])
}

/// The shape to reshape to where it is data: what the elements that are data come to, once sizes to
/// keep and the one to infer are put in.
fn late_shape(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    target: V,
    allow_zero: bool,
) -> Result<Vec<Dim>, Fault> {
    let parts = x.apart(target)?;
    let target = x.cast(target, DType::I64)?;
    let mut resolved = target;
    if !allow_zero {
        let mut from = x.shape(operand);
        from.resize(parts.len(), Dim::from(0i64));
        let (from, kept) = (x.vector(from)?, x.with_number(BinaryFn::Equal, resolved, 0.0)?);
        resolved = x.select(kept, from, resolved)?;
    }
    let inferred = x.with_number(BinaryFn::Equal, resolved, -1.0)?;
    let one = x.scalar(DType::I64, 1.0)?;
    let others = x.select(inferred, one, resolved)?;
    let others = x.reduce(ReduceFn::Prod, others, vec![0], false)?;
    let others = x.binary(BinaryFn::Max, others, one)?;
    let elements = x.ty(operand).elements();
    let elements = x.add(op::SizeOf { dims: vec![elements], scalar: true }, &[])?;
    let rest = x.binary(BinaryFn::Div, elements, others)?;
    let resolved = x.select(inferred, rest, resolved)?;
    let mut shape = Vec::with_capacity(parts.len());
    for (number, known) in parts.into_iter().enumerate() {
        match known {
            Some(dim) => shape.push(dim),
            None => {
                let size = x.element(resolved, 0, number)?;
                shape.extend(x.sizes(size)?);
            }
        }
    }
    Ok(shape)
}

/// The dimension that makes as many elements of `shape`, which has 1 in its place, as of `from`.
fn remaining(from: &[Dim], shape: &[Dim]) -> Result<Dim, Fault> {
    // Equal dimensions cancel, even where they may be 0.
    let mut from = from.to_vec();
    let mut left = Vec::new();
    for dim in shape {
        match from.iter().position(|other| other == dim) {
            Some(number) => {
                from.swap_remove(number);
            }
            None => left.push(dim.clone()),
        }
    }
    let (elements, known): (Dim, Dim) = (from.into_iter().product(), left.into_iter().product());
    match (elements.as_const(), known.as_const()) {
        (_, Some(0)) => Err(Fault::malformed("a dimension cannot be inferred from no elements")),
        (Some(elements), Some(known)) if elements % known != 0 => {
            Err(Fault::malformed(format!("{elements} elements do not split into {known}")))
        }
        _ => Ok(elements.floor_div(&known)),
    }
}

/// Axes of an operator that has them as an attribute up to opset 12.
fn squeeze(x: &mut Use<'_, '_, '_>) -> Results {
    let mut operand = x.input(0)?;
    let shape = x.shape(operand);
    let axes = match axes(x, 13, 1)? {
        Axes::Known(axes) => x.axes(&axes, shape.len())?,
        Axes::Absent => {
            let axes = ones(x, &shape)?;
            for &axis in &axes {
                operand = x.with_dim(operand, axis, &Dim::from(1i64))?;
            }
            axes
        }
        Axes::Data(axes) => return late_squeeze(x, operand, axes),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| shape[axis].as_const().is_some_and(|n| n != 1)) {
        let size = &shape[axis];
        return Err(Fault::malformed(format!("axis {axis} has size {size} and cannot be dropped")));
    }
    let kept = shape.into_iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    let shape = kept.map(|(_, dim)| dim).collect();
    Ok(vec![x.reshape(operand, shape)?])
}

/// The axes of size 1. The rank of what is left is known now: what is at most 1 is taken to be 1, and no
/// other may be when the model runs.
fn ones(x: &mut Use<'_, '_, '_>, shape: &[Dim]) -> Result<Vec<usize>, Fault> {
    let (one, two) = (Dim::from(1i64), Dim::from(2i64));
    let mut axes = Vec::new();
    for (axis, dim) in shape.iter().enumerate() {
        let is_small = x.facts().at_least(&one, dim) == Some(true) && !dim.is(0);
        if is_small {
            axes.push(axis);
        } else if x.facts().at_least(dim, &two) != Some(true) && !dim.is(0) {
            let beside = (dim.clone() - one.clone()).maximum(&(one.clone() - dim.clone()));
            x.check(beside.minimum(&one), one.clone())?;
        }
    }
    Ok(axes)
}

/// The sizes of the dimensions that stay, in their order.
fn late_squeeze(x: &mut Use<'_, '_, '_>, operand: V, axes: V) -> Results {
    let (shape, dropped) = (x.shape(operand), x.count(axes)?);
    let kept = shape.len().checked_sub(dropped).ok_or_else(|| {
        let rank = shape.len();
        Fault::malformed(format!("{dropped} axes are to be dropped of a tensor of rank {rank}"))
    })?;
    let axes = x.late_axes(axes, shape.len())?;
    let marked = x.among(axes, shape.len())?;
    let order = x.marked_last(marked, dropped)?;
    let sizes = x.vector(shape)?;
    let sizes = x.pick(sizes, order)?;
    let first = |size: usize| op::Slice {
        starts: vec![Dim::from(0i64)],
        sizes: vec![Dim::from(size)],
        steps: vec![1],
    };
    let sizes = x.add(first(kept), &[sizes])?;
    let shape = x.sizes(sizes)?;
    Ok(vec![x.reshape(operand, shape)?])
}

/// Places among the axes have size 1, the others the operand's sizes in their order.
fn late_unsqueeze(x: &mut Use<'_, '_, '_>, operand: V, axes: V) -> Results {
    let mut shape = x.shape(operand);
    let rank = shape.len() + x.count(axes)?;
    let axes = x.late_axes(axes, rank)?;
    let added = x.among(axes, rank)?;
    let own = x.unary(UnaryFn::Not, added)?;
    let own = x.cast(own, DType::I64)?;
    let place = x.add(
        op::Accumulate { f: ReduceFn::Sum, axis: 0, exclusive: true, reverse: false },
        &[own],
    )?;
    // A place behind the last dimension belongs to an added one.
    shape.push(Dim::from(1i64));
    let sizes = x.vector(shape)?;
    let sizes = x.pick(sizes, place)?;
    let one = x.scalar(DType::I64, 1.0)?;
    let sizes = x.select(added, one, sizes)?;
    let shape = x.sizes(sizes)?;
    Ok(vec![x.reshape(operand, shape)?])
}

fn unsqueeze(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let axes = match axes(x, 13, 1)? {
        Axes::Known(axes) => axes,
        Axes::Absent => return Err(Fault::malformed("the axes to add are missing")),
        Axes::Data(axes) => return late_unsqueeze(x, operand, axes),
    };
    let rank = x.rank(operand) + axes.len();
    let axes = x.axes(&axes, rank)?;
    let mut dims = x.shape(operand).into_iter();
    let shape = (0..rank)
        .filter_map(|axis| if axes.contains(&axis) { Some(Dim::from(1i64)) } else { dims.next() });
    let shape = shape.collect();
    Ok(vec![x.reshape(operand, shape)?])
}

/// Stretches both ways: a dimension of 1 in the target keeps the operand's.
fn expand(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, target) = (x.input(0)?, x.input(1)?);
    x.of_rank(target, 1, "the shape to expand to")?;
    let known = x.is_known(target);
    let mut target = x.dims(target, "the shape to expand to")?;
    let own = x.shape(operand);
    while target.len() < own.len() {
        target.insert(0, Dim::from(1i64));
    }
    let mut operand = operand;
    let offset = target.len() - own.len();
    for (axis, dim) in own.into_iter().enumerate() {
        let slot = target[offset + axis].clone();
        if slot.is(1) {
            target[offset + axis] = dim;
        } else if dim.is(1) || dim == slot {
            continue;
        } else if known
            && !x.facts().is_found(&dim)
            && !x.facts().may_stretch(&dim, &slot)
            && x.facts().at_least(&slot, &Dim::from(2i64)) == Some(true)
        {
            operand = x.with_dim(operand, axis, &slot)?;
        } else {
            let size = x.stretched_size(&dim, &slot)?;
            operand = x.stretch(operand, axis, &size)?;
            target[offset + axis] = size;
        }
    }
    Ok(vec![x.broadcast(operand, target)?])
}

/// How often each dimension is repeated; in opset 1 to 5 it is only one of them.
fn repeats(x: &mut Use<'_, '_, '_>, rank: usize) -> Result<Vec<Dim>, Fault> {
    let given = x.dims(x.input(1)?, "the repeats")?;
    if x.opset() >= 6 {
        return Ok(given);
    }
    let axis = x.integers(x.input(2)?, "the axis to tile")?;
    let ([count], [axis]) = (&given[..], &axis[..]) else {
        return Err(Fault::malformed("tiles and axis must be one number each"));
    };
    let axis = x.axis(*axis, rank)?;
    let mut repeats = vec![Dim::from(1i64); rank];
    repeats[axis] = count.clone();
    Ok(repeats)
}

fn tile(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let repeats = repeats(x, shape.len())?;
    if repeats.len() != shape.len() {
        let (given, rank) = (repeats.len(), shape.len());
        return Err(Fault::malformed(format!("{given} repeats are given for rank {rank}")));
    }
    // Each dimension is preceded by one to repeat along: `[r₀, d₀, r₁, d₁, …]`.
    let (mut apart, mut stretched, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (dim, repeat) in shape.into_iter().zip(repeats) {
        if !repeat.is(1) {
            apart.push(Dim::from(1i64));
            stretched.push(repeat.clone());
        }
        apart.push(dim.clone());
        stretched.push(dim.clone());
        joined.push(dim * repeat);
    }
    let apart = x.reshape(operand, apart)?;
    let stretched = x.broadcast(apart, stretched)?;
    Ok(vec![x.reshape(stretched, joined)?])
}

/// Amounts are an attribute up to opset 10; axes came with 18, `wrap` with 19.
fn pad(x: &mut Use<'_, '_, '_>) -> Results {
    let (dtype, mode) = (x.dtype(x.input(0)?), pad_mode(x)?);
    let (amounts, axes, value) = if x.opset() < 11 {
        let name = if x.opset() < 2 { "paddings" } else { "pads" };
        let missing = || Fault::malformed(format!("`{name}` is missing"));
        let pads = x.ints(name)?.ok_or_else(missing)?;
        let amounts: Vec<Dim> = pads.iter().map(|&amount| Dim::from(amount)).collect();
        let value = x.float_or("value", 0.0)?;
        (amounts, None, x.scalar(dtype, value)?)
    } else {
        let mut amounts = x.input(1)?;
        let axes = match axes(x, 18, 3)? {
            Axes::Known(axes) => Some(axes),
            Axes::Absent => None,
            Axes::Data(axes) => {
                let rank = x.rank(x.input(0)?);
                amounts = at_axes(x, amounts, axes, rank)?;
                None
            }
        };
        let amounts = match x.is_known(amounts) {
            true => x.dims(amounts, "the amounts to pad with")?,
            false => x.amounts(amounts)?,
        };
        let value = match x.optional(2) {
            Some(value) => x.reshape(value, Vec::new())?,
            None => x.scalar(dtype, 0.0)?,
        };
        (amounts, axes, value)
    };
    padded(x, mode, &amounts, axes.as_deref(), value)
}

/// What stands around the operand.
pub(super) fn pad_mode(x: &Use<'_, '_, '_>) -> Result<op::PadMode, Fault> {
    Ok(match x.string_or("mode", "constant")? {
        "constant" => op::PadMode::Constant,
        "reflect" => op::PadMode::Reflect,
        "edge" => op::PadMode::Edge,
        "wrap" => op::PadMode::Wrap,
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    })
}

/// The operand with amounts before and after each axis around it.
pub(super) fn padded(
    x: &mut Use<'_, '_, '_>,
    mode: op::PadMode,
    amounts: &[Dim],
    axes: Option<&[i64]>,
    value: V,
) -> Results {
    let operand = x.input(0)?;
    let rank = x.rank(operand);
    let axes = match axes {
        Some(axes) => x.axes(axes, rank)?,
        None => (0..rank).collect(),
    };
    if amounts.len() != 2 * axes.len() {
        let (given, axes) = (amounts.len(), axes.len());
        return Err(Fault::malformed(format!("{given} amounts are given for {axes} axes")));
    }
    let (mut before, mut after) = (vec![Dim::from(0i64); rank], vec![Dim::from(0i64); rank]);
    for (number, axis) in axes.iter().enumerate() {
        before[*axis] = amounts[number].clone();
        after[*axis] = amounts[axes.len() + number].clone();
    }
    if before.iter().chain(&after).all(|amount| amount.is(0)) {
        return Ok(vec![operand]);
    }
    let constant = mode == op::PadMode::Constant;
    let operands = if constant { vec![operand, value] } else { vec![operand] };
    Ok(vec![x.add(op::Pad { before, after, mode }, &operands)?])
}

/// Amounts before and after some axes as amounts before and after all.
fn at_axes(x: &mut Use<'_, '_, '_>, amounts: V, axes: V, rank: usize) -> Result<V, Fault> {
    let count = x.count(axes)?;
    let axes = x.late_axes(axes, rank)?;
    let axes = x.reshape(axes, vec![Dim::from(1i64), Dim::from(count)])?;
    let axes = x.broadcast(axes, vec![Dim::from(2i64), Dim::from(count)])?;
    let amounts = x.cast(amounts, DType::I64)?;
    let amounts = x.reshape(amounts, vec![Dim::from(2i64), Dim::from(count)])?;
    let none = x.filled(DType::I64, 0.0, vec![Dim::from(2i64), Dim::from(rank)])?;
    let scatter = op::ScatterElements { axis: 1, reduction: op::ScatterReduction::None };
    let all = x.add(scatter, &[none, axes, amounts])?;
    x.reshape(all, vec![Dim::from(2 * rank)])
}

fn gather_elements(x: &mut Use<'_, '_, '_>) -> Results {
    let (data, indices) = (x.input(0)?, x.input(1)?);
    let axis = x.axis(x.int_or("axis", 0)?, x.rank(data))?;
    let size = x.shape(data)[axis].clone();
    x.inside(indices, &[size])?;
    Ok(vec![x.add(op::GatherElements { axis }, &[data, indices])?])
}

pub(super) fn gather_nd(x: &mut Use<'_, '_, '_>) -> Results {
    let (data, indices) = (x.input(0)?, x.input(1)?);
    let batch_dims = usize::try_from(x.int_or("batch_dims", 0)?)
        .map_err(|_| Fault::malformed("batch_dims is negative"))?;
    let shape = x.shape(data);
    let mut indices = indices;
    for (axis, size) in shape.iter().enumerate().take(batch_dims.min(x.rank(indices))) {
        indices = x.with_dim(indices, axis, size)?;
    }
    let length = x.shape(indices).pop().unwrap_or_default();
    if length.as_const().is_none() {
        return Err(Fault::unsupported(
            format!("how many dimensions the indices name must be known, but is `{length}`"),
            "fix the last dimension of the indices with --dim",
        ));
    }
    let tuple = length.as_const().and_then(|length| usize::try_from(length).ok());
    let own = shape.get(batch_dims..).unwrap_or_default();
    if let Some(sizes) = tuple.and_then(|length| own.get(..length)) {
        x.inside(indices, sizes)?;
    }
    Ok(vec![x.add(op::GatherNd { batch_dims }, &[data, indices])?])
}

fn reduction(x: &Use<'_, '_, '_>) -> Result<op::ScatterReduction, Fault> {
    Ok(match x.string_or("reduction", "none")? {
        "none" => op::ScatterReduction::None,
        "add" => op::ScatterReduction::Add,
        "mul" => op::ScatterReduction::Mul,
        "min" => op::ScatterReduction::Min,
        "max" => op::ScatterReduction::Max,
        other => return Err(Fault::malformed(format!("reduction `{other}` is not known"))),
    })
}

fn scatter_elements(x: &mut Use<'_, '_, '_>) -> Results {
    let (data, indices, updates) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let axis = x.axis(x.int_or("axis", 0)?, x.rank(data))?;
    let reduction = reduction(x)?;
    let size = x.shape(data)[axis].clone();
    x.inside(indices, &[size])?;
    let operands = x.agreeing(&[indices, updates], |_| false)?;
    Ok(vec![x.add(op::ScatterElements { axis, reduction }, &[data, operands[0], operands[1]])?])
}

fn scatter_nd(x: &mut Use<'_, '_, '_>) -> Results {
    let (data, indices, updates) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let reduction = reduction(x)?;
    let (from, mut shape) = (x.shape(data), x.shape(indices));
    let tuple = shape.pop().and_then(|length| usize::try_from(length.as_const()?).ok());
    // Tuples of unknown or too great length are for the operation to refuse.
    let updates = match tuple.and_then(|length| from.get(length..)) {
        Some(slice) => x.with_dims(updates, &[&shape[..], slice].concat())?,
        None => updates,
    };
    if let Some(sizes) = tuple.and_then(|length| from.get(..length)) {
        x.inside(indices, sizes)?;
    }
    Ok(vec![x.add(op::ScatterNd { reduction }, &[data, indices, updates])?])
}

/// Batch, channels, height, width and the block size.
fn blocks(x: &Use<'_, '_, '_>, v: V) -> Result<([Dim; 4], Dim), Fault> {
    let shape = <[Dim; 4]>::try_from(x.shape(v))
        .map_err(|shape| Fault::malformed(format!("rank {} is not 4", shape.len())))?;
    match x.int("blocksize")? {
        // Its square is a size, too.
        Some(block) if (1..1 << 31).contains(&block) => Ok((shape, Dim::from(block))),
        _ => Err(Fault::malformed("blocksize must be from 1 to 2³¹ − 1")),
    }
}

fn depth_to_space(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let ([n, c, h, w], block) = blocks(x, operand)?;
    let depth = c.floor_div(&(block.clone() * block.clone()));
    let b = block.clone();
    let (apart, perm) = match x.string_or("mode", "DCR")? {
        "DCR" => {
            (vec![n.clone(), b.clone(), b, depth.clone(), h.clone(), w.clone()], [0, 3, 4, 1, 5, 2])
        }
        "CRD" => {
            (vec![n.clone(), depth.clone(), b.clone(), b, h.clone(), w.clone()], [0, 1, 4, 2, 5, 3])
        }
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    let apart = x.reshape(operand, apart)?;
    let moved = x.transpose(apart, perm.to_vec())?;
    Ok(vec![x.reshape(moved, vec![n, depth, h * block.clone(), w * block])?])
}

fn space_to_depth(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let ([n, c, h, w], block) = blocks(x, operand)?;
    let (rows, columns) = (h.floor_div(&block), w.floor_div(&block));
    for (size, parts, what) in [(&h, &rows, "height"), (&w, &columns, "width")] {
        if x.facts().equal(size, &(parts.clone() * block.clone())) == Some(false) {
            let message = format!("blocksize {block} does not divide the {what}, {size}");
            return Err(Fault::malformed(message));
        }
    }
    let b = block.clone();
    let apart = vec![n.clone(), c.clone(), rows.clone(), b.clone(), columns.clone(), b];
    let apart = x.reshape(operand, apart)?;
    let perm = match x.string_or("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    let moved = x.transpose(apart, perm)?;
    Ok(vec![x.reshape(moved, vec![n, c * block.clone() * block, rows, columns])?])
}
