//! `kiln run`: one run of a model, with its results shown or written.
//!
//! Invariant: what is shown of an output is computed from the values that are written.

use super::arguments::{
    BackendArgument, CommonArguments, FormatArgument, RunArguments, TierArgument,
};
use super::{failure, inputs, model, output, preview};
use kiln::tensor_file::{self, TensorFormat};
use kiln::{Backend, Model, Tensor, TensorInfo, Tiers};
use miette::{Result, miette};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Serialize)]
struct RunReport {
    model: String,
    backend: Option<String>,
    threads: usize,
    load_ms: f64,
    run_ms: f64,
    /// Where code moves from one tier to another: kernels, and those of them that had the best code before the run.
    kernels: Option<usize>,
    best: Option<usize>,
    made_up_inputs: Vec<String>,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    first: Vec<serde_json::Value>,
    file: Option<String>,
}

pub fn run(arguments: &RunArguments) -> Result<ExitCode> {
    // Before anything is computed that could not be written.
    if let Some(folder) = &arguments.outputs {
        std::fs::create_dir_all(folder).map_err(|error| failure::io(folder, error))?;
    }
    let start = Instant::now();
    let model = open(arguments)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let inputs = inputs::gather(&arguments.input, &arguments.common, &model)?;
    inputs.notes.iter().for_each(output::note);
    if arguments.outputs.is_some() && arguments.format == FormatArgument::Npy {
        // Before the run, so that no result is computed and lost.
        let unfit = model.outputs().iter().find(|info| !tensor_file::fits_npy(info.dtype));
        if let Some(info) = unfit {
            return Err(miette!(
                code = "run/output",
                help = "add --format pb",
                "output `{}` holds {}, which .npy files cannot",
                info.name,
                info.dtype
            ));
        }
    }
    let before = model.tiers();
    let start = Instant::now();
    let outputs = model.run(&inputs.tensors).map_err(failure::report)?;
    let run_ms = start.elapsed().as_secs_f64() * 1e3;
    output::note(format!(
        "{} in {load_ms:.1} ms ({}), ran in {run_ms:.2} ms",
        if model::is_compiled(&arguments.model) { "loaded" } else { "compiled" },
        model::phases(model.phases(), model.cached().as_ref())
    ));
    if let Some(Tiers { kernels, best, failed }) =
        model.tiers().filter(|tiers| tiers.best < tiers.kernels)
    {
        let failed = match failed {
            0 => String::new(),
            failed => format!(" (of {failed} it could make none)"),
        };
        output::note(format!(
            "{best} of {kernels} kernels have LLVM's code by now{failed}, the others Cranelift's; --tier best waits \
             for all, and runs faster"
        ));
    }
    model::note_fault(model.cached().as_ref());
    let files = write(arguments, model.outputs(), &outputs)?;
    if !output::is_taken(&arguments.common.report) {
        for (info, tensor) in model.outputs().iter().zip(&outputs) {
            preview::show(&info.name, tensor);
        }
    }
    let reports = model.outputs().iter().zip(&outputs).enumerate();
    let report = RunReport {
        model: arguments.model.display().to_string(),
        backend: model.backend().map(|backend| backend.to_string()),
        threads: model.threads().map_err(failure::report)?,
        load_ms,
        run_ms,
        kernels: before.map(|tiers| tiers.kernels),
        best: before.map(|tiers| tiers.best),
        made_up_inputs: inputs.notes,
        outputs: reports
            .map(|(number, (info, tensor))| OutputReport {
                name: info.name.clone(),
                dtype: tensor.dtype().to_string(),
                shape: tensor.sizes().to_vec(),
                first: preview::first(tensor),
                file: files.get(number).cloned(),
            })
            .collect(),
    };
    output::json(&arguments.common.report, &report)?;
    Ok(ExitCode::SUCCESS)
}

/// The model, with the code that was asked for.
fn open(arguments: &RunArguments) -> Result<Model> {
    let RunArguments { model: path, common, tier, .. } = arguments;
    if tier.is_some() && model::is_compiled(path) {
        return Err(miette!(
            code = "cli/compiled",
            help = "give the .onnx file, or leave the flag out",
            "{}: --tier has no effect on a model that is compiled already",
            path.display()
        ));
    }
    if tier.is_some_and(|tier| tier != TierArgument::First) && !Backend::Llvm.is_built_in() {
        return Err(failure::report(kiln::Error::NoBackend(Backend::Llvm)));
    }
    match tier {
        Some(TierArgument::First) => {
            let backend = Some(BackendArgument::Cranelift);
            model::open(path, &CommonArguments { backend, ..common.clone() })
        }
        None if common.backend.is_some() => model::open(path, common),
        None | Some(TierArgument::Both) => {
            model::open_with(path, common, |compiler, path| compiler.compile_tiered(path))
        }
        Some(TierArgument::Best) => model::open(path, common),
    }
}

/// Writes the outputs if a folder was given; gives the names of the files.
fn write(
    arguments: &RunArguments,
    infos: &[TensorInfo],
    outputs: &[Tensor],
) -> Result<Vec<String>> {
    let Some(folder) = &arguments.outputs else { return Ok(Vec::new()) };
    let format = match arguments.format {
        FormatArgument::Npy => TensorFormat::Npy,
        FormatArgument::Pb => TensorFormat::Pb,
    };
    let mut files = Vec::new();
    for (number, (info, tensor)) in infos.iter().zip(outputs).enumerate() {
        let file = folder.join(format!("output_{number}.{}", format.extension()));
        tensor_file::write(&file, format, &info.name, tensor)
            .map_err(|error| miette!(code = "run/output", "{error}"))?;
        output::note(format!("wrote {}", file.display()));
        files.push(file.display().to_string());
    }
    Ok(files)
}
