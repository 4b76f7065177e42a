use super::*;
use crate::{random, verify};
use kiln_tensor::DType;

fn graph(text: &str) -> Graph {
    let graph = text.parse().unwrap();
    verify(&graph).unwrap();
    graph
}

fn floats(sizes: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(sizes.to_vec(), values).unwrap()
}

fn run(text: &str, inputs: &[Tensor]) -> Vec<Vec<f64>> {
    let results = evaluate(&graph(text), inputs).unwrap_or_else(|error| panic!("{error}"));
    results.iter().map(Tensor::to_f64).collect()
}

#[test]
fn symbols_are_bound_by_the_inputs() {
    let text = r#"graph "g" {
        %x "x": f32[n, 2*m + 1] = input
        %s = SizeOf(dims: ["n", "m", "n*m"], scalar: false)
        %i = Iota(length: "m")
        %r = Reshape(shape: ["2*n*m + n"]) %x
        return %s as "s", %i as "i", %r as "r" }"#;
    let results = run(text, &[floats(&[2, 5], &[1.0; 10])]);
    assert_eq!(results, [vec![2.0, 2.0, 4.0], vec![0.0, 1.0], vec![1.0; 10]]);
}

#[test]
fn a_branch_is_chosen() {
    let text = r#"graph "g" {
        %c "c": bool[] = input
        %x "x": f32[n] = input
        %y = If() %c, %x
        graph "then" {
          %x "x": f32[n] = input
          %y = Unary(f: Neg) %x
          return %y as "y" }
        graph "else" {
          %x "x": f32[n] = input
          %y = Binary(f: Add) %x, %x
          return %y as "y" }
        return %y as "y" }"#;
    for (condition, expected) in [(1, [-1.0, -2.0]), (0, [2.0, 4.0])] {
        let condition = Tensor::from_bytes(DType::Bool, vec![], &[condition]).unwrap();
        let results = run(text, &[condition, floats(&[2], &[1.0, 2.0])]);
        assert_eq!(results, [expected.to_vec()]);
    }
}

/// Sums 2ⁱ·x while the sum is below 20, at most `trip` times.
const LOOP: &str = r#"graph "g" {
    symbols steps: 0..
    %trip "trip": i64[] = input
    %go: bool[] = Constant [true]
    %x "x": f32[2] = input
    %sum: f32[2], %all: f32[steps, 2] = Loop(carried: 1, scan: 1, scan_length: "steps") %trip, %go, %x
    graph "body" {
      %i "i": i64[] = input
      %c "c": bool[] = input
      %v "v": f32[2] = input
      %w = Binary(f: Add) %v, %v
      %most = Reduce(f: Max, axes: [0], keep: false) %w
      %limit: f32[] = Constant [20]
      %go = Binary(f: Less) %most, %limit
      return %go as "go", %w as "w", %v as "scan" }
    %length = SizeOf(dims: ["steps"], scalar: true)
    return %sum as "sum", %all as "all", %length as "length" }"#;

#[test]
fn a_loop_ends_by_count_and_by_condition() {
    for (trip, sum, all) in [
        (2, vec![4.0, 12.0], vec![1.0, 3.0, 2.0, 6.0]),
        (9, vec![8.0, 24.0], vec![1.0, 3.0, 2.0, 6.0, 4.0, 12.0]),
        (0, vec![1.0, 3.0], vec![]),
    ] {
        let trip = Tensor::scalar(i64::from(trip)).unwrap();
        let steps = all.len() as f64 / 2.0;
        let results = run(LOOP, &[trip, floats(&[2], &[1.0, 3.0])]);
        assert_eq!(results, [sum, all, vec![steps]]);
    }
}

#[test]
fn an_endless_loop_is_an_error() {
    let text = r#"graph "g" {
        %trip: i64[] = Constant [9223372036854775807]
        %go: bool[] = Constant [true]
        Z
        graph "body" {
          %i "i": i64[] = input
          %c "c": bool[] = input
          return %c as "go" }
        return %trip as "y" }"#
        .replace("Z", "= Loop(carried: 0, scan: 0, scan_length: 0) %trip, %go");
    let error = evaluate(&graph(&text), &[]).unwrap_err();
    assert!(error.to_string().contains("iterations"), "{error}");
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let text = r#"graph "g" {
        symbols n: 1..=4
        %x "x": f32[n, n] = input
        %y = Reshape(shape: [4]) %x
        return %y as "y" }"#;
    let graph = graph(text);
    let fails = |inputs: &[Tensor]| evaluate(&graph, inputs).unwrap_err();
    let cases = [
        (fails(&[]), "the graph takes 1 inputs, but 0 were given"),
        (fails(&[Tensor::scalar(1i8).unwrap()]), "`x` must be f32[n, n], but i8[] was given"),
        (fails(&[floats(&[2, 3], &[0.0; 6])]), "dimension `n` of `x` must be 2, but is 3"),
        (fails(&[floats(&[5, 5], &[0.0; 25])]), "dimension `n` of `x` is 5, outside of 1..=4"),
        (fails(&[floats(&[3, 3], &[0.0; 9])]), "Reshape: f32[3, 3] has 9 elements, but [4] has 4"),
    ];
    for (error, expected) in cases {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn assumed_sizes_are_checked() {
    let text = r#"graph "g" {
        %x "x": f32[n] = input
        %h "h": f32[m] = input
        %y = Assume(shape: ["2*m"]) %x
        return %y as "y" }"#;
    let graph = graph(text);
    let (x, y) = (floats(&[4], &[1.0, 2.0, 3.0, 4.0]), floats(&[3], &[0.0; 3]));
    let half = floats(&[2], &[0.0; 2]);
    assert_eq!(evaluate(&graph, &[x.clone(), half]).unwrap(), std::slice::from_ref(&x));
    let error = evaluate(&graph, &[x, y]).unwrap_err();
    assert_eq!(error.to_string(), "Assume: f32[4] cannot have the shape [6]");
}

#[test]
fn absurd_sizes_are_errors() {
    for op in ["Iota(length: 9223372036854775807)", "Iota(length: 1000000000)", "Iota(length: -1)"]
    {
        let text = format!("graph \"g\" {{ %y = {op}\n return %y as \"y\" }}");
        let error = evaluate(&graph(&text), &[]).unwrap_err();
        assert!(matches!(error, EvaluateError::Op { .. }), "{error}");
    }
}

#[test]
fn random_graphs_evaluate_to_their_types() {
    let mut evaluated = 0;
    for seed in 0..300 {
        let graph = random::graph(seed, 20);
        let Ok(outputs) = evaluate(&graph, &random::inputs(&graph, seed)) else { continue };
        evaluated += 1;
        for (&id, tensor) in graph.outputs().iter().zip(&outputs) {
            assert_eq!(graph.ty(id).dtype, tensor.dtype());
            assert_eq!(graph.ty(id).rank(), tensor.sizes().len());
        }
    }
    // The others index or reshape out of bounds, or lie outside of their symbols' bounds.
    assert!(evaluated > 100, "only {evaluated} of 300 graphs evaluate");
}

#[test]
fn channels_last_is_channels_first_transposed() {
    let text = r#"graph "g" {
        %x "x": f32[2, 4, 5, 6] = input
        %w "w": f32[6, 2, 3, 2] = input
        %first = Conv(strides: [1, 2], dilations: [2, 1], before: [1, 0], after: [0, 1], groups: 2, layout: ChannelsFirst) %x, %w
        %expected = Transpose(perm: [0, 2, 3, 1]) %first
        %xl = Transpose(perm: [0, 2, 3, 1]) %x
        %wl = Transpose(perm: [2, 3, 1, 0]) %w
        %last = Conv(strides: [1, 2], dilations: [2, 1], before: [1, 0], after: [0, 1], groups: 2, layout: ChannelsLast) %xl, %wl
        return %expected as "expected", %last as "last" }"#;
    let graph = graph(text);
    let results = evaluate(&graph, &random::inputs(&graph, 1)).unwrap();
    assert_eq!(results[0], results[1]);
    assert!(results[0].to_f64().iter().any(|&value| value != 0.0));
}

#[test]
fn integers_wrap_and_16_bit_floats_round_once_an_operation() {
    let text = r#"graph "g" {
        %a: u8[1, 3] = Constant [200, 100, 7]
        %b: u8[3, 1] = Constant [3, 2, 1]
        %ab = Contract(spec: "mk,kn->mn") %a, %b
        %s = Reduce(f: Sum, axes: [1], keep: false) %a
        %m = Reduce(f: Mean, axes: [1], keep: false) %a
        %big: u64[2] = Constant [18446744073709551615, 2]
        %p = Reduce(f: Prod, axes: [0], keep: false) %big
        %h: f16[3] = Constant [2048, 1, 1]
        %hs = Reduce(f: Sum, axes: [0], keep: false) %h
        return %ab as "ab", %s as "s", %m as "m", %p as "p", %hs as "hs" }"#;
    let results = evaluate(&graph(text), &[]).unwrap();
    assert_eq!(results[0].bytes(), [((200 * 3 + 100 * 2 + 7) % 256) as u8]);
    assert_eq!(results[1].bytes(), [(307 % 256) as u8]);
    assert_eq!(results[2].bytes(), [102]);
    assert_eq!(results[3].to_vec::<u64>().unwrap(), [u64::MAX - 1]);
    // Adding one at a time would stay at 2048.
    assert_eq!(results[4].to_f64(), [2050.0]);
}

#[test]
fn data_gives_symbols_their_values() {
    let text = r#"graph "g" {
        symbols k: 0..=4
        %x "x": f32[n] = input
        %s "s": i64[1] = input
        = Bind(symbols: ["k"]) %s
        = Check(left: ["2*k"], right: ["n"])
        %r = Reshape(shape: ["k", "2"]) %x
        return %r as "r" }"#;
    let graph = graph(text);
    let sizes = |value: i64| Tensor::from_slice(vec![1], &[value]).unwrap();
    let result = evaluate(&graph, &[floats(&[6], &[1.0; 6]), sizes(3)]).unwrap();
    assert_eq!(result[0].sizes(), [3, 2]);
    for (value, expected) in
        [(2, "2*k = 4 and n = 6 must be equal"), (5, "`k` is 5"), (-1, "`k` is -1")]
    {
        let error = evaluate(&graph, &[floats(&[6], &[1.0; 6]), sizes(value)]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
