//! Defers assumptions about sizes past elementwise operations, so that these stay with what made their
//! operand.
//!
//! Invariant: each assumption is still made, of a value of the same shape, before anything that
//! relies on it.

use crate::PassError;
use crate::simplify::Rebuild;
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node, Producer, ValueId};
use kiln_tensor::Dim;

/// The graph with its assumptions deferred, its bodies included.
pub(super) fn defer(graph: &Graph) -> Result<Graph, PassError> {
    let uses = graph.uses();
    let mut rebuild = Rebuild::start("defer", graph);
    for (_, node) in graph.nodes() {
        // What was assumed of the operand when the new graph was built so far.
        let assumed = operand(graph, node).filter(|&value| {
            uses[value.0 as usize].len() == 1 && !graph.outputs().contains(&value)
        });
        let Some((assume, raw)) = assumed.and_then(|value| {
            let value = rebuild.value(value).ok()?;
            let Producer::Node { node: maker, .. } = rebuild.new.value(value).producer else {
                return None;
            };
            let made = rebuild.new.node(maker);
            let raw = *made.inputs.first()?;
            let stays = matches!(made.op, Op::Assume(_))
                && stretch(graph, node, &rebuild.new.ty(raw).shape);
            stays.then(|| (made.op.clone(), raw))
        }) else {
            let bodies = node.regions.iter().map(defer).collect::<Result<Vec<_>, _>>()?;
            rebuild.keep_with(graph, node, bodies)?;
            continue;
        };
        let operands = node
            .inputs
            .iter()
            .map(|&input| if Some(input) == assumed { Ok(raw) } else { rebuild.value(input) })
            .collect::<Result<Vec<_>, _>>()?;
        let done = rebuild.add1(node.op.clone(), &operands, node)?;
        let value = rebuild.add1(assume, &[done], node)?;
        rebuild.replace(graph, node, &[value])?;
    }
    Ok(rebuild.finish(graph)?.0)
}

/// The operand of an elementwise operation that gives its result its shape, if all others are
/// constants.
fn operand(graph: &Graph, node: &Node) -> Option<ValueId> {
    let &[output] = node.outputs.as_slice() else { return None };
    match (&node.op, node.inputs.as_slice()) {
        (Op::Unary(_) | Op::Cast(_) | Op::BitCast(_), &[x]) => Some(x),
        (Op::Binary(_), &[a, b]) => {
            let (x, other) = if graph.constant_of(b).is_some() { (a, b) } else { (b, a) };
            let kept = graph.ty(x).shape == graph.ty(output).shape;
            (graph.constant_of(other).is_some() && kept).then_some(x)
        }
        _ => None,
    }
}

/// Whether the constant operands stretch to this shape, of which less may be known than of the one
/// that is assumed.
fn stretch(graph: &Graph, node: &Node, shape: &[Dim]) -> bool {
    node.inputs.iter().filter(|&&input| graph.constant_of(input).is_some()).all(|&input| {
        let own = &graph.ty(input).shape;
        shape.len().checked_sub(own.len()).is_some_and(|missing| {
            own.iter().zip(&shape[missing..]).all(|(own, dim)| own.is(1) || own == dim)
        })
    })
}
