//! Operations that change nothing, put into graphs at random: the optimiser sees through them.
//!
//! Invariant: what is put in keeps every element; the program then has no more kernels, and launches
//! no more of them, than without, and computes the same to the bit.

mod inert;

use crate::build::*;
use crate::{filetests, networks};
use fastrand::Rng;
use kiln_ir::{Graph, evaluate, random, text, verify};
use kiln_passes::{
    CostModel, EGraphOptions, Plan, PlanOptions, TileTarget, optimise, plan, simplify,
};
use kiln_program::Step;
use kiln_tensor::Tensor;
use std::fmt::Write;

/// What a program costs to run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    launches: usize,
    kernels: usize,
}

impl Cost {
    fn of(plan: &Plan) -> Self {
        Cost { launches: launches(&plan.program.steps), kernels: plan.kernels.len() }
    }

    fn exceeds(self, other: Cost) -> bool {
        self.launches > other.launches || self.kernels > other.kernels
    }
}

fn launches(steps: &[Step]) -> usize {
    let of = |step: &Step| match step {
        Step::Launch { .. } => 1,
        Step::Branch { then, otherwise, .. } => launches(then) + launches(otherwise),
        Step::Loop(repeat) => launches(&repeat.body),
        _ => 0,
    };
    steps.iter().map(of).sum()
}

/// A graph through all passes; `None` if there is no kernel for one of its operations.
fn compiled(graph: &Graph) -> Option<(Graph, Cost)> {
    let simple = simplify(graph).unwrap();
    let (fused, _) =
        optimise(&simple, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    let plan = plan(&fused, &TileTarget::avx512(2), &PlanOptions::default()).ok()?;
    Some((fused, Cost::of(&plan)))
}

/// Whether all elements are equal, NaN to NaN.
fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    let equal = |(a, b): (&Tensor, &Tensor)| {
        let (x, y) = (a.to_f64(), b.to_f64());
        let mut pairs = x.iter().zip(&y);
        a.sizes() == b.sizes() && pairs.all(|(x, y)| x == y || x.is_nan() && y.is_nan())
    };
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

/// A graph, its compiled form, and operands if it is to be evaluated.
struct Case {
    graph: Graph,
    compiled: Graph,
    cost: Cost,
    inputs: Option<Vec<Tensor>>,
}

impl Case {
    fn of(graph: Graph, inputs: Option<Vec<Tensor>>) -> Option<Self> {
        let (compiled, cost) = compiled(&graph)?;
        Some(Case { graph, compiled, cost, inputs })
    }

    /// What is wrong with the graph after operations without effect were put into it.
    fn fault(&self, seed: u64) -> Option<String> {
        let (changed, what) = with_inert(&self.graph, seed)?;
        verify(&changed).unwrap();
        let told = |fault: String| Some(format!("{}, seed {seed}: {fault}\n{what}", changed.name));
        let Some((after, cost)) = compiled(&changed) else {
            return told("no kernel".to_owned());
        };
        if let Some(inputs) = &self.inputs {
            let [before, put_in] = [&self.graph, &changed].map(|g| evaluate(g, inputs).unwrap());
            assert!(same(&before, &put_in), "what was put in has an effect:\n{what}");
            let [expected, found] = [&self.compiled, &after].map(|g| evaluate(g, inputs).unwrap());
            if !same(&expected, &found) {
                return told(format!("other numbers\n{}", text::abbreviate(&after)));
            }
        }
        let more = cost.exceeds(self.cost);
        let was = self.cost;
        more.then(|| told(format!("{cost:?}, was {was:?}\n{}", text::abbreviate(&after))))?
    }

    /// Fails with all that is wrong.
    fn check(&self, seeds: std::ops::Range<u64>) {
        let faults: Vec<String> = seeds.filter_map(|seed| self.fault(seed)).collect();
        assert!(faults.is_empty(), "{}\n{} faults", faults.join("\n"), faults.len());
    }
}

/// The graph with a few operations without effect, and what they are; `None` if none fitted.
fn with_inert(graph: &Graph, seed: u64) -> Option<(Graph, String)> {
    let mut random = Rng::with_seed(seed);
    let (mut changed, mut what) = (graph.clone(), String::new());
    for _ in 0..1 + random.usize(..5) {
        if let Some((next, line)) = inert::put_in(&changed, &mut random) {
            changed = next;
            let _ = writeln!(what, "  {line}");
        }
    }
    (!what.is_empty()).then_some((changed, what))
}

/// How many seeds a test goes through, of which more may be asked for.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("KILN_CASES").ok().and_then(|cases| cases.parse().ok());
    0..asked.unwrap_or(usual)
}

fn operands(graph: &Graph) -> Vec<Tensor> {
    let symbols = graph.symbols.keys().zip(2..).map(|(symbol, size)| (symbol.clone(), size));
    let symbols = symbols.collect();
    let given = graph.inputs().iter().zip(100..);
    given.map(|(&id, seed)| filetests::numbers(graph.ty(id), &symbols, 0.0, seed)).collect()
}

#[test]
fn blocks_are_compiled_as_without() {
    let mut graphs = Vec::new();
    let mut b = Build::new("bert");
    let (x, mask) = (b.input("x", "b, s, 8"), b.input("mask", "b, 1, 1, s"));
    let y = bert_layer(&mut b, x, mask, 2, 4);
    let y = bert_layer(&mut b, y, mask, 2, 4);
    graphs.push(b.finish(&[y]));

    let mut b = Build::new("resnet");
    let x = b.input("x", "1, 8, 5, 4");
    let y = resnet_block(&mut b, x, 2);
    let y = resnet_block(&mut b, y, 2);
    graphs.push(b.finish(&[y]));

    let mut b = Build::new("paddle");
    let x = b.input("x", "2, 3, 5, 4");
    let y = paddle_hard_swish(&mut b, x, 3);
    graphs.push(b.finish(&[y]));

    let mut b = Build::new("tf");
    let x = b.input("x", "2, 3, 5");
    let y = tf_layer_norm(&mut b, x, 5);
    graphs.push(b.finish(&[y]));
    for graph in graphs {
        let inputs = operands(&graph);
        Case::of(graph, Some(inputs)).unwrap().check(seeds(40));
    }
}

#[test]
fn networks_are_compiled_as_without() {
    for (graph, count) in [
        (networks::models::encoder(3, 32, 2), 20),
        (networks::models::decoder(3, 32, 2), 20),
        (networks::models::resnet50(), 2),
        (networks::models::densenet121(), 1),
    ] {
        Case::of(graph, None).unwrap().check(seeds(count));
    }
}

#[test]
fn random_graphs_are_compiled_as_without() {
    let (mut faults, mut changed) = (Vec::new(), 0);
    for seed in seeds(600) {
        let graph = random::graph(seed, 4 + seed as usize % 12);
        let inputs = random::inputs(&graph, seed);
        if verify(&graph).is_err() || evaluate(&graph, &inputs).is_err() {
            continue;
        }
        if let Some(case) = Case::of(graph, Some(inputs)) {
            changed += usize::from(with_inert(&case.graph, seed).is_some());
            faults.extend(case.fault(seed));
        }
    }
    assert!(faults.is_empty(), "{}\n{} faults", faults.join("\n"), faults.len());
    assert!(changed > 150, "only {changed} graphs were changed");
}
