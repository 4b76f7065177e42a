//! Classical machine learning, the domain ai.onnx.ml: features, linear models, support vectors and
//! trees, composed of the same core operations as everything else.
//!
//! Invariant: what a model is trained to is constant, so tables are laid out here, once, and what
//! is left for a run are contractions, gathers and elementwise operations over all rows at once.

mod attributes;
mod features;
mod forest;
mod labels;
mod linear;
mod scores;
mod support_vectors;
mod trees;
mod walk;

pub(super) use features::OPERATORS as FEATURES;
pub(super) use labels::OPERATORS as LABELS;
pub(super) use linear::OPERATORS as LINEAR;
pub(super) use support_vectors::OPERATORS as SUPPORT_VECTORS;
pub(super) use trees::OPERATORS as TREES;
