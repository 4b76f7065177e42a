//! `kiln check`: folders of ONNX test cases, run and compared.
//!
//! Invariant: the last line counts every case that was found; a failure says why.

use super::arguments::CheckArguments;
use super::progress::Progress;
use super::{failure, model, output};
use kiln::check::{self, Case, Closeness, Outcome};
use kiln::{Compiler, Error};
use miette::{Result, miette};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Serialize)]
struct CheckReport {
    passed: usize,
    failed: usize,
    skipped: usize,
    cases: Vec<CaseReport>,
}

#[derive(Serialize)]
struct CaseReport {
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

pub fn check(arguments: &CheckArguments) -> Result<ExitCode> {
    let mut cases = Vec::new();
    for folder in &arguments.folders {
        let found = check::find_cases(folder).map_err(|error| failure::io(folder, error))?;
        if found.is_empty() {
            return Err(miette!(
                code = "check/no-cases",
                help = "a case is a folder with model.onnx and test_data_set_0",
                "{}: neither a case nor a folder of cases",
                folder.display()
            ));
        }
        cases.extend(found);
    }
    let closeness = Closeness { relative: arguments.rtol, absolute: arguments.atol };
    // The bar says what is being run; the phases of each compilation would only flicker.
    let compiler = model::compiler(&arguments.common, &Arc::new(Progress::hidden()))?;
    let progress = Progress::bar(cases.len() as u64);
    let mut reports = Vec::with_capacity(cases.len());
    for case in &cases {
        progress.say(&case.name);
        let outcome = outcome(case, &compiler, closeness);
        if let Outcome::Failed(reason) = &outcome
            && !output::is_taken(&arguments.common.report)
        {
            progress.hide_while(|| output::line(format!("FAILED {}: {reason}", case.name)));
        }
        reports.push(CaseReport { name: case.name.clone(), outcome });
        progress.step();
    }
    drop(progress);
    let count = |wanted: fn(&Outcome) -> bool| {
        reports.iter().filter(|report| wanted(&report.outcome)).count()
    };
    let report = CheckReport {
        passed: count(|outcome| matches!(outcome, Outcome::Passed)),
        failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        skipped: count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        cases: reports,
    };
    output::json(&arguments.common.report, &report)?;
    if !output::is_taken(&arguments.common.report) {
        output::line(format!(
            "{} passed, {} failed, {} skipped",
            report.passed, report.failed, report.skipped
        ));
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcome(case: &Case, compiler: &Compiler, closeness: Closeness) -> Outcome {
    if case.data_sets.is_empty() {
        return Outcome::Skipped("there is no test_data_set_*".to_owned());
    }
    let model = match compiler.compile(&case.model) {
        Ok(model) => model,
        Err(error) => return Outcome::Failed(described(&error)),
    };
    for folder in &case.data_sets {
        if let Err(reason) = data_set(&model, folder, closeness) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            return Outcome::Failed(format!("{name}: {reason}"));
        }
    }
    Outcome::Passed
}

fn data_set(
    model: &kiln::Model,
    folder: &Path,
    closeness: Closeness,
) -> std::result::Result<(), String> {
    let read = |prefix| check::numbered_tensors(folder, prefix).map_err(|e| e.to_string());
    let (inputs, expected) = (read("input")?, read("output")?);
    let outputs = model.run(&inputs).map_err(|error| described(&error))?;
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs, expected {}", outputs.len(), expected.len()));
    }
    for (info, (actual, expected)) in model.outputs().iter().zip(outputs.iter().zip(&expected)) {
        if let Some(difference) = check::difference(actual, expected, closeness) {
            return Err(format!("output `{}`: {difference}", info.name));
        }
    }
    Ok(())
}

/// An error in one line, with its code.
fn described(error: &Error) -> String {
    let message = error.to_string().replace("\n  ", " ").replace('\n', "; ");
    format!("{message} [{}]", error.code())
}
