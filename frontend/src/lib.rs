//! ONNX bytes to graph IR: the reader of files, the resolution of names and functions, and an
//! importer for each operator.
//!
//! Invariant: nothing that a model holds can cause a panic or an access outside the model's
//! folder; everything that is wrong with a model is reported in one [`ImportError`].

mod import;
pub mod proto;
pub mod read;
mod report;
pub mod resolve;

pub use import::{ImportOptions, Operator, Signature, import, operators, signatures};
pub use read::{Model, ReadError, TensorReadError, tensor_from_proto, tensor_to_proto};
pub use report::{ImportError, Problem, ProblemKind, Report, Site};
