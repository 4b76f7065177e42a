//! Tuning: the database, the process that measures, and the command.
//!
//! Invariant: nothing here depends on what is faster, only on what is done with it.

use crate::small;
use kiln::tune::{Database, Outcome, Program, Record, Setting, VERSION, Worker};
use kiln::{Backend, Target};
use kiln_ir::schedule::Schedule;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes that ends.
const LONG: Duration = Duration::from_secs(600);

pub(crate) fn kiln(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(arguments)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::null())
        .output()
        .expect("kiln starts")
}

pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A record of some kernel that was kept.
fn record(family: &str, task: u64, ratio: f64) -> Record {
    let kernel = serde_json::json!({ "family": family, "numbers": [64, 128] });
    Record {
        target: "t".into(),
        version: VERSION.into(),
        kernel: serde_json::from_value(kernel).unwrap(),
        name: "conv".into(),
        params: vec![3],
        flops: 1,
        bytes: 2,
        schedule: Schedule { task: vec![task], ..Schedule::default() },
        outcome: Outcome::Kept { ratio },
        time: 1,
    }
}

#[test]
fn a_database_grows_survives_damage_and_is_merged_by_putting_lines_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("schedules.jsonl");
    let mut database = Database::open(&path).unwrap();
    assert!(database.records().is_empty() && database.book("t", VERSION).is_empty());
    // A third has many binary places.
    database.extend([record("a", 1, 1.0 / 3.0), record("a", 2, 0.2)]).unwrap();
    database.extend([record("a", 1, 1.0 / 3.0)]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2, "equal records are one: {text}");

    // A line that was cut short, and others that are none, cost only themselves.
    let cut = &text[..text.len() - 20];
    fs::write(&path, format!("{{}}\nno record\n\n\u{0}\n{cut}")).unwrap();
    let mut database = Database::open(&path).unwrap();
    assert_eq!((database.records().len(), database.damaged()), (1, 4));
    database.extend([record("b", 3, 0.5)]).unwrap();
    let again = Database::open(&path).unwrap();
    assert_eq!((again.records().len(), again.damaged()), (2, 4));

    // Whatever the order of the lines, the same schedules are taken.
    let lines =
        [record("a", 1, 0.5), record("a", 2, 0.5), record("a", 3, 0.7), record("b", 4, 0.9)];
    let lines = lines.map(|record| serde_json::to_string(&record).unwrap());
    let book = |order: [usize; 4]| {
        let path = folder.path().join("merged");
        fs::write(&path, order.map(|at| lines[at].clone()).join("\n")).unwrap();
        Database::open(path).unwrap().book("t", VERSION)
    };
    assert_eq!(book([0, 1, 2, 3]), book([3, 2, 1, 0]));
    assert_eq!(book([0, 1, 2, 3]), book([1, 3, 0, 2]));
    // What is kept later was compared with what was kept before.
    let later = Record { time: 2, ..record("a", 9, 0.9) };
    let text = [lines[0].clone(), serde_json::to_string(&later).unwrap(), lines[1].clone()];
    let path = folder.path().join("later");
    fs::write(&path, text.join("\n")).unwrap();
    let mut alone = Database::open(folder.path().join("alone")).unwrap();
    alone.append(later).unwrap();
    assert_eq!(Database::open(path).unwrap().book("t", VERSION), alone.book("t", VERSION));
    let merged = Database::open(folder.path().join("merged")).unwrap();
    assert!(merged.book("another machine", VERSION).is_empty());
    assert!(merged.book("t", "another version").is_empty());
}

#[test]
fn a_process_that_crashes_or_hangs_costs_its_schedule_and_no_more() {
    let setting = Setting::new(Backend::Cranelift, &Target::host().unwrap(), 1);
    let types = ["f32[8, 8]", "f32[8, 8]"];
    let graph = kiln_ir::single::graph("Contract(spec: \"mk,kn->mn\")", &types, 1).unwrap();
    let kernel = kiln_passes::form(&graph, graph.nodes().last().unwrap().0).unwrap().kernel;
    let schedules = vec![Schedule { task: vec![0, 0], ..Schedule::default() }; 3];
    let request = kiln::tune::Request {
        setting,
        kernel,
        params: vec![],
        schedules,
        time: Duration::from_millis(20),
    };
    let shell = |script: &str| Program {
        file: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
    };
    for (script, reason) in [("kill -9 $$", "signal: 9"), ("sleep 100", "did not end within")] {
        let mut worker = Worker::new(shell(script)).patience(Duration::from_millis(200));
        let answers = worker.ask(&request, Instant::now() + LONG).unwrap();
        assert_eq!(answers.len(), 3);
        for answer in answers {
            let kiln::tune::Answer::Failed { reason: said } = answer else { panic!("{script}") };
            assert!(said.contains(reason) || said.contains("nothing"), "{script}: {said}");
        }
    }
    // What hangs is no failure of a schedule where its time was cut short.
    let mut worker = Worker::new(shell("sleep 100"));
    let answers = worker.ask(&request, Instant::now()).unwrap();
    assert_eq!(answers, vec![kiln::tune::Answer::Untried; 3]);
    // One that answers nonsense, and one that is not there.
    let nonsense =
        Worker::new(shell("echo nonsense; sleep 100")).ask(&request, Instant::now() + LONG);
    assert!(nonsense.is_err(), "{nonsense:?}");
    let missing = Program { file: "/no/such/program".into(), arguments: vec![] };
    let error = Worker::new(missing).ask(&request, Instant::now()).unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");

    let program =
        Program { file: env!("CARGO_BIN_EXE_kiln").into(), arguments: vec!["measure".into()] };
    let mut worker = Worker::new(program);
    // The same process answers again; a schedule that no kernel has is told by its reason.
    for _ in 0..2 {
        let mut request = request.clone();
        request.schedules[1].task = vec![0];
        let answers = worker.ask(&request, Instant::now() + LONG).unwrap();
        let timed = |at: usize| matches!(answers[at], kiln::tune::Answer::Timed { ratio, .. } if ratio > 0.0);
        assert!(timed(0) && timed(2), "{answers:?}");
    }
}

#[test]
fn what_is_in_the_database_is_what_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("model.onnx"), small::perceptron()).unwrap();
    let tune = [
        "tune",
        "model.onnx",
        "--budget",
        "1500ms",
        "--backend",
        "cranelift",
        "--json",
        "report",
        "--report",
        "page.html",
    ];
    let output = kiln(folder, &tune);
    assert!(output.status.success(), "{}", said(&output));
    let report = fs::read_to_string(folder.join("report")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    for kernel in report["kernels"].as_array().unwrap() {
        assert!(page.contains(kernel["name"].as_str().unwrap()), "{kernel}\n{page}");
    }

    // Whatever was measured is kept, as if it had been faster.
    let shown = |more: &[&str]| {
        let inspect = ["inspect", "model.onnx", "--at", "kernels", "--backend", "cranelift"];
        said(&kiln(folder, &[&inspect[..], more].concat()))
    };
    // Tuning may have kept something itself.
    let before = shown(&["--schedules", "none"]);
    let path = folder.join("data").join("kiln").join("schedules.jsonl");
    let mut database = Database::open(&path).unwrap();
    let mut kept = database.records().to_vec();
    kept.retain(|record| matches!(record.outcome, Outcome::Measured { .. }));
    assert!(!kept.is_empty(), "{}", said(&output));
    for record in &mut kept {
        record.outcome = Outcome::Kept { ratio: 0.5 };
        record.time += 1 << 40;
    }
    database.extend(kept).unwrap();
    let after = shown(&[]);
    assert_ne!(before, after);
    assert_eq!(after, shown(&["--schedules", &path.display().to_string()]));

    let tuned = |more: &[&str]| {
        let compile = ["compile", "model.onnx", "-o", "model.kiln", "--backend", "cranelift"];
        let output = kiln(folder, &[&compile[..], more, &["--json", "compiled"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let report = fs::read_to_string(folder.join("compiled")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(said(&output).contains("tuned"), report["tuned"] != 0);
        report["tuned"].as_u64().unwrap()
    };
    assert!(tuned(&[]) > 0);
    assert_eq!(tuned(&["--schedules", "none"]), 0);

    let outputs = |name: &str, more: &[&str]| {
        let run = ["run", "model.onnx", "--backend", "cranelift", "--outputs", name];
        let output = kiln(folder, &[&run[..], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        let file = folder.join(name).join("output_0.npy");
        kiln::tensor_file::read(&file, kiln::DType::F32).unwrap().to_f64()
    };
    let (tuned, plain) = (outputs("a", &[]), outputs("b", &["--schedules", "none"]));
    assert_eq!(tuned.len(), plain.len());
    // Sums may be added up in another order.
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    assert!(tuned.iter().zip(&plain).all(close), "{tuned:?} {plain:?}");
}

#[test]
fn what_cannot_be_tuned_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("model.onnx"), small::perceptron()).unwrap();
    for (arguments, part) in [
        (&["tune", "model.onnx", "--budget", "x"][..], "expected a time"),
        (&["tune", "model.onnx", "--budget", "3d"], "expected a time"),
        (&["tune", "model.onnx", "--budget", "1e99s"], "expected a time"),
        (&["tune", "model.onnx", "--without", "magic"], "there is no such rule"),
        (&["tune", "model.onnx", "--error-budget", "-1"], "a number from 0 to 1"),
        (&["tune", "model.onnx", "--error-budget", "2"], "a number from 0 to 1"),
        (&["tune", "missing.onnx"], "missing.onnx"),
        (&["tune", "model.onnx", "--backend", "reference"], "makes no code"),
        (&["tune", "model.onnx", "--target", "haswell"], "on the machine that they are for"),
        (&["tune", "model.onnx", "--out", "no/such/folder"], "there is no folder"),
        (&["tune", "model.onnx", "--out", "."], "is a folder"),
        (&["tune", "model.onnx", "--schedules", "none"], "--schedules has no effect"),
        (&["tune", "model.onnx", "--report", "no/such/page.html"], "there is no folder"),
        (&["run", "model.onnx", "--schedules", "missing"], "no such database"),
        (&["run", "model.onnx", "--schedules", "."], "directory"),
    ] {
        let output = kiln(folder, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let text = said(&output);
        assert!(text.contains(part), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
