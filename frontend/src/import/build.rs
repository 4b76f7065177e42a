//! The graphs being built, from the main one to the body in hand, and the values in them.
//!
//! Invariant: a value that is known before the model runs takes up no node until something needs
//! it as data; in a body it is made anew, everything else from outside is an input of the body.

use super::bounds::Facts;
use super::contents::{self, Contents, Operand};
use super::fault::Fault;
use super::form::Form;
use super::scalar::Scalar;
use kiln_ir::op::{self, BinaryFn, Op};
use kiln_ir::{Graph, Producer, TensorType, ValueId};
use kiln_tensor::{Bounds, DType, Dim, Symbol, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A value of the model as imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct V(usize);

#[derive(Debug)]
struct Value {
    ty: TensorType,
    name: Option<Arc<str>>,
    /// The elements, if the value is part of the model.
    tensor: Option<Tensor>,
    /// The elements, if they are few and known.
    contents: Option<Contents>,
    /// What the elements are, if the value is a list.
    elements: Option<Form>,
    /// The value in each graph that has it, by the number of the graph.
    homes: BTreeMap<usize, ValueId>,
}

/// A graph on its way.
#[derive(Debug)]
pub(super) struct Level {
    number: usize,
    graph: Graph,
    /// What was known of sizes outside: what a body tells holds only where it runs.
    outside: BTreeMap<Dim, i64>,
    /// Values whose elements symbols stand for, from where they were bound on.
    bound: Vec<(V, Bounds, Vec<Dim>)>,
    /// What sizes broadcast to.
    stretched: Vec<(BTreeSet<Dim>, Dim)>,
    /// Symbols that stand for expressions.
    shortened: BTreeMap<Dim, Dim>,
    /// Values by what they are in the graph.
    values: BTreeMap<ValueId, V>,
}

/// A node of the graph in hand, in terms of the values of the model as imported.
pub(super) struct Made {
    pub(super) op: Op,
    pub(super) inputs: Vec<V>,
    pub(super) outputs: Vec<V>,
}

/// The graphs being built.
#[derive(Debug, Default)]
pub(super) struct Builder {
    values: Vec<Value>,
    /// The main graph and the bodies around and with the one in hand.
    levels: Vec<Level>,
    graphs: usize,
    /// The node that operations come from.
    pub(super) source: Option<Arc<str>>,
    /// What is known of dimensions where the graph in hand stands.
    pub(super) facts: Facts,
}

impl Builder {
    /// Starts a graph inside the one in hand.
    pub(super) fn enter(&mut self, name: &str) {
        let outside = self.facts.least.clone();
        let (number, graph) = (self.graphs, Graph::new(name));
        let (bound, stretched) = (Vec::new(), Vec::new());
        let (shortened, values) = (BTreeMap::new(), BTreeMap::new());
        self.levels.push(Level { number, graph, outside, bound, stretched, shortened, values });
        self.graphs += 1;
    }

    /// Ends the graph in hand.
    pub(super) fn leave(&mut self) -> Graph {
        let mut graph = self.suspend().map(|level| level.graph).unwrap_or_default();
        self.bound(&mut graph);
        graph
    }

    /// Sets the graph in hand aside.
    pub(super) fn suspend(&mut self) -> Option<Level> {
        let level = self.levels.pop()?;
        self.facts.least.clone_from(&level.outside);
        Some(level)
    }

    /// Goes on with a graph that was set aside.
    pub(super) fn resume(&mut self, level: Level) {
        self.levels.push(level);
    }

    /// Tells a graph what became known of symbols.
    fn bound(&self, graph: &mut Graph) {
        for (symbol, bounds) in &mut graph.symbols {
            if let Some(known) = self.facts.symbols.get(symbol) {
                *bounds = *known;
            }
        }
    }

    fn level(&mut self) -> Result<&mut Level, Fault> {
        self.levels.last_mut().ok_or(Fault::Silent)
    }

    fn number(&self) -> usize {
        self.levels.last().map_or(0, |level| level.number)
    }

    fn push(&mut self, ty: TensorType, tensor: Option<Tensor>, contents: Option<Contents>) -> V {
        let homes = BTreeMap::new();
        self.values.push(Value { ty, name: None, tensor, contents, elements: None, homes });
        V(self.values.len() - 1)
    }

    fn at_home(&mut self, ty: TensorType, id: ValueId) -> V {
        ty.shape.iter().for_each(|dim| self.facts.size(dim));
        let (v, number) = (self.push(ty, None, None), self.number());
        self.settle(v, number, id);
        v
    }

    /// Notes what a value is in the graph in hand, which has this number.
    fn settle(&mut self, v: V, number: usize, id: ValueId) {
        self.values[v.0].homes.insert(number, id);
        if let Some(level) = self.levels.last_mut() {
            level.values.insert(id, v);
        }
    }

    /// An input of the graph in hand.
    pub(super) fn graph_input(&mut self, name: &str, ty: TensorType) -> Result<V, Fault> {
        possible(&ty)?;
        for dim in &ty.shape {
            self.declare(dim);
        }
        let graph = &mut self.level()?.graph;
        let name = input_name(graph, name);
        let id = graph.input(name, ty.clone());
        Ok(self.at_home(ty, id))
    }

    fn declare(&mut self, dim: &Dim) {
        let mut symbols = Default::default();
        dim.collect_symbols(&mut symbols);
        for symbol in symbols {
            self.facts.symbols.entry(symbol).or_default();
        }
    }

    /// A symbol that nothing else means, of this name or one like it.
    pub(super) fn fresh_symbol(&mut self, name: &str, bounds: Bounds) -> Symbol {
        let plain = Symbol::new(name);
        let numbered = (2..).map(|number| Symbol::new(&format!("{name}_{number}")));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        let symbol = names.find(|symbol| !self.facts.symbols.contains_key(symbol)).unwrap_or(plain);
        self.facts.symbols.insert(symbol.clone(), bounds);
        symbol
    }

    /// A new symbol for a size that a run finds.
    pub(super) fn found_symbol(&mut self, name: &str, bounds: Bounds) -> Symbol {
        let symbol = self.fresh_symbol(name, bounds);
        self.facts.found.insert(symbol.clone());
        symbol
    }

    /// The symbols that stand for the elements of a value, if it was bound in view.
    pub(super) fn symbols_of(&self, v: V, within: Bounds) -> Option<Vec<Dim>> {
        let mut known = self.levels.iter().flat_map(|level| &level.bound);
        known.find(|(other, bounds, _)| (*other, *bounds) == (v, within)).map(|(.., d)| d.clone())
    }

    /// Notes the symbols that stand for the elements of a value from here on.
    pub(super) fn remember(&mut self, v: V, bounds: Bounds, dims: Vec<Dim>) {
        if let Some(level) = self.levels.last_mut() {
            level.bound.push((v, bounds, dims));
        }
    }

    /// The sizes that meet where these two do: what one of them was stretched from stands for it.
    pub(super) fn meeting_sizes(&self, a: &Dim, b: &Dim) -> BTreeSet<Dim> {
        let mut sizes = BTreeSet::new();
        for dim in [a, b] {
            let mut known = self.levels.iter().flat_map(|level| &level.stretched);
            match known.find(|(_, size)| size == dim) {
                Some((from, _)) => sizes.extend(from.iter().cloned()),
                None => {
                    sizes.insert(dim.clone());
                }
            }
        }
        sizes
    }

    /// What sizes broadcast to, if that was asked in view.
    pub(super) fn stretched(&self, sizes: &BTreeSet<Dim>) -> Option<Dim> {
        let mut known = self.levels.iter().flat_map(|level| &level.stretched);
        known.find(|(from, _)| from == sizes).map(|(_, size)| size.clone())
    }

    /// Notes what sizes broadcast to.
    pub(super) fn remember_stretched(&mut self, sizes: BTreeSet<Dim>, size: Dim) {
        if let Some(level) = self.levels.last_mut() {
            level.stretched.push((sizes, size));
        }
    }

    /// The symbol that stands for an expression, if there is one in view.
    pub(super) fn shortened(&self, dim: &Dim) -> Option<Dim> {
        self.levels.iter().find_map(|level| level.shortened.get(dim)).cloned()
    }

    /// Notes the symbol that stands for an expression from here on.
    pub(super) fn remember_shortened(&mut self, dim: &Dim, symbol: Dim) {
        if let Some(level) = self.levels.last_mut() {
            level.shortened.insert(dim.clone(), symbol);
        }
    }

    /// The operation of the graph in hand that a value is the first result of, with its operands.
    pub(super) fn producer(&self, v: V) -> Option<(&Op, Vec<V>)> {
        let level = self.levels.last()?;
        let id = *self.values[v.0].homes.get(&level.number)?;
        let Producer::Node { node, output: 0 } = level.graph.value(id).producer else {
            return None;
        };
        let node = level.graph.node(node);
        let operands = node.inputs.iter().map(|input| level.values.get(input).copied());
        Some((&node.op, operands.collect::<Option<_>>()?))
    }

    /// Makes a value from outside an input of the graph in hand.
    pub(super) fn capture(&mut self, v: V) -> Result<(), Fault> {
        let number = self.number();
        let value = &self.values[v.0];
        if value.homes.contains_key(&number) {
            return Ok(());
        }
        let name = value.name.clone().unwrap_or_else(|| "captured".into());
        let ty = value.ty.clone();
        let graph = &mut self.level()?.graph;
        let name = input_name(graph, &name);
        let id = graph.input(name, ty);
        self.settle(v, number, id);
        Ok(())
    }

    /// Whether a body makes the value anew instead of taking it from outside.
    pub(super) fn is_known(&self, v: V) -> bool {
        self.values[v.0].tensor.is_some() || self.values[v.0].contents.is_some()
    }

    /// The type.
    pub(super) fn ty(&self, v: V) -> &TensorType {
        &self.values[v.0].ty
    }

    /// The form of a list's elements.
    pub(super) fn elements_of(&self, v: V) -> Option<&Form> {
        self.values[v.0].elements.as_ref()
    }

    /// Notes the form of a list's elements.
    pub(super) fn hold(&mut self, v: V, form: Form) {
        self.values[v.0].elements = Some(form);
    }

    /// The name, if it has one.
    pub(super) fn name_of(&self, v: V) -> Option<&str> {
        self.values[v.0].name.as_deref()
    }

    /// Names a value that has no name.
    pub(super) fn name(&mut self, v: V, name: &str) {
        if self.values[v.0].name.is_some() || name.is_empty() {
            return;
        }
        let name: Arc<str> = name.into();
        self.values[v.0].name = Some(name.clone());
        let number = self.number();
        if let Some(&id) = self.values[v.0].homes.get(&number)
            && let Some(level) = self.levels.last_mut()
            && level.graph.value(id).name.is_none()
        {
            level.graph.set_name(id, name);
        }
    }

    /// The nodes of the graph in hand, in order, without those that only sizes take part in.
    pub(super) fn nodes(&self) -> Vec<Made> {
        let Some(level) = self.levels.last() else { return Vec::new() };
        let homes = self.values.iter().enumerate();
        let here = homes.filter_map(|(v, value)| Some((*value.homes.get(&level.number)?, V(v))));
        let here: BTreeMap<ValueId, V> = here.collect();
        let all = |ids: &[ValueId]| ids.iter().map(|id| here.get(id).copied()).collect();
        let nodes = level.graph.nodes().filter_map(|(_, node)| {
            let (inputs, outputs): (Option<Vec<V>>, Option<Vec<V>>) =
                (all(&node.inputs), all(&node.outputs));
            Some(Made { op: node.op.clone(), inputs: inputs?, outputs: outputs? })
        });
        nodes.collect()
    }

    /// A tensor of the model that nothing is calculated with before the model runs.
    pub(super) fn opaque(&mut self, tensor: Tensor) -> Result<V, Fault> {
        let ty = TensorType::of(&tensor);
        let id = self.level()?.graph.constant(tensor)?;
        Ok(self.at_home(ty, id))
    }

    /// A tensor of the model.
    pub(super) fn constant(&mut self, tensor: Tensor) -> V {
        let contents = contents::of_tensor(&tensor);
        self.push(TensorType::of(&tensor), Some(tensor), contents)
    }

    /// A value of which every element is known.
    pub(super) fn known(&mut self, ty: TensorType, contents: Contents) -> V {
        let tensor = contents::to_tensor(&ty, &contents);
        self.push(ty, tensor, Some(contents))
    }

    /// The elements, if they are few and known.
    pub(super) fn contents(&self, v: V) -> Option<Contents> {
        self.values[v.0].contents.clone()
    }

    /// The tensor, if the value is part of the model or does not depend on symbols.
    pub(super) fn tensor(&self, v: V) -> Option<&Tensor> {
        self.values[v.0].tensor.as_ref()
    }

    /// The result of an operation that has one and no bodies.
    pub(super) fn add(&mut self, op: impl Into<Op>, inputs: &[V]) -> Result<V, Fault> {
        let op = op.into();
        let mut named = op.clone();
        let mut dims = named.dims_mut().into_iter().map(|dim| &*dim);
        // Amounts of padding are added to sizes, and not multiplied with each other.
        let small = match &op {
            Op::Pad(_) => dims.all(Dim::is_small),
            _ => Dim::is_small_product(dims),
        };
        if !small {
            return Err(Fault::too_large());
        }
        let types: Vec<&TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
        let results = op.infer(&types, &[]);
        let mut results = results.map_err(|error| Fault::malformed(error.to_string()))?;
        let (Some(ty), true) = (results.pop(), results.is_empty()) else {
            return Err(Fault::malformed(format!("{} has not one result", op.name())));
        };
        possible(&ty)?;
        let operands = inputs.iter().map(|v| self.values[v.0].contents.as_deref());
        if let Some(all) = operands.collect::<Option<Vec<&[Scalar]>>>() {
            let with_types = all.into_iter().zip(&types);
            let operands: Vec<Operand<'_>> =
                with_types.map(|(contents, &ty)| Operand { ty, contents }).collect();
            if let Some(contents) = contents::apply(&op, &operands, &ty, &self.facts) {
                if !ty.dtype.is_float() || !contents.iter().any(Scalar::is_rounded) {
                    return Ok(self.known(ty, contents));
                }
                // As data it is what this operation rounds to, and no fraction.
                let made = self.add_one(op, inputs)?;
                self.values[made.0].contents = Some(contents);
                return Ok(made);
            }
        }
        self.add_one(op, inputs)
    }

    /// The result of a node of the graph that has one.
    fn add_one(&mut self, op: Op, inputs: &[V]) -> Result<V, Fault> {
        let made = self.add_node(op, inputs, Vec::new())?;
        made.first().copied().ok_or(Fault::Silent)
    }

    /// The results of a node of the graph.
    pub(super) fn add_node(
        &mut self,
        op: impl Into<Op>,
        inputs: &[V],
        regions: Vec<Graph>,
    ) -> Result<Vec<V>, Fault> {
        let ids = inputs.iter().map(|&v| self.id(v)).collect::<Result<Vec<_>, _>>()?;
        let source = self.source.clone();
        let graph = &mut self.level()?.graph;
        let outputs = graph.add_node(op.into(), &ids, regions, source)?;
        let types: Vec<TensorType> = outputs.iter().map(|&id| graph.ty(id).clone()).collect();
        types.iter().try_for_each(possible)?;
        types.iter().flat_map(|ty| &ty.shape).for_each(|dim| self.declare(dim));
        Ok(types.into_iter().zip(outputs).map(|(ty, id)| self.at_home(ty, id)).collect())
    }

    /// Declares a value as the next output of the graph in hand.
    pub(super) fn output(&mut self, v: V, name: &str) -> Result<(), Fault> {
        let id = self.id(v)?;
        Ok(self.level()?.graph.output(id, name)?)
    }

    /// The value in the graph in hand.
    fn id(&mut self, v: V) -> Result<ValueId, Fault> {
        let number = self.number();
        if let Some(&id) = self.values[v.0].homes.get(&number) {
            return Ok(id);
        }
        let (ty, name) = (self.values[v.0].ty.clone(), self.values[v.0].name.clone());
        let id = match (self.values[v.0].tensor.clone(), self.contents(v)) {
            (Some(tensor), _) => self.level()?.graph.constant(tensor)?,
            (None, Some(contents)) => self.sizes(&ty, &contents)?,
            // Bodies are given what they use when they are entered.
            (None, None) => return Err(Fault::Silent),
        };
        if let (Some(name), Some(level)) = (name, self.levels.last_mut()) {
            level.graph.set_name(id, name);
        }
        self.settle(v, number, id);
        Ok(id)
    }

    /// Contents that depend on symbols, as data.
    fn sizes(&mut self, ty: &TensorType, contents: &[Scalar]) -> Result<ValueId, Fault> {
        let parts = contents.iter().map(|scalar| match scalar {
            Scalar::Exact { num, den } => Some((num.clone(), den.clone())),
            Scalar::Equal { a, b } => Some((a.clone(), b.clone())),
            Scalar::Float(_) => None,
        });
        let parts: Option<Vec<(Dim, Dim)>> = parts.collect();
        let parts = parts.ok_or_else(|| Fault::data_dependent("a size that is multiplied"))?;
        let (first, second): (Vec<Dim>, Vec<Dim>) = parts.into_iter().unzip();
        let compared = contents.iter().any(|scalar| matches!(scalar, Scalar::Equal { .. }));
        let source = self.source.clone();
        let graph = &mut self.level()?.graph;
        let mut add = |op: Op, inputs: &[ValueId]| -> Result<ValueId, Fault> {
            let outputs = graph.add_node(op, inputs, Vec::new(), source.clone())?;
            outputs.first().copied().ok_or(Fault::Silent)
        };
        let scalar = ty.rank() == 0;
        let mut vector = |dims: Vec<Dim>| {
            let value = add(Op::SizeOf(op::SizeOf { dims, scalar }), &[])?;
            if ty.dtype == DType::I64 || compared {
                return Ok(value);
            }
            add(Op::Cast(op::Cast { to: ty.dtype }), &[value])
        };
        let whole = !compared && second.iter().all(|den| den.is(1));
        let mut value = vector(first)?;
        if !whole {
            let other = vector(second)?;
            let f = if compared { BinaryFn::Equal } else { BinaryFn::Div };
            value = add(Op::Binary(op::Binary { f }), &[value, other])?;
        }
        if ty.rank() > 1 {
            value = add(Op::Reshape(op::Reshape { shape: ty.shape.clone() }), &[value])?;
        }
        Ok(value)
    }
}

/// An error if no tensor can have this type.
fn possible(ty: &TensorType) -> Result<(), Fault> {
    let negative = ty.shape.iter().any(|dim| dim.as_const().is_some_and(|size| size < 0));
    let bytes = ty.static_sizes().map(|sizes| Tensor::byte_length(ty.dtype, &sizes));
    match bytes {
        _ if !Dim::is_small_product(&ty.shape) => Err(Fault::too_large()),
        _ if negative => Err(Fault::malformed(format!("a result {ty} has a negative dimension"))),
        Some(Err(error)) => Err(Fault::malformed(error.to_string())),
        _ => Ok(()),
    }
}

/// The name, or one like it if the graph has an input of that name.
fn input_name(graph: &Graph, name: &str) -> String {
    let taken = |name: &str| {
        let mut names = graph.inputs().iter().map(|&id| graph.value(id).name.as_deref());
        names.any(|other| other == Some(name))
    };
    let numbered = (2..).map(|number| format!("{name}.{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_else(|| name.to_owned())
}
