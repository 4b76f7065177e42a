//! A rewrite rule: what it finds, what it puts beside it, and how far results may move.
//!
//! Invariant: rules are directional; the replacement joins the class of what was found only if it
//! has the same type and shape.

use super::fuse::Growth;
use super::language::TensorGraph;
use super::pattern::{Match, Pattern};
use egg::Id;
use kiln_ir::op::Op;

/// How far the results of both sides of a rule may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// Not at all (a zero may change its sign).
    Exact,
    /// By rounding: operations on finite numbers are done in another order or precision.
    Reassociating,
    /// By more, which a user has to allow.
    Lossy {
        /// Largest difference relative to the largest magnitude in the result.
        error: f64,
    },
}

/// What a rule is about; also the round in which it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Arithmetic on constants, moved to compile time.
    Algebra,
    /// Core operations that exporters write out.
    Recognise,
    /// Transposes, reshapes and convolution layouts.
    Layout,
    /// Cheaper, less exact forms.
    Precision,
    /// Groups of operations as one kernel; in a round of its own, after all others.
    Fuse,
}

/// Builds the right side of a match; `None` where the rule does not hold after all.
pub type Replacement = fn(&mut TensorGraph, &Match) -> Option<Id>;

/// How a rule finds and replaces.
#[derive(Clone, Debug)]
pub enum Rewrite {
    /// A pattern and what stands for it.
    Pattern {
        /// What is found.
        left: Pattern,
        /// What is put beside it.
        right: Replacement,
    },
    /// A body that takes in one more operation.
    Growth(Growth),
}

/// A rewrite rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name in reports.
    pub name: &'static str,
    /// What it is about.
    pub theme: Theme,
    /// How far results may move.
    pub class: Class,
    /// What it does.
    pub rewrite: Rewrite,
}

impl Rule {
    /// A rule from a pattern.
    ///
    /// # Panics
    /// If the pattern does not parse: rules are part of the program, and a test reads them all.
    pub fn new(
        name: &'static str,
        theme: Theme,
        class: Class,
        left: &str,
        right: Replacement,
    ) -> Rule {
        let left = match Pattern::parse(left) {
            Ok(pattern) => pattern,
            Err(error) => panic!("rule {name}: {error}"),
        };
        Rule { name, theme, class, rewrite: Rewrite::Pattern { left, right } }
    }

    /// Every match in the e-graph, in the order of classes.
    pub fn matches(&self, egraph: &TensorGraph) -> Vec<(Id, Match)> {
        match &self.rewrite {
            Rewrite::Pattern { left, .. } => {
                let mut found = Vec::new();
                for class in candidates(egraph, left.root()) {
                    found.extend(left.matches(egraph, class).into_iter().map(|m| (class, m)));
                }
                found
            }
            Rewrite::Growth(_) => Vec::new(),
        }
    }

    /// Applies the rule everywhere once, but not to an e-graph of so many e-nodes; how often it put
    /// something new beside what it found.
    pub fn apply(&self, egraph: &mut TensorGraph, node_limit: usize) -> usize {
        let right = match &self.rewrite {
            Rewrite::Pattern { right, .. } => *right,
            Rewrite::Growth(growth) => return growth.apply(egraph),
        };
        let mut fired = 0;
        for (class, found) in self.matches(egraph) {
            if egraph.total_number_of_nodes() >= node_limit {
                break;
            }
            if let Some(id) = right(egraph, &found) {
                fired += usize::from(join(egraph, class, id));
            }
        }
        egraph.rebuild();
        fired
    }
}

/// Merges two classes if their types are equal; whether that is news.
pub(super) fn join(egraph: &mut TensorGraph, class: Id, id: Id) -> bool {
    egraph[class].data.ty == egraph[id].data.ty && egraph.union(class, id)
}

/// Classes with an operation of this name, ascending. What constants alone decide is computed when
/// the model is compiled, however it is written: to look for other ways would be work for nothing.
fn candidates(egraph: &TensorGraph, root: Option<&str>) -> Vec<Id> {
    let variant = root.and_then(|root| Op::NAMES.iter().position(|name| *name == root));
    let mut classes: Vec<Id> = match variant {
        Some(variant) => egraph.classes_for_op(&(variant as u8)).into_iter().flatten().collect(),
        None => egraph.classes().map(|class| class.id).collect(),
    };
    classes.retain(|&class| !egraph[class].data.constant);
    classes.sort_unstable();
    classes.dedup();
    classes
}
