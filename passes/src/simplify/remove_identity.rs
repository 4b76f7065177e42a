//! Removes operations that change nothing, and arithmetic with neutral elements.
//!
//! Invariant: a value is only replaced by one of the same type and the same elements, the signs of zeros
//! included: 1/x tells them apart.

use super::rebuild::Rebuild;
use crate::PassError;
use kiln_ir::op::{BinaryFn, Op};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::Dim;

pub(super) fn remove_identity(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("remove_identity", graph);
    for (_, node) in graph.nodes() {
        let inputs = rebuild.operands(node)?;
        let same = unchanged(&rebuild.new, node, &inputs)
            .filter(|&value| node.outputs.iter().all(|&o| rebuild.new.ty(value) == graph.ty(o)));
        match same {
            Some(value) => rebuild.replace(graph, node, &[value])?,
            None => rebuild.keep(graph, node)?,
        }
    }
    rebuild.finish(graph)
}

/// The operand that the node hands on, if it does nothing else. The caller checks the type, so
/// what only keeps its operand where the type stays the same needs no test of its own here.
fn unchanged(graph: &Graph, node: &Node, inputs: &[ValueId]) -> Option<ValueId> {
    match (&node.op, inputs) {
        (Op::Reshape(_) | Op::Assume(_) | Op::Broadcast(_), &[x]) => Some(x),
        (Op::Cast(_) | Op::BitCast(_), &[x]) => Some(x),
        (Op::Concat(_), &[x]) => Some(x),
        (Op::Transpose(transpose), &[x]) => {
            transpose.perm.iter().copied().eq(0..transpose.perm.len()).then_some(x)
        }
        (Op::Slice(slice), &[x]) => {
            let whole = slice.starts.iter().all(|start| start.is(0))
                && slice.steps.iter().all(|&step| step == 1);
            whole.then_some(x)
        }
        (Op::Pad(pad), [x, ..]) => {
            pad.before.iter().chain(&pad.after).all(|amount| amount.is(0)).then_some(*x)
        }
        (Op::Reduce(reduce), &[x]) => reduce.axes.is_empty().then_some(x),
        (Op::Resize(resize), &[x]) => {
            let plain = resize.scales.as_ref().is_none_or(|s| s.iter().all(|&scale| scale == 1.0));
            let unit =
                !matches!(resize.coordinates, kiln_ir::op::CoordinateMode::TfCropAndResize { .. });
            (plain && unit && resize.sizes == graph.ty(x).shape).then_some(x)
        }
        (Op::Binary(binary), &[a, b]) => {
            let is = |value: ValueId, number: f64| uniform(graph, value) == Some(number);
            // −0 + 0 is 0, and so is −0 − −0.
            let adds_nothing = |value: ValueId, negative: bool| {
                let signed = graph.ty(value).dtype.is_float();
                let zero = uniform(graph, value).filter(|&zero| zero == 0.0);
                zero.is_some_and(|zero| !signed || zero.is_sign_negative() == negative)
            };
            match binary.f {
                BinaryFn::Add if adds_nothing(b, true) => Some(a),
                BinaryFn::Add if adds_nothing(a, true) => Some(b),
                BinaryFn::Sub if adds_nothing(b, false) => Some(a),
                BinaryFn::Mul if is(b, 1.0) => Some(a),
                BinaryFn::Mul if is(a, 1.0) => Some(b),
                BinaryFn::Div | BinaryFn::Pow if is(b, 1.0) => Some(a),
                BinaryFn::And if is(b, 1.0) => Some(a),
                BinaryFn::Or if is(b, 0.0) => Some(a),
                _ => None,
            }
        }
        (Op::Select(_), &[condition, then, otherwise]) => {
            uniform(graph, condition).map(|value| if value != 0.0 { then } else { otherwise })
        }
        _ => None,
    }
}

/// The number that every element of a constant is.
pub(crate) fn uniform(graph: &Graph, value: ValueId) -> Option<f64> {
    let tensor = graph.constant_of(value)?;
    // Long constants are rarely uniform; comparing a weight with itself is not worth the read.
    let size = tensor.dtype().size();
    if tensor.is_empty() || tensor.len() > 1 << 16 {
        return None;
    }
    let (first, _) = tensor.bytes().split_at(size);
    tensor.bytes().chunks_exact(size).all(|chunk| chunk == first).then_some(())?;
    kiln_tensor::Tensor::from_bytes(tensor.dtype(), vec![1], first).ok()?.to_f64().first().copied()
}

/// Whether a type stretches to a shape without naming it: nothing is lost if the stretch is left
/// to the operation that uses it.
pub(super) fn stretches_alone(from: &[Dim], other: &[Dim], result: &[Dim]) -> bool {
    let rank = from.len().max(other.len());
    rank == result.len()
        && result.iter().enumerate().all(|(position, dim)| {
            let at = |shape: &[Dim]| {
                (position + shape.len()).checked_sub(rank).map(|index| shape[index].clone())
            };
            [at(from), at(other)].into_iter().flatten().any(|side| side == *dim)
        })
}
