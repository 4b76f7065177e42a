//! Random graphs around convolutions: what moves channels to another place keeps every number.
//!
//! Invariant: all numbers are small whole ones, so that every sum is exact and results must be equal.

use crate::instance::Instance;
use kiln_ir::op::*;
use kiln_ir::{Graph, ValueId, evaluate};
use kiln_passes::{CostModel, EGraphOptions, optimise};
use kiln_tensor::{DType, Tensor};

const CHANNELS: usize = 16;

fn whole(i: &mut Instance, sizes: &[usize], most: usize) -> Tensor {
    let numbers: Vec<f64> =
        (0..sizes.iter().product()).map(|_| i.below(2 * most + 1) as f64 - most as f64).collect();
    Tensor::from_f64(DType::F32, sizes.to_vec(), &numbers).unwrap()
}

/// Filters with few numbers that are not 0: sums stay small through several convolutions.
fn filters(i: &mut Instance, sizes: &[usize]) -> ValueId {
    let numbers: Vec<f64> = (0..sizes.iter().product())
        .map(|_| if i.below(12) == 0 { i.below(3) as f64 - 1.0 } else { 0.0 })
        .collect();
    let tensor = Tensor::from_f64(DType::F32, sizes.to_vec(), &numbers).unwrap();
    i.constant_of(tensor)
}

fn convolution(i: &mut Instance, x: ValueId) -> ValueId {
    let channels = i.sizes_of(x)[1];
    let (window, groups) = (i.pick(&[1, 3, 3]), i.pick(&[1, 1, 1, channels]));
    convolved(i, x, window, groups)
}

fn convolved(i: &mut Instance, x: ValueId, window: usize, groups: usize) -> ValueId {
    let channels = i.sizes_of(x)[1];
    let count = if groups == 1 { CHANNELS } else { channels };
    let w = filters(i, &[count, channels / groups, window, window]);
    let padding = (window / 2) as i64;
    let conv = Conv {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        before: vec![padding; 2],
        after: vec![padding; 2],
        groups,
        layout: ConvLayout::ChannelsFirst,
    };
    i.op(conv, &[x, w])
}

/// One more value, of some that are there.
fn step(i: &mut Instance, values: &[ValueId]) -> Option<ValueId> {
    let x = i.pick(values);
    let sizes = i.sizes_of(x);
    let floats = i.graph.ty(x).dtype == DType::F32;
    Some(match i.below(11) {
        0..=2 if floats && sizes.len() == 4 && sizes[1] > 1 => convolution(i, x),
        3 if floats => i.unary(UnaryFn::Relu, x),
        4 => {
            let like = |other: &ValueId| {
                i.sizes_of(*other) == sizes && i.graph.ty(*other).dtype == i.graph.ty(x).dtype
            };
            let others: Vec<ValueId> = values.iter().copied().filter(like).collect();
            let other = i.pick(&others);
            let f = i.pick(&[BinaryFn::Add, BinaryFn::Max, BinaryFn::Sub]);
            i.binary(f, x, other)
        }
        5 => {
            let like = |other: &ValueId| {
                i.sizes_of(*other) == sizes && i.graph.ty(*other).dtype == i.graph.ty(x).dtype
            };
            let others: Vec<ValueId> = values.iter().copied().filter(like).collect();
            let other = i.pick(&others);
            let axis = i.below(sizes.len().max(1));
            (!sizes.is_empty()).then(|| i.op(Concat { axis }, &[x, other]))?
        }
        6 => i.transpose(x),
        7 => {
            let axes: Vec<usize> = (0..sizes.len()).filter(|_| i.below(3) == 0).collect();
            let (f, keep) = (i.pick(&[ReduceFn::Max, ReduceFn::Sum]), i.below(2) == 0);
            i.reduce(f, axes, keep, x)
        }
        8 if !sizes.is_empty() => {
            let (axis, keep, last) = (i.below(sizes.len()), i.below(2) == 0, i.below(2) == 0);
            i.op(ArgReduce { f: ReduceFn::Max, axis, keep, last }, &[x])
        }
        9 => {
            // A dimension more, of one element or split off, or two that become one.
            let mut to = sizes;
            let at = i.below(to.len() + 1);
            match i.below(3) {
                0 => to.insert(at, 1),
                1 if at + 1 < to.len() => {
                    let joined = to.remove(at) * to[at];
                    to[at] = joined;
                }
                _ if at < to.len() && to[at].is_multiple_of(2) => {
                    to[at] /= 2;
                    to.insert(at, 2);
                }
                _ => return None,
            }
            (to.len() < 6).then(|| i.reshape(x, &to))?
        }
        10 if !sizes.is_empty() => {
            let axis = i.below(sizes.len());
            let (mut starts, mut shape) = (vec![0; sizes.len()], sizes);
            (starts[axis], shape[axis]) = (shape[axis] / 3, shape[axis] - shape[axis] / 3);
            let dims = |sizes: &[usize]| sizes.iter().map(|&size| size.into()).collect();
            let steps = vec![1; shape.len()];
            i.op(Slice { starts: dims(&starts), sizes: dims(&shape), steps }, &[x])
        }
        _ => return None,
    })
}

fn graph(seed: u64) -> Instance {
    let mut i = Instance::new(seed, false);
    i.dtype = DType::F32;
    let sizes = [i.some().min(2), i.pick(&[CHANNELS, 3]), i.some() + 5, i.some() + 5];
    let x = whole(&mut i, &sizes, 2);
    let x = i.input_of(x);
    let mut values = vec![x, convolution(&mut i, x)];
    for _ in 0..5 + seed % 10 {
        values.extend(step(&mut i, &values));
    }
    // What nothing uses is wanted, and now and then what something does.
    let uses = i.graph.uses();
    let mut wanted: Vec<ValueId> =
        values.iter().copied().filter(|value| uses[value.0 as usize].is_empty()).collect();
    wanted.push(i.pick(&values));
    wanted.dedup();
    for (number, value) in wanted.into_iter().enumerate() {
        i.graph.output(value, format!("y{number}")).unwrap();
    }
    i
}

fn optimised(graph: &Graph) -> Graph {
    optimise(graph, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap().0
}

fn check(i: &Instance, what: &str) {
    let expected = evaluate(&i.graph, i.arguments()).unwrap();
    let graph = optimised(&i.graph);
    let actual = evaluate(&graph, i.arguments()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(actual == expected, "{what}:\n{}\nbecomes\n{graph}", i.graph);
}

#[test]
fn channels_are_moved_without_a_change() {
    let cases =
        std::env::var("KILN_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    for seed in 0..cases {
        check(&graph(seed), &format!("seed {seed}"));
    }
}

/// What is left of an image by a reduction that drops its batch is no image.
#[test]
fn what_a_reduction_leaves_of_an_image_has_no_channels_to_move() {
    let mut i = Instance::new(1, false);
    i.dtype = DType::F32;
    let x = whole(&mut i, &[2, CHANNELS, 8, 6], 2);
    let x = i.input_of(x);
    let first = convolved(&mut i, x, 3, 1);
    let image = i.unary(UnaryFn::Relu, first);
    let second = convolved(&mut i, image, 3, 1);
    let most = ArgReduce { f: ReduceFn::Max, axis: 0, keep: false, last: false };
    let most = i.op(most, &[image]);
    let more = i.reshape(most, &[CHANNELS, 8, 6, 1]);
    for (number, value) in [second, more].into_iter().enumerate() {
        i.graph.output(value, format!("y{number}")).unwrap();
    }
    check(&i, "a reduction");
}
