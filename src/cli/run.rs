//! `kiln run`: one run of a model, with its results shown or written.
//!
//! Invariant: what is shown of an output is computed from the values that are written.

use super::arguments::{FormatArgument, RunArguments};
use super::{failure, inputs, model, output};
use kiln::tensor_file::{self, TensorFormat};
use kiln::{Tensor, TensorInfo};
use miette::{Result, miette};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Instant;

/// Elements of an output that are shown.
const SHOWN: usize = 8;

#[derive(Serialize)]
struct RunReport {
    model: String,
    backend: Option<String>,
    threads: usize,
    load_ms: f64,
    run_ms: f64,
    made_up_inputs: Vec<String>,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    first: Vec<f64>,
    file: Option<String>,
}

pub fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let start = Instant::now();
    let model = model::open(&arguments.model, &arguments.common)?;
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
    let start = Instant::now();
    let outputs = model.run(&inputs.tensors).map_err(failure::report)?;
    let run_ms = start.elapsed().as_secs_f64() * 1e3;
    output::note(format!(
        "{} in {load_ms:.1} ms ({}), ran in {run_ms:.2} ms",
        if model::is_compiled(&arguments.model) { "loaded" } else { "compiled" },
        model::phases(model.phases())
    ));
    let files = write(arguments, model.outputs(), &outputs)?;
    if !output::is_taken(&arguments.common.report) {
        for (info, tensor) in model.outputs().iter().zip(&outputs) {
            show(&info.name, tensor);
        }
    }
    let reports = model.outputs().iter().zip(&outputs).enumerate();
    let report = RunReport {
        model: arguments.model.display().to_string(),
        backend: model.backend().map(|backend| backend.to_string()),
        threads: model.threads().map_err(failure::report)?,
        load_ms,
        run_ms,
        made_up_inputs: inputs.notes,
        outputs: reports
            .map(|(number, (info, tensor))| OutputReport {
                name: info.name.clone(),
                dtype: tensor.dtype().to_string(),
                shape: tensor.sizes().to_vec(),
                first: tensor.to_f64().into_iter().take(SHOWN).collect(),
                file: files.get(number).cloned(),
            })
            .collect(),
    };
    output::json(&arguments.common.report, &report)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the outputs if a folder was given; gives the names of the files.
fn write(
    arguments: &RunArguments,
    infos: &[TensorInfo],
    outputs: &[Tensor],
) -> Result<Vec<String>> {
    let Some(folder) = &arguments.outputs else { return Ok(Vec::new()) };
    std::fs::create_dir_all(folder).map_err(|error| failure::io(folder, error))?;
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

fn show(name: &str, tensor: &Tensor) {
    let sizes: Vec<String> = tensor.sizes().iter().map(usize::to_string).collect();
    output::line(format!("{name}: {}[{}]", tensor.dtype(), sizes.join(", ")));
    let values = tensor.to_f64();
    let first: Vec<String> = values.iter().take(SHOWN).map(|value| number(*value)).collect();
    let more = if values.len() > SHOWN { " …" } else { "" };
    if !first.is_empty() {
        output::line(format!("  {}{more}", first.join(" ")));
    }
    if values.len() > SHOWN {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let (least, most) = finite
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
        let other = values.len() - finite.len();
        if !finite.is_empty() {
            let mean = finite.iter().sum::<f64>() / finite.len() as f64;
            output::line(format!(
                "  min {}  mean {}  max {}",
                number(least),
                number(mean),
                number(most)
            ));
        }
        if other > 0 {
            output::line(format!("  {other} elements are infinite or NaN"));
        }
    }
}

/// Few digits, and the exponent only where it helps.
fn number(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value}");
    }
    if (1e-3..1e6).contains(&value.abs()) { format!("{value:.5}") } else { format!("{value:.4e}") }
}
