//! Where to cut: dominators of the data flow whose value starts several branches of work.
//!
//! Invariant: a node's segment is never before that of a node that it uses.
//!
//! Everything before the first contraction (embeddings, masks, sizes) is segment 0: a mask that
//! every layer uses would otherwise hide that layers follow each other. Cutting where a value has
//! several users costs no fusion, since such a value is stored anyway.

use super::{MAX_NODES, is_constant, is_heavy};
use crate::integers::makes_numbers;
use crate::late::Late;
use kiln_ir::op::Op;
use kiln_ir::{Graph, NodeId, Producer};
use petgraph::algo::dominators::simple_fast;
use petgraph::graph::{DiGraph, NodeIndex};

/// The segment of every node.
pub(super) fn segments(graph: &Graph) -> Vec<usize> {
    let mut segments = by_dominators(graph);
    let uses = graph.uses();
    for (id, node) in graph.nodes().rev() {
        // What makes numbers of small integers is part of what reads them.
        if makes_numbers(graph, node) {
            let users = node.outputs.iter().flat_map(|output| &uses[output.0 as usize]);
            let first = users.map(|user| segments[user.0 as usize]).min();
            segments[id.0 as usize] = first.unwrap_or(0).max(segments[id.0 as usize]);
        }
    }
    segments
}

fn by_dominators(graph: &Graph) -> Vec<usize> {
    let flow = Flow::of(graph);
    let early = preamble(&flow);
    let chain = chain(&flow, &early);
    let uses = graph.uses();
    let users = |id: NodeId| {
        let mut users: Vec<NodeId> = graph
            .node(id)
            .outputs
            .iter()
            .flat_map(|output| uses[output.0 as usize].iter().copied())
            .collect();
        users.sort();
        users.dedup();
        users
    };
    // A reshape between a value and its product is only another view of the value.
    let works = |user: NodeId| {
        let is_view = matches!(graph.node(user).op, Op::Reshape(_));
        is_heavy(graph.node(user))
            || is_view && users(user).iter().any(|&next| is_heavy(graph.node(next)))
    };
    let feeds_work = |id: NodeId| users(id).iter().any(|&user| works(user));
    let is_branch = |id: &NodeId| users(*id).len() >= 2 && feeds_work(*id);
    let branches: Vec<NodeId> = chain.iter().copied().filter(is_branch).collect();
    let first = assign(&flow, &early, &branches);

    // Segments that are still too long are cut where work that not all goes through follows, as in layers
    // that begin with a normalisation, and where a contraction follows, every so often.
    let mut sizes = vec![0usize; branches.len() + 2];
    first.iter().for_each(|&segment| sizes[segment] += 1);
    let long = |id: NodeId| sizes[first[id.0 as usize]] > MAX_NODES;
    let passed = passed_by(&flow, &early, &chain);
    let kept: Vec<NodeId> = chain
        .iter()
        .zip(passed)
        .filter(|&(&id, passed)| {
            is_among(&branches, id) || long(id) && passed && users(id).len() >= 2
        })
        .map(|(&id, _)| id)
        .collect();
    let is_cut = |id: &NodeId| is_among(&kept, *id) || long(*id) && feeds_work(*id);
    let cuts: Vec<NodeId> = chain.iter().copied().filter(is_cut).collect();
    if cuts.len() == branches.len() {
        return first;
    }
    merge_short(&flow, &early, &cuts, &kept)
}

/// Whether a node is one of these, which are in order as a chain is.
fn is_among(nodes: &[NodeId], id: NodeId) -> bool {
    nodes.binary_search(&id).is_ok()
}

/// For each node of the chain, whether there is work between it and the next that some way passes by.
fn passed_by(flow: &Flow, early: &[bool], chain: &[NodeId]) -> Vec<bool> {
    let mut passed = vec![false; chain.len() + 2];
    let places = assign(flow, early, chain);
    for (id, node) in flow.graph.nodes() {
        let place = places[id.0 as usize];
        passed[place] |= is_heavy(node) && chain.get(place.wrapping_sub(1)) != Some(&id);
    }
    // Places are numbered by the node that they lead to.
    passed.split_off(2)
}

/// A graph with what each of its nodes depends on: through values, or through sizes alone.
struct Flow<'g> {
    graph: &'g Graph,
    before: Vec<Vec<NodeId>>,
}

impl<'g> Flow<'g> {
    fn of(graph: &'g Graph) -> Self {
        let late = Late::of(graph);
        let before = graph.nodes().map(|(id, node)| {
            let producers =
                node.inputs.iter().filter_map(|&input| match graph.value(input).producer {
                    Producer::Node { node, .. } => Some(node),
                    Producer::Input(_) => None,
                });
            producers.chain(late.on(id).iter().copied()).collect()
        });
        Flow { graph, before: before.collect() }
    }
}

/// Nodes that depend on no contraction.
fn preamble(flow: &Flow) -> Vec<bool> {
    let mut early = vec![true; flow.before.len()];
    for (id, node) in flow.graph.nodes() {
        let after = flow.before[id.0 as usize].iter().any(|before| !early[before.0 as usize]);
        early[id.0 as usize] = !(after || is_heavy(node));
    }
    early
}

/// The nodes that every path from the first contractions to the outputs goes through, in order.
fn chain(whole: &Flow, early: &[bool]) -> Vec<NodeId> {
    let graph = whole.graph;
    let mut flow: DiGraph<Option<NodeId>, ()> = DiGraph::new();
    let source = flow.add_node(None);
    let sink = flow.add_node(None);
    let indices: Vec<NodeIndex> = graph.nodes().map(|(id, _)| flow.add_node(Some(id))).collect();
    for (id, node) in graph.nodes() {
        if early[id.0 as usize] || is_constant(node) {
            continue;
        }
        let mut fed = false;
        for producer in whole.before[id.0 as usize].iter().filter(|id| !early[id.0 as usize]) {
            flow.update_edge(indices[producer.0 as usize], indices[id.0 as usize], ());
            fed = true;
        }
        if !fed {
            flow.update_edge(source, indices[id.0 as usize], ());
        }
    }
    // What is an output but used, too, as a cache is, ends nothing.
    let uses = graph.uses();
    for &output in graph.outputs().iter().filter(|output| uses[output.0 as usize].is_empty()) {
        match graph.value(output).producer {
            Producer::Node { node, .. } if !early[node.0 as usize] => {
                flow.update_edge(indices[node.0 as usize], sink, ());
            }
            _ => {}
        }
    }
    let dominators = simple_fast(&flow, source);
    let mut chain: Vec<NodeId> = dominators
        .strict_dominators(sink)
        .into_iter()
        .flatten()
        .filter_map(|index| flow.node_weight(index).copied().flatten())
        .collect();
    chain.reverse();
    chain
}

/// Numbers nodes by the first cut that they lead to; those before any work have number 0, those
/// after the last cut come last.
fn assign(flow: &Flow, early: &[bool], cuts: &[NodeId]) -> Vec<usize> {
    let mut segment = vec![cuts.len() + 1; early.len()];
    let mut assigned = early.to_vec();
    segment.iter_mut().zip(early).filter(|(_, early)| **early).for_each(|(slot, _)| *slot = 0);
    for (number, &cut) in cuts.iter().enumerate() {
        let mut pending = vec![cut];
        while let Some(id) = pending.pop() {
            if std::mem::replace(&mut assigned[id.0 as usize], true) {
                continue;
            }
            segment[id.0 as usize] = number + 1;
            pending.extend(&flow.before[id.0 as usize]);
        }
    }
    segment
}

/// The segments between cuts, where neighbours that are short together count as one. Branches stay
/// cuts.
fn merge_short(flow: &Flow, early: &[bool], cuts: &[NodeId], branches: &[NodeId]) -> Vec<usize> {
    let fine = assign(flow, early, cuts);
    let mut sizes = vec![0usize; cuts.len() + 2];
    fine.iter().for_each(|&segment| sizes[segment] += 1);
    let mut kept = Vec::new();
    let mut size = 0;
    for (number, &cut) in cuts.iter().enumerate() {
        size += sizes[number + 1];
        let next = sizes.get(number + 2).copied().unwrap_or(0);
        if is_among(branches, cut) || size + next > MAX_NODES / 2 {
            kept.push(cut);
            size = 0;
        }
    }
    assign(flow, early, &kept)
}
