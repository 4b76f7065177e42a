//! Convolutions and their transposes.
//!
//! Invariant: the bias is an addition after the convolution, for later passes to fuse.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::window::{Window, factors, pads, spatial_rank};
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Conv", 1, conv),
    onnx("ConvInteger", 10, conv_integer),
    onnx("ConvTranspose", 1, conv_transpose),
];

pub(super) fn groups(x: &Use<'_, '_, '_>) -> Result<usize, Fault> {
    let groups = x.int_or("group", 1)?;
    usize::try_from(groups)
        .ok()
        .filter(|&groups| groups > 0)
        .ok_or_else(|| Fault::malformed(format!("{groups} groups are not possible")))
}

/// The filters, said to be of `kernel_shape` where that is given, and to split into groups along
/// dimension 0.
pub(super) fn filters(x: &mut Use<'_, '_, '_>, w: V, groups: usize) -> Result<V, Fault> {
    let mut shape = x.shape(w);
    if let Some(given) = x.ints("kernel_shape")? {
        let actual = shape.get_mut(2..).unwrap_or_default();
        let differ = |(&given, dim): (&i64, &Dim)| dim.as_const().is_some_and(|dim| dim != given);
        if given.len() != actual.len() || given.iter().zip(&*actual).any(differ) {
            let ty = x.ty(w);
            return Err(Fault::malformed(format!("kernel_shape {given:?} is not that of {ty}")));
        }
        actual.iter_mut().zip(given).for_each(|(dim, &size)| *dim = Dim::from(size));
    }
    let count = Dim::from(groups);
    if let Some(number) = shape.first_mut().filter(|number| number.as_const().is_none()) {
        *number = number.floor_div(&count) * count;
    }
    x.assume(w, shape)
}

/// The convolution that the attributes of the node describe, without a bias.
pub(super) fn convolve(x: &mut Use<'_, '_, '_>, operand: V, w: V) -> Result<V, Fault> {
    let spatial = spatial_rank(x, operand)?;
    let groups = groups(x)?;
    let w = filters(x, w, groups)?;
    let size = x.shape(w).get(2..).unwrap_or_default().to_vec();
    if size.len() != spatial {
        let (filter, operand) = (x.ty(w), x.ty(operand));
        return Err(Fault::malformed(format!("filter {filter} does not fit {operand}")));
    }
    let window = Window::of(x, size)?;
    let depth = x.shape(w)[1].clone() * Dim::from(groups);
    let operand = x.with_dim(operand, 1, &depth)?;
    let (operand, before, after) = window.padded(x, operand, 0.0)?;
    let conv = op::Conv {
        strides: window.strides,
        dilations: window.dilations,
        before,
        after,
        groups,
        layout: op::ConvLayout::ChannelsFirst,
    };
    x.add(conv, &[operand, w])
}

/// Adds a number for each channel.
pub(super) fn add_bias(x: &mut Use<'_, '_, '_>, result: V, bias: Option<V>) -> Result<V, Fault> {
    let Some(bias) = bias else { return Ok(result) };
    let rank = x.rank(result);
    let bias = x.along(bias, 1, rank)?;
    // Dimension 0 of 1 would be redundant: it broadcasts anyway.
    let shape = x.shape(bias)[1..].to_vec();
    let bias = x.reshape(bias, shape)?;
    x.binary(BinaryFn::Add, result, bias)
}

pub(super) fn conv(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, w) = (x.input(0)?, x.input(1)?);
    let result = convolve(x, operand, w)?;
    let bias = x.optional(2);
    Ok(vec![add_bias(x, result, bias)?])
}

/// Products of 8-bit integers, summed in 32 bits.
fn conv_integer(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = [x.input(0)?, x.input(1)?];
    let mut shifted = operands;
    for (number, operand) in operands.into_iter().enumerate() {
        let wide = x.cast(operand, DType::I32)?;
        shifted[number] = match x.optional(2 + number) {
            None => wide,
            Some(zero) => {
                let zero = x.cast(zero, DType::I32)?;
                // One zero point, or one for each filter, which are dimension 0 of `w`.
                let rank = x.rank(operand);
                let zero = if x.rank(zero) == 1 { x.along(zero, 0, rank)? } else { zero };
                let shifted = x.binary(BinaryFn::Sub, wide, zero)?;
                let shape = x.shape(wide);
                x.of_dims(shifted, &shape, "an operand less its zero points")?
            }
        };
    }
    Ok(vec![convolve(x, shifted[0], shifted[1])?])
}

fn conv_transpose(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, w) = (x.input(0)?, x.input(1)?);
    let spatial = spatial_rank(x, operand)?;
    let groups = groups(x)?;
    let w = filters(x, w, groups)?;
    let size = x.shape(w).get(2..).unwrap_or_default().to_vec();
    if size.len() != spatial {
        let (filter, operand) = (x.ty(w), x.ty(operand));
        return Err(Fault::malformed(format!("filter {filter} does not fit {operand}")));
    }
    let (strides, dilations) = (factors(x, "strides", spatial)?, factors(x, "dilations", spatial)?);
    let more = match x.ints("output_padding")? {
        None => vec![0; spatial],
        Some(values) => {
            let sizes = values.iter().map(|&value| usize::try_from(value).ok());
            sizes
                .collect::<Option<Vec<usize>>>()
                .ok_or_else(|| Fault::malformed(format!("output_padding {values:?} is negative")))?
        }
    };
    let (mut before, mut after) = pads(x, spatial)?;
    let auto = x.string_or("auto_pad", "NOTSET")?;
    let shape = x.shape(operand);
    let target = x.ints("output_shape")?;
    // Some writers include batch and channels.
    let given = target.as_ref().map_or(spatial, |sizes| sizes.len());
    if given != spatial && given != spatial + 2 {
        let message = format!("`output_shape` has {given} sizes for {spatial} spatial dimensions");
        return Err(Fault::malformed(message));
    }
    let target = target.map(|sizes| sizes[given - spatial..].to_vec());
    let same = matches!(auto, "SAME_UPPER" | "SAME_LOWER");
    // Dimensions of which a part that is not known is left out at both ends.
    let mut cuts = Vec::new();
    if target.is_some() || same {
        for number in 0..spatial {
            let stride = Dim::from(strides[number]);
            let extent = (size[number].clone() - Dim::from(1i64)) * Dim::from(dilations[number]);
            let full = (shape[number + 2].clone() - Dim::from(1i64)) * stride.clone()
                + extent
                + Dim::from(1i64)
                + Dim::from(more.get(number).copied().unwrap_or(0));
            let wanted = match &target {
                Some(target) => Dim::from(target.get(number).copied().unwrap_or(0)),
                None => shape[number + 2].clone() * stride,
            };
            let total = full - wanted;
            let upper = auto == "SAME_UPPER";
            let Some(total) = total.as_const() else {
                let less = total.floor_div(&Dim::from(2i64));
                let more = total - less.clone();
                let ends = if upper { (less, more) } else { (more, less) };
                cuts.push((number + 2, ends.0, ends.1));
                (before[number], after[number]) = (0, 0);
                continue;
            };
            // Less than nothing is cut off where the result is larger than it would be.
            let (less, rest) = (total.div_euclid(2), total.saturating_sub(total.div_euclid(2)));
            (before[number], after[number]) = if upper { (less, rest) } else { (rest, less) };
        }
    } else if auto == "VALID" {
        (before, after) = (vec![0; spatial], vec![0; spatial]);
    } else if !matches!(auto, "NOTSET" | "") {
        return Err(Fault::malformed(format!("auto_pad `{auto}` is not known")));
    }
    let channels = x.shape(w)[0].clone();
    let operand = x.with_dim(operand, 1, &channels)?;
    let conv =
        op::ConvTranspose { strides, dilations, before, after, output_padding: more, groups };
    let mut result = x.add(conv, &[operand, w])?;
    for (axis, before, after) in cuts {
        result = cut(x, result, axis, before, after)?;
    }
    let bias = x.optional(2);
    Ok(vec![add_bias(x, result, bias)?])
}

/// The tensor without so much at the ends of an axis; with zeros where that is less than nothing.
fn cut(x: &mut Use<'_, '_, '_>, v: V, axis: usize, before: Dim, after: Dim) -> Result<V, Fault> {
    let zero = Dim::default();
    let [less, rest] = [&before, &after].map(|end| x.facts().maximum(end, &zero));
    let [more, beyond] = [before, after].map(|end| x.facts().maximum(&-end, &zero));
    let size = x.shape(v)[axis].clone() - less.clone() - rest;
    let inside = x.part(v, axis, less, size)?;
    let mut ends = [vec![zero.clone(); x.rank(v)], vec![zero; x.rank(v)]];
    (ends[0][axis], ends[1][axis]) = (more, beyond);
    let value = x.scalar(x.dtype(v), 0.0)?;
    let [before, after] = ends;
    x.add(op::Pad { before, after, mode: op::PadMode::Constant }, &[inside, value])
}
