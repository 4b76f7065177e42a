//! Simplification: what every graph is better without, whatever the target, but for how products of bytes
//! are written.
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

pub use integers::IntegerProducts;
pub(crate) use rebuild::Rebuild;
pub(crate) use remove_dead::remove_dead;
pub(crate) use take_branch::inline;

use crate::PassError;
use kiln_ir::{Graph, Op};

type Pass = fn(&Graph, IntegerProducts) -> Result<(Graph, bool), PassError>;

/// In the order in which they help each other.
const PASSES: [Pass; 9] = [
    |graph, _| remove_dead::remove_dead(graph),
    integers::integers,
    |graph, _| shape_arithmetic::shape_arithmetic(graph),
    |graph, _| fold::fold(graph),
    |graph, _| take_branch::take_branch(graph),
    |graph, _| remove_identity::remove_identity(graph),
    |graph, _| merge_chains::merge_chains(graph),
    |graph, _| join_parts::join_parts(graph),
    |graph, _| merge_equal::merge_equal(graph),
];

/// Bound on rounds through all passes. Each round makes the graph smaller or its chains shorter, so
/// real models settle in three or four.
pub const MAX_ROUNDS: usize = 16;

/// The graph without dead, repeated, constant and idle operations, its bodies included, for any target.
pub fn simplify(graph: &Graph) -> Result<Graph, PassError> {
    simplify_for(graph, IntegerProducts::default())
}

/// [`simplify`] for a target on which products of small integers are best written like this.
pub fn simplify_for(graph: &Graph, products: IntegerProducts) -> Result<Graph, PassError> {
    let mut graph = simplify_bodies(graph, products)?.unwrap_or_else(|| graph.clone());
    // How many passes in a row have left the graph as it is.
    let mut idle = 0;
    for _ in 0..MAX_ROUNDS {
        for pass in PASSES {
            let (next, changed) = pass(&graph, products)?;
            idle = if changed { 0 } else { idle + 1 };
            if changed {
                graph = next;
            }
            if idle == PASSES.len() {
                return Ok(graph);
            }
        }
        // A constant that was handed into a body is news there.
        if let Some(next) = simplify_bodies(&graph, products)? {
            (graph, idle) = (next, 0);
        }
    }
    Ok(graph)
}

/// Simplifies the bodies of `If` and `Loop`, if there are any; what is fused is left as it is.
fn simplify_bodies(graph: &Graph, products: IntegerProducts) -> Result<Option<Graph>, PassError> {
    let has_body = |op: &Op| matches!(op, Op::If(_) | Op::Loop(_));
    if !graph.nodes().any(|(_, node)| has_body(&node.op)) {
        return Ok(None);
    }
    let mut rebuild = Rebuild::start("simplify", graph);
    for (_, node) in graph.nodes() {
        if has_body(&node.op) {
            let each = node.regions.iter().map(|region| simplify_for(region, products));
            let regions = each.collect::<Result<Vec<_>, _>>()?;
            rebuild.keep_with(graph, node, regions)?;
        } else {
            rebuild.keep(graph, node)?;
        }
    }
    Ok(Some(rebuild.finish(graph)?.0))
}
