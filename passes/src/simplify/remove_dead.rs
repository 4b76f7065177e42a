//! Drops nodes that no output depends on.
//!
//! Invariant: a node stays if one of its results is used; inputs always stay.

use super::rebuild::Rebuild;
use crate::PassError;
use kiln_ir::Graph;

pub(crate) fn remove_dead(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut used = vec![false; graph.value_count()];
    graph.outputs().iter().for_each(|output| used[output.0 as usize] = true);
    for (_, node) in graph.nodes().rev() {
        if node.outputs.iter().any(|output| used[output.0 as usize]) {
            node.inputs.iter().for_each(|input| used[input.0 as usize] = true);
        }
    }
    let mut rebuild = Rebuild::start("remove_dead", graph);
    for (_, node) in graph.nodes() {
        if node.outputs.iter().any(|output| used[output.0 as usize]) {
            rebuild.keep(graph, node)?;
        } else {
            rebuild.changed = true;
        }
    }
    rebuild.finish(graph)
}
