//! Takes fused bodies apart again, so that fusion starts from single operations.
//!
//! Invariant: no `Fused` node is left, in bodies of `If` and `Loop` either.

use crate::PassError;
use crate::simplify::{Rebuild, inline};
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node};
use std::borrow::Cow;

/// The graph without fused bodies.
pub(super) fn unfold(graph: &Graph) -> Result<Cow<'_, Graph>, PassError> {
    if !has_fused(graph) {
        return Ok(Cow::Borrowed(graph));
    }
    let mut rebuild = Rebuild::start("unfold", graph);
    for (_, node) in graph.nodes() {
        match (&node.op, node.regions.as_slice()) {
            (Op::Fused(_), [body]) => {
                let operands = rebuild.operands(node)?;
                let values = inline(&mut rebuild.new, &*unfold(body)?, &operands)
                    .map_err(|error| PassError::Graph { pass: "unfold", error })?;
                rebuild.replace(graph, node, &values)?;
            }
            _ => {
                let bodies = node.regions.iter().map(|body| Ok(unfold(body)?.into_owned()));
                rebuild.keep_with(graph, node, bodies.collect::<Result<Vec<_>, PassError>>()?)?;
            }
        }
    }
    Ok(Cow::Owned(rebuild.finish(graph)?.0))
}

fn has_fused(graph: &Graph) -> bool {
    let fused = |node: &Node| matches!(node.op, Op::Fused(_)) || node.regions.iter().any(has_fused);
    graph.nodes().any(|(_, node)| fused(node))
}
