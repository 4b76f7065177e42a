//! `kiln tune`: faster schedules for this machine.
//!
//! Invariant: what was found is in the database as soon as it was measured, so that a search may be
//! ended at any time and goes on where it was.

use super::arguments::TuneArguments;
use super::progress::Progress;
use super::{failure, inputs, model, output, peak};
use kiln::tune::{
    self, Alone, Database, Peaks, Program, Ranks, Record, Setting, TuneOptions, TuneReport, Tuner,
    serve,
};
use kiln::{Backend, CancelToken, Source};
use miette::{Result, miette};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Kernels that are shown.
const SHOWN: usize = 12;

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    database: String,
    made_up_inputs: Vec<String>,
    #[serde(flatten)]
    tuning: &'a TuneReport,
}

pub fn tune(arguments: &TuneArguments) -> Result<ExitCode> {
    let ranks = ranks().map_err(failure::report)?;
    let result = tune_among(arguments, &*ranks);
    if let Err(report) = &result
        && ranks.count() > 1
    {
        // The others wait for this one.
        output::note(format!("{report:?}"));
        ranks.abandon();
    }
    result
}

/// Where those that start processes for MPI say how many they started.
const STARTED: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// The processes that `mpirun` started, or this one alone.
fn ranks() -> Result<Box<dyn Ranks>, kiln::Error> {
    let started = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
    if STARTED.iter().filter_map(started).all(|count| count < 2) {
        return Ok(Box::new(Alone));
    }
    #[cfg(feature = "mpi")]
    {
        Ok(Box::new(tune::Mpi::join()?))
    }
    #[cfg(not(feature = "mpi"))]
    {
        let reason = "this was started by mpirun, but built without MPI";
        Err(tune::RanksError::Start { reason }.into())
    }
}

fn tune_among(arguments: &TuneArguments, ranks: &dyn Ranks) -> Result<ExitCode> {
    let TuneArguments { model: path, common, .. } = arguments;
    let speaks = ranks.rank() == 0;
    if model::is_compiled(path) {
        return Err(miette!(
            code = "cli/compiled",
            help = "tune the .onnx file, then compile it again",
            "{}: the schedules of a compiled model are part of it",
            path.display()
        ));
    }
    if model::backend(common) == Backend::Reference {
        return Err(failure::report(kiln::Error::NoCode));
    }
    if common.target.iter().any(|target| target != "host") {
        return Err(miette!(
            code = "cli/target",
            help = "run kiln tune on that machine, and put the databases together",
            "schedules are measured on the machine that they are for"
        ));
    }
    if common.cache.is_some() {
        return Err(miette!(
            code = "cli/cache",
            help = "leave the flag out",
            "--cache has no effect: what is tried is compiled once"
        ));
    }
    if common.schedules.is_some() {
        return Err(miette!(
            code = "cli/schedules",
            help = "give the database with --out",
            "--schedules has no effect: tuning goes on from the database that it writes to"
        ));
    }
    arguments.report.as_deref().map_or(Ok(()), output::place)?;
    let mut database = model::database_to_keep(arguments.out.as_deref())?;
    let progress = Arc::new(if speaks { Progress::spinner() } else { Progress::hidden() });
    let compiler = model::measured(model::untuned(common, &progress)?, &database);
    let setting = compiler.setting();
    let source = Source::from(path.as_path());
    let compiled = compiler.compile(source.clone()).map_err(|e| failure::of_file(path, e))?;
    let inputs = inputs::gather(&arguments.input, common, &compiled)?;
    if speaks {
        progress.hide_while(|| inputs.notes.iter().for_each(output::note));
    }
    let options = TuneOptions {
        budget: arguments.budget,
        program: Program {
            file: std::env::current_exe().map_err(|error| failure::io(path, error))?,
            arguments: vec!["measure".to_owned()],
        },
        seed: arguments.input.seed,
        enough: CancelToken::new(),
    };
    end_early(&options.enough, &progress);
    let tuner = Tuner::new(&compiler, &source, &compiled, &inputs.tensors, &options).with(ranks);
    let budget = arguments.budget.as_secs();
    let report = tuner
        .tune(&mut database, &mut |now| {
            let what = now.kernel.unwrap_or("the whole model");
            progress.say(format!(
                "{} of {budget} s, {} schedules, {:.2} x as fast, {what}",
                now.elapsed.as_secs(),
                now.measured,
                now.speedup
            ));
        })
        .map_err(failure::report)?;
    drop(compiler);
    drop(progress);
    if !speaks {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &arguments.report {
        let text = page(path, &database, &setting, &report);
        std::fs::write(file, text).map_err(|error| failure::io(file, error))?;
    }
    let database = database.path().display().to_string();
    let name = path.display().to_string();
    if !output::is_taken(&common.report) {
        show(&report, &database);
    }
    let made_up_inputs = inputs.notes;
    let report = Report { model: name, database, made_up_inputs, tuning: &report };
    output::json(&common.report, &report)?;
    Ok(ExitCode::SUCCESS)
}

/// Has an interruption end the search, and another one the program.
fn end_early(enough: &CancelToken, progress: &Arc<Progress>) {
    let (enough, progress) = (enough.clone(), Arc::clone(progress));
    let interrupted = move || {
        if enough.is_cancelled() {
            std::process::exit(130);
        }
        enough.cancel();
        progress.hide_while(|| {
            output::note(
                "ending the search and trying what it found; interrupt again to stop at once",
            );
        });
    };
    // Where signals cannot be had, an interruption ends the program as it always does.
    let _ = ctrlc::set_handler(interrupted);
}

/// The page on the kernels of a model, and what the database has for them.
fn page(model: &Path, database: &Database, setting: &Setting, report: &TuneReport) -> String {
    let key = setting.key();
    let records: Vec<&Record> = database
        .records()
        .iter()
        .filter(|record| record.target == key && record.version == tune::VERSION)
        .collect();
    let (flops, bytes) = (peak::flops(setting.threads), peak::bandwidth(setting.threads));
    let name = model.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    let title = format!("Schedules: {name}, {key}");
    tune::page(&title, &report.kernels, &records, Peaks { flops, bytes })
}

/// Answers what `kiln tune` asks over standard input.
pub fn measure() -> Result<ExitCode> {
    let gone = || std::process::exit(0);
    serve(std::io::stdin(), std::io::stdout().lock(), gone).map_err(failure::report)?;
    Ok(ExitCode::SUCCESS)
}

fn show(report: &TuneReport, database: &str) {
    let TuneReport { measured, failed, before_ms, after_ms, ranks, kernels } = report;
    let kept = kernels.iter().filter(|kernel| kernel.kept).count();
    let by = if *ranks == 1 { String::new() } else { format!(" by {ranks} processes") };
    output::line(format!("schedules   {measured} measured{by}, {failed} of them unusable"));
    if kept > 0 {
        output::line(format!("kept        {kept} of {} kernels, in {database}", kernels.len()));
        output::line(format!(
            "latency     {before_ms:.3} ms before, {after_ms:.3} ms now: {:.2} x as fast",
            before_ms / after_ms
        ));
    } else if *measured > 0 {
        output::line(format!("kept        none, what was measured is in {database}"));
        output::line(format!("latency     {before_ms:.3} ms, and nothing faster was found"));
    } else {
        let known = kernels.iter().any(|kernel| kernel.alone.is_some());
        let why = if known { "all that was left to try, or the budget," } else { "the budget" };
        output::line(format!("kept        none: {why} was over before a schedule was measured"));
        output::line(format!("latency     {before_ms:.3} ms"));
    }
    output::line("\n      ms  schedules  alone  in model  kernel (first node)");
    for kernel in kernels.iter().take(SHOWN) {
        let share = |share: Option<f64>| {
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
        };
        output::line(format!(
            "{:>8.3} {:>10} {:>6} {:>9}  {} ({}){}",
            kernel.ms,
            kernel.measured,
            share(kernel.alone),
            share(kernel.in_model),
            kernel.name,
            kernel.nodes.first().map_or("", String::as_str),
            if kernel.kept { ", kept" } else { "" }
        ));
    }
    if let Some(more) = kernels.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        output::line(format!("{:>31}  and {more} that take less", ""));
    }
    output::line(
        "\nms in a run before; alone and in model: the time with the best schedule that was found, as a \
         share of that before",
    );
}
