//! The proof of every rule: random instances, and both sides evaluated.
//!
//! Invariant: a rule without instances, or one that fires on none of them, fails.

use crate::instance::{self, Instance};
use egg::{Id, Language};
use kiln_ir::{Graph, Op, ValueId};
use kiln_passes::egraph::language::{Head, Knowledge, TensorGraph, TensorNode, load};
use kiln_passes::egraph::rule::{Class, Ledger, Rule};
use kiln_passes::egraph::rules;
use kiln_tensor::{SymbolValues, Tensor};
use std::collections::BTreeMap;

/// Instances for each rule.
const INSTANCES: u64 = 60;
/// Iterations of a rule on its own results.
const REPEATS: usize = 3;

#[test]
fn both_sides_of_every_rule_are_equal() {
    let generators = instance::all();
    for rule in rules::all() {
        let generator = generators.iter().find(|(name, _)| *name == rule.name);
        let (_, generate) = generator.unwrap_or_else(|| panic!("{} has no instances", rule.name));
        let mut fired = 0;
        for seed in 0..INSTANCES {
            let mut instance = Instance::new(seed, rule.class == Class::Exact);
            let root = generate(&mut instance);
            instance.graph.output(root, "y").unwrap();
            fired += usize::from(prove(&rule, &instance, seed));
        }
        assert!(fired > 0, "{} never fires", rule.name);
    }
    for (name, _) in generators {
        assert!(rules::all().iter().any(|rule| rule.name == name), "no rule {name}");
    }
}

/// Applies the rule and evaluates every e-node of every class: all of a class must agree. Whether
/// the rule fired.
fn prove(rule: &Rule, instance: &Instance, seed: u64) -> bool {
    let graph = &instance.graph;
    let mut egraph = TensorGraph::new(Knowledge::default());
    let classes = load(&mut egraph, graph, &[]).unwrap();
    let mut fired = 0;
    let mut ledger = Ledger::new(usize::MAX);
    for _ in 0..REPEATS {
        fired += rule.apply(&mut egraph, &mut ledger);
    }
    let mut values: BTreeMap<Id, Tensor> = BTreeMap::new();
    let given = instance.arguments().iter().cloned();
    let inputs = graph.inputs().iter().map(|input| egraph.find(classes[input.0 as usize]));
    values.extend(inputs.zip(given));
    for (_, node) in graph.nodes() {
        let of = |value: &ValueId| egraph.find(classes[value.0 as usize]);
        let operands: Vec<Tensor> =
            node.inputs.iter().map(|input| values[&of(input)].clone()).collect();
        let result = value_of(&node.op, &node.regions, &operands);
        values.insert(of(&node.outputs[0]), result);
    }
    let mut pending: Vec<(Id, TensorNode)> = egraph
        .classes()
        .flat_map(|class| class.nodes.iter().map(move |node| (class.id, node.clone())))
        .collect();
    while !pending.is_empty() {
        let before = pending.len();
        pending.retain(|(class, node)| {
            let Head::Op(op, regions) = egraph.analysis.head(node.op) else { return false };
            let operands: Option<Vec<Tensor>> =
                node.children().iter().map(|&c| values.get(&egraph.find(c)).cloned()).collect();
            let Some(operands) = operands else { return true };
            let result = value_of(op, regions, &operands);
            match values.get(class) {
                Some(expected) => {
                    if let Err(reason) = agree(rule.class, expected, &result) {
                        panic!("{}, seed {seed}: {op:?} {reason}\n{graph:#?}", rule.name);
                    }
                }
                None => {
                    values.insert(*class, result);
                }
            }
            false
        });
        assert!(pending.len() < before, "{}: a class without value", rule.name);
    }
    fired > 0
}

/// The result of an operation with one.
fn value_of(op: &Op, regions: &[Graph], operands: &[Tensor]) -> Tensor {
    let results = op.evaluate(operands, regions, &SymbolValues::new());
    let mut results = results.unwrap_or_else(|error| panic!("{op:?}: {error}"));
    results.remove(0)
}

fn agree(class: Class, expected: &Tensor, actual: &Tensor) -> Result<(), String> {
    if (expected.dtype(), expected.sizes()) != (actual.dtype(), actual.sizes()) {
        return Err("changes the type".to_owned());
    }
    let (expected_values, actual_values) = (expected.to_f64(), actual.to_f64());
    let largest = expected_values.iter().fold(1.0f64, |max, v| max.max(v.abs()));
    let tolerance = match class {
        Class::Exact => 0.0,
        Class::Reassociating => 256.0 * expected.dtype().unit_roundoff() * largest,
        Class::Lossy { error } => error * largest,
    };
    for (a, b) in expected_values.iter().zip(&actual_values) {
        let close = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance;
        if !close {
            return Err(format!("gives {actual_values:?}, not {expected_values:?}"));
        }
    }
    Ok(())
}
