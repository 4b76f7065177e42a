//! A picture of what optimising did to a graph: before, its nodes grouped by the kernels that they became a
//! part of, and after, the fused kernels with their bodies.
//!
//! Invariant: shows the graphs as they are; which nodes became which kernel is told by the names of the
//! model's nodes alone, so what has no name is in no group.

use kiln_ir::Graph;
use kiln_ir::op::Op;
use kiln_ir::text::{Cluster, Drawing, draw};
use std::collections::{BTreeMap, BTreeSet};

/// Graphviz text of a graph before and after it was optimised.
pub fn picture(before: &Graph, after: &Graph) -> String {
    let title = |when: &str, graph: &Graph| format!("{} {when}", graph.name);
    draw(&[
        Drawing {
            title: title("before", before),
            graph: before,
            clusters: by_kernels(before, after),
        },
        Drawing { title: title("after", after), graph: after, clusters: Vec::new() },
    ])
}

/// Nodes by the first fused kernel that came from nodes of their names.
fn by_kernels(before: &Graph, after: &Graph) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut kernels: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in after.nodes() {
        let (Op::Fused(fused), Some(source)) = (&node.op, &node.source) else { continue };
        for name in source.split(", ") {
            kernels.entry(name).or_insert(clusters.len());
        }
        clusters.push(Cluster { label: fused.label.clone(), nodes: BTreeSet::new() });
    }
    for (id, node) in before.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_))) {
        if let Some(number) = kernel_of(&kernels, node.source.as_deref()) {
            clusters[number].nodes.insert(id);
        }
    }
    clusters.retain(|cluster| !cluster.nodes.is_empty());
    clusters
}

fn kernel_of(kernels: &BTreeMap<&str, usize>, source: Option<&str>) -> Option<usize> {
    let mut names = source?.split(", ");
    names.find_map(|name| kernels.get(name).copied())
}
