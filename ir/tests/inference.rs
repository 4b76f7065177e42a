//! What operations say of operands that they do not accept, with the types in the message.
//!
//! Invariant: a message names the rule and the types that break it, and for dimensions that might
//! be equal after all, what would help.

use kiln_ir::{Op, TensorType, text};

/// The type of the only result, or the message.
fn infer(op: &str, operands: &[&str]) -> String {
    let op: Op = text::parse_operation(op).unwrap_or_else(|error| panic!("{op}: {error}"));
    let types: Vec<TensorType> = operands.iter().map(|text| ty(text)).collect();
    match op.infer(&types.iter().collect::<Vec<_>>(), &[]) {
        Ok(results) => {
            let results: Vec<String> = results.iter().map(TensorType::to_string).collect();
            results.join(", ")
        }
        Err(error) => error.message,
    }
}

/// A type by way of a graph with one input.
fn ty(text: &str) -> TensorType {
    let graph = format!("graph \"g\" {{ %x \"x\": {text} = input\n return %x as \"x\" }}");
    let graph = text::parse(&graph).unwrap_or_else(|error| panic!("{text}: {error}"));
    graph.ty(graph.inputs()[0]).clone()
}

#[test]
fn messages_name_the_rule_and_the_types() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("Unary(f: Exp)", &["i32[2]"], "Exp is not defined on i32[2]"),
        ("Unary(f: Neg)", &[], "takes 1 operand, got 0"),
        (
            "Binary(f: Add)",
            &["f32[2]", "f16[2]"],
            "operands must have one element type, but are f32[2] and f16[2]",
        ),
        (
            "Binary(f: Add)",
            &["f32[2]", "f32[3]"],
            "f32[2] and f32[3] do not broadcast: 2 and 3 differ",
        ),
        (
            "Binary(f: Add)",
            &["f32[n]", "f32[m]"],
            "f32[n] and f32[m] do not broadcast: n and m cannot be shown to be equal; if they are, fix them with --dim m=N or --dim n=N",
        ),
        ("Binary(f: And)", &["f32[2]", "f32[2]"], "And is not defined on f32[2] and f32[2]"),
        ("Select()", &["i8[2]", "f32[2]", "f32[2]"], "the condition must be bool, but is i8[2]"),
        ("Reshape(shape: [4])", &["f32[3]"], "f32[3] has 3 elements, but [4] has 4"),
        ("Assume(shape: [4])", &["f32[3]"], "f32[3] cannot have the shape [4]"),
        ("Assume(shape: [\"n\"])", &["f32[3, n]"], "f32[3, n] cannot have the shape [n]"),
        (
            "Transpose(perm: [0, 0])",
            &["f32[3, 2]"],
            "[0, 0] is not a permutation of the 2 dimensions of f32[3, 2]",
        ),
        (
            "Broadcast(shape: [2, 3])",
            &["f32[2]"],
            "broadcast: [2] does not stretch to [2, 3]: 2 and 3 differ",
        ),
        (
            "Slice(starts: [2], sizes: [2], steps: [1])",
            &["f32[3]"],
            "the slice of dimension 0 goes from 2 to 3, outside of f32[3]",
        ),
        ("Slice(starts: [0], sizes: [2], steps: [0])", &["f32[3]"], "steps must not be zero: [0]"),
        (
            "Concat(axis: 1)",
            &["f32[2, 3]", "f32[3, 3]"],
            "f32[2, 3] and f32[3, 3] must agree in dimension 0: 2 and 3 differ",
        ),
        ("Concat(axis: 2)", &["f32[2, 3]"], "axis 2 does not exist in f32[2, 3] of rank 2"),
        (
            "Pad(before: [-2], after: [-2], mode: Edge)",
            &["f32[3]"],
            "f32[3] cropped by [-2] and [-2] would have a dimension of -1",
        ),
        (
            "Pad(before: [1], after: [1], mode: Constant)",
            &["f32[3]", "f32[1]"],
            "the padding value must be f32[], but is f32[1]",
        ),
        (
            "Gather(axis: 0)",
            &["f32[3]", "f32[1]"],
            "the index operand must be i32 or i64, but is f32[1]",
        ),
        (
            "GatherElements(axis: 0)",
            &["f32[3, 2]", "i64[3, 4]"],
            "i64[3, 4] must not be larger than f32[3, 2] in dimension 1: 4 and 2 differ",
        ),
        (
            "GatherNd(batch_dims: 0)",
            &["f32[3, 2]", "i64[3, n]"],
            "the last dimension of i64[3, n] must be the constant tuple length",
        ),
        (
            "ScatterElements(axis: 0, reduction: Add)",
            &["bool[3]", "i64[2]", "bool[2]"],
            "the data must be of an integer or floating-point type, but is bool[3]",
        ),
        (
            "ScatterNd(reduction: None)",
            &["f32[3, 2]", "i64[4, 1]", "f32[4, 3]"],
            "the updates must be one slice for each tuple: in [4, 2] and [4, 3], 2 and 3 differ",
        ),
        (
            "Reduce(f: Sum, axes: [1, 0], keep: false)",
            &["f32[3, 2]"],
            "axes [1, 0] must be ascending",
        ),
        (
            "Reduce(f: Any, axes: [0], keep: false)",
            &["f32[3]"],
            "the operand must be bool, but is f32[3]",
        ),
        (
            "ArgReduce(f: Sum, axis: 0, keep: false, last: false)",
            &["f32[3]"],
            "searches Max or Min, not Sum",
        ),
        (
            "WindowReduce(f: Max, window: [4], strides: [1], dilations: [1], before: [0], after: [0])",
            &["f32[2]"],
            "a window of 4 does not fit into 2 (size 2 with padding 0 and 0)",
        ),
        (
            "Contract(spec: \"mk,kn->mn\")",
            &["f32[2, 3]", "f32[4, 5]"],
            "dimension `k` of mk,kn->mn in f32[2, 3] and f32[4, 5]: 3 and 4 differ",
        ),
        (
            "Contract(spec: \"mk,kn->mn\")",
            &["f32[2]", "f32[4, 5]"],
            "the left operand of mk,kn->mn must have rank 2, but is f32[2]",
        ),
        (
            "Conv(strides: [1], dilations: [1], before: [0], after: [0], groups: 2, layout: ChannelsFirst)",
            &["f32[1, 3, 8]", "f32[4, 2, 3]"],
            "channels of f32[1, 3, 8] and f32[4, 2, 3] in 2 groups: 3 and 4 differ",
        ),
        (
            "Conv(strides: [1], dilations: [1], before: [0], after: [0], groups: 3, layout: ChannelsFirst)",
            &["f32[1, 6, 8]", "f32[4, 2, 3]"],
            "4 filters do not split into 3 groups",
        ),
        (
            "Softmax(axis: 0)",
            &["i32[3]"],
            "the operand must be of a floating-point type, but is i32[3]",
        ),
        (
            "Normalize(axis: 1, epsilon: 0.1, center: true)",
            &["f32[2, 3]", "f32[2]"],
            "scale must have the normalised dimensions of f32[2, 3]: in [2] and [3], 2 and 3 differ",
        ),
        (
            "Attention(scale: 1.0, causal: false)",
            &["f32[1, 3, 4, 8]", "f32[1, 2, 5, 8]", "f32[1, 2, 5, 8]"],
            "3 query heads are not a multiple of 2 key heads",
        ),
        (
            "Recurrent(cell: Rnn, direction: Forward, activations: [], clip: None, lengths: false, peepholes: false)",
            &["f32[3, 2, 2]"],
            "needs 1 activations, got 0",
        ),
        ("SizeOf(dims: [1, 2], scalar: true)", &[], "a scalar is one dimension, but 2 are given"),
        ("If()", &["bool[]"], "has 2 bodies, got 0"),
    ];
    for (op, operands, expected) in cases {
        assert_eq!(infer(op, operands), *expected, "{op}");
    }
}

#[test]
fn symbolic_types_are_inferred() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("Binary(f: Less)", &["f32[batch, 1]", "f32[seq]"], "bool[batch, seq]"),
        ("Assume(shape: [\"2*m\", 8])", &["f32[n, 8]"], "f32[2*m, 8]"),
        ("Reshape(shape: [\"batch*seq\", 8])", &["f32[batch, seq, 8]"], "f32[batch*seq, 8]"),
        ("Concat(axis: 0)", &["f32[n, 2]", "f32[2*n + 1, 2]"], "f32[3*n + 1, 2]"),
        ("Gather(axis: 1)", &["f32[4, n, 5]", "i32[m, 2]"], "f32[4, m, 2, 5]"),
        (
            "WindowReduce(f: Max, window: [1, 3], strides: [1, 2], dilations: [1, 1], before: [0, 1], after: [0, 1])",
            &["f32[c, h]"],
            "f32[c, floordiv(h + 1, 2)]",
        ),
        (
            "Conv(strides: [2], dilations: [1], before: [0], after: [0], groups: 1, layout: ChannelsLast)",
            &["f32[n, 2*w, 3]", "f32[2, 3, 16]"],
            "f32[n, w, 16]",
        ),
        (
            "ConvTranspose(strides: [2], dilations: [1], before: [1], after: [1], output_padding: [1], groups: 1)",
            &["f32[n, 3, w]", "f32[3, 5, 3]"],
            "f32[n, 5, 2*w]",
        ),
        ("Contract(spec: \"bmk,kn->bmn\")", &["f32[b, s, 8]", "f32[8, 3]"], "f32[b, s, 3]"),
        (
            "Attention(scale: 1.0, causal: true)",
            &["f32[b, 8, s, 64]", "f32[b, 2, t, 64]", "f32[b, 2, t, 32]", "bool[s, t]"],
            "f32[b, 8, s, 32]",
        ),
    ];
    for (op, operands, expected) in cases {
        assert_eq!(infer(op, operands), *expected, "{op}");
    }
}
