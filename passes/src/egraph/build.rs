//! Short forms for adding operations to the e-graph.
//!
//! Invariant: every form gives `None` where the operation does not accept the operands, and a rule
//! then does not fire.

use super::language::{TensorGraph, add_op};
use egg::Id;
use kiln_ir::TensorType;
use kiln_ir::op::{Binary, BinaryFn, Reshape, Transpose, Unary, UnaryFn};
use kiln_tensor::Dim;

/// The type of a class.
pub fn ty(egraph: &TensorGraph, id: Id) -> &TensorType {
    &egraph[id].data.ty
}

/// The shape of a class.
pub fn shape(egraph: &TensorGraph, id: Id) -> Vec<Dim> {
    ty(egraph, id).shape.clone()
}

/// `f(a)`
pub fn unary(egraph: &mut TensorGraph, f: UnaryFn, a: Id) -> Option<Id> {
    add_op(egraph, Unary { f }, &[a])
}

/// `f(a, b)`
pub fn binary(egraph: &mut TensorGraph, f: BinaryFn, a: Id, b: Id) -> Option<Id> {
    add_op(egraph, Binary { f }, &[a, b])
}

/// `a·b`
pub fn mul(egraph: &mut TensorGraph, a: Id, b: Id) -> Option<Id> {
    binary(egraph, BinaryFn::Mul, a, b)
}

/// `a + b`
pub fn add(egraph: &mut TensorGraph, a: Id, b: Id) -> Option<Id> {
    binary(egraph, BinaryFn::Add, a, b)
}

/// `x` under another shape; `x` itself if it has that shape.
pub fn reshape(egraph: &mut TensorGraph, x: Id, shape: Vec<Dim>) -> Option<Id> {
    if ty(egraph, x).shape == shape {
        return Some(x);
    }
    // Inference lets pass what symbols hide; a rule must know.
    if ty(egraph, x).elements() != shape.iter().cloned().product() {
        return None;
    }
    add_op(egraph, Reshape { shape }, &[x])
}

/// `x` with its dimensions permuted; `x` itself if they stay.
pub fn transpose(egraph: &mut TensorGraph, x: Id, perm: Vec<usize>) -> Option<Id> {
    if perm.iter().copied().eq(0..ty(egraph, x).rank()) {
        return Some(x);
    }
    add_op(egraph, Transpose { perm }, &[x])
}

/// The permutation that undoes `perm`.
pub fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (to, &from) in perm.iter().enumerate() {
        if let Some(slot) = inverse.get_mut(from) {
            *slot = to;
        }
    }
    inverse
}
