//! `kiln check`: folders of ONNX test cases, run and compared.
//!
//! Invariant: the last line counts every case that was found; a failure says why.

use super::arguments::CheckArguments;
use super::progress::Progress;
use super::{failure, model, output};
use kiln::check::{self, Case, Outcome, Reason, Settings};
use miette::{Result, miette};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Reasons that are shown; the report has all of them.
const MOST_FREQUENT: usize = 12;

#[derive(Serialize)]
struct CheckReport {
    passed: usize,
    failed: usize,
    skipped: usize,
    reasons: Vec<Reason>,
    cases: Vec<CaseReport>,
}

#[derive(Serialize)]
struct CaseReport {
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

pub fn check(arguments: &CheckArguments) -> Result<ExitCode> {
    let cases = cases(&arguments.folders)?;
    let settings = Settings { rtol: arguments.rtol, atol: arguments.atol, ..Settings::default() };
    // The bar says what is being run; the phases of each compilation would only flicker.
    let compiler = model::compiler(&arguments.common, &Arc::new(Progress::hidden()))?;
    let progress = Progress::bar(cases.len() as u64);
    let mut reports = Vec::with_capacity(cases.len());
    for case in cases {
        progress.say(&case.name);
        let outcome = case.run(&compiler, &settings);
        if let Outcome::Failed(reason) = &outcome
            && !output::is_taken(&arguments.common.report)
        {
            progress.hide_while(|| output::line(format!("FAILED {}: {reason}", case.name)));
        }
        reports.push(CaseReport { name: case.name, outcome });
        progress.step();
    }
    drop(progress);
    let report = summary(reports);
    output::json(&arguments.common.report, &report)?;
    if !output::is_taken(&arguments.common.report) {
        show(&report);
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cases of all folders; the names say which folder, if there are several.
fn cases(folders: &[PathBuf]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for folder in folders {
        let mut found = check::find_cases(folder).map_err(|error| failure::io(folder, error))?;
        if found.is_empty() {
            return Err(miette!(
                code = "check/no-cases",
                help = "a case is a folder with model.onnx and test_data_set_0",
                "{}: neither a case nor a folder of cases",
                folder.display()
            ));
        }
        if folders.len() > 1 && !folder.join("model.onnx").is_file() {
            for case in &mut found {
                case.name = folder.join(&case.name).display().to_string();
            }
        }
        cases.extend(found);
    }
    Ok(cases)
}

fn summary(cases: Vec<CaseReport>) -> CheckReport {
    let count = |wanted: fn(&Outcome) -> bool| {
        cases.iter().filter(|report| wanted(&report.outcome)).count()
    };
    let failures = cases.iter().filter_map(|report| match &report.outcome {
        Outcome::Failed(reason) => Some((report.name.as_str(), reason.as_str())),
        Outcome::Passed | Outcome::Skipped(_) => None,
    });
    CheckReport {
        passed: count(|outcome| matches!(outcome, Outcome::Passed)),
        failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        skipped: count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        reasons: check::frequent(failures),
        cases,
    }
}

/// The reasons that explain most, if any explains several; then the counts.
fn show(report: &CheckReport) {
    if report.reasons.len() < report.failed {
        output::line("");
        for Reason { reason, count, .. } in report.reasons.iter().take(MOST_FREQUENT) {
            output::line(format!("{count:6}  {reason}"));
        }
        if let rest @ 1.. = report.reasons.len().saturating_sub(MOST_FREQUENT) {
            output::line(format!("        and {rest} more reasons"));
        }
    }
    let CheckReport { passed, failed, skipped, .. } = report;
    output::line(format!("{passed} passed, {failed} failed, {skipped} skipped"));
}
