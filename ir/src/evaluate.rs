//! The reference evaluator: runs a graph on host tensors, one operation after the other.
//!
//! Invariant: slow, obvious and exact to the type of every value; what any backend computes is
//! compared with this, within the bounds of [`crate::accuracy`].

mod bind;

use crate::graph::{Graph, TensorType};
use crate::op::{Op, OpError, Run};
use kiln_tensor::{Bounds, DimError, Symbol, SymbolValues, Tensor};
use std::sync::Arc;
use thiserror::Error;

/// Why a graph has no value for some operands.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum EvaluateError {
    /// Too few or too many tensors were given.
    #[error("the graph takes {expected} inputs, but {actual} were given")]
    InputCount {
        /// Inputs of the graph.
        expected: usize,
        /// Tensors that were given.
        actual: usize,
    },
    /// A tensor does not have the type of its input.
    #[error("`{name}` must be {expected}, but {actual} was given")]
    Type {
        /// Name of the value.
        name: String,
        /// Its type.
        expected: TensorType,
        /// The type of the tensor.
        actual: TensorType,
    },
    /// A dimension does not have the value that other dimensions give its symbols.
    #[error("dimension `{dim}` of `{name}` must be {expected}, but is {actual}")]
    Conflict {
        /// Name of the value.
        name: String,
        /// The dimension.
        dim: String,
        /// What it must be.
        expected: i64,
        /// What it is.
        actual: i64,
    },
    /// A symbol has a value that the graph excludes.
    #[error("dimension `{symbol}` of `{name}` is {value}, outside of {bounds}")]
    Bounds {
        /// Name of the value.
        name: String,
        /// The symbol.
        symbol: Symbol,
        /// Its value.
        value: i64,
        /// What the graph allows.
        bounds: Bounds,
    },
    /// A dimension expression has no value.
    #[error("`{name}`: {error}")]
    Dim {
        /// Name of the value.
        name: String,
        /// What is wrong.
        error: DimError,
    },
    /// An operation has no value for its operands.
    #[error("{op}{}: {error}", node.as_ref().map(|node| format!(" (from `{node}`)")).unwrap_or_default())]
    Op {
        /// Name of the operation.
        op: &'static str,
        /// The model's node, if known.
        node: Option<Arc<str>>,
        /// What is wrong.
        error: OpError,
    },
}

/// The outputs of `graph` for `inputs`. Symbols get their values from the sizes of the inputs.
pub fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvaluateError> {
    evaluate_part(graph, inputs, &Run::new(&SymbolValues::new()))
}

/// [`evaluate`] of a graph that is a body of another: symbols of the run keep their values.
pub(crate) fn evaluate_part(
    graph: &Graph,
    inputs: &[Tensor],
    run: &Run,
) -> Result<Vec<Tensor>, EvaluateError> {
    if inputs.len() != graph.inputs().len() {
        let (expected, actual) = (graph.inputs().len(), inputs.len());
        return Err(EvaluateError::InputCount { expected, actual });
    }
    let mut symbols = run.symbols().clone();
    let ids = graph.inputs().iter().copied();
    bind::bind(graph, ids.zip(inputs), &mut symbols)?;
    let mut values: Vec<Option<Tensor>> = vec![None; graph.value_count()];
    for (id, tensor) in graph.inputs().iter().zip(inputs) {
        values[id.0 as usize] = Some(adopted(run, tensor)?);
    }
    let last_uses = last_uses(graph);
    for (id, node) in graph.nodes() {
        let fail =
            |error| EvaluateError::Op { op: node.op.name(), node: node.source.clone(), error };
        let operands = node.inputs.iter().map(|input| values[input.0 as usize].clone());
        let operands: Option<Vec<Tensor>> = operands.collect();
        let operands =
            operands.ok_or_else(|| fail(OpError::new("uses a value before it is computed")))?;
        if let Op::Bind(op) = &node.op {
            bind::assign(graph, op, &operands, &mut symbols).map_err(fail)?;
            continue;
        }
        if let Op::Check(op) = &node.op {
            bind::check(op, &symbols).map_err(fail)?;
            continue;
        }
        let part = run.part(&symbols);
        let results = node.op.evaluate_in(&operands, &node.regions, &part).map_err(fail)?;
        drop(operands);
        if results.len() != node.outputs.len() {
            return Err(fail(OpError::new(format!(
                "has {} results, but gave {}",
                node.outputs.len(),
                results.len()
            ))));
        }
        bind::bind(graph, node.outputs.iter().copied().zip(&results), &mut symbols)?;
        for (output, result) in node.outputs.iter().zip(results) {
            values[output.0 as usize] = Some(result);
        }
        for value in node.inputs.iter().chain(&node.outputs) {
            if last_uses[value.0 as usize] <= id.0 as usize {
                values[value.0 as usize] = None;
            }
        }
    }
    let outputs = graph.outputs().iter().map(|output| values[output.0 as usize].clone());
    outputs.collect::<Option<_>>().ok_or_else(|| EvaluateError::Op {
        op: "Graph",
        node: None,
        error: OpError::new("an output is never computed"),
    })
}

/// A tensor with its handles those of the run.
fn adopted(run: &Run, tensor: &Tensor) -> Result<Tensor, EvaluateError> {
    run.objects().adopt(tensor).map_err(|error| EvaluateError::Op {
        op: "Graph",
        node: None,
        error: error.into(),
    })
}

/// For each value, the number of the last node that uses it: none is 0, an output is never let go.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.value_count()];
    for (id, node) in graph.nodes() {
        node.inputs.iter().for_each(|input| last[input.0 as usize] = id.0 as usize);
    }
    graph.outputs().iter().for_each(|output| last[output.0 as usize] = usize::MAX);
    last
}

#[cfg(test)]
mod tests;
