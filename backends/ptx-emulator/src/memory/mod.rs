//! Memory whose every byte knows whether it was written.
//!
//! Invariant: an access is inside of one allocation, or it is an error; nothing is ever read past one.

mod clocks;
mod global;
mod shared;
mod written;

pub(crate) use clocks::{Clock, Clocks, Joined, Stamp};
pub(crate) use global::Global;
pub(crate) use shared::{Access, Shared};
pub(crate) use written::Written;
