//! How long the passes take on whole networks.
//!
//! Invariant: measures what `kiln compile` does between import and code generation.

mod models;

use criterion::Criterion;
use kiln_ir::Graph;
use kiln_passes::{CostModel, EGraphOptions, PlanOptions, TileTarget, optimise, plan, simplify};
use std::hint::black_box;

fn measure(c: &mut Criterion, name: &str, graph: &Graph) {
    let (options, cost) = (EGraphOptions::default(), CostModel::generic_cpu());
    let target = TileTarget::avx512(2);
    let simple = simplify(graph).expect("simplifies");
    let (fused, _) = optimise(&simple, &options, &cost).expect("optimises");
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    group.bench_function("simplify", |b| b.iter(|| simplify(black_box(graph))));
    group.bench_function("optimise", |b| b.iter(|| optimise(black_box(&simple), &options, &cost)));
    group.bench_function("plan", |b| {
        b.iter(|| plan(black_box(&fused), &target, &PlanOptions::default()))
    });
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    measure(&mut c, "minilm", &models::encoder(6, 384, 12));
    measure(&mut c, "bert", &models::encoder(12, 768, 12));
    measure(&mut c, "resnet50", &models::resnet50());
    measure(&mut c, "densenet121", &models::densenet121());
    // 10,000 nodes; the weights are short, since no pass looks at how long they are.
    measure(&mut c, "decoder of 100 layers", &models::decoder(100, 64, 4));
    c.final_summary();
}
