//! MLIR's passes from structured loops to the LLVM dialect.
//!
//! Invariant: conversions only; what is worth optimising LLVM does better afterwards.

use melior::Context;
use melior::ir::Module;
use melior::pass::{PassManager, conversion};

/// Lowers a module to the LLVM dialect.
pub(super) fn lower(context: &Context, module: &mut Module) -> Result<(), String> {
    let manager = PassManager::new(context);
    manager.add_pass(conversion::create_scf_to_control_flow());
    manager.add_pass(conversion::create_vector_to_llvm());
    manager.add_pass(conversion::create_arith_to_llvm());
    manager.add_pass(conversion::create_control_flow_to_llvm());
    manager.add_pass(conversion::create_reconcile_unrealized_casts());
    manager.run(module).map_err(|error| error.to_string())
}
