//! The machine that this runs on, as a target.
//!
//! Invariant: claims nothing that the processor and the operating system do not both report.

use super::{Machine, PROCESSORS, Target, TargetError};
use std::collections::BTreeSet;

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn detect() -> Result<Target, TargetError> {
    Err(TargetError::Host {
        architecture: std::env::consts::ARCH.to_owned(),
        reason: format!("only x86_64 is supported so far ({} cores)", cores()),
    })
}

/// LLVM's name of a feature, and whether it is there. The standard library's test includes what the
/// operating system saves on a context switch, which cpuid alone does not.
#[cfg(target_arch = "x86_64")]
fn features() -> BTreeSet<String> {
    macro_rules! detected {
        ($($llvm:literal = $rust:tt),* $(,)?) => {
            [$(($llvm, std::arch::is_x86_feature_detected!($rust))),*]
        };
    }
    let found = detected! {
        "cx16" = "cmpxchg16b", "popcnt" = "popcnt", "sse3" = "sse3", "ssse3" = "ssse3",
        "sse4.1" = "sse4.1", "sse4.2" = "sse4.2", "avx" = "avx", "avx2" = "avx2", "bmi" = "bmi1",
        "bmi2" = "bmi2", "f16c" = "f16c", "fma" = "fma", "lzcnt" = "lzcnt", "movbe" = "movbe",
        "xsave" = "xsave", "avx512f" = "avx512f", "avx512bw" = "avx512bw",
        "avx512cd" = "avx512cd", "avx512dq" = "avx512dq", "avx512vl" = "avx512vl",
        "avx512vnni" = "avx512vnni", "avx512bf16" = "avx512bf16", "avx512bitalg" = "avx512bitalg",
        "avx512ifma" = "avx512ifma", "avx512vbmi" = "avx512vbmi", "avx512vbmi2" = "avx512vbmi2",
        "avx512vpopcntdq" = "avx512vpopcntdq", "gfni" = "gfni", "vaes" = "vaes",
        "vpclmulqdq" = "vpclmulqdq",
    };
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(target_arch = "x86_64")]
pub(super) fn detect() -> Result<Target, TargetError> {
    let cpuid = raw_cpuid::CpuId::new();
    let mut features = features();
    if cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_lahf_sahf()) {
        features.insert("sahf".to_owned());
    }
    if !features.contains("sse4.1") {
        return Err(TargetError::Host {
            architecture: "x86_64".to_owned(),
            reason: "it lacks SSE4.1".to_owned(),
        });
    }
    let (family, model) =
        cpuid.get_feature_info().map_or((0, 0), |info| (info.family_id(), info.model_id()));
    let vendor = cpuid.get_vendor_info();
    let generation = match vendor.as_ref().map(|vendor| vendor.as_str()) {
        Some("AuthenticAMD") => amd(family, model),
        Some("GenuineIntel") if family == 6 => intel(model),
        _ => None,
    };
    let cpu = generation
        .filter(|name| fits(name, &features))
        .or_else(|| ["x86-64-v4", "x86-64-v3"].into_iter().find(|name| fits(name, &features)))
        .unwrap_or("x86-64-v2");
    Ok(Target::x86_64(cpu, features, caches(&cpuid)))
}

/// A processor's name is only used if the machine has all that the name promises: a hypervisor may
/// hide extensions.
#[cfg(target_arch = "x86_64")]
fn fits(name: &str, features: &BTreeSet<String>) -> bool {
    PROCESSORS.iter().filter(|p| p.name == name).any(|processor| {
        processor.features.iter().flat_map(|group| group.iter()).all(|f| features.contains(*f))
    })
}

#[cfg(target_arch = "x86_64")]
fn amd(family: u8, model: u8) -> Option<&'static str> {
    match (family, model) {
        (0x17, 0x00..=0x2f) => Some("znver1"),
        (0x17, _) => Some("znver2"),
        (0x19, 0x10..=0x1f | 0x60..=0xaf) => Some("znver4"),
        (0x19, _) => Some("znver3"),
        (0x1a, _) => Some("znver5"),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
fn intel(model: u8) -> Option<&'static str> {
    match model {
        0x3c | 0x3f | 0x45 | 0x46 => Some("haswell"),
        0x3d | 0x47 | 0x4f | 0x56 => Some("broadwell"),
        0x4e | 0x5e | 0x8e | 0x9e | 0xa5 | 0xa6 => Some("skylake"),
        0x55 => Some("skylake-avx512"),
        0x6a | 0x6c => Some("icelake-server"),
        0x8f | 0xcf => Some("sapphirerapids"),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
fn caches(cpuid: &raw_cpuid::CpuId<raw_cpuid::native_cpuid::CpuIdReaderNative>) -> Machine {
    let cores = cores();
    let mut machine =
        Machine { l1d_bytes: 32 << 10, l2_bytes: 256 << 10, l3_bytes_per_core: 1 << 20, cores };
    // Intel reports caches in leaf 4, AMD in leaf 0x8000001d of the same form.
    for cache in cpuid.get_cache_parameters().into_iter().flatten() {
        let bytes = cache.associativity() as u64
            * cache.physical_line_partitions() as u64
            * cache.coherency_line_size() as u64
            * cache.sets() as u64;
        let sharing = (cache.max_cores_for_cache() as u64).clamp(1, u64::from(cores));
        match (cache.level(), cache.cache_type()) {
            (1, raw_cpuid::CacheType::Data) => machine.l1d_bytes = bytes,
            (2, _) => machine.l2_bytes = bytes,
            (3, _) => machine.l3_bytes_per_core = bytes / sharing,
            _ => {}
        }
    }
    machine
}
