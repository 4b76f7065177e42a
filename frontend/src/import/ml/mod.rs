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
mod maps;
mod scores;
mod support_vectors;
mod trees;
mod walk;

use super::operator::Entry;

/// The operators of each family.
pub(super) fn families() -> Vec<&'static [Entry]> {
    vec![
        features::OPERATORS,
        labels::OPERATORS,
        linear::OPERATORS,
        maps::OPERATORS,
        support_vectors::OPERATORS,
        trees::OPERATORS,
    ]
}
