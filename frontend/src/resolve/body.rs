//! Walks graphs and function bodies and gives their names an identity.
//!
//! Invariant: work and memory are bounded whatever the model says: by [`MAX_DEPTH`], [`MAX_NODES`] and
//! [`MAX_BYTES`].

use super::attribute::{attribute_type, plain};
use super::inlined::{signature, weight};
use super::order::ordered;
use super::scope::{Lookup, Scope};
use super::{Attribute, Body, Node, Resolved, ValueId};
use crate::Model;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, attribute_proto::AttributeType,
};
use crate::read::{canonical_domain, opset_versions};
use crate::report::{Problem, ProblemKind, Site};
use std::collections::{BTreeMap, HashMap, HashSet};

/// How deep subgraphs and function calls may nest.
const MAX_DEPTH: usize = 100;

/// How many nodes a model may have once its functions are inlined.
const MAX_NODES: usize = 1 << 20;

/// How many bytes nodes of functions may take, once for each time that they are inlined.
const MAX_BYTES: usize = 1 << 28;

/// What names a function: canonical domain, name, overload.
type FunctionKey<'m> = (&'m str, &'m str, &'m str);

/// What is in force where a body stands: versions, attributes of the call, the way here.
struct Frame<'m> {
    opsets: BTreeMap<String, i64>,
    attributes: HashMap<&'m str, &'m AttributeProto>,
    path: String,
}

struct Resolver<'m> {
    functions: HashMap<FunctionKey<'m>, &'m FunctionProto>,
    names: Vec<&'m str>,
    scope: Scope<'m>,
    problems: Vec<Problem>,
    /// The functions being inlined, outermost first.
    calls: Vec<FunctionKey<'m>>,
    depth: usize,
    nodes: usize,
    /// What nodes of functions take so far.
    bytes: usize,
    /// Whether nodes of the body in hand form a circle, so that some inputs cannot be defined yet.
    circular: bool,
}

/// Resolves the whole model; what could not be resolved is among the problems, and values that
/// nothing defines stand for names that are not known.
pub(super) fn resolve_model(model: &Model) -> (Resolved<'_>, Vec<Problem>) {
    let mut resolver = Resolver {
        functions: HashMap::new(),
        names: Vec::new(),
        scope: Scope::default(),
        problems: Vec::new(),
        calls: Vec::new(),
        depth: 0,
        nodes: 0,
        bytes: 0,
        circular: false,
    };
    for function in &model.proto().functions {
        let key = (canonical_domain(function.domain()), function.name(), function.overload());
        if resolver.functions.insert(key, function).is_some() {
            let site = Site { node: format!("function {}.{}", key.0, key.1), ..Site::default() };
            resolver.problem(site, ProblemKind::Function, "the function is defined twice", "");
        }
    }
    let frame =
        Frame { opsets: model.opsets().clone(), attributes: HashMap::new(), path: String::new() };
    let graph = resolver.graph(model.graph(), &frame);
    (Resolved { names: resolver.names, graph }, resolver.problems)
}

impl<'m> Resolver<'m> {
    fn problem(&mut self, site: Site, kind: ProblemKind, message: &str, help: &str) {
        self.problems.push(Problem {
            site,
            inputs: Vec::new(),
            kind,
            message: message.to_owned(),
            help: help.to_owned(),
        });
    }

    fn fresh(&mut self, name: &'m str) -> ValueId {
        let id = ValueId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name);
        id
    }

    /// A new value under `name` in the innermost body.
    fn define(&mut self, name: &'m str, site: &Site) -> ValueId {
        let value = self.fresh(name);
        if !self.scope.define(name, Some(value)) {
            let message = format!("`{name}` is defined twice in one graph");
            self.problem(site.clone(), ProblemKind::Malformed, &message, "export the model again");
        }
        value
    }

    fn graph(&mut self, graph: &'m GraphProto, frame: &Frame<'m>) -> Body<'m> {
        let mut body = Body::default();
        let site =
            Site { node: format!("{}graph `{}`", frame.path, graph.name()), ..Site::default() };
        self.scope.enter_graph();
        self.depth += 1;
        for tensor in &graph.initializer {
            body.initializers.push((self.define(tensor.name(), &site), tensor));
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            self.define(name, &site);
            let message = format!("initializer `{name}` is sparse, which is not supported");
            self.problem(site.clone(), ProblemKind::Tensor, &message, "store it densely");
        }
        // Up to IR 3 every initializer was listed among the inputs too, as a default.
        let initialized: HashSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name()).collect();
        for input in &graph.input {
            if !initialized.contains(input.name()) {
                body.inputs.push((self.define(input.name(), &site), input));
            }
        }
        self.nodes(&graph.node, frame, &mut body.nodes);
        for output in &graph.output {
            let value = match self.scope.look_up(output.name()) {
                Lookup::Value(value) => value,
                Lookup::Absent | Lookup::Unknown => {
                    let message = format!("output `{}` is not defined", output.name());
                    self.problem(site.clone(), ProblemKind::Malformed, &message, "");
                    self.fresh(output.name())
                }
            };
            body.outputs.push((value, output));
        }
        self.depth -= 1;
        body.captures = self.scope.leave();
        body
    }

    fn nodes(&mut self, protos: &'m [NodeProto], frame: &Frame<'m>, nodes: &mut Vec<Node<'m>>) {
        let (protos, circle) = ordered(protos);
        if let Some(proto) = circle {
            let message = "the node's inputs are made of its own results: nodes form a circle";
            self.problem(site(proto, frame), ProblemKind::Malformed, message, "");
        }
        let around = std::mem::replace(&mut self.circular, circle.is_some());
        self.in_order(protos, frame, nodes);
        self.circular = around;
    }

    fn in_order(
        &mut self,
        protos: Vec<&'m NodeProto>,
        frame: &Frame<'m>,
        nodes: &mut Vec<Node<'m>>,
    ) {
        for proto in protos {
            if self.too_large().is_some() {
                return;
            }
            self.nodes += 1;
            if !self.calls.is_empty() {
                let meant = proto.attribute.iter().filter_map(|own| referred(own, frame));
                self.bytes = self.bytes.saturating_add(weight(proto, &frame.path, meant));
            }
            let key = (canonical_domain(proto.domain()), proto.op_type(), proto.overload());
            let function = self.functions.get(&key).copied();
            self.bytes = self.bytes.saturating_add(function.map_or(0, signature));
            let site = site(proto, frame);
            if let Some((message, help)) = self.too_large() {
                self.problem(site, ProblemKind::Function, &message, help);
                return;
            }
            match function {
                Some(function) => self.call(proto, key, function, site, frame, nodes),
                None => {
                    let inputs = self.inputs(proto, &site);
                    let attributes = self.attributes(proto, frame, &site);
                    let outputs = proto
                        .output
                        .iter()
                        .map(|name| (!name.is_empty()).then(|| self.define(name, &site)))
                        .collect();
                    nodes.push(Node { site, inputs, outputs, attributes });
                }
            }
        }
    }

    /// What is wrong once functions are inlined more often than a model can need, and what helps.
    fn too_large(&self) -> Option<(String, &'static str)> {
        if self.nodes > MAX_NODES {
            return Some((
                format!("the model has more than {MAX_NODES} nodes, functions inlined"),
                "",
            ));
        }
        (self.bytes > MAX_BYTES).then(|| {
            let message = format!("nodes of inlined functions take more than {MAX_BYTES} bytes");
            (message, "give nodes shorter names, or call fewer functions")
        })
    }

    fn inputs(&mut self, proto: &'m NodeProto, site: &Site) -> Vec<Option<ValueId>> {
        let look_up = |name: &'m String| match self.scope.look_up(name) {
            _ if name.is_empty() => None,
            Lookup::Value(value) => Some(value),
            Lookup::Absent => None,
            Lookup::Unknown if self.circular => Some(self.fresh(name)),
            Lookup::Unknown => {
                let message = format!("input `{name}` is not defined");
                let help = "no input, initializer or node before this one has the name";
                self.problem(site.clone(), ProblemKind::Malformed, &message, help);
                Some(self.fresh(name))
            }
        };
        proto.input.iter().map(look_up).collect()
    }

    fn attributes(
        &mut self,
        proto: &'m NodeProto,
        frame: &Frame<'m>,
        site: &Site,
    ) -> BTreeMap<&'m str, Attribute<'m>> {
        let mut attributes = BTreeMap::new();
        for attribute in &proto.attribute {
            let Some(meant) = referred(attribute, frame) else { continue };
            let value = match (attribute_type(meant), &meant.g) {
                (AttributeType::Graph, Some(graph)) => {
                    if self.depth >= MAX_DEPTH {
                        let message = format!("graphs are nested more than {MAX_DEPTH} deep");
                        self.problem(site.clone(), ProblemKind::Malformed, &message, "");
                        continue;
                    }
                    Attribute::Graph(Box::new(self.graph(graph, frame)))
                }
                _ => match plain(meant) {
                    Some(value) => value,
                    None => {
                        let message = format!("attribute `{}` has no value", attribute.name());
                        self.problem(site.clone(), ProblemKind::Malformed, &message, "");
                        continue;
                    }
                },
            };
            if attributes.insert(attribute.name(), value).is_some() {
                let message = format!("attribute `{}` is given twice", attribute.name());
                self.problem(site.clone(), ProblemKind::Malformed, &message, "");
            }
        }
        attributes
    }

    /// Replaces a call by the function's nodes.
    fn call(
        &mut self,
        proto: &'m NodeProto,
        key: FunctionKey<'m>,
        function: &'m FunctionProto,
        site: Site,
        frame: &Frame<'m>,
        nodes: &mut Vec<Node<'m>>,
    ) {
        let arguments = self.inputs(proto, &site);
        let problem = if self.calls.contains(&key) {
            Some("the function calls itself".to_owned())
        } else if self.depth >= MAX_DEPTH {
            Some(format!("functions and graphs are nested more than {MAX_DEPTH} deep"))
        } else if arguments.len() > function.input.len() {
            let (given, taken) = (arguments.len(), function.input.len());
            Some(format!("the function takes {taken} inputs, {given} are given"))
        } else if proto.output.len() > function.output.len() {
            let (given, made) = (proto.output.len(), function.output.len());
            Some(format!("the function has {made} outputs, {given} are asked for"))
        } else {
            None
        };
        let opsets = opset_versions(&function.opset_import).map_err(|error| error.to_string());
        let (problem, opsets) = match (problem, opsets) {
            (None, Ok(opsets)) => (None, opsets),
            (Some(problem), _) | (None, Err(problem)) => (Some(problem), BTreeMap::new()),
        };
        if let Some(message) = problem {
            self.problem(site.clone(), ProblemKind::Function, &message, "");
            for name in proto.output.iter().filter(|name| !name.is_empty()) {
                self.define(name, &site);
            }
            return;
        }
        let inner = Frame {
            opsets: opsets_in_force(opsets, &frame.opsets),
            attributes: self.bindings(proto, function, frame, &site),
            path: format!("{}/", site.node),
        };
        self.calls.push(key);
        self.depth += 1;
        self.scope.enter_function();
        for (index, name) in function.input.iter().enumerate() {
            self.scope.define(name, arguments.get(index).copied().flatten());
        }
        self.nodes(&function.node, &inner, nodes);
        let results: Vec<_> = function.output.iter().map(|name| self.scope.look_up(name)).collect();
        self.scope.leave();
        self.depth -= 1;
        self.calls.pop();
        for (name, result) in proto.output.iter().zip(results) {
            match result {
                _ if name.is_empty() => {}
                Lookup::Value(value) => {
                    if !self.scope.define(name, Some(value)) {
                        let message = format!("`{name}` is defined twice in one graph");
                        self.problem(site.clone(), ProblemKind::Malformed, &message, "");
                    }
                }
                Lookup::Absent | Lookup::Unknown => {
                    // Of what is too large not all is looked at.
                    if self.too_large().is_none() {
                        let message =
                            format!("the function does not define its output for `{name}`");
                        self.problem(site.clone(), ProblemKind::Function, &message, "");
                    }
                    self.define(name, &site);
                }
            }
        }
    }

    /// What the function's attribute names mean in this call: given ones, then defaults.
    fn bindings(
        &mut self,
        proto: &'m NodeProto,
        function: &'m FunctionProto,
        frame: &Frame<'m>,
        site: &Site,
    ) -> HashMap<&'m str, &'m AttributeProto> {
        let mut bindings: HashMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|default| (default.name(), default)).collect();
        for attribute in &proto.attribute {
            let Some(meant) = referred(attribute, frame) else { continue };
            if attribute_type(meant) == AttributeType::Graph {
                // Its names are the caller's, its place is the callee's.
                let message =
                    format!("attribute `{}` of a function call is a graph", attribute.name());
                let help = "inline the function with onnx.inliner before";
                self.problem(site.clone(), ProblemKind::Function, &message, help);
            } else {
                bindings.insert(attribute.name(), meant);
            }
        }
        bindings
    }
}

/// The attribute that is meant: the caller's, where a function's body refers to one.
/// `None` if the call leaves it out and the function has no default.
fn referred<'m>(attribute: &'m AttributeProto, frame: &Frame<'m>) -> Option<&'m AttributeProto> {
    match attribute.ref_attr_name() {
        "" => Some(attribute),
        name => frame.attributes.get(name).copied(),
    }
}

/// A function's own imports; a domain that it leaves out has the caller's version.
fn opsets_in_force(
    mut own: BTreeMap<String, i64>,
    caller: &BTreeMap<String, i64>,
) -> BTreeMap<String, i64> {
    for (domain, version) in caller {
        own.entry(domain.clone()).or_insert(*version);
    }
    own
}

fn site(proto: &NodeProto, frame: &Frame<'_>) -> Site {
    let name = match proto.name() {
        "" => proto.output.iter().find(|name| !name.is_empty()).map_or("?", |name| name),
        name => name,
    };
    let domain = canonical_domain(proto.domain()).to_owned();
    Site {
        node: format!("{}{name}", frame.path),
        op: proto.op_type().to_owned(),
        opset: frame.opsets.get(&domain).copied().unwrap_or(0),
        domain,
    }
}
