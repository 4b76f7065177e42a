//! What the passes make of the usual blocks of real models.
//!
//! Invariant: the expected kernels are spelt out, so that a rule that stops firing is seen.

use crate::build::*;
use kiln_ir::Graph;
use kiln_passes::egraph::fused;
use kiln_passes::{CostModel, EGraphOptions, Report, optimise};

fn optimised(graph: &Graph) -> (Graph, Report) {
    let (result, report) =
        optimise(graph, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    for (_, node) in result.nodes() {
        for body in &node.regions {
            fused::parts(body).unwrap();
        }
    }
    (result, report)
}

/// The operations of one layer of BERT: four products, of which the first makes queries, keys and values;
/// attention; two normalisations. A reshape is a view.
const BERT_LAYER: [&str; 9] = [
    "[contract_add] contract bsk,kn->bsn",
    "Reshape",
    "[slice_transpose_slice_transpose_slice_transpose_attention_transpose]",
    "Reshape",
    "[contract_add_add] contract bsk,kn->bsn",
    "Normalize",
    "[contract_add_gelu] contract bsk,kn->bsn",
    "[contract_add_add] contract bsk,kn->bsn",
    "Normalize",
];

#[test]
fn a_bert_layer_is_seven_kernels() {
    let mut b = Build::new("bert");
    let mut x = b.input("x", "b, s, 256");
    let mask = b.input("mask", "b, 1, 1, s");
    for _ in 0..3 {
        x = bert_layer(&mut b, x, mask, 4, 64);
    }
    let graph = b.finish(&[x]);
    let (result, report) = optimised(&graph);
    assert_eq!(names(&result), [BERT_LAYER; 3].concat());
    // Attention and feed-forward are a region each, in all rounds; all layers share them.
    assert_eq!(report.regions.len(), 18, "{report}");
    assert_eq!(report.identical(), 12, "{report}");
}

#[test]
fn tensorflow_layer_norm_is_one_kernel() {
    let mut b = Build::new("tf");
    let x = b.input("x", "n, s, 16");
    let y = tf_layer_norm(&mut b, x, 16);
    assert_eq!(names(&optimised(&b.finish(&[y])).0), ["Normalize"]);
}

#[test]
fn a_disabled_rule_does_not_fire() {
    let mut b = Build::new("gelu");
    let x = b.input("x", "n");
    let y = gelu(&mut b, x);
    let graph = b.finish(&[y]);
    let gelu_only = |disabled: &[&str]| {
        let disabled = disabled.iter().map(|name| name.to_string()).collect();
        let options = EGraphOptions { disabled, fuse: false, ..EGraphOptions::default() };
        names(&optimise(&graph, &options, &CostModel::generic_cpu()).unwrap().0)
    };
    assert_eq!(gelu_only(&[]), ["Unary"]);
    assert!(gelu_only(&["gelu"]).len() > 1);
}

#[test]
fn lossy_rules_need_a_budget() {
    use kiln_ir::op::{Unary, UnaryFn};
    let mut b = Build::new("gelu");
    let x = b.input("x", "n");
    let y = gelu(&mut b, x);
    let graph = b.finish(&[y]);
    for (error_budget, expected) in
        [(None, UnaryFn::Gelu), (Some(1e-6), UnaryFn::Gelu), (Some(1e-3), UnaryFn::GeluTanh)]
    {
        let options = EGraphOptions { error_budget, ..EGraphOptions::default() };
        let (result, _) = optimise(&graph, &options, &CostModel::generic_cpu()).unwrap();
        let (_, node) = result.nodes().last().unwrap();
        assert_eq!(node.op, Unary { f: expected }.into());
    }
}
