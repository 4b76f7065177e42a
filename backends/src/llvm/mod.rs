//! Nests to machine code through MLIR and LLVM.
//!
//! Invariant: what MLIR or LLVM has to say becomes a typed error; nothing is printed.

mod diagnostics;
mod lanes;
mod object;
mod pipeline;

use crate::codegen::{CodeGenerator, CodegenError, Object, REVISION, Unit, check_self_contained};
use crate::mlir;
use crate::nest::{self, Capabilities};
use crate::target::Target;
use diagnostics::Diagnostics;
use inkwell::targets::TargetMachine;
use melior::Context;
use melior::ir::{Location, Module};

pub(crate) const NAME: &str = "llvm";

/// The code generator that uses MLIR and LLVM.
#[derive(Clone, Copy, Debug, Default)]
pub struct Llvm;

/// What there is to see between a kernel and its machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The loop nest.
    Nest,
    /// MLIR before it is lowered.
    Mlir,
    /// LLVM IR after optimisation.
    Llvm,
    /// Assembly.
    Assembly,
}

impl CodeGenerator for Llvm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn compile(&self, units: &[Unit<'_>], target: &Target) -> Result<Vec<Object>, CodegenError> {
        with_setting(target, |setting| {
            let object = |unit: &Unit<'_>| {
                let bytes = setting.generate(&[*unit], None)?;
                check_self_contained(NAME, &bytes)?;
                Ok(Object { bytes })
            };
            units.iter().map(object).collect()
        })
    }

    fn revision(&self) -> String {
        let (major, minor, patch) = inkwell::support::get_llvm_version();
        format!("{NAME} {major}.{minor}.{patch} {REVISION}")
    }
}

impl Llvm {
    /// The text of the units at a level.
    pub fn inspect(
        &self,
        units: &[Unit<'_>],
        target: &Target,
        level: Level,
    ) -> Result<String, CodegenError> {
        if level == Level::Nest {
            let mut text = String::new();
            for unit in units {
                let nest = nest::lower(unit.kernel, unit.schedule, Capabilities::full(target))?;
                text.push_str(&nest.to_string());
            }
            return Ok(text);
        }
        let bytes = with_setting(target, |setting| setting.generate(units, Some(level)))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What units are compiled with, which several of them can share.
struct Setting<'a> {
    capabilities: Capabilities,
    attributes: Vec<(String, Option<String>)>,
    machine: &'a TargetMachine,
    context: &'a Context,
    diagnostics: &'a Diagnostics,
}

fn with_setting<T>(
    target: &Target,
    work: impl FnOnce(&Setting<'_>) -> Result<T, CodegenError>,
) -> Result<T, CodegenError> {
    let machine = object::machine(target)?;
    let context = mlir::context();
    let diagnostics = Diagnostics::attach(&context);
    work(&Setting {
        capabilities: Capabilities::full(target),
        attributes: function_attributes(target),
        machine: &machine,
        context: &context,
        diagnostics: &diagnostics,
    })
}

impl Setting<'_> {
    /// The bytes of one object of all units, or the text of an earlier level.
    fn generate(&self, units: &[Unit<'_>], stop: Option<Level>) -> Result<Vec<u8>, CodegenError> {
        let mut module = Module::new(Location::unknown(self.context));
        for unit in units {
            let nest = nest::lower(unit.kernel, unit.schedule, self.capabilities)?;
            mlir::emit(&module, self.context, &nest, unit.symbol, &self.attributes).map_err(
                |error| {
                    self.diagnostics.error("building MLIR", format!("{}: {error}", unit.symbol))
                },
            )?;
        }
        if stop == Some(Level::Mlir) {
            return Ok(module.as_operation().to_string().into_bytes());
        }
        pipeline::lower(self.context, &mut module)
            .map_err(|message| self.diagnostics.error("lowering MLIR to LLVM", message))?;
        object::optimise(&module, self.machine, stop, self.diagnostics)
    }
}

/// What every function says of itself. `no-builtins` keeps LLVM from turning loops into calls of
/// memset and memcpy, which no artefact has.
fn function_attributes(target: &Target) -> Vec<(String, Option<String>)> {
    vec![
        ("nounwind".to_owned(), None),
        ("no-builtins".to_owned(), None),
        ("target-cpu".to_owned(), Some(object::baseline(target).to_owned())),
        // Orders instructions for the processor, and uses none that its name alone would allow.
        ("tune-cpu".to_owned(), Some(target.cpu.clone())),
        ("target-features".to_owned(), Some(target.feature_string())),
        ("prefer-vector-width".to_owned(), Some(target.vector_bits.to_string())),
    ]
}
