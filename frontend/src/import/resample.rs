//! Interpolation onto a grid whose scales or region are data: along one dimension after the other,
//! neighbours are gathered and weighed.
//!
//! Invariant: coordinates are computed in f64, as the core operation does where it knows the scales.

use super::antialias;
use super::antialias::polynomial;
use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{self, BinaryFn, NearestMode, ResizeMode, UnaryFn};
use kiln_tensor::{DType, Dim};

/// How the result is sampled, in every dimension alike.
pub(super) struct Sampling {
    pub(super) mode: ResizeMode,
    /// The operator's own name of how coordinates are computed.
    pub(super) coordinates: String,
    /// Before opset 11 the neighbour above is the nearest where the result is smaller.
    pub(super) ceil_if_smaller: bool,
    pub(super) antialias: bool,
    pub(super) extrapolation: f64,
}

/// One dimension.
pub(super) struct Along {
    pub(super) axis: usize,
    pub(super) to: Dim,
    /// Result size over size, or as the model gives it; `f64[]`.
    pub(super) scale: V,
    /// Where the sampled part begins and ends, as fractions of the last place; `f64[]`.
    pub(super) region: Option<[V; 2]>,
}

/// The operand on another grid.
pub(super) fn resample(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    sampling: &Sampling,
    axes: &[Along],
) -> Result<V, Fault> {
    let dtype = x.dtype(operand);
    let moved = matches!(sampling.mode, ResizeMode::Nearest(_));
    let mut v = if moved || dtype.is_float() { operand } else { x.cast(operand, DType::F32)? };
    let mut outside: Option<V> = None;
    for along in axes {
        let from = x.shape(v)[along.axis].clone();
        let place = Place::of(x, sampling, along, &from)?;
        if let Some(beyond) = place.beyond(x, along)? {
            let beyond = x.along(beyond, along.axis, x.rank(v))?;
            outside = Some(match outside {
                Some(others) => x.binary(BinaryFn::Or, others, beyond)?,
                None => beyond,
            });
        }
        v = match sampling.mode {
            ResizeMode::Nearest(mode) => place.nearest(x, v, along, mode)?,
            _ if sampling.antialias => {
                let grid = antialias::Filter {
                    mode: sampling.mode,
                    from: place.from.clone(),
                    scale: along.scale,
                    beyond: place.reach(x, sampling.mode, along.scale)?,
                };
                grid.apply(x, v, along.axis, place.coordinate)?
            }
            ResizeMode::Linear => place.linear(x, v, along)?,
            ResizeMode::Cubic { a, exclude_outside } => {
                place.cubic(x, v, along, (a, exclude_outside))?
            }
        };
    }
    if let Some(outside) = outside {
        let value = x.scalar(x.dtype(v), sampling.extrapolation)?;
        v = x.select(outside, value, v)?;
    }
    if x.dtype(v) == dtype { Ok(v) } else { x.cast(v, dtype) }
}

/// Where a dimension is sampled.
struct Place {
    from: Dim,
    /// `f64[to]`.
    coordinate: V,
    /// `f64[]`: the last place.
    last: V,
    ceil_if_smaller: bool,
}

impl Place {
    fn of(
        x: &mut Use<'_, '_, '_>,
        sampling: &Sampling,
        along: &Along,
        from: &Dim,
    ) -> Result<Self, Fault> {
        use BinaryFn::{Add, Div, Greater, Mul, Sub};
        let number = x.counter(&along.to, DType::F64, 0, 1)?;
        let (size, to) = (x.size(from, DType::F64)?, x.size(&along.to, DType::F64)?);
        let last = x.with_number(Sub, size, 1.0)?;
        let scale = along.scale;
        let half_pixel = |x: &mut Use<'_, '_, '_>| {
            let centre = x.with_number(Add, number, 0.5)?;
            let centre = x.binary(Div, centre, scale)?;
            x.with_number(Sub, centre, 0.5)
        };
        // With one sample alone, its place is said apart.
        let alone = |x: &mut Use<'_, '_, '_>, many: V, one: V| {
            let several = x.with_number(Greater, to, 1.0)?;
            x.select(several, many, one)
        };
        let zero = x.scalar(DType::F64, 0.0)?;
        let coordinate = match sampling.coordinates.as_str() {
            "half_pixel" => half_pixel(x)?,
            "pytorch_half_pixel" => {
                let many = half_pixel(x)?;
                alone(x, many, zero)?
            }
            "half_pixel_symmetric" => {
                let exact = x.binary(Mul, scale, size)?;
                let share = x.binary(Div, to, exact)?;
                let one = x.scalar(DType::F64, 1.0)?;
                let rest = x.binary(Sub, one, share)?;
                let centre = x.with_number(Mul, size, 0.5)?;
                let offset = x.binary(Mul, centre, rest)?;
                let place = half_pixel(x)?;
                x.binary(Add, offset, place)?
            }
            "asymmetric" => x.binary(Div, number, scale)?,
            "align_corners" => {
                let exact = x.binary(Mul, scale, size)?;
                let steps = x.with_number(Sub, exact, 1.0)?;
                let many = x.binary(Mul, number, last)?;
                let many = x.binary(Div, many, steps)?;
                alone(x, many, zero)?
            }
            "tf_crop_and_resize" => {
                let [start, end] =
                    along.region.ok_or_else(|| Fault::malformed("the region is missing"))?;
                let (part, sum) = (x.binary(Sub, end, start)?, x.binary(Add, start, end)?);
                let first = x.binary(Mul, start, last)?;
                let steps = x.with_number(Sub, to, 1.0)?;
                let many = x.binary(Mul, number, part)?;
                let many = x.binary(Mul, many, last)?;
                let many = x.binary(Div, many, steps)?;
                let many = x.binary(Add, first, many)?;
                let middle = x.with_number(Mul, sum, 0.5)?;
                let middle = x.binary(Mul, middle, last)?;
                alone(x, many, middle)?
            }
            other => {
                let message = format!("coordinate mode `{other}` is not supported");
                return Err(Fault::unsupported(message, "export the model with `half_pixel`"));
            }
        };
        let ceil_if_smaller = sampling.ceil_if_smaller;
        Ok(Place { from: from.clone(), coordinate, last, ceil_if_smaller })
    }

    /// Which samples lie outside of the operand, where that matters.
    fn beyond(&self, x: &mut Use<'_, '_, '_>, along: &Along) -> Result<Option<V>, Fault> {
        if along.region.is_none() {
            return Ok(None);
        }
        let below = x.with_number(BinaryFn::Less, self.coordinate, 0.0)?;
        let above = x.binary(BinaryFn::Greater, self.coordinate, self.last)?;
        x.binary(BinaryFn::Or, below, above).map(Some)
    }

    /// Elements at whole places, those outside at the border.
    fn at(&self, x: &mut Use<'_, '_, '_>, v: V, axis: usize, whole: V) -> Result<V, Fault> {
        let inside = x.with_number(BinaryFn::Max, whole, 0.0)?;
        let inside = x.binary(BinaryFn::Min, inside, self.last)?;
        let place = x.cast(inside, DType::I64)?;
        x.add(op::Gather { axis }, &[v, place])
    }

    fn nearest(
        &self,
        x: &mut Use<'_, '_, '_>,
        v: V,
        along: &Along,
        mode: NearestMode,
    ) -> Result<V, Fault> {
        let at = self.coordinate;
        let mut whole = match mode {
            NearestMode::Floor => x.unary(UnaryFn::Floor, at)?,
            NearestMode::Ceil => x.unary(UnaryFn::Ceil, at)?,
            NearestMode::RoundPreferFloor => {
                let lower = x.with_number(BinaryFn::Sub, at, 0.5)?;
                x.unary(UnaryFn::Ceil, lower)?
            }
            NearestMode::RoundPreferCeil => {
                let upper = x.with_number(BinaryFn::Add, at, 0.5)?;
                x.unary(UnaryFn::Floor, upper)?
            }
        };
        if self.ceil_if_smaller {
            let smaller = x.with_number(BinaryFn::Less, along.scale, 1.0)?;
            let above = x.unary(UnaryFn::Ceil, at)?;
            whole = x.select(smaller, above, whole)?;
        }
        self.at(x, v, along.axis, whole)
    }

    /// The sum of elements at distances from the place below, each times its weight `f64[to]`.
    fn weighed(
        &self,
        x: &mut Use<'_, '_, '_>,
        v: V,
        axis: usize,
        taps: &[(f64, V)],
    ) -> Result<V, Fault> {
        let (below, rank, dtype) =
            (x.unary(UnaryFn::Floor, self.coordinate)?, x.rank(v), x.dtype(v));
        let mut sum: Option<V> = None;
        for &(distance, weight) in taps {
            let whole = x.with_number(BinaryFn::Add, below, distance)?;
            let element = self.at(x, v, axis, whole)?;
            let weight = x.cast(weight, dtype)?;
            let weight = x.along(weight, axis, rank)?;
            let term = x.binary(BinaryFn::Mul, element, weight)?;
            sum = Some(match sum {
                Some(sum) => x.binary(BinaryFn::Add, sum, term)?,
                None => term,
            });
        }
        sum.ok_or(Fault::Silent)
    }

    fn fraction(&self, x: &mut Use<'_, '_, '_>) -> Result<V, Fault> {
        let below = x.unary(UnaryFn::Floor, self.coordinate)?;
        x.binary(BinaryFn::Sub, self.coordinate, below)
    }

    fn linear(&self, x: &mut Use<'_, '_, '_>, v: V, along: &Along) -> Result<V, Fault> {
        let upper = self.fraction(x)?;
        let one = x.scalar(DType::F64, 1.0)?;
        let lower = x.binary(BinaryFn::Sub, one, upper)?;
        self.weighed(x, v, along.axis, &[(0.0, lower), (1.0, upper)])
    }

    fn cubic(
        &self,
        x: &mut Use<'_, '_, '_>,
        v: V,
        along: &Along,
        (a, exclude_outside): (f64, bool),
    ) -> Result<V, Fault> {
        let (fraction, below) = (self.fraction(x)?, x.unary(UnaryFn::Floor, self.coordinate)?);
        let mut taps = Vec::with_capacity(4);
        let mut total: Option<V> = None;
        for distance in [-1.0, 0.0, 1.0, 2.0] {
            let from = x.with_number(BinaryFn::Sub, fraction, distance)?;
            let from = x.unary(UnaryFn::Abs, from)?;
            let near = (0.0..=1.0).contains(&distance);
            let coefficients = match near {
                true => [a + 2.0, -(a + 3.0), 0.0, 1.0],
                false => [a, -5.0 * a, 8.0 * a, -4.0 * a],
            };
            let mut weight = polynomial(x, from, coefficients)?;
            if exclude_outside {
                let at = x.with_number(BinaryFn::Add, below, distance)?;
                let under = x.with_number(BinaryFn::Less, at, 0.0)?;
                let over = x.binary(BinaryFn::Greater, at, self.last)?;
                let outside = x.binary(BinaryFn::Or, under, over)?;
                let zero = x.scalar(DType::F64, 0.0)?;
                weight = x.select(outside, zero, weight)?;
            }
            total = Some(match total {
                Some(total) => x.binary(BinaryFn::Add, total, weight)?,
                None => weight,
            });
            taps.push((distance, weight));
        }
        if let Some(total) = total.filter(|_| exclude_outside) {
            for (_, weight) in &mut taps {
                *weight = x.binary(BinaryFn::Div, *weight, total)?;
            }
        }
        self.weighed(x, v, along.axis, &taps)
    }

    /// How far beyond the border a filter as wide as the grid's steps may look.
    fn reach(&self, x: &mut Use<'_, '_, '_>, mode: ResizeMode, scale: V) -> Result<Dim, Fault> {
        let radius = x.scalar(DType::F64, antialias::radius(mode) as f64)?;
        let stretch = x.with_number(BinaryFn::Min, scale, 1.0)?;
        let steps = x.binary(BinaryFn::Div, radius, stretch)?;
        let steps = x.unary(UnaryFn::Ceil, steps)?;
        let steps = x.cast(steps, DType::I64)?;
        Ok(x.sizes(steps)?.pop().ok_or(Fault::Silent)? + Dim::from(2i64))
    }
}
