//! Calibration: what was measured of a machine, and what is done with it.
//!
//! Invariant: nothing here depends on what was measured, only on that it was and where it goes.

use crate::small;
use crate::tune::{kiln, said};
use kiln::tune::{Database, Setting, VERSION};
use kiln::{Backend, Calibration, CompileOptions, Compiler, CostModel, Target, calibrate};
use std::fs;
use std::path::Path;

fn calibration(target: &str, overhead: f64, time: u64) -> Calibration {
    let cost = CostModel { overhead, ..CostModel::generic_cpu() };
    Calibration { target: target.into(), version: VERSION.into(), cost, time }
}

#[test]
fn the_last_sound_calibration_of_a_target_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("database");
    let lines = [
        calibration("t", 1e-6, 1),
        calibration("t", 2e-6, 3),
        calibration("t", 3e-6, 2),
        // None of these is a number that prices can be made with.
        calibration("t", -1.0, 4),
        calibration("t", 1e9, 5),
        calibration("another machine", 4e-6, 6),
    ];
    let overhead = |order: &[usize]| {
        let lines = order.iter().map(|&at| serde_json::to_string(&lines[at]).unwrap());
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let database = Database::open(&path).unwrap();
        assert_eq!((database.damaged(), database.records().len()), (0, 0));
        assert!(database.cost("t", "another version").is_none());
        database.cost("t", VERSION).map(|cost| cost.overhead)
    };
    assert_eq!(overhead(&[0, 1, 2, 3, 4, 5]), Some(2e-6));
    assert_eq!(overhead(&[5, 4, 2, 1, 0, 3]), Some(2e-6));
    assert_eq!(overhead(&[3, 4, 5]), None);

    // It is kept beside records, and equal ones are one.
    let mut database = Database::open(&path).unwrap();
    database.calibrate(lines[0].clone()).unwrap();
    database.calibrate(lines[0].clone()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    let text = serde_json::to_string(&lines[0]).unwrap().replace("flops", "flips");
    fs::write(&path, text).unwrap();
    assert_eq!(Database::open(&path).unwrap().damaged(), 1);
}

#[test]
fn what_is_measured_can_be_calculated_with() {
    let options =
        CompileOptions { backend: Backend::Cranelift, threads: 1, ..CompileOptions::default() };
    let compiler = Compiler::new(Target::host().unwrap()).options(options);
    let cost = calibrate(&compiler).unwrap();
    assert!(cost.is_sound(), "{cost:?}");
    let shipped = compiler.cost_model();
    assert_ne!(cost, shipped, "nothing was measured");
    // No processor is a thousand times faster or slower than another.
    for (measured, shipped) in [
        (cost.flops, shipped.flops),
        (cost.elementwise, shipped.elementwise),
        (cost.bandwidth, shipped.bandwidth),
    ] {
        assert!((1e-3..1e3).contains(&(measured / shipped)), "{cost:?}, shipped {shipped:?}");
    }
}

/// Milliseconds that all kernels are predicted to take; their order in the report is by what they took.
fn predicted(folder: &Path, more: &[&str]) -> f64 {
    let bench = ["bench", "model.onnx", "--backend", "cranelift", "--runs", "1", "--threads", "1"];
    let output = kiln(folder, &[&bench[..], &["--json", "report"], more].concat());
    assert!(output.status.success(), "{}", said(&output));
    let report = fs::read_to_string(folder.join("report")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let kernels = report["kernels"].as_array().unwrap();
    let mut each: Vec<f64> = kernels.iter().map(|k| k["predicted_ms"].as_f64().unwrap()).collect();
    each.sort_by(f64::total_cmp);
    each.iter().sum()
}

#[test]
fn compiling_goes_by_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("model.onnx"), small::perceptron()).unwrap();
    let shipped = predicted(folder, &[]);
    let setting = Setting::new(Backend::Cranelift, &Target::host().unwrap(), 1);
    let own = folder.join("data").join("kiln").join("schedules.jsonl");
    let mut database = Database::open(&own).unwrap();
    database.calibrate(calibration(&setting.key(), 0.5, 1)).unwrap();
    assert!(predicted(folder, &[]) >= 500.0);
    assert!(predicted(folder, &["--schedules", &own.display().to_string()]) >= 500.0);
    assert_eq!(predicted(folder, &["--schedules", "none"]), shipped);

    let calibrate = ["calibrate", "--backend", "cranelift", "--threads", "1", "--json", "measured"];
    let output = kiln(folder, &calibrate);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("GFLOP/s") && said(&output).contains("schedules.jsonl"));
    let report = fs::read_to_string(folder.join("measured")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let found: CostModel =
        serde_json::from_value(report["settings"][0]["measured"].clone()).unwrap();
    assert_eq!(Database::open(&own).unwrap().cost(&setting.key(), VERSION), Some(found));
}

#[test]
fn what_cannot_be_calibrated_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["calibrate", "--backend", "reference"][..], "makes no code"),
        (&["calibrate", "--threads", "0"], "0 is not in 1..=1024"),
        (&["calibrate", "--out", "no/such/folder"], "there is no folder"),
        (&["calibrate", "--out", "."], "is a folder"),
    ] {
        let output = kiln(folder.path(), arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let text = said(&output);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}
