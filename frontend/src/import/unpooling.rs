//! Where the maxima of windows are, and elements put back where an index says: unpooling, and
//! columns of patches laid over each other.
//!
//! Invariant: places are numbered in row-major order over the whole tensor; of several elements
//! for one place the last counts, and those of patches are added.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::window::{Window, factors, pads, spatial_rank};
use kiln_ir::op::{self, BinaryFn, PadMode, ReduceFn, ScatterReduction, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("Col2Im", 18, col2im), onnx("MaxUnpool", 9, max_unpool)];

/// Where in `image` the maximum of each window is, of which there are `places` a dimension. As in ONNX
/// Runtime the first of equal elements is meant, and NaN is greater than nothing: the maximum where it
/// comes first, and passed over elsewhere. `maxima` are given back with what that makes of NaN.
pub(super) fn places_of_maxima(
    x: &mut Use<'_, '_, '_>,
    image: V,
    window: &Window,
    maxima: V,
) -> Result<[V; 2], Fault> {
    let shape = x.shape(image);
    let places = x.shape(maxima)[2..].to_vec();
    let spatial = places.len();
    let (before, _) = window.padding(x, &shape[2..]);
    // Every window's elements in dimensions of their own, behind those of the places. In place of one
    // in the padding stands the nearest one along each axis, so that the first maximum is the same.
    let mut elements = image;
    for axis in (0..spatial).rev() {
        let start = starts(x, window, (axis, &before[axis]), (&places[axis], 2, 0))?;
        let tap = x.counter(&window.size[axis], DType::I64, 1, 2)?;
        let at = inside(x, window, (axis, &shape[2 + axis]), start, tap)?;
        elements = x.add(op::Gather { axis: 2 + axis }, &[elements, at])?;
    }
    let ordered = [0, 1].into_iter().chain((0..spatial).map(|axis| 2 + 2 * axis));
    let perm = ordered.chain((0..spatial).map(|axis| 3 + 2 * axis)).collect();
    let elements = x.transpose(elements, perm)?;
    let count: Dim = window.size.iter().cloned().product();
    let flat = [&shape[..2], &places[..], std::slice::from_ref(&count)].concat();
    let mut elements = x.reshape(elements, flat)?;
    let dtype = x.dtype(elements);
    if dtype.is_float() {
        let place = x.counter(&count, DType::I64, 2 + spatial, 3 + spatial)?;
        let first = x.with_number(BinaryFn::Equal, place, 0.0)?;
        let infinite = [x.scalar(dtype, f64::INFINITY)?, x.scalar(dtype, f64::NEG_INFINITY)?];
        let instead = x.select(first, infinite[0], infinite[1])?;
        let nan = x.unary(UnaryFn::IsNan, elements)?;
        elements = x.select(nan, instead, elements)?;
    }
    let search = op::ArgReduce { f: ReduceFn::Max, axis: 2 + spatial, keep: false, last: false };
    let tap = x.add(search, &[elements])?;
    // From the element of the window to where it is in the image.
    let rank = 2 + spatial;
    let mut found = Vec::with_capacity(spatial);
    for axis in 0..spatial {
        let finer: Dim = window.size[axis + 1..].iter().cloned().product();
        let (finer, own) = (x.size(&finer, DType::I64)?, x.size(&window.size[axis], DType::I64)?);
        let digit = x.binary(BinaryFn::Div, tap, finer)?;
        let digit = x.binary(BinaryFn::Rem, digit, own)?;
        let start = starts(x, window, (axis, &before[axis]), (&places[axis], rank, 2 + axis))?;
        found.push(inside(x, window, (axis, &shape[2 + axis]), start, digit)?);
    }
    let column_major = x.flag("storage_order", false)?;
    let index = numbered(x, &shape, &found, column_major)?;
    if !dtype.is_float() {
        return Ok([maxima, index]);
    }
    let row_major = if column_major { numbered(x, &shape, &found, false)? } else { index };
    let all = x.reshape(image, vec![shape.iter().cloned().product()])?;
    let chosen = x.add(op::Gather { axis: 0 }, &[all, row_major])?;
    let nan = x.unary(UnaryFn::IsNan, maxima)?;
    Ok([x.select(nan, chosen, maxima)?, index])
}

/// The coordinate of a tap of the windows that begin at `start`, along a spatial dimension of `size`
/// elements; that of the window's nearest element inside of it where the tap is in the padding.
fn inside(
    x: &mut Use<'_, '_, '_>,
    window: &Window,
    (axis, size): (usize, &Dim),
    start: V,
    tap: V,
) -> Result<V, Fault> {
    let last = x.size(&(size.clone() - Dim::from(1i64)), DType::I64)?;
    let dilation = window.dilations[axis] as f64;
    let reach = x.with_number(BinaryFn::Mul, tap, dilation)?;
    let mut at = x.binary(BinaryFn::Add, start, reach)?;
    if dilation > 1.0 {
        // From before the start the taps go on by whole dilations, from behind the end back.
        let low = x.with_number(BinaryFn::Mod, start, dilation)?;
        let low = x.binary(BinaryFn::Max, low, start)?;
        let spare = x.binary(BinaryFn::Sub, last, start)?;
        let spare = x.with_number(BinaryFn::Mod, spare, dilation)?;
        let high = x.binary(BinaryFn::Sub, last, spare)?;
        let raised = x.binary(BinaryFn::Max, at, low)?;
        at = x.binary(BinaryFn::Min, raised, high)?;
    }
    let raised = x.with_number(BinaryFn::Max, at, 0.0)?;
    x.binary(BinaryFn::Min, raised, last)
}

/// The number in the whole tensor of elements with these spatial coordinates.
fn numbered(
    x: &mut Use<'_, '_, '_>,
    shape: &[Dim],
    coordinates: &[V],
    column_major: bool,
) -> Result<V, Fault> {
    let mut sum = channel_starts(x, shape, shape.len())?;
    for (axis, &at) in coordinates.iter().enumerate() {
        let step: Dim = if column_major {
            shape[2..2 + axis].iter().cloned().product()
        } else {
            shape[3 + axis..].iter().cloned().product()
        };
        let step = x.size(&step, DType::I64)?;
        let moved = x.binary(BinaryFn::Mul, at, step)?;
        sum = x.binary(BinaryFn::Add, sum, moved)?;
    }
    Ok(sum)
}

/// Where each channel of each image begins.
fn channel_starts(x: &mut Use<'_, '_, '_>, shape: &[Dim], rank: usize) -> Result<V, Fault> {
    let image = x.counter(&shape[0], DType::I64, 0, rank)?;
    let channels = x.size(&shape[1], DType::I64)?;
    let image = x.binary(BinaryFn::Mul, image, channels)?;
    let channel = x.counter(&shape[1], DType::I64, 1, rank)?;
    let number = x.binary(BinaryFn::Add, image, channel)?;
    let area = x.size(&shape[2..].iter().cloned().product(), DType::I64)?;
    x.binary(BinaryFn::Mul, number, area)
}

/// Where windows begin along a spatial dimension: one for each of `places`, along `dim` of `rank`.
fn starts(
    x: &mut Use<'_, '_, '_>,
    window: &Window,
    (axis, before): (usize, &Dim),
    (places, rank, dim): (&Dim, usize, usize),
) -> Result<V, Fault> {
    let number = x.counter(places, DType::I64, dim, rank)?;
    let moved = x.with_number(BinaryFn::Mul, number, window.strides[axis] as f64)?;
    let before = x.size(before, DType::I64)?;
    x.binary(BinaryFn::Sub, moved, before)
}

fn max_unpool(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, indices) = (x.input(0)?, x.input(1)?);
    let spatial = spatial_rank(x, operand)?;
    let shape = x.shape(operand);
    let indices = x.with_dims(indices, &shape)?;
    if x.dtype(indices) != DType::I64 || x.shape(indices) != shape {
        let (operand, indices) = (x.ty(operand), x.ty(indices));
        return Err(Fault::malformed(format!("the indices {indices} are not those of {operand}")));
    }
    if x.ints("kernel_shape")?.is_none() {
        return Err(Fault::malformed("attribute `kernel_shape` is missing"));
    }
    let sizes = factors(x, "kernel_shape", spatial)?;
    let strides = factors(x, "strides", spatial)?;
    let (before, after) = pads(x, spatial)?;
    let mut whole = shape[..2].to_vec();
    for axis in 0..spatial {
        let steps = (shape[2 + axis].clone() - Dim::from(1i64)) * Dim::from(strides[axis]);
        let padding = Dim::from(before[axis]) + Dim::from(after[axis]);
        whole.push(steps - padding + Dim::from(sizes[axis]));
    }
    if let Some(dim) = whole.iter().find(|dim| dim.as_const().is_some_and(|size| size < 0)) {
        return Err(Fault::malformed(format!("the result would have a dimension of {dim}")));
    }
    let (count, from) = (whole.iter().cloned().product(), shape.iter().cloned().product::<Dim>());
    x.inside(indices, std::slice::from_ref(&count))?;
    let empty = x.filled(x.dtype(operand), 0.0, vec![count])?;
    let indices = x.reshape(indices, vec![from.clone()])?;
    let updates = x.reshape(operand, vec![from])?;
    let scatter = op::ScatterElements { axis: 0, reduction: ScatterReduction::None };
    let result = x.add(scatter, &[empty, indices, updates])?;
    let result = x.reshape(result, whole.clone())?;
    let Some(asked) = x.optional(2) else { return Ok(vec![result]) };
    // Indices are those of the smallest tensor that can have been pooled; more is zero.
    let asked = x.dims(asked, "the shape of the result")?;
    if asked.len() != whole.len() {
        let rank = whole.len();
        return Err(Fault::malformed(format!("{} sizes are given for rank {rank}", asked.len())));
    }
    let after: Vec<Dim> = asked.iter().zip(&whole).map(|(a, b)| a.clone() - b.clone()).collect();
    let before = vec![Dim::from(0i64); after.len()];
    if after.iter().all(|more| more.is(0)) {
        return Ok(vec![result]);
    }
    let zero = x.scalar(x.dtype(result), 0.0)?;
    Ok(vec![x.add(op::Pad { before, after, mode: PadMode::Constant }, &[result, zero])?])
}

fn col2im(x: &mut Use<'_, '_, '_>) -> Results {
    let columns = x.input(0)?;
    let image = x.dims(x.input(1)?, "the size of the image")?;
    let block = x.dims(x.input(2)?, "the size of a block")?;
    let (shape, spatial) = (x.shape(columns), image.len());
    if shape.len() != 3 || spatial == 0 || block.len() != spatial {
        let (ty, blocks) = (x.ty(columns), block.len());
        return Err(Fault::malformed(format!(
            "{ty} does not hold blocks of {blocks} dimensions for an image of {spatial}"
        )));
    }
    let (strides, dilations) = (factors(x, "strides", spatial)?, factors(x, "dilations", spatial)?);
    let (before, after) = pads(x, spatial)?;
    let one = Dim::from(1i64);
    let (mut padded, mut blocks) = (Vec::new(), Vec::new());
    for axis in 0..spatial {
        let size = image[axis].clone() + Dim::from(before[axis]) + Dim::from(after[axis]);
        let reach = (block[axis].clone() - one.clone()) * Dim::from(dilations[axis]);
        let spare = size.clone() - reach - one.clone();
        blocks.push(spare.floor_div(&Dim::from(strides[axis])) + one.clone());
        padded.push(size);
    }
    let taps: Dim = block.iter().cloned().product();
    let count: Dim = blocks.iter().cloned().product();
    let channels = match shape[1].exact_div(&taps) {
        Some(channels) => channels,
        None if taps.as_const().is_none() || shape[1].as_const().is_none() => {
            let channels = shape[1].floor_div(&taps);
            x.check(channels.clone() * taps.clone(), shape[1].clone())?;
            channels
        }
        None => {
            let ty = x.ty(columns);
            return Err(Fault::malformed(format!("{ty} does not hold blocks of {taps} elements")));
        }
    };
    let columns = x.with_dim(columns, 1, &(channels.clone() * taps.clone()))?;
    let columns = x.with_dim(columns, 2, &count)?;
    if x.shape(columns)[2] != count {
        let ty = x.ty(columns);
        return Err(Fault::malformed(format!(
            "{ty} does not hold the {count} blocks of the image"
        )));
    }
    // Where each element of each block lies in the padded image.
    let rank = 2 * spatial;
    let mut place: Option<V> = None;
    for axis in 0..spatial {
        let tap = x.counter(&block[axis], DType::I64, axis, rank)?;
        let tap = x.with_number(BinaryFn::Mul, tap, dilations[axis] as f64)?;
        let start = x.counter(&blocks[axis], DType::I64, spatial + axis, rank)?;
        let start = x.with_number(BinaryFn::Mul, start, strides[axis] as f64)?;
        let at = x.binary(BinaryFn::Add, tap, start)?;
        let step = x.size(&padded[axis + 1..].iter().cloned().product(), DType::I64)?;
        let moved = x.binary(BinaryFn::Mul, at, step)?;
        place = Some(match place {
            Some(others) => x.binary(BinaryFn::Add, others, moved)?,
            None => moved,
        });
    }
    let updates = taps.clone() * count.clone();
    let places = x.reshape(place.ok_or(Fault::Silent)?, vec![updates.clone(), one.clone()])?;
    // Whole rows of images and channels are added at a place.
    let rows = shape[0].clone() * channels.clone();
    let apart = vec![shape[0].clone(), channels.clone(), updates.clone()];
    let columns = x.reshape(columns, apart)?;
    let columns = x.transpose(columns, vec![2, 0, 1])?;
    let columns = x.reshape(columns, vec![updates, rows.clone()])?;
    let area: Dim = padded.iter().cloned().product();
    let empty = x.filled(x.dtype(columns), 0.0, vec![area, rows])?;
    let scatter = op::ScatterNd { reduction: ScatterReduction::Add };
    let result = x.add(scatter, &[empty, places, columns])?;
    let result = x.transpose(result, vec![1, 0])?;
    let result = x.reshape(result, [&[shape[0].clone(), channels], &padded[..]].concat())?;
    let mut cropped = result;
    for axis in 0..spatial {
        cropped = x.part(cropped, 2 + axis, before[axis], image[axis].clone())?;
    }
    Ok(vec![cropped])
}
