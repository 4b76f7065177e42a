//! What a model becomes at each level, as text, or as a picture.
//!
//! Invariant: shows what the compiler really uses: the same calls, in the same order, as
//! [`crate::Compiler::build`].

mod part;
mod plan;

use crate::generate::{self, generator};
use crate::{Backend, Compiler, Error, Phases, Source, tune};
use kiln_backends::{Cranelift, Unit};
use kiln_ir::{Graph, text};
use kiln_passes::plan::PlannedKernel;
use kiln_passes::{Plan, tile};
use kiln_program::Artefact;
use std::collections::BTreeSet;
use std::path::Path;
use thiserror::Error;

/// Levels of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The typed graph, as imported and simplified.
    Graph,
    /// What the e-graph did: which rules fired where, costs, other choices, and the fused graph.
    Egraph,
    /// Kernels with their schedules.
    Kernels,
    /// The loop nests that kernels become under their schedules.
    Nest,
    /// The MLIR that kernels become, before it is lowered.
    Mlir,
    /// LLVM IR after optimisation.
    Llvm,
    /// Assembly.
    Asm,
    /// Steps, buffers and memory.
    Plan,
}

impl Level {
    fn is_graph(self) -> bool {
        matches!(self, Level::Graph | Level::Egraph)
    }

    fn name(self) -> &'static str {
        match self {
            Level::Graph => "graph",
            Level::Egraph => "egraph",
            Level::Kernels => "kernels",
            Level::Nest => "nest",
            Level::Mlir => "mlir",
            Level::Llvm => "llvm",
            Level::Asm => "asm",
            Level::Plan => "plan",
        }
    }
}

/// Why there is nothing to show.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InspectError {
    /// The backend has no such level.
    #[error("the {backend} backend has no level {}", .level.name())]
    NoLevel {
        /// The backend.
        backend: Backend,
        /// The level.
        level: Level,
    },
    /// A compiled model holds its program only.
    #[error("a compiled model has no level {}", .level.name())]
    Compiled {
        /// The level.
        level: Level,
    },
    /// No node has a name like this.
    #[error("nothing at level {} comes from a node whose name contains `{name}`", .level.name())]
    NoNode {
        /// The level.
        level: Level,
        /// What was looked for.
        name: String,
    },
    /// The level is not a graph.
    #[error("there is no picture of level {}", .level.name())]
    NoPicture {
        /// The level.
        level: Level,
    },
}

impl InspectError {
    /// What would help.
    pub fn help(&self) -> &'static str {
        match self {
            InspectError::NoLevel { .. } => {
                "all backends have graph, egraph, kernels and plan; llvm has nest, mlir, llvm and \
                 asm too, cranelift has nest and asm"
            }
            InspectError::Compiled { .. } => {
                "a compiled model has the levels kernels and plan; inspect the .onnx file for the others"
            }
            InspectError::NoNode { .. } => {
                "the names of nodes stand after `from` at level graph; leave out --node to see all"
            }
            InspectError::NoPicture { .. } => {
                "there are pictures of the levels graph and egraph; the others are text"
            }
        }
    }
}

/// The text of a compiled model at a level: its plan, or what is left of its kernels.
pub fn artefact(path: &Path, level: Level, node: Option<&str>) -> Result<String, Error> {
    if !matches!(level, Level::Kernels | Level::Plan) {
        return Err(InspectError::Compiled { level }.into());
    }
    let artefact = Artefact::open(path)?;
    let program = artefact.program();
    program.validate(artefact.weights().len() as u64).map_err(kiln_runtime::ModelError::from)?;
    if level == Level::Plan {
        let first = artefact.code().next().map(|variant| variant.partitions).unwrap_or_default();
        return found(plan::print(program, &first, node), level, node);
    }
    let lines: Vec<String> = plan::kernels_from(program, node)
        .into_iter()
        .filter_map(|number| {
            let kernel = program.kernels.get(number)?;
            let sources = plan::sources(program, number).join(", ");
            Some(format!(
                "{}: {} operands, {} sizes, for {sources}",
                kernel.symbol,
                kernel.operands,
                kernel.params.len()
            ))
        })
        .collect();
    let text = (node.is_none() || !lines.is_empty()).then(|| lines.join("\n"));
    found(text, level, node)
}

/// Why there is no picture of a compiled model.
pub fn no_picture(level: Level) -> Error {
    let compiled = level.is_graph();
    if compiled { InspectError::Compiled { level } } else { InspectError::NoPicture { level } }
        .into()
}

impl Compiler {
    /// The text of a model at a level; with `node`, only what came from the nodes of the model
    /// whose names contain it.
    pub fn inspect(
        &self,
        source: impl Into<Source>,
        level: Level,
        node: Option<&str>,
    ) -> Result<String, Error> {
        let mut phases = Phases::default();
        let simplified = self.simplified(&source.into(), &mut phases)?;
        let graph_text = |graph: &Graph| match node {
            Some(name) => part::of(graph, name).map(|part| text::abbreviate(&part)),
            None => Some(text::abbreviate(graph)),
        };
        // A level is shown without those below it, which may be what is slow or fails.
        if level == Level::Graph {
            return found(graph_text(&simplified), level, node);
        }
        if level == Level::Egraph {
            let (optimised, report) = self.explained(&simplified, &mut phases)?;
            let graph = found(graph_text(&optimised), level, node)?;
            let report = node.map_or_else(|| report.to_string(), |name| report.about(name));
            let assumed = self.assumed();
            return Ok(format!("{assumed}\n\n{}\n\n{graph}", report.trim_end()));
        }
        let (optimised, _) = self.optimised(&simplified, &mut phases)?;
        let plan = self.plan(&optimised, &mut phases)?;
        self.plan_text(&plan, level, node)
    }

    /// A picture of a model in Graphviz' language: at level graph of what it computes, at level egraph of
    /// that beside what optimising made of it, with the fused kernels as clusters. `node` is as in
    /// [`Compiler::inspect`].
    pub fn picture(
        &self,
        source: impl Into<Source>,
        level: Level,
        node: Option<&str>,
    ) -> Result<String, Error> {
        if !level.is_graph() {
            return Err(InspectError::NoPicture { level }.into());
        }
        let part = |graph: Graph| match node {
            Some(name) => part::of(&graph, name).ok_or_else(|| none_of(level, name)),
            None => Ok(graph),
        };
        let mut phases = Phases::default();
        let simplified = self.simplified(&source.into(), &mut phases)?;
        if level == Level::Graph {
            let graph = part(simplified)?;
            let title = graph.name.clone();
            return Ok(text::draw(&[text::Drawing { title, graph: &graph, clusters: Vec::new() }]));
        }
        let (optimised, _) = self.optimised(&simplified, &mut phases)?;
        Ok(kiln_passes::picture(&part(simplified)?, &part(optimised)?))
    }

    /// What predictions are made for.
    fn assumed(&self) -> String {
        let tune::Setting { backend, target, threads } = self.setting();
        let plural = if threads == 1 { "" } else { "s" };
        let size = self.cost_model().unknown_size;
        format!(
            "times are predicted for {backend} on {}, {threads} thread{plural}; sizes that are not known count \
             as {size}",
            target.cpu
        )
    }

    fn plan_text(&self, plan: &Plan, level: Level, node: Option<&str>) -> Result<String, Error> {
        if level == Level::Plan {
            return found(plan::print(&plan.program, &plan.partitions(), node), level, node);
        }
        let chosen = plan::kernels_from(&plan.program, node);
        if chosen.is_empty() && node.is_some() {
            return found(None, level, node);
        }
        if level == Level::Kernels {
            return Ok(kernels(plan, &chosen));
        }
        let symbols: BTreeSet<&str> = chosen
            .iter()
            .filter_map(|&number| Some(plan.program.kernels.get(number)?.symbol.as_str()))
            .collect();
        let schedules = generate::own_schedules(plan);
        let mut units = generate::units(plan, &schedules);
        units.retain(|unit| symbols.contains(unit.symbol));
        self.code_text(&units, level)
    }

    fn code_text(&self, units: &[Unit<'_>], level: Level) -> Result<String, Error> {
        let backend = self.backend();
        // So that a backend which is not built in is named as the reason.
        generator(backend)?;
        match (backend, level) {
            #[cfg(feature = "llvm")]
            (Backend::Llvm, level) => {
                use kiln_backends::llvm;
                let level = match level {
                    Level::Nest => llvm::Level::Nest,
                    Level::Mlir => llvm::Level::Mlir,
                    Level::Llvm => llvm::Level::Llvm,
                    _ => llvm::Level::Assembly,
                };
                Ok(kiln_backends::Llvm.inspect(units, self.target(), level)?)
            }
            (Backend::Cranelift, Level::Nest) => {
                let nests =
                    units.iter().map(|unit| Ok(Cranelift.nest(unit, self.target())?.to_string()));
                Ok(nests.collect::<Result<Vec<String>, Error>>()?.join("\n"))
            }
            (Backend::Cranelift, Level::Asm) => {
                let assembly = units.iter().map(|unit| {
                    Ok(format!("{}:\n{}", unit.symbol, Cranelift.assembly(unit, self.target())?))
                });
                Ok(assembly.collect::<Result<Vec<String>, Error>>()?.join("\n"))
            }
            (backend, level) => Err(InspectError::NoLevel { backend, level }.into()),
        }
    }
}

/// Kernels with their schedules, each with the nodes of the model that it serves.
fn kernels(plan: &Plan, chosen: &BTreeSet<usize>) -> String {
    let mut text = String::new();
    for &number in chosen {
        let (Some(planned), Some(entry)) =
            (plan.kernels.get(number), plan.program.kernels.get(number))
        else {
            continue;
        };
        let sources = plan::sources(&plan.program, number);
        text.push_str(&format!("// {} for {}\n", entry.symbol, sources.join(", ")));
        let PlannedKernel { kernel, schedule, .. } = planned;
        text.push_str(&format!("{kernel}\n{}\n", tile::describe(kernel, schedule)));
    }
    text
}

fn found(text: Option<String>, level: Level, node: Option<&str>) -> Result<String, Error> {
    text.ok_or_else(|| none_of(level, node.unwrap_or_default()))
}

fn none_of(level: Level, name: &str) -> Error {
    InspectError::NoNode { level, name: name.to_owned() }.into()
}
