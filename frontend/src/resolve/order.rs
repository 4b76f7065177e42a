//! The order of execution of a body's nodes.
//!
//! Invariant: nodes that stand in an order of execution keep it. ONNX asks for that, but tools write
//! others, and runtimes take them.

use crate::proto::{GraphProto, NodeProto};
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::{HashMap, HashSet};

/// The nodes in an order of execution; or as they stand, and one of those that form a circle.
pub(super) fn ordered(nodes: &[NodeProto]) -> (Vec<&NodeProto>, Option<&NodeProto>) {
    let as_given = || nodes.iter().collect();
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            makers.entry(name).or_insert(number);
        }
    }
    let reads: Vec<Vec<&str>> = nodes.iter().map(reads).collect();
    let is_late = |(number, names): (usize, &Vec<&str>)| {
        names.iter().any(|name| makers.get(name).is_some_and(|&maker| maker >= number))
    };
    if !reads.iter().enumerate().any(is_late) {
        return (as_given(), None);
    }
    let mut flow: DiGraph<(), ()> = DiGraph::new();
    let places: Vec<NodeIndex> = nodes.iter().map(|_| flow.add_node(())).collect();
    for (number, names) in reads.iter().enumerate() {
        for &maker in names.iter().filter_map(|name| makers.get(name)) {
            flow.update_edge(places[maker], places[number], ());
        }
    }
    match toposort(&flow, None) {
        Ok(order) => (order.into_iter().map(|place| &nodes[place.index()]).collect(), None),
        Err(circle) => (as_given(), nodes.get(circle.node_id().index())),
    }
}

/// The names that a node needs from around it, those of its graphs among them.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut own: HashSet<&str> = HashSet::new();
    names.extend(node.input.iter().map(String::as_str));
    let mut pending = graphs_of(node);
    while let Some(graph) = pending.pop() {
        own.extend(graph.input.iter().map(|input| input.name()));
        own.extend(graph.initializer.iter().map(|tensor| tensor.name()));
        names.extend(graph.output.iter().map(|output| output.name()));
        for node in &graph.node {
            own.extend(node.output.iter().map(String::as_str));
            names.extend(node.input.iter().map(String::as_str));
            pending.extend(graphs_of(node));
        }
    }
    names.retain(|name| !name.is_empty() && !own.contains(name));
    names
}

fn graphs_of(node: &NodeProto) -> Vec<&GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
        .collect()
}
