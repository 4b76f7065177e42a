//! Random graphs through the whole pipeline: no panic, and the same numbers.
//!
//! Invariant: what the verifier accepts, the passes accept; a graph whose evaluation fails may fail
//! to compile, with an error.

use crate::interpreter;
use kiln_ir::accuracy::Tolerance;
use kiln_ir::{Graph, random, text, verify};
use kiln_passes::{
    CostModel, EGraphOptions, FormError, Plan, PlanError, PlanOptions, TileTarget, optimise, plan,
    simplify,
};
use kiln_tensor::Tensor;

#[derive(Debug, Default)]
struct Tally {
    compared: usize,
    no_kernel: usize,
    no_value: usize,
}

fn program(graph: &Graph) -> Result<Plan, PlanError> {
    plan(graph, &TileTarget::avx512(2), &PlanOptions::default())
}

fn agree(actual: &[Tensor], expected: &[Tensor], what: &str, stage: &str) {
    assert_eq!(actual.len(), expected.len(), "{stage}\n{what}");
    for (a, e) in actual.iter().zip(expected) {
        let comparison = Tolerance::for_type(e.dtype(), 64).compare(a, e);
        let comparison = comparison.unwrap_or_else(|error| panic!("{stage}: {error}\n{what}"));
        assert!(
            comparison.agrees(),
            "{stage}: {comparison}\n{:?}\n{:?}\n{what}",
            a.to_f64(),
            e.to_f64()
        );
    }
}

fn check(seed: u64, nodes: usize, tally: &mut Tally) {
    let graph = random::graph(seed, nodes);
    if verify(&graph).is_err() {
        return;
    }
    let what = format!("seed {seed}, {nodes} nodes\n{}", text::print(&graph));
    let inputs = random::inputs(&graph, seed);
    let Ok(expected) = kiln_ir::evaluate(&graph, &inputs) else {
        // No panic: that is all.
        tally.no_value += 1;
        if let Ok(simple) = simplify(&graph)
            && let Ok((fused, _)) =
                optimise(&simple, &EGraphOptions::default(), &CostModel::generic_cpu())
        {
            let _ = program(&fused);
        }
        return;
    };
    let simple = simplify(&graph).unwrap_or_else(|error| panic!("{error}\n{what}"));
    verify(&simple).unwrap_or_else(|error| panic!("simplified: {error}\n{what}"));
    agree(&kiln_ir::evaluate(&simple, &inputs).unwrap(), &expected, &what, "simplified");
    let options = EGraphOptions::default();
    let (fused, _) = optimise(&simple, &options, &CostModel::generic_cpu())
        .unwrap_or_else(|error| panic!("{error}\n{what}"));
    let what = format!("{what}\n{}", text::print(&fused));
    verify(&fused).unwrap_or_else(|error| panic!("fused: {error}\n{what}"));
    agree(&kiln_ir::evaluate(&fused, &inputs).unwrap(), &expected, &what, "fused");
    let plan = match program(&fused) {
        Ok(plan) => plan,
        Err(PlanError::Form(FormError::NoForm { .. })) => {
            tally.no_kernel += 1;
            return;
        }
        Err(error) => panic!("{error}\n{what}"),
    };
    let actual =
        interpreter::run(&plan, &inputs).unwrap_or_else(|error| panic!("{error:?}\n{what}"));
    agree(&actual, &expected, &what, "program");
    tally.compared += 1;
}

#[test]
fn random_graphs_compute_the_same() {
    let from = std::env::var("KILN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let mut tally = Tally::default();
    for seed in from..from + 300 {
        check(seed, 4 + seed as usize % 12, &mut tally);
    }
    println!("{tally:?}");
    assert!(tally.compared > 100, "{tally:?}");
}
