//! What works on numbers that stand for small integers reads the integers themselves.
//!
//! Invariant: sums of integers are exact; sums of numbers and integers round no worse than they would
//! have, unless they come within 2⁴⁰ of what f32 can hold.
//!
//! `(a − za)·sa` times `b`, summed, is `sa` times the sum of `(a − za)·b`, for a scale that does not
//! depend on what is summed over; so is a mean or an interpolation; and a neighbour or the largest of
//! several is the same of the integers. Scales move behind the operation, to what quantises its result.
//! The integers are widened where they are read (see `fused`), so both they and weights stay as small
//! as they are in the model. Where the processor adds up products of bytes in one operation, that is what
//! products of them become ([`IntegerProducts`]); elsewhere they are multiplied and added in floating point,
//! in which processors are several times as fast as in 32-bit integers: f32 holds whole numbers up to 2²⁴,
//! f64 any sum that fits in 32 bits.

mod bytes;
mod dequantised;
mod product;
mod sample;

use super::rebuild::Rebuild;
use crate::PassError;
use crate::integers::{is_small_integer, is_widening};
use dequantised::{moves, producer};
use kiln_ir::op::{self, BinaryFn, Op};
use kiln_ir::{Graph, GraphError, Node, OpError, ValueId};
use kiln_tensor::{DType, Tensor, TensorError};
use product::Product;
use sample::Sample;

const PASS: &str = "integers";

/// How products of small integers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegerProducts {
    /// In floats, which hold them and their sums exactly.
    #[default]
    InFloats,
    /// Those of 8 bits as bytes that are summed in 32 bits, for a processor that adds several products at
    /// once; the others in floats.
    InBytes,
    /// As the graph has them: it was decided before.
    AsTheyAre,
}

pub(super) fn integers(graph: &Graph, how: IntegerProducts) -> Result<(Graph, bool), PassError> {
    if how == IntegerProducts::AsTheyAre {
        return Ok((graph.clone(), false));
    }
    let mut rebuild = Rebuild::start(PASS, graph);
    for (_, node) in graph.nodes() {
        let result = match (Product::of(graph, node, how), Sample::of(graph, node)) {
            (Some(product), _) => product.write(&mut rebuild, node)?,
            (_, Some(sample)) => sample.write(&mut rebuild, node)?,
            (None, None) => {
                rebuild.keep(graph, node)?;
                continue;
            }
        };
        rebuild.replace(graph, node, &[result])?;
    }
    rebuild.finish(graph)
}

/// Which nodes stand between small integers that are constant and a product of integers, and are
/// best left for where it reads them.
pub(super) fn widening(graph: &Graph) -> Vec<bool> {
    let mut widens = vec![false; graph.nodes().len()];
    for (_, node) in graph.nodes() {
        let product = matches!(node.op, Op::Contract(_) | Op::Conv(_) | Op::ConvTranspose(_));
        for &input in node.inputs.iter().filter(|_| product) {
            mark_widening(graph, input, &mut widens);
        }
    }
    widens
}

/// Marks the nodes from what a product reads down to a constant of small integers.
fn mark_widening(graph: &Graph, value: ValueId, widens: &mut [bool]) {
    let mut path = Vec::new();
    let mut at = value;
    while let Some((id, node)) = producer(graph, at) {
        if is_small_integer(graph.ty(at).dtype) {
            break;
        }
        let Some(&first) = node.inputs.first() else { return };
        if !is_widening(graph, node) && !moves(&node.op) {
            return;
        }
        path.push(id);
        at = first;
    }
    if is_small_integer(graph.ty(at).dtype) {
        path.into_iter().for_each(|id| widens[id.0 as usize] = true);
    }
}

/// The value times factors, which stretch to its shape.
fn scaled(
    rebuild: &mut Rebuild,
    value: ValueId,
    sizes: Vec<usize>,
    factors: &[f64],
    node: &Node,
) -> Result<ValueId, PassError> {
    let factors = constant(rebuild, Tensor::from_f64(DType::F32, sizes, factors), node)?;
    rebuild.add1(op::Binary { f: BinaryFn::Mul }, &[value, factors], node)
}

/// A constant of the new graph.
fn constant(
    rebuild: &mut Rebuild,
    tensor: Result<Tensor, TensorError>,
    node: &Node,
) -> Result<ValueId, PassError> {
    let error = |error| PassError::Graph { pass: PASS, error };
    let tensor = tensor.map_err(|cause| {
        let (op, node) = ("Constant", node.source.clone());
        error(GraphError::Op { op, node, error: OpError::from(cause) })
    })?;
    rebuild.new.constant(tensor).map_err(error)
}
