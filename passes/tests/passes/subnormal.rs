//! Subnormal weights: gone where they are below the rounding of what they are added to, and nowhere else.
//!
//! Invariant: results stay within the bounds that all results have.

use crate::build::Build;
use kiln_ir::accuracy::Tolerance;
use kiln_ir::op::*;
use kiln_ir::{Graph, ValueId, evaluate};
use kiln_passes::{CostModel, EGraphOptions, optimise};
use kiln_tensor::{DType, Storage, Tensor};
use std::sync::Arc;

const TINY: f64 = 1e-40;

/// Weights, every third of them subnormal, times `scale`.
fn weights(b: &mut Build, scale: f64) -> ValueId {
    let values: Vec<f64> =
        (0..12).map(|at| if at % 3 == 1 { -TINY } else { scale * (0.1 + f64::from(at)) }).collect();
    let aligned = Tensor::from_f64(DType::F32, vec![3, 4], &values).unwrap();
    // As a file has them, at no multiple of their size.
    let file = [&[0], aligned.bytes()].concat();
    let storage = Storage::shared(Arc::new(file), 1, 48).unwrap();
    b.graph.constant(Tensor::from_storage(DType::F32, vec![3, 4], storage).unwrap()).unwrap()
}

fn product(b: &mut Build, x: ValueId, weights: ValueId) -> ValueId {
    b.op(Contract { spec: "mk,kn->mn".parse().unwrap() }, &[x, weights])
}

/// Subnormal numbers in the constants of an optimised graph, after its results were compared.
fn left(build: impl FnOnce(&mut Build, ValueId) -> ValueId) -> usize {
    let mut b = Build::new("subnormal");
    let x = b.input("x", "2, 3");
    let y = build(&mut b, x);
    b.graph.output(y, "y").unwrap();
    let options = EGraphOptions::default();
    let (optimised, _) = optimise(&b.graph, &options, &CostModel::generic_cpu()).unwrap();
    let input = Tensor::from_slice(vec![2, 3], &[1.0f32, -2.0, 3.0, 0.5, 0.0, -1.0]).unwrap();
    let results = |graph: &Graph| evaluate(graph, std::slice::from_ref(&input)).unwrap().remove(0);
    let (actual, expected) = (results(&optimised), results(&b.graph));
    let found = Tolerance::for_type(DType::F32, 3).compare(&actual, &expected).unwrap();
    assert!(found.agrees(), "{found}");
    count(&optimised)
}

fn count(graph: &Graph) -> usize {
    let constants = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Constant(constant) => constant.tensor.to_vec::<f32>().ok(),
        _ => None,
    });
    let bodies = graph.nodes().flat_map(|(_, node)| &node.regions).map(count).sum::<usize>();
    constants.flatten().filter(|x| x.is_subnormal()).count() + bodies
}

#[test]
fn weights_and_what_is_added_to_their_products_have_none() {
    let with_bias = |b: &mut Build, x: ValueId| {
        let weights = weights(b, 1.0);
        let y = product(b, x, weights);
        let bias = Tensor::from_slice(vec![4], &[1.0f32, 1e-40, -1e-39, 2.0]).unwrap();
        let bias = b.graph.constant(bias).unwrap();
        b.op(Binary { f: BinaryFn::Add }, &[bias, y])
    };
    assert_eq!(left(with_bias), 0);
}

#[test]
fn weights_that_are_all_small_keep_theirs() {
    let small = |b: &mut Build, x: ValueId| {
        let weights = weights(b, 1e-30);
        product(b, x, weights)
    };
    assert_eq!(left(small), 4);
}

#[test]
fn what_is_no_weight_keeps_its_own() {
    // The same constant is a weight and a factor.
    let shared = |b: &mut Build, x: ValueId| {
        let weights = weights(b, 1.0);
        let y = product(b, x, weights);
        let factor = b.op(
            Slice {
                starts: vec![0i64.into(), 0i64.into()],
                sizes: vec![2i64.into(), 4i64.into()],
                steps: vec![1, 1],
            },
            &[weights],
        );
        b.op(Binary { f: BinaryFn::Mul }, &[y, factor])
    };
    assert!(left(shared) > 0);
}
