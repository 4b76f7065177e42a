//! The part of a graph that came from some of the model's nodes.
//!
//! Invariant: what comes out is a graph of its own: what the part uses from outside is its input,
//! and what is used outside of it is its output.

use kiln_ir::{Graph, Node, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The nodes that came from nodes of the model whose names contain `name`; `None` if there are
/// none.
pub(super) fn of(graph: &Graph, name: &str) -> Option<Graph> {
    let chosen: Vec<&Node> =
        graph.nodes().map(|(_, node)| node).filter(|node| comes_from(node, name)).collect();
    let mut part = Graph::new(graph.name.clone());
    part.symbols = graph.symbols.clone();
    let mut known: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for node in &chosen {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            let new = match (known.get(&input), graph.constant_of(input)) {
                (Some(&new), _) => new,
                (None, Some(tensor)) => part.constant(tensor.clone()).ok()?,
                (None, None) => {
                    let value = graph.value(input);
                    let name = value.name.clone().unwrap_or_else(|| Arc::from(label(input)));
                    part.input(name, value.ty.clone())
                }
            };
            known.insert(input, new);
            inputs.push(new);
        }
        let results =
            part.add_node(node.op.clone(), &inputs, node.regions.clone(), node.source.clone());
        known.extend(node.outputs.iter().copied().zip(results.ok()?));
    }
    let uses = graph.uses();
    for &output in chosen.iter().flat_map(|node| &node.outputs) {
        let outside = |user| !chosen.iter().any(|node| std::ptr::eq(*node, graph.node(user)));
        let users = &uses[output.0 as usize];
        if users.is_empty() || users.iter().any(|&user| outside(user)) {
            part.output(*known.get(&output)?, label(output)).ok()?;
        }
    }
    (!chosen.is_empty()).then_some(part)
}

fn label(value: ValueId) -> String {
    format!("%{}", value.0)
}

fn comes_from(node: &Node, name: &str) -> bool {
    node.source.as_deref().is_some_and(|source| source.contains(name))
        || node.regions.iter().any(|body| body.nodes().any(|(_, node)| comes_from(node, name)))
}
