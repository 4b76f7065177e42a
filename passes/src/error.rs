//! What can go wrong in a pass.
//!
//! Invariant: every error names the pass and what it was doing; a pass never panics on a graph that
//! the verifier accepts.

use kiln_ir::{GraphError, TensorType};
use thiserror::Error;

/// Why a pass could not finish.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PassError {
    /// A rewritten graph was not well-formed.
    #[error("{pass}: {error}")]
    Graph {
        /// The pass.
        pass: &'static str,
        /// What the graph refused.
        error: GraphError,
    },
    /// A replacement has another type than what it stands for.
    #[error("{pass}: {op} gives {expected}, its replacement gives {actual}")]
    TypeChanged {
        /// The pass.
        pass: &'static str,
        /// Name of the operation that was replaced.
        op: &'static str,
        /// The type that uses rely on.
        expected: TensorType,
        /// The type of the replacement.
        actual: TensorType,
    },
    /// A value is used before it was rebuilt, which a well-formed graph rules out.
    #[error("{pass}: value %{value} is used before it is computed")]
    Order {
        /// The pass.
        pass: &'static str,
        /// The value.
        value: u32,
    },
    /// The e-graph has no way to compute an output, which a well-formed graph rules out.
    #[error("extract: an output of region {region} has no finite cost")]
    NoExtraction {
        /// Number of the region.
        region: usize,
    },
}
