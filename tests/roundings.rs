//! Models that round to 8 bits as they run, against ONNX Runtime, between one rounding and the next.
//!
//! Invariant: what the model rounds falls where ONNX Runtime's falls, except for numbers next to a
//! half and for the phases named below, and the result agrees; without the models these tests fail.
//!
//! `scripts/roundings.py` makes the cases and says why they are split. A trial is named
//! `BACKEND/CASE`, so `cargo test --test roundings llvm/kokoro` runs one.

use kiln::check::{Case, find_cases, numbered_values};
use kiln::{Backend, CompileOptions, Compiler, DType, Target, Tensor};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use std::process::ExitCode;

const CASES: [&str; 2] = ["ddddocr-old", "kokoro"];

/// Of numbers that are rounded, those that may be next to a half.
const NEAR_A_HALF: f64 = 2e-3;

/// How far results and scales may be apart, of their norms. A waveform that is so near has a
/// spectrum that is: by Parseval's theorem, magnitudes differ by less in the mean.
const APART: f64 = 1e-3;

/// Not compared: phases of a Fourier transform, a third of which differ. Where both parts are 0 but for
/// rounding, as at the ends of the spectrum and in silence, rounding decides between −π and π; others
/// belong to harmonics whose phase is a long sum in f32. docs/kokoro.md has the figures.
const PHASES: &str = "/decoder/decoder/generator/Concat_3_output_0";

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/roundings");
    let mut trials = Vec::new();
    for name in CASES {
        for backend in Backend::ALL.into_iter().filter(|backend| backend.is_built_in()) {
            let path = folder.join(name);
            trials.push(Trial::test(format!("{backend}/{name}"), move || agrees(&path, backend)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn agrees(path: &Path, backend: Backend) -> Result<(), Failed> {
    let cases = find_cases(path)?;
    let [Case { model, data_sets, .. }] = cases.as_slice() else {
        return Err(format!("no case in {}; `make setup` makes it", path.display()).into());
    };
    let [folder] = data_sets.as_slice() else { return Err("not one data set".into()) };
    let options = CompileOptions { backend, ..CompileOptions::default() };
    let model = Compiler::new(Target::host()?).options(options).compile(model)?;
    let inputs = numbered_values(folder, "input", model.inputs())?;
    let expected = numbered_values(folder, "output", model.outputs())?;
    let actual = model.run(&inputs)?;
    let mut faults = Vec::new();
    for ((info, actual), expected) in model.outputs().iter().zip(&actual).zip(&expected) {
        if info.name.starts_with(PHASES) {
            continue;
        }
        if let Some(fault) = difference(actual, expected) {
            faults.push(format!("`{}`: {fault}", info.name));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// What differs by more than it may.
fn difference(actual: &Tensor, expected: &Tensor) -> Option<String> {
    if (actual.dtype(), actual.sizes()) != (expected.dtype(), expected.sizes()) {
        return Some(format!("{:?} instead of {:?}", actual.sizes(), expected.sizes()));
    }
    let pairs: Vec<(f64, f64)> = actual.to_f64().into_iter().zip(expected.to_f64()).collect();
    if expected.dtype() == DType::U8 {
        let moved = pairs.iter().filter(|(a, e)| a != e).count();
        let far = pairs.iter().any(|(a, e)| (a - e).abs() > 1.0);
        // A zero point is a rounded number, too.
        let most = if pairs.len() == 1 { 1.0 } else { NEAR_A_HALF * pairs.len() as f64 };
        return (far || moved as f64 > most).then(|| format!("{moved} of {} differ", pairs.len()));
    }
    let norm = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).map(|x| x * x).sum::<f64>().sqrt();
    let (apart, long) = (norm(|(a, e)| a - e), norm(|(_, e)| *e));
    let near = apart <= APART * long;
    (!near).then(|| format!("{:.2e} apart, of its norm", apart / long))
}
