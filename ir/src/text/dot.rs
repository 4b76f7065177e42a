//! Graphs as pictures, in Graphviz' language.
//!
//! Invariant: every edge joins two nodes that are drawn; what names and labels hold cannot end a string.
//!
//! Constants are lines in the labels of what reads them: as nodes they would hide the rest. A fused node is
//! a cluster with its body, whose operations are joined to those around it; bodies of `If` and `Loop`
//! have inputs of their own, which are not joined to anything.

use super::print_operation;
use crate::graph::{Graph, Node, NodeId, Producer, ValueId};
use crate::op::Op;
use std::collections::BTreeSet;
use std::fmt::Write;

/// A graph to draw.
#[derive(Clone, Debug)]
pub struct Drawing<'g> {
    /// What stands above it.
    pub title: String,
    /// The graph.
    pub graph: &'g Graph,
    /// Nodes that are drawn together, each in at most one cluster.
    pub clusters: Vec<Cluster>,
}

/// Nodes that are drawn together.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What stands above them.
    pub label: String,
    /// The nodes.
    pub nodes: BTreeSet<NodeId>,
}

/// Graphs side by side.
pub fn draw(drawings: &[Drawing]) -> String {
    let mut drawer = Drawer { text: String::new(), edges: String::new(), clusters: 0 };
    let name = drawings.first().map_or("", |drawing| &drawing.graph.name);
    let _ = writeln!(drawer.text, "digraph {} {{", quoted(name));
    drawer.text.push_str("  rankdir = TB;\n  node [shape = box, fontname = Helvetica];\n");
    drawer.text.push_str("  graph [fontname = Helvetica];\n");
    for (number, drawing) in drawings.iter().enumerate() {
        let place = Place { graph: drawing.graph, prefix: format!("g{number}_"), outer: None };
        drawer.cluster(&drawing.title, "solid", |drawer| drawer.graph(&place, &drawing.clusters));
    }
    let Drawer { mut text, edges, .. } = drawer;
    // An edge inside of a cluster would draw its nodes into it.
    text.push_str(&edges);
    text.push_str("}\n");
    text
}

/// Where a graph is drawn.
struct Place<'p> {
    graph: &'p Graph,
    /// What the names of its nodes begin with.
    prefix: String,
    /// The place of the node whose body it is, with the operands that are its inputs.
    outer: Option<(&'p Place<'p>, &'p [ValueId])>,
}

impl Place<'_> {
    fn node(&self, id: NodeId) -> String {
        format!("{}n{}", self.prefix, id.0)
    }

    /// The drawn node that makes a value; `None` for constants.
    fn maker(&self, value: ValueId) -> Option<String> {
        match self.graph.value(value).producer {
            Producer::Input(number) => match self.outer {
                Some((outer, operands)) => outer.maker(*operands.get(number)?),
                None => Some(format!("{}i{number}", self.prefix)),
            },
            Producer::Node { node: id, output } => {
                let node = self.graph.node(id);
                match (&node.op, body(node)) {
                    (Op::Constant(_), _) => None,
                    (_, Some(body)) => {
                        self.inside(id, node, body).maker(*body.outputs().get(output)?)
                    }
                    _ => Some(self.node(id)),
                }
            }
        }
    }

    /// The place of a fused body.
    fn inside<'p>(&'p self, id: NodeId, node: &'p Node, body: &'p Graph) -> Place<'p> {
        let prefix = format!("{}_", self.node(id));
        Place { graph: body, prefix, outer: Some((self, &node.inputs)) }
    }
}

/// The body of a fused node.
fn body(node: &Node) -> Option<&Graph> {
    match (&node.op, node.regions.as_slice()) {
        (Op::Fused(_), [body]) => Some(body),
        _ => None,
    }
}

struct Drawer {
    text: String,
    edges: String,
    clusters: usize,
}

impl Drawer {
    fn cluster(&mut self, label: &str, style: &str, inside: impl FnOnce(&mut Self)) {
        let _ = writeln!(self.text, "subgraph cluster_{} {{", self.clusters);
        let _ = writeln!(self.text, "  label = {}; style = {style};", quoted(label));
        self.clusters += 1;
        inside(self);
        self.text.push_str("}\n");
    }

    fn graph(&mut self, place: &Place, clusters: &[Cluster]) {
        let graph = place.graph;
        if place.outer.is_none() {
            for (number, &input) in graph.inputs().iter().enumerate() {
                let name = graph.value(input).name.as_deref().unwrap_or("input");
                let label = format!("{name}\n{}", graph.ty(input));
                self.node(&format!("{}i{number}", place.prefix), &label, "ellipse");
            }
        }
        let together: BTreeSet<NodeId> =
            clusters.iter().flat_map(|cluster| &cluster.nodes).copied().collect();
        for cluster in clusters {
            self.cluster(&cluster.label, "dashed", |drawer| {
                cluster.nodes.iter().for_each(|&id| drawer.operation(place, id));
            });
        }
        for (id, _) in graph.nodes().filter(|(id, _)| !together.contains(id)) {
            self.operation(place, id);
        }
        if place.outer.is_none() {
            let outputs = graph.outputs().iter().zip(graph.output_names());
            for (number, (&output, name)) in outputs.enumerate() {
                let drawn = format!("{}o{number}", place.prefix);
                self.node(&drawn, &format!("{name}\n{}", graph.ty(output)), "ellipse");
                self.edge(place.maker(output), &drawn);
            }
        }
    }

    fn operation(&mut self, place: &Place, id: NodeId) {
        let node = place.graph.node(id);
        match (&node.op, body(node)) {
            (Op::Constant(_), _) => {}
            (Op::Fused(fused), Some(body)) => {
                let from = node.source.as_deref().unwrap_or_default();
                self.cluster(&format!("{}\n{from}", fused.label), "filled", |drawer| {
                    drawer.graph(&place.inside(id, node, body), &[]);
                });
            }
            _ if node.regions.is_empty() => self.plain(place, id),
            _ => self.cluster(node.op.name(), "dotted", |drawer| {
                drawer.plain(place, id);
                for (number, graph) in node.regions.iter().enumerate() {
                    let prefix = format!("{}b{number}_", place.node(id));
                    let inside = Place { graph, prefix, outer: None };
                    drawer.cluster(&graph.name, "dotted", |drawer| drawer.graph(&inside, &[]));
                }
            }),
        }
    }

    /// An operation with the edges from what makes its operands.
    fn plain(&mut self, place: &Place, id: NodeId) {
        let (graph, node) = (place.graph, place.graph.node(id));
        let mut label = print_operation(&node.op);
        for output in &node.outputs {
            let _ = write!(label, "\n{}", graph.ty(*output));
        }
        for input in &node.inputs {
            if graph.constant_of(*input).is_some() {
                let _ = write!(label, "\nwith {}", graph.ty(*input));
            }
        }
        if let Some(source) = &node.source {
            let _ = write!(label, "\n{source}");
        }
        self.node(&place.node(id), &label, "box");
        for &input in &node.inputs {
            self.edge(place.maker(input), &place.node(id));
        }
    }

    fn node(&mut self, name: &str, label: &str, shape: &str) {
        let _ = writeln!(self.text, "  {name} [label = {}, shape = {shape}];", quoted(label));
    }

    fn edge(&mut self, from: Option<String>, to: &str) {
        if let Some(from) = from {
            let _ = writeln!(self.edges, "  {from} -> {to};");
        }
    }
}

/// A string of the language. Backslashes would begin escapes there; other control characters than the
/// end of a line are of no use in a picture.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
