//! How default schedules cut kernels into tasks.
//!
//! Invariant: what is expected follows from what fits the caches of a target, not from a time.

use crate::build::Build;
use kiln_passes::TileTarget;
use kiln_passes::form::form;
use kiln_passes::tile::tile;
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
