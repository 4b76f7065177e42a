//! `kiln calibrate`: what kernels cost on this machine.
//!
//! Invariant: nothing is kept of a calibration that did not come to its end.

use super::arguments::CalibrateArguments;
use super::progress::Progress;
use super::{failure, model, output};
use kiln::tune;
use kiln::{Backend, Calibration, CompileOptions, Compiler, CostModel, Target};
use miette::Result;
use serde::Serialize;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Serialize)]
struct Report {
    database: String,
    settings: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    backend: String,
    threads: usize,
    measured: CostModel,
    shipped: CostModel,
}

pub fn calibrate(arguments: &CalibrateArguments) -> Result<ExitCode> {
    let backend = model::backend_of(arguments.backend);
    if backend == Backend::Reference {
        return Err(failure::report(kiln::Error::NoCode));
    }
    let mut database = model::database_to_keep(arguments.out.as_deref())?;
    let target = Target::host().map_err(failure::report)?;
    let threads = match arguments.threads {
        Some(threads) => vec![threads as usize],
        None => {
            let mut all = vec![1, target.machine.cores as usize];
            all.dedup();
            all
        }
    };
    let progress = Progress::spinner();
    let mut settings = Vec::new();
    for threads in threads {
        progress.say(format!("measuring with {threads} threads"));
        let options = CompileOptions { backend, threads, ..CompileOptions::default() };
        let compiler = Compiler::new(target.clone()).options(options);
        let measured = kiln::calibrate(&compiler).map_err(failure::report)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        database
            .calibrate(Calibration {
                target: compiler.setting().key(),
                version: tune::VERSION.to_owned(),
                cost: measured.clone(),
                time: now.as_millis() as u64,
            })
            .map_err(failure::report)?;
        let (backend, shipped) = (backend.to_string(), compiler.cost_model());
        settings.push(Measured { backend, threads, measured, shipped });
    }
    drop(progress);
    let report = Report { database: database.path().display().to_string(), settings };
    if !output::is_taken(&arguments.report) {
        show(&report);
    }
    output::json(&arguments.report, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn show(report: &Report) {
    for Measured { backend, threads, measured, shipped } in &report.settings {
        let plural = if *threads == 1 { "" } else { "s" };
        output::line(format!("{backend}, {threads} thread{plural:<14} measured     shipped"));
        let row = |name: &str, value: fn(&CostModel) -> f64, unit: &str| {
            let (measured, shipped) = (value(measured), value(shipped));
            output::line(format!("  {name:<22} {measured:>10.2}  {shipped:>10.2}  {unit}"));
        };
        row("products", |cost| cost.flops / 1e9, "GFLOP/s");
        row("elementwise", |cost| cost.elementwise / 1e9, "billion simple operations a second");
        row("memory", |cost| cost.bandwidth / 1e9, "GB/s between kernels");
        row("launch", |cost| cost.overhead * 1e6, "µs");
        row("channels first", |cost| cost.channels_first, "of a product's speed");
    }
    output::line(format!("kept in {}", report.database));
}
