//! Files of a graph and of what a pass makes of it, in `tests/filetests/<pass>/<case>.kir`.
//!
//! Invariant: the text after the line `=====` is what the pass gives; `KILN_BLESS=1` writes it anew.
//! Whatever the pass, the graph computes the same before and after (unless the file says
//! `numbers: no`, where that would take long).
//!
//! An input of a file named `weight…` stands for a constant of numbers around zero, one named
//! `positive…` for a constant of numbers around one.

use crate::interpreter;
use crate::listing::listing;
use kiln_ir::{Graph, TensorType, ValueId, evaluate, text, verify};
use kiln_passes::plan::PlannedKernel;
use kiln_passes::{
    CostModel, EGraphOptions, Plan, PlanOptions, TileTarget, optimise, plan, simplify, tile,
};
use kiln_tensor::{DType, Symbol, SymbolValues, Tensor};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const SEPARATOR: &str = "\n=====\n";

type Pass = fn(&Graph) -> (String, Graph);

const PASSES: [(&str, Pass); 6] = [
    ("simplify", |graph| with_text(simplify(graph).unwrap())),
    ("rewrite", |graph| with_text(optimised(graph, false))),
    ("fuse", |graph| with_text(optimised(graph, true))),
    ("report", |graph| {
        let options = EGraphOptions { explain: true, ..EGraphOptions::default() };
        let (fused, report) = optimise(graph, &options, &CostModel::generic_cpu()).unwrap();
        assert_eq!(fused, optimised(graph, true), "what is explained is what is done");
        (report.to_string(), fused)
    }),
    ("kernels", |graph| {
        let fused = optimised(graph, true);
        (kernels(&planned(&fused)), fused)
    }),
    ("plan", |graph| {
        let fused = optimised(graph, true);
        (listing(&planned(&fused)), fused)
    }),
];

fn with_text(graph: Graph) -> (String, Graph) {
    (text::abbreviate(&graph), graph)
}

fn optimised(graph: &Graph, fuse: bool) -> Graph {
    let options = EGraphOptions { fuse, ..EGraphOptions::default() };
    optimise(&simplify(graph).unwrap(), &options, &CostModel::generic_cpu()).unwrap().0
}

fn planned(graph: &Graph) -> Plan {
    plan(graph, &TileTarget::avx512(2), &PlanOptions::default()).unwrap()
}

fn kernels(plan: &Plan) -> String {
    let mut text = String::new();
    for PlannedKernel { kernel, schedule, .. } in &plan.kernels {
        let _ = write!(text, "{kernel}\n{}\n", tile::describe(kernel, schedule));
    }
    text
}

/// A file's graph with its weights as constants.
fn graph_of(source: &str) -> Graph {
    let read = text::parse(source).unwrap_or_else(|error| panic!("{error}\n{source}"));
    let mut graph = Graph::new(read.name.clone());
    let mut map = vec![ValueId(0); read.value_count()];
    for &input in read.inputs() {
        let name = read.value(input).name.clone().unwrap_or_default();
        let ty = read.ty(input);
        let base = if name.starts_with("positive") { 1.0 } else { 0.0 };
        map[input.0 as usize] = if base > 0.0 || name.starts_with("weight") {
            graph.constant(numbers(ty, &SymbolValues::new(), base, u64::from(input.0))).unwrap()
        } else {
            graph.input(name, ty.clone())
        };
    }
    graph.symbols = read.symbols.clone();
    for (_, node) in read.nodes() {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|input| map[input.0 as usize]).collect();
        let outputs = graph
            .add_node(node.op.clone(), &inputs, node.regions.clone(), node.source.clone())
            .unwrap();
        for (&old, new) in node.outputs.iter().zip(outputs) {
            map[old.0 as usize] = new;
        }
    }
    for (&output, name) in read.outputs().iter().zip(read.output_names()) {
        graph.output(map[output.0 as usize], name.clone()).unwrap();
    }
    verify(&graph).unwrap();
    graph
}

/// Numbers within a half of `base` (whole ones for integers), different for each seed.
pub fn numbers(ty: &TensorType, symbols: &SymbolValues, base: f64, seed: u64) -> Tensor {
    let sizes: Vec<usize> =
        ty.shape.iter().map(|dim| dim.evaluate(symbols).unwrap() as usize).collect();
    let mut state = seed;
    let values: Vec<f64> = (0..sizes.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let unit = (state >> 40) as f64 / (1u64 << 24) as f64;
            match ty.dtype {
                DType::Bool => f64::from(unit > 0.3),
                dtype if dtype.is_float() => base + unit - 0.5,
                _ => (unit * 3.0).floor(),
            }
        })
        .collect();
    Tensor::from_f64(ty.dtype, sizes, &values).unwrap()
}

/// Compares the results of a graph before, after, and as a program.
fn compare(before: &Graph, after: &Graph, case: &str) {
    let size = |(number, (symbol, bounds)): (usize, (&Symbol, &kiln_tensor::Bounds))| {
        let most = bounds.max.unwrap_or(i64::MAX);
        (symbol.clone(), (2 + number as i64).clamp(bounds.min, most))
    };
    let symbols: SymbolValues = before.symbols.iter().enumerate().map(size).collect();
    let given = before.inputs().iter().zip(100..);
    let inputs: Vec<Tensor> =
        given.map(|(&id, seed)| numbers(before.ty(id), &symbols, 0.0, seed)).collect();
    let expected = evaluate(before, &inputs).unwrap();
    let results = evaluate(after, &inputs).unwrap();
    let run = interpreter::run(&planned(after), &inputs).unwrap();
    for (stage, actual) in [("graph", results), ("program", run)] {
        for (number, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            assert_eq!(actual.sizes(), expected.sizes(), "{case}: {stage}");
            let (actual, expected) = (actual.to_f64(), expected.to_f64());
            let largest = expected.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
            for (a, e) in actual.iter().zip(&expected) {
                let close = (a - e).abs() <= 1e-4 * largest || a == e || a.is_nan() && e.is_nan();
                assert!(close, "{case}: output {number} of the {stage} is {a}, not {e}");
            }
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "kir"));
    files.sort();
    files
}

#[test]
fn every_file_is_as_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    let bless = std::env::var_os("KILN_BLESS").is_some_and(|value| value == "1");
    let mut failures = Vec::new();
    for (pass, run) in PASSES {
        let files = files(&root.join(pass));
        assert!(!files.is_empty(), "{pass} has no files");
        for path in files {
            let content = fs::read_to_string(&path).unwrap();
            let (source, expected) = content.split_once(SEPARATOR).unwrap_or((&content, ""));
            let name = format!("{pass}/{}", path.file_name().unwrap().display());
            let graph = graph_of(source);
            let (actual, after) = run(&graph);
            if !source.contains("numbers: no") {
                compare(&graph, &after, &name);
            }
            if bless {
                let source = source.trim_end();
                fs::write(&path, format!("{source}{SEPARATOR}{}\n", actual.trim_end())).unwrap();
            } else if actual.trim_end() != expected.trim_end() {
                failures.push(format!("{name} gives\n{actual}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{}\n{} files differ; KILN_BLESS=1 accepts what came out",
        failures.join("\n\n"),
        failures.len()
    );
}
