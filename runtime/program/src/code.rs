//! Machine code as data: relocatable objects, and which machines may run them.
//!
//! Invariant: objects say what they need; only a machine that has all of it is given the code.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An instruction set architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm, little-endian.
    Aarch64,
}

impl Architecture {
    /// The architecture that this program was built for, if code for it can exist.
    pub const HOST: Option<Architecture> = if cfg!(target_arch = "x86_64") {
        Some(Architecture::X86_64)
    } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        Some(Architecture::Aarch64)
    } else {
        None
    };

    /// The name used in target triples, e.g. `x86_64`.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One version of the code of all kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeVariant<Bytes = Vec<u8>> {
    /// Architecture.
    pub architecture: Architecture,
    /// Features that the processor must have beyond the architecture's baseline, by LLVM's names
    /// (`avx2`, `fma`, `avx512f`), sorted.
    pub features: Vec<String>,
    /// Relocatable ELF objects, linked with each other when they are loaded. Together they define
    /// the symbol of every kernel.
    pub objects: Vec<Bytes>,
}
