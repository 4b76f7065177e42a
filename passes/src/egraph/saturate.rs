//! One region: saturated with the rules of a round, and the cheapest way to compute it extracted.
//!
//! Invariant: stops on counts of nodes and iterations alone.

use super::cost::{CostModel, channels_first};
use super::explain;
use super::extract::{Price, Table, extract, extract_from, extract_greedily};
use super::fused::{Kind, kind};
use super::language::{Head, Knowledge, TensorGraph, TensorNode, load};
use super::magnitude::Magnitude;
use super::report::{RegionReport, Round};
use super::rule::{Ledger, Rule};
use super::{EGraphOptions, Effort, grow};
use crate::PassError;
use crate::layout::{has_channels_last, moves_channels};
use egg::{Id, Language};
use kiln_ir::op::{ConvLayout, Op};
use kiln_ir::{Graph, TensorType, ValueId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Share of its price that a transpose is counted with where it will not be a kernel. At the edge
/// of a region that convolves, the region on the other side mostly makes the opposite change of
/// layout, and the two cancel. Beside a core, whole rows are read or written where they are.
const EDGE: f64 = 0.05;
/// How much dearer what a start is to avoid is made.
const AVOIDED: f64 = 100.0;

/// The optimised region, and what was done to it.
pub(super) fn saturate(
    region: &Graph,
    constant: &[Option<Magnitude>],
    rules: &[Rule],
    round: Round,
    options: &EGraphOptions,
    cost: &CostModel,
    number: usize,
) -> Result<(Graph, RegionReport), PassError> {
    let missing = PassError::NoExtraction { region: number };
    let mut egraph = TensorGraph::new(Knowledge::default());
    let classes = load(&mut egraph, region, constant).ok_or_else(|| missing.clone())?;
    let roots: Vec<Id> = region.outputs().iter().map(|output| classes[output.0 as usize]).collect();
    let (_, cost_before) = {
        let price = Prices::of(&egraph, &roots, round, cost);
        extract(&egraph, &roots, &|g, id, node| price.of_node(g, id, node))
            .ok_or_else(|| missing.clone())?
    };

    let limit = match round {
        Round::Rewrite | Round::Join => options.iteration_limit,
        Round::Fuse => grow::MAX_MEMBERS,
    };
    let mut ledger = Ledger::new(options.node_limit);
    'iterations: for _ in 0..limit {
        let mut any = false;
        for rule in rules {
            if egraph.total_number_of_nodes() >= options.node_limit {
                break 'iterations;
            }
            any |= rule.apply(&mut egraph, &mut ledger) > 0;
        }
        if !any {
            break;
        }
    }

    let price = Prices::of(&egraph, &roots, round, cost);
    let plain = |g: &TensorGraph, id: Id, node: &TensorNode| price.of_node(g, id, node);
    let last = |g: &TensorGraph, id: Id, node: &TensorNode| price.with_channels_last(g, id, node);
    let joined = |g: &TensorGraph, id: Id, node: &TensorNode| price.with_joined(g, id, node);
    let starts: &[&Price] = match round {
        Round::Rewrite | Round::Fuse if price.convolves => &[&last],
        Round::Join if !ledger.fired.is_empty() => &[&joined],
        _ => &[],
    };
    let extracted = match options.effort {
        Effort::Off | Effort::Greedy => extract_greedily(&egraph, &roots, &plain),
        Effort::Full => extract_from(&egraph, &roots, &plain, starts),
    };
    let (choice, cost_after) = extracted.ok_or_else(|| missing.clone())?;
    let mut graph = Graph::new(region.name.clone());
    let inputs: Vec<ValueId> = region
        .inputs()
        .iter()
        .map(|&input| {
            let value = region.value(input);
            graph.input(value.name.clone().unwrap_or_else(|| Arc::from("")), value.ty.clone())
        })
        .collect();
    graph.symbols = region.symbols.clone();
    let error = |error| PassError::Graph { pass: "extract", error };
    let values = choice.build(&egraph, &roots, &mut graph, &inputs).map_err(error)?;
    let values = values.ok_or(missing)?;
    for (value, name) in values.into_iter().zip(region.output_names()) {
        graph.output(value, name.clone()).map_err(error)?;
    }
    let (decisions, more_decisions) = if options.explain {
        let table = Table::of(&egraph, &roots, &plain);
        explain::decisions(&egraph, &table, &table.picks(&egraph, &choice))
    } else {
        (Vec::new(), 0)
    };
    let report = RegionReport {
        round,
        nodes: region.nodes().len(),
        sources: Vec::new(),
        same_as: None,
        fired: ledger.fired,
        e_nodes: egraph.total_number_of_nodes(),
        cost_before,
        cost_after,
        decisions,
        more_decisions,
    };
    Ok((graph, report))
}

/// Prices of e-nodes in one region.
struct Prices<'a> {
    round: Round,
    cost: &'a CostModel,
    roots: BTreeSet<Id>,
    convolves: bool,
}

impl<'a> Prices<'a> {
    fn of(egraph: &TensorGraph, roots: &[Id], round: Round, cost: &'a CostModel) -> Self {
        let convolves = egraph
            .classes()
            .flat_map(|class| &class.nodes)
            .any(|node| egraph.analysis.op(node.op).is_some_and(has_channels_last));
        let roots = roots.iter().map(|&root| egraph.find(root)).collect();
        Prices { round, cost, roots, convolves }
    }

    fn of_node(&self, egraph: &TensorGraph, class: Id, node: &TensorNode) -> f64 {
        let Head::Op(op, bodies) = egraph.analysis.head(node.op) else { return 0.0 };
        let facts = &egraph[class].data;
        let children = node.children();
        if facts.constant && children.iter().all(|&child| egraph[child].data.constant) {
            // Folded before the model runs: shorter is better, and that is all.
            return self.cost.overhead * 1e-6;
        }
        let types: Vec<&TensorType> =
            children.iter().map(|&child| &egraph[child].data.ty).collect();
        match self.round {
            Round::Fuse => self.cost.kernel(op, bodies, &types, &facts.ty),
            Round::Join if matches!(op, Op::Slice(_)) && is_taken_in(egraph, class) => {
                self.cost.view()
            }
            Round::Rewrite | Round::Join => {
                let price = self.cost.unfused(op, bodies, &types, &facts.ty);
                let carried = self.at_edge(egraph, class, op, children)
                    || in_stride(egraph, class, op, children);
                if carried { EDGE * price } else { price }
            }
        }
    }

    /// The price if layouts changed for nothing and all channels had to be last.
    fn with_channels_last(&self, egraph: &TensorGraph, class: Id, node: &TensorNode) -> f64 {
        let price = self.of_node(egraph, class, node);
        match egraph.analysis.op(node.op) {
            Some(Op::Transpose(transpose)) if moves_channels(&transpose.perm).is_some() => 0.0,
            Some(Op::Conv(conv)) if conv.layout == ConvLayout::ChannelsFirst => AVOIDED * price,
            Some(Op::Contract(contract)) if channels_first(&contract.spec) => AVOIDED * price,
            _ => price,
        }
    }

    /// The price if all that can be a part of a joined product had to be.
    fn with_joined(&self, egraph: &TensorGraph, class: Id, node: &TensorNode) -> f64 {
        let price = self.of_node(egraph, class, node);
        let is_slice =
            |node: &TensorNode| matches!(egraph.analysis.op(node.op), Some(Op::Slice(_)));
        let avoided = !is_slice(node) && egraph[class].nodes.iter().any(is_slice);
        if avoided { AVOIDED * price } else { price }
    }

    /// Whether a node only changes the layout of something that another region computes or uses.
    fn at_edge(&self, egraph: &TensorGraph, class: Id, op: &Op, children: &[Id]) -> bool {
        let Op::Transpose(transpose) = op else { return false };
        let outside = |id: Id| {
            egraph[id].nodes.iter().any(|n| matches!(egraph.analysis.head(n.op), Head::Input(_)))
        };
        self.convolves
            && moves_channels(&transpose.perm).is_some()
            && (self.roots.contains(&class) || children.iter().any(|&child| outside(child)))
    }
}

/// Whether all that use a class read it where it is, if it is a part of something. (A reshape does not, but
/// where it may stand before the slice the slice behind it is another class.)
fn is_taken_in(egraph: &TensorGraph, class: Id) -> bool {
    let reads = |node: &TensorNode| match egraph.analysis.op(node.op) {
        Some(Op::Reshape(_)) | None => false,
        Some(op) => kind(op) != Kind::Alone,
    };
    egraph[class].parents().all(|user| {
        let user = &egraph[egraph.find(user)];
        user.nodes
            .iter()
            .any(|node| reads(node) && node.children().iter().any(|&id| egraph.find(id) == class))
    })
}

/// Whether a node is a transpose that keeps rows whole, right after or before an operation whose
/// kernel takes it in.
fn in_stride(egraph: &TensorGraph, class: Id, op: &Op, children: &[Id]) -> bool {
    let Op::Transpose(transpose) = op else { return false };
    if transpose.perm.last().is_none_or(|&last| last + 1 != transpose.perm.len()) {
        return false;
    }
    let is_core = |node: &TensorNode| matches!(egraph.analysis.op(node.op), Some(op) if kind(op) == Kind::Anchored);
    let after = children.iter().any(|&child| egraph[child].nodes.iter().any(is_core));
    after
        || egraph[class].parents().any(|parent| {
            let parent = &egraph[egraph.find(parent)];
            parent.nodes.iter().any(|node| {
                is_core(node) && node.children().iter().any(|&id| egraph.find(id) == class)
            })
        })
}
