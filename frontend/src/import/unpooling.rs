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
use kiln_ir::op::{self, BinaryFn, PadMode, ReduceFn, ScatterReduction};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("Col2Im", 18, col2im), onnx("MaxUnpool", 9, max_unpool)];

/// Where in `image` the maximum of each window is that makes `places` windows a dimension.
pub(super) fn places_of_maxima(
    x: &mut Use<'_, '_, '_>,
    image: V,
    window: &Window,
    places: &[Dim],
) -> Result<V, Fault> {
    let shape = x.shape(image);
    let spatial = places.len();
    let (before, _) = window.padding(x, &shape[2..]);
    let column_major = x.flag("storage_order", false)?;
    // Every window's elements in dimensions of their own, behind those of the places.
    let mut elements = image;
    let mut inside: Option<V> = None;
    for axis in (0..spatial).rev() {
        let at = along(x, window, (axis, &before[axis]), (&places[axis], 2, 0), 1)?;
        let last = x.size(&(shape[2 + axis].clone() - Dim::from(1i64)), DType::I64)?;
        let low = x.with_number(BinaryFn::GreaterEqual, at, 0.0)?;
        let high = x.binary(BinaryFn::LessEqual, at, last)?;
        let within = x.binary(BinaryFn::And, low, high)?;
        let mut spread = vec![Dim::from(1i64); 2 * spatial];
        spread[axis] = places[axis].clone();
        spread[spatial + axis] = window.size[axis].clone();
        let within = x.reshape(within, spread)?;
        inside = Some(match inside {
            Some(others) => x.binary(BinaryFn::And, others, within)?,
            None => within,
        });
        let raised = x.with_number(BinaryFn::Max, at, 0.0)?;
        let at = x.binary(BinaryFn::Min, raised, last)?;
        elements = x.add(op::Gather { axis: 2 + axis }, &[elements, at])?;
    }
    let ordered = [0, 1].into_iter().chain((0..spatial).map(|axis| 2 + 2 * axis));
    let perm = ordered.chain((0..spatial).map(|axis| 3 + 2 * axis)).collect();
    let elements = x.transpose(elements, perm)?;
    let dtype = x.dtype(elements);
    let least = if dtype.is_float() { f64::NEG_INFINITY } else { f64::MIN };
    let least = x.scalar(dtype, least)?;
    let elements = x.select(inside.ok_or(Fault::Silent)?, elements, least)?;
    let count: Dim = window.size.iter().cloned().product();
    let flat = [&shape[..2], places, &[count]].concat();
    let elements = x.reshape(elements, flat)?;
    let search = op::ArgReduce { f: ReduceFn::Max, axis: 2 + spatial, keep: false, last: false };
    let tap = x.add(search, &[elements])?;
    // From the element of the window to the place in the image.
    let rank = 2 + spatial;
    let mut sum = channel_starts(x, &shape, rank)?;
    for axis in 0..spatial {
        let finer: Dim = window.size[axis + 1..].iter().cloned().product();
        let (finer, own) = (x.size(&finer, DType::I64)?, x.size(&window.size[axis], DType::I64)?);
        let digit = x.binary(BinaryFn::Div, tap, finer)?;
        let digit = x.binary(BinaryFn::Rem, digit, own)?;
        let reach = x.with_number(BinaryFn::Mul, digit, window.dilations[axis] as f64)?;
        let start = starts(x, window, (axis, &before[axis]), (&places[axis], rank, 2 + axis))?;
        let at = x.binary(BinaryFn::Add, start, reach)?;
        let last = x.size(&(shape[2 + axis].clone() - Dim::from(1i64)), DType::I64)?;
        let raised = x.with_number(BinaryFn::Max, at, 0.0)?;
        let at = x.binary(BinaryFn::Min, raised, last)?;
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

/// Coordinates of the elements of all windows, which run along `taps`.
fn along(
    x: &mut Use<'_, '_, '_>,
    window: &Window,
    (axis, before): (usize, &Dim),
    (places, rank, dim): (&Dim, usize, usize),
    taps: usize,
) -> Result<V, Fault> {
    let start = starts(x, window, (axis, before), (places, rank, dim))?;
    let tap = x.counter(&window.size[axis], DType::I64, taps, rank)?;
    let reach = x.with_number(BinaryFn::Mul, tap, window.dilations[axis] as f64)?;
    x.binary(BinaryFn::Add, start, reach)
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
