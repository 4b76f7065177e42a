//! The loader: relocatable ELF objects become functions that can be called.
//!
//! Invariant: pages are writable or executable, never both; whatever an object says is checked
//! against its own bounds before it is believed, so that a damaged object gives an error.

mod external;
mod link;
mod map;
mod relocation;

use kiln_program::Architecture;
use map::ExecutableMemory;
use std::collections::BTreeMap;
use thiserror::Error;

/// How a kernel is called: operand buffers, size parameters, this thread's scratch memory, and the
/// half-open range of tasks that it shall do.
pub type KernelFunction = unsafe extern "C" fn(
    buffers: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
    begin: i64,
    end: i64,
);

/// Why an object cannot be loaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// The bytes are no ELF object, or a damaged one.
    #[error("object {object} is damaged or no ELF object: {reason}")]
    Malformed {
        /// Number of the object.
        object: usize,
        /// What is wrong.
        reason: String,
    },
    /// A well-formed object with something that kernels do not need.
    #[error("object {object} uses {what}, which the loader does not support")]
    Unsupported {
        /// Number of the object.
        object: usize,
        /// What it uses.
        what: String,
    },
    /// Code for another machine.
    #[error("object {object} holds {actual} code, expected {expected}")]
    Architecture {
        /// Number of the object.
        object: usize,
        /// What was asked for.
        expected: Architecture,
        /// What the object says.
        actual: String,
    },
    /// A symbol that neither an object nor the loader's list defines.
    #[error("object {object} needs `{symbol}`, which is neither defined nor allowed from outside")]
    Unresolved {
        /// Number of the object.
        object: usize,
        /// Name of the symbol.
        symbol: String,
    },
    /// Two objects define one symbol.
    #[error("`{symbol}` is defined twice")]
    Duplicate {
        /// Name of the symbol.
        symbol: String,
    },
    /// A relocation outside its section, or a distance that its field cannot hold.
    #[error("relocation at {offset:#x} of section `{section}` in object {object} does not fit")]
    Relocation {
        /// Number of the object.
        object: usize,
        /// Name of the section.
        section: String,
        /// Offset in the section.
        offset: u64,
    },
    /// The system gave no memory for the code.
    #[error("no memory for {bytes} bytes of code: {reason}")]
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
        /// What the system said.
        reason: String,
    },
    /// No function of that name.
    #[error("the code holds no function `{symbol}`")]
    NoEntry {
        /// Name that was asked for.
        symbol: String,
    },
}

/// Checks that objects of an architecture, which need not be this machine's, link with each other and define these
/// functions.
pub fn check<'s>(
    objects: &[&[u8]],
    architecture: Architecture,
    mut symbols: impl Iterator<Item = &'s str>,
) -> Result<(), LoadError> {
    let functions = link::LinkPlan::new(objects, architecture)?.into_functions();
    match symbols.find(|symbol| !functions.contains_key(*symbol)) {
        Some(missing) => Err(LoadError::NoEntry { symbol: missing.to_owned() }),
        None => Ok(()),
    }
}

/// Code that is mapped and can be called for as long as this value lives.
#[derive(Debug)]
pub struct LoadedCode {
    memory: ExecutableMemory,
    /// Offset of each global function.
    functions: BTreeMap<String, usize>,
}

impl LoadedCode {
    /// Links the objects with each other and maps them; they must hold code for this machine's
    /// architecture.
    pub fn load(objects: &[&[u8]]) -> Result<Self, LoadError> {
        let Some(architecture) = Architecture::HOST else {
            return Err(LoadError::Unsupported {
                object: 0,
                what: "code for this machine's architecture".to_owned(),
            });
        };
        let plan = link::LinkPlan::new(objects, architecture)?;
        let memory = ExecutableMemory::fill(plan.size(), |bytes, address| {
            plan.link_into(bytes, address, external::External::address)
        })?;
        Ok(LoadedCode { memory, functions: plan.into_functions() })
    }

    /// The function of this name.
    ///
    /// Calling it is unsafe: it must have the signature of a kernel, and the `LoadedCode` must be
    /// alive.
    pub fn entry(&self, symbol: &str) -> Result<KernelFunction, LoadError> {
        let missing = || LoadError::NoEntry { symbol: symbol.to_owned() };
        let offset = *self.functions.get(symbol).ok_or_else(missing)?;
        let pointer = self.memory.address_of(offset).ok_or_else(missing)?;
        // SAFETY: the pointer is the address of a function symbol in executable memory, never
        // null. That the code behind it is a kernel is the caller's promise when calling it.
        Ok(unsafe { std::mem::transmute::<*const u8, KernelFunction>(pointer) })
    }

    /// Bytes of code and constants.
    pub fn size(&self) -> usize {
        self.memory.size()
    }
}

#[cfg(test)]
mod tests;
