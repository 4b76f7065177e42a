//! From the words of a command to a compiler, and to a model that is ready to run.
//!
//! Invariant: a flag that has no effect on the model at hand is an error, not ignored.

use super::arguments::{BackendArgument, CommonArguments};
use super::failure;
use super::progress::Progress;
use kiln::{Backend, CompileOptions, Compiler, LoadOptions, Model, Phases, Target};
use kiln_program::Artefact;
use miette::{Result, miette};
use std::path::Path;
use std::sync::Arc;

/// Whether the file is a compiled model.
pub fn is_compiled(path: &Path) -> bool {
    Artefact::is_one(path) || path.extension().is_some_and(|ending| ending == "kiln")
}

/// The backend that was asked for, or the default one.
pub fn backend(common: &CommonArguments) -> Backend {
    match common.backend {
        None => Backend::default(),
        Some(BackendArgument::Llvm) => Backend::Llvm,
        Some(BackendArgument::Cranelift) => Backend::Cranelift,
        Some(BackendArgument::Reference) => Backend::Reference,
    }
}

/// A compiler as the flags have it, which shows its phases on a terminal.
pub fn compiler(common: &CommonArguments, progress: &Arc<Progress>) -> Result<Compiler> {
    let target =
        Target::named(common.target.as_deref().unwrap_or("host")).map_err(failure::report)?;
    let options = CompileOptions {
        backend: backend(common),
        dims: common.fixed_dims()?,
        threads: common.threads.map_or(0, |threads| threads as usize),
    };
    let progress = Arc::clone(progress);
    Ok(Compiler::new(target).options(options).observe(move |phase| progress.say(phase.name())))
}

/// Compiles or loads a model.
pub fn open(path: &Path, common: &CommonArguments) -> Result<Model> {
    if !is_compiled(path) {
        let progress = Arc::new(Progress::spinner());
        return compiler(common, &progress)?
            .compile(path)
            .map_err(|error| failure::of_file(path, error));
    }
    let options = LoadOptions {
        threads: common.threads.map_or(0, |threads| threads as usize),
        ..LoadOptions::default()
    };
    let model = Model::load_with(path, &options).map_err(|error| failure::of_file(path, error))?;
    refuse_compile_flags(path, common, model.backend())?;
    Ok(model)
}

/// An error if a flag asks for something that was decided when the model was compiled.
pub fn refuse_compile_flags(
    path: &Path,
    common: &CommonArguments,
    made_by: Option<Backend>,
) -> Result<()> {
    let asked = common.backend.map(|_| backend(common));
    let flag = if asked.is_some() && asked != made_by {
        "--backend"
    } else if common.target.as_deref().is_some_and(|target| target != "host") {
        "--target"
    } else {
        return Ok(());
    };
    let backend = made_by.map_or_else(String::new, |backend| format!(" by the {backend} backend"));
    Err(miette!(
        code = "cli/compiled",
        help = "give the .onnx file, or leave the flag out",
        "{}: {flag} has no effect on a model that is compiled already{backend}",
        path.display()
    ))
}

/// `read 0.1 ms, import 3.4 ms, …`
pub fn phases(phases: &Phases) -> String {
    let times = phases.times().iter();
    let texts: Vec<String> =
        times.map(|(phase, time)| format!("{phase} {:.1} ms", time.as_secs_f64() * 1e3)).collect();
    texts.join(", ")
}
