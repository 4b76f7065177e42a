//! A compiled function as a relocatable ELF object.
//!
//! Invariant: the object refers to nothing outside itself. Code that would call a library is
//! refused, so a hole in the translation cannot become a missing symbol at load time.

use super::NAME;
use super::isa::Isa;
use super::translate::signature;
use crate::codegen::{CodegenError, Object};
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_module::{Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use std::fmt::Display;

/// Machine code of one function.
pub(super) struct Code {
    pub(super) symbol: String,
    bytes: Vec<u8>,
    alignment: u64,
    /// Assembly, if it was asked for.
    pub(super) assembly: Option<String>,
}

/// Functions start on a line that x86 decoders fetch at once.
const ALIGNMENT: u64 = 32;

/// Compiles a function.
pub(super) fn compile(
    function: Function,
    symbol: &str,
    isa: &Isa,
    assembly: bool,
) -> Result<Code, CodegenError> {
    let mut context = Context::for_function(function);
    context.set_disasm(assembly);
    let code = context
        .compile(isa.cranelift.as_ref(), &mut ControlPlane::default())
        .map_err(|error| library("compiling", format!("{symbol}: {:?}", error.inner)))?;
    if !code.buffer.relocs().is_empty() {
        let relocations = code.buffer.relocs().iter();
        let symbols = relocations.map(|relocation| format!("{:?}", relocation.target)).collect();
        return Err(CodegenError::ExternalCall { generator: NAME, symbols });
    }
    Ok(Code {
        symbol: symbol.to_owned(),
        bytes: code.code_buffer().to_vec(),
        alignment: u64::from(code.buffer.alignment).max(ALIGNMENT),
        assembly: code.vcode.clone(),
    })
}

/// Writes a function into an object.
pub(super) fn write(code: &Code, isa: &Isa) -> Result<Object, CodegenError> {
    let isa = isa.cranelift.clone();
    let signature = signature(isa.default_call_conv());
    let builder = ObjectBuilder::new(isa, "kernels", default_libcall_names()).map_err(writing)?;
    let mut module = ObjectModule::new(builder);
    let id = module.declare_function(&code.symbol, Linkage::Export, &signature).map_err(writing)?;
    module.define_function_bytes(id, code.alignment, &code.bytes, &[]).map_err(writing)?;
    let bytes = module.finish().emit().map_err(writing)?;
    Ok(Object { bytes })
}

fn writing(error: impl Display) -> CodegenError {
    library("writing an object", error.to_string())
}

fn library(phase: &'static str, message: String) -> CodegenError {
    CodegenError::Library { generator: NAME, phase, message }
}
