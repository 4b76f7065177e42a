//! Matrix products in all their forms.
//!
//! Invariant: each becomes one contraction for every two operands, with operands read in the
//! layout that they have.

use super::build::V;
use super::fault::Fault;
use super::legacy;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("Gemm", 1, gemm), onnx("MatMul", 1, matmul), onnx("MatMulInteger", 10, matmul_integer)];

/// The contraction; dimensions that meet are said to be equal.
pub(super) fn contract(
    x: &mut Use<'_, '_, '_>,
    a: V,
    b: V,
    spec: op::ContractSpec,
) -> Result<V, Fault> {
    // A label that both have is one dimension, whatever else it may be called.
    let (mut a, mut b) = (a, b);
    for (axis, label) in spec.lhs.iter().enumerate() {
        let Some(other) = spec.rhs.iter().position(|other| other == label) else { continue };
        let (Some(left), Some(right)) =
            (x.shape(a).get(axis).cloned(), x.shape(b).get(other).cloned())
        else {
            continue;
        };
        if left.as_const().is_some() || right.as_const().is_none() {
            b = x.with_dim(b, other, &left)?;
        } else {
            a = x.with_dim(a, axis, &right)?;
        }
    }
    x.add(op::Contract { spec }, &[a, b])
}

impl Use<'_, '_, '_> {
    /// Operands of a product whose leading dimensions meet: of two sizes that are not known, one
    /// may be 1 when the model runs.
    fn batched(&mut self, operands: [V; 2]) -> Result<[V; 2], Fault> {
        let [mut a, mut b] = operands;
        let ranks = [self.rank(a), self.rank(b)];
        let batch = ranks.map(|rank| rank.saturating_sub(2));
        for back in 1..=batch[0].min(batch[1]) {
            let axes = batch.map(|count| count - back);
            let (left, right) = (self.shape(a)[axes[0]].clone(), self.shape(b)[axes[1]].clone());
            if self.facts().may_stretch(&left, &right) {
                let size = self.stretched_size(&left, &right)?;
                a = self.stretch(a, axes[0], &size)?;
                b = self.stretch(b, axes[1], &size)?;
            }
        }
        Ok([a, b])
    }
}

/// NumPy's `matmul`: vectors are promoted, leading dimensions broadcast.
pub(super) fn product(x: &mut Use<'_, '_, '_>, a: V, b: V) -> Result<V, Fault> {
    let (mut a, mut b) = (a, b);
    let (rows, columns) = (x.rank(a) > 1, x.rank(b) > 1);
    if x.rank(a) == 0 || x.rank(b) == 0 {
        return Err(Fault::malformed("a scalar cannot be multiplied as a matrix"));
    }
    let batch = x.rank(a).max(x.rank(b)).saturating_sub(2);
    // Letters but those of the rows, columns and the sum.
    let labels: Vec<u8> =
        (b'a'..=b'z').chain(b'A'..=b'Z').filter(|label| !b"mnk".contains(label)).collect();
    if batch > labels.len() {
        return Err(Fault::unsupported(
            format!("{batch} batch dimensions"),
            "reshape them into one",
        ));
    }
    let mut spec = op::ContractSpec { lhs: Vec::new(), rhs: Vec::new(), out: Vec::new() };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut kept = Vec::new();
    [a, b] = x.batched([a, b])?;
    let (a_shape, b_shape) = (x.shape(a), x.shape(b));
    let dim = |shape: &[Dim], number: usize| {
        let missing = batch - shape.len().saturating_sub(2);
        number.checked_sub(missing).map(|number| shape[number].clone())
    };
    for (number, &label) in labels.iter().take(batch).enumerate() {
        let one = |dim: &Option<Dim>| dim.as_ref().is_none_or(|dim| dim.is(1));
        let (in_a, in_b) = (dim(&a_shape, number), dim(&b_shape, number));
        // A dimension that an operand stretches along is none of its own.
        let (has_a, has_b) = (!one(&in_a), !one(&in_b));
        let result = if has_a {
            in_a.clone()
        } else if has_b {
            in_b.clone()
        } else {
            None
        };
        kept.push(result.clone().unwrap_or(Dim::from(1i64)));
        if has_a {
            spec.lhs.push(label);
            left.extend(in_a);
        }
        if has_b {
            spec.rhs.push(label);
            right.extend(in_b);
        }
        if has_a || has_b {
            spec.out.push(label);
        }
    }
    let matrix = |shape: &[Dim]| shape[shape.len().saturating_sub(2)..].to_vec();
    left.extend(matrix(&a_shape));
    right.extend(matrix(&b_shape));
    if rows {
        spec.lhs.push(b'm');
        spec.out.push(b'm');
        kept.push(a_shape[a_shape.len() - 2].clone());
    }
    spec.lhs.push(b'k');
    spec.rhs.push(b'k');
    if columns {
        spec.rhs.push(b'n');
        spec.out.push(b'n');
        kept.push(b_shape[b_shape.len() - 1].clone());
    }
    a = x.reshape(a, left)?;
    b = x.reshape(b, right)?;
    let result = contract(x, a, b, spec)?;
    if x.rank(result) == kept.len() {
        return Ok(result);
    }
    x.reshape(result, kept)
}

fn matmul(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    Ok(vec![product(x, a, b)?])
}

/// 8-bit integers less their zero points, in 32 bits.
pub(super) fn matmul_integer(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = [x.input(0)?, x.input(1)?];
    let mut shifted = operands;
    for (number, operand) in operands.into_iter().enumerate() {
        let wide = x.cast(operand, DType::I32)?;
        shifted[number] = match x.optional(2 + number) {
            None => wide,
            Some(zero) => {
                let zero = x.cast(zero, DType::I32)?;
                // A vector is one for each row of the first operand, each column of the second.
                let rank = x.rank(zero);
                let zero = if number == 0 && rank == 1 { x.along(zero, 0, 2)? } else { zero };
                x.binary(BinaryFn::Sub, wide, zero)?
            }
        };
    }
    Ok(vec![product(x, shifted[0], shifted[1])?])
}

/// `alpha·A·B + beta·C`.
pub(super) fn gemm(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    for operand in [a, b] {
        if x.rank(operand) != 2 {
            let ty = x.ty(operand);
            return Err(Fault::malformed(format!(
                "the operands must be matrices, but one is {ty}"
            )));
        }
    }
    let lhs = if x.flag("transA", false)? { b"km" } else { b"mk" };
    let rhs = if x.flag("transB", false)? { b"nk" } else { b"kn" };
    let spec = op::ContractSpec { lhs: lhs.to_vec(), rhs: rhs.to_vec(), out: b"mn".to_vec() };
    let mut result = contract(x, a, b, spec)?;
    let (alpha, beta) = (x.float_or("alpha", 1.0)?, x.float_or("beta", 1.0)?);
    if alpha != 1.0 {
        result = x.with_number(BinaryFn::Mul, result, alpha)?;
    }
    if let Some(c) = x.optional(2) {
        let mut c = legacy::second(x, result, c)?;
        if beta != 1.0 {
            c = x.with_number(BinaryFn::Mul, c, beta)?;
        }
        result = x.binary(BinaryFn::Add, result, c)?;
    }
    Ok(vec![result])
}
