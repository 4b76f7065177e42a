//! Regions of images, resized to one size.
//!
//! Invariant: the first and the last place of a crop lie on the edges of its region, whatever
//! rounding does to the places between; what lies outside of the image is not looked at.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::regions::in_images;
use super::super::sampling::{self, Corner, Tap, beside_channels, corners, place, rows};
use super::Results;
use crate::import::build::V;
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] = &[microsoft("CropAndResize", crop_and_resize)];

/// Where samples lie along one dimension: `[crops, places]`, with a dimension of 1 for the other.
struct Samples {
    at: V,
    /// Whether that is in the image.
    inside: V,
    /// The element before, or the nearest one.
    low: V,
    /// How far after the element before.
    beyond: V,
}

/// `images [N, C, H, W], regions [crops, (y, x, y, x)] in sizes, their images [crops], size`.
fn crop_and_resize(x: &mut Use<'_, '_, '_>) -> Results {
    let (image, regions, batch) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let nearest = match x.string_or("mode", "bilinear")? {
        "bilinear" => false,
        "nearest" => true,
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    let (shape, dtype) = (x.shape(image), x.dtype(image));
    if shape.len() != 4 || !dtype.is_float() {
        let ty = x.ty(image);
        return Err(Fault::malformed(format!("the images must be floats of rank 4, not {ty}")));
    }
    let (regions, batch, _) = in_images(x, regions, batch, &shape[0])?;
    let sizes = x.dims(x.input(3)?, "the size of a crop")?;
    if sizes.len() != 2 {
        return Err(Fault::malformed(format!("a crop has 2 sizes, not {}", sizes.len())));
    }
    let wide = sampling::computed_in(&[dtype]);
    let regions = x.cast(regions, wide)?;
    let mut along = Vec::with_capacity(2);
    for (axis, size) in sizes.iter().enumerate() {
        let edges = [x.element(regions, 1, axis)?, x.element(regions, 1, 2 + axis)?];
        along.push(samples(x, edges, (axis, size), &shape[2 + axis], nearest)?);
    }
    let batch = x.cast(batch, DType::I64)?;
    let area = x.size(&(shape[2].clone() * shape[3].clone()), DType::I64)?;
    let first = x.binary(BinaryFn::Mul, batch, area)?;
    let first = x.along(first, 0, 3)?;
    let mut taps = Vec::with_capacity(2);
    for (samples, size) in along.iter().zip(&shape[2..]) {
        let after = x.unary(UnaryFn::Ceil, samples.at)?;
        let neighbours = if nearest { vec![samples.low] } else { vec![samples.low, after] };
        let neighbours = neighbours
            .into_iter()
            .map(|at| Ok(Tap { place: place(x, at, size)?, weight: None, inside: None }));
        taps.push(neighbours.collect::<Result<Vec<Tap>, Fault>>()?);
    }
    let (rows, steps) = rows(x, image)?;
    let corners = corners(x, (rows, &steps), first, &taps)?;
    let value = match &corners[..] {
        [a, b, c, d] => {
            let [upper, lower] = [[a, b], [c, d]];
            let beyond = beside_channels(x, along[1].beyond)?;
            let upper = between(x, upper.map(|corner: &Corner| corner.value), beyond)?;
            let lower = between(x, lower.map(|corner: &Corner| corner.value), beyond)?;
            let beyond = beside_channels(x, along[0].beyond)?;
            between(x, [upper, lower], beyond)?
        }
        corners => x.cast(corners.first().ok_or(Fault::Silent)?.value, wide)?,
    };
    let inside = x.binary(BinaryFn::And, along[0].inside, along[1].inside)?;
    let inside = beside_channels(x, inside)?;
    let around = x.scalar(wide, x.float_or("extrapolation_value", 0.0)?)?;
    let result = x.select(inside, value, around)?;
    let result = x.cast(result, dtype)?;
    Ok(vec![x.transpose(result, vec![0, 3, 1, 2])?])
}

/// `a + (b − a)·beyond`.
fn between(x: &mut Use<'_, '_, '_>, values: [V; 2], beyond: V) -> Result<V, Fault> {
    let dtype = x.dtype(beyond);
    let [a, b] = [x.cast(values[0], dtype)?, x.cast(values[1], dtype)?];
    let step = x.binary(BinaryFn::Sub, b, a)?;
    let part = x.binary(BinaryFn::Mul, step, beyond)?;
    x.binary(BinaryFn::Add, a, part)
}

/// `places` samples between two edges of each region, the middle if it is one, along an image's
/// dimension of this size.
fn samples(
    x: &mut Use<'_, '_, '_>,
    edges: [V; 2],
    (axis, places): (usize, &Dim),
    size: &Dim,
    nearest: bool,
) -> Result<Samples, Fault> {
    let [start, end] = [x.along(edges[0], 0, 3)?, x.along(edges[1], 0, 3)?];
    let dtype = x.dtype(start);
    let last = x.size(&(size.clone() - Dim::from(1i64)), dtype)?;
    let number = x.counter(places, dtype, axis + 1, 3)?;
    let steps = x.size(&(places.clone() - Dim::from(1i64)), dtype)?;
    let length = x.binary(BinaryFn::Sub, end, start)?;
    let length = x.binary(BinaryFn::Mul, length, last)?;
    let divisor = x.with_number(BinaryFn::Max, steps, 1.0)?;
    let step = x.binary(BinaryFn::Div, length, divisor)?;
    let [from, to] = [x.binary(BinaryFn::Mul, start, last)?, x.binary(BinaryFn::Mul, end, last)?];
    let moved = x.binary(BinaryFn::Mul, number, step)?;
    let at = x.binary(BinaryFn::Add, from, moved)?;
    let ends = x.binary(BinaryFn::Equal, number, steps)?;
    let at = x.select(ends, to, at)?;
    let both = x.binary(BinaryFn::Add, start, end)?;
    let half = x.with_number(BinaryFn::Mul, both, 0.5)?;
    let middle = x.binary(BinaryFn::Mul, half, last)?;
    let several = x.with_number(BinaryFn::Greater, steps, 0.0)?;
    let at = x.select(several, at, middle)?;
    let from = x.with_number(BinaryFn::GreaterEqual, at, 0.0)?;
    let to = x.binary(BinaryFn::LessEqual, at, last)?;
    let inside = x.binary(BinaryFn::And, from, to)?;
    let floor = x.unary(UnaryFn::Floor, at)?;
    let beyond = x.binary(BinaryFn::Sub, at, floor)?;
    let low = if nearest {
        // Halves go up; adding one half first would round what is just below.
        let up = x.with_number(BinaryFn::GreaterEqual, beyond, 0.5)?;
        let next = x.with_number(BinaryFn::Add, floor, 1.0)?;
        x.select(up, next, floor)?
    } else {
        floor
    };
    Ok(Samples { at, inside, low, beyond })
}
