//! What a machine offers: instruction set, vector registers, caches, cores.
//!
//! Invariant: plain data. The same target, however it was found, gives the same code; only
//! [`Target::host`] looks at the machine that it runs on.

mod host;

use kiln_program::Architecture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// A machine to compile for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// LLVM's target triple, e.g. `x86_64-unknown-linux-gnu`.
    pub triple: String,
    /// LLVM's name of the processor, e.g. `znver4`; instructions are scheduled for it.
    pub cpu: String,
    /// Instruction set extensions that code may use, by LLVM's names, e.g. `avx512f`.
    pub features: BTreeSet<String>,
    /// Bits of the widest vector register.
    pub vector_bits: u32,
    /// Number of vector registers.
    pub vector_registers: u32,
    /// Caches and cores.
    pub machine: Machine,
}

/// Sizes that decide how a kernel is tiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Bytes of first-level data cache of one core.
    pub l1d_bytes: u64,
    /// Bytes of second-level cache of one core.
    pub l2_bytes: u64,
    /// Bytes of third-level cache that one core can count on.
    pub l3_bytes_per_core: u64,
    /// Cores to run on.
    pub cores: u32,
}

/// Why there is no target of a name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// The name is not known.
    #[error("unknown processor `{name}`; known are host, {}", known_names().join(", "))]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// The machine that this runs on is not one that code can be made for.
    #[error("this machine ({architecture}) cannot be a target: {reason}")]
    Host {
        /// Its architecture.
        architecture: String,
        /// What is missing.
        reason: String,
    },
}

const V2: &[&str] = &["cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"];
const V3: &[&str] = &["avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"];
const V4: &[&str] = &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];
const DEEP_LEARNING: &[&str] = &["avx512bf16", "avx512vnni"];
/// What came with the third generation of AVX-512.
const ICE_LAKE: &[&str] = &[
    "avx512bitalg",
    "avx512ifma",
    "avx512vbmi",
    "avx512vbmi2",
    "avx512vpopcntdq",
    "gfni",
    "vaes",
    "vpclmulqdq",
];
const NEON: &[&str] = &["neon"];
const V8_2: &[&str] = &["dotprod", "fullfp16", "lse"];

/// A processor that can be asked for by name.
struct Processor {
    name: &'static str,
    architecture: Architecture,
    /// LLVM's name.
    cpu: &'static str,
    features: &'static [&'static [&'static str]],
    l1d_kib: u64,
    l2_kib: u64,
    l3_kib_per_core: u64,
}

const fn processor(
    name: &'static str,
    features: &'static [&'static [&'static str]],
    [l1d_kib, l2_kib, l3_kib_per_core]: [u64; 3],
) -> Processor {
    let architecture = Architecture::X86_64;
    Processor { name, architecture, cpu: name, features, l1d_kib, l2_kib, l3_kib_per_core }
}

const fn arm(
    name: &'static str,
    cpu: &'static str,
    features: &'static [&'static [&'static str]],
    [l1d_kib, l2_kib, l3_kib_per_core]: [u64; 3],
) -> Processor {
    let architecture = Architecture::Aarch64;
    Processor { name, architecture, cpu, features, l1d_kib, l2_kib, l3_kib_per_core }
}

/// Cache sizes are those of the server parts of each generation.
const PROCESSORS: &[Processor] = &[
    processor("x86-64-v2", &[V2], [32, 256, 1024]),
    processor("x86-64-v3", &[V2, V3], [32, 256, 1024]),
    processor("x86-64-v4", &[V2, V3, V4], [32, 1024, 1024]),
    processor("haswell", &[V2, V3], [32, 256, 2560]),
    processor("broadwell", &[V2, V3], [32, 256, 2560]),
    processor("skylake", &[V2, V3], [32, 256, 2048]),
    processor("skylake-avx512", &[V2, V3, V4], [32, 1024, 1408]),
    processor("cascadelake", &[V2, V3, V4, &["avx512vnni"]], [32, 1024, 1408]),
    processor("icelake-server", &[V2, V3, V4, ICE_LAKE, &["avx512vnni"]], [48, 1280, 1536]),
    processor("sapphirerapids", &[V2, V3, V4, ICE_LAKE, DEEP_LEARNING], [48, 2048, 1920]),
    processor("znver1", &[V2, V3], [32, 512, 2048]),
    processor("znver2", &[V2, V3], [32, 512, 4096]),
    processor("znver3", &[V2, V3], [32, 512, 4096]),
    processor("znver4", &[V2, V3, V4, ICE_LAKE, DEEP_LEARNING], [32, 1024, 4096]),
    processor("znver5", &[V2, V3, V4, ICE_LAKE, DEEP_LEARNING], [48, 1024, 4096]),
    arm("armv8-a", "generic", &[NEON], [32, 256, 512]),
    arm("cortex-a72", "cortex-a72", &[NEON], [32, 512, 512]),
    arm("neoverse-n1", "neoverse-n1", &[NEON, V8_2], [64, 1024, 1024]),
];

/// Names that [`Target::named`] knows, besides `host`.
pub fn known_names() -> Vec<&'static str> {
    PROCESSORS.iter().map(|processor| processor.name).collect()
}

impl Target {
    /// The machine that this runs on.
    pub fn host() -> Result<Self, TargetError> {
        host::detect()
    }

    /// The target of a name: `host` or one of [`known_names`]. A named target has the cores of no
    /// particular machine: one.
    pub fn named(name: &str) -> Result<Self, TargetError> {
        if name == "host" {
            return Self::host();
        }
        let unknown = || TargetError::Unknown { name: name.to_owned() };
        let found = PROCESSORS.iter().find(|p| p.name == name).ok_or_else(unknown)?;
        let features =
            found.features.iter().flat_map(|group| group.iter()).map(|f| f.to_string()).collect();
        let machine = Machine {
            l1d_bytes: found.l1d_kib << 10,
            l2_bytes: found.l2_kib << 10,
            l3_bytes_per_core: found.l3_kib_per_core << 10,
            cores: 1,
        };
        Ok(match found.architecture {
            Architecture::X86_64 => Self::x86_64(found.cpu, features, machine),
            Architecture::Aarch64 => Self::aarch64(found.cpu, features, machine),
        })
    }

    fn aarch64(cpu: &str, features: BTreeSet<String>, machine: Machine) -> Self {
        Target {
            triple: "aarch64-unknown-linux-gnu".to_owned(),
            cpu: cpu.to_owned(),
            features,
            vector_bits: 128,
            vector_registers: 32,
            machine,
        }
    }

    fn x86_64(cpu: &str, features: BTreeSet<String>, machine: Machine) -> Self {
        let (vector_bits, vector_registers) = if V4.iter().all(|f| features.contains(*f)) {
            (512, 32)
        } else if features.contains("avx2") {
            (256, 16)
        } else {
            (128, 16)
        };
        Target {
            triple: "x86_64-unknown-linux-gnu".to_owned(),
            cpu: cpu.to_owned(),
            features,
            vector_bits,
            vector_registers,
            machine,
        }
    }

    /// The architecture that the triple begins with, if code for it can exist.
    pub fn architecture(&self) -> Option<Architecture> {
        let name = self.triple.split('-').next();
        [Architecture::X86_64, Architecture::Aarch64].into_iter().find(|a| Some(a.name()) == name)
    }

    /// Whether a product and a sum are one operation.
    pub fn fuses_multiply_add(&self) -> bool {
        self.architecture() == Some(Architecture::Aarch64) || self.has("fma")
    }

    /// Whether code may use an instruction set extension, by LLVM's name.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }

    /// The features as LLVM takes them: `+avx,+avx2,…`.
    pub fn feature_string(&self) -> String {
        self.features.iter().map(|f| format!("+{f}")).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_width_follows_from_the_instruction_set() {
        for (name, bits, registers) in
            [("x86-64-v2", 128, 16), ("haswell", 256, 16), ("znver4", 512, 32)]
        {
            let target = Target::named(name).unwrap();
            assert_eq!((target.vector_bits, target.vector_registers), (bits, registers), "{name}");
            assert_eq!(target.fuses_multiply_add(), bits > 128, "{name}");
        }
        let arm = Target::named("cortex-a72").unwrap();
        assert_eq!((arm.vector_bits, arm.vector_registers), (128, 32));
        assert!(arm.architecture() == Some(Architecture::Aarch64) && arm.fuses_multiply_add());
        let other = Target { triple: "aarch64_be-unknown-linux-gnu".to_owned(), ..arm };
        assert_eq!(other.architecture(), None);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = Target::named("pentium").unwrap_err().to_string();
        assert!(message.contains("pentium") && message.contains("znver4"), "{message}");
    }

    #[test]
    fn the_host_is_described() {
        let host = Target::host().unwrap();
        assert!(host.machine.cores >= 1 && host.machine.l1d_bytes >= 8 << 10, "{host:?}");
        assert!(host.vector_bits >= 128);
    }
}
