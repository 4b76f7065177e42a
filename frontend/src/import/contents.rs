//! What small values hold, in terms of the model's symbols: shape arithmetic is done here, while
//! the model is imported.
//!
//! Invariant: contents stand for every element of a value of constant sizes, in row-major order,
//! and are what the operation would compute.

use super::bounds::Facts;
use super::scalar::Scalar;
use kiln_ir::TensorType;
use kiln_ir::op::{self, Op};
use kiln_tensor::{DType, SymbolValues, Tensor};
use std::rc::Rc;

/// The elements of a value.
pub(super) type Contents = Rc<[Scalar]>;

/// Shapes, axes and the like are small; what is larger is data.
pub(super) const MOST_ELEMENTS: usize = 64;

/// A value whose elements are known.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) ty: &'a TensorType,
    pub(super) contents: &'a [Scalar],
}

/// The elements of a small tensor; `None` if it is large or has a number that is not carried here.
pub(super) fn of_tensor(tensor: &Tensor) -> Option<Contents> {
    if tensor.len() > MOST_ELEMENTS {
        return None;
    }
    let dtype = tensor.dtype();
    if dtype.is_code() {
        return None;
    }
    if dtype.is_float() {
        return Some(tensor.to_f64().into_iter().map(Scalar::float).collect());
    }
    let values = tensor.to_i64();
    let carried = dtype != DType::U64 || values.iter().all(|&value| value >= 0);
    carried.then(|| values.into_iter().map(Scalar::whole).collect())
}

/// The tensor, if no element depends on a symbol.
pub(super) fn to_tensor(ty: &TensorType, contents: &[Scalar]) -> Option<Tensor> {
    let sizes = ty.static_sizes()?;
    if ty.dtype.is_float() {
        let values: Option<Vec<f64>> = contents.iter().map(Scalar::as_number).collect();
        return Tensor::from_f64(ty.dtype, sizes, &values?).ok();
    }
    let values: Option<Vec<i64>> = contents.iter().map(Scalar::as_integer).collect();
    let wide = Tensor::from_slice(sizes, &values?).ok()?;
    if ty.dtype == DType::I64 {
        return Some(wide);
    }
    let cast = Op::Cast(op::Cast { to: ty.dtype });
    cast.evaluate(&[wide], &[], &SymbolValues::new()).ok()?.pop()
}

/// The elements of the one result of `op`, if they follow from those of its operands.
pub(super) fn apply(
    op: &Op,
    operands: &[Operand<'_>],
    result: &TensorType,
    facts: &Facts,
) -> Option<Contents> {
    let count = usize::try_from(result.elements().as_const()?).ok()?;
    let mut types = operands.iter().map(|operand| operand.ty).chain([result]);
    if count > MOST_ELEMENTS || result.static_sizes().is_none() || types.any(is_data) {
        return None;
    }
    if let Op::SizeOf(size_of) = op {
        return Some(size_of.dims.iter().cloned().map(Scalar::whole).collect());
    }
    let constant = operands.iter().all(|x| x.contents.iter().all(Scalar::is_constant));
    let mut attributes = op.clone();
    let known = attributes.dims_mut().iter().all(|dim| dim.as_const().is_some());
    if constant && known && is_cheap(op) {
        return of_tensor(&evaluate(op, operands)?);
    }
    let each = |operand: usize| stretched(operands[operand], result);
    match op {
        Op::Cast(cast) if cast.to == DType::Bool && operands[0].ty.dtype == DType::Bool => {
            Some(operands[0].contents.into())
        }
        Op::Cast(cast) => {
            let from = operands[0].ty.dtype;
            operands[0].contents.iter().map(|x| x.cast(from, cast.to, facts)).collect()
        }
        Op::Unary(unary) => operands[0].contents.iter().map(|x| x.unary(unary.f, facts)).collect(),
        Op::Binary(binary) => {
            let (a, b, dtype) = (each(0)?, each(1)?, operands[0].ty.dtype);
            if !matches!(dtype, DType::I32 | DType::I64 | DType::F32 | DType::F64 | DType::Bool) {
                return None;
            }
            let pairs = a.iter().zip(&b);
            let decided = pairs.map(|(a, b)| Scalar::binary(binary.f, a, b, dtype, facts));
            decided.collect::<Option<Contents>>().or_else(|| match (binary.f, &a[..], &b[..]) {
                // Left for a branch to decide.
                (op::BinaryFn::Equal, [a], [b]) => {
                    let (a, b) = (a.as_dim()?.clone(), b.as_dim()?.clone());
                    Some(Rc::from([Scalar::Equal { a, b }]))
                }
                _ => None,
            })
        }
        Op::Select(_) => {
            let (condition, a, b) = (each(0)?, each(1)?, each(2)?);
            let choices = condition.into_iter().zip(a.into_iter().zip(b));
            let chosen = choices.map(|(condition, (a, b))| match condition.as_integer() {
                _ if a == b => Some(a.clone()),
                Some(truth) => Some(if truth != 0 { a.clone() } else { b.clone() }),
                None => None,
            });
            chosen.collect()
        }
        Op::Reduce(reduce) => reduced(reduce, operands[0], count, facts),
        _ => moved(op, operands),
    }
}

/// Whether no shape is computed with a value of this type, however small: a matrix of floats or of small
/// integers is a weight, which is better kept as it is in the model.
fn is_data(ty: &TensorType) -> bool {
    let small = ty.dtype.integer_range().is_some() && ty.dtype.bits() <= 16;
    ty.rank() > 1 && ty.dtype != DType::Bool && (ty.dtype.is_float() || small)
}

/// Whether the work is in proportion to operands and results, whatever the attributes say.
fn is_cheap(op: &Op) -> bool {
    !matches!(
        op,
        Op::WindowReduce(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Winograd(_)
            | Op::Resize(_)
            | Op::Recurrent(_)
            | Op::Attention(_)
    )
}

/// The result for operands that do not depend on symbols.
fn evaluate(op: &Op, operands: &[Operand<'_>]) -> Option<Tensor> {
    let tensors = operands.iter().map(|operand| to_tensor(operand.ty, operand.contents));
    let tensors: Option<Vec<Tensor>> = tensors.collect();
    op.evaluate(&tensors?, &[], &SymbolValues::new()).ok()?.pop()
}

/// Elements of the operand for every place of the result that it stretches to.
fn stretched<'a>(operand: Operand<'a>, result: &TensorType) -> Option<Vec<&'a Scalar>> {
    let op = Op::Broadcast(op::Broadcast { shape: result.shape.clone() });
    let places = op.evaluate(&[numbered(operand, 0)?], &[], &SymbolValues::new()).ok()?.pop()?;
    places.to_i64().into_iter().map(|place| operand.contents.get(place as usize)).collect()
}

/// The operand with the number of its place, counted from `first`, in every place.
fn numbered(operand: Operand<'_>, first: usize) -> Option<Tensor> {
    let numbers: Vec<i64> = (first as i64..).take(operand.contents.len()).collect();
    Tensor::from_slice(operand.ty.static_sizes()?, &numbers).ok()
}

/// What an operation does that only moves elements: it moves their numbers likewise.
fn moved(op: &Op, operands: &[Operand<'_>]) -> Option<Contents> {
    // Which operands hold elements that are moved; the others say where.
    let moves: fn(usize) -> bool = match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Concat(_) => {
            |_| true
        }
        Op::Pad(_) => |_| true,
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => |operand| operand == 0,
        Op::ScatterElements(op::ScatterElements { reduction, .. })
        | Op::ScatterNd(op::ScatterNd { reduction })
            if *reduction == op::ScatterReduction::None =>
        {
            |operand| operand != 1
        }
        _ => return None,
    };
    let mut elements: Vec<&Scalar> = Vec::new();
    let mut tensors = Vec::new();
    for (number, operand) in operands.iter().enumerate() {
        if moves(number) {
            tensors.push(numbered(*operand, elements.len())?);
            elements.extend(operand.contents);
        } else {
            tensors.push(to_tensor(operand.ty, operand.contents)?);
        }
    }
    let mut op = op.clone();
    if op.dims_mut().iter().any(|dim| dim.as_const().is_none()) {
        return None;
    }
    let places = op.evaluate(&tensors, &[], &SymbolValues::new()).ok()?.pop()?;
    let places = places.to_i64().into_iter();
    places.map(|place| elements.get(place as usize).map(|&scalar| scalar.clone())).collect()
}

fn reduced(
    reduce: &op::Reduce,
    operand: Operand<'_>,
    count: usize,
    facts: &Facts,
) -> Option<Contents> {
    let f = match reduce.f {
        op::ReduceFn::Sum => op::BinaryFn::Add,
        op::ReduceFn::Prod => op::BinaryFn::Mul,
        op::ReduceFn::Max => op::BinaryFn::Max,
        op::ReduceFn::Min => op::BinaryFn::Min,
        op::ReduceFn::Mean | op::ReduceFn::Any | op::ReduceFn::All => return None,
    };
    // Only whole vectors: what shapes are multiplied up with.
    if count != 1 {
        return None;
    }
    let (first, rest) = operand.contents.split_first()?;
    let combine = |sum: Option<Scalar>, x| Scalar::binary(f, &sum?, x, operand.ty.dtype, facts);
    rest.iter().fold(Some(first.clone()), combine).map(|sum| Rc::from([sum]))
}
