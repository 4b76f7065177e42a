//! ONNX's own backend test suite, on every backend, as it is and with symbolic input dimensions; and
//! random graphs, operators of com.microsoft and ai.onnx.ml, and regressions, against ONNX Runtime.
//!
//! Invariant: a case that does not pass is a failure, and so is a suite that is not all there; the
//! figures in `target/conformance.json` are of all the trials.
//!
//! A trial is named `BACKEND/CATEGORY/CASE`, or `BACKEND/symbolic/CATEGORY/CASE`.

use kiln::check::{Case, Outcome, Reason, Settings, find_cases, frequent};
use kiln::{Backend, CompileOptions, Compiler, Target};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Serialize;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Categories of cases, with how many of each there are.
type Categories = &'static [(&'static str, usize)];

/// The suite's categories with their numbers of cases in the pinned version of ONNX.
const SUITE: Categories =
    &[("node", 1884), ("simple", 26), ("pytorch-converted", 82), ("pytorch-operator", 35)];

/// The suite's classifiers with made-up weights.
const LIGHT: Categories = &[("light", 9)];

/// Random graphs, whose inputs have symbolic dimensions as they are.
const RANDOM: Categories = &[("differential", 300)];

/// Operators of com.microsoft and ai.onnx.ml and quantised models, drawn at random.
const DRAWN: Categories = &[("learning", 176), ("microsoft", 517), ("qdq", 108)];

/// Models that were run wrongly once, kept with the project.
const REGRESSIONS: Categories = &[("regressions", 32)];

/// The variants by the folders that they are in, with their categories.
const VARIANTS: [(Variant, &str, &[Categories]); 4] = [
    (Variant::Fixed, "../tests", &[REGRESSIONS]),
    (Variant::Fixed, "models", &[LIGHT]),
    (Variant::Fixed, "conformance", &[SUITE, RANDOM, DRAWN]),
    (Variant::Symbolic, "conformance-symbolic", &[SUITE]),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Variant {
    Fixed,
    Symbolic,
}

/// Where a trial's result is entered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    backend: String,
    variant: Variant,
    category: &'static str,
}

#[derive(Serialize)]
struct Figures {
    backend: String,
    variant: Variant,
    category: &'static str,
    passed: usize,
    failed: usize,
    reasons: Vec<Reason>,
    failures: BTreeMap<String, String>,
}

/// What became of the cases, by place and name: nothing, or why they failed.
type Results = Arc<Mutex<BTreeMap<Place, BTreeMap<String, Result<(), String>>>>>;

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let arguments = Arguments::from_args();
    let results = Results::default();
    let trials = match trials(&folder, &results) {
        Ok(trials) => trials,
        Err(reason) => vec![Trial::test("the_suite_is_there", move || Err(reason.into()))],
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    let results = results.lock().unwrap_or_else(PoisonError::into_inner);
    // Figures of a few trials would replace those of all.
    if conclusion.num_filtered_out == 0 && !results.is_empty() {
        let figures: Vec<Figures> = results.iter().map(|(place, of)| figures(place, of)).collect();
        for figures in &figures {
            let Figures { backend, variant, category, passed, failed, .. } = figures;
            let symbolic = if *variant == Variant::Symbolic { "symbolic/" } else { "" };
            println!("{backend}/{symbolic}{category}: {passed} passed, {failed} failed");
        }
        let file = folder.join("conformance.json");
        let written = serde_json::to_vec_pretty(&figures).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|text| std::fs::write(&file, text)) {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

fn figures(place: &Place, results: &BTreeMap<String, Result<(), String>>) -> Figures {
    let failures: BTreeMap<String, String> = results
        .iter()
        .filter_map(|(name, result)| Some((name.clone(), result.as_ref().err()?.clone())))
        .collect();
    Figures {
        backend: place.backend.clone(),
        variant: place.variant,
        category: place.category,
        passed: results.len() - failures.len(),
        failed: failures.len(),
        reasons: frequent(failures.iter().map(|(name, why)| (name.as_str(), why.as_str()))),
        failures,
    }
}

/// A trial for each backend, variant and case. The suite is all there, or there are no trials.
fn trials(folder: &Path, results: &Results) -> Result<Vec<Trial>, String> {
    let target = Target::host().map_err(|error| error.to_string())?;
    let mut trials = Vec::new();
    for (variant, suite, categories) in VARIANTS {
        for &(category, expected) in categories.iter().copied().flatten() {
            let place = folder.join(suite).join(category);
            let cases = find_cases(&place).unwrap_or_default();
            if cases.len() != expected {
                let (found, place) = (cases.len(), place.display());
                return Err(format!(
                    "found {found} of {expected} cases in {place}; `make setup` writes them"
                ));
            }
            for backend in Backend::ALL.into_iter().filter(|backend| backend.is_built_in()) {
                // One thread each: there are as many trials at a time as cores.
                let options = CompileOptions { backend, threads: 1, ..CompileOptions::default() };
                let compiler = Compiler::new(target.clone()).options(options);
                let place = Place { backend: backend.to_string(), variant, category };
                trials.extend(cases.iter().map(|case| {
                    trial(case.clone(), compiler.clone(), place.clone(), Arc::clone(results))
                }));
            }
        }
    }
    Ok(trials)
}

fn trial(case: Case, compiler: Compiler, place: Place, results: Results) -> Trial {
    let symbolic = if place.variant == Variant::Symbolic { "symbolic/" } else { "" };
    let name = format!("{}/{symbolic}{}/{}", place.backend, place.category, case.name);
    Trial::test(name, move || {
        let run = || case.run(&compiler, &Settings::default());
        let result = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Outcome::Passed) => Ok(()),
            Ok(Outcome::Failed(reason) | Outcome::Skipped(reason)) => Err(reason),
            Err(panic) => Err(format!("panic: {}", message(&*panic))),
        };
        let mut all = results.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(place).or_default().insert(case.name, result.clone());
        result.map_err(Failed::from)
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
