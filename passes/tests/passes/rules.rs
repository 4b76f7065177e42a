//! The proof of every rule: random instances, and both sides evaluated.
//!
//! Invariant: a rule without instances, or one that fires on none of them, fails.

use crate::instance::{self, Generator, Instance};
use egg::{Id, Language};
use kiln_ir::op::{Binary, BinaryFn, Cast, Reduce, ReduceFn, UnaryFn};
use kiln_ir::{Graph, Op, ValueId};
use kiln_passes::egraph::build::{add, mul, ty, unary};
use kiln_passes::egraph::language::{Head, Knowledge, TensorGraph, TensorNode, add_op, load};
use kiln_passes::egraph::rule::{Class, Ledger, Rule, Theme};
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
            let proven = prove(&rule, &instance);
            fired += usize::from(proven.unwrap_or_else(|reason| panic!("seed {seed}: {reason}")));
        }
        assert!(fired > 0, "{} never fires", rule.name);
    }
    for (name, _) in generators {
        assert!(rules::all().iter().any(|rule| rule.name == name), "no rule {name}");
    }
}

/// What is proven of rules is worth as much as what is refuted: each of these is wrong in one thing.
#[test]
fn unsound_rules_are_refuted() {
    let wrong = |class, left, right| Rule::new("wrong", Theme::Algebra, class, left, right);
    let rules: [(Rule, Generator); 6] = [
        // Of everything: a sign.
        (
            wrong(Class::Exact, "(sub ?x ?c:const)", |g, m| add(g, m.class("x")?, m.class("c")?)),
            |i| {
                let sizes = [i.some(), i.some()];
                let (x, c) = (i.input(&sizes), i.constant(&sizes));
                i.binary(BinaryFn::Sub, x, c)
            },
        ),
        // Of numbers that are not finite: x·0 = 0.
        (
            wrong(Class::Exact, "(mul ?x 0)", |g, m| {
                let x = m.class("x")?;
                let not = unary(g, UnaryFn::IsNan, x)?;
                let never = add_op(g, Binary { f: BinaryFn::And }, &[not, not])?;
                let never = add_op(g, Binary { f: BinaryFn::Xor }, &[never, not])?;
                let dtype = ty(g, x).dtype;
                add_op(g, Cast { to: dtype }, &[never])
            }),
            |i| {
                let sizes = [i.some(), i.some()];
                let (x, zero) = (i.input(&sizes), i.number(0.0));
                i.mul(x, zero)
            },
        ),
        // Of more than rounding: a class that claims less than it does.
        (
            wrong(Class::Exact, "(div ?x ?c:const)", |g, m| {
                let inverse = unary(g, UnaryFn::Reciprocal, m.class("c")?)?;
                mul(g, m.class("x")?, inverse)
            }),
            |i| {
                let sizes = [i.some(), i.some()];
                let (x, c) = (i.input(&sizes), i.constant(&sizes));
                i.binary(BinaryFn::Div, x, c)
            },
        ),
        (
            wrong(Class::Reassociating, "(gelu ?x)", |g, m| {
                unary(g, UnaryFn::GeluTanh, m.class("x")?)
            }),
            |i| {
                let x = i.input(&[7]);
                i.unary(UnaryFn::Gelu, x)
            },
        ),
        // Of some shapes: a permutation that is its own inverse only for two dimensions.
        (wrong(Class::Exact, "(Transpose@a (Transpose@b ?x))", |_, m| m.class("x")), |i| {
            let x = i.input(&[2, 2, 2]);
            let x = i.transpose(x);
            i.transpose(x)
        }),
        // Of empty tensors: the sum of no products is zero.
        (
            wrong(Class::Exact, "(Reduce@r ?x)", |g, m| {
                let Op::Reduce(reduce) = m.op(g, "r")?.clone() else { return None };
                let f = if reduce.f == ReduceFn::Sum { ReduceFn::Prod } else { ReduceFn::Sum };
                (ty(g, m.class("x")?).shape[1].as_const() == Some(0)).then_some(())?;
                add_op(g, Reduce { f, ..reduce }, &[m.class("x")?])
            }),
            |i| {
                let sizes = [i.some(), i.size()];
                let x = i.input(&sizes);
                i.reduce(ReduceFn::Sum, vec![1], true, x)
            },
        ),
    ];
    for (number, (rule, generate)) in rules.iter().enumerate() {
        let refuted = (0..INSTANCES).any(|seed| {
            let mut instance = Instance::new(seed, rule.class == Class::Exact);
            let root = generate(&mut instance);
            instance.graph.output(root, "y").unwrap();
            prove(rule, &instance).is_err()
        });
        assert!(refuted, "nothing is said against wrong rule {number}");
    }
}

/// Applies the rule and evaluates every e-node of every class: all of a class must agree. Whether
/// the rule fired.
fn prove(rule: &Rule, instance: &Instance) -> Result<bool, String> {
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
    let mut wrong = None;
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
                        wrong = Some(format!("{}: {op:?} {reason}\n{graph:#?}", rule.name));
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
    wrong.map_or(Ok(fired > 0), Err)
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
