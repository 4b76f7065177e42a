//! The proof of every rule: random instances, and both sides evaluated.
//!
//! Invariant: a rule without instances, or one that fires on none of them, fails.

mod instance;

use instance::Instance;
use kiln_passes::egraph::language::{Knowledge, TensorGraph, load};
use kiln_passes::egraph::rule::Class;
use kiln_passes::egraph::rules;

/// Instances for each rule.
const INSTANCES: u64 = 40;

#[test]
fn every_rule_has_instances_and_fires_on_them() {
    let generators = instance::all();
    for rule in rules::all() {
        let generator = generators.iter().find(|(name, _)| *name == rule.name);
        let (_, generate) = generator.unwrap_or_else(|| panic!("{} has no instances", rule.name));
        let mut fired = 0;
        for seed in 0..INSTANCES {
            let mut instance = Instance::new(seed, rule.class == Class::Exact);
            let root = generate(&mut instance);
            instance.graph.output(root, "y").unwrap();
            let mut egraph = TensorGraph::new(Knowledge::default());
            load(&mut egraph, &instance.graph, &[]).unwrap();
            fired += rule.apply(&mut egraph).min(1);
        }
        println!("{:40} fired on {fired} of {INSTANCES}", rule.name);
        assert!(fired > 0, "{} never fires", rule.name);
    }
    for (name, _) in generators {
        assert!(rules::all().iter().any(|rule| rule.name == name), "no rule {name}");
    }
}
