//! A target as Cranelift's instruction set description.
//!
//! Invariant: code uses no extension that the target does not list, and a target without what the
//! translation relies on is refused here, before any code is made.

use super::NAME;
use crate::codegen::CodegenError;
use crate::target::Target;
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable, SetError};
use kiln_program::Architecture;
use std::str::FromStr;
use target_lexicon::{Architecture as TripleArchitecture, BinaryFormat, Triple};

/// LLVM's and Cranelift's names of the x86 extensions that Cranelift knows.
const X86_FEATURES: &[(&str, &str)] = &[
    ("avx", "has_avx"),
    ("avx2", "has_avx2"),
    ("avx512bitalg", "has_avx512bitalg"),
    ("avx512dq", "has_avx512dq"),
    ("avx512f", "has_avx512f"),
    ("avx512vbmi", "has_avx512vbmi"),
    ("avx512vl", "has_avx512vl"),
    ("bmi", "has_bmi1"),
    ("bmi2", "has_bmi2"),
    ("fma", "has_fma"),
    ("lzcnt", "has_lzcnt"),
    ("popcnt", "has_popcnt"),
    ("sse3", "has_sse3"),
    ("sse4.1", "has_sse41"),
    ("sse4.2", "has_sse42"),
    ("ssse3", "has_ssse3"),
];

/// What is needed on x86: rounding, lane access, blends and byte shuffles without library calls.
const X86_REQUIRED: &[&str] = &["sse3", "ssse3", "sse4.1"];

/// A target that Cranelift makes code for.
pub(super) struct Isa {
    pub(super) cranelift: OwnedTargetIsa,
    pub(super) architecture: Architecture,
    /// Whether there is a fused multiply-add.
    pub(super) fma: bool,
}

impl Isa {
    pub(super) fn new(target: &Target) -> Result<Self, CodegenError> {
        Self::build(target).map_err(|reason| CodegenError::Target {
            generator: NAME,
            triple: target.triple.clone(),
            cpu: target.cpu.clone(),
            reason,
        })
    }

    fn build(target: &Target) -> Result<Self, String> {
        let triple = Triple::from_str(&target.triple).map_err(|error| error.to_string())?;
        if triple.binary_format != BinaryFormat::Elf {
            return Err("objects are ELF alone".to_owned());
        }
        let architecture = match triple.architecture {
            TripleArchitecture::X86_64 => Architecture::X86_64,
            TripleArchitecture::Aarch64(_) => Architecture::Aarch64,
            other => return Err(format!("the architecture {other} is not supported")),
        };
        let known = match architecture {
            Architecture::X86_64 => X86_FEATURES,
            Architecture::Aarch64 => &[],
        };
        let required = match architecture {
            Architecture::X86_64 => X86_REQUIRED,
            Architecture::Aarch64 => &[],
        };
        if let Some(missing) = required.iter().find(|feature| !target.has(feature)) {
            return Err(format!("it lacks {missing}"));
        }
        let flags = flags().map_err(|error| error.to_string())?;
        let mut builder = isa::lookup(triple).map_err(|error| error.to_string())?;
        for (_, flag) in known.iter().filter(|(feature, _)| target.has(feature)) {
            builder.enable(flag).map_err(|error| format!("{flag}: {error}"))?;
        }
        let fma = target.fuses_multiply_add();
        Ok(Isa {
            cranelift: builder.finish(flags).map_err(|error| error.to_string())?,
            architecture,
            fma,
        })
    }
}

fn flags() -> Result<settings::Flags, SetError> {
    let mut flags = settings::builder();
    flags.set("opt_level", "speed")?;
    // The loader maps objects anywhere and resolves what is relative to the instruction.
    flags.set("is_pic", "true")?;
    flags.set("enable_probestack", "false")?;
    flags.set("unwind_info", "false")?;
    // The translation is typed throughout; the verifier is for tests of the translation itself.
    flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    Ok(settings::Flags::new(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_what_is_needed_is_refused_by_name() {
        let mut target = Target::named("x86-64-v2").unwrap();
        target.features.remove("sse4.1");
        let message = Isa::new(&target).err().unwrap().to_string();
        assert!(message.contains("lacks sse4.1"), "{message}");

        target.triple = "riscv64gc-unknown-linux-gnu".to_owned();
        let message = Isa::new(&target).err().unwrap().to_string();
        assert!(message.contains("riscv64"), "{message}");

        target.triple = "aarch64-apple-darwin".to_owned();
        let message = Isa::new(&target).err().unwrap().to_string();
        assert!(message.contains("ELF"), "{message}");
    }

    #[test]
    fn fused_multiply_adds_are_as_the_target_says() {
        for (name, fma) in [("haswell", true), ("x86-64-v2", false)] {
            assert_eq!(Isa::new(&Target::named(name).unwrap()).unwrap().fma, fma, "{name}");
        }
    }
}
