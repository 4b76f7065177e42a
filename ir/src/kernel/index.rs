//! Index expressions: where in an operand a point of the iteration domain reads or writes.
//!
//! Invariant: an index is an integer function of axes, dimensions and integer scalars computed
//! earlier in the same program; [`Index::affine`] finds the affine form if there is one.

use super::ScalarId;
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Add;

/// An integer expression over the axes of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Index {
    /// The value of an axis, by number: outer axes first, then the stage's own.
    Axis(usize),
    /// A value that is fixed for a launch.
    Dim(Dim),
    /// An integer scalar computed earlier in the program that the index stands in (a gather).
    Scalar(ScalarId),
    /// A sum.
    Add(Box<Index>, Box<Index>),
    /// A multiple.
    Mul(Box<Index>, Dim),
    /// The quotient by a positive divisor, rounded towards minus infinity.
    FloorDiv(Box<Index>, Dim),
    /// The remainder of that quotient, in `0..divisor`.
    Mod(Box<Index>, Dim),
    /// The value forced into `low..=high`.
    Clamp(Box<Index>, Dim, Dim),
}

/// A sum of axes with coefficients, and an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affine {
    /// Coefficient of each axis that occurs; none is zero.
    pub coefficients: BTreeMap<usize, Dim>,
    /// What is added.
    pub offset: Dim,
}

impl Index {
    /// The constant index 0.
    pub fn zero() -> Self {
        Index::Dim(Dim::default())
    }

    /// The expression times `factor`.
    pub fn times(self, factor: impl Into<Dim>) -> Self {
        let factor = factor.into();
        match (self, factor.as_const()) {
            (index, Some(1)) => index,
            (_, Some(0)) => Index::zero(),
            (Index::Dim(dim), _) => Index::Dim(dim * factor),
            (index, _) => Index::Mul(Box::new(index), factor),
        }
    }

    /// The quotient by a positive divisor, rounded down.
    pub fn floor_div(self, divisor: impl Into<Dim>) -> Self {
        let divisor = divisor.into();
        match self {
            index if divisor.is(1) => index,
            Index::Dim(dim) => Index::Dim(dim.floor_div(&divisor)),
            index => Index::FloorDiv(Box::new(index), divisor),
        }
    }

    /// The remainder by a positive divisor.
    pub fn modulo(self, divisor: impl Into<Dim>) -> Self {
        let divisor = divisor.into();
        match self {
            _ if divisor.is(1) => Index::zero(),
            Index::Dim(dim) => Index::Dim(dim.modulo(&divisor)),
            index => Index::Mod(Box::new(index), divisor),
        }
    }

    /// The affine form, if the expression has one.
    pub fn affine(&self) -> Option<Affine> {
        match self {
            Index::Axis(axis) => Some(Affine {
                coefficients: BTreeMap::from([(*axis, Dim::from(1i64))]),
                offset: Dim::default(),
            }),
            Index::Dim(dim) => Some(Affine { coefficients: BTreeMap::new(), offset: dim.clone() }),
            Index::Add(a, b) => Some(a.affine()?.plus(b.affine()?)),
            Index::Mul(a, factor) => Some(a.affine()?.times(factor)),
            Index::Scalar(_) | Index::FloorDiv(..) | Index::Mod(..) | Index::Clamp(..) => None,
        }
    }

    /// The same expression with axes and scalars replaced.
    pub fn map(
        &self,
        axis: &impl Fn(usize) -> Index,
        scalar: &impl Fn(ScalarId) -> ScalarId,
    ) -> Index {
        let again = |index: &Index| Box::new(index.map(axis, scalar));
        match self {
            Index::Axis(number) => axis(*number),
            Index::Dim(dim) => Index::Dim(dim.clone()),
            Index::Scalar(id) => Index::Scalar(scalar(*id)),
            Index::Add(a, b) => a.map(axis, scalar) + b.map(axis, scalar),
            Index::Mul(a, factor) => a.map(axis, scalar).times(factor.clone()),
            Index::FloorDiv(a, divisor) => Index::FloorDiv(again(a), divisor.clone()),
            Index::Mod(a, divisor) => Index::Mod(again(a), divisor.clone()),
            Index::Clamp(a, low, high) => Index::Clamp(again(a), low.clone(), high.clone()),
        }
    }
}

impl Affine {
    fn plus(mut self, other: Affine) -> Affine {
        for (axis, coefficient) in other.coefficients {
            let slot = self.coefficients.entry(axis).or_default();
            *slot = std::mem::take(slot) + coefficient;
        }
        self.coefficients.retain(|_, coefficient| !coefficient.is(0));
        self.offset = self.offset + other.offset;
        self
    }

    fn times(mut self, factor: &Dim) -> Affine {
        for coefficient in self.coefficients.values_mut() {
            *coefficient = std::mem::take(coefficient) * factor.clone();
        }
        self.coefficients.retain(|_, coefficient| !coefficient.is(0));
        self.offset = self.offset * factor.clone();
        self
    }

    /// The coefficient of an axis; zero if it does not occur.
    pub fn coefficient(&self, axis: usize) -> Dim {
        self.coefficients.get(&axis).cloned().unwrap_or_default()
    }
}

impl Add for Index {
    type Output = Index;

    fn add(self, other: Index) -> Index {
        match (self, other) {
            (Index::Dim(a), Index::Dim(b)) => Index::Dim(a + b),
            (Index::Dim(zero), index) | (index, Index::Dim(zero)) if zero.is(0) => index,
            (a, b) => Index::Add(Box::new(a), Box::new(b)),
        }
    }
}

impl From<Dim> for Index {
    fn from(dim: Dim) -> Self {
        Index::Dim(dim)
    }
}

/// Axes print as `a0`, `a1`, …, scalars as `s0`, `s1`, ….
impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Index::Axis(axis) => write!(f, "a{axis}"),
            Index::Dim(dim) => write!(f, "{{{dim}}}"),
            Index::Scalar(id) => write!(f, "s{}", id.0),
            Index::Add(a, b) => write!(f, "{a} + {b}"),
            Index::Mul(a, factor) => write!(f, "({a})*{{{factor}}}"),
            Index::FloorDiv(a, divisor) => write!(f, "floordiv({a}, {{{divisor}}})"),
            Index::Mod(a, divisor) => write!(f, "mod({a}, {{{divisor}}})"),
            Index::Clamp(a, low, high) => write!(f, "clamp({a}, {{{low}}}, {{{high}}})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_forms_merge_axes_and_reject_quotients() {
        let n = Dim::named("n");
        let index = Index::Axis(0).times(n.clone()) + Index::Axis(1).times(2i64) + Index::Axis(0);
        let affine = index.affine().unwrap();
        assert_eq!(affine.coefficient(0), n + Dim::from(1i64));
        assert_eq!(affine.coefficient(1), Dim::from(2i64));
        assert_eq!(affine.coefficient(7), Dim::default());
        assert!(Index::Axis(0).floor_div(2i64).affine().is_none());
        let cancelled = Index::Axis(0) + Index::Axis(0).times(-1i64);
        assert!(cancelled.affine().unwrap().coefficients.is_empty());
    }
}
