//! Merges nodes that compute the same: common subexpressions and equal constants.
//!
//! Invariant: operations are pure, so equal operations on equal operands have equal results;
//! constants are equal by content. What only widens small integers is left apart.

use super::rebuild::Rebuild;
use crate::PassError;
use crate::integers::is_widening;
use crate::structure::op_key;
use kiln_ir::{Graph, Node, NodeId, Op, ValueId};
use std::borrow::Cow;
use std::collections::HashMap;

pub(super) fn merge_equal(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("merge_equal", graph);
    let mut seen: HashMap<Key, Vec<(NodeId, Vec<ValueId>)>> = HashMap::new();
    for (id, node) in graph.nodes() {
        // Small integers are widened where they are read, which costs less than reading wide ones.
        let widens = matches!(node.op, Op::Cast(_)) && is_widening(graph, node);
        if !node.regions.is_empty() || widens {
            rebuild.keep(graph, node)?;
            continue;
        }
        let known = seen.entry(key(node, rebuild.operands(node)?)).or_default();
        // Numbers that are equal may differ in the sign of a zero, which their text tells.
        let same = |other: &Op| *other == node.op && op_key(other, &[]) == op_key(&node.op, &[]);
        let equal = known.iter().find(|(other, _)| same(&graph.node(*other).op));
        if let Some((_, outputs)) = equal {
            let outputs = outputs.clone();
            rebuild.replace(graph, node, &outputs)?;
            continue;
        }
        rebuild.keep(graph, node)?;
        let outputs = node.outputs.iter().map(|&output| rebuild.value(output));
        known.push((id, outputs.collect::<Result<_, _>>()?));
    }
    rebuild.finish(graph)
}

/// What equal nodes have in common: operands and the operation's name, or all of a leaf, which has no
/// operands to tell it from others.
type Key = (Cow<'static, str>, Vec<ValueId>);

fn key(node: &Node, operands: Vec<ValueId>) -> Key {
    let leaf = operands.is_empty();
    let what = if leaf { op_key(&node.op, &[]).into() } else { node.op.name().into() };
    (what, operands)
}
