//! Kernels and schedules to machine code.
//!
//! Invariant: one loop-nest lowering ([`nest::lower`]) serves every code generator, and no code
//! generator knows any kind of kernel.

pub mod nest;
pub mod target;

pub use target::{Target, TargetError};
