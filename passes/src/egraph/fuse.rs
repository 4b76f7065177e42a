//! Fusion as growth: a body takes in the operation that computes one of its inputs.
//!
//! Invariant: every body that is added is legal by [`super::fused`], and computes again only what
//! is cheap; which bodies are used is for extraction to decide.
//!
//! A body is a cut through the data flow above a value, as in technology mapping of logic networks.
//! Growth that can only save work (an operation that nothing outside the body uses) is done first
//! and alone, so the bodies of a value form a short chain, with branches only where two cores could
//! be taken in.

use super::body::{Body, label};
use super::grow::{Step, Surroundings};
use super::language::{TensorGraph, add_fused};
use super::rule::{Class, Rewrite, Rule, Theme, join};
use egg::Id;

/// What a body takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// f(g(x)) as one pass over the elements.
    Elementwise,
    /// f(core(x)): the core's results go through `f` before they are stored.
    Epilogue,
    /// core(f(x)): elements go through `f` as the core reads them.
    Prologue,
    /// f(move(x)): elements are read from where they are.
    Movement,
}

/// More bodies of one value than this are not considered.
const MAX_BODIES: usize = 24;
/// The rules of fusion.
pub fn rules() -> Vec<Rule> {
    let rule = |name, growth| Rule {
        name,
        theme: Theme::Fuse,
        class: Class::Exact,
        rewrite: Rewrite::Growth(growth),
    };
    vec![
        // f(g(x)) = fused(f∘g)(x)
        rule("fuse-elementwise", Growth::Elementwise),
        // f(core(x)) = fused(f∘core)(x)
        rule("fuse-epilogue", Growth::Epilogue),
        // core(f(x)) = fused(core∘f)(x)
        rule("fuse-prologue", Growth::Prologue),
        // f(move(x)) = fused(f∘move)(x)
        rule("fuse-movement", Growth::Movement),
    ]
}

impl Growth {
    /// Grows every body by this kind of step; the class of every new body.
    pub(super) fn apply(self, egraph: &mut TensorGraph) -> Vec<Id> {
        let mut classes: Vec<Id> = egraph.classes().map(|class| class.id).collect();
        classes.sort_unstable();
        let mut grown = Vec::new();
        look_ahead(egraph, &classes);
        for class in classes {
            for node in egraph[class].nodes.clone() {
                let Some(steps) = egraph.analysis.growths.get_mut(&node) else { continue };
                let (wanted, left) = std::mem::take(steps)
                    .into_iter()
                    .partition::<Vec<Step>, _>(|step| step.growth == self);
                *steps = left;
                for step in wanted {
                    if grow(egraph, class, step.body) {
                        grown.push(class);
                    }
                }
            }
        }
        egraph.rebuild();
        grown
    }
}

/// Puts a body beside what it computes; whether that is news.
fn grow(egraph: &mut TensorGraph, class: Id, body: Body) -> bool {
    let before = egraph.total_number_of_nodes();
    if egraph[class].nodes.len() >= MAX_BODIES {
        return false;
    }
    let name = label(&body.graph);
    match add_fused(egraph, name, body.graph, &body.inputs) {
        Some(id) => join(egraph, class, id) && egraph.total_number_of_nodes() > before,
        None => false,
    }
}

/// Finds the ways to grow of all e-nodes that are new. They depend on the loaded graph alone, so
/// once is enough.
fn look_ahead(egraph: &mut TensorGraph, classes: &[Id]) {
    let surroundings = Surroundings::of(egraph);
    let mut found = Vec::new();
    for &class in classes {
        for node in &egraph[class].nodes {
            if !egraph.analysis.growths.contains_key(node) {
                // A class that is full takes no more.
                let full = egraph[class].nodes.len() >= MAX_BODIES;
                let steps = if full { Vec::new() } else { surroundings.steps(egraph, class, node) };
                found.push((node.clone(), steps));
            }
        }
    }
    egraph.analysis.growths.extend(found);
}
