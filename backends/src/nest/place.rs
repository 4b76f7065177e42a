//! Where an access lies in memory: index expressions as sums over loop variables and lanes.
//!
//! Invariant: an [`Offset`] is exact; whether lanes are equal, adjacent, strided or scattered is read
//! off its form and never guessed.

use super::build::{Builder, gcd};
use super::{BinaryOp, Element, Op, Predicate, Type, ValueId};
use kiln_ir::kernel::Index;
use kiln_ir::schedule::{PackedLayout, Part};
use kiln_tensor::Dim;
use std::collections::BTreeMap;

/// An integer for each lane: `Σ term·coefficient + constant + lane·stride + scattered[lane]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Offset {
    terms: BTreeMap<ValueId, Dim>,
    constant: Dim,
    stride: Dim,
    scattered: Option<ValueId>,
}

impl From<Dim> for Offset {
    fn from(constant: Dim) -> Self {
        Offset { constant, ..Offset::default() }
    }
}

impl Offset {
    /// A scalar index.
    pub(super) fn value(build: &Builder, value: ValueId) -> Self {
        match build.as_const(value) {
            Some(constant) => Dim::from(constant).into(),
            None => {
                Offset { terms: BTreeMap::from([(value, Dim::from(1i64))]), ..Offset::default() }
            }
        }
    }

    /// Adds this many points.
    pub(super) fn shifted(mut self, by: i64) -> Self {
        self.constant = self.constant + Dim::from(by);
        self
    }

    /// Lane `l` adds `l`.
    pub(super) fn along_lanes(mut self) -> Self {
        self.stride = self.stride + Dim::from(1i64);
        self
    }

    /// The stride from lane to lane, unless lanes are scattered.
    pub(super) fn stride(&self) -> Option<&Dim> {
        self.scattered.is_none().then_some(&self.stride)
    }

    /// Whether all lanes are equal.
    pub(super) fn is_uniform(&self) -> bool {
        self.scattered.is_none() && self.stride.is(0)
    }

    /// Whether it is another offset and `by` more in every lane, for all that is known.
    pub(super) fn follows(&self, other: &Offset, by: i64) -> bool {
        self.scattered.is_none()
            && other.scattered.is_none()
            && self.terms == other.terms
            && self.stride == other.stride
            && (self.constant.clone() - other.constant.clone()).is(by)
    }

    pub(super) fn plus(mut self, other: Offset, build: &mut Builder) -> Offset {
        for (value, coefficient) in other.terms {
            let slot = self.terms.entry(value).or_default();
            *slot = std::mem::take(slot) + coefficient;
        }
        self.terms.retain(|_, coefficient| !coefficient.is(0));
        self.constant = self.constant + other.constant;
        self.stride = self.stride + other.stride;
        self.scattered = match (self.scattered, other.scattered) {
            (Some(a), Some(b)) => Some(build.pure(Op::Binary(BinaryOp::Add, a, b), build.ty(a))),
            (a, b) => a.or(b),
        };
        self
    }

    pub(super) fn times(mut self, factor: &Dim, build: &mut Builder) -> Offset {
        for coefficient in self.terms.values_mut() {
            *coefficient = std::mem::take(coefficient) * factor.clone();
        }
        self.terms.retain(|_, coefficient| !coefficient.is(0));
        self.constant = self.constant * factor.clone();
        self.stride = self.stride * factor.clone();
        self.scattered = self.scattered.map(|value| {
            let ty = build.ty(value);
            let factor = build.dim(factor);
            let factor = build.pure(Op::Splat(factor), ty);
            build.pure(Op::Binary(BinaryOp::Mul, value, factor), ty)
        });
        self
    }

    /// The value in lane 0 apart from what is scattered. Terms from far out are summed first, so
    /// that inner loops add little; a literal constant comes last, where it folds into the
    /// instruction's displacement.
    pub(super) fn base(&self, build: &mut Builder) -> ValueId {
        let literal = literal_part(&self.constant);
        let symbolic = self.constant.clone() - Dim::from(literal);
        let mut sum = build.dim(&symbolic);
        let mut terms: Vec<_> = self.terms.iter().collect();
        terms.sort_by_key(|(value, _)| (build.depth(**value), **value));
        for (value, coefficient) in terms {
            let coefficient = build.dim(coefficient);
            let product = build.mul(*value, coefficient);
            sum = build.add(sum, product);
        }
        let literal = build.index(literal);
        build.add(sum, literal)
    }

    /// [`Offset::base`] where the scalar mask holds, else a place near the start. Neighbours share
    /// the choice: it is made before the low part of the literal is added.
    pub(super) fn base_if(&self, mask: ValueId, build: &mut Builder) -> ValueId {
        let low = literal_part(&self.constant).rem_euclid(NEIGHBOURS);
        let rest = Offset { constant: self.constant.clone() - Dim::from(low), ..self.clone() };
        let (base, start) = (rest.base(build), build.index(0));
        let chosen = build.select(mask, base, start);
        let low = build.index(low);
        build.add(chosen, low)
    }

    /// The value of every lane, as a vector of i64.
    pub(super) fn lanes(&self, lanes: u32, build: &mut Builder) -> ValueId {
        let ty = Type::new(Element::I64, lanes);
        let base = self.base(build);
        let mut sum = build.pure(Op::Splat(base), ty);
        if !self.stride.is(0) {
            let mut along = build.pure(Op::LaneNumbers, ty);
            if !self.stride.is(1) {
                let stride = build.dim(&self.stride);
                let stride = build.pure(Op::Splat(stride), ty);
                along = build.pure(Op::Binary(BinaryOp::Mul, along, stride), ty);
            }
            sum = build.pure(Op::Binary(BinaryOp::Add, sum, along), ty);
        }
        match self.scattered {
            Some(value) => build.pure(Op::Binary(BinaryOp::Add, sum, value), ty),
            None => sum,
        }
    }

    /// Quotient and remainder by a positive divisor, rounded down.
    pub(super) fn divide(
        &self,
        divisor: &Dim,
        lanes: u32,
        build: &mut Builder,
    ) -> (Offset, Offset) {
        if let Some(split) = self.divide_by_parts(divisor, lanes, build) {
            return split;
        }
        if self.is_uniform() {
            let value = self.base(build);
            let divisor = build.dim(divisor);
            let quotient = build.floor_div(value, divisor);
            let remainder = build.floor_mod(value, divisor);
            return (Offset::value(build, quotient), Offset::value(build, remainder));
        }
        if self.stays_in_block(divisor, lanes, build) {
            // The same for all lanes: the lanes only move on inside the block.
            let first = Offset { stride: Dim::default(), ..self.clone() };
            let (quotient, mut remainder) = first.divide(divisor, 1, build);
            remainder.stride = self.stride.clone();
            return (quotient, remainder);
        }
        let value = self.lanes(lanes, build);
        let divisor = build.dim(divisor);
        let (quotient, remainder) = divide_lanes(value, divisor, build);
        let scattered = |value| Offset { scattered: Some(value), ..Offset::default() };
        (scattered(quotient), scattered(remainder))
    }

    /// Whether all lanes have the same quotient: what is not literal is a multiple of a divisor of
    /// the block, and the literal leaves the lanes room before the next multiple.
    fn stays_in_block(&self, block: &Dim, lanes: u32, build: &Builder) -> bool {
        let (Some(block), Some(stride)) = (block.as_const(), self.stride.as_const()) else {
            return false;
        };
        let literal = literal_part(&self.constant);
        if self.scattered.is_some() || block <= 0 || !self.constant.is(literal) {
            return false;
        }
        let multiples = self.terms.iter().map(|(value, coefficient)| {
            let coefficient = coefficient.as_const().unwrap_or(1);
            build.divisor(*value).checked_mul(coefficient).unwrap_or(1)
        });
        let room = multiples.fold(block, gcd);
        let reach = stride.checked_mul(i64::from(lanes) - 1);
        let first = literal.rem_euclid(room);
        reach
            .and_then(|reach| first.checked_add(reach))
            .is_some_and(|last| (0..room).contains(&last))
    }

    /// Splits off what the divisor divides; the rest must be a literal that, over all lanes, stays
    /// within one multiple of the divisor.
    fn divide_by_parts(
        &self,
        divisor: &Dim,
        lanes: u32,
        build: &mut Builder,
    ) -> Option<(Offset, Offset)> {
        let d = divisor.as_const().filter(|&d| d > 0);
        let mut quotient = Offset::default();
        for (value, coefficient) in &self.terms {
            let term = if let Some(exact) = coefficient.exact_div(divisor) {
                Offset { terms: BTreeMap::from([(*value, exact)]), ..Offset::default() }
            } else {
                let d = d.filter(|d| build.divisor(*value) % d == 0)?;
                let d = build.index(d);
                let exact = build.floor_div(*value, d);
                Offset::value(build, exact).times(coefficient, build)
            };
            quotient = quotient.plus(term, build);
        }
        if self.scattered.is_some() {
            return None;
        }
        let literal = literal_part(&self.constant);
        let symbolic = self.constant.clone() - Dim::from(literal);
        quotient.constant = symbolic.exact_div(divisor)?;
        let rest = match d {
            Some(d) => {
                quotient.constant = quotient.constant + Dim::from(literal.div_euclid(d));
                literal.rem_euclid(d)
            }
            None if literal == 0 && self.stride.is(0) => 0,
            None => return None,
        };
        let reach = self.stride.as_const()?.checked_mul(i64::from(lanes) - 1)?;
        let within = self.stride.is(0) || d.is_some_and(|d| (0..d).contains(&(rest + reach)));
        within.then(|| {
            let remainder = Offset {
                constant: Dim::from(rest),
                stride: self.stride.clone(),
                ..Offset::default()
            };
            (quotient, remainder)
        })
    }
}

/// Elements in which neighbours of a register tile lie: a few vectors of each row.
const NEIGHBOURS: i64 = 512;

fn literal_part(dim: &Dim) -> i64 {
    dim.terms().iter().find(|(monomial, _)| monomial.is_empty()).map_or(0, |(_, value)| *value)
}

/// Floored quotient and remainder of a vector of i64 by a scalar.
fn divide_lanes(value: ValueId, divisor: ValueId, build: &mut Builder) -> (ValueId, ValueId) {
    let ty = build.ty(value);
    let mask = Type::new(Element::Mask, ty.lanes);
    let one = build.index(1);
    let divisor = build.max(divisor, one);
    let less = build.sub(divisor, one);
    let [zero, divisor, less] =
        [build.index(0), divisor, less].map(|v| build.pure(Op::Splat(v), ty));
    let negative = build.pure(Op::Compare(Predicate::Less, value, zero), mask);
    let shifted = build.pure(Op::Binary(BinaryOp::Sub, value, less), ty);
    let numerator = build.pure(Op::Select(negative, shifted, value), ty);
    // The divisor is at least 1: never 0 or −1, as `DivSigned` asks.
    let quotient = build.pure(Op::Binary(BinaryOp::DivSigned, numerator, divisor), ty);
    let whole = build.pure(Op::Binary(BinaryOp::Mul, quotient, divisor), ty);
    let remainder = build.pure(Op::Binary(BinaryOp::Sub, value, whole), ty);
    (quotient, remainder)
}

/// The offset that an index expression stands for, at one point of the register tile.
pub(super) fn offset_of(
    index: &Index,
    axis: &impl Fn(usize) -> Option<Offset>,
    scalar: &mut impl FnMut(kiln_ir::kernel::ScalarId, &mut Builder) -> Option<ValueId>,
    lanes: u32,
    build: &mut Builder,
) -> Option<Offset> {
    Some(match index {
        Index::Axis(number) => axis(*number)?,
        Index::Dim(dim) => dim.clone().into(),
        Index::Scalar(id) => {
            let value = scalar(*id, build)?;
            match build.ty(value).lanes {
                1 => Offset::value(build, value),
                _ => Offset { scattered: Some(value), ..Offset::default() },
            }
        }
        Index::Add(a, b) => {
            let a = offset_of(a, axis, scalar, lanes, build)?;
            let b = offset_of(b, axis, scalar, lanes, build)?;
            a.plus(b, build)
        }
        Index::Mul(a, factor) => offset_of(a, axis, scalar, lanes, build)?.times(factor, build),
        Index::FloorDiv(a, divisor) => {
            offset_of(a, axis, scalar, lanes, build)?.divide(divisor, lanes, build).0
        }
        Index::Mod(a, divisor) => {
            offset_of(a, axis, scalar, lanes, build)?.divide(divisor, lanes, build).1
        }
        Index::Clamp(a, low, high) => {
            let a = offset_of(a, axis, scalar, lanes, build)?;
            let (low, high) = (build.dim(low), build.dim(high));
            if a.is_uniform() {
                let base = a.base(build);
                let raised = build.max(base, low);
                let clamped = build.min(raised, high);
                Offset::value(build, clamped)
            } else {
                let value = a.lanes(lanes, build);
                let ty = build.ty(value);
                let [low, high] = [low, high].map(|bound| build.pure(Op::Splat(bound), ty));
                let raised = build.pure(Op::Binary(BinaryOp::MaxSigned, value, low), ty);
                let clamped = build.pure(Op::Binary(BinaryOp::MinSigned, raised, high), ty);
                Offset { scattered: Some(clamped), ..Offset::default() }
            }
        }
    })
}

/// The place of an element in a row-major array.
pub(super) fn row_major(indices: Vec<Offset>, extents: &[Dim], build: &mut Builder) -> Offset {
    let mut place = Offset::default();
    for (index, extent) in indices.into_iter().zip(extents) {
        place = place.times(extent, build).plus(index, build);
    }
    place
}

/// The place of an element in a blocked layout.
pub(super) fn packed(
    indices: &[Offset],
    shape: &[Dim],
    layout: &PackedLayout,
    lanes: u32,
    build: &mut Builder,
) -> Option<Offset> {
    let mut levels = Vec::with_capacity(layout.levels.len());
    for (dim, part) in &layout.levels {
        let index = indices.get(*dim)?;
        let block = |size: &u64| i64::try_from(*size).ok().filter(|size| *size > 0).map(Dim::from);
        levels.push(match part {
            Part::Whole => index.clone(),
            Part::Outer(size) => index.divide(&block(size)?, lanes, build).0,
            Part::Inner(size) => index.divide(&block(size)?, lanes, build).1,
        });
    }
    Some(row_major(levels, &layout.extents(shape), build))
}
