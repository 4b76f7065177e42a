//! Gradients of sums, products and normalisations along dimensions.
//!
//! Invariant: an operand's gradient has the operand's shape; what equal extremes share is shared
//! evenly.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::{Step, narrowed, no_rule};
use kiln_ir::op::{self, BinaryFn, Op, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Part = Result<Option<V>, Fault>;

pub(super) fn of_operand(x: &mut Use<'_, '_, '_>, step: &Step, number: usize) -> Part {
    let g = step.gradient;
    Ok(Some(match &step.op {
        Op::Reduce(reduce) => return of_reduce(x, step, reduce),
        Op::Accumulate(sum) if sum.f == ReduceFn::Sum => {
            x.add(op::Accumulate { reverse: !sum.reverse, ..sum.clone() }, &[g])?
        }
        Op::Contract(contract) => of_contract(x, step, &contract.spec, number)?,
        Op::Softmax(softmax) => {
            let y = step.output;
            let weighted = x.binary(BinaryFn::Mul, g, y)?;
            let mean = x.reduce(ReduceFn::Sum, weighted, vec![softmax.axis], true)?;
            let centred = x.binary(BinaryFn::Sub, g, mean)?;
            x.binary(BinaryFn::Mul, y, centred)?
        }
        Op::Normalize(normalize) => of_normalize(x, step, normalize, number)?,
        op => return Err(no_rule(op)),
    }))
}

fn of_reduce(x: &mut Use<'_, '_, '_>, step: &Step, reduce: &op::Reduce) -> Part {
    let operand = step.inputs[0];
    let (shape, dtype) = (x.shape(operand), x.dtype(operand));
    let kept: Vec<Dim> = (0..shape.len())
        .map(|axis| if reduce.axes.contains(&axis) { Dim::from(1i64) } else { shape[axis].clone() })
        .collect();
    let g = x.reshape(step.gradient, kept.clone())?;
    let y = x.reshape(step.output, kept)?;
    let axes = || reduce.axes.clone();
    let slope = match reduce.f {
        ReduceFn::Sum => g,
        ReduceFn::Mean => {
            let count = reduce.axes.iter().map(|&axis| shape[axis].clone()).product();
            let count = x.add(op::SizeOf { dims: vec![count], scalar: true }, &[])?;
            let count = x.cast(count, dtype)?;
            x.binary(BinaryFn::Div, g, count)?
        }
        ReduceFn::Max | ReduceFn::Min => {
            let extreme = x.binary(BinaryFn::Equal, operand, y)?;
            let extreme = x.cast(extreme, dtype)?;
            let count = x.reduce(ReduceFn::Sum, extreme, axes(), true)?;
            let share = x.binary(BinaryFn::Div, g, count)?;
            x.binary(BinaryFn::Mul, extreme, share)?
        }
        ReduceFn::Prod => {
            // The product of all others: of those that are not 0, unless another one is.
            let (zero, one) = (x.scalar(dtype, 0.0)?, x.scalar(dtype, 1.0)?);
            let nothing = x.binary(BinaryFn::Equal, operand, zero)?;
            let rest = x.select(nothing, one, operand)?;
            let product = x.reduce(ReduceFn::Prod, rest, axes(), true)?;
            let zeros = x.cast(nothing, dtype)?;
            let count = x.reduce(ReduceFn::Sum, zeros, axes(), true)?;
            let others = x.binary(BinaryFn::Sub, count, zeros)?;
            let none = x.binary(BinaryFn::Equal, others, zero)?;
            let quotient = x.binary(BinaryFn::Div, product, rest)?;
            let slope = x.select(none, quotient, zero)?;
            x.binary(BinaryFn::Mul, g, slope)?
        }
        ReduceFn::Any | ReduceFn::All => return Ok(None),
    };
    Ok(Some(x.broadcast(slope, shape)?))
}

/// The gradient contracted with the other operand; along labels that only this operand has, every
/// element has the same.
fn of_contract(
    x: &mut Use<'_, '_, '_>,
    step: &Step,
    spec: &op::ContractSpec,
    number: usize,
) -> Result<V, Fault> {
    let (own, other) = if number == 0 { (&spec.lhs, &spec.rhs) } else { (&spec.rhs, &spec.lhs) };
    let shape = x.shape(step.inputs[number]);
    let shared = |label: &&u8| spec.out.contains(label) || other.contains(label);
    let out: Vec<u8> = own.iter().filter(shared).copied().collect();
    let back = op::ContractSpec { lhs: spec.out.clone(), rhs: other.clone(), out };
    let result = x.add(op::Contract { spec: back }, &[step.gradient, step.inputs[1 - number]])?;
    let mut dims = x.shape(result).into_iter();
    let apart: Vec<Dim> = own
        .iter()
        .map(|label| if shared(&label) { dims.next() } else { None }.unwrap_or(Dim::from(1i64)))
        .collect();
    let apart = x.reshape(result, apart)?;
    x.broadcast(apart, shape)
}

/// With `n` what is normalised and `s = scale·g`: `(s − mean(s) − n·mean(s·n))/√(variance + ε)`.
fn of_normalize(
    x: &mut Use<'_, '_, '_>,
    step: &Step,
    normalize: &op::Normalize,
    number: usize,
) -> Result<V, Fault> {
    let (operand, g) = (step.inputs[0], step.gradient);
    let dtype = x.dtype(operand);
    let shape = x.shape(step.inputs[number]);
    if number == 2 {
        return narrowed_to(x, g, normalize.axis, shape);
    }
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (v, g) = (x.cast(operand, wide)?, x.cast(g, wide)?);
    let axes: Vec<usize> = (normalize.axis..x.rank(v)).collect();
    let mean = |x: &mut Use<'_, '_, '_>, v| x.reduce(ReduceFn::Mean, v, axes.clone(), true);
    let centred = if normalize.center {
        let centre = mean(x, v)?;
        x.binary(BinaryFn::Sub, v, centre)?
    } else {
        v
    };
    let square = x.binary(BinaryFn::Mul, centred, centred)?;
    let variance = mean(x, square)?;
    let shifted = x.with_number(BinaryFn::Add, variance, normalize.epsilon)?;
    let inverse = x.unary(UnaryFn::Rsqrt, shifted)?;
    let normalized = x.binary(BinaryFn::Mul, centred, inverse)?;
    if number == 1 {
        let part = x.binary(BinaryFn::Mul, g, normalized)?;
        let sum = narrowed_to(x, part, normalize.axis, shape)?;
        return x.cast(sum, dtype);
    }
    let scaled = match step.inputs.get(1) {
        Some(&scale) => {
            let scale = x.cast(scale, wide)?;
            x.binary(BinaryFn::Mul, g, scale)?
        }
        None => g,
    };
    let along = x.binary(BinaryFn::Mul, scaled, normalized)?;
    let along = mean(x, along)?;
    let taken = x.binary(BinaryFn::Mul, normalized, along)?;
    let mut slope = x.binary(BinaryFn::Sub, scaled, taken)?;
    if normalize.center {
        let centre = mean(x, scaled)?;
        slope = x.binary(BinaryFn::Sub, slope, centre)?;
    }
    let result = x.binary(BinaryFn::Mul, slope, inverse)?;
    x.cast(result, dtype)
}

/// The sum over the dimensions before `axis`.
fn narrowed_to(x: &mut Use<'_, '_, '_>, v: V, axis: usize, shape: Vec<Dim>) -> Result<V, Fault> {
    let sum = if axis == 0 { v } else { x.reduce(ReduceFn::Sum, v, (0..axis).collect(), false)? };
    narrowed(x, sum, shape)
}
