//! What this machine's processor can do, asked by LLVM's feature names.
//!
//! Invariant: a feature that is not known here counts as absent, so that no code runs that the
//! processor might not understand.

use kiln_program::{Architecture, CodeVariant};

macro_rules! detect {
    ($detected:ident, $feature:expr, { $($llvm:literal => $rust:tt),* $(,)? }) => {
        match $feature {
            $($llvm => std::arch::$detected!($rust),)*
            _ => false,
        }
    };
}

/// Whether the processor and the system have this feature.
#[cfg(target_arch = "x86_64")]
pub fn has_feature(feature: &str) -> bool {
    if feature == "sahf" {
        return has_sahf();
    }
    detect!(is_x86_feature_detected, feature, {
        "sse" => "sse", "sse2" => "sse2", "sse3" => "sse3", "ssse3" => "ssse3",
        "sse4.1" => "sse4.1", "sse4.2" => "sse4.2", "popcnt" => "popcnt", "lzcnt" => "lzcnt",
        "bmi" => "bmi1", "bmi2" => "bmi2", "movbe" => "movbe", "cx16" => "cmpxchg16b",
        "f16c" => "f16c", "fma" => "fma", "xsave" => "xsave", "avx" => "avx", "avx2" => "avx2",
        "avxvnni" => "avxvnni",
        "avx512f" => "avx512f", "avx512cd" => "avx512cd", "avx512bw" => "avx512bw",
        "avx512dq" => "avx512dq", "avx512vl" => "avx512vl", "avx512ifma" => "avx512ifma",
        "avx512vbmi" => "avx512vbmi", "avx512vbmi2" => "avx512vbmi2",
        "avx512vnni" => "avx512vnni", "avx512bitalg" => "avx512bitalg",
        "avx512vpopcntdq" => "avx512vpopcntdq", "avx512bf16" => "avx512bf16",
        "avx512fp16" => "avx512fp16", "gfni" => "gfni", "vaes" => "vaes",
        "vpclmulqdq" => "vpclmulqdq",
    })
}

/// `LAHF` and `SAHF` in 64-bit mode, which the standard library has no name for: leaf 8000_0001h,
/// ecx bit 0.
#[cfg(target_arch = "x86_64")]
fn has_sahf() -> bool {
    use std::arch::x86_64::__cpuid;
    const EXTENDED: u32 = 0x8000_0000;
    __cpuid(EXTENDED).eax > EXTENDED && __cpuid(EXTENDED + 1).ecx & 1 != 0
}

/// Whether the processor and the system have this feature.
#[cfg(target_arch = "aarch64")]
pub fn has_feature(feature: &str) -> bool {
    detect!(is_aarch64_feature_detected, feature, {
        "neon" => "neon", "dotprod" => "dotprod", "fullfp16" => "fp16", "fp16fml" => "fhm",
        "bf16" => "bf16", "i8mm" => "i8mm", "lse" => "lse", "sve" => "sve", "sve2" => "sve2",
    })
}

/// Whether the processor and the system have this feature.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn has_feature(_feature: &str) -> bool {
    false
}

/// Why this machine cannot run a version of the code; `None` if it can.
pub(crate) fn obstacle<B>(variant: &CodeVariant<B>) -> Option<String> {
    if Architecture::HOST != Some(variant.architecture) {
        return Some(format!("code for {}", variant.architecture));
    }
    let missing: Vec<&str> =
        variant.features.iter().map(String::as_str).filter(|f| !has_feature(f)).collect();
    (!missing.is_empty()).then(|| format!("code that needs {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_features_are_absent_and_named() {
        let host = Architecture::HOST.unwrap();
        let variant = |architecture, features: &[&str]| CodeVariant::<Vec<u8>> {
            architecture,
            features: features.iter().map(|&f| f.to_owned()).collect(),
            objects: vec![],
            partitions: vec![],
        };
        assert_eq!(obstacle(&variant(host, &[])), None);
        let message = obstacle(&variant(host, &["warp-drive"])).unwrap();
        assert!(message.contains("warp-drive"), "{message}");
        let other = match host {
            Architecture::X86_64 => Architecture::Aarch64,
            Architecture::Aarch64 => Architecture::X86_64,
        };
        assert!(obstacle(&variant(other, &[])).unwrap().contains(other.name()));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_baseline_is_present() {
        assert!(has_feature("sse2"));
        // Every processor with AVX has it.
        assert!(!has_feature("avx") || has_feature("sahf"));
    }
}
