//! What can go wrong in a run.
//!
//! Invariant: every message names the input, node or dimension that it is about.

use crate::arena::ArenaError;
use crate::threads::ThreadError;
use kiln_routine::RoutineError;
use kiln_tensor::{Bounds, DType, DimError, Symbol, TensorError, Unequal};
use thiserror::Error;

/// Why a run ended without results.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RunError {
    /// Too many or too few inputs.
    #[error("the model takes {expected} inputs, but {given} were given")]
    InputCount {
        /// Inputs of the model.
        expected: usize,
        /// Inputs that were given.
        given: usize,
    },
    /// An input of another element type.
    #[error("input `{input}` holds {expected}, but {given} was given")]
    InputType {
        /// Name of the input.
        input: String,
        /// Declared type.
        expected: DType,
        /// Given type.
        given: DType,
    },
    /// An input of another shape.
    #[error("input `{input}` has shape [{declared}], but {given:?} was given{because}")]
    InputShape {
        /// Name of the input.
        input: String,
        /// Declared shape.
        declared: String,
        /// Given shape.
        given: Vec<usize>,
        /// Which dimension does not fit and why, with a leading separator; may be empty.
        because: String,
    },
    /// A dimension outside what the model was compiled for.
    #[error("{}`{symbol}` is {value}, but must be {}", found_by(.node), describe(.bounds))]
    OutOfBounds {
        /// The node that found it, unless inputs have it.
        node: Option<String>,
        /// The dimension.
        symbol: Symbol,
        /// Its value.
        value: i64,
        /// Where it must lie.
        bounds: Bounds,
    },
    /// A dimension that an input fixed and that the model computes differently.
    #[error(
        "node `{node}`: dimension `{symbol}` is {value} by the inputs' shapes, but {computed} as \
         computed"
    )]
    Contradiction {
        /// The node that computed it.
        node: String,
        /// The dimension.
        symbol: Symbol,
        /// Value by the inputs.
        value: i64,
        /// Value that was computed.
        computed: i64,
    },
    /// A routine has no result for its operands.
    #[error("node `{node}`: {error}")]
    Routine {
        /// The node.
        node: String,
        /// Why.
        error: RoutineError,
    },
    /// A size has no value.
    #[error("{place}: {error}")]
    Size {
        /// The node or buffer.
        place: String,
        /// Why.
        error: DimError,
    },
    /// A size is negative, or too large to be one.
    #[error("{place}: size {value} is impossible")]
    ImpossibleSize {
        /// The node or buffer.
        place: String,
        /// The size, or what is known of it.
        value: String,
    },
    /// Two sizes that a node needs to be equal are not.
    #[error("node `{node}`: {sizes}")]
    Unequal {
        /// The node.
        node: String,
        /// The sizes.
        sizes: Unequal,
    },
    /// Iterations of a loop that gave results of different shapes.
    #[error("node `{node}`: iterations gave shapes {first:?} and {other:?}, which do not stack")]
    Stack {
        /// The node.
        node: String,
        /// Shape in the first iteration.
        first: Vec<usize>,
        /// Another one.
        other: Vec<usize>,
    },
    /// A copy between buffers of different sizes, or a scan that does not fill its buffer.
    #[error("{place}: {from} bytes do not fill {to} bytes")]
    Bytes {
        /// What was copied.
        place: String,
        /// Bytes to copy.
        from: u64,
        /// Bytes to fill.
        to: u64,
    },
    /// The run needs more memory than it may have.
    #[error(
        "a run with these input shapes needs {needed} bytes, more than the limit of {limit}; \
         use smaller inputs or a higher limit"
    )]
    MemoryLimit {
        /// Bytes that it needs.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// Loops that do not seem to end.
    #[error("the model's loops ran {0} iterations, which is the limit of a run")]
    LoopLimit(u64),
    /// Somebody cancelled the run.
    #[error("the run was cancelled")]
    Cancelled,
    /// No memory.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The threads failed.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// An output could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

fn found_by(node: &Option<String>) -> String {
    match node {
        Some(node) => format!("node `{node}`: "),
        None => "dimension ".to_owned(),
    }
}

fn describe(bounds: &Bounds) -> String {
    match bounds.max {
        Some(max) if max == bounds.min => format!("{max}"),
        Some(max) => format!("from {} to {max}", bounds.min),
        None => format!("at least {}", bounds.min),
    }
}
