//! Computes at compile time what constants alone decide.
//!
//! Invariant: a folded value is what the reference evaluation gives; what cannot be computed is left
//! for the run, where it may never be reached. A result that is larger than its operands is only
//! stored where it is worth it: weights are, a stretched bias is not.

mod elementwise;
mod evaluate;
mod movement;
mod product;

use super::integers;
use super::rebuild::Rebuild;
use crate::PassError;
use crate::region::is_heavy;
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use std::collections::BTreeSet;

/// Results up to this many elements are stored even if their operands are smaller.
const SMALL: usize = 64;
/// Results beyond this many bytes are left for the run: a few sizes in a model must not fill memory.
const MOST_BYTES: usize = 1 << 31;
/// What results may be larger than their operands in all, for the same reason, beside as much again as the model
/// has constants.
const MOST_GROWTH: usize = 1 << 30;

pub(super) fn fold(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut values = evaluate::all(graph, &Choice::of(graph));
    let mut rebuild = Rebuild::start("fold", graph);
    for (id, node) in graph.nodes() {
        match values.remove(&id) {
            Some(tensor) => {
                let error = |error| PassError::Graph { pass: "fold", error };
                let value = rebuild.new.constant(tensor).map_err(error)?;
                rebuild.replace(graph, node, &[value])?;
            }
            None => rebuild.keep(graph, node)?,
        }
    }
    rebuild.finish(graph)
}

/// What is computed, which sizes alone decide.
struct Choice {
    /// Nodes whose results take the nodes' places.
    stored: Vec<NodeId>,
    /// Whether a node is computed, for what is stored.
    computed: Vec<bool>,
}

impl Choice {
    fn of(graph: &Graph) -> Self {
        let constant = constant(graph);
        let weighs = weighs(graph, &constant);
        let widens = integers::widening(graph);
        let sum = |values: &[ValueId]| {
            values.iter().map(|&value| bytes(graph, value)).fold(0, usize::saturating_add)
        };
        let is_stored = |id: NodeId, node: &Node| {
            let number = id.0 as usize;
            if !constant[number] || widens[number] || matches!(node.op, Op::Constant(_)) {
                return false;
            }
            let (result, operands) = (sum(&node.outputs), sum(&node.inputs));
            result <= MOST_BYTES && (weighs[number] || result <= operands.max(SMALL * 8))
        };
        let constants = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Constant(_)));
        // How much of it is left.
        let mut growth =
            constants.fold(MOST_GROWTH, |most, (_, node)| most.saturating_add(sum(&node.outputs)));
        let (mut stored, mut computed) = (Vec::new(), vec![false; constant.len()]);
        let mut seen = vec![false; constant.len()];
        for (id, _) in graph.nodes().filter(|(id, node)| is_stored(*id, node)) {
            // What it needs that was not looked at yet, operands before what reads them.
            let mut needed = BTreeSet::new();
            let mut open = vec![id.0 as usize];
            while let Some(number) = open.pop() {
                if !seen[number] {
                    seen[number] = true;
                    needed.insert(number);
                    let inputs = &graph.node(NodeId(number as u32)).inputs;
                    open.extend(inputs.iter().filter_map(|&input| maker(graph, input)));
                }
            }
            let more = |node: &Node| match &node.op {
                // The constants of the model are there already.
                Op::Constant(_) => 0,
                _ => sum(&node.outputs).saturating_sub(sum(&node.inputs)),
            };
            let nodes = || needed.iter().map(|&number| graph.node(NodeId(number as u32)));
            let all = nodes().map(more).fold(0, usize::saturating_add);
            // What an earlier one needed and could not have is not there for this one, either.
            let mut inputs = nodes().flat_map(|node| &node.inputs);
            let known = inputs.all(|&input| {
                maker(graph, input)
                    .is_some_and(|number| computed[number] || needed.contains(&number))
            });
            if known && all <= growth && nodes().all(|node| sum(&node.outputs) <= MOST_BYTES) {
                growth -= all;
                needed.iter().for_each(|&number| computed[number] = true);
                stored.push(id);
            } else {
                // Others may need less of it.
                needed.iter().for_each(|&number| seen[number] = false);
            }
        }
        Choice { stored, computed }
    }
}

/// Bytes of a value whose sizes are known.
fn bytes(graph: &Graph, value: ValueId) -> usize {
    let ty = graph.ty(value);
    let sizes = ty.static_sizes().unwrap_or_default();
    sizes.iter().fold(ty.dtype.size(), |bytes, &size| bytes.saturating_mul(size))
}

/// The number of the node that makes a value; none makes an input.
fn maker(graph: &Graph, value: ValueId) -> Option<usize> {
    match graph.value(value).producer {
        Producer::Node { node, .. } => Some(node.0 as usize),
        Producer::Input(_) => None,
    }
}

/// Which nodes depend on constants alone.
fn constant(graph: &Graph) -> Vec<bool> {
    let mut constant = vec![false; graph.nodes().len()];
    for (id, node) in graph.nodes() {
        let known = |&input: &ValueId| maker(graph, input).is_some_and(|number| constant[number]);
        constant[id.0 as usize] = node.regions.is_empty()
            && node.outputs.iter().all(|&out| graph.ty(out).static_sizes().is_some())
            && node.op.clone().dims_mut().iter().all(|dim| dim.as_const().is_some())
            && node.outputs.len() == 1
            && !graph.ty(node.outputs[0]).dtype.is_list()
            && node.inputs.iter().all(known);
    }
    constant
}

/// Whether a node's result goes into an operation that packs or rereads it.
fn weighs(graph: &Graph, constant: &[bool]) -> Vec<bool> {
    let mut weighs = vec![false; constant.len()];
    let mut weigh = |value: ValueId| {
        if let Some(number) = maker(graph, value) {
            weighs[number] = true;
        }
    };
    for (_, node) in graph.nodes().filter(|(id, _)| !constant[id.0 as usize]) {
        if takes_weights(node) {
            node.inputs.iter().for_each(|&input| weigh(input));
        }
    }
    graph.outputs().iter().for_each(|&output| weigh(output));
    weighs
}

/// Whether an operation reads its operands again and again, so that they should be laid out.
fn takes_weights(node: &Node) -> bool {
    is_heavy(node) || matches!(node.op, Op::Normalize(_) | Op::Gather(_))
}
