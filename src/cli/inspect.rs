//! `kiln inspect`: a model at one of the compiler's levels.
//!
//! Invariant: prints what the library gives, unchanged.

use super::arguments::{FormArgument, InspectArguments, LevelArgument};
use super::progress::Progress;
use super::{failure, model, output};
use kiln::inspect::{self, Level};
use miette::{Result, miette};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Serialize)]
struct InspectReport {
    model: String,
    node: Option<String>,
    text: String,
}

pub fn inspect(arguments: &InspectArguments) -> Result<ExitCode> {
    let level = match arguments.at {
        LevelArgument::Graph => Level::Graph,
        LevelArgument::Egraph => Level::Egraph,
        LevelArgument::Kernels => Level::Kernels,
        LevelArgument::Nest => Level::Nest,
        LevelArgument::Mlir => Level::Mlir,
        LevelArgument::Llvm => Level::Llvm,
        LevelArgument::Asm => Level::Asm,
        LevelArgument::Plan => Level::Plan,
    };
    let (path, node) = (&arguments.model, arguments.node.as_deref());
    let common = &arguments.common;
    let dot = arguments.format == FormArgument::Dot;
    let text = if model::is_compiled(path) {
        if dot { Err(inspect::no_picture(level)) } else { inspect::artefact(path, level, node) }
    } else {
        for (flag, given) in
            [("--cache", common.cache.is_some()), ("another --target", common.target.len() > 1)]
        {
            if given {
                let help = "leave the flag out";
                return Err(miette!(
                    code = "cli/inspect",
                    help = help,
                    "{flag} has no effect here"
                ));
            }
        }
        let progress = Arc::new(Progress::spinner());
        let compiler = model::compiler(&arguments.common, &progress)?;
        if dot { compiler.picture(path, level, node) } else { compiler.inspect(path, level, node) }
    };
    let text = text.map_err(|error| failure::of_file(path, error))?;
    if !output::is_taken(&arguments.common.report) {
        output::line(&text);
    }
    let node = arguments.node.clone();
    let report = InspectReport { model: path.display().to_string(), node, text };
    output::json(&arguments.common.report, &report)?;
    Ok(ExitCode::SUCCESS)
}
