//! The runtime: loads compiled models and runs them. It links no compiler.
//!
//! Invariant: what is loaded was checked before it is believed; running relies on those checks.

pub mod arena;
pub mod loader;
pub mod threads;
