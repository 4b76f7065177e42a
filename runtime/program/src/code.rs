//! Machine code as data: relocatable objects, and which machines may run them.
//!
//! Invariant: objects say what they need; only a machine that has all of it is given the code.

use crate::{KernelEntry, Program, ProgramError};
use kiln_tensor::{Dim, Symbol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// How the work of each kernel of the program is cut up in this version, in the kernels' order.
    pub partitions: Vec<Partition>,
}

impl CodeVariant<&[u8]> {
    /// The same with objects of its own.
    pub fn into_owned(self) -> CodeVariant {
        CodeVariant {
            architecture: self.architecture,
            features: self.features,
            objects: self.objects.into_iter().map(<[u8]>::to_vec).collect(),
            partitions: self.partitions,
        }
    }
}

/// How the work of a kernel is cut up, in its size parameters. Versions of one kernel may differ in it, and
/// in nothing else that whoever launches them has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Number of tasks.
    pub tasks: Dim,
    /// Scratch bytes for each thread.
    pub scratch: Dim,
}

/// An error unless there is a partition for each kernel of a program, in nothing but its parameters.
pub fn check_partitions(program: &Program, partitions: &[Partition]) -> Result<(), ProgramError> {
    let at = |place: String, reason: String| ProgramError { place, reason };
    if partitions.len() != program.kernels.len() {
        let (found, expected) = (partitions.len(), program.kernels.len());
        return Err(at("code".to_owned(), format!("it is of {found} kernels, not {expected}")));
    }
    let mut each = partitions.iter().zip(&program.kernels);
    each.try_for_each(|(partition, entry)| partition.check(entry))
}

impl Partition {
    /// An error unless it is in nothing but the parameters of this kernel.
    pub fn check(&self, entry: &KernelEntry) -> Result<(), ProgramError> {
        let mut symbols: BTreeSet<Symbol> = BTreeSet::new();
        [&self.tasks, &self.scratch].into_iter().for_each(|dim| dim.collect_symbols(&mut symbols));
        match symbols.iter().find(|symbol| !entry.params.contains(symbol)) {
            None => Ok(()),
            Some(unknown) => Err(ProgramError {
                place: format!("kernel `{}`", entry.name),
                reason: format!("its tasks depend on `{unknown}`, which is no parameter"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_of_the_programs_kernels() {
        let kernel = KernelEntry {
            name: "k".into(),
            symbol: "k".into(),
            operands: 1,
            params: vec![Symbol::new("n")],
        };
        let program = Program { kernels: vec![kernel], ..Program::default() };
        let partition = |tasks: &str, scratch: &str| Partition {
            tasks: tasks.parse().unwrap(),
            scratch: scratch.parse().unwrap(),
        };
        let check = |partitions: &[Partition]| {
            check_partitions(&program, partitions).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[partition("n", "4*n")]), Ok(()));
        assert!(check(&[]).unwrap_err().contains("0 kernels, not 1"));
        for [tasks, scratch] in [["m", "0"], ["1", "m"]] {
            assert!(check(&[partition(tasks, scratch)]).unwrap_err().contains("`m`"));
        }
    }
}
