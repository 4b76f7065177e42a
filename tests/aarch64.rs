//! Models compiled for AArch64 by each code generator, run by the runtime built for it, under qemu.
//!
//! Invariant: results agree with ONNX Runtime's within the bounds of `kiln_ir::accuracy`. Without the emulator,
//! the runner or the models these tests fail: `scripts/test.sh` sets them up.

use kiln::check::{find_cases, numbered_values};
use kiln::{
    Backend, CompileOptions, Compiler, DType, Dim, Phases, Source, SymbolValues, Target, Tensor,
};
use kiln_ir::accuracy::{Tolerance, rounded_steps};
use kiln_program::Artefact;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of all cases those that an emulator runs in seconds: a convolutional network, a recurrent one, a transformer.
const CASES: [&str; 3] = ["ppocr-cls", "silero-vad", "minilm"];

#[test]
fn models_run_on_aarch64() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runner = root.join("target/aarch64-unknown-linux-gnu/release/examples/run_artefact");
    assert!(runner.exists(), "{} is missing: scripts/test.sh builds it", runner.display());
    let cases = find_cases(&root.join("target/models/cases")).unwrap_or_default();
    for backend in [Backend::Llvm, Backend::Cranelift].into_iter().filter(|b| b.is_built_in()) {
        for name in CASES {
            let case = cases.iter().find(|case| case.name == name);
            let case = case.unwrap_or_else(|| panic!("no case {name}; `make setup` fetches it"));
            agrees(&case.model, &case.data_sets[0], backend, &runner);
        }
    }
}

fn agrees(model: &Path, data: &Path, backend: Backend, runner: &Path) {
    let options = CompileOptions { backend, ..CompileOptions::default() };
    // For older and newer processors in one file, of which the emulated one takes the first.
    let compiler = Compiler::new(Target::named("neoverse-n1").unwrap()).options(options);
    let compiler = compiler.also(Target::named("armv8-a").unwrap());
    let source = Source::from(model);
    let graph = compiler.import(&source, &mut Phases::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.kiln");
    let compilation = compiler.build(source).unwrap_or_else(|error| panic!("{backend}: {error}"));
    compilation.save(&file).unwrap();

    let program = compilation.program();
    let info = |port: &kiln_program::Port| {
        let buffer = program.buffer(port.buffer).unwrap();
        kiln::TensorInfo {
            name: port.name.clone(),
            dtype: buffer.dtype,
            shape: buffer.shape.clone(),
        }
    };
    let [inputs, outputs] =
        [&program.inputs, &program.outputs].map(|ports| ports.iter().map(info).collect::<Vec<_>>());
    let given = numbered_values(data, "input", &inputs).unwrap();
    let expected = numbered_values(data, "output", &outputs).unwrap();
    let mut sizes = SymbolValues::new();
    for (info, tensor) in inputs.iter().zip(&given) {
        for (symbol, &size) in info.shape.iter().map(Dim::as_symbol).zip(tensor.sizes()) {
            sizes.extend(symbol.map(|symbol| (symbol.clone(), size as i64)));
        }
    }
    let steps = rounded_steps(&graph, &sizes);
    let second = folder.path().join("second.kiln");
    let artefact = Artefact::open(&file).unwrap();
    artefact.save(&second, artefact.code().skip(1)).unwrap();
    for file in [file, second] {
        let actual = run(runner, &file, &given);
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(&expected) {
            let tolerance = Tolerance::for_type(expected.dtype(), steps).between_two();
            let comparison = tolerance.compare(actual, expected).unwrap();
            assert!(comparison.agrees(), "{backend}, {}: {comparison}", model.display());
        }
    }
}

/// What the runner makes of a compiled model.
fn run(runner: &Path, model: &Path, inputs: &[Tensor]) -> Vec<Tensor> {
    let folder = model.parent().unwrap();
    let mut command = Command::new("qemu-aarch64");
    command.args(["-L", "/usr/aarch64-linux-gnu"]).arg(runner).arg(model).arg(folder.join("out"));
    for (number, input) in inputs.iter().enumerate() {
        let file: PathBuf = folder.join(format!("in{number}"));
        std::fs::write(&file, input.bytes()).unwrap();
        let sizes: Vec<String> = input.sizes().iter().map(usize::to_string).collect();
        command.arg(format!("{}:{}:{}", input.dtype(), sizes.join("x"), file.display()));
    }
    let output = command.output().unwrap_or_else(|error| panic!("qemu-aarch64: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let tensor = |(number, line): (usize, &str)| {
        let (dtype, sizes) = line.split_once(':').unwrap();
        let dtype = DType::ALL.into_iter().find(|known| known.to_string() == dtype).unwrap();
        let sizes = sizes.split('x').filter(|size| !size.is_empty());
        let sizes: Vec<usize> = sizes.map(|size| size.parse().unwrap()).collect();
        let bytes = std::fs::read(folder.join(format!("out{number}"))).unwrap();
        Tensor::from_bytes(dtype, sizes, &bytes).unwrap()
    };
    said.lines().enumerate().map(tensor).collect()
}
