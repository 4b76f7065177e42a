//! Instances of products that share an operand.
//!
//! Invariant: named as the rules are.

use super::{Generator, Instance};
use kiln_ir::ValueId;
use kiln_ir::op::*;
use kiln_tensor::Dim;

/// Products of one input with several constants, some of which differ in more than their width.
fn products(i: &mut Instance) -> Vec<ValueId> {
    let (spec, x) = match i.below(3) {
        0 => ("mk,kn->mn", vec![i.size(), i.size()]),
        1 => ("amk,kn->amn", vec![i.size(), i.size(), i.size()]),
        _ => ("mk,nk->nm", vec![i.size(), i.size()]),
    };
    let summed = x[x.len() - 1];
    let x = i.input(&x);
    (0..i.below(3) + 1)
        .map(|_| {
            let width = i.size();
            let sizes = if spec.starts_with("mk,nk") { [width, summed] } else { [summed, width] };
            let w = i.constant(&sizes);
            i.contract(spec, x, w)
        })
        .collect()
}

/// A value and slices of it along a dimension, which it mostly consists of.
fn parts(i: &mut Instance, x: ValueId, dim: usize) -> Vec<ValueId> {
    let sizes = i.sizes_of(x);
    let cut = i.below(sizes[dim] + 1);
    [(0, cut), (cut, sizes[dim])]
        .into_iter()
        .map(|(start, end)| {
            let mut starts = vec![Dim::from(0i64); sizes.len()];
            let mut part: Vec<Dim> = sizes.iter().map(|&size| Dim::from(size)).collect();
            (starts[dim], part[dim]) = (Dim::from(start), Dim::from(end - start));
            let steps = vec![1; sizes.len()];
            i.op(Slice { starts, sizes: part, steps }, &[x])
        })
        .collect()
}

/// A product with joined weights, in parts.
fn joined(i: &mut Instance) -> Vec<ValueId> {
    let sizes = [i.size(), i.size()];
    let x = i.input(&sizes);
    let weights: Vec<ValueId> = (0..2)
        .map(|_| {
            let width = i.some();
            i.constant(&[sizes[1], width])
        })
        .collect();
    let w = i.op(Concat { axis: 1 }, &weights);
    let product = i.contract("mk,kn->mn", x, w);
    parts(i, product, 1)
}

/// A value with a constant that stretches along its rows.
fn with_constant(i: &mut Instance, f: BinaryFn, x: ValueId) -> ValueId {
    let sizes = i.sizes_of(x);
    let width = *i.pick(&[&[][..], &[1], &[1, 1]]).last().unwrap_or(&sizes[1]);
    let shape = i.pick(&[vec![], vec![width], vec![1, sizes[1]], sizes.clone()]);
    let c = i.constant(&shape);
    i.binary(f, x, c)
}

/// One value of all, so that every part is used.
fn all(i: &mut Instance, values: Vec<ValueId>) -> ValueId {
    let flat: Vec<ValueId> = values
        .into_iter()
        .map(|value| {
            let count = i.sizes_of(value).iter().product();
            i.reshape(value, &[count])
        })
        .collect();
    i.op(Concat { axis: 0 }, &flat)
}

pub(super) const GENERATORS: &[(&str, Generator)] = &[
    ("join-products", |i| {
        let products = products(i);
        all(i, products)
    }),
    ("apply-to-joined", |i| {
        let f = i.pick(&[BinaryFn::Add, BinaryFn::Mul, BinaryFn::Max]);
        let parts = joined(i);
        let applied = parts.into_iter().map(|part| with_constant(i, f, part)).collect();
        all(i, applied)
    }),
    ("slice-past-neutral", |i| {
        let f = i.pick(&[BinaryFn::Add, BinaryFn::Mul]);
        let mut parts = joined(i);
        let changed = i.below(2);
        parts[changed] = with_constant(i, f, parts[changed]);
        all(i, parts)
    }),
    ("reshape-before-slice", |i| {
        let (a, b, heads, size) = (i.size(), i.size(), i.some(), i.some());
        let x = i.input(&[a, b, heads * size]);
        let dim = i.below(3);
        let parts = parts(i, x, dim);
        let to = |i: &mut Instance, part: &[usize]| match i.below(3) {
            0 => vec![part[0] * part[1], part[2]],
            1 if part[2].is_multiple_of(size) => vec![part[0], part[1], part[2] / size, size],
            _ => vec![part[0], 1, part[1] * part[2]],
        };
        let reshaped = parts
            .into_iter()
            .map(|part| {
                let sizes = i.sizes_of(part);
                let sizes = to(i, &sizes);
                i.reshape(part, &sizes)
            })
            .collect();
        all(i, reshaped)
    }),
];
