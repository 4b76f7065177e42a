//! What the e-graph did, where, and what other choices would have cost: for `kiln inspect --at egraph`.
//!
//! Invariant: a region that equals an earlier one refers to it, and nothing is counted twice.

use crate::region::Region;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Which of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// What is computed: algebra, recognition, layout.
    Rewrite,
    /// Which products are one.
    Join,
    /// What is fused.
    Fuse,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Round::Rewrite => "rewrite",
            Round::Join => "join",
            Round::Fuse => "fuse",
        })
    }
}

/// How often something happened at each of the model's nodes, by their names; those without a name are
/// counted under an empty one.
pub type Places = BTreeMap<Arc<str>, usize>;

/// What was done to one region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionReport {
    /// In which round.
    pub round: Round,
    /// Number of its nodes before.
    pub nodes: usize,
    /// Names of the model's nodes that it came from, first to last.
    pub sources: Vec<Arc<str>>,
    /// The number of the equal region that was done before.
    pub same_as: Option<usize>,
    /// How often, and where, each rule put something new into the e-graph.
    pub fired: BTreeMap<&'static str, Places>,
    /// Size of the e-graph at the end.
    pub e_nodes: usize,
    /// Predicted seconds before.
    pub cost_before: f64,
    /// Predicted seconds after.
    pub cost_after: f64,
    /// Choices that were closest, in the order in which values are computed; none unless asked for.
    pub decisions: Vec<Decision>,
    /// How many more choices there were.
    pub more_decisions: usize,
}

/// An operation that was chosen though there were others.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The model's nodes that it stands for, or nothing.
    pub at: Arc<str>,
    /// The operation.
    pub what: String,
    /// Predicted seconds of the operation alone.
    pub price: f64,
    /// The cheapest of the others.
    pub others: Vec<Alternative>,
}

/// An operation that was not chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// The operation.
    pub what: String,
    /// Predicted seconds of the operation alone.
    pub price: f64,
    /// Predicted seconds of the whole region with this operation and what suits it best, as far as a
    /// search from the choice that was made finds it.
    pub total: f64,
}

/// Names beyond this many are counted.
const MOST_NAMES: usize = 6;

impl RegionReport {
    pub(super) fn same_as(round: Round, first: usize, region: &Region) -> Self {
        RegionReport {
            round,
            nodes: region.graph.nodes().len(),
            sources: names(region),
            same_as: Some(first),
            fired: BTreeMap::new(),
            e_nodes: 0,
            cost_before: 0.0,
            cost_after: 0.0,
            decisions: Vec::new(),
            more_decisions: 0,
        }
    }

    /// The report with the model's names for the numbers of the region's nodes.
    pub(super) fn named(mut self, region: &Region) -> Self {
        let name = |numbers: &str| region.source(numbers).unwrap_or_default();
        self.sources = names(region);
        for places in self.fired.values_mut() {
            let mut named = Places::new();
            for (numbers, count) in std::mem::take(places) {
                *named.entry(name(&numbers)).or_default() += count;
            }
            *places = named;
        }
        self.decisions.iter_mut().for_each(|decision| decision.at = name(&decision.at));
        self
    }

    fn comes_from(&self, name: &str) -> bool {
        self.sources.iter().any(|source| source.contains(name))
    }
}

/// The names of a region's nodes, each once.
fn names(region: &Region) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for source in region.sources.iter().filter(|source| !source.is_empty()) {
        if names.last() != Some(source) {
            names.push(source.clone());
        }
    }
    names
}

/// What was done to every region, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Regions of the first round, then of the others.
    pub regions: Vec<RegionReport>,
}

impl Report {
    /// How many regions were equal to an earlier one.
    pub fn identical(&self) -> usize {
        self.regions.iter().filter(|region| region.same_as.is_some()).count()
    }

    /// Predicted seconds of all regions of a round together, before and after; `None` if it had none.
    pub fn total(&self, round: Round) -> Option<(f64, f64)> {
        let of_round = self.regions.iter().filter(|region| region.round == round);
        let costs = of_round.map(|region| {
            let first = region.same_as.and_then(|first| self.regions.get(first));
            let region = first.unwrap_or(region);
            (region.cost_before, region.cost_after)
        });
        costs.reduce(|(before, after), (b, a)| (before + b, after + a))
    }

    /// How often each rule fired in all regions together.
    pub fn fired(&self) -> BTreeMap<&'static str, usize> {
        let mut total = BTreeMap::new();
        for (name, places) in self.regions.iter().flat_map(|region| &region.fired) {
            *total.entry(*name).or_insert(0) += places.values().sum::<usize>();
        }
        total
    }

    /// The text of those regions that came from nodes of the model whose names contain this, and of those
    /// that they are equal to.
    pub fn about(&self, name: &str) -> String {
        let of = |region: &&RegionReport| region.comes_from(name);
        let equal: Vec<usize> =
            self.regions.iter().filter(of).filter_map(|region| region.same_as).collect();
        let mut text = String::new();
        for (number, region) in self.regions.iter().enumerate() {
            if region.comes_from(name) || equal.contains(&number) {
                text.push_str(&Numbered { number, region }.to_string());
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, region) in self.regions.iter().enumerate() {
            Numbered { number, region }.fmt(f)?;
        }
        let (count, identical) = (self.regions.len(), self.identical());
        write!(f, "{count} regions, {identical} of them identical to another")?;
        for round in [Round::Rewrite, Round::Join, Round::Fuse] {
            if let Some((before, after)) = self.total(round) {
                write!(f, "; {round} {} to {}", Micros(before), Micros(after))?;
            }
        }
        Ok(())
    }
}

/// A region with its number.
struct Numbered<'r> {
    number: usize,
    region: &'r RegionReport,
}

impl fmt::Display for Numbered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Numbered { number, region } = self;
        let round = region.round;
        let nodes = if region.nodes == 1 { "node" } else { "nodes" };
        write!(f, "region {number} ({round}, {} {nodes}", region.nodes)?;
        match region.sources.as_slice() {
            [] => {}
            [only] => write!(f, " of `{only}`")?,
            [first, .., last] => write!(f, " from `{first}` to `{last}`")?,
        }
        if let Some(first) = region.same_as {
            return writeln!(f, "): as region {first}");
        }
        let (before, after) = (Micros(region.cost_before), Micros(region.cost_after));
        writeln!(f, "): {} e-nodes, {before} to {after}", region.e_nodes)?;
        for (rule, places) in &region.fired {
            write!(f, "  {rule} ×{}", places.values().sum::<usize>())?;
            let named: Vec<&Arc<str>> = places.keys().filter(|name| !name.is_empty()).collect();
            for (position, name) in named.iter().take(MOST_NAMES).enumerate() {
                write!(f, "{} `{name}`", if position == 0 { " at" } else { "," })?;
            }
            match named.len().saturating_sub(MOST_NAMES) {
                0 => writeln!(f)?,
                more => writeln!(f, " and {more} more")?,
            }
        }
        for Decision { at, what, price, others } in &region.decisions {
            write!(f, "  chosen: {what}, {}", Micros(*price))?;
            if at.is_empty() {
                writeln!(f)?
            } else {
                writeln!(f, ", for `{at}`")?
            }
            for Alternative { what, price, total } in others {
                let (price, total) = (Micros(*price), Micros(*total));
                writeln!(f, "    {total} in all with {what}, {price}")?;
            }
        }
        match region.more_decisions {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more choices"),
        }
    }
}

/// Seconds as microseconds.
struct Micros(f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} µs", self.0 * 1e6)
    }
}
