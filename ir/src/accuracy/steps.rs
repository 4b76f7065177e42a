//! How many rounded steps lie behind the outputs of a graph.
//!
//! Invariant: this is an upper estimate along the longest path; unknown sizes count as 1.

use crate::graph::{Graph, Node, TensorType};
use crate::op::{Op, ScatterElements, ScatterNd, ScatterReduction, WindowFn};
use kiln_tensor::{Dim, SymbolValues};

/// The sum of the operations' reduction lengths along the longest path through the graph, for
/// [`super::Tolerance::for_type`]; at least 1.
pub fn rounded_steps(graph: &Graph, symbols: &SymbolValues) -> u64 {
    let mut steps = vec![0u64; graph.value_count()];
    for (_, node) in graph.nodes() {
        let before = node.inputs.iter().map(|id| steps[id.0 as usize]).max().unwrap_or(0);
        let after = before.saturating_add(own_steps(graph, node, symbols));
        node.outputs.iter().for_each(|id| steps[id.0 as usize] = after);
    }
    graph.outputs().iter().map(|id| steps[id.0 as usize]).max().unwrap_or(0).max(1)
}

/// Rounded steps behind one element of the node's result.
fn own_steps(graph: &Graph, node: &Node, symbols: &SymbolValues) -> u64 {
    let size = |dim: &Dim| dim.evaluate(symbols).map_or(1, |size| size.max(1) as u64);
    let product =
        |dims: &mut dyn Iterator<Item = &Dim>| dims.map(size).fold(1u64, u64::saturating_mul);
    let types: Vec<&TensorType> = node.inputs.iter().map(|&id| graph.ty(id)).collect();
    let dim = |operand: usize, number: usize| {
        types.get(operand).and_then(|ty| ty.shape.get(number)).map_or(1, size)
    };
    match &node.op {
        Op::Reduce(op) => op.axes.iter().map(|&axis| dim(0, axis)).fold(1, u64::saturating_mul),
        Op::Accumulate(op) => dim(0, op.axis),
        Op::Softmax(op) => dim(0, op.axis),
        Op::Normalize(op) => {
            types.first().map_or(1, |x| product(&mut x.shape.iter().skip(op.axis)))
        }
        Op::WindowReduce(op) if op.f == WindowFn::Max => 0,
        Op::WindowReduce(op) => {
            op.window.iter().map(|&size| size as u64).fold(1, u64::saturating_mul)
        }
        Op::Contract(op) => {
            let summed = op.spec.summed();
            let length = |labels: &[u8], operand: usize| -> Vec<(u8, u64)> {
                let labels = labels.iter().enumerate();
                labels.map(|(number, &label)| (label, dim(operand, number))).collect()
            };
            let all = [length(&op.spec.lhs, 0), length(&op.spec.rhs, 1)].concat();
            let lengths = summed.iter().filter_map(|label| all.iter().find(|(l, _)| l == label));
            lengths.map(|(_, length)| *length).fold(1, u64::saturating_mul)
        }
        // Every element of a filter meets one of the operand; the filters are not summed over.
        Op::Conv(op) => {
            let filters = match op.layout {
                crate::op::ConvLayout::ChannelsFirst => 0,
                crate::op::ConvLayout::ChannelsLast => {
                    types.get(1).map_or(0, |w| w.rank().saturating_sub(1))
                }
            };
            types.get(1).map_or(1, |w| {
                let dims = w.shape.iter().enumerate().filter(|(number, _)| *number != filters);
                product(&mut dims.map(|(_, dim)| dim))
            })
        }
        Op::ConvTranspose(_) => types.get(1).map_or(1, |w| {
            let dims = w.shape.iter().enumerate().filter(|(number, _)| *number != 1);
            product(&mut dims.map(|(_, dim)| dim))
        }),
        // Those of the convolution that it is: see the module above.
        Op::Winograd(_) => dim(1, 1).saturating_mul(9),
        Op::Attention(_) => dim(0, 3).saturating_add(dim(1, 2)),
        // What was summed before is counted there.
        Op::Recurrent(layer) if layer.projected => dim(0, 0).saturating_mul(dim(1, 2)),
        Op::Recurrent(_) => dim(0, 0).saturating_mul(dim(1, 2).saturating_add(dim(2, 2))),
        Op::Resize(_) => 4,
        Op::ScatterElements(ScatterElements { reduction, .. })
        | Op::ScatterNd(ScatterNd { reduction }) => match reduction {
            // All updates may be for one place.
            ScatterReduction::Add | ScatterReduction::Mul => {
                types.get(1).map_or(1, |indices| product(&mut indices.shape.iter()))
            }
            _ => 1,
        },
        Op::If(_) | Op::Fused(_) => {
            node.regions.iter().map(|body| rounded_steps(body, symbols)).max().unwrap_or(1)
        }
        Op::Loop(op) => {
            let body = node.regions.iter().map(|body| rounded_steps(body, symbols)).max();
            body.unwrap_or(1).saturating_mul(size(&op.scan_length))
        }
        Op::Unary(_) | Op::Binary(_) | Op::Cast(_) | Op::BitCast(_) => 1,
        // These only move elements.
        _ => 0,
    }
}
