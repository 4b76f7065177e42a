//! Weights and biases without subnormal numbers: a processor takes some hundred cycles over each product
//! with one.
//!
//! Invariant: what is left out of a sum is below the bound on its roundings.
//!
//! Training that makes weights decay leaves them behind: in a squeeze of PP-OCRv4's recognition a quarter
//! of the weights are subnormal, and it took some thirty times as long as without. The processor's own
//! modes (FTZ, DAZ) would flush what models compute as well, and what only moves through registers.

use crate::PassError;
use crate::simplify::Rebuild;
use kiln_ir::op::{BinaryFn, Op};
use kiln_ir::{Graph, Node, Producer, ValueId};
use kiln_tensor::{DType, Tensor};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A tensor whose largest number is smaller keeps its subnormal ones. They are 2⁻³⁶ of this at most: for
/// operands of one magnitude, n such terms come to less than the bound of a sum of n terms with this one
/// among them, 6·√n·2⁻²⁴ ([`kiln_ir::accuracy`]), for all n below 2²⁹.
const LARGE: f32 = f32::from_bits(37 << 23);

/// The graph with subnormal weights of products, and subnormal terms that are added to those, as zeros, in bodies, too.
pub(super) fn flush(graph: &Graph) -> Result<Cow<'_, Graph>, PassError> {
    let mut flushed: BTreeMap<ValueId, Option<Tensor>> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        for input in added_up(graph, node) {
            flushed.entry(input).or_insert_with(|| graph.constant_of(input).and_then(without));
        }
    }
    flushed.retain(|_, tensor| tensor.is_some());
    let plain = graph.nodes().all(|(_, node)| node.regions.is_empty());
    if flushed.is_empty() && plain {
        return Ok(Cow::Borrowed(graph));
    }
    let error = |error| PassError::Graph { pass: "flush", error };
    let mut rebuild = Rebuild::start("flush", graph);
    let mut known: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        if !node.regions.is_empty() {
            let bodies = node.regions.iter().map(|body| Ok(flush(body)?.into_owned()));
            rebuild.keep_with(graph, node, bodies.collect::<Result<_, PassError>>()?)?;
            continue;
        }
        let mut inputs = rebuild.operands(node)?;
        let mut changed = false;
        for old in added_up(graph, node) {
            let Some(Some(tensor)) = flushed.get(&old) else { continue };
            let new = match known.get(&old) {
                Some(&new) => new,
                None => rebuild.new.constant(tensor.clone()).map_err(error)?,
            };
            known.insert(old, new);
            for (input, &before) in inputs.iter_mut().zip(&node.inputs) {
                if before == old {
                    *input = new;
                }
            }
            changed = true;
        }
        if changed {
            let outputs = rebuild.add(node.op.clone(), &inputs, node)?;
            rebuild.replace(graph, node, &outputs)?;
        } else {
            rebuild.keep(graph, node)?;
        }
    }
    Ok(Cow::Owned(rebuild.finish(graph)?.0))
}

/// Constant operands of a node that are weights of its products, or are added to what has weights.
fn added_up(graph: &Graph, node: &Node) -> Vec<ValueId> {
    let constant = |value: &ValueId| graph.constant_of(*value).is_some();
    let sums = match &node.op {
        Op::Contract(_) | Op::Conv(_) | Op::ConvTranspose(_) => true,
        Op::Binary(binary) if binary.f == BinaryFn::Add => node.inputs.iter().any(|&input| {
            matches!(graph.value(input).producer, Producer::Node { node, .. } if matches!(
                graph.node(node).op,
                Op::Contract(_) | Op::Conv(_) | Op::ConvTranspose(_)
            ))
        }),
        _ => false,
    };
    node.inputs.iter().copied().filter(|_| sums).filter(constant).collect()
}

/// The tensor without its subnormal numbers, if it has any and larger ones, too.
fn without(tensor: &Tensor) -> Option<Tensor> {
    if tensor.dtype() != DType::F32 {
        return None;
    }
    // Weights lie wherever the model's file has them, at no multiple of their size.
    let numbers = || {
        let (numbers, _) = tensor.bytes().as_chunks::<4>();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes))
    };
    // One pass without branches: most weights have none.
    let found = numbers().fold(false, |found, x| found | x.is_subnormal());
    if !found || !numbers().any(|x| x.abs() >= LARGE) {
        return None;
    }
    let flushed = numbers().map(|x| if x.is_subnormal() { 0.0f32.copysign(x) } else { x });
    Tensor::from_slice(tensor.sizes().to_vec(), &flushed.collect::<Vec<f32>>()).ok()
}
