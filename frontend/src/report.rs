//! What is wrong with a model, node by node.
//!
//! Invariant: a [`Report`] lists every problem of the model, in the order of its nodes.

use crate::ReadError;
use std::fmt;
use thiserror::Error;

/// Why a model did not become a graph.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file is not a model that can be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Parts of the model are malformed or not supported.
    #[error(transparent)]
    Model(#[from] Report),
}

impl ImportError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ImportError::Read(error) => error.code(),
            ImportError::Model(_) => "import/report",
        }
    }

    /// What would help; a report says it problem by problem.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            ImportError::Read(error) => Some(error.help()),
            ImportError::Model(_) => None,
        }
    }
}

/// Everything that keeps a model from being imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "the model cannot be imported: {count} problem{plural}")?;
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

/// Where in the model a problem is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Name of the node, or of its first output if it has none; with the names of the function
    /// calls it was reached through, joined by `/`.
    pub node: String,
    /// Operator, empty where the problem is not about a node.
    pub op: String,
    /// Canonical domain of the operator.
    pub domain: String,
    /// Operator set version that is in force for the node; 0 if the domain is not imported.
    pub opset: i64,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.op.is_empty() {
            return write!(f, "{}", self.node);
        }
        write!(f, "node `{}` ({} {} opset {})", self.node, self.domain, self.op, self.opset)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub site: Site,
    /// Types of the node's inputs, as far as they are known: `f32[batch, 3]`.
    pub inputs: Vec<String>,
    /// What is wrong.
    pub kind: ProblemKind,
    /// The details, a phrase.
    pub message: String,
    /// What would help.
    pub help: String,
}

/// The kinds of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no importer for the operator.
    UnsupportedOperator,
    /// The operator exists, but not in the model's operator set version.
    OutsideOpset,
    /// The operator is known, this use of it is not.
    UnsupportedUse,
    /// The node breaks the operator's or the format's rules.
    Malformed,
    /// A tensor of the model cannot be used.
    Tensor,
    /// A function cannot be inlined.
    Function,
    /// An option given by the caller does not fit the model.
    Option,
}

impl ProblemKind {
    /// A stable name of the kind.
    pub fn code(self) -> &'static str {
        match self {
            ProblemKind::UnsupportedOperator => "import/unsupported-operator",
            ProblemKind::OutsideOpset => "import/outside-opset",
            ProblemKind::UnsupportedUse => "import/unsupported-use",
            ProblemKind::Malformed => "import/malformed",
            ProblemKind::Tensor => "import/tensor",
            ProblemKind::Function => "import/function",
            ProblemKind::Option => "import/option",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {} [{}]", self.site, self.message, self.kind.code())?;
        if !self.inputs.is_empty() {
            write!(f, "\n    inputs: {}", self.inputs.join(", "))?;
        }
        if !self.help.is_empty() {
            write!(f, "\n    help: {}", self.help)?;
        }
        Ok(())
    }
}
