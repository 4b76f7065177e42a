//! The command line as a person uses it: every subcommand and flag, and what is said when they are
//! used wrongly.
//!
//! Invariant: results on standard output, messages on standard error; exit code 1 for failure, 2
//! for misuse.

use crate::small;
use kiln::{DType, Tensor};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn kiln(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(arguments)
        // Whoever runs the tests may have tuned something.
        .env("XDG_DATA_HOME", "/nonexistent")
        .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
        .stdin(Stdio::null())
        .output()
        .expect("kiln starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code().expect("kiln was not killed"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let said = kiln(arguments);
    assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
    said.out
}

/// Fails with this exit code and says all of this.
#[track_caller]
fn fails(code: i32, arguments: &[&str], parts: &[&str]) {
    let said = kiln(arguments);
    assert_eq!(said.code, code, "{arguments:?}: {}{}", said.out, said.err);
    for part in parts {
        assert!(said.err.contains(part), "{arguments:?}: `{part}` is not in {}", said.err);
    }
}

#[test]
fn with_less_effort_there_are_more_kernels_and_the_same_results() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    let bench = |effort: &str| {
        let report = folder.path(effort);
        let common = ["--runs", "1", "--egraph", effort, "--backend", "cranelift"];
        succeeds(&[&["bench", &model, "--json", &report][..], &common].concat());
        let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
        let kernels = report["kernels"].as_array().unwrap().clone();
        assert!(kernels.iter().all(|kernel| kernel["predicted_ms"].as_f64().unwrap() > 0.0));
        report["launches"].as_u64().unwrap()
    };
    let [off, greedy, full] = ["off", "greedy", "full"].map(bench);
    assert!(off > greedy && greedy >= full, "{off} {greedy} {full}");
    let outputs = |effort: &str| {
        let outputs = folder.path(&format!("outputs-{effort}"));
        succeeds(&[
            "run",
            &model,
            "--outputs",
            &outputs,
            "--egraph",
            effort,
            "--backend",
            "cranelift",
        ]);
        let file = Path::new(&outputs).join("output_0.npy");
        kiln::tensor_file::read(&file, DType::F32).unwrap().to_f64()
    };
    let expected = outputs("full");
    for effort in ["off", "greedy"] {
        let actual = outputs(effort);
        assert_eq!(actual.len(), expected.len());
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5;
        assert!(actual.iter().zip(&expected).all(close), "{effort}: {actual:?} {expected:?}");
    }
    let compiled = folder.path("small.kiln");
    succeeds(&["compile", &model, "-o", &compiled, "--egraph", "off", "--backend", "cranelift"]);
    fails(1, &["run", &compiled, "--egraph", "greedy"], &["--egraph has no effect"]);
}

/// A folder with `model.onnx`, the small perceptron.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Folder { folder: tempfile::tempdir().unwrap() };
        folder.write("model.onnx", &small::perceptron());
        folder
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

#[test]
fn run_shows_and_writes_outputs() {
    let folder = Folder::new();
    let (model, results, json) =
        (folder.path("model.onnx"), folder.path("results"), folder.path("r.json"));
    let said = kiln(&["run", &model, "--dim", "batch=2", "--outputs", &results, "--json", &json]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("y: f32[2, 4]\n"), "{}", said.out);
    assert!(said.err.contains("input `x` was not given: random f32 of shape [2, 8]"));
    let report = folder.json("r.json");
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([2, 4]));
    assert!(Path::new(&results).join("output_0.npy").exists());

    // What was written can be given: the output of one run as the input of another model's.
    let pb = folder.path("pb");
    succeeds(&["run", &model, "--dim", "batch=2", "--outputs", &pb, "--format", "pb"]);
    assert!(Path::new(&pb).join("output_0.pb").exists());
}

#[test]
fn inputs_come_from_files_folders_or_chance() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    let identity = folder.write(
        "same.onnx",
        &small::model(
            vec![small::value("x", &[small::D::Name("batch"), small::D::Size(8)])],
            Vec::new(),
            vec![small::node("Identity", "x", "y")],
            vec![small::value("y", &[small::D::Name("batch"), small::D::Size(8)])],
        ),
    );
    let given = folder.path("given");
    for format in ["npy", "pb"] {
        let arguments = ["run", &identity, "--dim", "batch=3", "--seed", "5"];
        succeeds(&[&arguments[..], &["--outputs", &given, "--format", format]].concat());
        let file = format!("x={given}/output_0.{format}");
        let (a, b) = (
            succeeds(&["run", &model, "--input", &file]),
            succeeds(&["run", &model, "--dim", "batch=3", "--seed", "5"]),
        );
        assert_eq!(a, b, "{format}");
    }
    fs::rename(format!("{given}/output_0.pb"), format!("{given}/input_0.pb")).unwrap();
    let said = kiln(&["run", &model, "--inputs", &given]);
    assert!(said.code == 0 && !said.err.contains("was not given"), "{}", said.err);
    assert!(said.out.starts_with("y: f32[3, 4]"));

    fails(1, &["run", &model, "--input", "z=/x.npy"], &["no input named `z`", "x: f32[batch, 8]"]);
    fails(1, &["run", &model, "--input", "x=/nonexistent.npy"], &["/nonexistent.npy"]);
    let bad = folder.write("bad.npy", b"\x93NUMPY\x01\x00");
    fails(1, &["run", &model, "--input", &format!("x={bad}")], &["bad.npy"]);
    let mut nested = b"\x93NUMPY\x01\x00\x40\x00".to_vec();
    nested.resize(10 + 64, b'{');
    let nested = folder.write("nested.npy", &nested);
    fails(
        1,
        &["run", &model, "--input", &format!("x={nested}")],
        &["nested .npy arrays are not tensors"],
    );
    fails(1, &["run", &model, "--input", "a=b=c.npy"], &["no input named `a`"]);
    fails(1, &["run", &model, "--inputs", &folder.path("")], &["there is no input_0.pb"]);

    let file = format!("x={given}/output_0.npy");
    let twice = ["run", &model, "--input", &file, "--input", &file];
    fails(1, &twice, &["input `x` is given twice"]);
    fails(2, &["run", &model, "--input", &file, "--inputs", &given], &["cannot be used with"]);
    let sizes = ["run", &model, "--dim", "batch=2", "--dim", "batch=3"];
    fails(1, &sizes, &["dimension `batch` is fixed to 2 and to 3"]);
}

#[test]
fn a_sequence_is_read_from_a_file_and_not_made_up() {
    let folder = Folder::new();
    let model = folder.write("length.onnx", &small::length());
    fails(1, &["run", &model], &["input `s` was not given", "--input s=FILE.pb"]);
    let elements = [[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
    let elements = elements.map(|values| Tensor::from_slice(vec![2], &values).unwrap());
    let list = Tensor::from_list(DType::Sequence, &elements).unwrap();
    let file = folder.write("s.pb", &kiln_frontend::tensor_to_proto("s", &list));
    let said = succeeds(&["run", &model, "--input", &format!("s={file}")]);
    assert!(said.contains("y: i64[]") && said.contains('3'), "{said}");
}

#[test]
fn made_up_sizes_are_those_that_the_model_needs() {
    let folder = Folder::new();
    let shape = |first, second| [first, second];
    let model = small::model(
        vec![
            small::value("x", &shape(small::D::Name("n"), small::D::Size(8))),
            small::value("y", &shape(small::D::Size(8), small::D::Name("m"))),
        ],
        Vec::new(),
        vec![small::node("MatMul", "y,x", "z")],
        vec![small::value("z", &shape(small::D::Size(8), small::D::Size(8)))],
    );
    let model = folder.write("pair.onnx", &model);
    let said = kiln(&["run", &model, "--backend", "cranelift"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("z: f32[8, 8]"), "{}", said.out);
    let arguments = ["run", &model, "--backend", "cranelift"];
    succeeds(&[&arguments[..], &["--dim", "m=5"]].concat());
    let file = folder.path("pair.kiln");
    succeeds(&["compile", &model, "-o", &file, "--backend", "cranelift"]);
    // One name is left of the two.
    let arguments = ["run", &file, "--dim", "n=4"];
    let said = kiln(&arguments);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("[4, 8]") && said.err.contains("[8, 4]"), "{}", said.err);
    let not_there = ["no dimension `m`", "open dimensions are n"];
    fails(1, &[&arguments[..], &["--dim", "m=5"]].concat(), &not_there);
}

#[test]
fn strings_are_shown_as_such() {
    let folder = Folder::new();
    let model = small::model(
        vec![small::integers("x", &[small::D::Size(2)])],
        Vec::new(),
        vec![small::node_with("Cast", "x", "y", "to", 8)],
        vec![small::strings("y", &[small::D::Size(2)])],
    );
    let model = folder.write("text.onnx", &model);
    let numbers = Tensor::from_slice(vec![2], &[7i64, -12]).unwrap();
    let file = folder.write("x.pb", &kiln_frontend::tensor_to_proto("x", &numbers));
    let input = format!("x={file}");
    let said = succeeds(&["run", &model, "--input", &input]);
    assert!(said.contains("y: string[2]") && said.contains(r#""7" "-12""#), "{said}");
    let report = succeeds(&["run", &model, "--input", &input, "--json", "-"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outputs"][0]["first"], serde_json::json!(["7", "-12"]));
}

#[test]
fn sizes_that_do_not_broadcast_are_named() {
    let folder = Folder::new();
    let vector = |name, size| small::value(name, &[small::D::Name(size)]);
    let model = small::model(
        vec![vector("x", "a"), vector("y", "b")],
        Vec::new(),
        vec![small::node("Add", "x,y", "z")],
        vec![vector("z", "c")],
    );
    let model = folder.write("sum.onnx", &model);
    let sizes = ["--dim", "a=2", "--dim", "b=3"];
    for backend in ["cranelift", "reference"] {
        let compiled = ["run", &model, "--backend", backend];
        let fixed = ["do not broadcast: 2 and 3 differ"];
        fails(1, &[&compiled[..], &sizes].concat(), &fixed);
    }
    let file = folder.path("sum.kiln");
    succeeds(&["compile", &model, "-o", &file, "--backend", "cranelift"]);
    let said = ["node `Add_z`", "sizes 3 (`b`) and 2 do not broadcast"];
    fails(1, &[&["run", &file][..], &sizes].concat(), &said);
}

#[test]
fn outputs_go_to_regular_files_only() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    fails(1, &["compile", &model, "-o", &model], &["would be overwritten"]);
    let compiled = folder.path("m.kiln");
    let one = ["name one file"];
    fails(1, &["compile", &model, "-o", &compiled, "--json", &compiled], &one);
    fails(1, &["run", &model, "--json", &model], &one);
    fails(1, &["tune", &model, "--out", &model], &one);
    fails(1, &["tune", &model, "--out", &compiled, "--report", &compiled], &one);
    fails(1, &["calibrate", "--out", &compiled, "--json", &compiled], &one);
    let text = folder.write("notes.txt", b"not a record\n");
    fails(1, &["tune", &model, "--out", &text], &["no database of schedules"]);
    assert_eq!(std::fs::read(&text).unwrap(), b"not a record\n");
    assert!(!std::path::Path::new(&compiled).exists());
    fails(1, &["compile", &model, "-o", "/dev/null"], &["not a regular file"]);
    let nowhere = folder.path("nowhere/m.kiln");
    fails(1, &["compile", &model, "-o", &nowhere], &["there is no folder", "make the folder"]);
    fails(1, &["run", &model, "--json", &nowhere], &["there is no folder"]);
    fails(1, &["compile", &model, "-o", &folder.path("")], &["is a folder"]);
    let (file, link) = (folder.path("m.kiln"), folder.path("link.kiln"));
    fs::write(&file, b"old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    succeeds(&["compile", &model, "-o", &link, "--backend", "cranelift"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(succeeds(&["verify", &file]).contains("whole"));
}

#[test]
fn inputs_that_no_memory_can_hold_are_an_error() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    let arguments = ["run", &model, "--backend", "cranelift", "--dim", "batch=99999999999999"];
    fails(1, &arguments, &["input `x`", "no memory"]);
}

#[test]
fn every_backend_runs_the_same_model() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    let firsts: Vec<f64> = backends()
        .iter()
        .chain(&["reference"])
        .map(|backend| {
            let json = folder.path("r.json");
            succeeds(&["run", &model, "--backend", backend, "--json", &json]);
            let report = folder.json("r.json");
            assert_eq!(report["backend"], *backend);
            report["outputs"][0]["first"][0].as_f64().unwrap()
        })
        .collect();
    assert!(firsts.iter().all(|first| (first - firsts[0]).abs() < 1e-6), "{firsts:?}");
}

fn backends() -> &'static [&'static str] {
    if cfg!(feature = "llvm") { &["llvm", "cranelift"] } else { &["cranelift"] }
}

#[test]
fn compiled_models_verify_run_and_bench() {
    let folder = Folder::new();
    let (model, file, json) =
        (folder.path("model.onnx"), folder.path("m.kiln"), folder.path("b.json"));
    let said = succeeds(&["compile", &model, "-o", &file]);
    assert!(said.contains("kernels for") && said.contains("compiled in"), "{said}");
    assert!(succeeds(&["verify", &file]).contains("whole"));
    assert_eq!(succeeds(&["run", &file]), succeeds(&["run", &model]));
    let said = succeeds(&["bench", &file, "--runs", "5", "--threads", "1", "--json", &json]);
    assert!(said.contains("latency") && said.contains("launches"), "{said}");
    let report = folder.json("b.json");
    for key in ["min", "median", "p95"] {
        assert!(report["latency_ms"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    for key in ["compile_ms", "load_ms", "peak_rss_bytes", "arena_bytes"] {
        assert!(report[key].is_number(), "{key}");
    }
    for key in ["name", "ms", "flops", "bytes", "share_of_peak"] {
        assert!(!report["kernels"][0][key].is_null(), "{key}");
    }
    assert_eq!((report["runs"].as_u64(), report["threads"].as_u64()), (Some(5), Some(1)));

    // Flags of the compiler have no say any more.
    fails(1, &["run", &file, "--backend", "reference"], &["--backend has no effect"]);
    fails(1, &["run", &file, "--target", "haswell"], &["--target has no effect"]);
    fails(1, &["compile", &file, "-o", &json], &["compiled already"]);
    fails(1, &["inspect", &file, "--at", "graph"], &["no level graph", "plan"]);
    let picture = ["inspect", &file, "--format", "dot", "--at"];
    fails(1, &[&picture[..], &["egraph"]].concat(), &["a compiled model has no level egraph"]);
    fails(1, &[&picture[..], &["plan"]].concat(), &["no picture of level plan"]);
    assert!(succeeds(&["inspect", &file, "--at", "plan"]).contains("launch"));
    let kernels = succeeds(&["inspect", &file, "--at", "kernels", "--node", "MatMul_k"]);
    assert!(kernels.starts_with("kiln_") && kernels.contains("MatMul_k"), "{kernels}");
}

#[test]
fn other_processors_can_be_compiled_for() {
    let folder = Folder::new();
    let (model, file) = (folder.path("model.onnx"), folder.path("m.kiln"));
    for cpu in ["x86-64-v2", "x86-64-v3", "sapphirerapids"] {
        succeeds(&["compile", &model, "-o", &file, "--target", cpu]);
        assert!(succeeds(&["verify", &file]).contains(&format!("cpu: {cpu}")));
    }
    fails(1, &["run", &model, "--target", "pentium"], &["unknown processor `pentium`", "znver4"]);
}

#[test]
fn every_level_can_be_seen() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    let at = |level: &str, more: &[&str]| {
        succeeds(&[&["inspect", model.as_str(), "--at", level], more].concat())
    };
    let graph = at("graph", &[]);
    assert!(graph.contains("f32[batch, 16]") && graph.contains("MatMul_h"), "{graph}");
    let egraph = at("egraph", &[]);
    for part in ["e-nodes", "fuse-epilogue ×", "`Relu", "chosen: ", " in all with "] {
        assert!(egraph.contains(part), "{part}: {egraph}");
    }
    let part = at("egraph", &["--node", "MatMul_k"]);
    assert!(part.contains("chosen: ") && part.len() < egraph.len(), "{part}");
    assert!(at("kernels", &[]).contains("stage 0"));
    assert!(at("plan", &[]).contains("launch kiln_"));
    for (backend, level, sign) in [
        ("llvm", "nest", "for "),
        ("llvm", "mlir", "scf.for"),
        ("llvm", "llvm", "define"),
        ("llvm", "asm", ".globl"),
        ("cranelift", "nest", "for "),
        ("cranelift", "asm", "kiln_contract_add_relu_"),
    ] {
        if backends().contains(&backend) {
            let text = at(level, &["--backend", backend]);
            assert!(text.contains(sign), "{level}: {text}");
        }
    }
    let arguments = ["inspect", &model, "--at", "asm", "--backend", "reference"];
    fails(1, &arguments, &["makes no code"]);
    let arguments = ["inspect", &model, "--at", "mlir", "--backend", "cranelift"];
    fails(1, &arguments, &["the cranelift backend has no level mlir"]);

    // Pictures of what is a graph.
    let picture = at("graph", &["--format", "dot"]);
    assert!(picture.starts_with("digraph ") && picture.contains("MatMul_h"), "{picture}");
    let both = at("egraph", &["--format", "dot"]);
    for part in ["before\"", "after\"", "style = dashed", "style = filled", "MatMul_h"] {
        assert!(both.contains(part), "{part}: {both}");
    }
    let part = at("graph", &["--format", "dot", "--node", "Relu"]);
    assert!(part.contains("Relu") && !part.contains("MatMul_h"), "{part}");
    let arguments = ["inspect", &model, "--at", "plan", "--format", "dot"];
    fails(1, &arguments, &["no picture of level plan", "graph and egraph"]);

    // Parts by the name of a node.
    let part = at("graph", &["--node", "Relu"]);
    assert!(part.contains("Relu") && !part.contains("MatMul_h"), "{part}");
    let arguments = ["inspect", &model, "--at", "graph", "--node", "nobody"];
    fails(1, &arguments, &["`nobody`"]);
    let json = folder.path("i.json");
    at("plan", &["--json", &json]);
    assert!(folder.json("i.json")["text"].as_str().unwrap().contains("launch"));
}

#[test]
fn equal_layers_share_a_kernel_and_keep_their_names() {
    let folder = Folder::new();
    let model = folder.write("twins.onnx", &small::twins());
    let plan = succeeds(&["inspect", &model, "--at", "plan"]);
    assert!(plan.contains("kernels 1, each compiled once"), "{plan}");
    for names in ["for `MatMul_a, Relu_b`", "for `MatMul_c, Relu_y`"] {
        assert_eq!(plan.matches(names).count(), 1, "{names}: {plan}");
    }
    let part = succeeds(&["inspect", &model, "--at", "plan", "--node", "Relu_y"]);
    assert_eq!(part.lines().count(), 1, "{part}");
}

#[test]
fn check_counts_and_says_why() {
    let folder = Folder::new();
    let case = |name: &str, model: &[u8], format_error: bool| {
        folder.write(&format!("{name}/model.onnx"), model);
        let set = folder.path(&format!("{name}/test_data_set_0"));
        let onnx = folder.path("model.onnx");
        succeeds(&["run", &onnx, "--dim", "batch=2", "--outputs", &set, "--format", "pb"]);
        if format_error {
            fs::write(format!("{set}/input_0.pb"), b"nonsense").unwrap();
        }
    };
    // Takes no input, gives what the file says.
    let constant = |value: f32| {
        small::model(
            Vec::new(),
            vec![small::floats("c", &[2, 4], &[value; 8])],
            vec![small::node("Identity", "c", "y")],
            vec![small::value("y", &[small::D::Size(2), small::D::Size(4)])],
        )
    };
    case("cases/a_wrong", &constant(0.5), false);
    case("cases/b_unreadable", &small::perceptron(), true);
    case("cases/c_broken", &small::broken(), false);
    folder.write("cases/d_without_data/model.onnx", &small::perceptron());
    let (cases, json) = (folder.path("cases"), folder.path("c.json"));
    let said = kiln(&["check", &cases, "--json", &json]);
    assert_eq!(said.code, 1);
    assert_eq!(said.out.lines().last(), Some("0 passed, 3 failed, 1 skipped"), "{}", said.out);
    assert!(said.out.contains("FAILED a_wrong: test_data_set_0: output `y`: 8 of 8 values differ"));
    assert!(said.out.contains("FAILED c_broken"), "{}", said.out);
    let report = folder.json("c.json");
    assert_eq!(report["failed"], 3);
    assert!(report["cases"][1]["reason"].as_str().unwrap().contains("input_0.pb"), "{report}");

    // The first two differ by a half at most, softmax or not.
    let one = folder.path("cases/a_wrong");
    assert_eq!(succeeds(&["check", &one, "--atol", "0.5"]), "1 passed, 0 failed, 0 skipped\n");
    fails(2, &["check", &one, "--rtol=-1"], &["not negative"]);

    let good = folder.path("good");
    folder.write("good/model.onnx", &constant(0.25));
    let set = format!("{good}/test_data_set_0");
    let model = format!("{good}/model.onnx");
    succeeds(&["run", &model, "--outputs", &set, "--format", "pb"]);
    assert_eq!(succeeds(&["check", &good]), "1 passed, 0 failed, 0 skipped\n");
    fails(1, &["check", &folder.path("good/test_data_set_0")], &["neither a case nor a folder"]);
    fails(1, &["check", "/nonexistent"], &["/nonexistent"]);
}

#[test]
fn bad_models_are_told_apart() {
    let folder = Folder::new();
    let whole = small::perceptron();
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("empty.onnx", Vec::new(), "empty"),
        ("text.onnx", b"hello, world".to_vec(), "not an ONNX model"),
        ("short.onnx", whole[..whole.len() / 2].to_vec(), "truncated"),
        ("zip.onnx", b"PK\x03\x04 and so on".to_vec(), "zip"),
        ("no.kiln", b"hello, world".to_vec(), "not a compiled Kiln model"),
    ];
    for (name, bytes, message) in cases {
        let path = folder.write(name, &bytes);
        fails(1, &["run", &path], &[message, name]);
    }
    fails(1, &["run", "/nonexistent.onnx"], &["/nonexistent.onnx"]);
    fails(1, &["run", &folder.path("")], &["not a regular file"]);
    fails(1, &["verify", &folder.path("model.onnx")], &["not a compiled Kiln model"]);
    let broken = folder.write("broken.onnx", &small::broken());
    let parts = ["3 problems", "NoSuchOperator", "com.example", "MatMul", "opset 17", "help"];
    fails(1, &["compile", &broken, "-o", &folder.path("x.kiln")], &parts);
    assert!(!PathBuf::from(folder.path("x.kiln")).exists());
}

#[test]
fn misuse_is_exit_code_two() {
    let folder = Folder::new();
    let model = folder.path("model.onnx");
    for arguments in [
        &["frobnicate"][..],
        &["run"],
        &["run", &model, "--backend", "gpu"],
        &["run", &model, "--threads", "0"],
        &["run", &model, "--threads", "many"],
        &["run", &model, "--dim", "batch"],
        &["run", &model, "--dim", "batch=-1"],
        &["run", &model, "--input", "x"],
        &["bench", &model, "--runs", "0"],
        &["inspect", &model],
        &["inspect", &model, "--at", "nowhere"],
        &["compile", &model],
        &["check"],
    ] {
        let said = kiln(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.err);
        assert!(said.out.is_empty() && said.err.contains("Usage") || said.err.contains("error"));
    }
    fails(1, &["run", &model, "--dim", "nobody=3"], &["nobody", "batch"]);
    fails(1, &["run", &model, "--outputs", "/proc/nowhere"], &["/proc/nowhere"]);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let folder = Folder::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(["inspect", &folder.path("model.onnx"), "--at", "kernels"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
