//! Fusion as growth: a body takes in the operation that computes one of its inputs.
//!
//! Invariant: every body that is added is legal by [`super::fused`], and computes again only what
//! is cheap; which bodies are used is for extraction to decide.
//!
//! A body is a cut through the data flow above a value, as in technology mapping of logic networks.
//! Growth that can only save work (an operation that nothing outside the body uses) is done first
//! and alone, so the bodies of a value form a short chain, with branches only where two cores could
//! be taken in.

use super::body::{Body, Plain, label};
use super::fused::{Kind, kind, parts};
use super::language::{TensorGraph, TensorNode, Uses, add_fused};
use super::rule::{Class, Rewrite, Rule, Theme, join};
use egg::{Id, Language};
use kiln_ir::Graph;
use kiln_ir::op::{BinaryFn, Op, UnaryFn};
use kiln_tensor::Dim;
use std::collections::{BTreeMap, BTreeSet};

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
/// Larger bodies are not grown: no real kernel needs them, and code would become slow to compile.
pub(super) const MAX_MEMBERS: usize = 64;
/// Scalar operations for one element of a body, at most. A value that is read at several indices,
/// as by a concatenation with what was made of it, is computed for each: a chain of those would
/// double with every operation.
const MOST_EVALUATIONS: u64 = 96;

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

/// One way for a body to grow.
#[derive(Debug)]
pub(super) struct Step {
    growth: Growth,
    forced: bool,
    body: Body,
}

impl Growth {
    /// Grows every body by this kind of step; how many new bodies that gave.
    pub(super) fn apply(self, egraph: &mut TensorGraph) -> usize {
        let mut classes: Vec<Id> = egraph.classes().map(|class| class.id).collect();
        classes.sort_unstable();
        let mut fired = 0;
        look_ahead(egraph, &classes);
        for class in classes {
            for node in egraph[class].nodes.clone() {
                let Some(steps) = egraph.analysis.growths.get_mut(&node) else { continue };
                let (wanted, left) = std::mem::take(steps)
                    .into_iter()
                    .partition::<Vec<Step>, _>(|step| step.growth == self);
                *steps = left;
                for step in wanted {
                    fired += usize::from(grow(egraph, class, step.body));
                }
            }
        }
        egraph.rebuild();
        fired
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
                found.push((node.clone(), surroundings.steps(egraph, class, node)));
            }
        }
    }
    egraph.analysis.growths.extend(found);
}

/// What growth asks of the graph around a body.
struct Surroundings {
    plain: Plain,
    uses: BTreeMap<Id, Uses>,
}

impl Surroundings {
    fn of(egraph: &TensorGraph) -> Self {
        let mut uses: BTreeMap<Id, Uses> = BTreeMap::new();
        for (&id, found) in &egraph.analysis.uses {
            let entry = uses.entry(egraph.find(id)).or_default();
            entry.by.extend(found.by.iter().map(|&by| egraph.find(by)));
            entry.output |= found.output;
        }
        for entry in uses.values_mut() {
            entry.by.sort_unstable();
            entry.by.dedup();
        }
        Surroundings { plain: Plain::of(egraph), uses }
    }

    /// The ways for the body of a node to grow: the first that can only save work, or else all.
    fn steps(&self, egraph: &TensorGraph, class: Id, node: &TensorNode) -> Vec<Step> {
        let alone = self.plain.op(egraph, class).is_none_or(|op| kind(op) == Kind::Alone);
        if alone || egraph.analysis.op(node.op).is_none() {
            return Vec::new();
        }
        let cut: Vec<Id> = node.children().iter().map(|&child| egraph.find(child)).collect();
        let Some(body) = self.plain.body(egraph, class, &cut) else { return Vec::new() };
        if body.members.len() >= MAX_MEMBERS {
            return Vec::new();
        }
        let mut steps = Vec::new();
        let mut tried = BTreeSet::new();
        for &input in &body.inputs {
            if !tried.insert(input) {
                continue;
            }
            let Some(step) = self.step(egraph, class, &body, input) else { continue };
            if step.forced {
                return vec![step];
            }
            steps.push(step);
        }
        steps
    }

    /// The body with the operation that computes one of its inputs, if it may take that in.
    fn step(&self, egraph: &TensorGraph, class: Id, body: &Body, input: Id) -> Option<Step> {
        let node = self.plain.node(egraph, input)?;
        let op = egraph.analysis.op(node.op)?;
        let taken = kind(op);
        let inside = self.used_only_by(input, &body.members);
        let allowed = match taken {
            Kind::Leaf => true,
            Kind::Streaming | Kind::Anchored => inside,
            Kind::Movement | Kind::Pointwise => inside || is_cheap(op),
            Kind::Alone => false,
        };
        if !allowed || self.repeats_work(egraph, body, class, input, op) {
            return None;
        }
        let mut cut: Vec<Id> = body.inputs.iter().copied().filter(|&id| id != input).collect();
        cut.extend(node.children().iter().map(|&child| egraph.find(child)));
        let grown = self.plain.body(egraph, class, &cut)?;
        let parts = parts(&grown.graph).ok()?;
        if evaluations(&grown.graph) > MOST_EVALUATIONS {
            return None;
        }
        let had_core = body.members.iter().any(|&member| self.is_core(egraph, member));
        let growth = match taken {
            Kind::Streaming | Kind::Anchored => Growth::Epilogue,
            Kind::Movement => Growth::Movement,
            _ if had_core && parts.prologue.len() > self.prologue_length(body) => Growth::Prologue,
            _ => Growth::Elementwise,
        };
        let forced =
            taken == Kind::Leaf || (inside && matches!(taken, Kind::Pointwise | Kind::Movement));
        Some(Step { growth, forced, body: grown })
    }

    fn prologue_length(&self, body: &Body) -> usize {
        parts(&body.graph).map_or(0, |parts| parts.prologue.len())
    }

    fn is_core(&self, egraph: &TensorGraph, class: Id) -> bool {
        let op = self.plain.op(egraph, class);
        op.is_some_and(|op| matches!(kind(op), Kind::Streaming | Kind::Anchored))
    }

    fn used_only_by(&self, class: Id, members: &[Id]) -> bool {
        self.uses
            .get(&class)
            .is_some_and(|uses| !uses.output && uses.by.iter().all(|by| members.contains(by)))
    }

    /// Whether computing the input inside of the body computes its elements several times, and they
    /// are dear: a small tensor that is stretched, or one of which elements are picked.
    fn repeats_work(
        &self,
        egraph: &TensorGraph,
        body: &Body,
        class: Id,
        input: Id,
        op: &Op,
    ) -> bool {
        if kind(op) != Kind::Pointwise {
            return false;
        }
        let picked = body.members.iter().any(|&member| {
            let Some(node) = self.plain.node(egraph, member) else { return false };
            let moves = matches!(
                egraph.analysis.op(node.op),
                Some(Op::Concat(_) | Op::Gather(_) | Op::Pad(_) | Op::Broadcast(_))
            );
            moves && node.children().iter().any(|&child| egraph.find(child) == input)
        });
        // A core reads a whole row for each of its results.
        let core = body.members.iter().find(|&&member| self.is_core(egraph, member));
        let domain = match core.and_then(|&core| self.plain.node(egraph, core)) {
            Some(core) => core.children().first().copied().unwrap_or(class),
            None => class,
        };
        let elements = |id: Id| egraph[id].data.ty.elements();
        let stretched = is_larger(&elements(domain), &elements(input));
        (picked || stretched) && !is_cheap(op)
    }
}

/// Whether one number of elements is certainly larger than another.
fn is_larger(a: &Dim, b: &Dim) -> bool {
    match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a > b,
        // With symbols: more of them, or a larger multiple of the same.
        _ => a != b && b.exact_div(a).is_none(),
    }
}

/// Scalar operations for one element of the result, nothing shared but the result of a core.
fn evaluations(body: &Graph) -> u64 {
    let mut counts = vec![1u64; body.value_count()];
    for (_, node) in body.nodes() {
        let inputs = node.inputs.iter().map(|input| counts[input.0 as usize]);
        let count = inputs.fold(1, u64::saturating_add);
        let stored = matches!(kind(&node.op), Kind::Streaming | Kind::Anchored);
        for output in &node.outputs {
            // What a core reads counts as much as what is made of it.
            let within = if count > MOST_EVALUATIONS { count } else { 1 };
            counts[output.0 as usize] = if stored { within } else { count };
        }
    }
    body.outputs().iter().map(|output| counts[output.0 as usize]).max().unwrap_or(0)
}

/// Whether an operation costs no more than reading its result would.
fn is_cheap(op: &Op) -> bool {
    match op {
        Op::Unary(unary) => matches!(
            unary.f,
            UnaryFn::Neg | UnaryFn::Abs | UnaryFn::Relu | UnaryFn::Not | UnaryFn::BitNot
        ),
        Op::Binary(binary) => {
            !matches!(binary.f, BinaryFn::Div | BinaryFn::Rem | BinaryFn::Mod | BinaryFn::Pow)
        }
        Op::Select(_) | Op::Cast(_) | Op::BitCast(_) => true,
        Op::Reshape(_) | Op::Assume(_) | Op::Transpose(_) => true,
        Op::Broadcast(_) | Op::Slice(_) => true,
        _ => false,
    }
}
