//! Values of one graph or body, and the buffers that hold them.
//!
//! Invariant: a reshape or assumption has no buffer of its own; it names the bytes of its operand.

use super::error::PlanError;
use super::{Planner, checks};
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use kiln_program::{BufferId, Coverage, Step};
use kiln_routine::Routine;
use kiln_tensor::{Symbol, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// What a value is held by.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    /// A buffer.
    Buffer(BufferId),
    /// A constant, which becomes a buffer in the layout in which it is used.
    Constant(Tensor),
}

/// A graph while it is planned.
pub(super) struct Scope<'g> {
    pub(super) graph: &'g Graph,
    bound: BTreeMap<ValueId, Bound>,
    /// Buffers that values should be made in.
    wanted: BTreeMap<ValueId, BufferId>,
    /// Checks that were made already.
    pub(super) checked: BTreeSet<(kiln_tensor::Dim, kiln_tensor::Dim)>,
    /// Symbols that have a value where the node in hand stands.
    valued: BTreeSet<Symbol>,
}

impl<'g> Scope<'g> {
    /// A graph whose inputs are held like this.
    pub(super) fn new(graph: &'g Graph, inputs: Vec<Bound>) -> Self {
        let bound = graph.inputs().iter().copied().zip(inputs).collect();
        let mut valued = BTreeSet::new();
        let shapes = graph.inputs().iter().flat_map(|&input| &graph.ty(input).shape);
        shapes.for_each(|dim| dim.collect_symbols(&mut valued));
        Scope { graph, bound, wanted: BTreeMap::new(), checked: BTreeSet::new(), valued }
    }

    /// A body of a node of `outer`, whose inputs are held like this.
    pub(super) fn body(graph: &'g Graph, inputs: Vec<Bound>, outer: &Scope) -> Self {
        let mut scope = Scope::new(graph, inputs);
        scope.valued.extend(outer.valued.iter().cloned());
        scope
    }

    /// The symbols that get their value by this node, which have one from here on.
    pub(super) fn introduced(&mut self, node: &Node) -> BTreeSet<Symbol> {
        let new: BTreeSet<Symbol> =
            self.graph.introduced(node).difference(&self.valued).cloned().collect();
        self.valued.extend(new.iter().cloned());
        new
    }

    /// The value whose bytes a value is, through reshapes.
    fn root(&self, mut value: ValueId) -> ValueId {
        while let Producer::Node { node, .. } = self.graph.value(value).producer {
            match (&self.graph.node(node).op, self.graph.node(node).inputs.as_slice()) {
                (Op::Reshape(_) | Op::Assume(_), &[input]) => value = input,
                _ => break,
            }
        }
        value
    }

    /// Whether a value is an input or a constant of the graph, as it is.
    pub(super) fn is_given(&self, value: ValueId) -> bool {
        matches!(self.graph.value(value).producer, Producer::Input(_))
            || self.graph.constant_of(value).is_some()
    }

    /// Asks that a value be made in a buffer of its type; if it is made by a node, and not wanted
    /// elsewhere too, it will be. What is only known to fit once a reshape has been checked is not,
    /// nor what has sizes that are only told after it, which do not count where it has no elements:
    /// the bytes are written before.
    pub(super) fn want(&mut self, value: ValueId, buffer: BufferId) {
        let root = self.root(value);
        let (made, named) = (self.graph.ty(root), self.graph.ty(value));
        let (mut told, mut needed) = (self.valued.clone(), BTreeSet::new());
        made.shape.iter().for_each(|dim| dim.collect_symbols(&mut told));
        named.shape.iter().for_each(|dim| dim.collect_symbols(&mut needed));
        let fits = made.elements() == named.elements() && needed.is_subset(&told);
        if fits && !self.is_given(root) {
            self.wanted.entry(root).or_insert(buffer);
        }
    }

    pub(super) fn bind(&mut self, value: ValueId, held: Bound) {
        self.bound.insert(value, held);
    }

    pub(super) fn held(&self, value: ValueId) -> Option<&Bound> {
        self.bound.get(&value)
    }
}

impl Planner {
    /// The steps of a graph.
    pub(super) fn nodes(
        &mut self,
        scope: &mut Scope,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let graph = scope.graph;
        for (id, node) in graph.nodes() {
            self.node(scope, id, node, steps)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        scope: &mut Scope,
        id: NodeId,
        node: &Node,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        checks::of(scope, node, steps);
        match &node.op {
            Op::Constant(constant) => {
                scope.bind(node.outputs[0], Bound::Constant(constant.tensor.clone()));
                Ok(())
            }
            Op::Reshape(_) | Op::Assume(_) => {
                let held = self.held(scope, node, node.inputs[0])?;
                scope.bind(node.outputs[0], held);
                Ok(())
            }
            Op::SizeOf(size) => {
                let buffer = self.target(scope, node.outputs[0]);
                steps.push(Step::Sizes { buffer, dims: size.dims.clone() });
                Ok(())
            }
            Op::Bind(bind) => {
                scope.introduced(node);
                let buffer = self.value_buffer(scope, node.inputs[0])?;
                for (element, dim) in (0..).zip(&bind.symbols) {
                    if let Some(symbol) = dim.as_symbol().cloned() {
                        let source = checks::source(node);
                        steps.push(Step::Bind { symbol, buffer, element, source });
                    }
                }
                Ok(())
            }
            Op::Call(call) => self.call(scope, node, &call.routine, steps),
            // Made by `checks`.
            Op::Check(_) => Ok(()),
            Op::If(_) => self.branch(scope, node, steps),
            Op::Loop(op) => self.repeat(scope, node, op, steps),
            _ => self.launch(scope, id, node, steps),
        }
    }

    fn call(
        &mut self,
        scope: &mut Scope,
        node: &Node,
        routine: &Routine,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let inputs = node.inputs.iter().map(|&input| {
            Ok((self.value_buffer(scope, input)?, scope.graph.ty(input).shape.clone()))
        });
        let inputs = inputs.collect::<Result<_, PlanError>>()?;
        let outputs = node.outputs.iter().map(|&output| self.shaped_target(scope, output));
        let outputs = outputs.collect();
        let binds = scope.introduced(node).into_iter().collect();
        let source = node.source.as_deref().unwrap_or(routine.name()).to_owned();
        steps.push(Step::Call { routine: routine.clone(), inputs, outputs, binds, source });
        Ok(())
    }

    /// Makes a new buffer for a value, or the one that it is wanted in.
    pub(super) fn target(&mut self, scope: &mut Scope, value: ValueId) -> BufferId {
        let wanted = scope.wanted.get(&value).copied();
        let buffer = wanted.unwrap_or_else(|| self.arena(scope.graph.ty(value)));
        scope.bind(value, Bound::Buffer(buffer));
        buffer
    }

    /// [`Planner::target`] for a value that needs a buffer of its own shape, not only of its size.
    pub(super) fn shaped_target(&mut self, scope: &mut Scope, value: ValueId) -> BufferId {
        let shape = &scope.graph.ty(value).shape;
        let wanted = scope.wanted.get(&value).and_then(|id| self.buffers.get(id.0 as usize));
        if wanted.is_some_and(|buffer| buffer.shape != *shape) {
            scope.wanted.remove(&value);
        }
        self.target(scope, value)
    }

    pub(super) fn held(
        &self,
        scope: &Scope,
        node: &Node,
        value: ValueId,
    ) -> Result<Bound, PlanError> {
        scope.held(value).cloned().ok_or_else(|| PlanError::Malformed {
            op: node.op.name(),
            source_node: node.source.clone(),
            reason: format!("value %{} is used before it is computed", value.0),
        })
    }

    /// The buffer that holds a value in row-major order.
    pub(super) fn value_buffer(
        &mut self,
        scope: &mut Scope,
        value: ValueId,
    ) -> Result<BufferId, PlanError> {
        match scope.held(value).cloned() {
            Some(Bound::Buffer(buffer)) => Ok(buffer),
            Some(Bound::Constant(tensor)) => self.plain_constant(&tensor),
            None => Err(PlanError::Malformed {
                op: "output",
                source_node: scope.graph.value(value).name.clone(),
                reason: "nothing computes it".into(),
            }),
        }
    }

    fn launch(
        &mut self,
        scope: &mut Scope,
        id: NodeId,
        node: &Node,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let constant = |&value: &ValueId| match scope.held(value) {
            Some(Bound::Constant(tensor)) => Some(tensor.clone()),
            _ => None,
        };
        let constants: Vec<Option<Tensor>> = node.inputs.iter().map(constant).collect();
        let launch = self.kernels.launch(scope.graph, id, &constants)?;
        let mut operands = Vec::with_capacity(node.inputs.len() + node.outputs.len());
        for (number, (&input, tensor)) in node.inputs.iter().zip(&constants).enumerate() {
            let buffer = match tensor {
                Some(tensor) => self.constant(tensor, launch.layout(number))?,
                None => match self.held(scope, node, input)? {
                    Bound::Buffer(buffer) => buffer,
                    Bound::Constant(tensor) => self.plain_constant(&tensor)?,
                },
            };
            operands.push((buffer, Coverage::Read));
        }
        for &output in &node.outputs {
            operands.push((self.target(scope, output), Coverage::Write));
        }
        let source = node.source.as_deref().map_or_else(|| launch.name.clone(), str::to_owned);
        steps.push(launch.step(operands, source));
        Ok(())
    }
}
