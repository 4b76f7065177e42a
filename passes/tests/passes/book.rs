//! Schedules that kernels take over from others of their family.
//!
//! Invariant: what is near is said of the extents of axes, each once.

use crate::build::Build;
use kiln_ir::kernel::Kernel;
use kiln_ir::op::{Contract, Conv, ConvLayout};
use kiln_ir::schedule::Schedule;
use kiln_passes::TileTarget;
use kiln_passes::form::form;
use kiln_passes::tile::{Book, Identity, tile};
use std::collections::BTreeSet;

fn product(m: usize, n: usize, k: usize) -> Kernel {
    let mut b = Build::new("product");
    let (x, w) = (b.input("x", &format!("{m}, {k}")), b.input("w", &format!("{k}, {n}")));
    b.op(Contract { spec: "mk,kn->mn".parse().unwrap() }, &[x, w]);
    last(&b)
}

/// A convolution of 3×3 over an image of `size` by `size`.
fn convolution(size: usize, channels: usize) -> Kernel {
    let mut b = Build::new("convolution");
    let x = b.input("x", &format!("1, {size}, {size}, {channels}"));
    let w = b.input("w", &format!("3, 3, {channels}, {channels}"));
    let conv = Conv {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        before: vec![1; 2],
        after: vec![1; 2],
        groups: 1,
        layout: ConvLayout::ChannelsLast,
    };
    b.op(conv, &[x, w]);
    last(&b)
}

fn last(b: &Build) -> Kernel {
    let (node, _) = b.graph.nodes().next_back().unwrap();
    form(&b.graph, node).unwrap().kernel
}

fn found(known: &Kernel, asked: &Kernel) -> bool {
    let constants = BTreeSet::new();
    let schedule: Schedule = tile(known, &constants, &TileTarget::avx512(1));
    let mut book = Book::default();
    book.enter(Identity::of(known, &constants), schedule);
    book.find(asked, &constants).is_some()
}

#[test]
fn a_kernel_takes_the_schedule_of_one_that_is_at_most_four_times_as_large() {
    let known = product(64, 80, 48);
    assert!(found(&known, &known));
    assert!(found(&known, &product(128, 80, 48)));
    assert!(found(&known, &product(128, 160, 48)));
    assert!(found(&known, &product(64, 80, 192)));
    assert!(!found(&known, &product(128, 160, 96)));
    assert!(!found(&known, &product(64, 80, 480)));
    // Rows and columns of an image are one size, and so are channels before and after.
    let known = convolution(28, 64);
    assert!(found(&known, &convolution(28, 128)));
    assert!(found(&known, &convolution(14, 128)));
    assert!(!found(&known, &convolution(7, 256)));
    assert!(!found(&known, &product(64, 80, 48)));
}
