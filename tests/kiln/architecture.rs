//! The house rules that a compiler cannot check: which crate may know which, and how long a file
//! may grow.
//!
//! Invariant: these tests read the workspace as it is (`cargo metadata`, the source files), never a
//! list kept by hand beside it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which workspace crates each workspace crate may depend on, at run time.
const ARROWS: &[(&str, &[&str])] = &[
    ("kiln-tensor", &[]),
    ("kiln-routine", &["kiln-tensor"]),
    ("kiln-program", &["kiln-tensor", "kiln-routine"]),
    ("kiln-runtime", &["kiln-tensor", "kiln-routine", "kiln-program"]),
    ("kiln-ir", &["kiln-tensor", "kiln-routine"]),
    ("kiln-frontend", &["kiln-tensor", "kiln-routine", "kiln-ir"]),
    ("kiln-passes", &["kiln-tensor", "kiln-routine", "kiln-ir", "kiln-program"]),
    ("kiln-backends", &["kiln-tensor", "kiln-ir", "kiln-program"]),
    ("kiln-ptx-emulator", &[]),
];

/// What must never be linked where no compiler is: the runtime's whole dependency closure.
const COMPILER_CRATES: &[&str] = &[
    "melior",
    "mlir-sys",
    "inkwell",
    "llvm-sys",
    "cranelift-codegen",
    "egg",
    "prost",
    "kiln-ir",
    "kiln-passes",
    "kiln-backends",
    "kiln-frontend",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        // Crates for other systems were never fetched.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Run-time dependencies (neither dev nor build) of every package, by name.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| (p["id"].as_str().expect("id"), p["name"].as_str().expect("name")))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    nodes
        .iter()
        .map(|node| {
            let normal = node["deps"].as_array().expect("deps").iter().filter(|dependency| {
                let kinds = dependency["dep_kinds"].as_array().expect("kinds");
                kinds.iter().any(|kind| kind["kind"].is_null())
            });
            let targets =
                normal.map(|d| names[d["pkg"].as_str().expect("pkg")].to_owned()).collect();
            (names[node["id"].as_str().expect("id")].to_owned(), targets)
        })
        .collect()
}

#[test]
fn crates_only_depend_downwards() {
    let dependencies = dependencies(&metadata());
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in ARROWS {
        let found = dependencies.get(*name).unwrap_or_else(|| panic!("{name} is in the workspace"));
        let beyond: Vec<_> = found
            .iter()
            .filter(|other| ours.contains(other.as_str()) && !allowed.contains(&other.as_str()))
            .collect();
        assert!(beyond.is_empty(), "{name} must not depend on {beyond:?}");
    }
    let unlisted: Vec<_> = dependencies
        .keys()
        .filter(|name| name.starts_with("kiln-") && !ours.contains(name.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "no rule says what {unlisted:?} may depend on");
}

#[test]
fn the_runtime_links_no_compiler() {
    let dependencies = dependencies(&metadata());
    let mut reached = BTreeSet::from(["kiln-runtime".to_owned()]);
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(name) = open.pop() {
        for next in &dependencies[&name] {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    let compilers: Vec<_> =
        reached.iter().filter(|name| COMPILER_CRATES.contains(&name.as_str())).collect();
    assert!(compilers.is_empty(), "kiln-runtime reaches {compilers:?}");
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder is readable") {
        let path = entry.expect("entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                rust_files(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_hold_one_idea() {
    let mut files = Vec::new();
    rust_files(Path::new(env!("CARGO_MANIFEST_DIR")), &mut files);
    assert!(files.len() > 50, "only {} files found", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("source is UTF-8");
        let lines = text.lines().count();
        assert!(lines <= 700, "{}: {lines} lines; split it by idea", file.display());
        let is_test_module = file.ends_with("tests.rs");
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(
            is_test_module || text.starts_with("//!"),
            "{}: the first line says the idea (`//! …`)",
            file.display()
        );
        for room in ["utils", "util", "helpers", "helper", "common", "misc"] {
            assert_ne!(name, room, "{}: name the idea", file.display());
        }
    }
}
