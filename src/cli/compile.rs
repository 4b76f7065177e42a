//! `kiln compile`: an ONNX model into one file.
//!
//! Invariant: the file at the path is the old one or the whole new one, whatever goes wrong.

use super::arguments::CompileArguments;
use super::progress::Progress;
use super::{failure, model, output};
use miette::{Result, miette};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

#[derive(Serialize)]
struct CompileReport {
    model: String,
    output: String,
    backend: String,
    cpu: String,
    compile_ms: f64,
    phases_ms: BTreeMap<String, f64>,
    write_ms: f64,
    kernels: usize,
    /// Those with schedules from the database.
    tuned: usize,
    /// Compiled kernels that were there before, of all machines that there is code for.
    kept: usize,
    steps: usize,
    code_bytes: u64,
    weight_bytes: u64,
    file_bytes: u64,
}

pub fn compile(arguments: &CompileArguments) -> Result<ExitCode> {
    let (source, file) = (&arguments.model, &arguments.output);
    if model::is_compiled(source) {
        return Err(miette!(
            code = "cli/compiled",
            help = "give the .onnx file that it was made from",
            "{} is compiled already",
            source.display()
        ));
    }
    output::place(file)?;
    let progress = Arc::new(Progress::spinner());
    let compiler = model::compiler(&arguments.common, &progress)?;
    let compilation = compiler.build(source).map_err(|error| failure::of_file(source, error))?;
    progress.say("write");
    let start = Instant::now();
    compilation.save(file).map_err(failure::report)?;
    let write_ms = start.elapsed().as_secs_f64() * 1e3;
    drop((compiler, progress));

    model::note_fault(Some(compilation.cached()));
    let metadata = std::fs::metadata(file).map_err(|error| failure::io(file, error))?;
    let phases = compilation.phases();
    let report = CompileReport {
        model: source.display().to_string(),
        output: file.display().to_string(),
        backend: compilation.notes().get("backend").cloned().unwrap_or_default(),
        cpu: compilation.notes().get("cpu").cloned().unwrap_or_default(),
        compile_ms: phases.total().as_secs_f64() * 1e3,
        phases_ms: phases
            .times()
            .iter()
            .map(|(phase, time)| (phase.to_string(), time.as_secs_f64() * 1e3))
            .collect(),
        write_ms,
        kernels: compilation.program().kernels.len(),
        tuned: compilation.tuned(),
        kept: compilation.cached().found,
        steps: compilation.program().steps.len(),
        code_bytes: compilation.code_bytes(),
        weight_bytes: compilation.weight_bytes(),
        file_bytes: metadata.len(),
    };
    if !output::is_taken(&arguments.common.report) {
        output::line(format!(
            "{}: {} kernels{} for {} ({}), {} of code, {} of weights",
            report.output,
            report.kernels,
            match report.tuned {
                0 => String::new(),
                tuned => format!(", {tuned} of them tuned,"),
            },
            report.cpu,
            report.backend,
            output::bytes(report.code_bytes),
            output::bytes(report.weight_bytes)
        ));
        output::line(format!(
            "compiled in {:.1} ms: {}, write {write_ms:.1} ms",
            report.compile_ms + write_ms,
            model::phases(phases, Some(compilation.cached()))
        ));
    }
    output::json(&arguments.common.report, &report)?;
    Ok(ExitCode::SUCCESS)
}
