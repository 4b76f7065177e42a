//! What a tensor is: its element type, its dimension expressions, its bytes on the host.
//!
//! Invariant: this crate knows nothing of graphs, kernels or files, and is small enough for the
//! runtime; every other room takes its element types, dimensions and host tensors from here.

mod dim;
mod dtype;
mod objects;
mod pages;
mod storage;
mod tensor;

pub use dim::{Atom, Bounds, Dim, DimError, Monomial, Symbol, SymbolTable, SymbolValues, Unequal};
pub use dtype::{DType, Element, FloatFormat, Special};
pub use objects::Objects;
pub use pages::{HUGE, pages};
pub use storage::{ALIGNMENT, Storage};
pub use tensor::{Tensor, TensorError};

/// A shape of known sizes, outermost dimension first.
pub type Sizes = Vec<usize>;
