//! Random graphs through the whole pipeline: no panic, and the same numbers.
//!
//! Invariant: what the verifier accepts, the passes accept; a graph whose evaluation fails may fail
//! to compile, with an error.
//!
//! A random graph may make any rounding larger: the sine of a large sum, a mean of nearly equal
//! numbers. Where results differ by more than rounding explains, the same graph is run again in
//! double precision: a mistake shows there too, a bad condition does not.

use crate::instance::{self, Instance};
use crate::interpreter;
use kiln_ir::accuracy::{Mismatch, Tolerance};
use kiln_ir::op::{Cast, Constant, Op};
use kiln_ir::{Graph, TensorType, ValueId, evaluate, random, text, verify};
use kiln_passes::{
    CostModel, EGraphOptions, FormError, Plan, PlanError, PlanOptions, TileTarget, optimise, plan,
    simplify,
};
use kiln_tensor::{DType, Tensor};

#[derive(Debug, Default)]
struct Tally {
    compared: usize,
    ill_conditioned: usize,
    no_kernel: usize,
    no_value: usize,
}

fn program(graph: &Graph) -> Result<Plan, PlanError> {
    plan(graph, &TileTarget::avx512(2), &PlanOptions::default())
}

/// What differs at the first stage that does not compute what the graph says; `Ok(None)` if all is
/// well, `Err` if there is no kernel for an operation.
fn difference(
    graph: &Graph,
    inputs: &[Tensor],
    expected: &[Tensor],
    factor: f64,
) -> Result<Option<String>, FormError> {
    let what = text::print(graph);
    let agree = |stage: &str, actual: &[Tensor], graph: &Graph| {
        let reason = reason(actual, expected, factor)?;
        Some(format!("{stage}: {reason}\n{what}\n{}", text::print(graph)))
    };
    let simple = simplify(graph).unwrap_or_else(|error| panic!("{error}\n{what}"));
    verify(&simple).unwrap_or_else(|error| panic!("simplified: {error}\n{what}"));
    let found = agree("simplified", &evaluate(&simple, inputs).unwrap(), &simple);
    if found.is_some() {
        return Ok(found);
    }
    let (fused, _) = optimise(&simple, &EGraphOptions::default(), &CostModel::generic_cpu())
        .unwrap_or_else(|error| panic!("{error}\n{what}"));
    let after = text::print(&fused);
    verify(&fused).unwrap_or_else(|error| panic!("fused: {error}\n{what}\n{after}"));
    let found = agree("fused", &evaluate(&fused, inputs).unwrap(), &fused);
    if found.is_some() {
        return Ok(found);
    }
    let plan = match program(&fused) {
        Ok(plan) => plan,
        Err(PlanError::Form(error @ FormError::NoForm { .. })) => return Err(error),
        Err(error) => panic!("{error}\n{what}\n{after}"),
    };
    let actual = interpreter::run(&plan, inputs)
        .unwrap_or_else(|error| panic!("{error:?}\n{what}\n{after}"));
    Ok(agree("program", &actual, &fused))
}

fn reason(actual: &[Tensor], expected: &[Tensor], factor: f64) -> Option<String> {
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).find_map(|(a, e)| {
        let plain = Tolerance::for_type(e.dtype(), 64);
        let (relative, absolute) = (factor * plain.relative, factor * plain.absolute);
        // Inputs are about 1: what is far smaller is a difference of such numbers.
        let largest = e.to_f64().into_iter().filter(|e| e.is_finite()).fold(1.0, f64::max);
        let tolerance = Tolerance { relative, absolute, ..plain }.with_magnitude(largest);
        match tolerance.compare(a, e) {
            Ok(comparison) if comparison.agrees() => None,
            Ok(comparison) => Some(format!("{comparison}\n{:?}\n{:?}", a.to_f64(), e.to_f64())),
            Err(Mismatch { actual, expected }) => Some(format!("{actual} instead of {expected}")),
        }
    })
}

/// The graph with all floats in double precision; `None` where that is not well-typed.
fn widened(graph: &Graph) -> Option<Graph> {
    let wide = |dtype: DType| if dtype.is_float() { DType::F64 } else { dtype };
    let mut new = Graph::new(graph.name.clone());
    new.symbols = graph.symbols.clone();
    let mut map = vec![ValueId(0); graph.value_count()];
    for &input in graph.inputs() {
        let ty = graph.ty(input);
        map[input.0 as usize] =
            new.input(format!("x{}", input.0), TensorType::new(wide(ty.dtype), ty.shape.clone()));
    }
    for (_, node) in graph.nodes() {
        let op = match &node.op {
            Op::Constant(constant) => Constant { tensor: widened_tensor(&constant.tensor) }.into(),
            Op::Cast(cast) => Cast { to: wide(cast.to) }.into(),
            op => op.clone(),
        };
        let inputs: Vec<ValueId> = node.inputs.iter().map(|input| map[input.0 as usize]).collect();
        let bodies: Option<Vec<Graph>> = node.regions.iter().map(widened).collect();
        let outputs = new.add_node(op, &inputs, bodies?, None).ok()?;
        for (&old, added) in node.outputs.iter().zip(outputs) {
            map[old.0 as usize] = added;
        }
    }
    for (&output, name) in graph.outputs().iter().zip(graph.output_names()) {
        new.output(map[output.0 as usize], name.clone()).ok()?;
    }
    Some(new)
}

fn widened_tensor(tensor: &Tensor) -> Tensor {
    if !tensor.dtype().is_float() {
        return tensor.clone();
    }
    Tensor::from_f64(DType::F64, tensor.sizes().to_vec(), &tensor.to_f64()).unwrap()
}

fn check(seed: u64, nodes: usize, tally: &mut Tally) {
    let graph = random::graph(seed, nodes);
    if verify(&graph).is_err() {
        return;
    }
    let inputs = random::inputs(&graph, seed);
    let Ok(expected) = evaluate(&graph, &inputs) else {
        // No panic: that is all.
        tally.no_value += 1;
        let options = EGraphOptions::default();
        if let Ok((fused, _)) = optimise(&graph, &options, &CostModel::generic_cpu()) {
            let _ = program(&fused);
        }
        return;
    };
    match difference(&graph, &inputs, &expected, 1.0) {
        Ok(None) => tally.compared += 1,
        Err(_) => tally.no_kernel += 1,
        Ok(Some(found)) => {
            tally.ill_conditioned += 1;
            let again = widened(&graph).and_then(|wide| {
                let inputs: Vec<Tensor> = inputs.iter().map(widened_tensor).collect();
                let expected = evaluate(&wide, &inputs).ok()?;
                // The condition may be as bad as a million.
                difference(&wide, &inputs, &expected, 1e6).ok()?
            });
            if let Some(again) = again {
                panic!("seed {seed}, {nodes} nodes: {found}\nin double precision: {again}");
            }
        }
    }
}

/// What rules are proven on, through everything else: convolutions, attention, normalisations.
#[test]
fn instances_of_rules_compute_the_same() {
    for (name, generate) in instance::all() {
        for seed in 0..6 {
            let mut instance = Instance::new(seed, false);
            let root = generate(&mut instance);
            instance.graph.output(root, "y").unwrap();
            let inputs = instance.arguments().to_vec();
            let expected = evaluate(&instance.graph, &inputs).unwrap();
            let found = difference(&instance.graph, &inputs, &expected, 100.0);
            assert_eq!(found, Ok(None), "{name}, seed {seed}");
        }
    }
}

#[test]
fn random_graphs_compute_the_same() {
    // More than every test run needs can be asked for.
    let cases =
        std::env::var("KILN_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    let mut tally = Tally::default();
    for seed in 0..cases {
        check(seed, 4 + seed as usize % 12, &mut tally);
    }
    println!("{tally:?}");
    assert!(tally.compared * 3 > cases as usize, "{tally:?}");
    assert!(tally.ill_conditioned * 20 < cases as usize, "{tally:?}");
}
