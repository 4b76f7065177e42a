//! The approximations of PTX (`ex2.approx` and its kin), computed in `f64` and rounded once.
//!
//! Invariant: a result is the nearest `f32` to the function's value, so its error is within every bound that the
//! PTX ISA gives (2 ulp and relative errors of 2⁻²² or so; for `sin.approx` an absolute 2⁻²⁰·⁹). A GPU's last bits
//! differ: tests that compare with one have to allow for the documented bounds.

/// 2ˣ.
pub(crate) fn exp2(x: f32) -> f64 {
    f64::from(x).exp2()
}

/// log₂ x.
pub(crate) fn log2(x: f32) -> f64 {
    f64::from(x).log2()
}

/// sin x.
pub(crate) fn sine(x: f32) -> f64 {
    f64::from(x).sin()
}

/// cos x.
pub(crate) fn cosine(x: f32) -> f64 {
    f64::from(x).cos()
}

/// tanh x.
pub(crate) fn hyperbolic_tangent(x: f32) -> f64 {
    f64::from(x).tanh()
}

/// 1/√x.
pub(crate) fn reciprocal_root(x: f32) -> f64 {
    if x == 0.0 { f64::INFINITY.copysign(f64::from(x)) } else { 1.0 / f64::from(x).sqrt() }
}
