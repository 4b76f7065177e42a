//! Graph to graph, graph to kernels, kernels to program.
//!
//! Invariant: every pass is a pure function from one data type to the next.

pub mod egraph;
