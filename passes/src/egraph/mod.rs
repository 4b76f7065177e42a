//! Equality saturation on regions of the graph: what is computed, in which layout, and what is fused.
//!
//! Invariant: decides no loop bounds; stops on node and iteration counts, never on time, so that
//! the same graph and options give the same result.
//!
//! Three rounds, each on regions of its own: first *what* is computed (algebra, recognition, layout),
//! then, on the graph that was chosen, which products are *joined* to one, and at last *what is fused*.
//! Products are joined, and bodies of fused nodes grow, over one way of computing a value; doing so over
//! all ways at once would multiply the searches.

mod body;
pub mod build;
mod collect;
mod cost;
mod defer;
mod evaluations;
mod explain;
mod extract;
mod flush;
pub mod fuse;
pub mod fused;
mod grow;
pub mod language;
pub mod magnitude;
pub mod pattern;
mod project;
mod report;
pub mod rule;
pub mod rules;
mod saturate;
mod sink;
mod unfold;
pub mod windows;

pub use cost::CostModel;
pub use extract::extract;
pub use report::{Alternative, Decision, Places, RegionReport, Report, Round};

use crate::PassError;
use crate::region::{self, Part, Region};
use crate::simplify::{IntegerProducts, Rebuild, inline, simplify_for};
use kiln_ir::{Graph, ValueId};
use magnitude::Magnitude;
use rule::{Class, Rule};
use std::collections::HashMap;
use std::sync::Arc;

/// How much is looked at: less is for measuring what the rest is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Effort {
    /// Nothing: every operation is a kernel of its own, in the layout that the model has.
    Off,
    /// All rules; of what they give, for each value by itself what is cheapest.
    Greedy,
    /// All rules; of what they give, what is cheapest together, as far as local search finds it.
    #[default]
    Full,
}

/// Bounds and choices of the e-graph.
#[derive(Clone, Debug, PartialEq)]
pub struct EGraphOptions {
    /// How much is looked at.
    pub effort: Effort,
    /// No rule starts once a region's e-graph has this many e-nodes.
    pub node_limit: usize,
    /// Rounds through all rules, in the first round; fusion grows by one operation in each of its
    /// iterations and has as many as its largest body has operations.
    pub iteration_limit: usize,
    /// Largest error of a lossy rule (see [`Class::Lossy`]); none without a budget.
    pub error_budget: Option<f64>,
    /// Names of rules that are left out.
    pub disabled: Vec<String>,
    /// Whether operations are fused at all.
    pub fuse: bool,
    /// Whether the report says what other choices would have cost, which takes time.
    pub explain: bool,
}

impl Default for EGraphOptions {
    fn default() -> Self {
        EGraphOptions {
            effort: Effort::default(),
            node_limit: 8000,
            iteration_limit: 10,
            error_budget: None,
            disabled: Vec::new(),
            fuse: true,
            explain: false,
        }
    }
}

impl EGraphOptions {
    fn allows(&self, rule: &Rule) -> bool {
        let exact_enough = match rule.class {
            Class::Lossy { error } => self.error_budget.is_some_and(|budget| error <= budget),
            Class::Exact | Class::Reassociating => true,
        };
        exact_enough && !self.disabled.iter().any(|name| name == rule.name)
    }
}

/// The graph as the e-graph would have it: cheaper operations, better layouts, and groups of
/// operations outlined into `Fused` nodes that satisfy [`fused::parts`].
pub fn optimise(
    graph: &Graph,
    options: &EGraphOptions,
    cost: &CostModel,
) -> Result<(Graph, Report), PassError> {
    if options.effort == Effort::Off {
        return Ok((graph.clone(), Report::default()));
    }
    let rules: Vec<Rule> = rules::all().into_iter().filter(|rule| options.allows(rule)).collect();
    let of = |round| -> Vec<Rule> {
        rules.iter().filter(|rule| rule.theme.round() == round).cloned().collect()
    };
    let (rewriting, joining, fusion) = (of(Round::Rewrite), of(Round::Join), of(Round::Fuse));
    let mut report = Report::default();
    let unfolded = unfold::unfold(graph)?;
    let projected = project::project(&unfolded)?;
    let simple = tidy(flush::flush(&projected)?.as_ref())?;
    let simple = tidy(&collect::collect(&simple)?)?;
    let setting = Setting { options, cost, rules: &rewriting, round: Round::Rewrite };
    let rewritten = setting.run(&simple, &mut report)?;
    let rewritten = tidy(&rewritten)?;
    let setting = Setting { options, cost, rules: &joining, round: Round::Join };
    let joined = setting.run(&rewritten, &mut report)?;
    let rewritten = tidy(&defer::defer(&sink::sink(&joined)?)?)?;
    if !options.fuse {
        return Ok((rewritten, report));
    }
    let setting = Setting { options, cost, rules: &fusion, round: Round::Fuse };
    let fused = setting.run(&rewritten, &mut report)?;
    Ok((crate::simplify::remove_dead(&fused)?.0, report))
}

/// Simplifies what the e-graph has written, or is to read.
fn tidy(graph: &Graph) -> Result<Graph, PassError> {
    simplify_for(graph, IntegerProducts::AsTheyAre)
}

/// One round with its rules.
struct Setting<'a> {
    options: &'a EGraphOptions,
    cost: &'a CostModel,
    rules: &'a [Rule],
    round: Round,
}

impl Setting<'_> {
    /// Optimises every region and every body once, equal ones together.
    fn run(&self, graph: &Graph, report: &mut Report) -> Result<Graph, PassError> {
        let mut done = HashMap::new();
        self.run_on(graph, report, &mut done)
    }

    fn run_on(
        &self,
        graph: &Graph,
        report: &mut Report,
        done: &mut Done,
    ) -> Result<Graph, PassError> {
        let mut rebuild = Rebuild::start("egraph", graph);
        for part in region::cut(graph)? {
            match part {
                Part::Opaque(id) => {
                    let node = graph.node(id);
                    for &input in &node.inputs {
                        bring_constant(&mut rebuild, graph, input)?;
                    }
                    let bodies = node
                        .regions
                        .iter()
                        .map(|body| self.run_on(body, report, done))
                        .collect::<Result<Vec<_>, _>>()?;
                    rebuild.keep_with(graph, node, bodies)?;
                }
                Part::Region(region) => {
                    let optimised = self.optimised(graph, &region, report, done)?;
                    stamp(&mut rebuild, graph, &region, &optimised)?;
                }
            }
        }
        for &output in graph.outputs() {
            bring_constant(&mut rebuild, graph, output)?;
        }
        Ok(rebuild.finish(graph)?.0)
    }

    /// What a region becomes; known if an equal one was seen before.
    fn optimised(
        &self,
        whole: &Graph,
        region: &Region,
        report: &mut Report,
        done: &mut Done,
    ) -> Result<Graph, PassError> {
        let number = report.regions.len();
        // Weights are long, and only what is rewritten is asked about them.
        let look = self.round == Round::Rewrite;
        let key = (region.key.clone(), magnitude::of_constants(whole, region, look));
        if let Some((first, graph)) = done.get(&key) {
            report.regions.push(RegionReport::same_as(self.round, *first, region));
            return Ok(graph.clone());
        }
        let (graph, entry) = saturate::saturate(
            &region.graph,
            &key.1,
            self.rules,
            self.round,
            self.options,
            self.cost,
            number,
        )?;
        report.regions.push(entry.named(region));
        done.insert(key, (number, graph.clone()));
        Ok(graph)
    }
}

/// Regions by their keys and the magnitudes of their constants: the first like this, and what it became.
type Done = HashMap<(String, Vec<Option<Magnitude>>), (usize, Graph)>;

/// Copies a constant of the old graph, unless that is done or the value is none.
fn bring_constant(rebuild: &mut Rebuild, graph: &Graph, value: ValueId) -> Result<(), PassError> {
    match graph.constant_of(value) {
        Some(tensor) if !rebuild.has(value) => {
            let new = rebuild
                .new
                .constant(tensor.clone())
                .map_err(|error| PassError::Graph { pass: "egraph", error })?;
            rebuild.bind(graph, value, new)
        }
        _ => Ok(()),
    }
}

/// Puts an optimised region in place of the nodes that it stands for.
fn stamp(
    rebuild: &mut Rebuild,
    graph: &Graph,
    region: &Region,
    optimised: &Graph,
) -> Result<(), PassError> {
    let error = |error| PassError::Graph { pass: "egraph", error };
    let mut arguments = Vec::new();
    for &input in &region.inputs {
        bring_constant(rebuild, graph, input)?;
        arguments.push(rebuild.value(input)?);
    }
    let source = |numbers: &Arc<str>| region.source(numbers);
    let mut named = region::rename_from(optimised, &region.symbols, &source).map_err(error)?;
    // What the whole graph knows of a symbol is all there is to know.
    named.symbols.clear();
    let values = inline(&mut rebuild.new, &named, &arguments).map_err(error)?;
    for (&output, value) in region.outputs.iter().zip(values) {
        rebuild.bind(graph, output, value)?;
    }
    Ok(())
}
