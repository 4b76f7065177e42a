//! Short forms for adding operations to the e-graph.
//!
//! Invariant: every form gives `None` where the operation does not accept the operands, and a rule
//! then does not fire.

use super::language::{TensorGraph, add_op};
use super::pattern::{commutes, uniform};
use egg::{Id, Language};
use kiln_ir::TensorType;
use kiln_ir::op::{Binary, BinaryFn, Constant, Op, Reshape, Transpose, Unary, UnaryFn};
use kiln_tensor::{Dim, Tensor};

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

/// `f(a, b)`; single numbers are computed, and an operand that changes nothing is left out, so that
/// rules which move constants together come to an end.
pub fn binary(egraph: &mut TensorGraph, f: BinaryFn, a: Id, b: Id) -> Option<Id> {
    let neutral = match f {
        BinaryFn::Add => 0.0,
        BinaryFn::Mul => 1.0,
        _ => f64::NAN,
    };
    for (changed, by) in [(a, b), (b, a)] {
        let types = [a, b].map(|id| ty(egraph, id));
        let result = Op::from(Binary { f }).infer(&types, &[]).ok()?;
        if uniform(egraph, by) == Some(neutral) && result.first() == Some(ty(egraph, changed)) {
            return Some(changed);
        }
    }
    let constant = |id: Id| egraph[id].data.constant;
    let (mut a, mut b) = (a, b);
    if commutes(f) && constant(a) && constant(b) && egraph.find(b) < egraph.find(a) {
        std::mem::swap(&mut a, &mut b);
    }
    if let (Some(x), Some(y)) = (number(egraph, a), number(egraph, b)) {
        let results = Op::from(Binary { f }).evaluate(&[x, y], &[], &Default::default());
        let tensor = results.ok()?.into_iter().next()?;
        return add_op(egraph, Constant { tensor }, &[]);
    }
    add_op(egraph, Binary { f }, &[a, b])
}

/// How a constant is made by one operation of a kind, if it is: rules do not look into constants, so
/// chains of movement are merged as they are built.
fn constant_made_by(egraph: &TensorGraph, id: Id, wanted: fn(&Op) -> bool) -> Option<(Op, Id)> {
    let class = &egraph[id];
    class.data.constant.then_some(())?;
    class.nodes.iter().find_map(|node| {
        let op = egraph.analysis.op(node.op).filter(|op| wanted(op))?;
        Some((op.clone(), *node.children().first()?))
    })
}

/// The value of a class that is a single number.
fn number(egraph: &TensorGraph, id: Id) -> Option<Tensor> {
    egraph[id].data.value.clone().filter(|tensor| tensor.len() == 1)
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
    if let Some((_, from)) = constant_made_by(egraph, x, |op| matches!(op, Op::Reshape(_))) {
        return reshape(egraph, from, shape);
    }
    add_op(egraph, Reshape { shape }, &[x])
}

/// `x` with its dimensions permuted; `x` itself if they stay.
pub fn transpose(egraph: &mut TensorGraph, x: Id, perm: Vec<usize>) -> Option<Id> {
    if perm.iter().copied().eq(0..ty(egraph, x).rank()) {
        return Some(x);
    }
    let made = constant_made_by(egraph, x, |op| matches!(op, Op::Transpose(_)));
    if let Some((Op::Transpose(inner), from)) = made {
        let perm = perm.iter().map(|&from| inner.perm[from]).collect();
        return transpose(egraph, from, perm);
    }
    add_op(egraph, Transpose { perm }, &[x])
}
