//! Every family of operations as programs, with sizes that are only known when they run.
//!
//! Invariant: a template names its operands by type; each is run as it is planned and as the e-graph
//! leaves it, for sizes of one and more.

use crate::filetests::numbers;
use crate::interpreter;
use kiln_ir::accuracy::Tolerance;
use kiln_ir::{Graph, evaluate, single, verify};
use kiln_passes::{CostModel, EGraphOptions, PlanOptions, TileTarget, optimise, plan};
use kiln_tensor::{Symbol, SymbolValues, Tensor};

/// Operation, then the types of its operands.
const ONE: &[(&str, &[&str])] = &[
    ("Accumulate(f: Sum, axis: 1, exclusive: false, reverse: true)", &["f32[n, 5, m]"]),
    ("Accumulate(f: Sum, axis: 0, exclusive: true, reverse: false)", &["i32[n, 3]"]),
    ("Accumulate(f: Prod, axis: 1, exclusive: true, reverse: true)", &["f32[n, 5, m]"]),
    ("Accumulate(f: Prod, axis: 0, exclusive: false, reverse: false)", &["i32[n, 3]"]),
    ("ArgReduce(f: Max, axis: 1, keep: true, last: false)", &["f32[n, m]"]),
    ("ArgReduce(f: Min, axis: 0, keep: false, last: true)", &["f16[n, m, 2]"]),
    ("Gather(axis: 1)", &["f32[n, 4, m]", "i64[m, 2]"]),
    ("GatherElements(axis: 0)", &["f32[3, m]", "i64[n, m]"]),
    ("GatherNd(batch_dims: 0)", &["f32[4, 3, m]", "i64[n, 2]"]),
    ("GatherNd(batch_dims: 1)", &["f32[n, 3, 3]", "i64[n, 2, 1]"]),
    ("ScatterElements(axis: 0, reduction: Add)", &["f32[3, m]", "i64[n, m]", "f32[n, m]"]),
    ("ScatterElements(axis: 1, reduction: None)", &["f32[n, 3]", "i64[n, 2]", "f32[n, 2]"]),
    ("ScatterNd(reduction: Max)", &["f32[3, m]", "i64[n, 1]", "f32[n, m]"]),
    ("ScatterNd(reduction: None)", &["i32[4, 4]", "i64[n, 2]", "i32[n]"]),
    ("Pad(before: [1, 0], after: [0, 2], mode: Edge)", &["f32[n, m]"]),
    ("Pad(before: [0, 2], after: [1, 1], mode: Reflect)", &["f32[3, 4]"]),
    ("Pad(before: [0, 3], after: [0, 2], mode: Wrap)", &["f32[n, 3]"]),
    ("Pad(before: [2, -1], after: [0, 1], mode: Constant)", &["f32[n, 4]", "f32[]"]),
    ("Slice(starts: [\"n - 1\", 0], sizes: [\"n\", 2], steps: [-1, 2])", &["f32[n, 5]"]),
    ("Normalize(axis: 1, epsilon: 0.001, center: false)", &["f16[n, m, 4]", "f16[m, 4]"]),
    ("Softmax(axis: 0)", &["bf16[n, m]"]),
    ("Reduce(f: Prod, axes: [0, 2], keep: false)", &["f64[n, 2, m]"]),
    ("Reduce(f: Any, axes: [1], keep: true)", &["bool[n, m]"]),
    (
        "Attention(scale: 0.5, causal: true)",
        &["f32[n, 4, m, 8]", "f32[n, 2, 3, 8]", "f32[n, 2, 3, 5]"],
    ),
    (
        "Attention(scale: 0.5, causal: false)",
        &["f32[n, 2, m, 4]", "f32[n, 2, 6, 4]", "f32[n, 2, 6, 4]", "f32[n, 1, 1, 6]"],
    ),
    (
        "Conv(strides: [2, 1], dilations: [1, 2], before: [1, 2], after: [0, 1], groups: 2, layout: ChannelsLast)",
        &["f32[n, \"2*m + 3\", 7, 4]", "f32[3, 2, 2, 6]"],
    ),
    (
        "Conv(strides: [1, 2], dilations: [1, 1], before: [1, 1], after: [1, 1], groups: 1, layout: ChannelsFirst)",
        &["f32[n, 3, m, 6]", "f32[5, 3, 3, 3]"],
    ),
    (
        "Conv(strides: [2], dilations: [1], before: [1], after: [2], groups: 4, layout: ChannelsFirst)",
        &["f32[n, 4, m]", "f32[4, 1, 3]"],
    ),
    (
        "ConvTranspose(strides: [2, 2], dilations: [1, 1], before: [1, 0], after: [0, 1], output_padding: [1, 0], groups: 1)",
        &["f32[n, 3, m, 4]", "f32[3, 2, 3, 2]"],
    ),
    (
        "ConvTranspose(strides: [3], dilations: [2], before: [0], after: [1], output_padding: [0], groups: 2)",
        &["f32[n, 4, m]", "f32[4, 3, 2]"],
    ),
    ("Winograd(before: (1, 2), after: (1, 0))", &["f32[n, \"2*m\", 4, 3]", "f32[16, 3, 5]"]),
    (
        "WindowReduce(f: Mean(count_padding: false), window: [1, 1, 3, 2], strides: [1, 1, 2, 1], dilations: [1, 1, 1, 2], before: [0, 0, 1, 1], after: [0, 0, 1, 1])",
        &["f32[n, 2, \"m + 2\", 5]"],
    ),
    (
        "WindowReduce(f: Max, window: [3, 3], strides: [2, 2], dilations: [1, 1], before: [1, 1], after: [1, 1])",
        &["f32[\"n + 2\", \"m + 3\"]"],
    ),
    (
        "Resize(sizes: [\"n\", \"2*m\", 7], mode: Linear, coordinates: HalfPixel, antialias: false, extrapolation: 0.0)",
        &["f32[n, m, 4]"],
    ),
    (
        "Resize(sizes: [\"n\", \"2*m\"], scales: [1.0, 2.0], mode: Nearest(Floor), coordinates: Asymmetric, antialias: false, extrapolation: 0.0)",
        &["f32[n, m]"],
    ),
    (
        "Resize(sizes: [3, 5], mode: Linear, coordinates: AlignCorners, antialias: false, extrapolation: 0.0)",
        &["f32[6, 3]"],
    ),
];

/// Cells with so many gates, and the attributes of each.
const CELLS: &[(&str, usize, &str)] = &[
    ("Lstm", 4, "Sigmoid, Tanh, Tanh"),
    ("Gru(linear_before_reset: true)", 3, "Sigmoid, Tanh"),
    ("Gru(linear_before_reset: false)", 3, "HardSigmoid(alpha: 0.2, beta: 0.5), Tanh"),
    ("Rnn", 1, "Relu"),
];

fn run(operation: &str, types: &[String], results: usize) {
    let source = format!("{operation} of {types:?}");
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let graph = single::graph(operation, &types, results)
        .unwrap_or_else(|error| panic!("{error}\n{source}"));
    verify(&graph).unwrap();
    let options = EGraphOptions::default();
    let (fused, _) = optimise(&graph, &options, &CostModel::generic_cpu()).unwrap();
    for (n, m) in [(2, 3), (1, 1), (4, 2)] {
        let symbols: SymbolValues = [("n", n), ("m", m)]
            .into_iter()
            .map(|(name, value)| (Symbol::new(name), value))
            .collect();
        let inputs: Vec<Tensor> = graph
            .inputs()
            .iter()
            .zip(1..)
            .map(|(&id, seed)| numbers(graph.ty(id), &symbols, 0.0, seed))
            .collect();
        check(&graph, &graph, &inputs, &source);
        check(&graph, &fused, &inputs, &source);
    }
}

fn check(graph: &Graph, compiled: &Graph, inputs: &[Tensor], source: &str) {
    let expected = evaluate(graph, inputs).unwrap_or_else(|error| panic!("{error}\n{source}"));
    let plan = plan(compiled, &TileTarget::avx512(2), &PlanOptions::default())
        .unwrap_or_else(|error| panic!("{error}\n{source}"));
    let actual = interpreter::run(&plan, inputs).unwrap();
    for (a, e) in actual.iter().zip(&expected) {
        let comparison = Tolerance::for_type(e.dtype(), 64).with_magnitude(1.0).compare(a, e);
        let comparison = comparison.unwrap_or_else(|error| panic!("{error}\n{source}"));
        assert!(comparison.agrees(), "{comparison}\n{:?}\n{:?}\n{source}", a.to_f64(), e.to_f64());
    }
}

#[test]
fn single_operations() {
    for (operation, types) in ONE {
        let types: Vec<String> = types.iter().map(|ty| (*ty).to_owned()).collect();
        run(operation, &types, 1);
    }
}

#[test]
fn recurrent_cells() {
    for (cell, gates, activations) in CELLS {
        for (direction, count) in [("Forward", 1), ("Reverse", 1), ("Bidirectional", 2)] {
            for (lengths, peepholes, projected) in [
                (false, false, false),
                (true, true, false),
                (false, true, true),
                (true, false, true),
            ] {
                let lstm = *cell == "Lstm";
                let peepholes = peepholes && lstm;
                let all = vec![*activations; count].join(", ");
                // Small enough for states to lie beyond it.
                let clip = if lengths { "Some(0.2)" } else { "None" };
                let operation = format!(
                    "Recurrent(cell: {cell}, direction: {direction}, activations: [{all}], \
                     clip: {clip}, lengths: {lengths}, peepholes: {peepholes}, \
                     projected: {projected})"
                );
                let (rows, hidden) = (3 * gates, 3);
                let state = format!("f32[{count}, m, {hidden}]");
                let mut types = match projected {
                    true => vec![format!("f32[\"n + 1\", {count}, m, {rows}]")],
                    false => {
                        vec!["f32[\"n + 1\", m, 2]".to_owned(), format!("f32[{count}, {rows}, 2]")]
                    }
                };
                types.extend([
                    format!("f32[{count}, {rows}, {hidden}]"),
                    format!("f32[{count}, {}]", 2 * rows),
                    state.clone(),
                ]);
                types.extend(lstm.then_some(state));
                types.extend(lengths.then(|| "i32[m]".to_owned()));
                types.extend(peepholes.then(|| format!("f32[{count}, 9]")));
                run(&operation, &types, if lstm { 3 } else { 2 });
            }
        }
    }
}
