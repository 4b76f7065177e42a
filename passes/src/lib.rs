//! Graph to graph, graph to kernels, kernels to program.
//!
//! Invariant: every pass is a pure function from one data type to the next.

pub mod egraph;
mod error;
pub mod form;
mod integers;
mod late;
mod layout;
mod picture;
pub mod plan;
mod region;
pub mod simplify;
mod structure;
pub mod tile;
mod unify;

pub use egraph::{CostModel, EGraphOptions, Effort, Report, optimise};
pub use error::PassError;
pub use form::{FormError, Formed, form};
pub use picture::picture;
pub use plan::{Plan, PlanError, PlanOptions, Weight, plan};
pub use simplify::{IntegerProducts, simplify, simplify_for};
pub use tile::{TileTarget, tile};
pub use unify::unify;
