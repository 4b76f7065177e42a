//! Real models against ONNX Runtime: every case of `target/models`, on every backend, while it moves from one
//! to another, and with the code that a compiled model has for older machines.
//!
//! Invariant: results agree within the bounds of `kiln_ir::accuracy`, and what was saved and loaded
//! again gives the same bits; without the models these tests fail.
//!
//! A trial is named `BACKEND/CASE`, so `cargo test --test models llvm/minilm` runs one; `tiered` and `older`
//! stand for a backend, too.

use kiln::check::{Case, find_cases, numbered_values};
use kiln::{Backend, CompileOptions, Compiler, Model, Phases, Source, Target, Tensor};
use kiln::{DType, Dim, SymbolValues};
use kiln_ir::accuracy::{Tolerance, rounded_steps};
use kiln_program::{Artefact, Location};
use kiln_tensor::ALIGNMENT;
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models");
    let mut trials = vec![Trial::test("all_cases_are_there", {
        let models = models.clone();
        move || all_cases_are_there(&models)
    })];
    for case in cases(&models.join("light")).into_iter().chain(cases(&models.join("cases"))) {
        for backend in Backend::ALL.into_iter().filter(|backend| backend.is_built_in()) {
            let case = case.clone();
            let name = format!("{backend}/{}", case.name);
            trials.push(Trial::test(name, move || agrees(&case, backend)));
        }
        if Backend::Llvm.is_built_in() {
            let (tiered, older) = (case.clone(), case.clone());
            let name = |way: &str| format!("{way}/{}", case.name);
            trials.push(Trial::test(name("tiered"), move || agrees_on_the_way(&tiered)));
            trials.push(Trial::test(name("older"), move || agrees_on_older_machines(&older)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn cases(folder: &Path) -> Vec<Case> {
    find_cases(folder).unwrap_or_default()
}

/// Without models there would be no other trial, and nothing to fail.
fn all_cases_are_there(models: &Path) -> Result<(), Failed> {
    let (light, other) = (cases(&models.join("light")).len(), cases(&models.join("cases")).len());
    if light < 9 || other < 21 {
        let found = format!("found {light} of 9 and {other} of 21 cases in {}", models.display());
        return Err(format!("{found}; `make setup` fetches the models").into());
    }
    Ok(())
}

/// Compiles the model, runs its data sets, and once more after saving and loading.
fn agrees(case: &Case, backend: Backend) -> Result<(), Failed> {
    let options = CompileOptions { backend, ..CompileOptions::default() };
    let compiler = Compiler::new(Target::host()?).options(options);
    let model = compiler.compile(&case.model)?;
    let loaded = if backend == Backend::Reference { None } else { Some(reload(&model)?) };
    results_agree(case, &compiler, &model, loaded.as_ref())?;
    arena_is_small(case, &model)
}

/// The arena of a run beside what is alive at once in it at most, which no placement goes below.
fn arena_is_small(case: &Case, model: &Model) -> Result<(), Failed> {
    let Some(program) = model.program() else { return Ok(()) };
    for folder in &case.data_sets {
        let inputs = numbered_values(folder, "input", model.inputs())?;
        let symbols = sizes(model, &inputs);
        let mut alive: BTreeMap<u32, u64> = BTreeMap::new();
        for buffer in &program.buffers {
            // What the run itself computes the size of has an arena of its own.
            let elements = buffer.shape.iter().cloned().product::<Dim>().evaluate(&symbols);
            if let (Location::Arena(lifetime), Ok(elements)) = (&buffer.location, elements) {
                let bytes = elements as u64 * buffer.dtype.size() as u64;
                for step in lifetime.first..=lifetime.last {
                    *alive.entry(step).or_default() += bytes.next_multiple_of(ALIGNMENT as u64);
                }
            }
        }
        let least = alive.values().copied().max().unwrap_or(0);
        let given: Vec<_> = inputs.iter().map(|tensor| tensor.sizes().to_vec()).collect();
        let arena = model.plan_memory(&given)?.map_or(0, |memory| memory.arena);
        if arena < least || arena as f64 > 1.1 * least as f64 {
            return Err(
                format!("an arena of {arena} bytes, of which {least} are alive at once").into()
            );
        }
    }
    Ok(())
}

/// Runs the model while its kernels move from Cranelift's code to LLVM's, and once they have.
fn agrees_on_the_way(case: &Case) -> Result<(), Failed> {
    let compiler = Compiler::new(Target::host()?);
    let model = compiler.compile_tiered(&case.model)?;
    results_agree(case, &compiler, &model, None)?;
    model.wait()?;
    results_agree(case, &compiler, &model, None)
}

/// Runs the code that a model compiled for this machine has for older ones, if this one is newer.
fn agrees_on_older_machines(case: &Case) -> Result<(), Failed> {
    let (host, older) = (Target::host()?, Target::named("x86-64-v3")?);
    if !older.features.is_subset(&host.features) {
        return Ok(());
    }
    let compiler = Compiler::new(host).also(older);
    let folder = tempfile::tempdir()?;
    let [both, one] = ["both", "one"].map(|name| folder.path().join(name));
    compiler.build(&case.model)?.save(&both)?;
    let artefact = Artefact::open(&both)?;
    artefact.save(&one, artefact.code().skip(1))?;
    results_agree(case, &compiler, &Model::load(&one)?, None)
}

/// Compares the results of a model with those of the case, and with those of another one to the bit.
fn results_agree(
    case: &Case,
    compiler: &Compiler,
    model: &Model,
    loaded: Option<&Model>,
) -> Result<(), Failed> {
    let graph = compiler.import(&Source::from(&case.model), &mut Phases::default())?;
    if case.data_sets.is_empty() {
        return Err("no data sets".into());
    }
    for folder in &case.data_sets {
        let inputs = numbered_values(folder, "input", model.inputs())?;
        let expected = numbered_values(folder, "output", model.outputs())?;
        let steps = rounded_steps(&graph, &sizes(model, &inputs));
        let actual = model.run(&inputs)?;
        // ONNX Runtime has errors of its own; the reference evaluator rounds once.
        let tolerance = |dtype| match model.backend() {
            Some(Backend::Reference) => Tolerance::for_type(dtype, steps),
            _ => Tolerance::for_type(dtype, steps).between_two(),
        };
        compare(model, &actual, &expected, tolerance)
            .map_err(|difference| format!("{}: {difference}", folder.display()))?;
        if let Some(loaded) = loaded
            && loaded.run(&inputs)? != actual
        {
            return Err(format!("{}: another result after loading", folder.display()).into());
        }
    }
    Ok(())
}

/// The model as it comes back from a file.
fn reload(model: &Model) -> Result<Model, Failed> {
    let folder = tempfile::tempdir()?;
    let path: PathBuf = folder.path().join("model.kiln");
    model.save(&path)?;
    // The file is mapped, so it may be unlinked while the model lives.
    Ok(Model::load(&path)?)
}

/// What these inputs say of the model's symbolic dimensions.
fn sizes(model: &Model, inputs: &[Tensor]) -> SymbolValues {
    let mut values = SymbolValues::default();
    for (info, tensor) in model.inputs().iter().zip(inputs) {
        for (symbol, &size) in info.shape.iter().map(Dim::as_symbol).zip(tensor.sizes()) {
            if let Some(symbol) = symbol {
                values.insert(symbol.clone(), size as i64);
            }
        }
    }
    values
}

fn compare(
    model: &Model,
    actual: &[Tensor],
    expected: &[Tensor],
    tolerance: impl Fn(DType) -> Tolerance,
) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", actual.len(), expected.len()));
    }
    for ((info, actual), expected) in model.outputs().iter().zip(actual).zip(expected) {
        let comparison = tolerance(expected.dtype())
            .compare(actual, expected)
            .map_err(|mismatch| format!("`{}`: {mismatch}", info.name))?;
        if !comparison.agrees() {
            return Err(format!("`{}`: {comparison}", info.name));
        }
    }
    Ok(())
}
