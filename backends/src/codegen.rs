//! The edge that every code generator has: units in, one relocatable object out.
//!
//! Invariant: a generator translates what it was given or says why not; it never falls back to
//! another one.

use crate::nest::{Nest, NestError};
use crate::target::Target;
use kiln_ir::kernel::Kernel;
use kiln_ir::schedule::Schedule;
use kiln_program::Architecture;
use thiserror::Error;

/// One kernel to compile.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// What it computes.
    pub kernel: &'a Kernel,
    /// How.
    pub schedule: &'a Schedule,
    /// Name of its function in the object; unique among the units.
    pub symbol: &'a str,
}

/// A relocatable ELF object with one global function a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectCode {
    /// The architecture of the code.
    pub architecture: Architecture,
    /// Instruction set extensions that the code may use, by LLVM's names, sorted.
    pub features: Vec<String>,
    /// The object.
    pub bytes: Vec<u8>,
}

/// A form in which a unit can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The loop nest, which is the same for all generators with equal capabilities.
    Nest,
    /// The generator's own intermediate representation, before optimisation.
    Intermediate,
    /// Assembly.
    Assembly,
}

/// Makes machine code.
pub trait CodeGenerator: Send + Sync {
    /// Its name, as in `--backend`.
    fn name(&self) -> &'static str;

    /// The loop nest that this generator would translate for a unit.
    fn nest(&self, unit: &Unit<'_>, target: &Target) -> Result<Nest, CodegenError>;

    /// Compiles all units into one object. Equal input gives equal bytes.
    fn compile(&self, units: &[Unit<'_>], target: &Target) -> Result<ObjectCode, CodegenError>;

    /// A unit as text.
    fn inspect(
        &self,
        unit: &Unit<'_>,
        target: &Target,
        form: Form,
    ) -> Result<String, CodegenError>;
}

/// Why there is no code.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodegenError {
    /// The kernel cannot be run under its schedule.
    #[error(transparent)]
    Nest(#[from] NestError),
    /// The generator makes no code for this target.
    #[error("{generator} makes no code for {triple} ({cpu}): {reason}")]
    Target {
        /// The generator.
        generator: &'static str,
        /// The target's triple.
        triple: String,
        /// The target's processor.
        cpu: String,
        /// What is missing.
        reason: String,
    },
    /// A statement of the loop nest that the generator cannot translate.
    #[error("{generator} cannot translate `{statement}` of kernel `{kernel}`: {reason}")]
    Statement {
        /// The generator.
        generator: &'static str,
        /// The kernel's name.
        kernel: String,
        /// The statement.
        statement: String,
        /// Why not.
        reason: String,
    },
    /// The generator's own checks or its object writer refused.
    #[error("{generator} failed on `{symbol}`: {reason}")]
    Generator {
        /// The generator.
        generator: &'static str,
        /// The function or object.
        symbol: String,
        /// What it said.
        reason: String,
    },
}
