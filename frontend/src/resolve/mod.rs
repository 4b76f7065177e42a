//! From names to numbers: every value of a model gets an identity, every node the operator set
//! version in force for it; functions are inlined, attribute references replaced.
//!
//! Invariant: in a resolved body every value is defined before it is used, once, and `captures`
//! is exactly what a subgraph uses from outside.

mod attribute;
mod body;
mod inlined;
mod order;
mod scope;

pub use attribute::Attribute;

use crate::Model;
use crate::proto::{TensorProto, ValueInfoProto};
use crate::report::{Problem, Site};
use std::collections::{BTreeMap, BTreeSet};

/// A value of the model: an input, an initializer or an output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// The number, counted from 0 over the whole model.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A model whose names are resolved.
#[derive(Debug)]
pub struct Resolved<'m> {
    /// Name of each value, by [`ValueId::index`].
    pub names: Vec<&'m str>,
    /// The main graph.
    pub graph: Body<'m>,
}

/// A graph: the main one, or one that an attribute holds.
#[derive(Debug, Default)]
pub struct Body<'m> {
    /// Inputs without an initializer, with their declared types.
    pub inputs: Vec<(ValueId, &'m ValueInfoProto)>,
    /// Initializers.
    pub initializers: Vec<(ValueId, &'m TensorProto)>,
    /// Nodes in an order of execution, functions inlined.
    pub nodes: Vec<Node<'m>>,
    /// Outputs, with their declared types.
    pub outputs: Vec<(ValueId, &'m ValueInfoProto)>,
    /// Values of enclosing graphs that the body, or a body inside it, uses.
    pub captures: BTreeSet<ValueId>,
}

/// A use of an operator.
#[derive(Debug)]
pub struct Node<'m> {
    /// Name, operator, domain and version.
    pub site: Site,
    /// Inputs; `None` where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs; `None` where one is not asked for.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes by name.
    pub attributes: BTreeMap<&'m str, Attribute<'m>>,
}

/// Resolves every name of `model` and lists what is wrong with its structure. A name that nothing
/// defines becomes a value of its own, so that the rest of the model can still be looked at.
pub fn resolve(model: &Model) -> (Resolved<'_>, Vec<Problem>) {
    body::resolve_model(model)
}
