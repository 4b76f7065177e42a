//! The e-graph's language: core operations as e-nodes, their attributes and bodies interned.
//!
//! Invariant: an operation is added only after its types were inferred, and classes are merged only
//! if type and shape are equal.

use super::grow::Step;
use super::magnitude::{Magnitude, invertible};
use crate::integers::widens;
use crate::structure::op_key;
use egg::{Analysis, DidMerge, EGraph, Id, Language};
use kiln_ir::op::{BinaryFn, Cast, Fused, Op, UnaryFn};
use kiln_ir::{Graph, TensorType};
use kiln_tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

/// An interned operation: its variant, and its number among all that the e-graph knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    variant: u8,
    number: u32,
}

impl OpId {
    /// The number of its kind of operation.
    pub(super) fn variant(self) -> u8 {
        self.variant
    }

    /// Its own number, as a part of keys.
    pub(super) fn number(self) -> u64 {
        u64::from(self.number)
    }
}

/// The number of an operation among all, by its name.
pub(super) fn variant_of(name: &str) -> u8 {
    Op::NAMES.iter().position(|known| *known == name).unwrap_or(usize::from(INPUT)) as u8
}

/// An e-node: an interned operation on classes. Region inputs are operations without operands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorNode {
    /// The operation.
    pub op: OpId,
    children: Vec<Id>,
}

impl TensorNode {
    /// An operation on these classes.
    pub fn new(op: OpId, children: Vec<Id>) -> Self {
        TensorNode { op, children }
    }
}

impl Language for TensorNode {
    type Discriminant = u8;

    fn discriminant(&self) -> u8 {
        self.op.variant
    }

    fn matches(&self, other: &Self) -> bool {
        self.op == other.op && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// What an [`OpId`] stands for.
#[derive(Clone, Debug)]
pub enum Head {
    /// An input of the region, by number.
    Input(usize),
    /// A core operation with its bodies.
    Op(Op, Vec<Graph>),
}

/// The variant number of region inputs, which no operation has.
const INPUT: u8 = u8::MAX;

/// What is known of every value of a class.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Element type and shape.
    pub ty: TensorType,
    /// Whether it depends on constants alone, so that it costs nothing when the model runs.
    pub constant: bool,
    /// The value, if it is a small constant.
    pub value: Option<Tensor>,
    /// What is known of its numbers, if it is constant.
    pub magnitude: Magnitude,
}

/// The e-graph's analysis: interned operations and facts of region inputs.
#[derive(Debug, Default)]
pub struct Knowledge {
    heads: Vec<Head>,
    /// Interned operations without bodies, by their variant; few of each.
    plain: HashMap<u8, Vec<OpId>>,
    /// Interned operations with bodies, by their text.
    bodied: HashMap<String, OpId>,
    inputs: Vec<Facts>,
    /// How each class is used by the graph that was loaded, by the id that it was loaded under.
    pub uses: HashMap<Id, Uses>,
    /// The model's node that a class came from, for messages: one loaded, or the one that a rule
    /// found another way for.
    pub sources: HashMap<Id, Arc<str>>,
    /// The node that what is being added came from.
    pub origin: Option<Arc<str>>,
    /// For every e-node that fusion has looked at, the ways for its body to grow that are left.
    pub(super) growths: HashMap<TensorNode, Vec<Step>>,
}

/// How a loaded value is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Loaded classes that use it, ascending.
    pub by: Vec<Id>,
    /// Whether it is an output of the region.
    pub output: bool,
}

/// The e-graph of a region.
pub type TensorGraph = EGraph<TensorNode, Knowledge>;

impl Knowledge {
    /// The meaning of an interned operation.
    pub fn head(&self, id: OpId) -> &Head {
        &self.heads[id.number as usize]
    }

    /// The operation, if it is none of the region's inputs.
    pub fn op(&self, id: OpId) -> Option<&Op> {
        match self.head(id) {
            Head::Op(op, _) => Some(op),
            Head::Input(_) => None,
        }
    }

    fn intern(&mut self, op: Op, regions: Vec<Graph>) -> OpId {
        let variant = variant_of(op.name());
        let id = OpId { variant, number: self.heads.len() as u32 };
        if regions.is_empty() {
            let known = self.plain.entry(variant).or_default();
            let same = known.iter().find(|id| match &self.heads[id.number as usize] {
                Head::Op(other, _) => *other == op,
                Head::Input(_) => false,
            });
            if let Some(&id) = same {
                return id;
            }
            known.push(id);
        } else {
            let key = op_key(&op, &regions);
            if let Some(&id) = self.bodied.get(&key) {
                return id;
            }
            self.bodied.insert(key, id);
        }
        self.heads.push(Head::Op(op, regions));
        id
    }

    fn facts(&self, node: &TensorNode, children: &[&Facts]) -> Option<Facts> {
        match self.head(node.op) {
            Head::Input(number) => self.inputs.get(*number).cloned(),
            Head::Op(op, regions) => {
                let types: Vec<&TensorType> = children.iter().map(|facts| &facts.ty).collect();
                let ty = op.infer(&types, regions).ok()?.into_iter().next()?;
                let value = match op {
                    Op::Constant(constant) => Some(constant.tensor.clone()),
                    // The same numbers under another shape: scalars keep being recognised.
                    Op::Reshape(_) | Op::Broadcast(_) if children[0].value.is_some() => {
                        reshaped(children[0].value.as_ref()?, &ty)
                    }
                    _ => None,
                };
                // Small integers stay small, and are widened when the model runs.
                let small = |cast: &Cast| children.iter().all(|x| widens(cast, x.ty.dtype));
                let widens = matches!(op, Op::Cast(cast) if small(cast));
                let constant = !matches!(op, Op::SizeOf(_))
                    && !widens
                    && children.iter().all(|facts| facts.constant);
                let magnitude = match op {
                    Op::Constant(constant) => Magnitude::of(&constant.tensor),
                    Op::Reshape(_) | Op::Broadcast(_) | Op::Transpose(_) => children[0].magnitude,
                    Op::Unary(unary) => match unary.f {
                        UnaryFn::Neg => children[0].magnitude,
                        UnaryFn::Reciprocal
                            if children[0].value.as_ref().is_some_and(invertible) =>
                        {
                            Magnitude::Moderate
                        }
                        _ => Magnitude::Any,
                    },
                    Op::Binary(binary) if binary.f == BinaryFn::Mul && ty.dtype.is_float() => {
                        children[0].magnitude.times(children[1].magnitude)
                    }
                    _ => Magnitude::Any,
                };
                Some(Facts { ty, constant, value, magnitude })
            }
        }
    }
}

/// A single number under another shape of one element.
fn reshaped(tensor: &Tensor, ty: &TensorType) -> Option<Tensor> {
    let sizes = ty.static_sizes()?;
    (tensor.len() == 1).then(|| tensor.reshaped(sizes).ok()).flatten()
}

impl Analysis<TensorNode> for Knowledge {
    type Data = Facts;

    fn make(egraph: &mut TensorGraph, node: &TensorNode, _: Id) -> Facts {
        let children: Vec<&Facts> = node.children.iter().map(|&id| &egraph[id].data).collect();
        match egraph.analysis.facts(node, &children) {
            Some(facts) => facts,
            // `add_op` infers before it adds, and merging keeps types.
            None => unreachable!("an e-node whose types were not inferred before it was added"),
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        assert_eq!(a.ty, b.ty, "merged classes have one type and shape");
        let more = |a: &Facts, b: &Facts| {
            (b.constant && !a.constant)
                || (b.value.is_some() && a.value.is_none())
                || b.magnitude > a.magnitude
        };
        let changes = DidMerge(more(a, &b), more(&b, a));
        a.constant |= b.constant;
        a.magnitude = a.magnitude.max(b.magnitude);
        if a.value.is_none() {
            a.value = b.value;
        }
        changes
    }
}

/// Adds an operation with one result; `None` if it does not accept the operands.
pub fn add_op(egraph: &mut TensorGraph, op: impl Into<Op>, children: &[Id]) -> Option<Id> {
    add_with_bodies(egraph, op.into(), Vec::new(), children)
}

/// Adds a fused body; `None` if it does not accept the operands.
pub fn add_fused(
    egraph: &mut TensorGraph,
    label: String,
    body: Graph,
    children: &[Id],
) -> Option<Id> {
    add_with_bodies(egraph, Fused { label }.into(), vec![body], children)
}

fn add_with_bodies(
    egraph: &mut TensorGraph,
    op: Op,
    regions: Vec<Graph>,
    children: &[Id],
) -> Option<Id> {
    let types: Vec<&TensorType> = children.iter().map(|&id| &egraph[id].data.ty).collect();
    let results = op.infer(&types, &regions).ok()?;
    if results.len() != 1 {
        return None;
    }
    let op = egraph.analysis.intern(op, regions);
    let id = egraph.add(TensorNode::new(op, children.to_vec()));
    if let Some(origin) = egraph.analysis.origin.clone() {
        egraph.analysis.sources.entry(id).or_insert(origin);
    }
    Some(id)
}

/// Adds the next input of the region; a magnitude if it is a constant.
pub fn add_input(egraph: &mut TensorGraph, ty: TensorType, constant: Option<Magnitude>) -> Id {
    let knowledge = &mut egraph.analysis;
    let number = knowledge.inputs.len();
    let op = OpId { variant: INPUT, number: knowledge.heads.len() as u32 };
    let magnitude = constant.unwrap_or(Magnitude::Any);
    knowledge.inputs.push(Facts { ty, constant: constant.is_some(), value: None, magnitude });
    knowledge.heads.push(Head::Input(number));
    egraph.add(TensorNode::new(op, Vec::new()))
}

/// Loads a graph whose nodes have one result each; the class of every value. `constant` says which
/// inputs are constants that were left out, and what their numbers are like. `None` if a node has
/// several results or bodies that are not fused ones.
pub fn load(
    egraph: &mut TensorGraph,
    graph: &Graph,
    constant: &[Option<Magnitude>],
) -> Option<Vec<Id>> {
    let mut classes: Vec<Option<Id>> = vec![None; graph.value_count()];
    for (number, &input) in graph.inputs().iter().enumerate() {
        let constant = constant.get(number).copied().flatten();
        classes[input.0 as usize] = Some(add_input(egraph, graph.ty(input).clone(), constant));
    }
    for (_, node) in graph.nodes() {
        let &[output] = node.outputs.as_slice() else { return None };
        let children: Option<Vec<Id>> =
            node.inputs.iter().map(|input| classes[input.0 as usize]).collect();
        egraph.analysis.origin = node.source.clone();
        let id = add_with_bodies(egraph, node.op.clone(), node.regions.clone(), &children?)?;
        classes[output.0 as usize] = Some(id);
    }
    egraph.analysis.origin = None;
    egraph.rebuild();
    let classes: Vec<Id> = classes.into_iter().collect::<Option<_>>()?;
    record_uses(egraph, graph, &classes);
    Some(classes)
}

fn record_uses(egraph: &mut TensorGraph, graph: &Graph, classes: &[Id]) {
    let uses = &mut egraph.analysis.uses;
    for &class in classes {
        uses.entry(class).or_default();
    }
    for (_, node) in graph.nodes() {
        for (input, output) in
            node.inputs.iter().flat_map(|input| node.outputs.iter().map(move |o| (input, o)))
        {
            let entry = uses.entry(classes[input.0 as usize]).or_default();
            entry.by.push(classes[output.0 as usize]);
        }
    }
    for &output in graph.outputs() {
        uses.entry(classes[output.0 as usize]).or_default().output = true;
    }
    for entry in uses.values_mut() {
        entry.by.sort_unstable();
        entry.by.dedup();
    }
}
