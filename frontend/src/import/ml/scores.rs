//! What is made of the scores of a linear model, of support vectors or of trees.
//!
//! Invariant: rows are scored alone, so everything here is along the last of two dimensions.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::Dim;
use std::f64::consts::{PI, SQRT_2};

/// What is applied to scores in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

/// A score for the other of two classes, where a model gives only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// `1 − s`: a probability.
    Complement,
    /// `−s`: a distance.
    Opposite,
}

impl Transform {
    /// By name, as most operators have it.
    pub(super) fn of(x: &Use<'_, '_, '_>) -> Result<Transform, Fault> {
        Ok(match x.string_or("post_transform", "NONE")? {
            "NONE" => Transform::None,
            "SOFTMAX" => Transform::Softmax,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            "PROBIT" => Transform::Probit,
            other => {
                return Err(Fault::malformed(format!("post_transform `{other}` is not known")));
            }
        })
    }

    /// By number, as `TreeEnsemble` has it.
    pub(super) fn numbered(number: i64) -> Result<Transform, Fault> {
        use Transform::*;
        let all = [None, Softmax, Logistic, SoftmaxZero, Probit];
        let found = usize::try_from(number).ok().and_then(|number| all.get(number));
        found
            .copied()
            .ok_or_else(|| Fault::malformed(format!("post_transform {number} is not known")))
    }

    /// Applies it to rows of several scores.
    pub(super) fn apply(self, x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
        match self {
            Transform::None => Ok(v),
            Transform::Softmax => x.add(op::Softmax { axis: 1 }, &[v]),
            Transform::Logistic => x.unary(UnaryFn::Sigmoid, v),
            Transform::SoftmaxZero => softmax_zero(x, v),
            Transform::Probit => probit(x, v),
        }
    }

    /// Applies it to the one score of each row, of which two may be made.
    pub(super) fn apply_to_one(
        self,
        x: &mut Use<'_, '_, '_>,
        v: V,
        other: Option<Other>,
    ) -> Result<V, Fault> {
        let v = if self == Transform::Probit { probit(x, v)? } else { v };
        let pair = match other {
            None => return Ok(v),
            Some(_) if self == Transform::Logistic => {
                let opposite = x.unary(UnaryFn::Neg, v)?;
                [x.unary(UnaryFn::Sigmoid, opposite)?, x.unary(UnaryFn::Sigmoid, v)?]
            }
            Some(Other::Complement) if self != Transform::Probit => {
                let one = x.scalar(x.dtype(v), 1.0)?;
                [x.binary(BinaryFn::Sub, one, v)?, v]
            }
            // The probit of a probability's complement is the opposite one.
            Some(_) => [x.unary(UnaryFn::Neg, v)?, v],
        };
        x.add(op::Concat { axis: 1 }, &pair)
    }
}

/// A softmax of which scores of 0 have no part.
fn softmax_zero(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    const NOTHING: f64 = 1e-7;
    let greatest = x.reduce(ReduceFn::Max, v, vec![1], true)?;
    let absolute = x.unary(UnaryFn::Abs, v)?;
    let counts = x.with_number(BinaryFn::Greater, absolute, NOTHING)?;
    let shifted = x.binary(BinaryFn::Sub, v, greatest)?;
    let exponential = x.unary(UnaryFn::Exp, shifted)?;
    let opposite = x.unary(UnaryFn::Neg, greatest)?;
    let least = x.unary(UnaryFn::Exp, opposite)?;
    let small = x.binary(BinaryFn::Mul, v, least)?;
    let zero = x.scalar(x.dtype(v), 0.0)?;
    let counted = x.select(counts, exponential, zero)?;
    let sum = x.reduce(ReduceFn::Sum, counted, vec![1], true)?;
    let parts = x.select(counts, exponential, small)?;
    x.binary(BinaryFn::Div, parts, sum)
}

/// `√2·erf⁻¹(2p − 1)`, by Winitzki's approximation, as every implementation has it.
fn probit(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    const A: f64 = 0.147;
    let doubled = x.with_number(BinaryFn::Mul, v, 2.0)?;
    let centred = x.with_number(BinaryFn::Sub, doubled, 1.0)?;
    let one = x.scalar(x.dtype(v), 1.0)?;
    let (less, more) =
        (x.binary(BinaryFn::Sub, one, centred)?, x.binary(BinaryFn::Add, one, centred)?);
    let product = x.binary(BinaryFn::Mul, less, more)?;
    let logarithm = x.unary(UnaryFn::Log, product)?;
    let halved = x.with_number(BinaryFn::Mul, logarithm, 0.5)?;
    let sum = x.with_number(BinaryFn::Add, halved, 2.0 / (PI * A))?;
    let scaled = x.with_number(BinaryFn::Mul, logarithm, 1.0 / A)?;
    let square = x.binary(BinaryFn::Mul, sum, sum)?;
    let inside = x.binary(BinaryFn::Sub, square, scaled)?;
    let root = x.unary(UnaryFn::Sqrt, inside)?;
    let difference = x.binary(BinaryFn::Sub, root, sum)?;
    let root = x.unary(UnaryFn::Sqrt, difference)?;
    let result = x.with_number(BinaryFn::Mul, root, SQRT_2)?;
    let negative = x.with_number(BinaryFn::Less, centred, 0.0)?;
    let opposite = x.unary(UnaryFn::Neg, result)?;
    x.select(negative, opposite, result)
}

/// The class of each row with the greatest score, the first of equal ones.
pub(super) fn best(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    x.add(op::ArgReduce { f: ReduceFn::Max, axis: 1, keep: false, last: false }, &[v])
}

/// One score of each row.
pub(super) fn column(x: &mut Use<'_, '_, '_>, v: V, number: usize) -> Result<V, Fault> {
    let batch = x.shape(v)[0].clone();
    let starts = vec![Dim::from(0i64), Dim::from(number)];
    let sizes = vec![batch, Dim::from(1i64)];
    x.add(op::Slice { starts, sizes, steps: vec![1; 2] }, &[v])
}

/// Scores without their second dimension, which is 1.
pub(super) fn flat(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let batch = x.shape(v)[0].clone();
    x.reshape(v, vec![batch])
}
