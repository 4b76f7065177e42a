//! Instances of operations written out as exporters do.
//!
//! Invariant: named as the rules are.

use super::{Generator, Instance};
use kiln_ir::ValueId;
use kiln_ir::op::*;
use kiln_tensor::{Dim, Tensor};

/// x·(1 + f)/2 in one of the usual orders.
fn half(i: &mut Instance, x: ValueId, f: ValueId) -> ValueId {
    let (one, half) = (i.number(1.0), i.number(0.5));
    match i.below(4) {
        0 => {
            let sum = i.add(f, one);
            let product = i.mul(x, sum);
            i.mul(product, half)
        }
        1 => {
            let sum = i.add(f, one);
            let halved = i.mul(x, half);
            i.mul(halved, sum)
        }
        2 => {
            let sum = i.add(f, one);
            let halved = i.mul(sum, half);
            i.mul(x, halved)
        }
        _ => {
            let halved = i.mul(f, half);
            let sum = i.add(halved, half);
            i.mul(x, sum)
        }
    }
}

fn some_input(i: &mut Instance) -> ValueId {
    let sizes = [i.size(), i.some(), i.some()];
    i.input(&sizes)
}

fn keep(i: &mut Instance, f: ReduceFn, axis: usize, x: ValueId) -> ValueId {
    i.reduce(f, vec![axis], true, x)
}

/// x·rsqrt(mean(x²) + ε) along the last dimensions from `axis`.
fn rms(i: &mut Instance, x: ValueId, axis: usize) -> ValueId {
    let square = i.mul(x, x);
    let rank = i.graph.ty(x).rank();
    let mean = i.reduce(ReduceFn::Mean, (axis..rank).collect(), true, square);
    let epsilon = i.number(1e-3);
    let sum = i.add(mean, epsilon);
    let inverse = i.unary(UnaryFn::Rsqrt, sum);
    i.mul(x, inverse)
}

pub(super) const GENERATORS: &[(&str, Generator)] = &[
    ("gelu", |i| {
        let x = some_input(i);
        let argument = match i.below(2) {
            0 => {
                let root = i.number(std::f64::consts::SQRT_2);
                i.op(Binary { f: BinaryFn::Div }, &[x, root])
            }
            _ => {
                let root = i.number(std::f64::consts::FRAC_1_SQRT_2);
                i.mul(x, root)
            }
        };
        let erf = i.unary(UnaryFn::Erf, argument);
        half(i, x, erf)
    }),
    ("gelu-tanh", |i| {
        let x = some_input(i);
        let (factor, small) = (i.number((2.0 / std::f64::consts::PI).sqrt()), i.number(0.044715));
        let square = i.mul(x, x);
        let argument = match i.below(4) {
            0 => {
                let three = i.number(3.0);
                let cube = i.op(Binary { f: BinaryFn::Pow }, &[x, three]);
                let term = i.mul(small, cube);
                let sum = i.add(x, term);
                i.mul(factor, sum)
            }
            1 => {
                let cube = i.mul(x, square);
                let term = i.mul(small, cube);
                let sum = i.add(x, term);
                i.mul(factor, sum)
            }
            2 => {
                let scaled = i.mul(small, x);
                let term = i.mul(scaled, square);
                let sum = i.add(x, term);
                i.mul(factor, sum)
            }
            _ => {
                let one = i.number(1.0);
                let term = i.mul(small, square);
                let sum = i.add(one, term);
                let scaled = i.mul(factor, x);
                i.mul(scaled, sum)
            }
        };
        let tanh = i.unary(UnaryFn::Tanh, argument);
        half(i, x, tanh)
    }),
    ("silu", |i| {
        let x = some_input(i);
        let s = i.unary(UnaryFn::Sigmoid, x);
        i.mul(x, s)
    }),
    ("softmax", |i| {
        let x = some_input(i);
        let e = i.unary(UnaryFn::Exp, x);
        let axis = i.below(3);
        let sum = keep(i, ReduceFn::Sum, axis, e);
        match i.below(2) {
            0 => i.op(Binary { f: BinaryFn::Div }, &[e, sum]),
            _ => {
                let inverse = i.unary(UnaryFn::Reciprocal, sum);
                i.mul(e, inverse)
            }
        }
    }),
    ("softmax-shift", |i| {
        let x = some_input(i);
        let axis = i.below(3);
        let max = keep(i, ReduceFn::Max, axis, x);
        let shifted = i.op(Binary { f: BinaryFn::Sub }, &[x, max]);
        i.op(Softmax { axis }, &[shifted])
    }),
    ("rms-norm", |i| {
        let x = some_input(i);
        let axis = i.below(3);
        rms(i, x, axis)
    }),
    ("layer-norm", |i| {
        let x = some_input(i);
        let axis = i.below(3);
        let mean = i.reduce(ReduceFn::Mean, (axis..3).collect(), true, x);
        let centred = i.op(Binary { f: BinaryFn::Sub }, &[x, mean]);
        i.op(Normalize { axis, epsilon: 1e-3, center: false }, &[centred])
    }),
    ("norm-scale", |i| {
        let x = some_input(i);
        let axis = i.below(3);
        let center = i.below(2) == 0;
        let normal = i.op(Normalize { axis, epsilon: 1e-3, center }, &[x]);
        let sizes = i.sizes_of(x);
        let s = i.input(&sizes[axis..]);
        i.mul(normal, s)
    }),
    ("norm-bias", |i| {
        let x = some_input(i);
        let axis = i.below(3);
        let sizes = i.sizes_of(x)[axis..].to_vec();
        let s = i.input(&sizes);
        let center = i.below(2) == 0;
        let normal = i.op(Normalize { axis, epsilon: 1e-3, center }, &[x, s]);
        let leading = if i.below(2) == 0 { vec![] } else { vec![1; axis] };
        let b = i.input(&[leading, sizes].concat());
        i.add(normal, b)
    }),
    ("split-norm-factor", |i| {
        let sizes = i.sizes(3);
        let (d, v) = (i.input(&sizes), i.positive(&sizes));
        let root = i.unary(UnaryFn::Rsqrt, v);
        let s = i.constant(&sizes[2..]);
        let factor = i.mul(root, s);
        i.mul(d, factor)
    }),
    ("collect-centre", |i| {
        let x = some_input(i);
        let sizes = i.sizes_of(x);
        let mean = keep(i, ReduceFn::Mean, 2, x);
        let factor = i.input(&[sizes[0], sizes[1], 1]);
        let scaled = i.mul(x, factor);
        let moved = i.mul(mean, factor);
        let b = i.constant(&sizes[2..]);
        let rest = i.op(Binary { f: BinaryFn::Sub }, &[b, moved]);
        i.add(scaled, rest)
    }),
    ("attention", |i| {
        let (b, h, s, t, d, e) = (i.size(), i.size(), i.some(), i.some(), i.some(), i.some());
        // Labels: g batch, h heads, s queries, t keys, d and e head sizes.
        let (first, second, batch) = match i.below(4) {
            0 => ("ghsd,ghtd->ghst", "ghst,ghte->ghse", vec![b, h]),
            1 => ("ghsd,ghdt->ghst", "ghst,ghte->gshe", vec![b, h]),
            2 => ("gsd,gtd->gst", "gst,gte->gse", vec![b]),
            _ => ("ds,td->st", "st,te->es", vec![]),
        };
        let sizes_for = |labels: &str| -> Vec<usize> {
            labels
                .chars()
                .map(|label| match label {
                    'g' => batch[0],
                    'h' => batch[1],
                    's' => s,
                    't' => t,
                    'd' => d,
                    _ => e,
                })
                .collect()
        };
        let (operands, _) = first.split_once("->").unwrap();
        let (q, k) = operands.split_once(',').unwrap();
        let place = i.below(5);
        // Now and then a factor writes out the head that it multiplies, and is no mere scale.
        let stretches = i.below(6) == 0;
        let mut operand = |labels: &str, scaled: bool| {
            let (mut sizes, factor) = (sizes_for(labels), i.number(0.5));
            let ones = sizes.iter().map(|_| 1).collect::<Vec<_>>();
            let head = labels.find('d').unwrap();
            let mut long = ones;
            if scaled && stretches {
                long[head] = std::mem::replace(&mut sizes[head], 1);
            }
            let x = i.input(&sizes);
            let halves = vec![0.5; long.iter().product()];
            let tensor = Tensor::from_f64(i.dtype, long, &halves).unwrap();
            match (scaled, stretches) {
                (false, _) => x,
                (true, false) => i.mul(x, factor),
                (true, true) => {
                    let factor = i.constant_of(tensor);
                    i.mul(x, factor)
                }
            }
        };
        let (q, k) = (operand(q, place <= 1), operand(k, place == 1));
        let factor = i.number(0.5);
        let mut scores = i.contract(first, q, k);
        if place == 2 {
            scores = i.mul(scores, factor);
        }
        if place == 3 {
            let divisor = i.number(1.5);
            scores = i.op(Binary { f: BinaryFn::Div }, &[scores, divisor]);
        }
        let full = i.sizes_of(scores);
        let mask = i.stretching(&full);
        match i.below(4) {
            0 => {
                let mask = i.input(&mask);
                scores = i.add(scores, mask);
            }
            // Keys are hidden by a number in the place of their scores, where a mask says so or where it does not.
            which @ (1 | 2) => {
                let (mask, limit) = (i.input(&mask), i.number(0.3));
                let seen = i.op(Binary { f: BinaryFn::Less }, &[mask, limit]);
                let low = i.pick(&[-3.4e38, -1e4, f64::NEG_INFINITY]);
                let low = i.number(low);
                let operands = if which == 1 { [seen, scores, low] } else { [seen, low, scores] };
                scores = i.op(Select {}, &operands);
            }
            _ => {}
        }
        let axis = i.graph.ty(scores).rank() - 1;
        let weights = i.op(Softmax { axis }, &[scores]);
        let (operands, _) = second.split_once("->").unwrap();
        let v_sizes = sizes_for(operands.split_once(',').unwrap().1);
        let v = i.input(&v_sizes);
        i.contract(second, weights, v)
    }),
    ("shared-heads", |i| {
        let (b, g, r, s, t, d, e) =
            (i.size(), i.some(), i.some(), i.size(), i.some(), i.some(), i.some());
        let q = i.input(&[b, g * r, s, d]);
        let mut operands = vec![q];
        for width in [d, e] {
            let heads = i.input(&[b, g, t, width]);
            let apart = i.reshape(heads, &[b, g, 1, t, width]);
            let shape = [b, g, r, t, width].map(Dim::from).to_vec();
            let repeated = i.op(Broadcast { shape }, &[apart]);
            operands.push(i.reshape(repeated, &[b, g * r, t, width]));
        }
        if i.below(2) == 0 {
            let mask = i.stretching(&[b, g * r, s, t]);
            operands.push(i.input(&mask));
        }
        i.op(Attention { scale: 0.5, causal: false, hidden: f64::NEG_INFINITY }, &operands)
    }),
];
