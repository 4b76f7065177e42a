//! Arithmetic of the formats that PTX has, on bits.
//!
//! Invariant: every result is rounded once, from the exact one, unless its documentation says otherwise.

mod approximate;
mod format;
mod half;
mod single;

pub(crate) use approximate::{cosine, exp2, hyperbolic_tangent, log2, reciprocal_root, sine};
pub(crate) use format::{
    BF16, E4M3, E5M2, F16, F32, Format, Rounding, TF32, sum_to_odd, to_integer,
};
pub(crate) use half::{
    Small, small_compare_value, small_fma, small_maximum, small_minimum, small_sum,
};
pub(crate) use single::{
    CANONICAL_NAN, FLUSH, SATURATE, f32_add, f32_divide, f32_fma, f32_maximum, f32_minimum,
    f32_mul, f32_reciprocal, f32_root, f32_unary, f64_add, f64_fma, f64_mul, flush,
};
