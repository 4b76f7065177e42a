//! The ways for a body to grow, in the graph around it.
//!
//! Invariant: what a body takes in keeps it legal by [`super::fused`], and is computed again only where
//! that is cheap.

use super::body::{Body, Plain};
use super::evaluations::{MOST_EVALUATIONS, evaluations};
use super::fuse::Growth;
use super::fused::{Kind, kind, parts};
use super::language::{TensorGraph, TensorNode, Uses};
use crate::integers::is_small_integer;
use egg::{Id, Language};
use kiln_ir::op::{BinaryFn, Op, UnaryFn};
use kiln_tensor::Dim;
use std::collections::BTreeMap;

/// Larger bodies, their constants aside, are not grown, nor operations of more operands taken in: no
/// real kernel needs them, and code would become slow to compile.
pub(super) const MAX_MEMBERS: usize = 64;

/// One way for a body to grow.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) growth: Growth,
    pub(super) body: Body,
}

/// What a body computes and reads, by class.
struct Outline {
    inputs: Vec<Id>,
    members: Vec<Id>,
}

impl Outline {
    /// Takes the operation that computes an input in.
    fn take(&mut self, input: Id, operands: Vec<Id>) {
        self.inputs.retain(|&id| id != input);
        self.members.push(input);
        let members = &self.members;
        self.inputs.extend(operands.into_iter().filter(|id| !members.contains(id)));
    }
}

impl Body {
    fn outline(&self) -> Outline {
        Outline { inputs: self.inputs.clone(), members: self.members.clone() }
    }
}

/// An operation that a body may take in.
#[derive(Clone)]
struct Taken {
    /// The input that it computes.
    input: Id,
    kind: Kind,
    /// Whether this can only save work.
    forced: bool,
}

/// What growth asks of the graph around a body.
pub(super) struct Surroundings {
    plain: Plain,
    uses: BTreeMap<Id, Uses>,
}

impl Surroundings {
    pub(super) fn of(egraph: &TensorGraph) -> Self {
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

    /// The ways for the body of a node to grow: as far as that can only save work, or else by any one
    /// operation.
    ///
    /// No body is as long as a model. Where small integers stand between two operations is a good
    /// place to end one, so it grows up to those first, and that is a way of its own.
    pub(super) fn steps(&self, egraph: &TensorGraph, class: Id, node: &TensorNode) -> Vec<Step> {
        let alone = self.plain.op(egraph, class).is_none_or(|op| kind(op) == Kind::Alone);
        if alone || node.children().len() > MAX_MEMBERS || egraph.analysis.op(node.op).is_none() {
            return Vec::new();
        }
        let cut: Vec<Id> = node.children().iter().map(|&child| egraph.find(child)).collect();
        let Some(body) = self.plain.body(egraph, class, &cut) else { return Vec::new() };
        let (mut ways, mut longest) = (Vec::new(), None);
        loop {
            let body = longest.as_ref().map_or(&body, |step: &Step| &step.body);
            let wide = self.longer(egraph, class, body, false);
            let up_to_integers = wide.is_none();
            match wide.or_else(|| self.longer(egraph, class, body, true)) {
                Some(next) => {
                    let before = longest.replace(next);
                    ways.extend(before.filter(|_| up_to_integers));
                }
                None if longest.is_none() => {
                    let free = self.takes(egraph, class, &body.outline());
                    let each = free.chunks(1);
                    return each.filter_map(|one| self.step(egraph, class, body, one)).collect();
                }
                None => {
                    ways.extend(longest);
                    return ways;
                }
            }
        }
    }

    /// What a body may take in, of each of its inputs once.
    fn takes(&self, egraph: &TensorGraph, class: Id, body: &Outline) -> Vec<Taken> {
        if self.computed(egraph, &body.members) >= MAX_MEMBERS {
            return Vec::new();
        }
        let inputs = body.inputs.iter().enumerate();
        let once = inputs.filter(|&(number, input)| !body.inputs[..number].contains(input));
        once.filter_map(|(_, &input)| self.taken(egraph, class, body, input)).collect()
    }

    /// The operations that can only save work, and compute small integers or nothing of the kind.
    fn forced(
        &self,
        egraph: &TensorGraph,
        class: Id,
        body: &Outline,
        integers: bool,
    ) -> Vec<Taken> {
        let mut forced = self.takes(egraph, class, body);
        let wanted = |id: Id| is_small_integer(egraph[id].data.ty.dtype) == integers;
        forced.retain(|taken| taken.forced && wanted(taken.input));
        forced
    }

    /// The body with all that can only save work, as far as that goes without small integers (or with
    /// those at its inputs); or else with one such operation.
    fn longer(&self, egraph: &TensorGraph, class: Id, body: &Body, integers: bool) -> Option<Step> {
        let several = self.forced(egraph, class, &body.outline(), integers);
        // Only the last of the bodies on the way is built.
        let mut all: Vec<Taken> = Vec::new();
        let (mut outline, mut next) = (body.outline(), several.clone());
        while !next.is_empty() {
            for taken in &next {
                outline.take(taken.input, self.operands(egraph, taken.input));
            }
            all.append(&mut next);
            if !integers {
                next = self.forced(egraph, class, &outline, integers);
            }
        }
        let grown = self.step(egraph, class, body, &all);
        grown.or_else(|| several.chunks(1).find_map(|one| self.step(egraph, class, body, one)))
    }

    fn operands(&self, egraph: &TensorGraph, class: Id) -> Vec<Id> {
        let node = self.plain.node(egraph, class);
        let children = node.map(|node| node.children()).unwrap_or_default();
        children.iter().map(|&child| egraph.find(child)).collect()
    }

    /// The operation that computes an input of a body, if that may take it in.
    fn taken(&self, egraph: &TensorGraph, class: Id, body: &Outline, input: Id) -> Option<Taken> {
        let node = self.plain.node(egraph, input)?;
        let op = egraph.analysis.op(node.op)?;
        let kind = kind(op);
        let inside = self.used_only_by(input, &body.members);
        let allowed = match kind {
            Kind::Leaf => true,
            Kind::Streaming | Kind::Anchored => inside,
            Kind::Movement | Kind::Pointwise => {
                inside || is_cheap(op) && !self.narrows(egraph, input, op)
            }
            Kind::Alone => false,
        };
        if !allowed
            || node.children().len() > MAX_MEMBERS
            || self.repeats_work(egraph, body, class, input, op)
        {
            return None;
        }
        let forced = kind == Kind::Leaf
            || (inside && matches!(kind, Kind::Pointwise | Kind::Movement))
            || self.of_integers(egraph, input);
        Some(Taken { input, kind, forced })
    }

    /// The body with the operations that compute some of its inputs.
    fn step(
        &self,
        egraph: &TensorGraph,
        class: Id,
        body: &Body,
        several: &[Taken],
    ) -> Option<Step> {
        let first = several.first()?;
        let is_taken = |id: &Id| several.iter().any(|taken| taken.input == *id);
        let mut cut: Vec<Id> = body.inputs.iter().copied().filter(|id| !is_taken(id)).collect();
        for taken in several {
            cut.extend(self.operands(egraph, taken.input).into_iter().filter(|id| !is_taken(id)));
        }
        let grown = self.plain.body(egraph, class, &cut)?;
        if several.len() > 1 && self.computed(egraph, &grown.members) > MAX_MEMBERS {
            return None;
        }
        let parts = parts(&grown.graph).ok()?;
        if evaluations(&grown.graph) > MOST_EVALUATIONS {
            return None;
        }
        let had_core = body.members.iter().any(|&member| self.is_core(egraph, member));
        let growth = match first.kind {
            Kind::Streaming | Kind::Anchored => Growth::Epilogue,
            Kind::Movement => Growth::Movement,
            _ if had_core && parts.prologue.len() > self.prologue_length(body) => Growth::Prologue,
            _ => Growth::Elementwise,
        };
        Some(Step { growth, body: grown })
    }

    fn prologue_length(&self, body: &Body) -> usize {
        parts(&body.graph).map_or(0, |parts| parts.prologue.len())
    }

    /// Whether a value is made of small integers by what takes a zero point off and scales them: they are
    /// read faster than it is, whoever else reads it.
    fn of_integers(&self, egraph: &TensorGraph, class: Id) -> bool {
        let mut at = class;
        while !is_small_integer(egraph[at].data.ty.dtype) {
            let Some(node) = self.plain.node(egraph, at) else { return false };
            let is_constant = |id: Id| egraph[egraph.find(id)].data.constant;
            let from = match (egraph.analysis.op(node.op), node.children()) {
                (Some(Op::Cast(_)), &[x]) => x,
                (Some(Op::Binary(binary)), &[x, by])
                    if matches!(binary.f, BinaryFn::Sub | BinaryFn::Mul) && is_constant(by) =>
                {
                    x
                }
                _ => return false,
            };
            at = egraph.find(from);
        }
        at != egraph.find(class)
    }

    /// Whether an operation's result has smaller elements than its operand: more would be read to
    /// compute it again than to read it.
    fn narrows(&self, egraph: &TensorGraph, class: Id, op: &Op) -> bool {
        let size = |id: Id| egraph[egraph.find(id)].data.ty.dtype.size();
        let node = self.plain.node(egraph, class).filter(|_| matches!(op, Op::Cast(_)));
        node.is_some_and(|node| node.children().iter().any(|&child| size(child) > size(class)))
    }

    fn is_core(&self, egraph: &TensorGraph, class: Id) -> bool {
        let op = self.plain.op(egraph, class);
        op.is_some_and(|op| matches!(kind(op), Kind::Streaming | Kind::Anchored))
    }

    /// How many operations of a body compute something, its constants aside.
    fn computed(&self, egraph: &TensorGraph, members: &[Id]) -> usize {
        let computes =
            |&&member: &&Id| self.plain.op(egraph, member).is_some_and(|op| kind(op) != Kind::Leaf);
        members.iter().filter(computes).count()
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
        body: &Outline,
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
