//! Small integers and the numbers that they stand for: what is read as the integers that it is made of.
//!
//! Invariant: said once for all that make such chains (`simplify`), keep them together (`region`, the
//! e-graph) and lower them (`form`): integer, zero point off, float, times a scale.

use kiln_ir::op::{self, BinaryFn, Cast, Op};
use kiln_ir::{Graph, Node, Producer, ValueId};
use kiln_tensor::DType;

/// Integers that f32 holds, and that are read at less cost than what they become.
pub(crate) fn is_small_integer(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16)
}

/// Whether a conversion makes a number of 32 or 64 bits of a small integer.
pub(crate) fn widens(cast: &Cast, from: DType) -> bool {
    is_small_integer(from) && matches!(cast.to, DType::I32 | DType::F32 | DType::F64)
}

/// Whether a node makes a number of 32 or 64 bits of an integer, or takes a zero point off one.
pub(crate) fn is_widening(graph: &Graph, node: &Node) -> bool {
    let &[input, ..] = node.inputs.as_slice() else { return false };
    let from = graph.ty(input).dtype;
    match &node.op {
        Op::Cast(cast) => {
            widens(cast, from) || from == DType::I32 && matches!(cast.to, DType::F32 | DType::F64)
        }
        Op::Binary(binary) => binary.f == BinaryFn::Sub && from == DType::I32,
        _ => false,
    }
}

/// Whether a node is on the way from small integers to the numbers that they stand for.
pub(crate) fn makes_numbers(graph: &Graph, node: &Node) -> bool {
    is_widening(graph, node) || scales_integers(graph, node)
}

/// Whether a node scales what was a small integer before.
fn scales_integers(graph: &Graph, node: &Node) -> bool {
    let (Op::Binary(op::Binary { f: BinaryFn::Mul }), &[a, b]) = (&node.op, &node.inputs[..])
    else {
        return false;
    };
    let widened = |value: ValueId| match graph.value(value).producer {
        Producer::Node { node, .. } => is_widening(graph, graph.node(node)),
        Producer::Input(_) => false,
    };
    let constant = |value: ValueId| graph.constant_of(value).is_some();
    widened(a) && constant(b) || widened(b) && constant(a)
}
