//! From the words of a command to a compiler, and to a model that is ready to run.
//!
//! Invariant: a flag that has no effect on the model at hand is an error, not ignored.

use super::arguments::{BackendArgument, CommonArguments, EffortArgument};
use super::progress::Progress;
use super::{failure, output};
use kiln::tune::{self, Database};
use kiln::{
    Backend, CacheUse, CompileOptions, Compiler, Effort, Error, KernelCache, LoadOptions, Model,
    Phase, Phases, Target,
};
use kiln_program::Artefact;
use miette::{Result, miette};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    let mut compiler = untuned(common, progress)?;
    if let Some(cache) = cache(common)? {
        compiler = compiler.cache(cache);
    }
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
    let repeated =
        (1..common.target.len()).find(|&n| common.target[..n].contains(&common.target[n]));
    if let Some(name) = repeated.map(|number| &common.target[number]) {
        return Err(miette!(code = "cli/target", "--target names {name} twice"));
    }
    let named = |name: &String| Target::named(name).map_err(failure::report);
    let mut targets = common.target.iter().map(named).collect::<Result<Vec<_>>>()?.into_iter();
    let target = match targets.next() {
        Some(first) => first,
        None => Target::host().map_err(failure::report)?,
    };
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
    let compiler = Compiler::new(target).options(options);
    Ok(targets.fold(compiler, Compiler::also).observe(move |phase| progress.say(phase.name())))
}

/// Where compiled kernels are kept: the folder that was asked for, or else the user's own.
fn cache(common: &CommonArguments) -> Result<Option<KernelCache>> {
    match (common.cache.as_deref(), KernelCache::default_path()) {
        (Some(asked), _) if asked == Path::new("none") => Ok(None),
        (Some(asked), _) => KernelCache::open(asked).map(Some).map_err(failure::report),
        // A user without a home, or with one that nothing can be written to, has no cache.
        (None, path) => Ok(path.ok().and_then(|path| KernelCache::open(path).ok())),
    }
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
    open_with(path, common, |compiler, path| compiler.compile(path))
}

/// [`open`], compiling in this way.
pub fn open_with(
    path: &Path,
    common: &CommonArguments,
    compile: impl FnOnce(&Compiler, &Path) -> Result<Model, Error>,
) -> Result<Model> {
    if !is_compiled(path) {
        let progress = Arc::new(Progress::spinner());
        let compiler = compiler(common, &progress)?;
        let model = compile(&compiler, path).map_err(|error| failure::of_file(path, error))?;
        drop(compiler);
        drop(progress);
        note_fault(model.cached().as_ref());
        return Ok(model);
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
    } else if common.target.iter().any(|target| target != "host") {
        "--target"
    } else if common.egraph != EffortArgument::Full {
        "--egraph"
    } else if !common.without.is_empty() {
        "--without"
    } else if common.error_budget.is_some() {
        "--error-budget"
    } else if common.cache.as_deref().is_some_and(|folder| folder != Path::new("none")) {
        "--cache"
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

/// `read 0.1 ms, import 3.4 ms, …`, with how many kernels were compiled before.
pub fn phases(phases: &Phases, cached: Option<&CacheUse>) -> String {
    let kept = kept(cached);
    let text = |&(phase, time): &(Phase, Duration)| {
        let kept = if phase == Phase::Generate { kept.as_str() } else { "" };
        format!("{phase} {:.1} ms{kept}", time.as_secs_f64() * 1e3)
    };
    phases.times().iter().map(text).collect::<Vec<_>>().join(", ")
}

/// ` (3 of 4 compiled kernels kept from before)`, or nothing where there were none.
pub fn kept(cached: Option<&CacheUse>) -> String {
    match cached {
        Some(CacheUse { found, compiled, .. }) if *found > 0 => {
            format!(" ({found} of {} compiled kernels kept from before)", found + compiled)
        }
        _ => String::new(),
    }
}

/// Says why compiled kernels could not be kept, if they could not.
pub fn note_fault(cached: Option<&CacheUse>) {
    if let Some(fault) = cached.and_then(|cached| cached.fault.as_deref()) {
        output::note(format!("compiled kernels cannot be kept for the next time: {fault}"));
    }
}
