//! From a resolved model to the graph IR: every operator composed of core operations, shape
//! arithmetic done on the way.
//!
//! Invariant: importing goes on after a problem, so that one report lists everything that is
//! wrong; what follows from a problem is not listed again.

mod activation;
mod antialias;
mod attention;
mod batch_normalisation;
mod batched_scan;
mod bounds;
mod build;
mod caches;
mod compose;
mod contents;
mod contraction;
mod control;
mod conversion;
mod convolution;
mod cropping;
mod deformable;
mod determinant;
mod dropout;
mod einsum;
mod elementwise;
mod fault;
mod flex_attention;
mod form;
mod given;
mod gradient;
mod grid;
mod images;
mod inputs;
mod late;
mod legacy;
mod linear_attention;
mod list;
mod loops;
mod losses;
mod mersenne_twister;
mod microsoft;
mod ml;
mod movement;
mod node;
mod normalisation;
mod operator;
mod optimisers;
mod outputs;
mod places;
mod pooling;
mod quantisation;
mod random;
mod recurrent;
mod reduction;
mod regions;
mod resample;
mod resize;
mod rounding;
mod sampling;
mod scalar;
mod schema;
mod selection;
mod shape;
mod shorten;
mod slicing;
mod softmax;
mod spectral;
mod tapers;
mod text;
mod unpooling;
mod window;

pub use operator::{Operator, operators};
pub use schema::{Signature, signatures};

use crate::Model;
use crate::proto::type_proto;
use crate::report::{Problem, ProblemKind, Report, Site};
use crate::resolve::{Body, Node, ValueId, resolve};
use build::{Builder, V};
use fault::Fault;
use given::Fitting;
use kiln_ir::Graph;
use node::Use;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The operators of each family.
fn families() -> Vec<&'static [operator::Entry]> {
    let standard = vec![
        activation::OPERATORS,
        attention::OPERATORS,
        batch_normalisation::OPERATORS,
        caches::OPERATORS,
        contraction::OPERATORS,
        control::OPERATORS,
        conversion::OPERATORS,
        convolution::OPERATORS,
        cropping::OPERATORS,
        deformable::OPERATORS,
        determinant::OPERATORS,
        dropout::OPERATORS,
        einsum::OPERATORS,
        elementwise::OPERATORS,
        flex_attention::OPERATORS,
        gradient::OPERATORS,
        grid::OPERATORS,
        images::OPERATORS,
        linear_attention::OPERATORS,
        list::OPERATORS,
        loops::OPERATORS,
        losses::OPERATORS,
        movement::OPERATORS,
        normalisation::OPERATORS,
        optimisers::OPERATORS,
        pooling::OPERATORS,
        quantisation::OPERATORS,
        random::OPERATORS,
        recurrent::OPERATORS,
        reduction::OPERATORS,
        regions::OPERATORS,
        resize::OPERATORS,
        selection::OPERATORS,
        shape::OPERATORS,
        slicing::OPERATORS,
        spectral::OPERATORS,
        tapers::OPERATORS,
        text::OPERATORS,
        unpooling::OPERATORS,
    ];
    [standard, microsoft::families(), ml::families()].concat()
}

/// What the caller decides about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Sizes of dimensions that the model leaves open, by the name in the model, by the name of
    /// the graph's symbol, or, where a dimension has no name, by input and axis: `x_2`.
    pub dims: BTreeMap<String, u64>,
}

/// The graph that a model means, or everything that keeps it from being imported.
pub fn import(model: &Model, options: &ImportOptions) -> Result<Graph, Report> {
    let (resolved, problems) = resolve(model);
    let most_nodes = (AGAIN * resolved.names.len() + SMALL).min(MOST_NODES);
    let mut importer = Importer {
        model,
        most_nodes,
        names: resolved.names,
        build: Builder::default(),
        values: HashMap::new(),
        problems,
        nodes: 0,
        differentiated: gradient::differentiated(&resolved.graph),
        iterations: Vec::new(),
        given: Fitting::default(),
    };
    importer.build.enter(model.graph().name());
    importer.inputs(&resolved.graph, options);
    importer.body(&resolved.graph);
    importer.outputs(&resolved.graph);
    let graph = importer.build.leave();
    if importer.problems.is_empty() {
        Ok(graph)
    } else {
        Err(Report { problems: importer.problems })
    }
}

/// A model on its way into a graph.
struct Importer<'m> {
    model: &'m Model,
    names: Vec<&'m str>,
    build: Builder,
    /// What each value became; `None` if its node could not be imported.
    values: HashMap<ValueId, Option<V>>,
    problems: Vec<Problem>,
    /// How many nodes were imported, those of a body again for each time, and how many may be.
    nodes: usize,
    most_nodes: usize,
    /// Names of tensors by which something is differentiated.
    differentiated: BTreeSet<String>,
    /// How often each of the loops around the node in hand ran before, outermost first.
    iterations: Vec<V>,
    /// What bodies of loops fit.
    given: Fitting,
}

/// How many nodes are imported at most.
const MOST_NODES: usize = 1 << 21;
/// How often each is at most on average, beyond what a small model takes at once: bodies may be tried
/// more than once, those in them each time. No case of ONNX's suite takes a quarter of it.
const AGAIN: usize = 16;
const SMALL: usize = 1 << 12;

impl<'m> Importer<'m> {
    fn problem(&mut self, site: Site, kind: ProblemKind, message: String, help: String) {
        self.problems.push(Problem { site, inputs: Vec::new(), kind, message, help });
    }

    /// What a value of the model became; `None` if it is not known.
    fn value(&self, id: ValueId) -> Option<V> {
        self.values.get(&id).copied().flatten()
    }

    /// The number of dimensions that the main graph declares for a value, if it does.
    fn declared_rank(&self, id: Option<ValueId>) -> Option<usize> {
        let name = *self.names.get(id?.index())?;
        let graph = self.model.graph();
        let mut infos = graph.value_info.iter().chain(&graph.output);
        let info = infos.find(|info| info.name() == name)?;
        match info.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(tensor) => Some(tensor.shape.as_ref()?.dim.len()),
            _ => None,
        }
    }

    fn define(&mut self, id: ValueId, v: Option<V>) {
        if let Some(v) = v {
            let name = self.names.get(id.index()).copied().unwrap_or_default();
            self.build.name(v, name);
        }
        self.values.insert(id, v);
    }

    /// Imports initializers and nodes of a body whose inputs are there.
    fn body(&mut self, body: &Body<'m>) {
        for &(id, tensor) in &body.initializers {
            let v = match self.model.tensor(tensor) {
                Ok(host) if self.differentiated.contains(tensor.name()) => {
                    self.build.opaque(host).ok()
                }
                Ok(tensor) => Some(self.build.constant(tensor)),
                Err(error) => {
                    let node = format!("initializer `{}`", tensor.name());
                    let site = Site { node, ..Site::default() };
                    let help = error.help().to_owned();
                    self.problem(site, ProblemKind::Tensor, error.to_string(), help);
                    None
                }
            };
            self.define(id, v);
        }
        for node in &body.nodes {
            self.node(node);
        }
    }

    fn node(&mut self, node: &Node<'m>) {
        let before = self.build.source.replace(node.site.node.as_str().into());
        let results = self.results(node);
        self.build.source = before;
        let results = match results {
            Ok(results) => results,
            Err(fault) => {
                self.fault(node, fault);
                Vec::new()
            }
        };
        for (number, id) in node.outputs.iter().enumerate() {
            if let Some(id) = id {
                self.define(*id, results.get(number).copied());
            }
        }
    }

    fn results(&mut self, node: &Node<'m>) -> Result<Vec<V>, Fault> {
        self.nodes += 1;
        if self.nodes == self.most_nodes {
            let message = "the model, with bodies that are tried again and again, is too large";
            return Err(Fault::unsupported(message, "unroll loops in loops, or fix their sizes"));
        }
        if self.nodes > self.most_nodes {
            return Err(Fault::Silent);
        }
        let entry = self.entry(node)?;
        let inputs = node.inputs.iter().map(|id| match id {
            None => Ok(None),
            Some(id) => self.value(*id).map(Some).ok_or(Fault::Silent),
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let site = &node.site;
        if let Some(signature) = schema::signature_of(&site.domain, &site.op, site.opset) {
            let types = inputs.iter().map(|v| v.map(|v| self.build.ty(v)));
            signature.check(&types.collect::<Vec<_>>(), &node.attributes)?;
        }
        let mut x = Use { importer: self, node, inputs };
        let mut results = (entry.import)(&mut x);
        if results.as_ref().is_err_and(Fault::is_too_large) && x.shorten()? {
            results = (entry.import)(&mut x);
        }
        let results = results?;
        let mut asked = node.outputs.iter().skip(results.len());
        if asked.any(Option::is_some) {
            let count = results.len();
            let message = format!("only the first {count} of its outputs are supported");
            return Err(Fault::unsupported(message, "leave the others out of the model"));
        }
        Ok(results)
    }

    /// What imports the node.
    fn entry(&self, node: &Node<'m>) -> Result<&'static operator::Entry, Fault> {
        let site = &node.site;
        let Some(entry) = operator::find(&site.domain, &site.op) else {
            let help = match operator::similar(&site.domain, &site.op) {
                Some(name) => format!("is `{name}` meant?"),
                None => "replace the operator by others, or export the model without it".to_owned(),
            };
            let message = "the operator is not supported".to_owned();
            return Err(Fault::Problem { kind: ProblemKind::UnsupportedOperator, message, help });
        };
        if entry.operator.versions().contains(&site.opset) {
            return Ok(entry);
        }
        let (first, last) = (entry.operator.first, entry.operator.last);
        let message = match site.opset {
            0 => format!("the model imports no operator set of `{}`", site.domain),
            opset => format!("opset {opset} does not have it: it exists from {first} to {last}"),
        };
        let help = "convert the model with onnx.version_converter.convert_version".to_owned();
        Err(Fault::Problem { kind: ProblemKind::OutsideOpset, message, help })
    }

    fn fault(&mut self, node: &Node<'m>, fault: Fault) {
        let Fault::Problem { kind, message, help } = fault else { return };
        let describe = |id: &Option<ValueId>| match id {
            None => "none".to_owned(),
            Some(id) => self.value(*id).map_or("?".to_owned(), |v| self.build.ty(v).to_string()),
        };
        let inputs = node.inputs.iter().map(describe).collect();
        let site = node.site.clone();
        self.problems.push(Problem { site, inputs, kind, message, help });
    }
}
