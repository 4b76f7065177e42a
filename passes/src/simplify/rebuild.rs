//! Rebuilding a graph node by node: what every simplification is made of.
//!
//! Invariant: the new graph has the inputs, outputs, names and symbols of the old one, and a value
//! that is replaced keeps its type.

use crate::PassError;
use kiln_ir::{Graph, GraphError, Node, OpError, ValueId};
use std::sync::Arc;

/// A graph on its way from old to new.
pub(crate) struct Rebuild {
    pass: &'static str,
    /// The new graph.
    pub new: Graph,
    map: Vec<Option<ValueId>>,
    /// Whether anything is different from the old graph.
    pub changed: bool,
}

impl Rebuild {
    /// Starts with the old graph's inputs.
    pub fn start(pass: &'static str, old: &Graph) -> Self {
        let mut new = Graph::new(old.name.clone());
        let mut map = vec![None; old.value_count()];
        for &input in old.inputs() {
            let name = old.value(input).name.clone().unwrap_or_else(|| Arc::from(""));
            map[input.0 as usize] = Some(new.input(name, old.ty(input).clone()));
        }
        new.symbols = old.symbols.clone();
        Rebuild { pass, new, map, changed: false }
    }

    /// The new value that stands for an old one.
    pub fn value(&self, old: ValueId) -> Result<ValueId, PassError> {
        self.map
            .get(old.0 as usize)
            .copied()
            .flatten()
            .ok_or(PassError::Order { pass: self.pass, value: old.0 })
    }

    /// The new values of a node's operands.
    pub fn operands(&self, node: &Node) -> Result<Vec<ValueId>, PassError> {
        node.inputs.iter().map(|&input| self.value(input)).collect()
    }

    /// Adds a node to the new graph.
    pub fn add(
        &mut self,
        op: impl Into<kiln_ir::Op>,
        inputs: &[ValueId],
        like: &Node,
    ) -> Result<Vec<ValueId>, PassError> {
        self.new
            .add_node(op.into(), inputs, Vec::new(), like.source.clone())
            .map_err(|error| PassError::Graph { pass: self.pass, error })
    }

    /// Like [`Rebuild::add`], for an operation with one result.
    pub fn add1(
        &mut self,
        op: impl Into<kiln_ir::Op>,
        inputs: &[ValueId],
        like: &Node,
    ) -> Result<ValueId, PassError> {
        let op = op.into();
        let name = op.name();
        match self.add(op, inputs, like)?.as_slice() {
            &[output] => Ok(output),
            outputs => Err(PassError::Graph {
                pass: self.pass,
                error: GraphError::Op {
                    op: name,
                    node: like.source.clone(),
                    error: OpError::new(format!("has {} results", outputs.len())),
                },
            }),
        }
    }

    /// Copies a node as it is.
    pub fn keep(&mut self, old: &Graph, node: &Node) -> Result<(), PassError> {
        self.keep_with(old, node, node.regions.clone())
    }

    /// Copies a node with other bodies.
    pub fn keep_with(
        &mut self,
        old: &Graph,
        node: &Node,
        regions: Vec<Graph>,
    ) -> Result<(), PassError> {
        let inputs = self.operands(node)?;
        let outputs = self.new.add_copy(old, node, &inputs, regions);
        let outputs = outputs.ok_or_else(|| {
            let error = OpError::new("the operands have other types than before");
            let (op, node) = (node.op.name(), node.source.clone());
            PassError::Graph { pass: self.pass, error: GraphError::Op { op, node, error } }
        })?;
        self.stand_for(old, node, &outputs)
    }

    /// Lets new values stand for the results of a node that is not copied.
    pub fn replace(&mut self, old: &Graph, node: &Node, with: &[ValueId]) -> Result<(), PassError> {
        self.changed = true;
        self.stand_for(old, node, with)
    }

    fn stand_for(&mut self, old: &Graph, node: &Node, with: &[ValueId]) -> Result<(), PassError> {
        for (&output, &value) in node.outputs.iter().zip(with) {
            let (expected, actual) = (old.ty(output), self.new.ty(value));
            if expected != actual {
                return Err(PassError::TypeChanged {
                    pass: self.pass,
                    op: node.op.name(),
                    expected: expected.clone(),
                    actual: actual.clone(),
                });
            }
            if let (Some(name), None) = (&old.value(output).name, &self.new.value(value).name) {
                self.new.set_name(value, name.clone());
            }
            self.map[output.0 as usize] = Some(value);
        }
        Ok(())
    }

    /// Lets a new value stand for an old one.
    pub fn bind(&mut self, old: &Graph, value: ValueId, with: ValueId) -> Result<(), PassError> {
        let (expected, actual) = (old.ty(value), self.new.ty(with));
        if expected != actual {
            return Err(PassError::TypeChanged {
                pass: self.pass,
                op: "a region",
                expected: expected.clone(),
                actual: actual.clone(),
            });
        }
        if let (Some(name), None) = (&old.value(value).name, &self.new.value(with).name) {
            self.new.set_name(with, name.clone());
        }
        self.map[value.0 as usize] = Some(with);
        Ok(())
    }

    /// Whether an old value has a new one already.
    pub fn has(&self, old: ValueId) -> bool {
        self.map.get(old.0 as usize).is_some_and(Option::is_some)
    }

    /// Declares the outputs and hands over the new graph.
    pub fn finish(mut self, old: &Graph) -> Result<(Graph, bool), PassError> {
        for (&output, name) in old.outputs().iter().zip(old.output_names()) {
            let value = self.value(output)?;
            self.new
                .output(value, name.clone())
                .map_err(|error| PassError::Graph { pass: self.pass, error })?;
        }
        Ok((self.new, self.changed))
    }
}
