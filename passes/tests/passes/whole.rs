//! Whole graphs compute the same before and after.
//!
//! Invariant: compared within the bound that rounding in another order needs.

use crate::build::*;
use kiln_ir::Graph;
use kiln_passes::egraph::fused;
use kiln_passes::{CostModel, EGraphOptions, optimise};
use kiln_tensor::{DType, Tensor};

fn arguments(graph: &Graph) -> Vec<Tensor> {
    let mut state = 7u64;
    graph
        .inputs()
        .iter()
        .map(|&input| {
            let sizes = graph.ty(input).static_sizes().unwrap();
            let count: usize = sizes.iter().product();
            let values: Vec<f64> = (0..count)
                .map(|_| {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
                })
                .collect();
            Tensor::from_f64(DType::F32, sizes, &values).unwrap()
        })
        .collect()
}

fn check(graph: &Graph) -> Graph {
    let (result, _) =
        optimise(graph, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    let (again, _) = optimise(graph, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    assert_eq!(result, again, "{}", graph.name);
    for (_, node) in result.nodes() {
        for body in &node.regions {
            fused::parts(body).unwrap();
        }
    }
    let arguments = arguments(graph);
    let before = kiln_ir::evaluate(graph, &arguments).unwrap();
    let after = kiln_ir::evaluate(&result, &arguments).unwrap();
    for (a, b) in before.iter().zip(&after) {
        for (a, b) in a.to_f64().iter().zip(b.to_f64()) {
            assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{}: {a} {b}", graph.name);
        }
    }
    result
}

#[test]
fn blocks_of_real_models() {
    let mut b = Build::new("bert");
    let x = b.input("x", "2, 3, 8");
    let mask = b.input("mask", "2, 1, 1, 3");
    let y = bert_layer_sized(&mut b, x, mask, 2, 4, "2, 3");
    let y = bert_layer_sized(&mut b, y, mask, 2, 4, "2, 3");
    println!("{:#?}", names(&check(&b.finish(&[y]))));

    let mut b = Build::new("resnet");
    let x = b.input("x", "1, 8, 5, 4");
    let y = resnet_block(&mut b, x, 2);
    let y = resnet_block(&mut b, y, 2);
    println!("{:#?}", names(&check(&b.finish(&[y]))));

    let mut b = Build::new("paddle");
    let x = b.input("x", "2, 3, 5, 4");
    let y = paddle_hard_swish(&mut b, x, 3);
    println!("{:#?}", names(&check(&b.finish(&[y]))));

    let mut b = Build::new("tf");
    let x = b.input("x", "2, 3, 5");
    let y = tf_layer_norm(&mut b, x, 5);
    println!("{:#?}", names(&check(&b.finish(&[y]))));
}
