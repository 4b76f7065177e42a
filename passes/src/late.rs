//! Sizes that become known while the model runs, from data or from a loop: whatever mentions one
//! comes after the node that tells it, and keeps that alive.
//!
//! Invariant: for each node, all nodes that give a value to a symbol which the node, its results or
//! its bodies mention.

use kiln_ir::{Graph, Node, NodeId};
use kiln_tensor::{Dim, Symbol};
use std::collections::{BTreeMap, BTreeSet};

/// The nodes that each node depends on through sizes alone.
pub(crate) struct Late {
    binders: Vec<Vec<NodeId>>,
}

impl Late {
    pub fn of(graph: &Graph) -> Self {
        let mut known = BTreeSet::new();
        for &input in graph.inputs() {
            graph.ty(input).shape.iter().for_each(|dim| dim.collect_symbols(&mut known));
        }
        let mut bound: BTreeMap<Symbol, NodeId> = BTreeMap::new();
        let mut binders = Vec::new();
        for (id, node) in graph.nodes() {
            for symbol in graph.introduced(node).difference(&known) {
                bound.entry(symbol.clone()).or_insert(id);
            }
            if bound.is_empty() {
                continue;
            }
            let mut used = BTreeSet::new();
            mentioned(graph, node, &mut used);
            let on = used.iter().filter_map(|symbol| bound.get(symbol)).filter(|&&on| on != id);
            binders.resize(id.0 as usize, Vec::new());
            binders.push(on.copied().collect());
        }
        Late { binders }
    }

    /// What a node depends on.
    pub fn on(&self, node: NodeId) -> &[NodeId] {
        self.binders.get(node.0 as usize).map_or(&[], Vec::as_slice)
    }
}

/// Symbols that only nodes of a body give a value to: nothing mentions them before, and neither do
/// the types of its inputs and outputs.
pub(crate) fn bound_inside(body: &Graph) -> BTreeSet<Symbol> {
    let (mut bound, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let ports = body.inputs().iter().chain(body.outputs());
    ports.flat_map(|&id| &body.ty(id).shape).for_each(|dim| dim.collect_symbols(&mut seen));
    for (_, node) in body.nodes() {
        bound.extend(body.introduced(node).difference(&seen).cloned());
        mentioned(body, node, &mut seen);
    }
    bound
}

fn mentioned(graph: &Graph, node: &Node, used: &mut BTreeSet<Symbol>) {
    let mut see = |dim: &Dim| dim.collect_symbols(used);
    node.op.clone().dims_mut().into_iter().for_each(|dim| see(dim));
    node.outputs.iter().flat_map(|&output| &graph.ty(output).shape).for_each(see);
    for body in &node.regions {
        body.nodes().for_each(|(_, inner)| mentioned(body, inner, used));
    }
}
