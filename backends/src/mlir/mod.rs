//! Nests as MLIR: one operation for each statement.
//!
//! Invariant: nothing is decided here. Loops are `scf`, arithmetic is `arith` and `vector`, memory
//! is the `llvm` dialect.
//!
//! Memory is not `memref`: buffers come as bare pointers with offsets that are already linear, and
//! masked, gathered and scattered accesses exist for `llvm.ptr` as intrinsics with an alignment,
//! where `vector.maskedload` wants a memref whose shape would be made up.

mod attributes;
mod emit;
mod operations;
mod saturate;

pub use emit::{EmitError, emit};

use melior::Context;
use melior::dialect::DialectRegistry;

/// A context with the dialects that nests are translated to, on one thread.
pub fn context() -> Context {
    let registry = DialectRegistry::new();
    melior::utility::register_all_dialects(&registry);
    let context = Context::new_with_registry(&registry, false);
    for dialect in ["arith", "cf", "llvm", "scf", "vector"] {
        context.get_or_load_dialect(dialect);
    }
    melior::utility::register_all_llvm_translations(&context);
    context
}
