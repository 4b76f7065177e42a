//! Interpolation onto a smaller grid under a filter as wide as the grid's steps, as a product with a
//! matrix of weights for each dimension.
//!
//! Invariant: the weights of a sample sum to 1; what the filter sees beyond the border is the border
//! element, unless the model excludes it.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{
    BinaryFn, Contract, ContractSpec, CoordinateMode, ReduceFn, Resize, ResizeMode, UnaryFn,
};
use kiln_tensor::{DType, Dim};

/// Resizes the dimensions that become smaller; gives what is left to be done.
pub(super) fn filter(
    x: &mut Use<'_, '_, '_>,
    mut v: V,
    mut op: Resize,
) -> Result<(V, Resize), Fault> {
    if matches!(op.coordinates, CoordinateMode::TfCropAndResize { .. }) {
        return Ok((v, op));
    }
    for axis in 0..op.sizes.len() {
        let (from, to) = (x.shape(v)[axis].clone(), op.sizes[axis].clone());
        let scale = op.scales.as_ref().and_then(|scales| scales.get(axis).copied());
        let shrinks = match scale {
            Some(scale) => scale < 1.0,
            None => x.facts().at_least(&to, &from) != Some(true),
        };
        if !shrinks || to.is(0) {
            continue;
        }
        let axis_of = Axis { op: &op, from: from.clone(), to: to.clone(), scale };
        v = axis_of.filtered(x, v, axis)?;
        if let Some(scales) = &mut op.scales {
            scales[axis] = 1.0;
        }
    }
    // Where nothing becomes smaller, the filter is the interpolation itself.
    op.antialias = false;
    Ok((v, op))
}

/// How many elements a filter reaches to either side before it is stretched.
pub(super) fn radius(mode: ResizeMode) -> i64 {
    if matches!(mode, ResizeMode::Cubic { .. }) { 2 } else { 1 }
}

/// A filter along one dimension.
pub(super) struct Filter {
    pub(super) mode: ResizeMode,
    /// The operand's size.
    pub(super) from: Dim,
    /// Result size over size, or as the model gives it; `f64[]`.
    pub(super) scale: V,
    /// How far beyond the border the filter may look.
    pub(super) beyond: Dim,
}

impl Filter {
    /// The dimension filtered, around coordinates `f64[result]`.
    pub(super) fn apply(
        &self,
        x: &mut Use<'_, '_, '_>,
        v: V,
        axis: usize,
        coordinate: V,
    ) -> Result<V, Fault> {
        let (dtype, rank) = (x.dtype(v), x.rank(v));
        let coordinate = x.along(coordinate, 0, 2)?;
        let weights = self.weights(x, coordinate)?;
        let weights = x.cast(weights, dtype)?;
        let own: Vec<u8> = (b'a'..=b'z').take(rank).collect();
        if own.len() < rank {
            return Err(Fault::malformed(format!("rank {rank} is too much for a filter")));
        }
        let mut out = own.clone();
        out[axis] = b'Z';
        let spec = ContractSpec { rhs: vec![b'Z', own[axis]], lhs: own, out };
        x.add(Contract { spec }, &[v, weights])
    }

    /// `[result, operand]`: how much each element counts in each sample, f64.
    fn weights(&self, x: &mut Use<'_, '_, '_>, coordinate: V) -> Result<V, Fault> {
        let exclude = matches!(self.mode, ResizeMode::Cubic { exclude_outside: true, .. });
        let beyond = &self.beyond;
        let places = self.from.clone() + beyond.clone() * Dim::from(2i64);
        let place = x.counter(&places, DType::F64, 1, 2)?;
        let first = x.size(beyond, DType::F64)?;
        let place = x.binary(BinaryFn::Sub, place, first)?;
        let distance = x.binary(BinaryFn::Sub, place, coordinate)?;
        let stretch = x.with_number(BinaryFn::Min, self.scale, 1.0)?;
        let distance = x.binary(BinaryFn::Mul, distance, stretch)?;
        let distance = x.unary(UnaryFn::Abs, distance)?;
        let all = self.weight(x, distance)?;
        let mut inside = x.part(all, 1, beyond.clone(), self.from.clone())?;
        if !exclude {
            let after = self.from.clone() + beyond.clone();
            let last = self.from.clone() - Dim::from(1i64);
            let element = x.counter(&self.from, DType::I64, 1, 2)?;
            for (start, border) in [(Dim::from(0i64), Dim::from(0i64)), (after, last)] {
                let outside = x.part(all, 1, start, beyond.clone())?;
                let sum = x.reduce(ReduceFn::Sum, outside, vec![1], true)?;
                let border = x.size(&border, DType::I64)?;
                let there = x.binary(BinaryFn::Equal, element, border)?;
                let with = x.binary(BinaryFn::Add, inside, sum)?;
                inside = x.select(there, with, inside)?;
            }
        }
        let total = x.reduce(ReduceFn::Sum, inside, vec![1], true)?;
        x.binary(BinaryFn::Div, inside, total)
    }

    /// The filter at a distance.
    fn weight(&self, x: &mut Use<'_, '_, '_>, distance: V) -> Result<V, Fault> {
        let ResizeMode::Cubic { a, .. } = self.mode else {
            let one = x.scalar(DType::F64, 1.0)?;
            let rest = x.binary(BinaryFn::Sub, one, distance)?;
            return x.with_number(BinaryFn::Max, rest, 0.0);
        };
        let near = polynomial(x, distance, [a + 2.0, -(a + 3.0), 0.0, 1.0])?;
        let far = polynomial(x, distance, [a, -5.0 * a, 8.0 * a, -4.0 * a])?;
        let zero = x.scalar(DType::F64, 0.0)?;
        let is_far = x.with_number(BinaryFn::Less, distance, 2.0)?;
        let far = x.select(is_far, far, zero)?;
        let is_near = x.with_number(BinaryFn::LessEqual, distance, 1.0)?;
        x.select(is_near, near, far)
    }
}

/// One dimension that becomes smaller.
struct Axis<'r> {
    op: &'r Resize,
    from: Dim,
    to: Dim,
    scale: Option<f64>,
}

impl Axis<'_> {
    fn filtered(&self, x: &mut Use<'_, '_, '_>, v: V, axis: usize) -> Result<V, Fault> {
        let (from, to) = (x.size(&self.from, DType::F64)?, x.size(&self.to, DType::F64)?);
        let scale = match self.scale {
            Some(scale) => x.scalar(DType::F64, scale)?,
            None => x.binary(BinaryFn::Div, to, from)?,
        };
        let reach = radius(self.op.mode);
        // How far beyond the border the filter may look: as far as it reaches, and a half.
        let beyond = match self.scale {
            Some(scale) => Dim::from((reach as f64 / scale).ceil().min(1e9) as i64),
            None => (self.from.clone() * Dim::from(reach)).ceil_div(&self.to),
        } + Dim::from(2i64);
        let coordinate = self.coordinate(x, [from, to, scale])?;
        let filter = Filter { mode: self.op.mode, from: self.from.clone(), scale, beyond };
        filter.apply(x, v, axis, coordinate)
    }

    /// Where the operand is sampled for each element of the result.
    fn coordinate(&self, x: &mut Use<'_, '_, '_>, [from, to, scale]: [V; 3]) -> Result<V, Fault> {
        let number = x.counter(&self.to, DType::F64, 0, 1)?;
        let alone = self.to.is(1);
        let half_pixel = |x: &mut Use<'_, '_, '_>| {
            let centre = x.with_number(BinaryFn::Add, number, 0.5)?;
            let scaled = x.binary(BinaryFn::Div, centre, scale)?;
            x.with_number(BinaryFn::Sub, scaled, 0.5)
        };
        match self.op.coordinates {
            CoordinateMode::PytorchHalfPixel | CoordinateMode::AlignCorners if alone => Ok(number),
            CoordinateMode::PytorchHalfPixel | CoordinateMode::HalfPixel => half_pixel(x),
            CoordinateMode::HalfPixelSymmetric => {
                let exact = x.binary(BinaryFn::Mul, scale, from)?;
                let share = x.binary(BinaryFn::Div, to, exact)?;
                let one = x.scalar(DType::F64, 1.0)?;
                let rest = x.binary(BinaryFn::Sub, one, share)?;
                let centre = x.with_number(BinaryFn::Mul, from, 0.5)?;
                let offset = x.binary(BinaryFn::Mul, centre, rest)?;
                let along = half_pixel(x)?;
                x.binary(BinaryFn::Add, along, offset)
            }
            CoordinateMode::AlignCorners => {
                let exact = match self.scale {
                    Some(_) => x.binary(BinaryFn::Mul, scale, from)?,
                    None => to,
                };
                let steps = x.with_number(BinaryFn::Sub, exact, 1.0)?;
                let last = x.with_number(BinaryFn::Sub, from, 1.0)?;
                let along = x.binary(BinaryFn::Mul, number, last)?;
                x.binary(BinaryFn::Div, along, steps)
            }
            CoordinateMode::Asymmetric | CoordinateMode::TfCropAndResize { .. } => {
                x.binary(BinaryFn::Div, number, scale)
            }
        }
    }
}

/// A cubic polynomial, its highest coefficient first.
pub(super) fn polynomial(
    x: &mut Use<'_, '_, '_>,
    at: V,
    coefficients: [f64; 4],
) -> Result<V, Fault> {
    let [cube, square, line, constant] = coefficients;
    let mut sum = x.with_number(BinaryFn::Mul, at, cube)?;
    for coefficient in [square, line] {
        sum = x.with_number(BinaryFn::Add, sum, coefficient)?;
        sum = x.binary(BinaryFn::Mul, sum, at)?;
    }
    x.with_number(BinaryFn::Add, sum, constant)
}
