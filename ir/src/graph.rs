//! The graph: single-assignment tensor operations over typed values.
//!
//! Invariant: a node only uses values that exist already, so the node list is in topological order
//! and without cycles by construction; passes build a new graph instead of editing one.

use crate::op::{Op, OpError};
use kiln_tensor::{DType, Dim, Symbol, SymbolTable, Tensor};
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        TensorType { dtype, shape }
    }

    /// The type of a host tensor.
    pub fn of(tensor: &Tensor) -> Self {
        Self::new(tensor.dtype(), tensor.sizes().iter().map(|&size| Dim::from(size)).collect())
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> Dim {
        self.shape.iter().cloned().product()
    }

    /// The sizes, if no dimension is symbolic.
    pub fn static_sizes(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|dim| usize::try_from(dim.as_const()?).ok()).collect()
    }
}

/// `f32[batch, 128]`
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (index, dim) in self.shape.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}

/// A value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueId(pub u32);

/// A node of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Producer {
    /// The graph's input of this number.
    Input(usize),
    /// An output of a node.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its outputs.
        output: usize,
    },
}

/// A typed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Type.
    pub ty: TensorType,
    /// What made it.
    pub producer: Producer,
    /// The name that the user knows it by.
    pub name: Option<Arc<str>>,
}

/// One operation applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation with its attributes.
    pub op: Op,
    /// Operands, in the order that the operation documents.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
    /// Bodies of `If`, `Loop` and `Fused`. A body sees only its own inputs: whatever it uses from
    /// around it is passed in.
    pub regions: Vec<Graph>,
    /// The model's node that this came from, for messages.
    pub source: Option<Arc<str>>,
}

/// Why a graph could not be built.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GraphError {
    /// An operand does not exist (yet).
    #[error("value %{0} does not exist in this graph")]
    UnknownValue(u32),
    /// The operation does not accept these operands.
    #[error("{op}{}: {error}", source_note(.node))]
    Op {
        /// Name of the operation.
        op: &'static str,
        /// The model's node, if known.
        node: Option<Arc<str>>,
        /// What is wrong.
        error: OpError,
    },
}

fn source_note(source: &Option<Arc<str>>) -> String {
    source.as_ref().map(|source| format!(" (from `{source}`)")).unwrap_or_default()
}

/// A function from input tensors to output tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name, for people.
    pub name: String,
    /// Every symbol that occurs in a type, with what is known of it.
    pub symbols: SymbolTable,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) output_names: Vec<Arc<str>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<Value>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// Adds an input; its symbols are entered into the table as sizes.
    pub fn input(&mut self, name: impl Into<Arc<str>>, ty: TensorType) -> ValueId {
        let producer = Producer::Input(self.inputs.len());
        let id = self.value_of(ty, producer, Some(name.into()));
        self.inputs.push(id);
        id
    }

    /// Adds a node without bodies and infers the types of its results.
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>, GraphError> {
        self.add_node(op, inputs, Vec::new(), None)
    }

    /// Like [`Graph::add`], for an operation with exactly one result.
    pub fn add1(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId, GraphError> {
        let name = op.name();
        let outputs = self.add(op, inputs)?;
        match outputs.as_slice() {
            [output] => Ok(*output),
            _ => Err(GraphError::Op {
                op: name,
                node: None,
                error: OpError::new(format!("has {} results, not one", outputs.len())),
            }),
        }
    }

    /// Adds a node and infers the types of its results.
    pub fn add_node(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        regions: Vec<Graph>,
        source: Option<Arc<str>>,
    ) -> Result<Vec<ValueId>, GraphError> {
        let types = inputs
            .iter()
            .map(|id| {
                let value = self.values.get(id.0 as usize);
                value.map(|value| &value.ty).ok_or(GraphError::UnknownValue(id.0))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let results = op.infer(&types, &regions).map_err(|error| GraphError::Op {
            op: op.name(),
            node: source.clone(),
            error,
        })?;
        if let Op::Bind(bind) = &op {
            self.declare(&bind.symbols);
        }
        let node = NodeId(self.nodes.len() as u32);
        let outputs: Vec<ValueId> = results
            .into_iter()
            .enumerate()
            .map(|(output, ty)| self.value_of(ty, Producer::Node { node, output }, None))
            .collect();
        let inputs = inputs.to_vec();
        self.nodes.push(Node { op, inputs, outputs: outputs.clone(), regions, source });
        Ok(outputs)
    }

    /// Adds a copy of a node of another graph, with bodies, on operands of the same types as there:
    /// its results have the types that they have there, which need not be inferred again.
    ///
    /// Returns `None` if an operand does not exist, or a type is not as it was.
    pub fn add_copy(
        &mut self,
        from: &Graph,
        node: &Node,
        inputs: &[ValueId],
        regions: Vec<Graph>,
    ) -> Option<Vec<ValueId>> {
        let same = |(&new, &old): (&ValueId, &ValueId)| {
            self.values.get(new.0 as usize).is_some_and(|value| value.ty == *from.ty(old))
        };
        if inputs.len() != node.inputs.len() || !inputs.iter().zip(&node.inputs).all(same) {
            return None;
        }
        if let Op::Bind(bind) = &node.op {
            self.declare(&bind.symbols);
        }
        let id = NodeId(self.nodes.len() as u32);
        let outputs: Vec<ValueId> = (0..)
            .zip(&node.outputs)
            .map(|(output, &old)| {
                let producer = Producer::Node { node: id, output };
                self.value_of(from.ty(old).clone(), producer, None)
            })
            .collect();
        self.nodes.push(Node {
            op: node.op.clone(),
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            regions,
            source: node.source.clone(),
        });
        Some(outputs)
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> Result<ValueId, GraphError> {
        self.add1(Op::Constant(crate::op::Constant { tensor }), &[])
    }

    /// Declares a value as the next output, under a name.
    pub fn output(&mut self, value: ValueId, name: impl Into<Arc<str>>) -> Result<(), GraphError> {
        if value.0 as usize >= self.values.len() {
            return Err(GraphError::UnknownValue(value.0));
        }
        self.outputs.push(value);
        self.output_names.push(name.into());
        Ok(())
    }

    /// Names a value, for people.
    pub fn set_name(&mut self, value: ValueId, name: impl Into<Arc<str>>) {
        if let Some(value) = self.values.get_mut(value.0 as usize) {
            value.name = Some(name.into());
        }
    }

    fn value_of(&mut self, ty: TensorType, producer: Producer, name: Option<Arc<str>>) -> ValueId {
        self.declare(&ty.shape);
        let id = ValueId(self.values.len() as u32);
        self.values.push(Value { ty, producer, name });
        id
    }

    /// Enters symbols into the table, as sizes.
    fn declare(&mut self, dims: &[Dim]) {
        for dim in dims {
            dim.visit_symbols(&mut |symbol| {
                if !self.symbols.contains_key(symbol) {
                    self.symbols.insert(symbol.clone(), Default::default());
                }
            });
        }
    }

    /// Symbols that may get their value when the node is computed: those that it binds, and those
    /// in results whose sizes only its bodies or its routine tell. What is known before the node is
    /// among them if a result mentions it.
    pub fn introduced(&self, node: &Node) -> BTreeSet<Symbol> {
        let mut symbols = BTreeSet::new();
        if let Op::Bind(bind) = &node.op {
            bind.symbols.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
        }
        if matches!(node.op, Op::If(_) | Op::Loop(_) | Op::Call(_)) {
            let shapes = node.outputs.iter().flat_map(|&output| &self.ty(output).shape);
            shapes.for_each(|dim| dim.collect_symbols(&mut symbols));
        }
        symbols
    }

    /// Inputs in order.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Outputs in order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Names of the outputs, in order.
    pub fn output_names(&self) -> &[Arc<str>] {
        &self.output_names
    }

    /// Nodes in topological order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index as u32), node))
    }

    /// A node of this graph.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// A value of this graph.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// Number of values; ids are `0..value_count`.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The type of a value of this graph.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.value(id).ty
    }

    /// The constant that a value is, if it is one.
    pub fn constant_of(&self, id: ValueId) -> Option<&Tensor> {
        match self.value(id).producer {
            Producer::Node { node, .. } => match &self.node(node).op {
                Op::Constant(constant) => Some(&constant.tensor),
                _ => None,
            },
            Producer::Input(_) => None,
        }
    }

    /// For each value, the nodes that use it, once for each operand.
    pub fn uses(&self) -> Vec<Vec<NodeId>> {
        let mut uses = vec![Vec::new(); self.values.len()];
        for (id, node) in self.nodes() {
            for input in &node.inputs {
                uses[input.0 as usize].push(id);
            }
        }
        uses
    }

    /// The data flow between nodes for petgraph's algorithms: an edge from producer to user for
    /// each operand, weighted with the value.
    pub fn dataflow(&self) -> DiGraph<NodeId, ValueId> {
        let mut flow = DiGraph::with_capacity(self.nodes.len(), self.values.len());
        let indices: Vec<_> = self.nodes().map(|(id, _)| flow.add_node(id)).collect();
        for (id, node) in self.nodes() {
            for &input in &node.inputs {
                if let Producer::Node { node: producer, .. } = self.value(input).producer {
                    flow.add_edge(indices[producer.0 as usize], indices[id.0 as usize], input);
                }
            }
        }
        flow
    }
}
