//! Says which version of the code generators this is, and makes MLIR's C interface linkable where a
//! distribution ships it only as static archives.
//!
//! Invariant: the version is a hash of all source that machine code follows from. Nothing is linked without
//! the feature `llvm`, and no script is written where `libMLIR-C.so` exists.
//!
//! mlir-sys asks for `-lMLIR-C`. Debian has the C interface in `libMLIRCAPI*.a` alone, so a linker
//! script of that name that groups the archives is put on the search path.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What machine code follows from, besides kernels and schedules: both languages, their arithmetic of sizes, the
/// lowering, and the versions of the crates.
const SOURCES: [&str; 6] = [
    "src",
    "build.rs",
    "../ir/src",
    "../runtime/tensor/src",
    "../runtime/program/src",
    "../Cargo.lock",
];

fn main() -> io::Result<()> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        read(Path::new(source), &mut hasher)?;
    }
    println!("cargo:rustc-env=KILN_CODE_REVISION={:016x}", hasher.finish());
    println!("cargo:rerun-if-env-changed=MLIR_SYS_220_PREFIX");
    if env::var_os("CARGO_FEATURE_LLVM").is_none() {
        return Ok(());
    }
    let prefix = env::var_os("MLIR_SYS_220_PREFIX")
        .map_or_else(|| PathBuf::from("/usr/lib/llvm-22"), PathBuf::from);
    let libraries = prefix.join("lib");
    println!("cargo:rerun-if-changed={}", libraries.display());
    if !libraries.join("libMLIR-C.so").exists() {
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        fs::write(out.join("libMLIR-C.so"), linker_script(&libraries)?)?;
        println!("cargo:rustc-link-search=native={}", out.display());
    }
    Ok(())
}

/// Takes in a file, or all files of a folder in the order of their names.
fn read(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
        let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        return paths.iter().try_for_each(|path| read(path, hasher));
    }
    // A crate that is built outside of the workspace has neither its neighbours nor their versions.
    if let Ok(bytes) = fs::read(path) {
        hasher.write(path.to_string_lossy().as_bytes());
        hasher.write(&bytes);
    }
    Ok(())
}

fn linker_script(libraries: &Path) -> io::Result<String> {
    let entries = fs::read_dir(libraries).map_err(|error| {
        let folder = libraries.display();
        io::Error::new(
            error.kind(),
            format!(
                "no MLIR in {folder}: {error}; install libmlir-22-dev, set MLIR_SYS_220_PREFIX, \
                 or build with --no-default-features"
            ),
        )
    })?;
    let mut archives = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("libMLIRCAPI") && name.ends_with(".a") {
            archives.push(path.display().to_string());
        }
    }
    archives.sort();
    Ok(format!("GROUP ( {} )\n", archives.join(" ")))
}
