//! Why a node was not imported.
//!
//! Invariant: a fault is about one node; what follows from another fault is silent, so that a
//! report lists causes only.

use crate::report::ProblemKind;
use kiln_ir::GraphError;

/// Why a node was not imported.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// Something about this node.
    Problem {
        /// What is wrong.
        kind: ProblemKind,
        /// The details, a phrase.
        message: String,
        /// What would help.
        help: String,
    },
    /// Something that another problem tells already.
    Silent,
}

impl Fault {
    /// The node breaks the operator's rules.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        let help = "onnx.checker.check_model(model, full_check=True) may say more";
        let (message, help) = (message.into(), help.to_owned());
        Fault::Problem { kind: ProblemKind::Malformed, message, help }
    }

    /// The operator is known, this use of it is not.
    pub(super) fn unsupported(message: impl Into<String>, help: impl Into<String>) -> Self {
        let (message, help) = (message.into(), help.into());
        Fault::Problem { kind: ProblemKind::UnsupportedUse, message, help }
    }

    /// What is made of sizes is too large an expression.
    pub(super) fn too_large() -> Self {
        let message = "a dimension is too large an expression of the sizes of inputs";
        Self::unsupported(message, "fix sizes with --dim")
    }

    /// Whether this is [`Fault::too_large`].
    pub(super) fn is_too_large(&self) -> bool {
        *self == Self::too_large()
    }

    /// A shape, axis or the like is computed from data.
    pub(super) fn data_dependent(what: &str) -> Self {
        Self::unsupported(
            format!("{what} must be known before the model runs, but is computed from its data"),
            "simplify the model with fixed inputs, for example with onnxsim, or export it with \
             fixed sizes",
        )
    }
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        // The node is named by the problem's site already.
        match error {
            GraphError::Op { error, .. } => Fault::malformed(error.to_string()),
            other => Fault::malformed(other.to_string()),
        }
    }
}
