//! Regions: parts of a graph that are optimised alone, cut at dominators of the data flow.
//!
//! Invariant: parts in their order respect the data flow; every node that is not a constant is in
//! exactly one part; equal regions have equal keys and graphs.

mod canonical;
mod dominators;

pub(crate) use canonical::{rename, rename_from, substitute};

use crate::PassError;
use crate::integers::makes_numbers;
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use kiln_tensor::Symbol;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Regions beyond this many nodes are cut further.
pub const MAX_NODES: usize = 300;

/// A part of a graph.
pub(crate) enum Part {
    /// Nodes that are optimised together.
    Region(Box<Region>),
    /// A node with bodies or several results, or a call, which is left as it is.
    Opaque(NodeId),
}

/// Nodes of a graph as a graph of their own.
pub(crate) struct Region {
    /// The region with symbols renamed in order of occurrence. Constants of more than one element
    /// are inputs, so that layers with different weights are equal.
    pub graph: Graph,
    /// For each input of `graph`, whether it is such a constant.
    pub constant: Vec<bool>,
    /// What each input of `graph` is in the whole graph.
    pub inputs: Vec<ValueId>,
    /// What each output of `graph` is in the whole graph.
    pub outputs: Vec<ValueId>,
    /// Symbols of the whole graph by their names in `graph`.
    pub symbols: BTreeMap<Symbol, Symbol>,
    /// The model's nodes that the nodes of `graph` came from, which names them by their numbers
    /// here: equal layers are optimised once, and each gets its own names back.
    pub sources: Vec<Arc<str>>,
    /// Equal keys mean equal graphs.
    pub key: String,
}

/// Whether a node is work enough that a region should start with it.
pub(crate) fn is_heavy(node: &Node) -> bool {
    !node.regions.is_empty()
        || matches!(
            node.op,
            Op::Contract(_)
                | Op::Conv(_)
                | Op::ConvTranspose(_)
                | Op::Winograd(_)
                | Op::Attention(_)
                | Op::Recurrent(_)
        )
}

fn is_opaque(node: &Node) -> bool {
    !node.regions.is_empty() || node.outputs.len() != 1 || matches!(node.op, Op::Call(_))
}

fn is_constant(node: &Node) -> bool {
    matches!(node.op, Op::Constant(_))
}

/// The parts of a graph, in an order that respects the data flow.
pub(crate) fn cut(graph: &Graph) -> Result<Vec<Part>, PassError> {
    let segments = dominators::segments(graph);
    let mut ordered: Vec<(usize, NodeId)> = graph
        .nodes()
        .filter(|(_, node)| !is_constant(node))
        .map(|(id, _)| (segments[id.0 as usize], id))
        .collect();
    ordered.sort();
    let mut parts = Vec::new();
    let mut open: Vec<NodeId> = Vec::new();
    let mut segment = 0;
    let mut runs: Vec<Result<Vec<NodeId>, NodeId>> = Vec::new();
    let uses = graph.uses();
    for (next, id) in ordered {
        let opaque = is_opaque(graph.node(id));
        if (next != segment || opaque) && !open.is_empty() {
            runs.push(Ok(std::mem::take(&mut open)));
        } else if open.len() >= MAX_NODES {
            let rest = open.split_off(narrowest(graph, &open, &uses));
            let (now, later) = by_readers(graph, std::mem::replace(&mut open, rest), &uses);
            open.splice(..0, later);
            runs.push(Ok(now));
        }
        segment = next;
        if opaque { runs.push(Err(id)) } else { open.push(id) }
    }
    if !open.is_empty() {
        runs.push(Ok(open));
    }
    for run in runs {
        parts.push(match run {
            Ok(nodes) => Part::Region(Box::new(region(graph, &nodes, &uses)?)),
            Err(id) => Part::Opaque(id),
        });
    }
    Ok(parts)
}

/// Where in the second half of a run of nodes the fewest bytes an element cross, the last of several
/// such places: what crosses is stored in memory.
fn narrowest(graph: &Graph, nodes: &[NodeId], uses: &[Vec<NodeId>]) -> usize {
    let place: BTreeMap<NodeId, usize> =
        nodes.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    // By how much the bytes before a node differ from those before the one before it.
    let mut changes = vec![0i64; nodes.len() + 1];
    for (at, &id) in nodes.iter().enumerate() {
        for &output in &graph.node(id).outputs {
            let bytes = graph.ty(output).dtype.size() as i64;
            let users = uses[output.0 as usize].iter();
            let last = users.map(|user| place.get(user).copied().unwrap_or(nodes.len())).max();
            let last = last.unwrap_or(at);
            if last > at {
                changes[at + 1] += bytes;
                if let Some(change) = changes.get_mut(last + 1) {
                    *change -= bytes;
                }
            }
        }
    }
    let mut crossing = 0;
    let bytes: Vec<i64> = changes
        .into_iter()
        .map(|change| {
            crossing += change;
            crossing
        })
        .collect();
    let least = (nodes.len() / 2..=nodes.len()).rev().min_by_key(|&at| bytes[at]);
    least.filter(|&at| at > 0).unwrap_or(nodes.len())
}

/// Nodes of a run, and after them those that only make numbers of small integers for what comes later:
/// whatever reads numbers had better read the integers.
fn by_readers(
    graph: &Graph,
    nodes: Vec<NodeId>,
    uses: &[Vec<NodeId>],
) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut now: BTreeSet<NodeId> = nodes.iter().copied().collect();
    for &id in nodes.iter().rev() {
        let node = graph.node(id);
        let mut users = node.outputs.iter().flat_map(|output| &uses[output.0 as usize]);
        if makes_numbers(graph, node) && !users.any(|user| now.contains(user)) {
            now.remove(&id);
        }
    }
    nodes.into_iter().partition(|id| now.contains(id))
}

/// Some nodes as a graph of their own.
fn region(graph: &Graph, nodes: &[NodeId], uses: &[Vec<NodeId>]) -> Result<Region, PassError> {
    let error = |error| PassError::Graph { pass: "region", error };
    let members: BTreeSet<NodeId> = nodes.iter().copied().collect();
    let mut own = Graph::new("region");
    own.symbols = graph.symbols.clone();
    let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let (mut inputs, mut constant) = (Vec::new(), Vec::new());
    for &id in nodes {
        for &input in &graph.node(id).inputs {
            let inside = matches!(
                graph.value(input).producer,
                Producer::Node { node, .. } if members.contains(&node)
            );
            if inside || map.contains_key(&input) {
                continue;
            }
            let tensor = graph.constant_of(input);
            let value =
                match tensor.filter(|tensor| tensor.len() == 1 && !tensor.dtype().is_handle()) {
                    Some(tensor) => own.constant(tensor.clone()).map_err(error)?,
                    None => {
                        inputs.push(input);
                        constant.push(tensor.is_some());
                        own.input(format!("x{}", inputs.len() - 1), graph.ty(input).clone())
                    }
                };
            map.insert(input, value);
        }
    }
    let mut sources: Vec<Arc<str>> = Vec::new();
    for (number, &id) in nodes.iter().enumerate() {
        let node = graph.node(id);
        sources.push(node.source.clone().unwrap_or_else(|| Arc::from("")));
        let operands: Vec<ValueId> =
            node.inputs.iter().filter_map(|input| map.get(input).copied()).collect();
        let results = own
            .add_node(node.op.clone(), &operands, Vec::new(), Some(number.to_string().into()))
            .map_err(error)?;
        map.extend(node.outputs.iter().copied().zip(results));
    }
    let mut outputs = Vec::new();
    for &output in nodes.iter().flat_map(|&id| &graph.node(id).outputs) {
        let outside = uses[output.0 as usize].iter().any(|user| !members.contains(user));
        if outside || graph.outputs().contains(&output) {
            let value = map[&output];
            own.output(value, format!("y{}", outputs.len())).map_err(error)?;
            outputs.push(output);
        }
    }
    let renaming = canonical::symbols(&own);
    let graph = rename(&own, &renaming).map_err(error)?;
    let symbols = renaming.into_iter().map(|(from, to)| (to, from)).collect();
    let flags: String = constant.iter().map(|&c| if c { 'c' } else { 'v' }).collect();
    let key = format!("{flags} {}", crate::structure::graph_key(&graph));
    Ok(Region { graph, constant, inputs, outputs, symbols, sources, key })
}

/// What separates the numbers of several nodes that one node came from.
pub(crate) const JOINT: &str = " ";

impl Region {
    /// The names of the nodes with these numbers, each once.
    pub fn source(&self, numbers: &str) -> Option<Arc<str>> {
        let mut names: Vec<&str> = Vec::new();
        for number in numbers.split(JOINT) {
            let name = number.parse().ok().and_then(|number: usize| self.sources.get(number));
            // A node that was fused before has the names of several.
            for name in name.into_iter().flat_map(|name| name.split(", ")) {
                if !name.is_empty() && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        (!names.is_empty()).then(|| names.join(", ").into())
    }
}
