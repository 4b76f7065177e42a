//! Tuning by several processes.
//!
//! Invariant: nothing here depends on what is faster, only on who measures and who hears of it.

use crate::small;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(program: &mut Command, folder: &Path) -> Output {
    let output = program
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::null())
        .output();
    output.unwrap_or_else(|error| panic!("{program:?}: {error}; scripts/packages.sh --tests"))
}

#[cfg(feature = "mpi")]
mod with_mpi {
    use super::*;
    use crate::tune::said;
    use kiln::tune::{Database, Outcome};
    use std::collections::{BTreeMap, BTreeSet};

    /// `kiln` as two processes.
    fn two(folder: &Path, arguments: &[&str]) -> Output {
        let mut program = Command::new("mpirun");
        program
            .args(["-n", "2", "--oversubscribe", env!("CARGO_BIN_EXE_kiln")])
            .args(arguments)
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        run(&mut program, folder)
    }

    #[test]
    fn two_ranks_share_kernels_and_what_they_find() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("model.onnx"), small::perceptron()).unwrap();
        let tune = ["tune", "model.onnx", "--budget", "5s", "--backend", "cranelift", "--threads"];
        let output = two(folder, &[&tune[..], &["1", "--out", "db", "--json", "report"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let text = fs::read_to_string(folder.join("report")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["ranks"], 2);
        // Rank 0 alone speaks.
        assert_eq!(
            said(&output).matches("measured by 2 processes").count(),
            1,
            "{}",
            said(&output)
        );

        // Each rank measured kernels of its own, and rank 0 knows what of.
        let kernels = report["kernels"].as_array().unwrap();
        let mut ranks = BTreeSet::new();
        let mut asked: BTreeMap<String, u64> = BTreeMap::new();
        for kernel in kernels.iter().filter(|kernel| kernel["measured"] != 0) {
            ranks.insert(kernel["rank"].as_u64().unwrap());
            asked.insert(kernel["kernel"].to_string(), kernel["measured"].as_u64().unwrap());
        }
        assert_eq!(ranks, BTreeSet::from([0, 1]), "{text}");

        // Every record is in the one database, once.
        let lines = fs::read_to_string(folder.join("db")).unwrap();
        let distinct: BTreeSet<&str> = lines.lines().collect();
        assert_eq!(distinct.len(), lines.lines().count(), "{lines}");
        let database = Database::open(folder.join("db")).unwrap();
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for record in database.records() {
            if !matches!(record.outcome, Outcome::Kept { .. }) {
                *found
                    .entry(serde_json::to_value(&record.kernel).unwrap().to_string())
                    .or_default() += 1;
            }
        }
        assert_eq!(found, asked);
        assert_eq!(report["measured"].as_u64().unwrap(), found.values().sum::<u64>());
    }

    #[test]
    fn a_rank_that_fails_ends_all() {
        let folder = tempfile::tempdir().unwrap();
        let output = two(folder.path(), &["tune", "missing.onnx", "--budget", "3s"]);
        assert!(!output.status.success());
        let text = said(&output);
        assert!(text.contains("missing.onnx") && !text.contains("panicked"), "{text}");
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.onnx"), small::perceptron()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_kiln"));
    program.args(["tune", "model.onnx", "--budget", "1s"]).env("OMPI_COMM_WORLD_SIZE", "2");
    let output = run(&mut program, folder.path());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("without MPI"), "{text}");
    assert!(text.contains("--features mpi"), "{text}");
}
