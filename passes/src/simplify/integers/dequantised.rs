//! Values that stand for small integers: `(integers − zero)·scale`, moved.
//!
//! Invariant: what is found is exact: the integers, less their zero point, times the scale, are the
//! value to the bit.

use super::super::rebuild::Rebuild;
use crate::PassError;
use crate::integers::is_small_integer;
use kiln_ir::op::{self, BinaryFn, Op};
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use kiln_tensor::{DType, SymbolValues, Tensor};
use std::ops::RangeInclusive;

/// Larger scales and zero points are not computed here.
const MOST_ELEMENTS: i64 = 1 << 16;

/// Sizes of scales that are moved. f32 reaches from 2⁻¹²⁶ to 2¹²⁸.
const MODERATE: RangeInclusive<f64> = 1.0 / (1u64 << 40) as f64..=(1u64 << 40) as f64;

/// Whether an operation takes numbers elsewhere and leaves them as they are.
pub(super) fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose(_) | Op::Reshape(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Assume(_)
    )
}

pub(super) fn producer(graph: &Graph, value: ValueId) -> Option<(NodeId, &Node)> {
    match graph.value(value).producer {
        Producer::Node { node, .. } => Some((node, graph.node(node))),
        Producer::Input(_) => None,
    }
}

/// The value of a small constant, also where it is written as one that is moved or converted.
fn known(graph: &Graph, value: ValueId) -> Option<Tensor> {
    let few = graph.ty(value).elements().as_const().is_some_and(|count| count <= MOST_ELEMENTS);
    let (_, node) = producer(graph, value).filter(|_| few)?;
    match &node.op {
        Op::Constant(constant) => Some(constant.tensor.clone()),
        op @ (Op::Cast(_) | Op::Reshape(_) | Op::Broadcast(_) | Op::Transpose(_)) => {
            let operands = node.inputs.iter().map(|&input| known(graph, input));
            let operands = operands.collect::<Option<Vec<Tensor>>>()?;
            op.evaluate(&operands, &[], &SymbolValues::new()).ok()?.into_iter().next()
        }
        _ => None,
    }
}

/// A number for all, or one for each place along an axis.
pub(super) struct Scale {
    pub(super) axis: Option<usize>,
    pub(super) values: Vec<f64>,
}

impl Scale {
    /// The scale of a value of this rank, if it may be taken off before sums and put on behind them:
    /// what is tiny would let them overflow, and a product of what is huge would.
    fn of(tensor: &Tensor, rank: usize) -> Option<Self> {
        let values = tensor.to_f64();
        let moderate = |value: &f64| *value == 0.0 || MODERATE.contains(&value.abs());
        if !values.iter().all(moderate) {
            return None;
        }
        let sizes = tensor.sizes();
        let mut long = sizes.iter().enumerate().filter(|(_, size)| **size != 1);
        let axis = match (long.next(), long.next()) {
            (None, _) => None,
            (Some((axis, _)), None) => Some(axis + rank.checked_sub(sizes.len())?),
            _ => return None,
        };
        Some(Scale { axis, values })
    }
}

/// A value that stands for small integers; the scale is 1 for integers of 32 bits.
pub(super) struct Dequantised<'g> {
    pub(super) integers: ValueId,
    zero: Option<ValueId>,
    /// Whether there is one zero point for all.
    pub(super) one_zero: bool,
    pub(super) scale: Scale,
    /// What moves the numbers, the last first.
    moved: Vec<&'g Op>,
    /// How far from zero the integers may be.
    pub(super) reach: i64,
}

impl<'g> Dequantised<'g> {
    pub(super) fn of(graph: &'g Graph, value: ValueId) -> Option<Self> {
        let (mut at, mut moved) = (value, Vec::new());
        let mut node = producer(graph, at)?.1;
        while moves(&node.op) {
            moved.push(&node.op);
            at = *node.inputs.first()?;
            node = producer(graph, at)?.1;
        }
        let rank = graph.ty(at).rank();
        let (integers, zero, scale) = match (graph.ty(at).dtype, &node.op, &node.inputs[..]) {
            (DType::I32, _, _) => {
                let (integers, zero) = shifted(graph, at)?;
                (integers, zero, Scale { axis: None, values: vec![1.0] })
            }
            (DType::F32, Op::Binary(op::Binary { f: BinaryFn::Mul }), &[a, b]) => {
                [(a, b), (b, a)].into_iter().find_map(|(number, scale)| {
                    let number = converted(graph, number, DType::F32)?;
                    // Without a zero point, the integers are converted at once.
                    let (integers, zero) = match is_small_integer(graph.ty(number).dtype) {
                        true => (number, None),
                        false => shifted(graph, number)?,
                    };
                    Some((integers, zero, Scale::of(&known(graph, scale)?, rank)?))
                })?
            }
            _ => return None,
        };
        if graph.ty(integers).shape != graph.ty(at).shape {
            return None;
        }
        let one_zero = zero.is_none_or(|zero| graph.ty(zero).elements().is(1));
        if !moved.is_empty() && (scale.axis.is_some() || !one_zero) {
            return None;
        }
        let (least, most) = range(graph.ty(integers).dtype)?;
        let zeros = match zero {
            None => vec![0],
            Some(zero) => match known(graph, zero) {
                Some(zero) => zero.to_i64(),
                None => {
                    let range = range(graph.ty(converted(graph, zero, DType::I32)?).dtype)?;
                    vec![range.0, range.1]
                }
            },
        };
        let reach =
            zeros.iter().map(|&zero| (most - zero).abs().max((least - zero).abs())).max()?;
        let zero = zero.filter(|_| zeros.iter().any(|&zero| zero != 0));
        Some(Dequantised { integers, zero, one_zero, scale, moved, reach })
    }

    /// The one factor between the integers and the numbers, if there is only one, above zero, and
    /// one zero point.
    pub(super) fn uniform(&self) -> Option<f64> {
        let &[factor] = &self.scale.values[..] else { return None };
        (self.one_zero && factor.is_finite() && factor > 0.0).then_some(factor)
    }

    /// The integers, where the numbers were.
    pub(super) fn integers(
        &self,
        rebuild: &mut Rebuild,
        node: &Node,
    ) -> Result<ValueId, PassError> {
        let value = rebuild.value(self.integers)?;
        self.moved(rebuild, value, node)
    }

    /// A value where the integers are, moved to where the numbers were.
    pub(super) fn moved(
        &self,
        rebuild: &mut Rebuild,
        mut value: ValueId,
        node: &Node,
    ) -> Result<ValueId, PassError> {
        for &op in self.moved.iter().rev() {
            value = rebuild.add1(op.clone(), &[value], node)?;
        }
        Ok(value)
    }

    /// Whether the numbers are the integers.
    pub(super) fn is_plain(&self) -> bool {
        self.zero.is_none() && self.scale.values == [1.0]
    }

    /// The zero points, if they are known.
    pub(super) fn known_zeros(&self, graph: &Graph) -> Option<Vec<i64>> {
        match self.zero {
            None => Some(vec![0]),
            Some(zero) => Some(known(graph, zero)?.to_i64()),
        }
    }

    /// The zero point of all, without dimensions, if it is not 0.
    pub(super) fn zero_point(
        &self,
        rebuild: &mut Rebuild,
        node: &Node,
    ) -> Result<Option<ValueId>, PassError> {
        let Some(zero) = self.zero else { return Ok(None) };
        let mut zero = rebuild.value(zero)?;
        if self.one_zero && rebuild.new.ty(zero).rank() > 0 {
            zero = rebuild.add1(op::Reshape { shape: Vec::new() }, &[zero], node)?;
        }
        Ok(Some(zero))
    }

    /// Integers less the zero point, as numbers of this type.
    pub(super) fn shift(
        &self,
        rebuild: &mut Rebuild,
        integers: ValueId,
        to: DType,
        node: &Node,
    ) -> Result<ValueId, PassError> {
        let Some(zero) = self.zero_point(rebuild, node)? else {
            return rebuild.add1(op::Cast { to }, &[integers], node);
        };
        let wide = rebuild.add1(op::Cast { to: DType::I32 }, &[integers], node)?;
        let shifted = rebuild.add1(op::Binary { f: BinaryFn::Sub }, &[wide, zero], node)?;
        rebuild.add1(op::Cast { to }, &[shifted], node)
    }

    /// The integers, where the numbers were, less their zero point, as numbers of this type.
    pub(super) fn write(
        &self,
        rebuild: &mut Rebuild,
        to: DType,
        node: &Node,
    ) -> Result<ValueId, PassError> {
        let integers = self.integers(rebuild, node)?;
        self.shift(rebuild, integers, to, node)
    }
}

/// The least and the most that small integers can be.
fn range(dtype: DType) -> Option<(i64, i64)> {
    let (least, most) = dtype.integer_range().filter(|_| is_small_integer(dtype))?;
    Some((i64::try_from(least).ok()?, i64::try_from(most).ok()?))
}

/// The small integers of which a wide one is made, and the zero point that is taken off.
fn shifted(graph: &Graph, wide: ValueId) -> Option<(ValueId, Option<ValueId>)> {
    let (wide, zero) = match producer(graph, wide)?.1 {
        Node { op: Op::Binary(op::Binary { f: BinaryFn::Sub }), inputs, .. } => {
            (*inputs.first()?, Some(*inputs.get(1)?))
        }
        _ => (wide, None),
    };
    let integers = converted(graph, wide, DType::I32)?;
    is_small_integer(graph.ty(integers).dtype).then_some((integers, zero))
}

/// The operand of a conversion to this type.
fn converted(graph: &Graph, value: ValueId, to: DType) -> Option<ValueId> {
    let node = producer(graph, value)?.1;
    let cast = matches!(&node.op, Op::Cast(cast) if cast.to == to);
    node.inputs.first().copied().filter(|_| cast)
}
