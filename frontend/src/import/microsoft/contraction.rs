//! Matrix products with what ONNX Runtime fuses into them.
//!
//! Invariant: transposes stand before the product and scale and activation after it, for later
//! passes to take in.

use super::super::contraction::{gemm, product};
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::{Results, activated};
use crate::import::build::V;
use kiln_ir::op::BinaryFn;
use kiln_tensor::DType;

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("FusedGemm", fused_gemm),
    microsoft("FusedMatMul", fused_matmul),
    microsoft("MatMulInteger16", matmul_integer16),
    microsoft("TransposeMatMul", fused_matmul),
];

/// The operand as a stack of matrices: with its first dimension as the rows, if `batch`, and then
/// transposed, if `transposed`.
fn matrices(x: &mut Use<'_, '_, '_>, v: V, transposed: bool, batch: bool) -> Result<V, Fault> {
    let rank = x.rank(v);
    if rank < 2 {
        return Ok(v);
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    if batch {
        perm[..rank - 1].rotate_left(1);
    }
    if transposed {
        perm.swap(rank - 2, rank - 1);
    }
    x.transpose(v, perm)
}

/// `alpha·A·B`.
fn fused_matmul(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    let (transposed, batch) = (x.flag("transA", false)?, x.flag("transBatchA", false)?);
    let a = matrices(x, a, transposed, batch)?;
    let (transposed, batch) = (x.flag("transB", false)?, x.flag("transBatchB", false)?);
    let b = matrices(x, b, transposed, batch)?;
    let result = product(x, a, b)?;
    Ok(vec![match x.float_or("alpha", 1.0)? {
        1.0 => result,
        alpha => x.with_number(BinaryFn::Mul, result, alpha)?,
    }])
}

fn matmul_integer16(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    let (a, b) = (x.cast(a, DType::I32)?, x.cast(b, DType::I32)?);
    Ok(vec![product(x, a, b)?])
}

fn fused_gemm(x: &mut Use<'_, '_, '_>) -> Results {
    let results = gemm(x)?;
    let name = x.string_or("activation", "")?;
    let mut parameters = Vec::new();
    for parameter in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.extend(x.float(parameter)?);
    }
    results.into_iter().map(|v| activated(x, v, name, &parameters)).collect()
}
