//! Simplification: what every graph is better without, whatever the target.
//!
//! Invariant: inputs, outputs and their types stay; each pass is a pure function of the graph, and
//! the driver stops at a fixed point or after [`MAX_ROUNDS`].

mod fold;
mod integers;
mod join_parts;
mod merge_chains;
mod merge_equal;
mod rebuild;
mod remove_dead;
mod remove_identity;
mod shape_arithmetic;
mod take_branch;

pub(crate) use rebuild::Rebuild;
pub(crate) use remove_dead::remove_dead;
pub(crate) use take_branch::inline;

use crate::PassError;
use kiln_ir::{Graph, Op};

type Pass = fn(&Graph) -> Result<(Graph, bool), PassError>;

/// In the order in which they help each other.
const PASSES: [(&str, Pass); 9] = [
    ("remove_dead", remove_dead::remove_dead),
    ("integers", integers::integers),
    ("shape_arithmetic", shape_arithmetic::shape_arithmetic),
    ("fold", fold::fold),
    ("take_branch", take_branch::take_branch),
    ("remove_identity", remove_identity::remove_identity),
    ("merge_chains", merge_chains::merge_chains),
    ("join_parts", join_parts::join_parts),
    ("merge_equal", merge_equal::merge_equal),
];

/// Bound on rounds through all passes. Each round makes the graph smaller or its chains shorter, so
/// real models settle in three or four.
pub const MAX_ROUNDS: usize = 16;

/// The graph without dead, repeated, constant and idle operations, its bodies included.
pub fn simplify(graph: &Graph) -> Result<Graph, PassError> {
    let mut graph = simplify_bodies(graph)?.unwrap_or_else(|| graph.clone());
    // How many passes in a row have left the graph as it is.
    let mut idle = 0;
    for _ in 0..MAX_ROUNDS {
        for (_, pass) in PASSES {
            let (next, changed) = pass(&graph)?;
            idle = if changed { 0 } else { idle + 1 };
            if changed {
                graph = next;
            }
            if idle == PASSES.len() {
                return Ok(graph);
            }
        }
        // A constant that was handed into a body is news there.
        if let Some(next) = simplify_bodies(&graph)? {
            (graph, idle) = (next, 0);
        }
    }
    Ok(graph)
}

/// Simplifies the bodies of `If` and `Loop`, if there are any; what is fused is left as it is.
fn simplify_bodies(graph: &Graph) -> Result<Option<Graph>, PassError> {
    let has_body = |op: &Op| matches!(op, Op::If(_) | Op::Loop(_));
    if !graph.nodes().any(|(_, node)| has_body(&node.op)) {
        return Ok(None);
    }
    let mut rebuild = Rebuild::start("simplify", graph);
    for (_, node) in graph.nodes() {
        if has_body(&node.op) {
            let regions = node.regions.iter().map(simplify).collect::<Result<Vec<_>, _>>()?;
            rebuild.keep_with(graph, node, regions)?;
        } else {
            rebuild.keep(graph, node)?;
        }
    }
    Ok(Some(rebuild.finish(graph)?.0))
}
