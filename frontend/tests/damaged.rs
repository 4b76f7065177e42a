//! Models of one node in which one thing is damaged (`scripts/damaged.py`).
//!
//! Invariant: what ONNX or ONNX Runtime refuses is refused, and the report names its node; nothing
//! brings the importer down.

use kiln_frontend::{ImportOptions, Model, Problem, import};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/damaged")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("{}: {error}; `make setup` writes what this test reads", folder.display())
    });
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The models in a folder, by domain and operator.
fn models(kind: &str) -> Vec<PathBuf> {
    let domains = entries(&folder().join(kind));
    let operators = domains.iter().flat_map(|domain| entries(domain));
    operators.flat_map(|operator| entries(&operator)).collect()
}

/// What is wrong with how a model is taken, if anything is; one that breaks a rule must be refused.
fn fault(path: &Path, refused: bool) -> Option<String> {
    // What a reader refuses is no node's.
    let model = Model::open(path).ok()?;
    let taken = std::panic::catch_unwind(|| import(&model, &ImportOptions::default()));
    let report = match taken {
        Err(_) => return Some("brings the importer down".to_owned()),
        Ok(Ok(_)) => return refused.then(|| "is accepted".to_owned()),
        Ok(Err(report)) => report,
    };
    let named = |problem: &Problem| !problem.site.node.is_empty() && !problem.message.is_empty();
    (!report.problems.iter().any(named)).then(|| format!("does not name the node: {report}"))
}

fn check(refused: bool, least: usize) {
    let models = models(if refused { "refused" } else { "taken" });
    let mut faults: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &models {
        if let Some(fault) = fault(path, refused) {
            let name = path.strip_prefix(folder()).unwrap().display().to_string();
            faults.entry(fault).or_default().push(name);
        }
    }
    let count = models.len();
    assert!(count > least, "only {count} damaged models");
    for (fault, names) in &faults {
        eprintln!("{} of {count}: {fault}", names.len());
        names.iter().for_each(|name| eprintln!("  {name}"));
    }
    assert!(faults.is_empty());
}

#[test]
fn what_breaks_a_rule_is_refused_by_the_name_of_its_node() {
    check(true, 7000);
}

#[test]
fn what_is_no_damage_by_their_account_is_taken_or_refused_by_name() {
    check(false, 4000);
}
