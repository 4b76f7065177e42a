//! Graphs of one operation, for tests of everything below them.
//!
//! Invariant: operands are inputs in their order; sizes may be written with the symbols `n` and `m`, of 1
//! and more.

use crate::graph::Graph;
use crate::text::{ParseError, parse};

/// The graph of an operation as text on operands of these types, with so many results.
pub fn graph(operation: &str, types: &[&str], results: usize) -> Result<Graph, ParseError> {
    let numbered = |count: usize, each: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(each).collect::<Vec<_>>().join(between)
    };
    let input = |at: usize| format!("%x{at} \"x{at}\": {} = input", types[at].replace('"', ""));
    parse(&format!(
        "graph \"{}\" {{\n symbols n: 1.., m: 1..\n {}\n {} = {operation} {}\n return {}\n}}",
        operation.split('(').next().unwrap_or_default(),
        numbered(types.len(), &input, "\n "),
        numbered(results, &|at| format!("%y{at}"), ", "),
        numbered(types.len(), &|at| format!("%x{at}"), ", "),
        numbered(results, &|at| format!("%y{at} as \"y{at}\""), ", "),
    ))
}
