//! What a caller may choose about compiling.
//!
//! Invariant: equal options and equal input give byte-identical artefacts; whatever does not change
//! the artefact (cancellation, progress) is not an option.

use kiln_passes::tile::Book;
use kiln_passes::{CostModel, Effort};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who makes the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Backend {
    /// MLIR and LLVM: the fastest code. Present if the feature `llvm` is.
    Llvm,
    /// Cranelift: the fastest to compile.
    Cranelift,
    /// No code: the graph is evaluated slowly and obviously.
    Reference,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Backend; 3] = [Backend::Llvm, Backend::Cranelift, Backend::Reference];

    /// Whether this build of Kiln has it.
    pub fn is_built_in(self) -> bool {
        self != Backend::Llvm || cfg!(feature = "llvm")
    }
}

impl Default for Backend {
    /// LLVM where it is built in, else Cranelift.
    fn default() -> Self {
        if Backend::Llvm.is_built_in() { Backend::Llvm } else { Backend::Cranelift }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Llvm => "llvm",
            Backend::Cranelift => "cranelift",
            Backend::Reference => "reference",
        })
    }
}

/// Choices about one compilation.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Who makes the code.
    pub backend: Backend,
    /// Symbolic dimensions of the model's inputs that are fixed, by name.
    pub dims: BTreeMap<String, u64>,
    /// Threads that the model will run with; 0 for as many as the target has cores. It guides how
    /// work is cut up, and is the default when the model is loaded.
    pub threads: usize,
    /// How much the e-graph looks at.
    pub effort: Effort,
    /// Largest error, relative to the largest magnitude of a result, of rules of the e-graph that make results
    /// cheaper and less exact; none of them without a budget.
    pub error_budget: Option<f64>,
    /// Rules of the e-graph that are left out, by their names in [`rules`]; names of none change nothing.
    pub without: Vec<String>,
    /// Schedules that were measured to be better than the model's; see [`crate::tune`].
    pub schedules: Arc<Book>,
    /// What was measured of the machine; the shipped model of its kind if nothing was. See
    /// [`crate::calibrate()`].
    pub cost: Option<CostModel>,
}

/// Names of the rules of the e-graph, in the order in which they are applied.
pub fn rules() -> Vec<&'static str> {
    kiln_passes::egraph::rules::all().into_iter().map(|rule| rule.name).collect()
}

/// Stops a compilation or a run from another thread.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds the token to stop as soon as it can.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for the rooms below.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}
