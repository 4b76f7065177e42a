//! Drops nodes that no output depends on.
//!
//! Invariant: a node stays if one of its results is used, or a size that it binds; inputs and checks
//! always stay.

use super::rebuild::Rebuild;
use crate::PassError;
use crate::late::Late;
use kiln_ir::{Graph, Op};

pub(crate) fn remove_dead(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut used = vec![false; graph.value_count()];
    graph.outputs().iter().for_each(|output| used[output.0 as usize] = true);
    let late = Late::of(graph);
    let mut binds = vec![false; graph.nodes().len()];
    for (id, node) in graph.nodes().rev() {
        let checks = match &node.op {
            Op::Check(_) => true,
            Op::Call(call) => call.results.is_empty(),
            _ => false,
        };
        if checks
            || binds[id.0 as usize]
            || node.outputs.iter().any(|output| used[output.0 as usize])
        {
            binds[id.0 as usize] = true;
            node.inputs.iter().for_each(|input| used[input.0 as usize] = true);
            late.on(id).iter().for_each(|on| binds[on.0 as usize] = true);
        }
    }
    let mut rebuild = Rebuild::start("remove_dead", graph);
    for (id, node) in graph.nodes() {
        if binds[id.0 as usize] {
            rebuild.keep(graph, node)?;
        } else {
            rebuild.changed = true;
        }
    }
    rebuild.finish(graph)
}
