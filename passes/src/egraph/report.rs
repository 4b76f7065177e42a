//! What the e-graph did: for `kiln inspect --at egraph`.
//!
//! Invariant: a region that equals an earlier one refers to it, and nothing is counted twice.

use kiln_ir::Graph;
use std::collections::BTreeMap;
use std::fmt;

/// Which of the two rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// What is computed: algebra, recognition, layout.
    Rewrite,
    /// What is fused.
    Fuse,
}

/// What was done to one region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionReport {
    /// In which round.
    pub round: Round,
    /// Number of its nodes before.
    pub nodes: usize,
    /// The number of the equal region that was done before.
    pub same_as: Option<usize>,
    /// How often each rule put something new into the e-graph.
    pub fired: BTreeMap<&'static str, usize>,
    /// Size of the e-graph at the end.
    pub e_nodes: usize,
    /// Predicted seconds before.
    pub cost_before: f64,
    /// Predicted seconds after.
    pub cost_after: f64,
}

impl RegionReport {
    pub(super) fn same_as(round: Round, first: usize, graph: &Graph) -> Self {
        RegionReport {
            round,
            nodes: graph.nodes().len(),
            same_as: Some(first),
            fired: BTreeMap::new(),
            e_nodes: 0,
            cost_before: 0.0,
            cost_after: 0.0,
        }
    }
}

/// What was done to every region, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Regions of the first round, then of the second.
    pub regions: Vec<RegionReport>,
}

impl Report {
    /// How many regions were equal to an earlier one.
    pub fn identical(&self) -> usize {
        self.regions.iter().filter(|region| region.same_as.is_some()).count()
    }

    /// How often each rule fired in all regions together.
    pub fn fired(&self) -> BTreeMap<&'static str, usize> {
        let mut total = BTreeMap::new();
        for (name, count) in self.regions.iter().flat_map(|region| &region.fired) {
            *total.entry(*name).or_insert(0) += count;
        }
        total
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, region) in self.regions.iter().enumerate() {
            let round = match region.round {
                Round::Rewrite => "rewrite",
                Round::Fuse => "fuse",
            };
            write!(f, "region {number} ({round}, {} nodes)", region.nodes)?;
            if let Some(first) = region.same_as {
                writeln!(f, ": as region {first}")?;
                continue;
            }
            writeln!(
                f,
                ": {} e-nodes, {:.1} µs to {:.1} µs",
                region.e_nodes,
                region.cost_before * 1e6,
                region.cost_after * 1e6
            )?;
            for (name, count) in &region.fired {
                writeln!(f, "  {name} ×{count}")?;
            }
        }
        write!(
            f,
            "{} regions, {} of them identical to another",
            self.regions.len(),
            self.identical()
        )
    }
}
