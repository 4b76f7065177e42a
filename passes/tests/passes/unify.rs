//! Sizes that assumptions tell.
//!
//! Invariant: what a graph refused before, it refuses after; nothing else is.

use kiln_ir::{Graph, evaluate, text, verify};
use kiln_passes::{simplify, unify};
use kiln_tensor::{DType, Dim, Tensor};

/// The shapes of a graph's inputs after their sizes were put in; `None` if none were.
fn inputs(body: &str) -> Option<Vec<String>> {
    let graph = text::parse(&format!("graph \"g\" {{\n{body}\n}}")).unwrap();
    let unified = unify(&graph).unwrap()?;
    verify(&unified).unwrap();
    let shape = |dims: &[Dim]| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
    Some(unified.inputs().iter().map(|&input| shape(&unified.ty(input).shape)).collect())
}

/// Two vectors that are added, and must be of one size, with these symbols.
fn sum(symbols: &str) -> Graph {
    let text = format!(
        "graph \"g\" {{
        symbols {symbols}
        %x \"x\": f32[a] = input
        %y \"y\": f32[b] = input
        %1 = Assume(shape: [\"a\"]) %y
        %2 = Binary(f: Add) %x, %1
        return %2 as \"o\"
        }}"
    );
    text::parse(&text).unwrap()
}

#[test]
fn a_size_is_what_the_others_make_it() {
    let found = inputs(
        "symbols past: 0.., s: 0.., t: 0..
        %m \"m\": f32[s, t] = input
        %p \"p\": f32[past, 4] = input
        %x \"x\": f32[s, 4] = input
        %k = Concat(axis: 0) %p, %x
        %w = Transpose(perm: [1, 0]) %k
        %y = Contract(spec: \"mk,kn->mn\") %x, %w
        %z = Assume(shape: [\"s\", \"t\"]) %y
        %a = Binary(f: Add) %z, %m
        return %a as \"o\"",
    );
    assert_eq!(found.unwrap(), ["s, past + s", "past, 4", "s, 4"]);
}

#[test]
fn of_two_sizes_the_first_stays_and_numbers_stay_before_both() {
    let found = inputs(
        "symbols a: 1.., b: 0.., c: 0..
        %x \"x\": f32[a] = input
        %y \"y\": f32[b] = input
        %z \"z\": f32[c] = input
        %1 = Assume(shape: [\"a\"]) %y
        %2 = Assume(shape: [\"c\"]) %1
        %3 = Assume(shape: [7]) %z
        %4 = Concat(axis: 0) %2, %3
        return %4 as \"o\"",
    );
    assert_eq!(found.unwrap(), ["7", "7", "7"]);
}

#[test]
fn what_is_known_of_a_size_holds_for_the_one_put_in() {
    let graph = sum("a: 0..=8, b: 2..");
    let unified = unify(&graph).unwrap().unwrap();
    let bounds: Vec<String> = unified.symbols.values().map(ToString::to_string).collect();
    assert_eq!(bounds, ["2..=8"]);
}

#[test]
fn what_is_known_of_a_size_holds_after_several_steps() {
    // b is a, which may not be c + d, or 10, then: b is at least 1, and at most 8.
    let body = "symbols a: 0.., b: 1..=8, c: 0.., d: 0..
        %x \"x\": f32[a] = input
        %y \"y\": f32[b] = input
        %p \"p\": f32[c] = input
        %q \"q\": f32[d] = input
        %1 = Assume(shape: [\"a\"]) %y
        %2 = Assume(shape: [SIZE]) %x
        %3 = Concat(axis: 0) %1, %2, %p, %q
        return %3 as \"o\"";
    for size in ["\"c + d\"", "10"] {
        let found = inputs(&body.replace("SIZE", size));
        assert_eq!(found.unwrap(), ["a", "a", "c", "d"], "{size}");
    }
    assert_eq!(inputs(&body.replace("SIZE", "7")).unwrap(), ["7", "7", "c", "d"]);
}

#[test]
fn sizes_that_cannot_be_read_off_an_input_stay() {
    // Of a product neither factor is known, and a sum may not become less than its part.
    for body in [
        "symbols a: 0.., b: 0..
        %x \"x\": f32[a*b] = input
        %y \"y\": f32[6] = input
        %1 = Assume(shape: [6]) %x
        %2 = Binary(f: Add) %1, %y
        return %2 as \"o\"",
        "symbols a: 0.., b: 5..
        %x \"x\": f32[a + 1] = input
        %z \"z\": f32[a] = input
        %y \"y\": f32[b] = input
        %1 = Assume(shape: [\"b\"]) %x
        %2 = Binary(f: Add) %1, %y
        return %2 as \"o\"",
        "symbols a: 0..
        %x \"x\": f32[a] = input
        %1 = Assume(shape: [\"a\"]) %x
        return %1 as \"o\"",
    ] {
        assert_eq!(inputs(body), None, "{body}");
    }
}

#[test]
fn the_same_inputs_are_refused() {
    let graph = sum("a: 0.., b: 0..");
    let unified = simplify(&unify(&graph).unwrap().unwrap()).unwrap();
    assert!(unified.nodes().all(|(_, node)| node.op.name() != "Assume"));
    let of = |size: usize| Tensor::from_f64(DType::F32, vec![size], &vec![1.5; size]).unwrap();
    for sizes in [[3, 3], [0, 0], [3, 4], [1, 3], [3, 1]] {
        let given = sizes.map(of);
        let (before, after) = (evaluate(&graph, &given), evaluate(&unified, &given));
        assert_eq!(before.is_ok(), sizes[0] == sizes[1]);
        assert_eq!(before.ok(), after.ok());
    }
}
