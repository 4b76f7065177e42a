//! From the words of a command to a compiler, and to a model that is ready to run.
//!
//! Invariant: a flag that has no effect on the model at hand is an error, not ignored.

use super::arguments::{BackendArgument, CommonArguments, EffortArgument};
use super::progress::Progress;
use super::{failure, output};
use kiln::tune::{self, Database};
use kiln::{Backend, CompileOptions, Compiler, Effort, LoadOptions, Model, Phases, Target};
use kiln_program::Artefact;
use miette::{Result, miette};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether the file is a compiled model.
pub fn is_compiled(path: &Path) -> bool {
    Artefact::is_one(path) || path.extension().is_some_and(|ending| ending == "kiln")
}

/// The backend that was asked for, or the default one.
pub fn backend(common: &CommonArguments) -> Backend {
    backend_of(common.backend)
}

/// The backend of a name, or the default one.
pub fn backend_of(asked: Option<BackendArgument>) -> Backend {
    match asked {
        None => Backend::default(),
        Some(BackendArgument::Llvm) => Backend::Llvm,
        Some(BackendArgument::Cranelift) => Backend::Cranelift,
        Some(BackendArgument::Reference) => Backend::Reference,
    }
}

/// A compiler as the flags have it, with what was found out about this machine.
pub fn compiler(common: &CommonArguments, progress: &Arc<Progress>) -> Result<Compiler> {
    let compiler = untuned(common, progress)?;
    Ok(match database(common)? {
        Some(database) => measured(compiler, &database),
        None => compiler,
    })
}

/// A compiler with what a database has for its machine: schedules, and what kernels cost.
pub fn measured(compiler: Compiler, database: &Database) -> Compiler {
    let key = compiler.setting().key();
    let compiler = compiler.schedules(database.book(&key, tune::VERSION));
    match database.cost(&key, tune::VERSION) {
        Some(cost) => compiler.cost(cost),
        None => compiler,
    }
}

/// A compiler as the flags have it but for what was measured, which shows its phases on a terminal.
pub fn untuned(common: &CommonArguments, progress: &Arc<Progress>) -> Result<Compiler> {
    let target =
        Target::named(common.target.as_deref().unwrap_or("host")).map_err(failure::report)?;
    let options = CompileOptions {
        backend: backend(common),
        dims: common.fixed_dims()?,
        threads: common.threads.map_or(0, |threads| threads as usize),
        error_budget: common.error_budget,
        without: common.without.clone(),
        effort: match common.egraph {
            EffortArgument::Off => Effort::Off,
            EffortArgument::Greedy => Effort::Greedy,
            EffortArgument::Full => Effort::Full,
        },
        ..CompileOptions::default()
    };
    let progress = Arc::clone(progress);
    Ok(Compiler::new(target).options(options).observe(move |phase| progress.say(phase.name())))
}

/// The database that schedules are taken from: the one that was asked for, or else the user's own.
fn database(common: &CommonArguments) -> Result<Option<Database>> {
    let asked = common.schedules.as_deref();
    if asked == Some(Path::new("none")) {
        return Ok(None);
    }
    let path = match (asked, Database::default_path()) {
        (Some(path), _) if !path.exists() => {
            return Err(miette!(
                code = "cli/schedules",
                help = "kiln tune MODEL --out FILE makes one",
                "{}: there is no such database of schedules",
                path.display()
            ));
        }
        (Some(path), _) => path.to_owned(),
        (None, Ok(path)) => path,
        // A user without a home has no schedules.
        (None, Err(_)) => return Ok(None),
    };
    open_database(path).map(Some)
}

/// The database that is written to: the one that was asked for, or else the user's own.
pub fn database_to_keep(asked: Option<&Path>) -> Result<Database> {
    let file = match asked {
        Some(file) => {
            output::place(file)?;
            file.to_owned()
        }
        None => Database::default_path().map_err(failure::report)?,
    };
    let database = open_database(file)?;
    if database.damaged() > 0 && database.is_empty() {
        return Err(miette!(
            code = "cli/output",
            help = "give the name of a database, or of a file that is not there yet",
            "{} is no database of schedules: none of its lines is a record",
            database.path().display()
        ));
    }
    Ok(database)
}

/// A database, with a word on what of it is damaged.
fn open_database(path: PathBuf) -> Result<Database> {
    let database = Database::open(path).map_err(failure::report)?;
    if database.damaged() > 0 {
        let (count, path) = (database.damaged(), database.path().display());
        let lines =
            if count == 1 { "line is no record, and is" } else { "lines are no records, and are" };
        output::note(format!("{path}: {count} {lines} passed over"));
    }
    Ok(database)
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
    } else if common.egraph != EffortArgument::Full {
        "--egraph"
    } else if !common.without.is_empty() {
        "--without"
    } else if common.error_budget.is_some() {
        "--error-budget"
    } else if common.schedules.as_deref().is_some_and(|file| file != Path::new("none")) {
        "--schedules"
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
