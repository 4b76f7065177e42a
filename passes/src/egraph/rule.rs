//! A rewrite rule: what it finds, what it puts beside it, and how far results may move.
//!
//! Invariant: rules are directional; the replacement joins the class of what was found only if it
//! has the same type and shape.

use super::fuse::Growth;
use super::language::{TensorGraph, variant_of};
use super::pattern::{Match, Pattern};
use super::report::{Places, Round};
use egg::Id;
use std::collections::{BTreeMap, HashMap, HashSet};

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

/// What a rule is about.
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
    /// Products of one operand as one; in a round of its own, once it is known which they are.
    Join,
    /// Groups of operations as one kernel; in a round of its own, after all others.
    Fuse,
}

impl Theme {
    /// The round in which its rules are used.
    pub(super) fn round(self) -> Round {
        match self {
            Theme::Algebra | Theme::Recognise | Theme::Layout | Theme::Precision => Round::Rewrite,
            Theme::Join => Round::Join,
            Theme::Fuse => Round::Fuse,
        }
    }
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

    /// Applies the rule to every match that is new; how often it put something new beside what it
    /// found.
    pub fn apply(&self, egraph: &mut TensorGraph, ledger: &mut Ledger) -> usize {
        let right = match &self.rewrite {
            Rewrite::Pattern { right, .. } => *right,
            Rewrite::Growth(growth) => {
                let grown = growth.apply(egraph);
                grown.iter().for_each(|&class| ledger.note(self.name, egraph, class));
                return grown.len();
            }
        };
        let mut fired = 0;
        for (number, (class, found)) in self.matches(egraph).into_iter().enumerate() {
            // Counting takes a walk over all classes.
            if number % 32 == 0 && egraph.total_number_of_nodes() >= ledger.node_limit {
                break;
            }
            if !ledger.is_new(self.name, found.key(egraph, class)) {
                continue;
            }
            egraph.analysis.origin = egraph.analysis.sources.get(&egraph.find(class)).cloned();
            if let Some(id) = right(egraph, &found)
                && join(egraph, class, id)
            {
                fired += 1;
                ledger.note(self.name, egraph, class);
            }
        }
        egraph.analysis.origin = None;
        egraph.rebuild();
        fired
    }
}

/// What has been done to one e-graph.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// No rule is applied to an e-graph of so many e-nodes.
    node_limit: usize,
    seen: HashMap<&'static str, HashSet<Vec<u64>>>,
    /// How often, and where, each rule put something new into the e-graph.
    pub fired: BTreeMap<&'static str, Places>,
}

impl Ledger {
    /// A ledger of an e-graph that nothing has been done to.
    pub fn new(node_limit: usize) -> Self {
        Ledger { node_limit, seen: HashMap::new(), fired: BTreeMap::new() }
    }

    fn is_new(&mut self, rule: &'static str, key: Vec<u64>) -> bool {
        self.seen.entry(rule).or_default().insert(key)
    }

    fn note(&mut self, rule: &'static str, egraph: &TensorGraph, class: Id) {
        let source = egraph.analysis.sources.get(&egraph.find(class)).cloned();
        let places = self.fired.entry(rule).or_default();
        *places.entry(source.unwrap_or_default()).or_default() += 1;
    }
}

/// Merges two classes if their types are equal; whether that is news.
pub(super) fn join(egraph: &mut TensorGraph, class: Id, id: Id) -> bool {
    egraph[class].data.ty == egraph[id].data.ty && egraph.union(class, id)
}

/// Classes with an operation of this name, ascending. What constants alone decide is computed when
/// the model is compiled, however it is written: to look for other ways would be work for nothing.
fn candidates(egraph: &TensorGraph, root: Option<&str>) -> Vec<Id> {
    let mut classes: Vec<Id> = match root.map(variant_of) {
        Some(variant) => egraph.classes_for_op(&variant).into_iter().flatten().collect(),
        None => egraph.classes().map(|class| class.id).collect(),
    };
    classes.retain(|&class| !egraph[class].data.constant);
    classes.sort_unstable();
    classes.dedup();
    classes
}
