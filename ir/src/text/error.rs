//! What is wrong with a text, and where.
//!
//! Invariant: line and column count from 1 and point into the text that was parsed.

use crate::graph::{GraphError, TensorType};
use thiserror::Error;

/// Why a text is not a graph.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a text.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ParseErrorKind {
    /// Something else was expected.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A value is used before it is defined.
    #[error("value %{0} is not defined")]
    UnknownValue(String),
    /// A value is defined twice.
    #[error("value %{0} is defined already")]
    Redefined(String),
    /// The attributes do not fit the operation.
    #[error("{0}")]
    Attributes(String),
    /// A literal, a dimension or an element type cannot be read.
    #[error("{0}")]
    Literal(String),
    /// The bytes of a constant are missing or do not fit its type.
    #[error("{0}")]
    Data(String),
    /// The type that is written is not the one that follows from the operands.
    #[error("the type is {inferred}, not {written}")]
    Type {
        /// What is written.
        written: TensorType,
        /// What follows from the operands.
        inferred: TensorType,
    },
    /// The left side does not have as many values as the operation has results.
    #[error("the operation has {results} results, but {names} are named")]
    Results {
        /// Results of the operation.
        results: usize,
        /// Values on the left side.
        names: usize,
    },
    /// Bodies are nested too deeply.
    #[error("bodies are nested too deeply")]
    Nesting,
    /// The operation does not accept its operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
}
