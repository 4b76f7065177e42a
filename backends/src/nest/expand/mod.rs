//! Functions that no instruction computes, expanded into primitive arithmetic.
//!
//! Invariant: no libcall and no table; the same expansion serves every code generator, so that all
//! agree bit for bit up to fused multiply-adds. Errors, in units in the last place of the element
//! type, on the whole range unless said otherwise:
//!
//! | function | error |
//! |---|---|
//! | exp | 2; results below the least normal number are 0 |
//! | log | 2 |
//! | sin, cos, tan | 2 where the result is not near 0, and in f64 \|x\| < 10⁸ |
//! | remainders | 0 |
//! | asin, acos, atan, sinh, cosh, tanh, sigmoid, erf | 4 |
//! | asinh, acosh, atanh | 8 |
//! | pow | 1 in f32; in f64 2 + \|b·ln a\| |

mod error_function;
mod exponential;
mod half;
mod hyperbolic;
mod power;
mod quarter_turns;
mod remainder;
mod small;
mod trigonometric;
