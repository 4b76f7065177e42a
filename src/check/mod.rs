//! ONNX backend test folders: find them, run them, compare.
//!
//! Invariant: a case passes only if every one of its data sets ran and every output agreed in
//! type, shape and values; nothing that went wrong counts as skipped.

mod closeness;
mod reasons;

pub use closeness::{Accuracy, Closeness, ONNX_CLOSENESS, Settings};
pub use reasons::{Reason, frequent};

use crate::{Compiler, Error, Model, Phases, Source, TensorInfo, tensor_file};
use kiln_ir::accuracy::{Tolerance, rounded_steps};
use kiln_tensor::{SymbolValues, Tensor};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A folder with `model.onnx` and `test_data_set_*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Name of the folder, after those of the folders that it was searched through.
    pub name: String,
    /// The model.
    pub model: PathBuf,
    /// The data sets, by name.
    pub data_sets: Vec<PathBuf>,
    /// How the outputs are compared.
    pub settings: Settings,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// All data sets agreed.
    Passed,
    /// Why it failed.
    Failed(String),
    /// Why there was nothing to run.
    Skipped(String),
}

/// How many folders deep cases are looked for: a suite has categories, and those have cases.
const DEPTH: usize = 2;

/// The case that a folder is, or the cases in the folders inside, in name order.
pub fn find_cases(folder: &Path) -> io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    match case_in(folder, file_name(folder))? {
        Some(case) => cases.push(case),
        None => collect(folder, "", DEPTH, &mut cases)?,
    }
    Ok(cases)
}

fn collect(folder: &Path, within: &str, depth: usize, cases: &mut Vec<Case>) -> io::Result<()> {
    for child in sorted_children(folder)? {
        if !child.is_dir() {
            continue;
        }
        let name = format!("{within}{}", file_name(&child));
        match case_in(&child, name.clone())? {
            Some(case) => cases.push(case),
            None if depth > 1 => collect(&child, &format!("{name}/"), depth - 1, cases)?,
            None => {}
        }
    }
    Ok(())
}

fn sorted_children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

fn case_in(folder: &Path, name: String) -> io::Result<Option<Case>> {
    let model = folder.join("model.onnx");
    if !model.is_file() {
        return Ok(None);
    }
    let data_sets = sorted_children(folder)?
        .into_iter()
        .filter(|child| child.is_dir() && file_name(child).starts_with("test_data_set_"))
        .collect();
    let settings = match fs::read(folder.join("data.json")) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Settings::default(),
        Err(error) => return Err(error),
    };
    Ok(Some(Case { name, model, data_sets, settings }))
}

/// The folder's own name, also of `.`; a link's is its own.
fn file_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default()
}

/// The values `input_0.pb`, `input_1.pb` … (or `output_…`) of a folder, one for each of the ports,
/// until one is missing.
pub fn numbered_values(
    folder: &Path,
    prefix: &str,
    ports: &[TensorInfo],
) -> Result<Vec<Tensor>, String> {
    let files: Vec<PathBuf> = (0..)
        .map(|index| folder.join(format!("{prefix}_{index}.pb")))
        .take_while(|path| path.exists())
        .collect();
    if files.len() > ports.len() {
        let (found, ports) = (files.len(), ports.len());
        let folder = folder.display();
        return Err(format!("{folder}: {found} tensors for a model with {ports} {prefix}s"));
    }
    files.iter().zip(ports).map(|(path, port)| value(path, port)).collect()
}

/// A value in a file, in the message that the type of its port asks for.
fn value(path: &Path, port: &TensorInfo) -> Result<Tensor, String> {
    tensor_file::read(path, port.dtype).map_err(|error| error.to_string())
}

impl Case {
    /// Compiles the model, runs its data sets and compares; `settings` go before the case's own.
    pub fn run(&self, compiler: &Compiler, settings: &Settings) -> Outcome {
        if self.data_sets.is_empty() {
            return Outcome::Skipped("there is no test_data_set_*".to_owned());
        }
        let model = match compiler.compile(&self.model) {
            Ok(model) => model,
            Err(error) => return Outcome::Failed(described(&error)),
        };
        let settings = self.settings.clone().overridden_by(settings.clone());
        for folder in &self.data_sets {
            if let Err(reason) = self.data_set(compiler, &model, folder, &settings) {
                return Outcome::Failed(format!("{}: {reason}", file_name(folder)));
            }
        }
        Outcome::Passed
    }

    fn data_set(
        &self,
        compiler: &Compiler,
        model: &Model,
        folder: &Path,
        settings: &Settings,
    ) -> Result<(), String> {
        let inputs = numbered_values(folder, "input", model.inputs())?;
        let expected = numbered_values(folder, "output", model.outputs())?;
        let outputs = model.run(&inputs).map_err(|error| described(&error))?;
        if outputs.len() != expected.len() {
            return Err(format!("{} outputs, expected {}", outputs.len(), expected.len()));
        }
        let rounded = if settings.accuracy.is_empty() {
            0
        } else {
            self.rounded_steps(compiler, model, &inputs)?
        };
        let pairs = model.outputs().iter().zip(outputs.iter().zip(&expected));
        for (index, (info, (actual, expected))) in pairs.enumerate() {
            let difference = match settings.accuracy.get(index) {
                Some(accuracy) => {
                    beyond(accuracy.tolerance(expected.dtype(), rounded), actual, expected)
                }
                None => settings.difference(actual, expected),
            };
            if let Some(difference) = difference {
                return Err(format!("output `{}`: {difference}", info.name));
            }
        }
        Ok(())
    }

    /// How many steps round behind the results for these inputs.
    fn rounded_steps(
        &self,
        compiler: &Compiler,
        model: &Model,
        inputs: &[Tensor],
    ) -> Result<u64, String> {
        let source = Source::from(&self.model);
        let graph = compiler.import(&source, &mut Phases::default()).map_err(|e| described(&e))?;
        let mut sizes = SymbolValues::new();
        for (info, tensor) in model.inputs().iter().zip(inputs) {
            info.observe(tensor.sizes(), &mut sizes);
        }
        Ok(rounded_steps(&graph, &sizes))
    }
}

/// What is further apart than allowed, if anything.
fn beyond(tolerance: Tolerance, actual: &Tensor, expected: &Tensor) -> Option<String> {
    match tolerance.compare(actual, expected) {
        Ok(comparison) => (!comparison.agrees()).then(|| comparison.to_string()),
        Err(mismatch) => Some(mismatch.to_string()),
    }
}

/// An error in one line, with its code.
pub fn described(error: &Error) -> String {
    let message = error.to_string().replace("\n  ", " ").replace('\n', "; ");
    format!("{message} [{}]", error.code())
}
