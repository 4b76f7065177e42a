//! Quantised models, as tools write them, become integer kernels.
//!
//! Invariant: an operator between DequantizeLinear and QuantizeLinear is one kernel, whose operands
//! are the integers of the model; between layers there is nothing else in memory. What is not counted is
//! the kernel that puts the channels of a network's image last. That results agree with ONNX Runtime
//! within a quantum is for `conformance` to test, on the same models.

use kiln::check::find_cases;
use kiln::{Compiler, DType, Dim, Phases, Source, Target};
use kiln_program::{Location, Program, Step};
use std::path::Path;

/// How many models there are, and how many kernels each is, by the name of what it is made of; all
/// others are one operator, with what tools fuse into it.
const MODELS: usize = 108;
const LARGER: [(&str, usize); 2] = [("Moved", 2), ("Network", 4)];

#[test]
fn every_quantised_operator_is_one_kernel_of_integers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/conformance/qdq");
    let cases = find_cases(&folder).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(cases.len(), MODELS, "in {}", folder.display());
    let mut wrong = Vec::new();
    for case in cases {
        let program = plan(&case.model.clone().into());
        let larger = LARGER.iter().find(|(kind, _)| case.name.contains(kind));
        let expected = larger.map_or(1, |(_, kernels)| *kernels);
        let others = program.steps.len() - launches(&program);
        let moves = program.kernels.iter().filter(|kernel| kernel.name == "transpose").count();
        // The kernel that puts channels last is one of the operators elsewhere.
        let found = launches(&program) - if case.name.contains("Network") { moves } else { 0 };
        if found != expected || others != 0 {
            wrong.push(format!("{}: {found} kernels, {others} others", case.name));
        }
        wrong.extend(floats(&program).into_iter().map(|what| format!("{}: {what}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn plan(source: &Source) -> Program {
    let compiler = Compiler::new(Target::host().unwrap());
    let phases = &mut Phases::default();
    let simplified = compiler.simplified(source, phases);
    let optimised = simplified.and_then(|graph| compiler.optimised(&graph, phases));
    let plan = optimised.and_then(|(graph, _)| compiler.plan(&graph, phases));
    plan.unwrap_or_else(|error| panic!("{error}")).program
}

/// What is neither small integers nor parameters of a layer in the memory of a program.
fn floats(program: &Program) -> Vec<String> {
    let buffers = program.buffers.iter().enumerate();
    let others = buffers.filter(|(_, buffer)| match (buffer.dtype, &buffer.location) {
        (DType::I8 | DType::U8, _) => false,
        (DType::I32 | DType::F32, Location::Weights(_)) => !is_parameter(&buffer.shape),
        _ => true,
    });
    others
        .map(|(number, buffer)| format!("b{number} is {} {:?}", buffer.dtype, buffer.shape))
        .collect()
}

/// Whether there is one number, or one for each channel: scales, zero points and biases.
fn is_parameter(shape: &[Dim]) -> bool {
    shape.iter().filter(|dim| !dim.is(1)).count() <= 1
}

fn launches(program: &Program) -> usize {
    program.steps.iter().filter(|step| matches!(step, Step::Launch { .. })).count()
}
