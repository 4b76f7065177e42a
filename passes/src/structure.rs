//! A textual key of operations and bodies: equal keys mean equal structure, whatever values are
//! called and however they are numbered.
//!
//! Invariant: floats enter by their shortest exact decimal form and constants by content, so that
//! equal keys imply equal results bit for bit, unless a constant is larger than [`EXACT_BYTES`].

use kiln_ir::{Graph, Op};
use kiln_tensor::Tensor;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

/// The key of an operation with its bodies.
pub(crate) fn op_key(op: &Op, regions: &[Graph]) -> String {
    let mut key = match op {
        Op::Constant(constant) => constant_key(&constant.tensor),
        op => format!("{op:?}"),
    };
    for region in regions {
        key.push('{');
        key.push_str(&graph_key(region));
        key.push('}');
    }
    key
}

/// The key of a graph: its nodes in order, their operands by position.
pub(crate) fn graph_key(graph: &Graph) -> String {
    let mut number = vec![usize::MAX; graph.value_count()];
    let mut key = String::new();
    for (position, &input) in graph.inputs().iter().enumerate() {
        number[input.0 as usize] = position;
        let _ = write!(key, "{};", graph.ty(input));
    }
    let mut next = graph.inputs().len();
    for (_, node) in graph.nodes() {
        key.push_str(&op_key(&node.op, &node.regions));
        for input in &node.inputs {
            let _ = write!(key, " {}", number[input.0 as usize]);
        }
        key.push(';');
        for output in &node.outputs {
            number[output.0 as usize] = next;
            next += 1;
        }
    }
    for output in graph.outputs() {
        let _ = write!(key, ">{}", number[output.0 as usize]);
    }
    key
}

/// Small tensors are spelt out. Of large ones only a part goes into the key, so that a model's
/// weights are not read again and again: equal keys of more than [`EXACT_BYTES`] are a hint.
fn constant_key(tensor: &Tensor) -> String {
    let bytes = tensor.bytes();
    let (dtype, sizes) = (tensor.dtype(), tensor.sizes());
    if bytes.len() <= EXACT_BYTES {
        return format!("Constant {dtype} {sizes:?} {bytes:?}");
    }
    let mut hasher = DefaultHasher::new();
    for chunk in bytes.chunks(64).step_by((bytes.len() / 4096).max(1)) {
        hasher.write(chunk);
    }
    format!("Constant {dtype} {sizes:?} #{:016x}", hasher.finish())
}

/// Constants up to this size enter keys by their whole content.
pub(crate) const EXACT_BYTES: usize = 256;
