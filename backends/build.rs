//! Makes MLIR's C interface linkable where a distribution ships it only as static archives.
//!
//! Invariant: does nothing without the feature `llvm`, and nothing where `libMLIR-C.so` exists.
//!
//! mlir-sys asks for `-lMLIR-C`. Debian has the C interface in `libMLIRCAPI*.a` alone, so a linker
//! script of that name that groups the archives is put on the search path.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
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
