//! Instances of rules that move elements.
//!
//! Invariant: named as the rules are.

use super::{Generator, Instance};
use kiln_ir::ValueId;
use kiln_ir::op::*;
use kiln_tensor::{DType, Dim, Tensor};

/// A transposed input.
fn moved(i: &mut Instance) -> ValueId {
    let rank = i.below(4) + 1;
    let sizes = i.sizes(rank);
    let x = i.input(&sizes);
    i.transpose(x)
}

/// A transposed input without empty dimensions.
fn moved_some(i: &mut Instance) -> ValueId {
    let sizes = [i.some(), i.some(), i.some()];
    let x = i.input(&sizes);
    i.transpose(x)
}

fn beside(i: &mut Instance, right: bool) -> ValueId {
    let a = moved(i);
    let sizes = i.sizes_of(a);
    let sizes = i.stretching(&sizes);
    let b = i.input(&sizes);
    let f = i.pick(&[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Less]);
    i.op(Binary { f }, &if right { [b, a] } else { [a, b] })
}

fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&size| Dim::from(size)).collect()
}

pub(super) const GENERATORS: &[(&str, Generator)] = &[
    ("merge-transposes", |i| {
        let x = moved(i);
        i.transpose(x)
    }),
    ("merge-reshapes", |i| {
        let (a, b, c) = (i.size(), i.size(), i.size());
        let x = i.input(&[a, b, c]);
        let y = i.reshape(x, &[a * b, c]);
        let to = i.pick(&[vec![a, b * c], vec![a, b, c], vec![a * b * c, 1]]);
        i.reshape(y, &to)
    }),
    ("unary-above-transpose", |i| {
        let x = moved(i);
        let f = i.pick(&[UnaryFn::Neg, UnaryFn::IsNan, UnaryFn::Relu, UnaryFn::Floor]);
        i.unary(f, x)
    }),
    ("unary-above-reshape", |i| {
        let (a, b) = (i.size(), i.size());
        let x = i.input(&[a, b]);
        let to = i.pick(&[vec![a * b], vec![b, a], vec![a, 1, b]]);
        let y = i.reshape(x, &to);
        let f = i.pick(&[UnaryFn::Neg, UnaryFn::IsNan, UnaryFn::Relu, UnaryFn::Floor]);
        i.unary(f, y)
    }),
    ("cast-above-transpose", |i| {
        let x = moved(i);
        let to = i.pick(&[DType::F16, DType::I32, DType::Bool]);
        i.op(Cast { to }, &[x])
    }),
    ("cast-below-transpose", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let y = i.op(Cast { to: DType::F64 }, &[x]);
        i.transpose(y)
    }),
    ("assume-above-transpose", |i| {
        let x = moved(i);
        let shape = dims(&i.sizes_of(x));
        i.op(Assume { shape }, &[x])
    }),
    ("assume-below-transpose", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let y = i.op(Assume { shape: dims(&sizes) }, &[x]);
        i.transpose(y)
    }),
    ("unary-below-assume", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let y = i.op(Assume { shape: dims(&sizes) }, &[x]);
        i.unary(UnaryFn::Abs, y)
    }),
    ("binary-below-assume", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let y = i.op(Assume { shape: dims(&sizes) }, &[x]);
        let c = i.stretching(&sizes);
        let c = i.constant(&c);
        i.op(Binary { f: BinaryFn::Sub }, &[y, c])
    }),
    ("unary-below-transpose", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let y = i.unary(UnaryFn::Abs, x);
        i.transpose(y)
    }),
    ("binary-above-transpose", |i| beside(i, false)),
    ("binary-above-right-transpose", |i| beside(i, true)),
    ("binary-below-transpose", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let sizes = i.stretching(&sizes);
        let c = i.constant(&sizes);
        let f = i.pick(&[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul]);
        let y = i.op(Binary { f }, &[x, c]);
        i.transpose(y)
    }),
    ("window-above-transpose", |i| {
        let sizes = [i.some() + 2, i.some() + 2, i.size()];
        let x = i.input(&sizes);
        let x = i.transpose(x);
        let places = i.sizes_of(x);
        let window = places.iter().map(|&size| if size > 2 { i.below(3) + 1 } else { 1 }).collect();
        let op = WindowReduce {
            f: i.pick(&[WindowFn::Max, WindowFn::Sum, WindowFn::Mean { count_padding: true }]),
            window,
            strides: vec![i.below(2) + 1, i.below(2) + 1, 1],
            dilations: vec![1; 3],
            before: vec![0, 1, 0],
            after: vec![i.below(2) as i64, 0, 0],
        };
        i.op(op, &[x])
    }),
    ("concat-above-transpose", |i| {
        let a = moved(i);
        let mut sizes = i.sizes_of(a);
        let axis = i.below(sizes.len());
        sizes[axis] = i.size();
        let b = i.input(&sizes);
        i.op(Concat { axis }, &[b, a])
    }),
    ("reduce-above-transpose", |i| {
        let x = moved_some(i);
        let axes = i.pick(&[vec![0], vec![1], vec![0, 2], vec![1, 2], vec![0, 1, 2]]);
        let f = i.pick(&[ReduceFn::Max, ReduceFn::Min]);
        let keep = i.below(2) == 0;
        i.reduce(f, axes, keep, x)
    }),
    ("softmax-above-transpose", |i| {
        let x = moved_some(i);
        let axis = i.below(3);
        i.op(Softmax { axis }, &[x])
    }),
    ("resize-above-transpose", |i| {
        let x = moved_some(i);
        let sizes: Vec<usize> = i.sizes_of(x).iter().map(|size| size * 2).collect();
        let op = Resize {
            sizes: dims(&sizes),
            scales: None,
            mode: i.pick(&[ResizeMode::Nearest(NearestMode::Floor), ResizeMode::Linear]),
            coordinates: CoordinateMode::HalfPixel,
            antialias: false,
            extrapolation: 0.0,
        };
        i.op(op, &[x])
    }),
    ("pad-above-transpose", |i| {
        let x = moved(i);
        let rank = i.graph.ty(x).rank();
        let (before, after) = (i.sizes(rank), i.sizes(rank));
        let value = i.scalar(7.0);
        i.op(
            Pad { before: dims(&before), after: dims(&after), mode: PadMode::Constant },
            &[x, value],
        )
    }),
    ("slice-above-transpose", |i| {
        let x = moved_some(i);
        let sizes = i.sizes_of(x);
        let starts: Vec<usize> = sizes.iter().map(|&size| i.below(size)).collect();
        let lengths: Vec<usize> =
            sizes.iter().zip(&starts).map(|(size, start)| size - start).collect();
        i.op(Slice { starts: dims(&starts), sizes: dims(&lengths), steps: vec![1; 3] }, &[x])
    }),
    ("transpose-into-left", |i| {
        let x = moved_some(i);
        let y = i.sizes_of(x);
        let n = i.size();
        let y = i.input(&[y[0], y[2], n]);
        i.contract("bmk,bkn->bmn", x, y)
    }),
    ("transpose-into-right", |i| {
        let y = moved_some(i);
        let x = i.sizes_of(y);
        let m = i.size();
        let x = i.input(&[x[0], m, x[1]]);
        i.contract("bmk,bkn->nbm", x, y)
    }),
    ("transpose-into-result", |i| {
        let (b, m, k, n) = (i.size(), i.size(), i.size(), i.size());
        let (x, y) = (i.input(&[b, m, k]), i.input(&[b, k, n]));
        let z = i.contract("bmk,bkn->bmn", x, y);
        i.transpose(z)
    }),
    ("split-result", |i| {
        let (b, m, k, h, d) = (i.size(), i.some(), i.size(), i.some(), i.some());
        let (x, y) = (i.input(&[b, m, k]), i.constant(&[k, h * d]));
        let z = i.contract("bmk,kn->bmn", x, y);
        let to = i.pick(&[vec![b, m, h, d], vec![b, m, h, 1, d], vec![b, m, h, d, 1]]);
        i.reshape(z, &to)
    }),
    ("joined-left", |i| {
        let (b, s, h, d, n) = (i.some(), i.some(), i.some(), i.some(), i.size());
        let x = i.input(&[b, s, h, d]);
        let w = i.constant(&[h * d, n]);
        match i.below(2) {
            0 => {
                let joined = i.reshape(x, &[b, s, h * d]);
                i.contract("bsk,kn->bsn", joined, w)
            }
            _ => {
                let joined = i.reshape(x, &[b * s, h * d]);
                i.contract("mk,kn->mn", joined, w)
            }
        }
    }),
    ("joined-right", |i| {
        let (b, s, h, d, n) = (i.some(), i.some(), i.some(), i.some(), i.size());
        let x = i.input(&[b, s, h, d]);
        let joined = i.reshape(x, &[b * s, h * d]);
        let w = i.constant(&[n, h * d]);
        i.contract("nk,mk->nm", w, joined)
    }),
    ("split-below-binary", |i| {
        let (b, h, d) = (i.some(), i.some(), i.some());
        let y = i.input(&[b, h * d]);
        let sizes = i.pick(&[vec![h * d], vec![1], vec![b, 1], vec![b, h * d]]);
        let c = i.constant(&sizes);
        let z = i.op(Binary { f: BinaryFn::Add }, &[y, c]);
        i.reshape(z, &[b, h, d])
    }),
    ("channels-last", |i| i.conv(ConvLayout::ChannelsFirst)),
    ("channels-last-of-integers", |i| {
        let (conv, x, w) = i.convolution(ConvLayout::ChannelsFirst);
        let x = i.input(&x);
        let values: Vec<i8> = (0..w.iter().product()).map(|_| i.below(256) as u8 as i8).collect();
        let w = i.constant_of(Tensor::from_slice(w, &values).unwrap());
        let w = i.op(Cast { to: i.dtype }, &[w]);
        i.op(conv, &[x, w])
    }),
    ("pointwise-convolution", |i| {
        let (n, c, m) = (i.size(), i.some(), i.size());
        let (x, w) = (i.input(&[n, 3, 4, c]), i.constant(&[1, 1, c, m]));
        let conv = Conv {
            strides: vec![1; 2],
            dilations: vec![1; 2],
            before: vec![0; 2],
            after: vec![0; 2],
            groups: 1,
            layout: ConvLayout::ChannelsLast,
        };
        i.op(conv, &[x, w])
    }),
];
