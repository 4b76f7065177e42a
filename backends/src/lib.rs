//! Kernels and schedules to machine code.
//!
//! Invariant: one loop-nest lowering ([`nest::lower`]) serves every code generator, and no code
//! generator knows any kind of kernel.

mod codegen;
pub mod cranelift;
#[cfg(feature = "llvm")]
pub mod llvm;
#[cfg(feature = "llvm")]
pub mod mlir;
pub mod nest;
pub mod target;

pub use codegen::{CodeGenerator, CodegenError, Object, REVISION, Unit};
pub use cranelift::Cranelift;
#[cfg(feature = "llvm")]
pub use llvm::Llvm;
pub use target::{Target, TargetError};
