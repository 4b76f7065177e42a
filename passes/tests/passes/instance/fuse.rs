//! Instances of bodies that can grow.
//!
//! Invariant: named as the rules are.

use super::{Generator, Instance};
use kiln_ir::ValueId;
use kiln_ir::op::*;
use kiln_tensor::Dim;

/// Some pointwise operations, one after the other.
fn chain(i: &mut Instance, mut x: ValueId) -> ValueId {
    for _ in 0..i.below(3) + 1 {
        x = match i.below(3) {
            0 => i.unary(UnaryFn::Neg, x),
            1 => i.mul(x, x),
            _ => {
                let sizes = i.sizes_of(x);
                let sizes = i.stretching(&sizes);
                let b = i.input(&sizes);
                i.add(x, b)
            }
        };
    }
    x
}

fn core(i: &mut Instance, x: ValueId) -> ValueId {
    match i.below(4) {
        0 => i.op(Softmax { axis: 1 }, &[x]),
        1 => i.op(Normalize { axis: 1, epsilon: 1e-3, center: true }, &[x]),
        2 => i.reduce(ReduceFn::Max, vec![1], true, x),
        _ => {
            let n = i.size();
            let k = i.sizes_of(x)[1];
            let w = i.input(&[k, n]);
            i.contract("mk,kn->mn", x, w)
        }
    }
}

/// Two parts of a product, which may have elements in common, combined.
fn gated(i: &mut Instance, x: ValueId) -> ValueId {
    let [m, k] = [i.sizes_of(x)[0], i.sizes_of(x)[1]];
    let width = i.some();
    let w = i.input(&[k, 2 * width]);
    let y = i.contract("mk,kn->mn", x, w);
    let parts = [0, i.below(width + 1)].map(|start| {
        let slice = Slice {
            starts: vec![Dim::default(), start.into()],
            sizes: vec![m.into(), width.into()],
            steps: vec![1, 1],
        };
        let part = i.op(slice, &[y]);
        chain(i, part)
    });
    i.mul(parts[0], parts[1])
}

fn some_input(i: &mut Instance) -> ValueId {
    let sizes = [i.size(), i.some()];
    i.input(&sizes)
}

pub(super) const GENERATORS: &[(&str, Generator)] = &[
    ("fuse-elementwise", |i| {
        let x = some_input(i);
        let y = chain(i, x);
        chain(i, y)
    }),
    ("fuse-epilogue", |i| {
        let x = some_input(i);
        if i.below(3) == 0 {
            return gated(i, x);
        }
        let y = core(i, x);
        chain(i, y)
    }),
    ("fuse-prologue", |i| {
        let x = some_input(i);
        let y = chain(i, x);
        let axis = i.below(2);
        i.reduce(ReduceFn::Max, vec![axis], false, y)
    }),
    ("fuse-movement", |i| {
        let x = some_input(i);
        let y = i.transpose(x);
        let y = i.unary(UnaryFn::Neg, y);
        chain(i, y)
    }),
];
