//! LLVM IR to an object: optimisation and code generation for a named processor.
//!
//! Invariant: position-independent code that any address may be given to; schedules alone decide
//! on vectors and unrolling, so LLVM's own vectoriser and unroller do not run.

use super::diagnostics::Diagnostics;
use super::lanes::store_single_lanes;
use super::{Level, NAME};
use crate::codegen::CodegenError;
use crate::target::Target;
use inkwell::OptimizationLevel;
use inkwell::context::Context as LlvmContext;
use inkwell::module::Module as LlvmModule;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine,
    TargetTriple,
};
use kiln_program::Architecture;
use std::sync::Once;

/// What a nest still needs: its loads numbered, its index arithmetic combined, its loops turned and
/// cleared of what does not change. There is nothing to inline, and no memory to promote. Against
/// `default<O3>` this halves the time spent here and gives the same code speed (the benchmarks
/// `gemm` and `kernels` show both); rewriting induction variables (`indvars`, also in `default<O1>`)
/// costs convolutions a third of theirs. Left to itself, a lone `instcombine` ends the process where
/// one round does not suffice.
const PASSES: &str = "function(sroa,early-cse<memssa>,simplifycfg,instcombine<no-verify-fixpoint>,\
                      loop-simplify,lcssa,loop-mssa(loop-rotate,licm),early-cse<memssa>,\
                      instcombine<no-verify-fixpoint>,simplifycfg)";

/// LLVM's code generator for a target.
pub(super) fn machine(target: &Target) -> Result<TargetMachine, CodegenError> {
    static INITIALISED: Once = Once::new();
    INITIALISED.call_once(|| {
        LlvmTarget::initialize_x86(&InitializationConfig::default());
        LlvmTarget::initialize_aarch64(&InitializationConfig::default());
    });
    let refuse = |reason: String| CodegenError::Target {
        generator: NAME,
        triple: target.triple.clone(),
        cpu: target.cpu.clone(),
        reason,
    };
    if target.architecture().is_none() {
        return Err(refuse("its architecture is neither x86_64 nor aarch64".to_owned()));
    }
    if target.architecture() == Some(Architecture::X86_64) && !target.has("sse4.1") {
        // Rounding would become library calls.
        return Err(refuse("SSE4.1 is needed".to_owned()));
    }
    let triple = TargetTriple::create(&target.triple);
    let found = LlvmTarget::from_triple(&triple).map_err(|error| refuse(error.to_string()))?;
    found
        .create_target_machine(
            &triple,
            baseline(target),
            &target.feature_string(),
            OptimizationLevel::Aggressive,
            RelocMode::PIC,
            CodeModel::Small,
        )
        .ok_or_else(|| refuse("LLVM has no code generator for it".to_owned()))
}

/// The processor whose instructions code may use beside the features that the target lists. A processor's own
/// name stands for more of them than a target says that its code needs.
pub(super) fn baseline(target: &Target) -> &'static str {
    match target.architecture() {
        Some(Architecture::Aarch64) => "generic",
        _ => "x86-64",
    }
}

/// Translates, optimises and generates; the text of a level if asked to stop there.
pub(super) fn optimise(
    module: &melior::ir::Module,
    machine: &TargetMachine,
    stop: Option<Level>,
    diagnostics: &Diagnostics,
) -> Result<Vec<u8>, CodegenError> {
    let context = LlvmContext::create();
    // SAFETY: the operation is a live module in the LLVM dialect, and the context outlives what is
    // made in it.
    let raw = unsafe {
        mlir_sys::mlirTranslateModuleToLLVMIR(module.as_operation().to_raw(), context.raw().cast())
    };
    if raw.is_null() {
        return Err(diagnostics.error("translating to LLVM IR", String::new()));
    }
    // SAFETY: the translation hands over a module that nothing else owns, in this context.
    let module = unsafe { LlvmModule::new(raw.cast()) };
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    let options = PassBuilderOptions::create();
    module
        .run_passes(PASSES, machine, options)
        .map_err(|error| diagnostics.error("optimising", error.to_string()))?;
    store_single_lanes(&module)
        .map_err(|error| diagnostics.error("storing single lanes", error))?;
    let kind = match stop {
        Some(Level::Llvm) => return Ok(module.print_to_string().to_string().into_bytes()),
        Some(Level::Assembly) => FileType::Assembly,
        _ => FileType::Object,
    };
    let buffer = machine
        .write_to_memory_buffer(&module, kind)
        .map_err(|error| diagnostics.error("generating code", error.to_string()))?;
    Ok(buffer.as_slice().to_vec())
}
