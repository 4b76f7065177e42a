//! Programs compute what their graphs do.
//!
//! Invariant: every case runs through simplification, the e-graph and planning, and on the host; the
//! reference evaluation of the graph that went in says what is right.

use crate::interpreter::{self, CheckFailed};
use kiln_ir::accuracy::Tolerance;
use kiln_ir::{Graph, text, verify};
use kiln_passes::{
    CostModel, EGraphOptions, Plan, PlanOptions, TileTarget, optimise, plan, simplify,
};
use kiln_tensor::{DType, Tensor};

/// The program of a graph.
pub fn compiled(graph: &Graph) -> Plan {
    let simple = simplify(graph).unwrap();
    verify(&simple).unwrap();
    let (fused, _) =
        optimise(&simple, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    verify(&fused).unwrap_or_else(|error| panic!("{error}\n{}", text::print(&fused)));
    planned(&fused)
}

fn planned(graph: &Graph) -> Plan {
    plan(graph, &TileTarget::avx512(2), &PlanOptions::default())
        .unwrap_or_else(|error| panic!("{error}\n{}", text::print(graph)))
}

fn parsed(text: &str) -> Graph {
    let graph = text::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    verify(&graph).unwrap();
    graph
}

fn close(actual: &[Tensor], expected: &[Tensor], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        let comparison = Tolerance::for_type(e.dtype(), 64).compare(a, e);
        let comparison = comparison.unwrap_or_else(|error| panic!("{error}\n{what}"));
        assert!(comparison.agrees(), "{comparison}\n{:?}\n{:?}\n{what}", a.to_f64(), e.to_f64());
    }
}

/// The graph as it is and optimised, on these inputs.
fn check(text: &str, inputs: &[Tensor]) {
    let graph = parsed(text);
    let expected = kiln_ir::evaluate(&graph, inputs).unwrap();
    for plan in [planned(&graph), compiled(&graph)] {
        let actual = interpreter::run(&plan, inputs).unwrap();
        close(&actual, &expected, &format!("{text}\n{:#?}", plan.program));
    }
}

/// `1, 2, 3, …`
fn counting(sizes: &[usize]) -> Tensor {
    let count: usize = sizes.iter().product();
    let values: Vec<f64> = (1..=count).map(|value| value as f64).collect();
    Tensor::from_f64(DType::F32, sizes.to_vec(), &values).unwrap()
}

fn number(value: i64) -> Tensor {
    Tensor::scalar(value).unwrap()
}

fn truth(value: bool) -> Tensor {
    Tensor::from_bytes(DType::Bool, vec![], &[u8::from(value)]).unwrap()
}

#[test]
fn buffers_that_live_one_after_the_other_share_memory() {
    let chain = r#"graph "g" {
      %x "x": f32[64] = input
      %w: f32[64, 64] = Constant [WEIGHTS]
      %a = Contract(spec: "k,kn->n") %x, %w
      %b = Softmax(axis: 0) %a
      %c = Contract(spec: "k,kn->n") %b, %w
      %d = Softmax(axis: 0) %c
      %e = Contract(spec: "k,kn->n") %d, %w
      %f = Binary(f: Add) %e, %a
      %g = Softmax(axis: 0) %f
      %h = Contract(spec: "k,kn->n") %g, %w
      return %h as "y"
    }"#;
    let weights: Vec<String> =
        (0..4096).map(|i| format!("{}", (i * 37 % 19 - 9) as f32 / 8.0)).collect();
    let text = chain.replace("WEIGHTS", &weights.join(", "));
    check(&text, &[counting(&[64])]);
    let plan = compiled(&parsed(&text));
    // %a must stay while %b to %f come and go: three buffers at a time.
    let mut alive = Vec::new();
    for buffer in &plan.program.buffers {
        if let kiln_program::Location::Arena(lifetime) = buffer.location {
            alive.push((lifetime, buffer.bytes().as_const().unwrap() as u64));
        }
    }
    assert_eq!(kiln_program::place(&alive).unwrap().size, 3 * 256);
}

#[test]
fn outputs_may_be_reshapes_inputs_constants_and_each_other() {
    check(
        r#"graph "g" {
          %x "x": f32[2, 3] = input
          %r = Reshape(shape: [6]) %x
          %n = Unary(f: Neg) %x
          %m = Reshape(shape: [3, 2]) %n
          %c: f32[2] = Constant [1, 2]
          %d = Reshape(shape: [2, 1]) %c
          %u = Unary(f: Abs) %m
          return %r as "reshaped input", %x as "input", %n as "value", %m as "reshaped value", %m as "again", %c as "constant", %d as "reshaped constant", %d as "and again", %u as "used"
        }"#,
        &[counting(&[2, 3])],
    );
}

#[test]
fn a_value_may_be_an_output_and_be_used_further() {
    check(
        r#"graph "g" {
          %x "x": f32[4, 4] = input
          %s = Softmax(axis: 1) %x
          %p = Contract(spec: "mk,kn->mn") %s, %x
          %q = Contract(spec: "mk,kn->mn") %p, %s
          return %q as "q", %p as "p", %s as "s"
        }"#,
        &[counting(&[4, 4])],
    );
}

#[test]
fn empty_tensors_run() {
    for (rows, columns) in [(0, 3), (2, 0), (0, 0), (1, 1)] {
        let x = counting(&[rows, columns]);
        check(
            r#"graph "g" {
              symbols m: 0.., k: 0..
              %x "x": f32[m, k] = input
              %w: f32[2, 2] = Constant [1, 2, 3, 4]
              %t = Transpose(perm: [1, 0]) %x
              %p = Contract(spec: "mk,kn->mn") %x, %t
              %s = Reduce(f: Sum, axes: [1], keep: false) %x
              %a = Binary(f: Add) %p, %s
              %c = Concat(axis: 0) %a, %a
              return %c as "c", %s as "s"
            }"#,
            &[x],
        );
    }
}

const CHOICE: &str = r#"graph "g" {
  symbols n: 0..
  %c "c": bool[] = input
  %x "x": f32[n, 3] = input
  %k: f32[3] = Constant [1, -2, 3]
  %p = Unary(f: Exp) %x
  %same, %other, %reshaped, %constant = If() %c, %x, %p, %k
    graph "then" {
      symbols n: 0..
      %x "x": f32[n, 3] = input
      %p "p": f32[n, 3] = input
      %k "k": f32[3] = input
      %a = Binary(f: Add) %p, %k
      %b = Reduce(f: Sum, axes: [1], keep: true) %a
      %d = Binary(f: Mul) %b, %a
      %r = Reshape(shape: ["3*n"]) %d
      return %x as "x", %d as "d", %r as "r", %k as "k"
    }
    graph "else" {
      symbols n: 0..
      %x "x": f32[n, 3] = input
      %p "p": f32[n, 3] = input
      %k "k": f32[3] = input
      %r = Reshape(shape: ["3*n"]) %x
      %n: f32[3] = Constant [7, 8, 9]
      return %p as "x", %x as "d", %r as "r", %n as "k"
    }
  %after = Binary(f: Sub) %same, %other
  %late = Binary(f: Mul) %after, %p
  return %late as "late", %reshaped as "r", %constant as "k", %same as "same"
}"#;

#[test]
fn choices_leave_their_results_in_the_same_buffers() {
    for condition in [true, false] {
        for rows in [0, 1, 2] {
            check(CHOICE, &[truth(condition), counting(&[rows, 3])]);
        }
    }
}

/// Fibonacci: the carried values change places.
const SWAP: &str = r#"graph "g" {
  symbols steps: 0..
  %n "n": i64[] = input
  %a "a": f32[2] = input
  %b "b": f32[2] = input
  %c "c": bool[] = input
  %k: f32[2] = Constant [1, 10]
  %x, %y, %old, %new, %which = Loop(carried: 2, scan: 3, scan_length: "steps") %n, %c, %a, %b, %k
    graph "body" {
      %i "i": i64[] = input
      %go "go": bool[] = input
      %x "x": f32[2] = input
      %y "y": f32[2] = input
      %k "k": f32[2] = input
      %s = Binary(f: Add) %x, %y
      %t = Binary(f: Mul) %s, %k
      return %go as "go", %y as "x", %x as "y", %x as "old", %t as "new", %i as "i"
    }
  %sum = Reduce(f: Sum, axes: [0], keep: false) %new
  return %x as "x", %y as "y", %old as "old", %new as "new", %which as "which", %sum as "sum"
}"#;

#[test]
fn loops_carry_swap_and_stack() {
    for trip in [0, 1, 2, 5] {
        for condition in [true, false] {
            let inputs = [number(trip), counting(&[2]), counting(&[2]), truth(condition)];
            check(SWAP, &inputs);
        }
    }
}

/// Stops by its condition, in a body with temporaries, around another loop and a choice.
const NESTED: &str = r#"graph "g" {
  symbols rows: 1..
  %x "x": f32[rows, 4] = input
  %trip: i64[] = Constant [100]
  %yes: bool[] = Constant [true]
  %limit "limit": f32[] = input
  %z = Softmax(axis: 1) %x
  %r = Loop(carried: 1, scan: 0, scan_length: 0) %trip, %yes, %x, %z, %limit
    graph "outer" {
      symbols rows: 1..
      %i "i": i64[] = input
      %go "go": bool[] = input
      %x "x": f32[rows, 4] = input
      %z "z": f32[rows, 4] = input
      %limit "limit": f32[] = input
      %three: i64[] = Constant [3]
      %t = Softmax(axis: 1) %x
      %u = Loop(carried: 1, scan: 0, scan_length: 0) %three, %go, %t, %z
        graph "inner" {
          symbols rows: 1..
          %i "i": i64[] = input
          %go "go": bool[] = input
          %u "u": f32[rows, 4] = input
          %z "z": f32[rows, 4] = input
          %s = Softmax(axis: 0) %u
          %v = Binary(f: Add) %s, %z
          return %go as "go", %v as "u"
        }
      %w = Binary(f: Add) %u, %t
      %y = Binary(f: Add) %w, %x
      %most = Reduce(f: Max, axes: [0, 1], keep: false) %y
      %more = Binary(f: Less) %most, %limit
      %f = If() %more, %y, %t
        graph "then" {
          symbols rows: 1..
          %y "y": f32[rows, 4] = input
          %t "t": f32[rows, 4] = input
          %d = Binary(f: Sub) %y, %t
          return %d as "d"
        }
        graph "else" {
          symbols rows: 1..
          %y "y": f32[rows, 4] = input
          %t "t": f32[rows, 4] = input
          return %y as "d"
        }
      return %more as "go", %f as "x"
    }
  %end = Binary(f: Mul) %r, %z
  return %end as "end"
}"#;

#[test]
fn loops_nest_and_stop_by_their_condition() {
    for limit in [0.0, 12.0, 25.0] {
        let limit = Tensor::scalar(limit as f32).unwrap();
        check(NESTED, &[counting(&[2, 4]), limit]);
    }
}

#[test]
fn sizes_that_symbols_hide_are_checked() {
    let graph = parsed(
        r#"graph "g" {
          symbols n: 0.., m: 0..
          %x "x": f32[n] = input
          %y "y": f32[m, 2] = input
          %r = Reshape(shape: ["m", 2]) %x
          %t = Slice(starts: [1], sizes: [3], steps: [2]) %x
          %z = Binary(f: Add) %r, %y
          return %z as "z", %t as "t"
        }"#,
    );
    for plan in [planned(&graph), compiled(&graph)] {
        let run =
            |n: usize, m: usize| interpreter::run(&plan, &[counting(&[n]), counting(&[m, 2])]);
        let expected = kiln_ir::evaluate(&graph, &[counting(&[6]), counting(&[3, 2])]).unwrap();
        close(&run(6, 3).unwrap(), &expected, "");
        // Counts that differ, and a slice beyond the end.
        assert!(matches!(run(6, 2), Err(CheckFailed(_))));
        assert!(matches!(run(4, 2), Err(CheckFailed(_))));
    }
}

#[test]
fn nothing_is_written_before_it_is_known_to_fit() {
    let graph = parsed(
        r#"graph "g" {
          symbols n: 0.., m: 0..
          %x "x": f32[n] = input
          %y "y": f32[m, 2] = input
          %s = Softmax(axis: 0) %x
          %r = Reshape(shape: ["m", 2]) %s
          return %r as "r"
        }"#,
    );
    for plan in [planned(&graph), compiled(&graph)] {
        let run =
            |n: usize, m: usize| interpreter::run(&plan, &[counting(&[n]), counting(&[m, 2])]);
        let expected = kiln_ir::evaluate(&graph, &[counting(&[6]), counting(&[3, 2])]).unwrap();
        close(&run(6, 3).unwrap(), &expected, "");
        assert!(matches!(run(6, 2), Err(CheckFailed(_))));
    }
}

#[test]
fn equal_kernels_and_weights_stand_once() {
    let graph = parsed(
        r#"graph "g" {
          symbols a: 1.., b: 1..
          %x "x": f32[a, 2] = input
          %y "y": f32[b, 2] = input
          %w: f32[2, 2] = Constant [1, 2, 3, 4]
          %v: f32[2, 2] = Constant [1, 2, 3, 4]
          %p = Contract(spec: "mk,kn->mn") %x, %w
          %q = Contract(spec: "mk,kn->mn") %y, %v
          %r = Contract(spec: "mk,kn->mn") %q, %v
          return %p as "p", %q as "q", %r as "r"
        }"#,
    );
    let plan = compiled(&graph);
    assert_eq!((plan.kernels.len(), plan.weights.len()), (1, 1));
    let inputs = [counting(&[3, 2]), counting(&[1, 2])];
    close(
        &interpreter::run(&plan, &inputs).unwrap(),
        &kiln_ir::evaluate(&graph, &inputs).unwrap(),
        "",
    );
    // The same input gives the same program.
    assert_eq!(compiled(&graph).program, plan.program);
}
