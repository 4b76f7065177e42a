//! The body of a fused node: the operations between a value and the cut that it is computed from.
//!
//! Invariant: the same operations between the same cut give the same body, whatever region they
//! stand in, so that equal kernels are recognised as equal.

use super::language::{Head, TensorGraph, TensorNode};
use egg::{Id, Language};
use kiln_ir::op::Op;
use kiln_ir::{Graph, ValueId};
use std::collections::{HashMap, HashSet};

/// For every class of a loaded graph, the operation that computes it unfused.
pub(super) struct Plain {
    nodes: HashMap<Id, TensorNode>,
}

/// A body with the classes of its inputs, in order.
#[derive(Debug)]
pub(super) struct Body {
    pub graph: Graph,
    pub inputs: Vec<Id>,
    /// Classes that the body computes.
    pub members: Vec<Id>,
}

impl Plain {
    /// The plain operations of an e-graph in which nothing but fusion has been done.
    pub fn of(egraph: &TensorGraph) -> Self {
        let mut nodes = HashMap::new();
        for class in egraph.classes() {
            let plain = class.nodes.iter().find(|node| {
                matches!(egraph.analysis.head(node.op), Head::Op(op, _) if !matches!(op, Op::Fused(_)))
            });
            if let Some(node) = plain {
                nodes.insert(class.id, node.clone());
            }
        }
        Plain { nodes }
    }

    /// The plain operation of a class; `None` for inputs.
    pub fn node(&self, egraph: &TensorGraph, class: Id) -> Option<&TensorNode> {
        self.nodes.get(&egraph.find(class))
    }

    /// The plain core operation of a class.
    pub fn op<'a>(&self, egraph: &'a TensorGraph, class: Id) -> Option<&'a Op> {
        egraph.analysis.op(self.node(egraph, class)?.op)
    }

    /// The body that computes `class` from `cut`; `None` if an operation on the way has no plain
    /// form or does not belong into a body.
    pub fn body(&self, egraph: &TensorGraph, class: Id, cut: &[Id]) -> Option<Body> {
        let mut making = Making {
            plain: self,
            egraph,
            cut: cut.iter().map(|&id| egraph.find(id)).collect(),
            met: HashSet::new(),
            body: Body { graph: Graph::new("body"), inputs: Vec::new(), members: Vec::new() },
            values: HashMap::new(),
        };
        // Inputs come first in a graph, in the order in which a walk from the result meets them.
        making.inputs(class, true)?;
        let result = making.value(class, true)?;
        let mut body = making.body;
        body.graph.output(result, "y").ok()?;
        Some(body)
    }
}

struct Making<'a> {
    plain: &'a Plain,
    egraph: &'a TensorGraph,
    cut: HashSet<Id>,
    /// Inputs and members of the body so far.
    met: HashSet<Id>,
    body: Body,
    values: HashMap<Id, ValueId>,
}

impl Making<'_> {
    fn inputs(&mut self, class: Id, root: bool) -> Option<()> {
        let class = self.egraph.find(class);
        if !self.met.insert(class) {
            return Some(());
        }
        if !root && self.cut.contains(&class) {
            let ty = self.egraph[class].data.ty.clone();
            let name = format!("x{}", self.body.inputs.len());
            let value = self.body.graph.input(name, ty);
            self.body.inputs.push(class);
            self.values.insert(class, value);
            return Some(());
        }
        self.body.members.push(class);
        let node = self.plain.node(self.egraph, class)?;
        node.children().iter().try_for_each(|&child| self.inputs(child, false))
    }

    fn value(&mut self, class: Id, root: bool) -> Option<ValueId> {
        let class = self.egraph.find(class);
        if let (Some(&value), false) = (self.values.get(&class), root) {
            return Some(value);
        }
        let node = self.plain.node(self.egraph, class)?;
        let operands: Option<Vec<ValueId>> =
            node.children().iter().map(|&child| self.value(child, false)).collect();
        let op = self.egraph.analysis.op(node.op)?.clone();
        let value = self.body.graph.add1(op, &operands?).ok()?;
        self.values.insert(class, value);
        Some(value)
    }
}

/// What a body does, for people: `contract_add_gelu`.
pub(super) fn label(body: &Graph) -> String {
    let names: Vec<String> = body
        .nodes()
        .filter_map(|(_, node)| match &node.op {
            Op::Constant(_) | Op::SizeOf(_) => None,
            Op::Unary(unary) => Some(format!("{:?}", unary.f)),
            Op::Binary(binary) => Some(format!("{:?}", binary.f)),
            op => Some(op.name().to_owned()),
        })
        .map(|name| name.to_lowercase())
        .collect();
    match names.as_slice() {
        [first @ .., last] if names.len() > 8 => {
            format!("{}_and_{}_more_{last}", first[..6].join("_"), names.len() - 7)
        }
        names => names.join("_"),
    }
}
