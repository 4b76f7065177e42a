//! Pictures of graphs, read again.
//!
//! Invariant: what is drawn is well-formed, whatever the names of nodes are; every operation is in it once,
//! and every edge joins nodes that are drawn.

use crate::networks;
use kiln_ir::op::{Op, Unary, UnaryFn};
use kiln_ir::text::{Drawing, draw};
use kiln_ir::{Graph, TensorType, random, verify};
use kiln_passes::{CostModel, EGraphOptions, optimise, picture, simplify};
use kiln_tensor::{DType, Dim};

/// What a picture holds.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    nodes: Vec<String>,
    /// The label of each node, in the same order.
    labels: Vec<String>,
    clusters: Vec<String>,
    edges: Vec<(String, String)>,
}

/// The words of a picture: names, quoted strings without their quotes, and signs.
fn words(text: &str) -> Vec<(char, String)> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '"' => {
                let mut string = String::new();
                loop {
                    match rest.next().expect("a string ends") {
                        '"' => break,
                        '\\' => string.push(match rest.next().expect("an escape ends") {
                            'n' => '\n',
                            other => other,
                        }),
                        '\n' => panic!("a string goes on in the next line"),
                        c => string.push(c),
                    }
                }
                words.push(('"', string));
            }
            '-' if rest.peek() == Some(&'>') => {
                rest.next();
                words.push(('>', String::new()));
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut name = String::from(c);
                while let Some(&c) = rest.peek().filter(|c| c.is_ascii_alphanumeric() || **c == '_')
                {
                    name.push(c);
                    rest.next();
                }
                words.push(('a', name));
            }
            c if "{}[]=,;".contains(c) => words.push((c, String::new())),
            c => panic!("{c:?} between words"),
        }
    }
    words
}

struct Reader {
    words: std::iter::Peekable<std::vec::IntoIter<(char, String)>>,
    seen: Seen,
}

impl Reader {
    /// The next word, which is of this kind.
    fn take(&mut self, kind: char) -> String {
        let (found, word) = self.words.next().expect("the picture ends early");
        assert_eq!(found, kind, "at `{word}`, after {:?}", self.seen.nodes.last());
        word
    }

    fn next_is(&mut self, kind: char) -> bool {
        self.words.peek().is_some_and(|(found, _)| *found == kind)
    }

    /// Statements up to the brace that ends them.
    fn statements(&mut self) {
        while !self.next_is('}') {
            let name = self.take('a');
            if name == "subgraph" {
                let cluster = self.take('a');
                assert!(cluster.starts_with("cluster"), "{cluster}");
                self.take('{');
                self.statements();
                continue;
            }
            if self.next_is('=') {
                self.take('=');
                let value = if self.next_is('"') { self.take('"') } else { self.take('a') };
                if name == "label" {
                    self.seen.clusters.push(value);
                }
            } else if self.next_is('>') {
                self.take('>');
                let to = self.take('a');
                self.seen.edges.push((name, to));
            } else {
                let label = self.attributes();
                if !["node", "graph", "edge"].contains(&name.as_str()) {
                    self.seen.nodes.push(name);
                    self.seen.labels.push(label.expect("a label"));
                }
            }
            self.take(';');
        }
        self.take('}');
    }

    fn attributes(&mut self) -> Option<String> {
        let mut label = None;
        self.take('[');
        loop {
            let name = self.take('a');
            self.take('=');
            let value = if self.next_is('"') { self.take('"') } else { self.take('a') };
            if name == "label" {
                label = Some(value);
            }
            if !self.next_is(',') {
                break;
            }
            self.take(',');
        }
        self.take(']');
        label
    }
}

fn read(text: &str) -> Seen {
    let words = words(text).into_iter().peekable();
    let mut reader = Reader { words, seen: Seen::default() };
    assert_eq!(reader.take('a'), "digraph");
    reader.take('"');
    reader.take('{');
    reader.statements();
    assert_eq!(reader.words.next(), None, "something after the picture");
    let seen = reader.seen;
    let mut names = seen.nodes.clone();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), seen.nodes.len(), "a node is drawn twice");
    for (from, to) in &seen.edges {
        assert!(
            names.binary_search(from).is_ok() && names.binary_search(to).is_ok(),
            "{from} {to}"
        );
    }
    seen
}

/// How many operations a graph and its bodies have, fused nodes and constants aside.
fn operations(graph: &Graph) -> usize {
    let of = |node: &kiln_ir::Node| {
        let drawn = !matches!(node.op, Op::Constant(_) | Op::Fused(_));
        usize::from(drawn) + node.regions.iter().map(operations).sum::<usize>()
    };
    graph.nodes().map(|(_, node)| of(node)).sum()
}

fn optimised(graph: &Graph) -> Graph {
    optimise(graph, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap().0
}

fn is_drawn(seen: &Seen, graphs: &[&Graph]) {
    let is_operation = |name: &&String| name.rsplit('_').next().is_some_and(|n| n.starts_with('n'));
    let drawn = seen.nodes.iter().filter(is_operation).count();
    assert_eq!(drawn, graphs.iter().map(|graph| operations(graph)).sum::<usize>());
}

/// A network whose nodes have the names of a model's.
fn named(graph: &Graph) -> Graph {
    let mut named = Graph::new(graph.name.clone());
    named.symbols = graph.symbols.clone();
    let mut map = vec![None; graph.value_count()];
    for &input in graph.inputs() {
        let name = graph.value(input).name.clone().unwrap();
        map[input.0 as usize] = Some(named.input(name, graph.ty(input).clone()));
    }
    for (id, node) in graph.nodes() {
        let inputs: Vec<_> =
            node.inputs.iter().map(|input| map[input.0 as usize].unwrap()).collect();
        let name = format!("/node \"{}\"\\{}", node.op.name(), id.0);
        let made = named.add_node(node.op.clone(), &inputs, Vec::new(), Some(name.into())).unwrap();
        node.outputs.iter().zip(made).for_each(|(old, new)| map[old.0 as usize] = Some(new));
    }
    for (&output, name) in graph.outputs().iter().zip(graph.output_names()) {
        named.output(map[output.0 as usize].unwrap(), name.clone()).unwrap();
    }
    named
}

#[test]
fn every_fused_node_is_a_cluster_before_and_after() {
    let before = simplify(&named(&networks::models::encoder(2, 32, 2))).unwrap();
    let after = optimised(&before);
    let seen = read(&picture(&before, &after));
    is_drawn(&seen, &[&before, &after]);
    let mut fused = 0;
    for (_, node) in after.nodes() {
        let Op::Fused(of) = &node.op else { continue };
        let (label, source) = (&of.label, node.source.as_deref().unwrap());
        assert!(seen.clusters.contains(&format!("{label}\n{source}")), "{label} after");
        assert!(seen.clusters.contains(label), "{label} before");
        fused += 1;
    }
    assert_eq!(seen.clusters.len(), 2 + 2 * fused, "{:?}", seen.clusters);
}

#[test]
fn what_stands_in_names_ends_no_string() {
    let name = "\"];\n} \\ \\\" \u{1} ü <b>";
    let mut graph = Graph::new(name);
    let x = graph.input(name, TensorType::new(DType::F32, vec![Dim::named("n")]));
    let relu = Unary { f: UnaryFn::Relu }.into();
    let y = graph.add_node(relu, &[x], Vec::new(), Some(name.into())).unwrap();
    graph.output(y[0], name).unwrap();
    let seen = read(&draw(&[Drawing { title: name.into(), graph: &graph, clusters: Vec::new() }]));
    let shown = name.replace('\u{1}', " ");
    assert_eq!(seen.clusters, std::slice::from_ref(&shown));
    assert_eq!(seen.labels[1], format!("Unary(f: Relu)\nf32[n]\n{shown}"));
    assert_eq!(seen.edges.len(), 2);
}

#[test]
fn random_graphs_are_drawn_with_their_bodies() {
    for seed in 0..200 {
        let graph = random::graph(seed, 4 + seed as usize % 12);
        if verify(&graph).is_err() {
            continue;
        }
        let seen =
            read(&draw(&[Drawing { title: "".into(), graph: &graph, clusters: Vec::new() }]));
        is_drawn(&seen, &[&graph]);
        let simple = simplify(&graph).unwrap();
        let after = optimised(&simple);
        is_drawn(&read(&picture(&simple, &after)), &[&simple, &after]);
    }
}
