//! Contractions and convolutions of which one or both operands stand for small integers.
//!
//! Invariant: a product of integers stays one, summed exactly; of an operand that is no integer, the
//! other's scale is taken off alone.

use super::super::rebuild::Rebuild;
use super::bytes::Bytes;
use super::dequantised::Dequantised;
use super::{IntegerProducts, scaled};
use crate::PassError;
use kiln_ir::op::{self, ConvLayout, Op};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::{DType, Dim};

/// A contraction or convolution of integers, or of integers and numbers.
pub(super) struct Product<'g> {
    operands: [Operand<'g>; 2],
    /// For each operand, the axis of the result along which its scale differs.
    along: [Option<usize>; 2],
    /// The type of the numbers, and that in which they are summed.
    dtype: DType,
    summed: DType,
    /// How it is written for a processor that adds up products of bytes.
    bytes: Option<Bytes>,
}

enum Operand<'g> {
    Integers(Dequantised<'g>),
    Numbers(ValueId),
}

impl<'g> Operand<'g> {
    fn of(graph: &'g Graph, value: ValueId) -> Self {
        Dequantised::of(graph, value).map_or(Operand::Numbers(value), Operand::Integers)
    }

    fn integers(&self) -> Option<&Dequantised<'g>> {
        match self {
            Operand::Integers(integers) => Some(integers),
            Operand::Numbers(_) => None,
        }
    }

    /// The axis along which the scale differs.
    fn axis(&self) -> Option<usize> {
        self.integers().and_then(|integers| integers.scale.axis)
    }
}

impl<'g> Product<'g> {
    pub(super) fn of(graph: &'g Graph, node: &Node, how: IntegerProducts) -> Option<Self> {
        let &[a, b] = node.inputs.as_slice() else { return None };
        if !matches!(node.op, Op::Contract(_) | Op::Conv(_) | Op::ConvTranspose(_)) {
            return None;
        }
        let dtype = graph.ty(a).dtype;
        let operands = [Operand::of(graph, a), Operand::of(graph, b)];
        let axes = [operands[0].axis(), operands[1].axis()];
        let (shape_a, shape_b) = (&graph.ty(a).shape, &graph.ty(b).shape);
        let size = |dims: &[Dim]| {
            let mut sizes = dims.iter().map(Dim::as_const);
            sizes.try_fold(1i64, |product, size| product.checked_mul(size?))
        };
        let (along, terms) = match &node.op {
            Op::Contract(contract) => {
                let spec = &contract.spec;
                let place = |labels: &[u8], axis: Option<usize>| match axis {
                    None => Some(None),
                    Some(axis) => {
                        let label = labels.get(axis)?;
                        Some(Some(spec.out.iter().position(|other| other == label)?))
                    }
                };
                let along = [place(&spec.lhs, axes[0])?, place(&spec.rhs, axes[1])?];
                let dims = spec.summed().into_iter().map(|label| {
                    let of = |labels: &[u8]| labels.iter().position(|&other| other == label);
                    let left = of(&spec.lhs).and_then(|at| shape_a.get(at));
                    left.or_else(|| of(&spec.rhs).and_then(|at| shape_b.get(at))).cloned()
                });
                (along, size(&dims.collect::<Option<Vec<Dim>>>()?))
            }
            Op::Conv(conv) if conv.layout == ConvLayout::ChannelsFirst => {
                let along = match axes {
                    [None, None] => [None, None],
                    [None, Some(0)] => [None, Some(1)],
                    _ => return None,
                };
                (along, size(shape_b.get(1..)?))
            }
            Op::ConvTranspose(conv) => {
                let along = match axes {
                    [None, None] => [None, None],
                    [None, Some(1)] if conv.groups == 1 => [None, Some(1)],
                    _ => return None,
                };
                (along, size(shape_b))
            }
            _ => return None,
        };
        if let ([Operand::Integers(x), Operand::Integers(w)], IntegerProducts::InBytes) =
            (&operands, how)
        {
            if Bytes::is_written(graph, dtype, [x, w]) {
                return None;
            }
            if let Some(bytes) = terms.and_then(|terms| Bytes::of(graph, node, [x, w], terms)) {
                let summed = DType::I32;
                return Some(Product { operands, along, dtype, summed, bytes: Some(bytes) });
            }
        }
        let summed = match (dtype, &operands) {
            // Of numbers that are no integers there must be a scale to take off.
            (DType::F32, [Operand::Numbers(_), Operand::Numbers(_)]) => return None,
            (DType::F32, _) => DType::F32,
            (_, [Operand::Integers(a), Operand::Integers(b)]) => {
                let term = a.reach.checked_mul(b.reach)?;
                match terms.and_then(|terms| terms.checked_mul(term)) {
                    Some(greatest) if greatest <= 1 << 24 => DType::F32,
                    Some(greatest) if greatest <= i64::from(i32::MAX) => DType::F64,
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(Product { operands, along, dtype, summed, bytes: None })
    }

    /// The result of the node, written anew.
    pub(super) fn write(&self, rebuild: &mut Rebuild, node: &Node) -> Result<ValueId, PassError> {
        let mut result = match (&self.bytes, &self.operands) {
            (Some(bytes), [Operand::Integers(x), Operand::Integers(w)]) => {
                bytes.write(rebuild, node, [x, w])?
            }
            _ => self.write_numbers(rebuild, node)?,
        };
        if self.summed != self.dtype {
            result = rebuild.add1(op::Cast { to: self.dtype }, &[result], node)?;
        }
        let rank = rebuild.new.ty(result).rank();
        let scales = self.operands.iter().map(|operand| Some(&operand.integers()?.scale));
        let single = scales.clone().flatten().filter(|scale| scale.axis.is_none());
        let mut common: f64 = single.filter_map(|scale| scale.values.first()).product();
        for (scale, along) in scales.zip(self.along) {
            let (Some(scale), Some(axis)) = (scale, along) else { continue };
            let values: Vec<f64> = scale.values.iter().map(|scale| scale * common).collect();
            common = 1.0;
            let mut sizes = vec![1; rank - axis];
            sizes[0] = values.len();
            result = scaled(rebuild, result, sizes, &values, node)?;
        }
        if common != 1.0 {
            result = scaled(rebuild, result, Vec::new(), &[common], node)?;
        }
        Ok(result)
    }

    /// The result of the node before scales, in floats.
    fn write_numbers(&self, rebuild: &mut Rebuild, node: &Node) -> Result<ValueId, PassError> {
        let mut inputs = Vec::with_capacity(2);
        for operand in &self.operands {
            inputs.push(match operand {
                Operand::Integers(integers) => integers.write(rebuild, self.summed, node)?,
                Operand::Numbers(value) => rebuild.value(*value)?,
            });
        }
        rebuild.add1(node.op.clone(), &inputs, node)
    }
}
