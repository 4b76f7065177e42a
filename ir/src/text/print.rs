//! Graphs as text.
//!
//! Invariant: values are named by their number, so a text says which values are which.

use super::{attribute_notation, constant, scan::quoted};
use crate::graph::{Graph, Node, Producer, ValueId};
use crate::op::Op;
use kiln_tensor::Tensor;
use std::fmt;

/// The whole graph, with everything that is needed to read it again.
pub fn print(graph: &Graph) -> String {
    let mut printer = Printer { text: String::new(), data: Some(Vec::new()) };
    printer.graph(graph, 0);
    for (number, tensor) in printer.data.take().into_iter().flatten().enumerate() {
        let lines = constant::encode(tensor.bytes());
        printer.text.push_str(&format!("\ndata {number} \"\n{lines}\"\n"));
    }
    printer.text
}

/// The graph for people: the elements of large constants are left out.
pub fn abbreviate(graph: &Graph) -> String {
    let mut printer = Printer { text: String::new(), data: None };
    printer.graph(graph, 0);
    printer.text
}

/// An operation with its attributes, as `Unary(f: Relu)`; of a constant, its type alone.
pub fn print_operation(op: &Op) -> String {
    if let Op::Constant(constant) = op {
        return format!("Constant {}", crate::TensorType::of(&constant.tensor));
    }
    let pretty = ron::ser::PrettyConfig::new().depth_limit(0).struct_names(false);
    // Attributes are plain data, which this notation has a form for.
    attribute_notation().to_string_pretty(op, pretty).unwrap_or_else(|error| error.to_string())
}

/// As [`print()`] does.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self))
    }
}

struct Printer {
    text: String,
    /// Constants for the end of the text, unless they are left out.
    data: Option<Vec<Tensor>>,
}

impl Printer {
    fn line(&mut self, depth: usize, text: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn graph(&mut self, graph: &Graph, depth: usize) {
        self.line(depth, &format!("graph {} {{", quoted(&graph.name)));
        if !graph.symbols.is_empty() {
            let symbols = graph.symbols.iter();
            let symbols = symbols.map(|(symbol, bounds)| format!("{symbol}: {bounds}"));
            self.line(depth + 1, &format!("symbols {}", symbols.collect::<Vec<_>>().join(", ")));
        }
        // Values are numbered in the order in which they were made, inputs among the nodes.
        let mut number = 0;
        let mut nodes = graph.nodes();
        while number < graph.value_count() {
            let id = ValueId(number as u32);
            match graph.value(id).producer {
                Producer::Input(_) => {
                    self.line(depth + 1, &format!("{} = input", defined(graph, id)));
                    number += 1;
                }
                Producer::Node { .. } => {
                    let Some((_, node)) = nodes.next() else { break };
                    self.node(graph, node, depth + 1);
                    number += node.outputs.len();
                }
            }
        }
        nodes.for_each(|(_, node)| self.node(graph, node, depth + 1));
        let outputs = graph.outputs().iter().zip(graph.output_names());
        let outputs = outputs.map(|(id, name)| format!("%{} as {}", id.0, quoted(name)));
        let outputs: Vec<String> = outputs.collect();
        self.line(depth + 1, format!("return {}", outputs.join(", ")).trim_end());
        self.line(depth, "}");
    }

    fn node(&mut self, graph: &Graph, node: &Node, depth: usize) {
        let results: Vec<String> = node.outputs.iter().map(|&id| defined(graph, id)).collect();
        let operation = match &node.op {
            Op::Constant(constant) => self.constant(&constant.tensor),
            op => print_operation(op),
        };
        let mut line = format!("{} = {operation}", results.join(", ")).trim_start().to_owned();
        let operands: Vec<String> = node.inputs.iter().map(|id| format!("%{}", id.0)).collect();
        if !operands.is_empty() {
            line.push_str(&format!(" {}", operands.join(", ")));
        }
        if let Some(source) = &node.source {
            line.push_str(&format!(" from {}", quoted(source)));
        }
        self.line(depth, &line);
        node.regions.iter().for_each(|region| self.graph(region, depth + 1));
    }

    fn constant(&mut self, tensor: &Tensor) -> String {
        if let Some(elements) = constant::inline(tensor) {
            return format!("Constant {elements}");
        }
        match &mut self.data {
            Some(data) => {
                data.push(tensor.clone());
                format!("Constant data {}", data.len() - 1)
            }
            None => "Constant …".to_owned(),
        }
    }
}

/// `%3 "name": f32[2]`
fn defined(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    let name = value.name.as_ref().map(|name| format!(" {}", quoted(name))).unwrap_or_default();
    format!("%{}{name}: {}", id.0, value.ty)
}
