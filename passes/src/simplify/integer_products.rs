//! Products of 8-bit integers, and of numbers that stand for them, read the integers themselves.
//!
//! Invariant: sums of integers are exact, and sums of numbers round no worse than they would have.
//!
//! `(a − za)·sa` times `(b − zb)·sb`, summed, is `sa·sb` times the sum of `(a − za)·(b − zb)`: the
//! scales must not depend on what is summed over. The integers are widened where they are read (see
//! `fused`), so weights stay as small as they are in the model, and they are multiplied and added in
//! floating point, in which processors are several times as fast as in 32-bit integers: f32 holds
//! whole numbers up to 2²⁴, f64 any sum that fits in 32 bits.

use super::rebuild::Rebuild;
use crate::PassError;
use kiln_ir::op::{self, BinaryFn, ConvLayout, Op};
use kiln_ir::{Graph, GraphError, Node, NodeId, OpError, Producer, ValueId};
use kiln_tensor::{DType, Dim, SymbolValues, Tensor, TensorError};

/// Larger scales and zero points are not computed here.
const MOST_ELEMENTS: i64 = 1 << 16;

pub(super) fn integer_products(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("integer_products", graph);
    for (_, node) in graph.nodes() {
        match Product::of(graph, node) {
            Some(product) => product.write(&mut rebuild, graph, node)?,
            None => rebuild.keep(graph, node)?,
        }
    }
    rebuild.finish(graph)
}

/// Which nodes stand between small integers that are constant and a product of integers, and are
/// best left for where it reads them.
pub(super) fn widening(graph: &Graph) -> Vec<bool> {
    let mut widens = vec![false; graph.nodes().len()];
    for (_, node) in graph.nodes() {
        let product = matches!(node.op, Op::Contract(_) | Op::Conv(_));
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
        if is_small(graph.ty(at).dtype) {
            break;
        }
        let Some(&first) = node.inputs.first() else { return };
        let goes_on = match &node.op {
            Op::Cast(_) => is_small(graph.ty(first).dtype) || graph.ty(first).dtype == DType::I32,
            Op::Binary(binary) => binary.f == BinaryFn::Sub,
            op => moves(op),
        };
        if !goes_on {
            return;
        }
        path.push(id);
        at = first;
    }
    if is_small(graph.ty(at).dtype) {
        path.into_iter().for_each(|id| widens[id.0 as usize] = true);
    }
}

fn is_small(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// Whether an operation takes numbers elsewhere and leaves them as they are.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose(_) | Op::Reshape(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Assume(_)
    )
}

fn producer(graph: &Graph, value: ValueId) -> Option<(NodeId, &Node)> {
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
struct Scale {
    axis: Option<usize>,
    values: Vec<f64>,
}

impl Scale {
    /// The scale of a value of this rank.
    fn of(tensor: &Tensor, rank: usize) -> Option<Self> {
        let sizes = tensor.sizes();
        let mut long = sizes.iter().enumerate().filter(|(_, size)| **size != 1);
        let axis = match (long.next(), long.next()) {
            (None, _) => None,
            (Some((axis, _)), None) => Some(axis + rank.checked_sub(sizes.len())?),
            _ => return None,
        };
        Some(Scale { axis, values: tensor.to_f64() })
    }
}

/// A value that stands for small integers: `(integers − zero)·scale`, moved; the scale is 1 for
/// integers of 32 bits.
struct Dequantised<'g> {
    integers: ValueId,
    zero: Option<ValueId>,
    scale: Scale,
    /// What moves the numbers, the last first.
    moved: Vec<&'g Op>,
    /// How far from zero the integers may be.
    reach: i64,
}

impl<'g> Dequantised<'g> {
    fn of(graph: &'g Graph, value: ValueId) -> Option<Self> {
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
                    let (integers, zero) = shifted(graph, converted(graph, number, DType::F32)?)?;
                    Some((integers, zero, Scale::of(&known(graph, scale)?, rank)?))
                })?
            }
            _ => return None,
        };
        if graph.ty(integers).shape != graph.ty(at).shape {
            return None;
        }
        let several = |value: ValueId| !graph.ty(value).elements().is(1);
        if !moved.is_empty() && (scale.axis.is_some() || zero.is_some_and(several)) {
            return None;
        }
        let unsigned = graph.ty(integers).dtype == DType::U8;
        let (least, most) = if unsigned { (0, 255) } else { (-128, 127) };
        let zeros = match zero {
            None => vec![0],
            Some(zero) => known(graph, zero).map_or(vec![least, most], |zero| zero.to_i64()),
        };
        let reach =
            zeros.iter().map(|&zero| (most - zero).abs().max((least - zero).abs())).max()?;
        let zero = zero.filter(|_| zeros.iter().any(|&zero| zero != 0));
        Some(Dequantised { integers, zero, scale, moved, reach })
    }

    /// The integers, where the numbers were, less their zero point, as numbers of this type.
    fn write(&self, rebuild: &mut Rebuild, to: DType, node: &Node) -> Result<ValueId, PassError> {
        let mut value = rebuild.value(self.integers)?;
        for &op in self.moved.iter().rev() {
            value = rebuild.add1(op.clone(), &[value], node)?;
        }
        let Some(zero) = self.zero else {
            return rebuild.add1(op::Cast { to }, &[value], node);
        };
        value = rebuild.add1(op::Cast { to: DType::I32 }, &[value], node)?;
        let mut zero = rebuild.value(zero)?;
        if !self.moved.is_empty() {
            zero = rebuild.add1(op::Reshape { shape: Vec::new() }, &[zero], node)?;
        }
        let shifted = rebuild.add1(op::Binary { f: BinaryFn::Sub }, &[value, zero], node)?;
        rebuild.add1(op::Cast { to }, &[shifted], node)
    }
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
    is_small(graph.ty(integers).dtype).then_some((integers, zero))
}

/// The operand of a conversion to this type.
fn converted(graph: &Graph, value: ValueId, to: DType) -> Option<ValueId> {
    let node = producer(graph, value)?.1;
    let cast = matches!(&node.op, Op::Cast(cast) if cast.to == to);
    node.inputs.first().copied().filter(|_| cast)
}

/// A contraction or convolution of integers.
struct Product<'g> {
    operands: [Dequantised<'g>; 2],
    /// For each operand, the axis of the result along which its scale differs.
    along: [Option<usize>; 2],
    /// The type of the numbers, and that in which they are summed.
    dtype: DType,
    summed: DType,
}

impl<'g> Product<'g> {
    fn of(graph: &'g Graph, node: &Node) -> Option<Self> {
        let &[a, b] = node.inputs.as_slice() else { return None };
        if !matches!(node.op, Op::Contract(_) | Op::Conv(_)) {
            return None;
        }
        let dtype = graph.ty(a).dtype;
        let operands = [Dequantised::of(graph, a)?, Dequantised::of(graph, b)?];
        let axes = [0, 1].map(|number| operands[number].scale.axis);
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
            _ => return None,
        };
        let term = operands[0].reach.checked_mul(operands[1].reach)?;
        let greatest = terms.and_then(|terms| terms.checked_mul(term));
        let summed = match (dtype, greatest) {
            (DType::F32, _) => DType::F32,
            (_, Some(greatest)) if greatest <= 1 << 24 => DType::F32,
            (_, Some(greatest)) if greatest <= i64::from(i32::MAX) => DType::F64,
            _ => return None,
        };
        Some(Product { operands, along, dtype, summed })
    }

    fn write(&self, rebuild: &mut Rebuild, graph: &Graph, node: &Node) -> Result<(), PassError> {
        let operands = [&self.operands[0], &self.operands[1]];
        let inputs = [
            operands[0].write(rebuild, self.summed, node)?,
            operands[1].write(rebuild, self.summed, node)?,
        ];
        let mut result = rebuild.add1(node.op.clone(), &inputs, node)?;
        if self.summed != self.dtype {
            result = rebuild.add1(op::Cast { to: self.dtype }, &[result], node)?;
        }
        let rank = rebuild.new.ty(result).rank();
        let single = operands.iter().filter(|operand| operand.scale.axis.is_none());
        let mut common: f64 = single.filter_map(|operand| operand.scale.values.first()).product();
        for (operand, along) in operands.into_iter().zip(self.along) {
            let Some(axis) = along else { continue };
            let values: Vec<f64> =
                operand.scale.values.iter().map(|scale| scale * common).collect();
            common = 1.0;
            let mut sizes = vec![1; rank - axis];
            sizes[0] = values.len();
            result = scaled(rebuild, result, sizes, &values, node)?;
        }
        if common != 1.0 {
            result = scaled(rebuild, result, Vec::new(), &[common], node)?;
        }
        rebuild.replace(graph, node, &[result])
    }
}

fn scaled(
    rebuild: &mut Rebuild,
    value: ValueId,
    sizes: Vec<usize>,
    factors: &[f64],
    node: &Node,
) -> Result<ValueId, PassError> {
    let error = |error| PassError::Graph { pass: "integer_products", error };
    let of_tensor = |cause: TensorError| {
        let (op, node) = ("Constant", node.source.clone());
        error(GraphError::Op { op, node, error: OpError::from(cause) })
    };
    let tensor = Tensor::from_f64(DType::F32, sizes, factors).map_err(of_tensor)?;
    let factors = rebuild.new.constant(tensor).map_err(error)?;
    rebuild.add1(op::Binary { f: BinaryFn::Mul }, &[value, factors], node)
}
