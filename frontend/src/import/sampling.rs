//! Samples between the elements of a tensor: neighbours along each dimension with their weights,
//! and the sum over all their combinations.
//!
//! Invariant: places are inside of their dimension whatever the coordinates are; where a neighbour
//! lies outside it counts as 0, and its weight never meets an infinite element.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

/// A neighbour of a coordinate along one dimension.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    /// Where it is, i64.
    pub(super) place: V,
    /// How much it counts; wholly, if it is left out.
    pub(super) weight: Option<V>,
    /// Whether it is there; always, if it is left out.
    pub(super) inside: Option<V>,
}

/// What floats are sampled in.
pub(super) fn computed_in(dtypes: &[DType]) -> DType {
    if dtypes.contains(&DType::F64) { DType::F64 } else { DType::F32 }
}

/// Batch, channels and spatial dimensions as rows of channels, with the number of rows between
/// neighbours of each spatial dimension.
pub(super) fn rows(x: &mut Use<'_, '_, '_>, image: V) -> Result<(V, Vec<Dim>), Fault> {
    let (shape, rank) = (x.shape(image), x.rank(image));
    let perm = std::iter::once(0).chain(2..rank).chain([1]).collect();
    let last = x.transpose(image, perm)?;
    let spatial = &shape[2..];
    let steps = (1..=spatial.len()).map(|number| spatial[number..].iter().cloned().product());
    let count = shape[0].clone() * spatial.iter().cloned().product();
    Ok((x.reshape(last, vec![count, shape[1].clone()])?, steps.collect()))
}

/// A place as whole numbers, forced inside a dimension.
pub(super) fn place(x: &mut Use<'_, '_, '_>, at: V, size: &Dim) -> Result<V, Fault> {
    let dtype = x.dtype(at);
    let last = x.size(&(size.clone() - Dim::from(1i64)), dtype)?;
    let below = x.binary(BinaryFn::Min, at, last)?;
    let zero = x.scalar(dtype, 0.0)?;
    // NaN is nowhere, and is made 0 here.
    let not_negative = x.binary(BinaryFn::Greater, below, zero)?;
    let within = x.select(not_negative, below, zero)?;
    x.cast(within, DType::I64)
}

/// Whether a coordinate is that of an element.
pub(super) fn within(x: &mut Use<'_, '_, '_>, at: V, size: &Dim) -> Result<V, Fault> {
    let dtype = x.dtype(at);
    let (zero, size) = (x.scalar(dtype, 0.0)?, x.size(size, dtype)?);
    let from = x.binary(BinaryFn::GreaterEqual, at, zero)?;
    let to = x.binary(BinaryFn::Less, at, size)?;
    x.binary(BinaryFn::And, from, to)
}

/// The two neighbours of a coordinate, by distance; those outside count as 0.
pub(super) fn two(x: &mut Use<'_, '_, '_>, at: V, size: &Dim) -> Result<Vec<Tap>, Fault> {
    let low = x.unary(UnaryFn::Floor, at)?;
    let upper = x.binary(BinaryFn::Sub, at, low)?;
    let one = x.scalar(x.dtype(at), 1.0)?;
    let lower = x.binary(BinaryFn::Sub, one, upper)?;
    let high = x.binary(BinaryFn::Add, low, one)?;
    let mut taps = Vec::with_capacity(2);
    for (at, weight) in [(low, lower), (high, upper)] {
        let (place, inside) = (place(x, at, size)?, within(x, at, size)?);
        taps.push(Tap { place, weight: Some(weight), inside: Some(inside) });
    }
    Ok(taps)
}

/// A corner: one neighbour along every dimension.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    /// The elements of all channels, or 0; a new last dimension.
    pub(super) value: V,
    /// How much it counts, with a last dimension of 1.
    pub(super) weight: Option<V>,
}

/// Every combination of neighbours, the last dimension's fastest. `first` is the row where the
/// image begins.
pub(super) fn corners(
    x: &mut Use<'_, '_, '_>,
    (rows, steps): (V, &[Dim]),
    first: V,
    taps: &[Vec<Tap>],
) -> Result<Vec<Corner>, Fault> {
    let mut all = vec![Tap { place: first, weight: None, inside: None }];
    for (taps, step) in taps.iter().zip(steps) {
        let step = x.size(step, DType::I64)?;
        let mut next = Vec::with_capacity(all.len() * taps.len());
        for before in &all {
            for tap in taps {
                let moved = x.binary(BinaryFn::Mul, tap.place, step)?;
                let place = x.binary(BinaryFn::Add, before.place, moved)?;
                let weight = both(x, BinaryFn::Mul, before.weight, tap.weight)?;
                let inside = both(x, BinaryFn::And, before.inside, tap.inside)?;
                next.push(Tap { place, weight, inside });
            }
        }
        all = next;
    }
    all.into_iter().map(|tap| corner(x, rows, tap)).collect()
}

fn both(
    x: &mut Use<'_, '_, '_>,
    f: BinaryFn,
    a: Option<V>,
    b: Option<V>,
) -> Result<Option<V>, Fault> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some(x.binary(f, a, b)?)),
        (a, b) => Ok(a.or(b)),
    }
}

fn corner(x: &mut Use<'_, '_, '_>, rows: V, tap: Tap) -> Result<Corner, Fault> {
    let mut value = x.add(op::Gather { axis: 0 }, &[rows, tap.place])?;
    if let Some(inside) = tap.inside {
        let (inside, zero) = (beside_channels(x, inside)?, x.scalar(x.dtype(value), 0.0)?);
        value = x.select(inside, value, zero)?;
    }
    let weight = tap.weight.map(|weight| beside_channels(x, weight)).transpose()?;
    Ok(Corner { value, weight })
}

/// The value with a last dimension of 1, for channels.
pub(super) fn beside_channels(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let mut shape = x.shape(v);
    shape.push(Dim::from(1i64));
    x.reshape(v, shape)
}

/// The corner's share of an interpolation in `dtype`.
pub(super) fn share(x: &mut Use<'_, '_, '_>, corner: Corner, dtype: DType) -> Result<V, Fault> {
    let value = x.cast(corner.value, dtype)?;
    let Some(weight) = corner.weight else { return Ok(value) };
    let weight = x.cast(weight, dtype)?;
    x.binary(BinaryFn::Mul, value, weight)
}

/// The interpolation: the sum of all corners' shares.
pub(super) fn sum(
    x: &mut Use<'_, '_, '_>,
    corners: Vec<Corner>,
    dtype: DType,
) -> Result<V, Fault> {
    let mut sum: Option<V> = None;
    for corner in corners {
        let share = share(x, corner, dtype)?;
        sum = Some(match sum {
            Some(before) => x.binary(BinaryFn::Add, before, share)?,
            None => share,
        });
    }
    sum.ok_or(Fault::Silent)
}
