//! What every code generator does: kernels under schedules in, relocatable objects out.
//!
//! Invariant: equal units and targets give equal bytes, and an object calls nothing outside itself.

use crate::nest::NestError;
use crate::target::Target;
use kiln_ir::kernel::Kernel;
use kiln_ir::schedule::Schedule;
use thiserror::Error;

/// One function to make: a kernel, how it is run, and the name of its symbol.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// What is computed.
    pub kernel: &'a Kernel,
    /// How.
    pub schedule: &'a Schedule,
    /// Name of the function in the object.
    pub symbol: &'a str,
}

/// A relocatable ELF object with the function of a unit, of the type
/// `extern "C" fn(buffers: *const *mut u8, params: *const i64, scratch: *mut u8, begin: i64, end: i64)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

/// Makes machine code of kernels.
pub trait CodeGenerator: Send + Sync {
    /// Name in flags and reports, e.g. `llvm`.
    fn name(&self) -> &'static str;

    /// An object for each unit, in order. Units may be spread over several calls, which may run in parallel;
    /// an object depends on its unit and the target alone.
    fn compile(&self, units: &[Unit<'_>], target: &Target) -> Result<Vec<Object>, CodegenError>;

    /// Which version of the generator this is: another one may give other objects.
    fn revision(&self) -> String {
        format!("{} {REVISION}", self.name())
    }
}

/// The version, and a hash of all source that machine code follows from.
pub const REVISION: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("KILN_CODE_REVISION"));

/// Why there is no code.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodegenError {
    /// A kernel cannot be run under its schedule.
    #[error(transparent)]
    Nest(#[from] NestError),
    /// The target is not one of the code generator's.
    #[error("{generator} cannot make code for {triple} ({cpu}): {reason}")]
    Target {
        /// The code generator.
        generator: &'static str,
        /// The target's triple.
        triple: String,
        /// The target's processor.
        cpu: String,
        /// What is missing.
        reason: String,
    },
    /// A statement of the loop nest that the code generator has no translation for.
    #[error("{generator} cannot translate `{statement}` of kernel `{kernel}`: {reason}")]
    Statement {
        /// The code generator.
        generator: &'static str,
        /// The kernel's name.
        kernel: String,
        /// The statement.
        statement: String,
        /// Why not.
        reason: String,
    },
    /// The code generator's own library refused what it was given: a defect of Kiln.
    #[error("{generator} failed in {phase}: {message}; please report this kernel")]
    Library {
        /// The code generator.
        generator: &'static str,
        /// What it was doing.
        phase: &'static str,
        /// What it said.
        message: String,
    },
    /// The object would call functions that are not in it: a defect of Kiln.
    #[error("the code of {generator} calls {}, which no artefact has", symbols.join(", "))]
    ExternalCall {
        /// The code generator.
        generator: &'static str,
        /// The functions.
        symbols: Vec<String>,
    },
}

/// Refuses an object that needs symbols from outside.
#[cfg(feature = "llvm")]
pub(crate) fn check_self_contained(
    generator: &'static str,
    bytes: &[u8],
) -> Result<(), CodegenError> {
    use object::{Object as _, ObjectSymbol as _};
    let file = object::File::parse(bytes).map_err(|error| CodegenError::Library {
        generator,
        phase: "reading its own object",
        message: error.to_string(),
    })?;
    let symbols: Vec<String> = file
        .symbols()
        .filter(|symbol| symbol.is_undefined() && symbol.index().0 != 0)
        .map(|symbol| symbol.name().unwrap_or("?").to_owned())
        .collect();
    if symbols.is_empty() {
        return Ok(());
    }
    Err(CodegenError::ExternalCall { generator, symbols })
}
