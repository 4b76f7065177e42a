//! The typed tensor language and the kernel language: what a model computes, and how.
//!
//! Invariant: no I/O, no backend, no file format; everything here is plain data with a text form,
//! a verifier and a reference evaluator.

pub mod accuracy;
pub mod evaluate;
pub mod graph;
pub mod kernel;
pub mod op;
#[cfg(any(test, feature = "testing"))]
pub mod random;
pub mod schedule;
#[cfg(any(test, feature = "testing"))]
pub mod single;
pub mod text;
pub mod verify;

pub use evaluate::{EvaluateError, evaluate};
pub use graph::{Graph, GraphError, Node, NodeId, Producer, TensorType, Value, ValueId};
pub use op::{Op, OpError};
pub use verify::{VerifyError, verify};
