//! `kiln verify`: a compiled file, checked to its last byte.
//!
//! Invariant: says that a file is whole only after the weights were read, the program validated and
//! the code linked.

use super::arguments::ReportArguments;
use super::{failure, output};
use kiln_program::Artefact;
use kiln_runtime::{LoadedModel, ModelError};
use miette::Result;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

#[derive(Serialize)]
struct VerifyReport {
    file: String,
    kernels: usize,
    weight_bytes: usize,
    runs_here: bool,
}

pub fn verify(file: &Path, arguments: &ReportArguments) -> Result<ExitCode> {
    let failed = |error: kiln::Error| failure::of_file(file, error);
    let artefact = Artefact::open(file).map_err(|error| failed(error.into()))?;
    artefact.verify().map_err(|error| failed(error.into()))?;
    // Code for other machines, too: what links is the same everywhere.
    for variant in artefact.code() {
        kiln_runtime::check(artefact.program(), &variant).map_err(|error| failed(error.into()))?;
    }
    let obstacle = match LoadedModel::from_artefact(&artefact) {
        Ok(_) => None,
        // Whole, but made for another machine.
        Err(error @ ModelError::NoCode { .. }) => Some(error.to_string()),
        Err(error) => return Err(failed(error.into())),
    };
    let report = VerifyReport {
        file: file.display().to_string(),
        kernels: artefact.program().kernels.len(),
        weight_bytes: artefact.weights().len(),
        runs_here: obstacle.is_none(),
    };
    if !output::is_taken(arguments) {
        output::line(format!(
            "{}: whole; {} kernels, {} of weights",
            report.file,
            report.kernels,
            output::bytes(report.weight_bytes as u64)
        ));
        for (name, note) in artefact.notes() {
            output::line(format!("  {name}: {note}"));
        }
    }
    if let Some(obstacle) = obstacle {
        output::note(format!("note: {obstacle}"));
    }
    output::json(arguments, &report)?;
    Ok(ExitCode::SUCCESS)
}
