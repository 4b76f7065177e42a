//! Where a command's input tensors come from: files, a folder, or made up.
//!
//! Invariant: what was made up is said; what does not fit the model is an error before it runs.

use super::arguments::{CommonArguments, InputArguments};
use kiln::{Model, Symbol, SymbolValues, Tensor, TensorInfo, check, random_tensor, tensor_file};
use kiln_program::Step;
use miette::{Result, miette};
use std::collections::BTreeSet;
use std::path::Path;

/// The inputs of one run, and what to tell the user about them.
pub struct Inputs {
    /// One tensor for each input of the model, in its order.
    pub tensors: Vec<Tensor>,
    /// A line for each input that was made up.
    pub notes: Vec<String>,
}

/// Sizes given to dimensions that nothing else decides, when inputs are made up: one item, and as
/// many pixels, tokens or samples as most models can take.
const ITEMS: i64 = 1;
const LENGTH: i64 = 64;

/// The input that the text names, the longest such name, and the file; either may have `=` in its name.
fn named<'a>(infos: &[TensorInfo], text: &'a str) -> Option<(usize, &'a str)> {
    text.rmatch_indices('=').find_map(|(at, _)| {
        let position = infos.iter().position(|info| info.name == text[..at])?;
        Some((position, &text[at + 1..]))
    })
}

/// Collects the inputs of `model`.
pub fn gather(
    arguments: &InputArguments,
    common: &CommonArguments,
    model: &Model,
) -> Result<Inputs> {
    let infos = model.inputs();
    let mut given: Vec<Option<Tensor>> = vec![None; infos.len()];
    if let Some(folder) = &arguments.folder {
        let tensors = check::numbered_values(folder, "input", infos)
            .map_err(|e| miette!(help = input_list(infos), "{e}"))?;
        if tensors.is_empty() {
            let missing = if folder.is_dir() { "no input_0.pb in it" } else { "no such folder" };
            return Err(miette!(code = "run/inputs", "{}: there is {missing}", folder.display()));
        }
        for (slot, tensor) in given.iter_mut().zip(tensors) {
            *slot = Some(tensor);
        }
    }
    for text in &arguments.inputs {
        let (position, file) = named(infos, text).ok_or_else(|| {
            let name = text.split('=').next().unwrap_or_default();
            miette!(help = input_list(infos), "the model has no input named `{name}`")
        })?;
        let TensorInfo { name, dtype, .. } = &infos[position];
        let tensor = tensor_file::read(Path::new(file), *dtype).map_err(|e| miette!("{e}"))?;
        if given[position].replace(tensor).is_some() {
            return Err(miette!("input `{name}` is given twice"));
        }
    }
    let mut sizes = SymbolValues::new();
    for (name, size) in common.fixed_dims()? {
        check_size(model, &name, size)?;
        sizes.insert(Symbol::new(&name), i64::try_from(size).unwrap_or(i64::MAX));
    }
    for (info, tensor) in infos.iter().zip(&given) {
        if let Some(tensor) = tensor {
            info.observe(tensor.sizes(), &mut sizes);
        }
    }
    choose(model, &given, &mut sizes);
    let mut notes = Vec::new();
    let mut tensors = Vec::with_capacity(infos.len());
    for (index, (slot, info)) in given.into_iter().zip(infos).enumerate() {
        let tensor = match slot {
            Some(tensor) => tensor,
            None if info.dtype.is_list() => {
                let (name, dtype) = (&info.name, info.dtype);
                return Err(miette!(
                    help = format!("give it with --input {name}=FILE.pb or --inputs DIR"),
                    "input `{name}` was not given, and no {dtype} is made up"
                ));
            }
            None => {
                let shape = info
                    .sizes(&mut sizes, |axis| if axis == 0 { ITEMS } else { LENGTH })
                    .map_err(|e| miette!("input `{}`: {e}", info.name))?;
                notes.push(format!(
                    "input `{}` was not given: random {} of shape {shape:?}",
                    info.name, info.dtype
                ));
                random_tensor(info.dtype, shape, arguments.seed.wrapping_add(index as u64))
                    .map_err(|e| miette!("input `{}`: {e}", info.name))?
            }
        };
        tensors.push(tensor);
    }
    Ok(Inputs { tensors, notes })
}

/// Refuses a size that inputs do not have, unless it was fixed to that when the model was compiled.
fn check_size(model: &Model, name: &str, size: u64) -> Result<()> {
    let mut open = BTreeSet::new();
    for dim in model.inputs().iter().flat_map(|info| &info.shape) {
        dim.collect_symbols(&mut open);
    }
    let fixed = format!("{name}={size}");
    let is_fixed = model.notes().iter().any(|(key, text)| *key == "dims" && text.contains(&fixed));
    if is_fixed || open.contains(&Symbol::new(name)) {
        return Ok(());
    }
    let open: Vec<String> = open.iter().map(ToString::to_string).collect();
    let help = match open.is_empty() {
        true => "all its sizes are fixed".to_owned(),
        false => format!("its open dimensions are {}", open.join(", ")),
    };
    Err(miette!(
        code = "run/inputs",
        help = help,
        "--dim {name}: the inputs of the model have no dimension `{name}`"
    ))
}

/// Sizes that made-up dimensions are tried with, besides those that they begin with.
const CANDIDATES: [i64; 8] = [1, 2, 32, 128, 224, 256, 512, 1024];
/// How often every dimension is looked at.
const ROUNDS: usize = 2;

/// Gives values to the dimensions of inputs that were not given, so that as few as possible of the
/// model's own demands on sizes are broken.
fn choose(model: &Model, given: &[Option<Tensor>], sizes: &mut SymbolValues) {
    let fixed: BTreeSet<Symbol> = sizes.keys().cloned().collect();
    for (info, _) in model.inputs().iter().zip(given).filter(|(_, tensor)| tensor.is_none()) {
        // What has no value is refused when the tensor is made.
        let _ = info.sizes(sizes, |axis| if axis == 0 { ITEMS } else { LENGTH });
    }
    let Some(program) = model.program() else { return };
    let free: Vec<Symbol> = sizes.keys().filter(|key| !fixed.contains(*key)).cloned().collect();
    // Often a size must be that of another input.
    let candidates: BTreeSet<i64> = sizes.values().copied().chain(CANDIDATES).collect();
    let mut least = broken(&program.steps, sizes);
    for symbol in (0..ROUNDS).flat_map(|_| &free) {
        for &candidate in &candidates {
            let Some(before) = sizes.insert(symbol.clone(), candidate) else { return };
            let now = broken(&program.steps, sizes);
            if now < least {
                least = now;
            } else {
                sizes.insert(symbol.clone(), before);
            }
        }
    }
}

/// How many of the checks among these steps would fail, as far as sizes alone decide.
fn broken(steps: &[Step], sizes: &SymbolValues) -> usize {
    let of = |step: &Step| match step {
        Step::CheckEqual { left, right, .. } => {
            let fails = match (left.evaluate(sizes), right.evaluate(sizes)) {
                (Ok(left), Ok(right)) => left != right,
                _ => false,
            };
            usize::from(fails)
        }
        Step::Branch { then, otherwise, .. } => broken(then, sizes) + broken(otherwise, sizes),
        Step::Loop(repeat) => broken(&repeat.body, sizes),
        _ => 0,
    };
    steps.iter().map(of).sum()
}

fn input_list(infos: &[TensorInfo]) -> String {
    let lines: Vec<String> = infos.iter().map(|info| format!("  {info}")).collect();
    format!("its inputs are:\n{}", lines.join("\n"))
}
