//! By how much a backend may differ from the reference evaluator, and the comparison itself.
//!
//! Invariant: this is the only place in the project that says so; tests and tools take their
//! bounds from here.
//!
//! # The bound
//!
//! An element `a` of a backend's result agrees with the reference's `b` if
//!
//! ```text
//! |a − b| ≤ relative·|b| + absolute·M
//! ```
//!
//! where `M` is the largest magnitude of the finite elements of the reference's tensor (or of the
//! terms that were added up, where the caller knows it), and
//!
//! ```text
//! absolute = λ·√n·w          relative = 2·u + 8·w + absolute
//! ```
//!
//! with `u` the unit roundoff of the element type, `w` that of the type in which backends compute
//! (binary32 for the 16-bit types, the type itself otherwise), `n` the number of rounded steps
//! behind an element, usually the reduction length, and λ = 6. Integers and `bool` are exact, NaN
//! agrees with NaN and an infinity with itself. Below the smallest normal number of the type an
//! absolute error of that number is allowed, because backends may flush subnormals.
//!
//! # Why
//!
//! *The result's own rounding.* The reference rounds its f64 result once (≤ u·|b|) and so does the
//! backend: 2u. *Elementary functions* of the backends are within 4 units in the last place of the
//! type they compute in: 8w. *Sums.* A sum of n products computed in any order satisfies
//! `|ŝ − s| ≤ γₙ·Σ|xᵢyᵢ|`, `γₙ = nw/(1 − nw)` (Higham, Accuracy and Stability of Numerical
//! Algorithms, 2nd ed., §3.1 and §4.2). That holds always and is far too wide to find mistakes by:
//! rounding errors of both signs cancel. If they are taken as independent with mean zero, then γₙ
//! may be replaced by `λ·√n·w`, and this fails with a probability of at most `2n·exp(−λ²/2)`
//! (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019), 3·10⁻⁸·n for
//! λ = 6. Blocked and vectorised sums, which is what backends use, have fewer steps than n in a row
//! and are better still.
//!
//! The bound is on `Σ|xᵢyᵢ|`, not on `|s|`: where a sum cancels, its relative error has no bound,
//! and a bound in `|b|` alone would fail there. For terms of mixed signs the partial sums, whose
//! roundings are the error, are about as large as the results of their neighbours, which is what
//! `M` stands for; where a tensor's elements are all results of cancellation, the caller passes
//! the magnitude of the terms with [`Tolerance::with_magnitude`].
//!
//! *Transformed tiles.* Winograd's F(2×2, 3×3) has, for n = 9·C products of the convolution, 16 sums of C
//! products of sums: of a tile's 4 elements with signs, and of up to 9 of a filter's with factors from ¼ to 1.
//! For elements of the same size σ_x and σ_w that are independent with mean zero, as above, these have the
//! variances 4·σ_x² and (1 + ¾)²/4·σ_w² ≈ 0.77·σ_w² in the mean; a sum of C of them, whose partial sums grow
//! as √k, has roundings of the variance w²·C²/2 · 3.1·σ_x²·σ_w², and 9 of those are in a result: 14·C²·w².
//! The convolution's own are of w²·(9·C)²/2 = 40·C²·w². So the bound for n = 9·C holds for both. Of elements
//! of very different sizes more is lost: the sizes of a whole tile and filter count, not those of each product.
//!
//! *Several operations.* Errors of successive operations add up like those of successive terms, so
//! for a whole graph `n` is the sum along the longest path ([`rounded_steps`]). This takes it that
//! no operation makes errors larger relative to its result's magnitude. That is true of layers as
//! networks have them; where it is not (a difference of nearly equal tensors, an `ArgReduce` of
//! near ties), no bound of this kind exists.

mod steps;

pub use steps::rounded_steps;

use kiln_tensor::{DType, Tensor};
use std::fmt;
use thiserror::Error;

/// The factor λ of the bound.
const CONFIDENCE: f64 = 6.0;

/// Errors of elementary functions, in unit roundoffs.
const FUNCTION: f64 = 8.0;

/// How far results may be apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Times the magnitude of the element.
    pub relative: f64,
    /// Times the magnitude of the tensor.
    pub absolute: f64,
    /// Added in any case.
    pub floor: f64,
    /// The magnitude of the tensor, if it is not that of its largest element.
    pub magnitude: Option<f64>,
}

impl Tolerance {
    /// Nothing at all.
    pub const EXACT: Tolerance =
        Tolerance { relative: 0.0, absolute: 0.0, floor: 0.0, magnitude: None };

    /// The bound for results of this type after `reduction_length` rounded steps (1 for an
    /// elementwise operation).
    pub fn for_type(dtype: DType, reduction_length: u64) -> Self {
        if !dtype.is_float() {
            return Self::EXACT;
        }
        let working = computed_in(dtype).unit_roundoff();
        let absolute = CONFIDENCE * (reduction_length.max(1) as f64).sqrt() * working;
        let relative = 2.0 * dtype.unit_roundoff() + FUNCTION * working + absolute;
        Tolerance { relative, absolute, floor: smallest_normal(dtype), magnitude: None }
    }

    /// The same with the magnitude of the terms that were added up.
    pub fn with_magnitude(self, magnitude: f64) -> Self {
        Tolerance { magnitude: Some(magnitude), ..self }
    }

    /// The bound between two results that were both computed in the working type, such as a
    /// backend's and another implementation's: each may be that far from the exact one, on either
    /// side of it.
    pub fn between_two(self) -> Self {
        Tolerance {
            relative: 2.0 * self.relative,
            absolute: 2.0 * self.absolute,
            floor: 2.0 * self.floor,
            ..self
        }
    }

    /// Compares a backend's result with the reference's, element by element.
    pub fn compare(&self, actual: &Tensor, expected: &Tensor) -> Result<Comparison, Mismatch> {
        let shape = |tensor: &Tensor| crate::TensorType::of(tensor).to_string();
        if actual.dtype() != expected.dtype() || actual.sizes() != expected.sizes() {
            return Err(Mismatch { actual: shape(actual), expected: shape(expected) });
        }
        if !actual.dtype().is_float() {
            return Ok(compare_exact(actual, expected));
        }
        let (a, b, sizes) = (actual.to_f64(), expected.to_f64(), expected.sizes());
        let largest =
            b.iter().filter(|b| b.is_finite()).fold(0.0, |most: f64, b| most.max(b.abs()));
        let base = self.absolute * self.magnitude.unwrap_or(largest) + self.floor;
        let mut comparison = Comparison { elements: a.len(), failing: 0, worst: None };
        for (place, (&actual, &expected)) in a.iter().zip(&b).enumerate() {
            let same = actual == expected || actual.is_nan() && expected.is_nan();
            let allowed =
                if expected.is_finite() { base + self.relative * expected.abs() } else { 0.0 };
            let error = if same { 0.0 } else { (actual - expected).abs() };
            // NaN is no error that could be compared: it fails.
            let ratio = match error {
                0.0 => 0.0,
                error if error.is_finite() && allowed > 0.0 => error / allowed,
                _ => f64::INFINITY,
            };
            comparison.failing += usize::from(ratio > 1.0);
            if comparison.worst.as_ref().is_none_or(|worst| ratio > worst.ratio) {
                let index = coordinates(place, sizes);
                comparison.worst = Some(Worst { index, actual, expected, allowed, ratio });
            }
        }
        Ok(comparison)
    }
}

/// Integers are compared as they are: f64 does not hold all of them.
fn compare_exact(actual: &Tensor, expected: &Tensor) -> Comparison {
    let size = expected.dtype().size();
    let pairs = actual.bytes().chunks_exact(size).zip(expected.bytes().chunks_exact(size));
    let differing: Vec<usize> =
        pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(place, _)| place).collect();
    let worst = differing.first().map(|&place| Worst {
        index: coordinates(place, expected.sizes()),
        actual: actual.to_f64()[place],
        expected: expected.to_f64()[place],
        allowed: 0.0,
        ratio: f64::INFINITY,
    });
    Comparison { elements: expected.len(), failing: differing.len(), worst }
}

fn coordinates(place: usize, sizes: &[usize]) -> Vec<usize> {
    let mut rest = place;
    let mut index: Vec<usize> = sizes
        .iter()
        .rev()
        .map(|&size| {
            let at = rest % size.max(1);
            rest /= size.max(1);
            at
        })
        .collect();
    index.reverse();
    index
}

/// The type in which backends compute elements of this type.
pub fn computed_in(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

fn smallest_normal(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 6.103515625e-5,
        DType::F64 => f64::MIN_POSITIVE,
        _ => f64::from(f32::MIN_POSITIVE),
    }
}

/// Results of different types cannot be compared.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the result is {actual}, but {expected} was expected")]
pub struct Mismatch {
    /// Type of the backend's result.
    pub actual: String,
    /// Type of the reference's.
    pub expected: String,
}

/// How two results compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// How many elements were compared.
    pub elements: usize,
    /// How many are further apart than allowed.
    pub failing: usize,
    /// The element that is furthest apart for what it is allowed; none of an empty tensor, or of
    /// equal exact ones.
    pub worst: Option<Worst>,
}

impl Comparison {
    /// Whether every element agrees.
    pub fn agrees(&self) -> bool {
        self.failing == 0
    }
}

/// The element that is furthest apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Its coordinates.
    pub index: Vec<usize>,
    /// What the backend computed.
    pub actual: f64,
    /// What the reference computed.
    pub expected: f64,
    /// How far apart they may be.
    pub allowed: f64,
    /// How far apart they are, in multiples of that.
    pub ratio: f64,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} elements differ", self.failing, self.elements)?;
        if let Some(Worst { index, actual, expected, allowed, ratio }) = &self.worst {
            write!(f, "; worst at {index:?}: {actual} instead of {expected}, ")?;
            write!(f, "{ratio:.3} times the allowed {allowed:.3e}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
