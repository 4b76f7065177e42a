//! Computes at compile time what constants alone decide.
//!
//! Invariant: a folded value is what the reference evaluation gives; what cannot be computed is left
//! for the run, where it may never be reached. A result that is larger than its operands is only
//! stored where it is worth it: weights are, a stretched bias is not.

mod elementwise;
mod movement;

use super::integers;
use super::rebuild::Rebuild;
use crate::PassError;
use crate::region::is_heavy;
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node, NodeId, Producer, TensorType, ValueId};
use kiln_tensor::{SymbolValues, Tensor};
use std::collections::BTreeMap;

/// Results up to this many elements are stored even if their operands are smaller.
const SMALL: usize = 64;
/// Results beyond this many bytes are left for the run: a few sizes in a model must not fill memory.
const MOST_BYTES: usize = 1 << 31;
/// What results may be larger than their operands in all, for the same reason, beside as much again as the model
/// has constants.
const MOST_GROWTH: usize = 1 << 30;
/// The same for operations that are evaluated one number at a time.
const MOST_NUMBERS: usize = 1 << 22;
/// Multiplications of a product that is computed beforehand, and numbers of its matrices.
const MOST_PRODUCTS: usize = 1 << 30;
const MOST_PACKED: usize = 1 << 25;

pub(super) fn fold(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut folding = Folding::of(graph);
    let mut rebuild = Rebuild::start("fold", graph);
    for (id, node) in graph.nodes() {
        let stored = if folding.is_stored(id) { folding.value(node.outputs[0]) } else { None };
        match stored {
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

struct Folding<'g> {
    graph: &'g Graph,
    /// Which nodes depend on constants alone.
    constant: Vec<bool>,
    /// Whether a node's result goes into an operation that packs or rereads it.
    weighs: Vec<bool>,
    /// Whether a node widens the small integers of a product, which reads them as they are.
    widens: Vec<bool>,
    /// Results that were computed; `None` inside where that failed.
    values: Vec<Option<Option<Tensor>>>,
    /// How much of [`MOST_GROWTH`] is left.
    growth: usize,
}

impl<'g> Folding<'g> {
    fn of(graph: &'g Graph) -> Self {
        let mut constant = vec![false; graph.nodes().len()];
        for (id, node) in graph.nodes() {
            let known = |&input: &ValueId| match graph.value(input).producer {
                Producer::Node { node, .. } => constant[node.0 as usize],
                Producer::Input(_) => false,
            };
            constant[id.0 as usize] = node.regions.is_empty()
                && node.outputs.iter().all(|&out| graph.ty(out).static_sizes().is_some())
                && node.op.clone().dims_mut().iter().all(|dim| dim.as_const().is_some())
                && node.outputs.len() == 1
                && !graph.ty(node.outputs[0]).dtype.is_list()
                && node.inputs.iter().all(known);
        }
        let mut weighs = vec![false; constant.len()];
        let mut weigh = |value: ValueId| {
            if let Producer::Node { node, .. } = graph.value(value).producer {
                weighs[node.0 as usize] = true;
            }
        };
        for (_, node) in graph.nodes().filter(|(id, _)| !constant[id.0 as usize]) {
            if takes_weights(node) {
                node.inputs.iter().for_each(|&input| weigh(input));
            }
        }
        graph.outputs().iter().for_each(|&output| weigh(output));
        let values = vec![None; constant.len()];
        let widens = integers::widening(graph);
        let constants = graph.nodes().filter_map(|(_, node)| match &node.op {
            Op::Constant(constant) => Some(constant.tensor.bytes().len()),
            _ => None,
        });
        let growth = constants.fold(MOST_GROWTH, usize::saturating_add);
        Folding { graph, constant, weighs, widens, values, growth }
    }

    fn bytes(&self, value: ValueId) -> usize {
        let ty = self.graph.ty(value);
        let sizes = ty.static_sizes().unwrap_or_default();
        sizes.iter().fold(ty.dtype.size(), |bytes, &size| bytes.saturating_mul(size))
    }

    /// Whether a node's result should stand in the graph as a constant.
    fn is_stored(&self, id: NodeId) -> bool {
        let (node, number) = (self.graph.node(id), id.0 as usize);
        if !self.constant[number] || self.widens[number] || matches!(node.op, Op::Constant(_)) {
            return false;
        }
        let sum = |values: &[ValueId]| {
            values.iter().map(|&value| self.bytes(value)).fold(0, usize::saturating_add)
        };
        let (result, operands) = (sum(&node.outputs), sum(&node.inputs));
        result <= MOST_BYTES && (self.weighs[number] || result <= operands.max(SMALL * 8))
    }

    /// The value of a constant node's result; computed once, and only if it is asked for.
    fn value(&mut self, value: ValueId) -> Option<Tensor> {
        let graph = self.graph;
        let Producer::Node { node: id, .. } = graph.value(value).producer else { return None };
        let number = id.0 as usize;
        if !self.constant[number] {
            return None;
        }
        if let Some(known) = &self.values[number] {
            return known.clone();
        }
        let node = graph.node(id);
        let bytes = self.bytes(value);
        let operands =
            node.inputs.iter().map(|&input| self.bytes(input)).fold(0, usize::saturating_add);
        // The constants of the model are there already.
        let growth =
            if matches!(node.op, Op::Constant(_)) { 0 } else { bytes.saturating_sub(operands) };
        if bytes > MOST_BYTES || growth > self.growth {
            return None;
        }
        self.growth -= growth;
        let operands: Option<Vec<Tensor>> =
            node.inputs.iter().map(|&input| self.value(input)).collect();
        let result = operands.and_then(|operands| evaluate(graph, node, &operands));
        self.values[number] = Some(result.clone());
        result
    }
}

/// Whether an operation reads its operands again and again, so that they should be laid out.
fn takes_weights(node: &Node) -> bool {
    is_heavy(node) || matches!(node.op, Op::Normalize(_) | Op::Gather(_))
}

fn evaluate(graph: &Graph, node: &Node, operands: &[Tensor]) -> Option<Tensor> {
    if let Op::Constant(constant) = &node.op {
        return Some(constant.tensor.clone());
    }
    let ty = graph.ty(node.outputs[0]);
    let quick = movement::evaluate(&node.op, operands, ty)
        .or_else(|| elementwise::evaluate(&node.op, operands, ty));
    let result = match quick {
        Some(result) => result,
        None if !is_short(&node.op, operands, ty) => return None,
        None => node.op.evaluate(operands, &[], &SymbolValues::new()).ok()?.into_iter().next()?,
    };
    (TensorType::of(&result) == *ty).then_some(result)
}

/// Whether evaluating an operation takes neither long nor much memory.
fn is_short(op: &Op, operands: &[Tensor], result: &TensorType) -> bool {
    let (Op::Contract(contract), [a, b]) = (op, operands) else {
        return operands.iter().map(Tensor::len).fold(0, usize::saturating_add) <= MOST_NUMBERS;
    };
    let spec = &contract.spec;
    let sizes: BTreeMap<u8, usize> = (spec.lhs.iter().zip(a.sizes()))
        .chain(spec.rhs.iter().zip(b.sizes()))
        .map(|(&label, &size)| (label, size))
        .collect();
    // What its operands and its result are as matrices, whose rows or columns an operand may lack.
    let summed = spec.summed();
    let matrix = |lacks: &[u8]| {
        let all = sizes.iter().filter(|(label, _)| !lacks.contains(label));
        all.fold(1usize, |count, (_, &size)| count.saturating_mul(size))
    };
    let only = |of: &[u8], other: &[u8]| -> Vec<u8> {
        of.iter()
            .copied()
            .filter(|label| !other.contains(label) && !summed.contains(label))
            .collect()
    };
    let (rows, columns) = (only(&spec.lhs, &spec.rhs), only(&spec.rhs, &spec.lhs));
    let numbers =
        [matrix(&columns), matrix(&rows), result.static_sizes().map_or(0, |s| s.iter().product())];
    numbers.into_iter().fold(0, usize::saturating_add) <= MOST_PACKED
        && matrix(&[]) <= MOST_PRODUCTS
}
