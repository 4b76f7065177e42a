//! Machine code by Cranelift: a millisecond a kernel, and no LLVM on the machine.
//!
//! Invariant: nests become code one to one, with 128-bit vectors, and the code calls nothing.

mod isa;
mod object;
mod translate;

#[cfg(test)]
mod tests;

use crate::codegen::{CodeGenerator, CodegenError, Object, Unit};
use crate::nest::{self, Capabilities, Nest};
use crate::target::Target;
use cranelift_frontend::FunctionBuilderContext;
use isa::Isa;
use object::Code;

/// What the generator is called.
const NAME: &str = "cranelift";

/// The code generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cranelift;

impl Cranelift {
    /// The target as schedules for this generator should see it: with vectors of 128 bits, and as
    /// many registers as a tile can use before accumulators spill. Those are fewer than the machine
    /// has, for a fused multiply-add here overwrites a factor instead of the sum.
    pub fn schedule_target(&self, target: &Target) -> Target {
        Target { vector_bits: 128, vector_registers: 12, ..target.clone() }
    }

    /// The loop nest that is translated for a unit.
    pub fn nest(&self, unit: &Unit<'_>, target: &Target) -> Result<Nest, CodegenError> {
        Ok(nest::lower(unit.kernel, unit.schedule, Capabilities::narrow(target))?)
    }

    /// Cranelift's intermediate representation of a unit, before optimisation.
    pub fn intermediate(&self, unit: &Unit<'_>, target: &Target) -> Result<String, CodegenError> {
        let (isa, nest) = (Isa::new(target)?, self.nest(unit, target)?);
        let mut context = FunctionBuilderContext::new();
        Ok(translate::translate(&nest, &isa, &mut context)?.display().to_string())
    }

    /// The assembly of a unit.
    pub fn assembly(&self, unit: &Unit<'_>, target: &Target) -> Result<String, CodegenError> {
        let (isa, nest) = (Isa::new(target)?, self.nest(unit, target)?);
        let mut context = FunctionBuilderContext::new();
        let code = compile_nest(unit.symbol, &nest, &isa, &mut context, true)?;
        Ok(code.assembly.unwrap_or_default())
    }
}

impl CodeGenerator for Cranelift {
    fn name(&self) -> &'static str {
        NAME
    }

    fn compile(&self, units: &[Unit<'_>], target: &Target) -> Result<Vec<Object>, CodegenError> {
        let isa = Isa::new(target)?;
        let mut context = FunctionBuilderContext::new();
        let object = |unit: &Unit<'_>| {
            let nest = self.nest(unit, target)?;
            let code = compile_nest(unit.symbol, &nest, &isa, &mut context, false)?;
            object::write(&code, &isa)
        };
        units.iter().map(object).collect()
    }
}

fn compile_nest(
    symbol: &str,
    nest: &Nest,
    isa: &Isa,
    context: &mut FunctionBuilderContext,
    assembly: bool,
) -> Result<Code, CodegenError> {
    let function = translate::translate(nest, isa, context)?;
    object::compile(function, symbol, isa, assembly)
}
