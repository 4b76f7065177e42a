//! Instances of rules on constants.
//!
//! Invariant: named as the rules are.

use super::{Generator, Instance};
use kiln_ir::ValueId;
use kiln_ir::op::*;
use kiln_tensor::Dim;

fn of_function(i: &mut Instance, f: impl Fn(&mut Instance, ValueId) -> ValueId) -> ValueId {
    let sizes = i.sizes(2);
    let x = i.positive(&sizes);
    f(i, x)
}

fn power(i: &mut Instance, exponent: f64) -> ValueId {
    of_function(i, |i, x| {
        let e = i.number(exponent);
        i.op(Binary { f: BinaryFn::Pow }, &[x, e])
    })
}

fn power_of_square(i: &mut Instance, exponent: f64) -> ValueId {
    of_function(i, |i, x| {
        let square = i.binary(BinaryFn::Mul, x, x);
        let e = i.number(exponent);
        i.op(Binary { f: BinaryFn::Pow }, &[square, e])
    })
}

pub(super) const GENERATORS: &[(&str, Generator)] = &[
    ("max-zero-is-relu", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let zero = i.number(0.0);
        i.binary(BinaryFn::Max, x, zero)
    }),
    ("subtract-constant", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let sizes = i.stretching(&sizes);
        let c = i.constant(&sizes);
        i.op(Binary { f: BinaryFn::Sub }, &[x, c])
    }),
    ("divide-by-constant", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let sizes = i.stretching(&sizes);
        let c = i.nonzero(&sizes);
        i.op(Binary { f: BinaryFn::Div }, &[x, c])
    }),
    ("one-over", |i| {
        let sizes = i.sizes(2);
        let x = i.input(&sizes);
        let one = i.number(1.0);
        i.op(Binary { f: BinaryFn::Div }, &[one, x])
    }),
    ("square", |i| power(i, 2.0)),
    ("cube", |i| power(i, 3.0)),
    ("power-of-half", |i| power_of_square(i, 0.5)),
    ("power-of-minus-half", |i| power_of_square(i, -0.5)),
    ("reciprocal-of-root", |i| {
        of_function(i, |i, x| {
            let root = i.unary(UnaryFn::Sqrt, x);
            i.unary(UnaryFn::Reciprocal, root)
        })
    }),
    ("divide-by-root", |i| {
        of_function(i, |i, x| {
            let root = i.unary(UnaryFn::Sqrt, x);
            let sizes = i.sizes_of(x);
            let a = i.input(&sizes);
            i.op(Binary { f: BinaryFn::Div }, &[a, root])
        })
    }),
    ("logistic", |i| {
        of_function(i, |i, x| {
            let negative = i.unary(UnaryFn::Neg, x);
            let e = i.unary(UnaryFn::Exp, negative);
            let one = i.number(1.0);
            let sum = i.add(e, one);
            match i.below(2) {
                0 => i.unary(UnaryFn::Reciprocal, sum),
                _ => i.op(Binary { f: BinaryFn::Div }, &[one, sum]),
            }
        })
    }),
    ("merge-factors", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let (a, b) = (i.stretching(&sizes), i.stretching(&sizes));
        let (a, b) = (i.constant(&a), i.constant(&b));
        let first = i.mul(x, a);
        i.mul(first, b)
    }),
    ("merge-terms", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        let (a, b) = (i.stretching(&sizes), i.stretching(&sizes));
        let (a, b) = (i.constant(&a), i.constant(&b));
        let first = i.add(x, a);
        i.add(first, b)
    }),
    ("distribute-scale", |i| {
        let (m, k, n) = (i.size(), i.size(), i.size());
        let (x, w) = (i.input(&[m, k]), i.constant(&[k, n]));
        let y = i.contract("mk,kn->mn", x, w);
        let (b, s) = (i.constant(&[n]), i.constant(&[n]));
        let biased = i.add(y, b);
        i.mul(biased, s)
    }),
    ("scale-into-convolution", |i| {
        let layout = i.pick(&[ConvLayout::ChannelsFirst, ConvLayout::ChannelsLast]);
        let y = i.conv(layout);
        let sizes = i.sizes_of(y);
        let mut scale = vec![1; sizes.len()];
        match layout {
            ConvLayout::ChannelsFirst => scale[1] = sizes[1],
            ConvLayout::ChannelsLast => scale[sizes.len() - 1] = sizes[sizes.len() - 1],
        }
        let cut = if i.below(2) == 0 { 1 } else { 0 };
        let s = i.constant(&scale[cut..]);
        i.mul(y, s)
    }),
    ("scale-into-transposed-convolution", |i| {
        let (n, c, m) = (i.size(), i.some(), i.some());
        let (x, w) = (i.input(&[n, c, 4]), i.constant(&[c, m, 3]));
        let conv = ConvTranspose {
            strides: vec![2],
            dilations: vec![1],
            before: vec![1],
            after: vec![0],
            output_padding: vec![1],
            groups: 1,
        };
        let y = i.op(conv, &[x, w]);
        let s = i.constant(&[m, 1]);
        i.mul(y, s)
    }),
    ("scale-into-contraction", |i| {
        let (b, m, k, n) = (i.size(), i.size(), i.size(), i.size());
        let (x, w) = (i.input(&[b, m, k]), i.constant(&[k, n, b]));
        let y = i.contract("bmk,knb->bmn", x, w);
        let sizes = i.pick(&[vec![], vec![n], vec![b, 1, n], vec![b, 1, 1], vec![1, 1]]);
        let s = i.constant(&sizes);
        i.mul(y, s)
    }),
    ("scale-into-left-operand", |i| {
        let (m, k, n) = (i.size(), i.size(), i.size());
        let (w, x) = (i.constant(&[k, m]), i.input(&[k, n]));
        let y = i.contract("km,kn->mn", w, x);
        let s = i.constant(&[m, 1]);
        i.mul(y, s)
    }),
    ("transposed-by-phases", |i| {
        let spatial = i.below(2) + 1;
        let (n, c, m) = (i.size(), i.some(), i.some());
        let strides: Vec<usize> = (0..spatial).map(|_| i.below(3) + 1).collect();
        let filter: Vec<usize> = (0..spatial).map(|_| i.below(5) + 1).collect();
        let before: Vec<i64> = filter.iter().map(|&k| i.below(k.min(3)) as i64).collect();
        let places: Vec<usize> = (0..spatial).map(|_| i.some() + 1).collect();
        // A whole number of steps, but for now and then.
        let output_padding: Vec<usize> = (0..spatial)
            .map(|d| {
                let reach = strides[d] * (places[d] - 1) + filter[d] - before[d] as usize;
                reach.next_multiple_of(strides[d]) - reach + usize::from(i.below(8) == 0)
            })
            .collect();
        let x = i.input(&[&[n, c], &places[..]].concat());
        let w = i.constant(&[&[c, m], &filter[..]].concat());
        let conv = ConvTranspose {
            strides,
            dilations: vec![1; spatial],
            before,
            after: vec![0; spatial],
            output_padding,
            groups: 1,
        };
        i.op(conv, &[x, w])
    }),
    ("winograd", |i| {
        let (n, c, m) = (i.size(), i.size(), i.size());
        let padding = [0, 1].map(|_| [i.below(2) as i64, i.below(3) as i64]);
        let places = padding.map(|amounts| {
            let size = i.some() + 2;
            size - amounts.iter().sum::<i64>() as usize
        });
        let x = i.input(&[n, places[0], places[1], c]);
        let w = i.constant(&[3, 3, c, m]);
        let conv = Conv {
            strides: vec![1; 2],
            dilations: vec![1; 2],
            before: padding.map(|[before, _]| before).to_vec(),
            after: padding.map(|[_, after]| after).to_vec(),
            groups: 1,
            layout: ConvLayout::ChannelsLast,
        };
        i.op(conv, &[x, w])
    }),
    ("padding-into-convolution", |i| {
        let (n, c, m) = (i.size(), i.some(), i.some());
        let (x, w) = (i.input(&[n, c, 5, 4]), i.constant(&[m, c, 3, 2]));
        let pad: Vec<Dim> = [0, 0, i.below(3), i.below(3)].into_iter().map(Dim::from).collect();
        let other: Vec<Dim> = [0, 0, i.below(3), i.below(3)].into_iter().map(Dim::from).collect();
        let zero = i.scalar(0.0);
        let padded = i.op(Pad { before: pad, after: other, mode: PadMode::Constant }, &[x, zero]);
        let conv = Conv {
            strides: vec![i.below(2) + 1, 1],
            dilations: vec![1, i.below(2) + 1],
            before: vec![1, 0],
            after: vec![0, 2],
            groups: 1,
            layout: ConvLayout::ChannelsFirst,
        };
        i.op(conv, &[padded, w])
    }),
    ("gelu-by-tanh", |i| {
        let sizes = i.sizes(3);
        let x = i.input(&sizes);
        i.unary(UnaryFn::Gelu, x)
    }),
];
