//! Merges nodes that compute the same: common subexpressions and equal constants.
//!
//! Invariant: operations are pure, so equal operations on equal operands have equal results;
//! constants are equal by content. What only widens small integers is left apart.

use super::rebuild::Rebuild;
use crate::PassError;
use crate::integers::is_widening;
use crate::structure::op_key;
use kiln_ir::{Graph, Op, ValueId};
use std::collections::HashMap;

pub(super) fn merge_equal(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("merge_equal", graph);
    let mut seen: HashMap<(String, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    for (_, node) in graph.nodes() {
        // Small integers are widened where they are read, which costs less than reading wide ones.
        let widens = matches!(node.op, Op::Cast(_)) && is_widening(graph, node);
        if !node.regions.is_empty() || widens {
            rebuild.keep(graph, node)?;
            continue;
        }
        let inputs = rebuild.operands(node)?;
        let key = (op_key(&node.op, &[]), inputs);
        if let Some(outputs) = seen.get(&key).filter(|outputs| same(&rebuild, node, outputs)) {
            let outputs = outputs.clone();
            rebuild.replace(graph, node, &outputs)?;
            continue;
        }
        rebuild.keep(graph, node)?;
        let outputs = node.outputs.iter().map(|&output| rebuild.value(output));
        seen.insert(key, outputs.collect::<Result<_, _>>()?);
    }
    rebuild.finish(graph)
}

/// Keys of large constants are hints: compare the bytes before believing them.
fn same(rebuild: &Rebuild, node: &kiln_ir::Node, outputs: &[ValueId]) -> bool {
    match (&node.op, outputs) {
        (Op::Constant(constant), &[other]) => {
            rebuild.new.constant_of(other) == Some(&constant.tensor)
        }
        _ => true,
    }
}
