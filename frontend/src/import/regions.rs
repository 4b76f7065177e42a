//! Pooling over regions of images that are computed by the model.
//!
//! Invariant: how many samples a region takes is decided when the model runs: samples are taken in
//! a loop as long as the largest region asks, and the others leave out what is beyond theirs.

use super::build::V;
use super::fault::Fault;
use super::loops::repeat;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::sampling::{self, Tap, beside_channels, corners, place, rows};
use kiln_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("MaxRoiPool", 1, max_roi_pool), onnx("RoiAlign", 10, roi_align)];

/// Images, and the regions of them.
struct Regions {
    shape: Vec<Dim>,
    /// All channels of each element.
    rows: V,
    steps: Vec<Dim>,
    /// The row where each region's image begins, with dimensions for the places of the result.
    first: V,
    count: Dim,
    /// What is computed in.
    dtype: DType,
}

impl Regions {
    fn new(x: &mut Use<'_, '_, '_>, image: V, batch: V, count: Dim) -> Result<Regions, Fault> {
        let shape = x.shape(image);
        let dtype = x.dtype(image);
        if shape.len() != 4 || !dtype.is_float() {
            let ty = x.ty(image);
            let message = format!("the images must be floats of rank 4, but are {ty}");
            return Err(Fault::malformed(message));
        }
        let (rows, steps) = rows(x, image)?;
        let batch = x.cast(batch, DType::I64)?;
        let area = x.size(&(shape[2].clone() * shape[3].clone()), DType::I64)?;
        let first = x.binary(BinaryFn::Mul, batch, area)?;
        let first = x.along(first, 0, 3)?;
        let dtype = sampling::computed_in(&[dtype]);
        Ok(Regions { shape, rows, steps, first, count, dtype })
    }

    /// The shape in which results are collected, channels last.
    fn collected(&self, places: [usize; 2]) -> Vec<Dim> {
        let [height, width] = places.map(Dim::from);
        vec![self.count.clone(), height, width, self.shape[1].clone()]
    }

    /// What was collected, in the order and type of the images.
    fn finished(&self, x: &mut Use<'_, '_, '_>, result: V, dtype: DType) -> Results {
        let result = x.cast(result, dtype)?;
        Ok(vec![x.transpose(result, vec![0, 3, 1, 2])?])
    }
}

/// An attribute that is a size of at least 1.
fn at_least_one(name: &str, value: i64) -> Result<usize, Fault> {
    usize::try_from(value)
        .ok()
        .filter(|&size| size > 0)
        .ok_or_else(|| Fault::malformed(format!("`{name}` must be at least 1, but is {value}")))
}

/// Regions with as many columns, and how many there are; an error if they are no such table of
/// floats.
fn table(x: &mut Use<'_, '_, '_>, regions: V, columns: i64) -> Result<(V, Dim), Fault> {
    let regions = x.with_dim(regions, 1, &Dim::from(columns))?;
    let ty = x.ty(regions);
    if !ty.dtype.is_float() || ty.rank() != 2 || !ty.shape[1].is(columns) {
        let message = format!("regions must be rows of {columns} floats, but are {ty}");
        return Err(Fault::malformed(message));
    }
    Ok((regions, ty.shape[0].clone()))
}

/// Regions `[count, 4]`, the number of the image that each lies in, and how many there are.
pub(super) fn in_images(
    x: &mut Use<'_, '_, '_>,
    regions: V,
    batch: V,
    images: &Dim,
) -> Result<(V, V, Dim), Fault> {
    let (regions, count) = table(x, regions, 4)?;
    if x.rank(batch) != 1 {
        let ty = x.ty(batch);
        return Err(Fault::malformed(format!("the numbers of images must be a list, not {ty}")));
    }
    let batch = x.with_dim(batch, 0, &count)?;
    x.inside(batch, std::slice::from_ref(images))?;
    Ok((regions, batch, count))
}

/// The largest of some counts, at least 0.
fn largest(x: &mut Use<'_, '_, '_>, counts: V) -> Result<V, Fault> {
    let axes = (0..x.rank(counts)).collect();
    let most = x.reduce(ReduceFn::Max, counts, axes, false)?;
    x.with_number(BinaryFn::Max, most, 0.0)
}

/// Numbers of a row and a column from the number of an iteration over rows of `width`.
fn row_and_column(x: &mut Use<'_, '_, '_>, iteration: V, width: V) -> Result<[V; 2], Fault> {
    let row = x.binary(BinaryFn::Div, iteration, width)?;
    Ok([row, x.binary(BinaryFn::Rem, iteration, width)?])
}

/// Along one dimension: where samples of each region lie.
struct Extent {
    /// Where the region begins, with dimensions for the places of the result.
    start: V,
    /// How long the part for one place is.
    part: V,
    /// How many samples each part takes, whole.
    samples: V,
    /// The number of each place.
    number: V,
    size: Dim,
}

fn roi_align(x: &mut Use<'_, '_, '_>) -> Results {
    let (image, regions, batch) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let images = x.shape(image).first().cloned().unwrap_or_default();
    let (regions, batch, count) = in_images(x, regions, batch, &images)?;
    let maximum = match x.string_or("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    let default = if x.opset() < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match x.string_or("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return Err(Fault::malformed(format!("coordinates `{other}` are not known"))),
    };
    let places = [
        at_least_one("output_height", x.int_or("output_height", 1)?)?,
        at_least_one("output_width", x.int_or("output_width", 1)?)?,
    ];
    let ratio = x.int_or("sampling_ratio", 0)?;
    let scale = x.float_or("spatial_scale", 1.0)?;
    let images = Regions::new(x, image, batch, count)?;
    let regions = x.cast(regions, images.dtype)?;
    let regions = x.with_number(BinaryFn::Mul, regions, scale)?;
    let regions = if half_pixel { x.with_number(BinaryFn::Sub, regions, 0.5)? } else { regions };
    let mut extents = Vec::with_capacity(2);
    for (axis, &places) in places.iter().enumerate() {
        let [start, end] = [x.element(regions, 1, 1 - axis)?, x.element(regions, 1, 3 - axis)?];
        let mut length = x.binary(BinaryFn::Sub, end, start)?;
        if !half_pixel {
            length = x.with_number(BinaryFn::Max, length, 1.0)?;
        }
        let part = x.with_number(BinaryFn::Div, length, places as f64)?;
        let samples = if ratio > 0 {
            x.filled(DType::I64, ratio as f64, vec![images.count.clone()])?
        } else {
            let whole = x.unary(UnaryFn::Ceil, part)?;
            x.cast(whole, DType::I64)?
        };
        let number = x.counter(&Dim::from(places), images.dtype, axis + 1, 3)?;
        let [start, part, samples] = {
            let mut spread = [start, part, samples];
            for v in &mut spread {
                *v = x.along(*v, 0, 3)?;
            }
            spread
        };
        let size = images.shape[2 + axis].clone();
        extents.push(Extent { start, part, samples, number, size });
    }
    let most = [largest(x, extents[0].samples)?, largest(x, extents[1].samples)?];
    let trip = x.binary(BinaryFn::Mul, most[0], most[1])?;
    let neutral = if maximum { f64::NEG_INFINITY } else { 0.0 };
    let start = x.filled(images.dtype, neutral, images.collected(places))?;
    let mut used = vec![images.rows, images.first, most[1]];
    for extent in &extents {
        used.extend([extent.start, extent.part, extent.samples, extent.number]);
    }
    let result = repeat(x, trip, (&[start], &used), None, |x, iteration, collected| {
        let numbers = row_and_column(x, iteration, most[1])?;
        let mut taps = Vec::with_capacity(2);
        let mut active: Option<V> = None;
        for (extent, number) in extents.iter().zip(numbers) {
            let (along, asked) = extent.sample(x, number)?;
            taps.push(along);
            active = Some(match active {
                Some(other) => x.binary(BinaryFn::And, other, asked)?,
                None => asked,
            });
        }
        let corners = corners(x, (images.rows, &images.steps), images.first, &taps)?;
        let mut sample: Option<V> = None;
        let f = if maximum { BinaryFn::Max } else { BinaryFn::Add };
        for corner in corners {
            let share = sampling::share(x, corner, images.dtype)?;
            sample = Some(match sample {
                Some(before) => x.binary(f, before, share)?,
                None => share,
            });
        }
        let sample = sample.ok_or(Fault::Silent)?;
        let with = x.binary(f, collected[0], sample)?;
        let active = beside_channels(x, active.ok_or(Fault::Silent)?)?;
        Ok((vec![x.select(active, with, collected[0])?], Vec::new()))
    })?;
    let result = if maximum {
        // Regions without extent have no samples.
        let fewest = x.binary(BinaryFn::Min, extents[0].samples, extents[1].samples)?;
        let fewest = beside_channels(x, fewest)?;
        let any = x.with_number(BinaryFn::Greater, fewest, 0.0)?;
        let none = x.scalar(images.dtype, 0.0)?;
        x.select(any, result[0], none)?
    } else {
        let samples = x.binary(BinaryFn::Mul, extents[0].samples, extents[1].samples)?;
        let samples = beside_channels(x, samples)?;
        let samples = x.with_number(BinaryFn::Max, samples, 1.0)?;
        let samples = x.cast(samples, images.dtype)?;
        x.binary(BinaryFn::Div, result[0], samples)?
    };
    let dtype = x.dtype(image);
    images.finished(x, result, dtype)
}

impl Extent {
    /// The neighbours of sample `number` in every part, and whether the region takes that sample.
    fn sample(&self, x: &mut Use<'_, '_, '_>, number: V) -> Result<(Vec<Tap>, V), Fault> {
        let dtype = x.dtype(self.start);
        let asked = x.binary(BinaryFn::Less, number, self.samples)?;
        let from_start = x.binary(BinaryFn::Mul, self.number, self.part)?;
        let begins = x.binary(BinaryFn::Add, self.start, from_start)?;
        let number = x.cast(number, dtype)?;
        let centre = x.with_number(BinaryFn::Add, number, 0.5)?;
        let samples = x.cast(self.samples, dtype)?;
        let within = x.binary(BinaryFn::Mul, centre, self.part)?;
        let within = x.binary(BinaryFn::Div, within, samples)?;
        let at = x.binary(BinaryFn::Add, begins, within)?;
        // Beyond one element around the image there is nothing; up to there, its edge.
        let size = x.size(&self.size, dtype)?;
        let from = x.with_number(BinaryFn::GreaterEqual, at, -1.0)?;
        let to = x.binary(BinaryFn::LessEqual, at, size)?;
        let inside = x.binary(BinaryFn::And, from, to)?;
        let zero = x.scalar(dtype, 0.0)?;
        let at = x.select(inside, at, zero)?;
        let at = x.binary(BinaryFn::Max, at, zero)?;
        let last = x.with_number(BinaryFn::Sub, size, 1.0)?;
        let at = x.binary(BinaryFn::Min, at, last)?;
        let low = x.unary(UnaryFn::Floor, at)?;
        let beyond = x.binary(BinaryFn::Sub, at, low)?;
        let one = x.scalar(dtype, 1.0)?;
        let rest = x.binary(BinaryFn::Sub, one, beyond)?;
        let high = x.binary(BinaryFn::Add, low, one)?;
        let mut taps = Vec::with_capacity(2);
        for (at, weight) in [(low, rest), (high, beyond)] {
            let place = place(x, at, &self.size)?;
            taps.push(Tap { place, weight: Some(weight), inside: Some(inside) });
        }
        Ok((taps, asked))
    }
}

/// Along one dimension: which elements each place of the result looks at.
struct Span {
    first: V,
    count: V,
    size: Dim,
}

fn max_roi_pool(x: &mut Use<'_, '_, '_>) -> Results {
    let (image, regions) = (x.input(0)?, x.input(1)?);
    let (regions, count) = table(x, regions, 5)?;
    let places = match x.ints("pooled_shape")? {
        Some(&[height, width]) => {
            [at_least_one("pooled_shape", height)?, at_least_one("pooled_shape", width)?]
        }
        _ => return Err(Fault::malformed("`pooled_shape` must be two sizes")),
    };
    let scale = x.float_or("spatial_scale", 1.0)?;
    let batch = x.element(regions, 1, 0)?;
    let images = Regions::new(x, image, batch, count)?;
    let regions = x.cast(regions, images.dtype)?;
    let scaled = x.with_number(BinaryFn::Mul, regions, scale)?;
    let corners_of = rounded(x, scaled)?;
    let mut spans = Vec::with_capacity(2);
    for (axis, &places) in places.iter().enumerate() {
        let start = x.element(corners_of, 1, 2 - axis)?;
        let end = x.element(corners_of, 1, 4 - axis)?;
        let length = x.binary(BinaryFn::Sub, end, start)?;
        let length = x.with_number(BinaryFn::Add, length, 1.0)?;
        let length = x.with_number(BinaryFn::Max, length, 1.0)?;
        let part = x.with_number(BinaryFn::Div, length, places as f64)?;
        let (part, start) = (x.along(part, 0, 3)?, x.along(start, 0, 3)?);
        let number = x.counter(&Dim::from(places), images.dtype, axis + 1, 3)?;
        let next = x.with_number(BinaryFn::Add, number, 1.0)?;
        let from = x.binary(BinaryFn::Mul, number, part)?;
        let to = x.binary(BinaryFn::Mul, next, part)?;
        let (from, to) = (x.unary(UnaryFn::Floor, from)?, x.unary(UnaryFn::Ceil, to)?);
        let size = images.shape[2 + axis].clone();
        let most = x.size(&size, images.dtype)?;
        let mut ends = [from, to];
        for end in &mut ends {
            let moved = x.binary(BinaryFn::Add, *end, start)?;
            let raised = x.with_number(BinaryFn::Max, moved, 0.0)?;
            let inside = x.binary(BinaryFn::Min, raised, most)?;
            *end = x.cast(inside, DType::I64)?;
        }
        let count = x.binary(BinaryFn::Sub, ends[1], ends[0])?;
        spans.push(Span { first: ends[0], count, size });
    }
    let most = [largest(x, spans[0].count)?, largest(x, spans[1].count)?];
    let trip = x.binary(BinaryFn::Mul, most[0], most[1])?;
    let start = x.filled(images.dtype, f64::NEG_INFINITY, images.collected(places))?;
    let used = [
        images.rows,
        images.first,
        most[1],
        spans[0].first,
        spans[0].count,
        spans[1].first,
        spans[1].count,
    ];
    let result = repeat(x, trip, (&[start], &used), None, |x, iteration, collected| {
        let numbers = row_and_column(x, iteration, most[1])?;
        let mut taps = Vec::with_capacity(2);
        let mut asked = Vec::with_capacity(2);
        for (span, number) in spans.iter().zip(numbers) {
            asked.push(x.binary(BinaryFn::Less, number, span.count)?);
            let at = x.binary(BinaryFn::Add, span.first, number)?;
            let place = place(x, at, &span.size)?;
            taps.push(vec![Tap { place, weight: None, inside: None }]);
        }
        let corners = corners(x, (images.rows, &images.steps), images.first, &taps)?;
        let element = x.cast(corners.first().ok_or(Fault::Silent)?.value, images.dtype)?;
        let with = x.binary(BinaryFn::Max, collected[0], element)?;
        let asked = x.binary(BinaryFn::And, asked[0], asked[1])?;
        let asked = beside_channels(x, asked)?;
        Ok((vec![x.select(asked, with, collected[0])?], Vec::new()))
    })?;
    let fewest = x.binary(BinaryFn::Min, spans[0].count, spans[1].count)?;
    let any = x.with_number(BinaryFn::Greater, fewest, 0.0)?;
    let (any, none) = (beside_channels(x, any)?, x.scalar(images.dtype, 0.0)?);
    let result = x.select(any, result[0], none)?;
    let dtype = x.dtype(image);
    images.finished(x, result, dtype)
}

/// The nearest whole number, halves away from 0.
fn rounded(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let size = x.unary(UnaryFn::Abs, v)?;
    let above = x.with_number(BinaryFn::Add, size, 0.5)?;
    let whole = x.unary(UnaryFn::Floor, above)?;
    let sign = x.unary(UnaryFn::Sign, v)?;
    x.binary(BinaryFn::Mul, whole, sign)
}
