//! The rules that every graph keeps, checked: between passes in tests, and of whatever was made
//! by hand.
//!
//! Invariant: a graph that passes can be evaluated, printed and compiled without further checks
//! of its form.

use crate::graph::{Graph, NodeId, Producer, TensorType, ValueId};
use crate::op::OpError;
use kiln_tensor::{Dim, Symbol};
use std::collections::BTreeSet;
use thiserror::Error;

/// Which rule a graph breaks.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum VerifyError {
    /// An operand, a result or an output is not a value of the graph.
    #[error("{place} refers to value %{value}, which does not exist")]
    UnknownValue {
        /// Who refers to it.
        place: String,
        /// The value.
        value: u32,
    },
    /// An operand is computed after it is used.
    #[error("node {node} ({op}) uses value %{value} before it is computed")]
    Order {
        /// The node.
        node: u32,
        /// Its operation.
        op: &'static str,
        /// The value.
        value: u32,
    },
    /// A value does not say of itself what the graph says of it.
    #[error("value %{value} is not the {expected} that it claims to be")]
    Producer {
        /// The value.
        value: u32,
        /// What it claims to be.
        expected: String,
    },
    /// An operation does not accept its operands.
    #[error("node {node} ({op}): {error}")]
    Inference {
        /// The node.
        node: u32,
        /// Its operation.
        op: &'static str,
        /// What is wrong.
        error: OpError,
    },
    /// A value does not have the type that its operation gives it.
    #[error("value %{value} is {actual}, but its operation gives {expected}")]
    Type {
        /// The value.
        value: u32,
        /// The type that follows from the operands.
        expected: TensorType,
        /// The type that it has.
        actual: TensorType,
    },
    /// A symbol is used that no table has.
    #[error("symbol `{symbol}` of {place} is not declared")]
    Symbol {
        /// Who uses it.
        place: String,
        /// The symbol.
        symbol: Symbol,
    },
    /// The bounds of a symbol exclude every value.
    #[error("symbol `{0}` has bounds that no value meets")]
    Bounds(Symbol),
    /// Two inputs or two outputs share a name, or one has none.
    #[error("{kind} {number} has {}", name_problem(.name))]
    Name {
        /// `input` or `output`.
        kind: &'static str,
        /// Which.
        number: usize,
        /// The name, if it has one.
        name: Option<String>,
    },
    /// There are not as many names of outputs as outputs.
    #[error("there are {outputs} outputs and {names} names for them")]
    OutputNames {
        /// Outputs.
        outputs: usize,
        /// Names.
        names: usize,
    },
    /// A body breaks a rule.
    #[error("body {body} of node {node} ({op}): {error}")]
    Body {
        /// The node.
        node: u32,
        /// Its operation.
        op: &'static str,
        /// Which of its bodies.
        body: usize,
        /// The rule.
        error: Box<VerifyError>,
    },
}

fn name_problem(name: &Option<String>) -> String {
    match name {
        Some(name) => format!("the name `{name}`, which is taken already"),
        None => "no name".to_owned(),
    }
}

/// The first rule that the graph breaks, if it breaks one.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    Check { graph, visible: graph.symbols.keys().cloned().collect() }.all()
}

struct Check<'g> {
    graph: &'g Graph,
    /// Symbols of this graph and of those around it.
    visible: BTreeSet<Symbol>,
}

impl Check<'_> {
    fn all(&self) -> Result<(), VerifyError> {
        let mut bounds = self.graph.symbols.iter();
        let empty = bounds.find(|(_, bounds)| bounds.max.is_some_and(|max| max < bounds.min));
        if let Some((symbol, _)) = empty {
            return Err(VerifyError::Bounds(symbol.clone()));
        }
        self.inputs()?;
        let mut computed: BTreeSet<ValueId> = self.graph.inputs.iter().copied().collect();
        for number in 0..self.graph.nodes.len() {
            self.node(NodeId(number as u32), &mut computed)?;
        }
        if computed.len() != self.graph.values.len() {
            let missing = (0..self.graph.values.len() as u32).map(ValueId);
            let value = missing.into_iter().find(|id| !computed.contains(id)).map_or(0, |id| id.0);
            let expected = "result of a node".to_owned();
            return Err(VerifyError::Producer { value, expected });
        }
        self.outputs()
    }

    fn inputs(&self) -> Result<(), VerifyError> {
        let mut names = BTreeSet::new();
        for (number, &id) in self.graph.inputs.iter().enumerate() {
            self.exists(id, || format!("input {number}"))?;
            let value = self.graph.value(id);
            if value.producer != Producer::Input(number) {
                let expected = format!("input {number}");
                return Err(VerifyError::Producer { value: id.0, expected });
            }
            self.declared(&value.ty.shape, || format!("input {number}"))?;
            let name = value.name.as_deref();
            if name.is_none_or(|name| !names.insert(name)) {
                let name = name.map(str::to_owned);
                return Err(VerifyError::Name { kind: "input", number, name });
            }
        }
        Ok(())
    }

    fn outputs(&self) -> Result<(), VerifyError> {
        let (outputs, names) = (&self.graph.outputs, &self.graph.output_names);
        if outputs.len() != names.len() {
            let (outputs, names) = (outputs.len(), names.len());
            return Err(VerifyError::OutputNames { outputs, names });
        }
        let mut seen = BTreeSet::new();
        for (number, (&id, name)) in outputs.iter().zip(names).enumerate() {
            self.exists(id, || format!("output {number}"))?;
            if name.is_empty() || !seen.insert(name) {
                let name = (!name.is_empty()).then(|| name.to_string());
                return Err(VerifyError::Name { kind: "output", number, name });
            }
        }
        Ok(())
    }

    fn node(&self, id: NodeId, computed: &mut BTreeSet<ValueId>) -> Result<(), VerifyError> {
        let node = self.graph.node(id);
        let op = node.op.name();
        let place = || format!("node {} ({op})", id.0);
        for &input in &node.inputs {
            self.exists(input, place)?;
            if !computed.contains(&input) {
                return Err(VerifyError::Order { node: id.0, op, value: input.0 });
            }
        }
        let mut attributes = node.op.clone();
        let dims: Vec<Dim> = attributes.dims_mut().into_iter().map(|dim| dim.clone()).collect();
        // The length of a loop's results is declared with their types.
        self.declared(&dims, place)?;
        for (body, region) in node.regions.iter().enumerate() {
            let own = region.symbols.keys().cloned();
            let visible = self.visible.iter().cloned().chain(own).collect();
            Check { graph: region, visible }.all().map_err(|error| VerifyError::Body {
                node: id.0,
                op,
                body,
                error: Box::new(error),
            })?;
        }
        let types: Vec<&TensorType> = node.inputs.iter().map(|&id| self.graph.ty(id)).collect();
        let inferred = node.op.infer(&types, &node.regions);
        let inferred =
            inferred.map_err(|error| VerifyError::Inference { node: id.0, op, error })?;
        if inferred.len() != node.outputs.len() {
            let message =
                format!("gives {} results, but has {}", inferred.len(), node.outputs.len());
            let error = OpError::new(message);
            return Err(VerifyError::Inference { node: id.0, op, error });
        }
        for (number, (&output, expected)) in node.outputs.iter().zip(inferred).enumerate() {
            self.exists(output, place)?;
            let value = self.graph.value(output);
            let claimed = Producer::Node { node: id, output: number };
            if value.producer != claimed || !computed.insert(output) {
                let expected = format!("result {number} of node {}", id.0);
                return Err(VerifyError::Producer { value: output.0, expected });
            }
            if value.ty != expected {
                let actual = value.ty.clone();
                return Err(VerifyError::Type { value: output.0, expected, actual });
            }
            self.declared(&value.ty.shape, || format!("value %{}", output.0))?;
        }
        Ok(())
    }

    fn exists(&self, id: ValueId, place: impl FnOnce() -> String) -> Result<(), VerifyError> {
        if (id.0 as usize) < self.graph.values.len() {
            return Ok(());
        }
        Err(VerifyError::UnknownValue { place: place(), value: id.0 })
    }

    fn declared(&self, dims: &[Dim], place: impl FnOnce() -> String) -> Result<(), VerifyError> {
        let mut symbols = BTreeSet::new();
        dims.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
        match symbols.into_iter().find(|symbol| !self.visible.contains(symbol)) {
            Some(symbol) => Err(VerifyError::Symbol { place: place(), symbol }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    type Breaking = fn(&mut Graph);

    fn small() -> Graph {
        let text = "graph \"g\" {\n symbols n: 0..\n %0 \"x\": f32[n, 2] = input\n\
            %1: f32[n, 2] = Unary(f: Neg) %0\n %2: f32[n, 2] = Binary(f: Add) %0, %1\n\
            %3: f32[n, 2] = Fused(label: \"b\") %2\n graph \"body\" {\n symbols n: 0..\n\
            %0 \"x\": f32[n, 2] = input\n return %0 as \"y\" }\n return %2 as \"y\", %3 as \"z\" }";
        text.parse().unwrap()
    }

    #[test]
    fn graphs_that_were_built_keep_the_rules() {
        verify(&small()).unwrap();
        for seed in 0..200 {
            verify(&random::graph(seed, 25)).unwrap();
        }
    }

    #[test]
    fn every_broken_rule_is_found() {
        let cases: [(&str, Breaking); 12] = [
            ("output 0 refers to value %99, which does not exist", |g| {
                g.outputs[0] = ValueId(99);
            }),
            ("node 0 (Unary) uses value %2 before it is computed", |g| {
                g.nodes[0].inputs[0] = ValueId(2);
            }),
            ("node 0 (Unary) refers to value %7, which does not exist", |g| {
                g.nodes[0].inputs[0] = ValueId(7);
            }),
            ("value %0 is not the input 0 that it claims to be", |g| {
                g.values[0].producer = Producer::Input(3);
            }),
            ("value %1 is not the result 0 of node 1 that it claims to be", |g| {
                g.nodes[1].outputs[0] = ValueId(1);
            }),
            ("value %2 is f32[n], but its operation gives f32[n, 2]", |g| {
                g.values[2].ty.shape.pop();
            }),
            ("node 0 (Unary): takes 1 operand, got 0", |g| {
                g.nodes[0].inputs.clear();
            }),
            ("symbol `n` of input 0 is not declared", |g| g.symbols.clear()),
            ("symbol `n` has bounds that no value meets", |g| {
                g.symbols.values_mut().for_each(|bounds| bounds.max = Some(-1));
            }),
            ("output 1 has the name `y`, which is taken already", |g| {
                g.output_names[1] = "y".into();
            }),
            ("there are 2 outputs and 1 names for them", |g| {
                g.output_names.pop();
            }),
            ("body 0 of node 2 (Fused): output 0 refers to value %5, which does not exist", |g| {
                g.nodes[2].regions[0].outputs[0] = ValueId(5)
            }),
        ];
        for (expected, break_rule) in cases {
            let mut graph = small();
            break_rule(&mut graph);
            assert_eq!(verify(&graph).unwrap_err().to_string(), expected);
        }
    }
}
