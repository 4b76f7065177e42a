//! Samples on another grid: coordinates are computed in double precision, then rounded to a neighbour
//! or weighed between several.
//!
//! Invariant: neighbours are clamped to the tensor, so that every place is inside; whole factors need
//! no arithmetic at all.

use super::draft::{Draft, Fault, computed_in};
use super::walk::Walk;
use kiln_ir::kernel::{Index, ScalarId, ScalarOp};
use kiln_ir::op::{BinaryFn, CoordinateMode, NearestMode, Resize, ResizeMode, UnaryFn};
use kiln_ir::{Node, ValueId};
use kiln_tensor::{DType, Dim};

/// Where samples are taken along one dimension.
enum Taps {
    /// At one place.
    One(Index),
    /// At several places, weighed.
    Several(Vec<(Index, ScalarId)>),
}

pub(super) fn form(draft: &mut Draft, core: &Node, resize: &Resize) -> Result<(), Fault> {
    let index = draft.outer_axes("o", &draft.context.body.ty(core.outputs[0]).shape);
    let stage = draft.stage();
    let mut finish = stage.walk();
    let sampled = sample(&mut finish, resize, core.inputs[0], &index)?;
    let (stored, place) = draft.result(&mut finish, core.outputs[0], &index, sampled)?;
    finish.program.results = vec![stored];
    draft.stages.push(stage.pointwise(finish, vec![place]));
    Ok(())
}

/// The element of a resized value at an index.
fn sample(
    walk: &mut Walk,
    resize: &Resize,
    x: ValueId,
    index: &[Index],
) -> Result<ScalarId, Fault> {
    let ty = walk.context.body.ty(x).clone();
    let dtype = computed_in(ty.dtype);
    let mut taps = Vec::with_capacity(index.len());
    let mut outside: Option<ScalarId> = None;
    for (dim, at) in index.iter().enumerate() {
        let axis = AlongAxis::of(resize, dim, &ty.shape[dim]);
        if axis.unchanged() {
            taps.push(Taps::One(at.clone()));
            continue;
        }
        if let Some(place) = axis.whole_factor(walk, at) {
            taps.push(Taps::One(place));
            continue;
        }
        if resize.antialias && !matches!(resize.mode, ResizeMode::Nearest(_)) && axis.may_shrink() {
            return Err("antialiased resizing to a smaller size has no kernel form".into());
        }
        let coordinate = axis.coordinate(walk, at)?;
        if matches!(resize.coordinates, CoordinateMode::TfCropAndResize { .. }) {
            let beyond = axis.beyond(walk, coordinate)?;
            outside = Some(match outside {
                Some(other) => walk.binary(BinaryFn::Or, other, beyond)?,
                None => beyond,
            });
        }
        taps.push(axis.taps(walk, coordinate, dtype)?);
    }
    let sampled = weighed(walk, x, &taps, &mut Vec::new())?;
    match outside {
        Some(outside) => {
            let extrapolated = if dtype.is_float() {
                walk.float(resize.extrapolation, dtype)
            } else {
                walk.int(resize.extrapolation as i64, dtype)
            };
            walk.select(outside, extrapolated, sampled)
        }
        None => Ok(sampled),
    }
}

/// The sum over all taps of the dimensions after `place`.
fn weighed(
    walk: &mut Walk,
    x: ValueId,
    taps: &[Taps],
    place: &mut Vec<Index>,
) -> Result<ScalarId, Fault> {
    let Some(here) = taps.get(place.len()) else { return walk.value(x, &place.clone()) };
    match here {
        Taps::One(index) => {
            place.push(index.clone());
            let value = weighed(walk, x, taps, place);
            place.pop();
            value
        }
        Taps::Several(several) => {
            let mut sum = None;
            for (index, weight) in several {
                place.push(index.clone());
                let value = weighed(walk, x, taps, place)?;
                place.pop();
                let product = walk.binary(BinaryFn::Mul, value, *weight)?;
                sum = Some(match sum {
                    Some(sum) => walk.binary(BinaryFn::Add, sum, product)?,
                    None => product,
                });
            }
            sum.ok_or_else(|| "a sample has no neighbours".into())
        }
    }
}

/// One dimension of a resize.
struct AlongAxis<'r> {
    resize: &'r Resize,
    dim: usize,
    from: Dim,
    to: Dim,
    scale: Option<f64>,
}

impl<'r> AlongAxis<'r> {
    fn of(resize: &'r Resize, dim: usize, from: &Dim) -> Self {
        let to = resize.sizes[dim].clone();
        let scale = resize.scales.as_ref().and_then(|scales| scales.get(dim).copied());
        AlongAxis { resize, dim, from: from.clone(), to, scale }
    }

    fn unchanged(&self) -> bool {
        let whole = match &self.resize.coordinates {
            CoordinateMode::TfCropAndResize { start, end } => {
                start.get(self.dim) == Some(&0.0) && end.get(self.dim) == Some(&1.0)
            }
            _ => true,
        };
        whole && self.from == self.to && self.scale.is_none_or(|scale| scale == 1.0)
    }

    fn may_shrink(&self) -> bool {
        let factor = self.to.exact_div(&self.from).and_then(|factor| factor.as_const());
        self.scale.map_or(factor.is_none_or(|factor| factor < 1), |scale| scale < 1.0)
    }

    /// The place as an index map, where the sizes differ by a whole factor.
    fn whole_factor(&self, walk: &Walk, at: &Index) -> Option<Index> {
        let ResizeMode::Nearest(mode) = self.resize.mode else { return None };
        let up = self.to.exact_div(&self.from).and_then(|factor| factor.as_const());
        let factor = up.filter(|&factor| {
            factor >= 1 && self.scale.is_none_or(|scale| scale == factor as f64)
        })?;
        let rounds = matches!(mode, NearestMode::RoundPreferCeil | NearestMode::RoundPreferFloor);
        let plain = match self.resize.coordinates {
            // ⌊i/s⌋.
            CoordinateMode::Asymmetric => mode == NearestMode::Floor || factor == 1,
            // Sample i lies less than half a step from element ⌊i/s⌋.
            CoordinateMode::HalfPixel
            | CoordinateMode::HalfPixelSymmetric
            | CoordinateMode::PytorchHalfPixel => rounds || factor == 1,
            _ => false,
        };
        plain.then(|| walk.space().div_mod(at, &Dim::from(factor)).0)
    }

    fn size(&self, walk: &mut Walk, size: &Dim) -> ScalarId {
        match size.as_const() {
            Some(size) => walk.float(size as f64, DType::F64),
            None => {
                let size = walk.index(&Index::Dim(size.clone()));
                walk.push(ScalarOp::Cast(size), DType::F64)
            }
        }
    }

    /// The coordinate in the operand, f64.
    fn coordinate(&self, walk: &mut Walk, at: &Index) -> Result<ScalarId, Fault> {
        use BinaryFn::{Add, Div, Mul, Sub};
        let at = walk.index(at);
        let at = walk.cast(at, DType::F64)?;
        let (from, to) = (self.size(walk, &self.from), self.size(walk, &self.to));
        let constant = |walk: &mut Walk, value: f64| walk.float(value, DType::F64);
        let (zero, half, one) = (constant(walk, 0.0), constant(walk, 0.5), constant(walk, 1.0));
        let scale = match self.scale {
            Some(scale) => constant(walk, scale),
            None => walk.binary(Div, to, from)?,
        };
        let centre = |walk: &mut Walk| -> Result<ScalarId, Fault> {
            let centre = walk.binary(Add, at, half)?;
            walk.binary(Div, centre, scale)
        };
        let half_pixel = |walk: &mut Walk| -> Result<ScalarId, Fault> {
            let centre = centre(walk)?;
            walk.binary(Sub, centre, half)
        };
        let several = walk.binary(BinaryFn::Greater, to, one)?;
        match &self.resize.coordinates {
            CoordinateMode::HalfPixel => half_pixel(walk),
            CoordinateMode::PytorchHalfPixel => {
                let place = half_pixel(walk)?;
                walk.select(several, place, zero)
            }
            CoordinateMode::HalfPixelSymmetric => {
                // The result's centre lies on the operand's.
                let exact = walk.binary(Mul, scale, from)?;
                let adjustment = walk.binary(Div, to, exact)?;
                let rest = walk.binary(Sub, one, adjustment)?;
                let middle = walk.binary(Mul, from, half)?;
                let offset = walk.binary(Mul, middle, rest)?;
                // In this order: a half is taken off last, and what is whole stays so.
                let centre = centre(walk)?;
                let centre = walk.binary(Add, offset, centre)?;
                walk.binary(Sub, centre, half)
            }
            CoordinateMode::Asymmetric => walk.binary(Div, at, scale),
            CoordinateMode::AlignCorners => {
                let exact = match self.scale {
                    Some(_) => walk.binary(Mul, scale, from)?,
                    None => to,
                };
                let (last, steps) = (walk.binary(Sub, from, one)?, walk.binary(Sub, exact, one)?);
                let along = walk.binary(Mul, at, last)?;
                let place = walk.binary(Div, along, steps)?;
                walk.select(several, place, zero)
            }
            CoordinateMode::TfCropAndResize { start, end } => {
                let (start, end) = (start[self.dim], end[self.dim]);
                let (last, steps) = (walk.binary(Sub, from, one)?, walk.binary(Sub, to, one)?);
                let [first, part, middle] =
                    [start, end - start, 0.5 * (start + end)].map(|value| constant(walk, value));
                let first = walk.binary(Mul, first, last)?;
                let along = walk.binary(Mul, at, part)?;
                let along = walk.binary(Mul, along, last)?;
                let along = walk.binary(Div, along, steps)?;
                let place = walk.binary(Add, first, along)?;
                let middle = walk.binary(Mul, middle, last)?;
                walk.select(several, place, middle)
            }
        }
    }

    /// Whether a coordinate lies outside of the operand.
    fn beyond(&self, walk: &mut Walk, coordinate: ScalarId) -> Result<ScalarId, Fault> {
        let zero = walk.float(0.0, DType::F64);
        let below = walk.binary(BinaryFn::Less, coordinate, zero)?;
        let last = self.size(walk, &(self.from.clone() - Dim::from(1i64)));
        let above = walk.binary(BinaryFn::Greater, coordinate, last)?;
        walk.binary(BinaryFn::Or, below, above)
    }

    /// A whole f64 as a place in the operand.
    fn place(&self, walk: &mut Walk, whole: ScalarId, offset: i64) -> Result<Index, Fault> {
        let whole = walk.cast(whole, DType::I64)?;
        let index = Index::Scalar(whole) + Index::Dim(Dim::from(offset));
        let last = self.from.clone() - Dim::from(1i64);
        Ok(Index::Clamp(Box::new(index), Dim::default(), last))
    }

    fn taps(&self, walk: &mut Walk, coordinate: ScalarId, dtype: DType) -> Result<Taps, Fault> {
        let half = walk.float(0.5, DType::F64);
        match self.resize.mode {
            ResizeMode::Nearest(mode) => {
                let whole = match mode {
                    NearestMode::Floor => walk.unary(UnaryFn::Floor, coordinate)?,
                    NearestMode::Ceil => walk.unary(UnaryFn::Ceil, coordinate)?,
                    NearestMode::RoundPreferFloor => {
                        let lower = walk.binary(BinaryFn::Sub, coordinate, half)?;
                        walk.unary(UnaryFn::Ceil, lower)?
                    }
                    NearestMode::RoundPreferCeil => {
                        let upper = walk.binary(BinaryFn::Add, coordinate, half)?;
                        walk.unary(UnaryFn::Floor, upper)?
                    }
                };
                Ok(Taps::One(self.place(walk, whole, 0)?))
            }
            ResizeMode::Linear => {
                let whole = walk.unary(UnaryFn::Floor, coordinate)?;
                let fraction = walk.binary(BinaryFn::Sub, coordinate, whole)?;
                let upper = walk.cast(fraction, dtype)?;
                let one = walk.float(1.0, dtype);
                let lower = walk.binary(BinaryFn::Sub, one, upper)?;
                let (a, b) = (self.place(walk, whole, 0)?, self.place(walk, whole, 1)?);
                Ok(Taps::Several(vec![(a, lower), (b, upper)]))
            }
            ResizeMode::Cubic { a, exclude_outside } => {
                self.cubic(walk, coordinate, a, exclude_outside, dtype)
            }
        }
    }

    /// Keys' cubic convolution over four neighbours.
    fn cubic(
        &self,
        walk: &mut Walk,
        coordinate: ScalarId,
        a: f64,
        exclude_outside: bool,
        dtype: DType,
    ) -> Result<Taps, Fault> {
        use BinaryFn::{Add, Mul, Sub};
        let whole = walk.unary(UnaryFn::Floor, coordinate)?;
        let fraction = walk.binary(Sub, coordinate, whole)?;
        let mut taps = Vec::new();
        let mut total = None;
        for offset in -1i64..=2 {
            let position = walk.float(offset as f64, DType::F64);
            let difference = walk.binary(Sub, fraction, position)?;
            let d = walk.unary(UnaryFn::Abs, difference)?;
            // ((c₃·d + c₂)·d + c₁)·d + c₀, within one step or beyond.
            let coefficients = match offset {
                0 | 1 => [a + 2.0, -(a + 3.0), 0.0, 1.0],
                _ => [a, -5.0 * a, 8.0 * a, -4.0 * a],
            };
            let mut weight = walk.float(coefficients[0], DType::F64);
            for coefficient in &coefficients[1..] {
                weight = walk.binary(Mul, weight, d)?;
                let coefficient = walk.float(*coefficient, DType::F64);
                weight = walk.binary(Add, weight, coefficient)?;
            }
            if exclude_outside {
                let at = walk.binary(Add, whole, position)?;
                let outside = self.beyond(walk, at)?;
                let zero = walk.float(0.0, DType::F64);
                weight = walk.select(outside, zero, weight)?;
            }
            total = Some(match total {
                Some(total) => walk.binary(Add, total, weight)?,
                None => weight,
            });
            taps.push((self.place(walk, whole, offset)?, weight));
        }
        let mut weighed = Vec::with_capacity(taps.len());
        for (place, mut weight) in taps {
            if let Some(total) = total.filter(|_| exclude_outside) {
                weight = walk.binary(BinaryFn::Div, weight, total)?;
            }
            weighed.push((place, walk.cast(weight, dtype)?));
        }
        Ok(Taps::Several(weighed))
    }
}
