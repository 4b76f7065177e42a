//! Why a graph has no program.
//!
//! Invariant: names the node, or is a fault of planning itself that validation found.

use crate::form::FormError;
use kiln_program::ProgramError;
use std::sync::Arc;
use thiserror::Error;

/// Why a graph could not be planned.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PlanError {
    /// A node has no kernel.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The weights are larger than can be addressed.
    #[error("the weights take more than 2^63 bytes")]
    WeightsTooLarge,
    /// A constant holds what is not a string.
    #[error("a constant holds an object that is no string")]
    Object,
    /// A node is not as its operation says.
    #[error("{op}{}: {reason}", source_note(.source_node))]
    Malformed {
        /// Name of the operation.
        op: &'static str,
        /// The model's node, if known.
        source_node: Option<Arc<str>>,
        /// What is missing.
        reason: String,
    },
    /// The program contradicts itself.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

fn source_note(source: &Option<Arc<str>>) -> String {
    source.as_ref().map(|source| format!(" (from `{source}`)")).unwrap_or_default()
}
