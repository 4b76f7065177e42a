//! How default schedules cut kernels into tasks.
//!
//! Invariant: what is expected follows from what fits the caches of a target, not from a time.

use crate::build::Build;
use kiln_ir::op::Attention;
use kiln_passes::TileTarget;
use kiln_passes::form::form;
use kiln_passes::tile::{describe, tile};
use std::collections::BTreeSet;

/// The axis along which tasks of a product follow each other, of unknown rows with weights of these sizes.
fn fastest(weights: [usize; 2]) -> Option<usize> {
    let mut b = Build::new("product");
    let x = b.input("x", &format!("m, {}", weights[0]));
    let w = b.input("w", &format!("{}, {}", weights[0], weights[1]));
    b.contract("mk,kn->mn", x, w);
    let (id, _) = b.graph.nodes().next().unwrap();
    let kernel = form(&b.graph, id).unwrap().kernel;
    tile(&kernel, &BTreeSet::from([1]), &TileTarget::avx512(1)).fastest
}

#[test]
fn all_rows_meet_a_panel_of_large_weights_before_the_next() {
    assert_eq!(fastest([2816, 1024]), Some(0));
    assert_eq!(fastest([64, 256]), None);
}

/// The schedule of attention from so many queries to as many keys, of 12 heads of 64 elements.
fn attention(queries: usize, keys: usize) -> String {
    let mut b = Build::new("attention");
    let q = b.input("q", &format!("1, 12, {queries}, 64"));
    let [k, v] = ["k", "v"].map(|name| b.input(name, &format!("1, 12, {keys}, 64")));
    b.op(Attention { scale: 0.125, causal: false, hidden: f64::NEG_INFINITY }, &[q, k, v]);
    let (id, _) = b.graph.nodes().next().unwrap();
    let kernel = form(&b.graph, id).unwrap().kernel;
    describe(&kernel, &tile(&kernel, &BTreeSet::new(), &TileTarget::avx512(1)))
}

#[test]
fn many_queries_are_the_lanes_of_their_scores() {
    let many = attention(197, 197);
    assert!(many.contains("its points last"), "{many}");
    assert!(many.contains("vector i"), "{many}");
    // One query's products with its keys are sums along both.
    let one = attention(1, 512);
    assert!(!one.contains("its points last"), "{one}");
    assert!(one.contains("vector dx16"), "{one}");
}
