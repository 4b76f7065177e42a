use super::*;
use crate::graph::Graph;
use crate::random;
use proptest::prelude::*;

const MODEL: &str = r#"graph "model \"1\"" {
  symbols batch: 1..=8, n: 0..
  %0 "x": f32[batch, 2] = input
  %1: f32[2] = Constant [0.5, -1]
  %2 "sum": f32[batch, 2] = Binary(f: Add) %0, %1 from "layer/add"
  %3: i64[2] = SizeOf(dims: [2, "batch + n"], scalar: false)
  %4 "c": bool[] = input
  %5: f32[batch, 2] = If() %4, %2
    graph "then" {
      symbols batch: 0..
      %0 "a": f32[batch, 2] = input
      %1: f32[batch, 2] = Unary(f: Relu) %0
      return %1 as "r"
    }
    graph "else" {
      symbols batch: 0..
      %0 "a": f32[batch, 2] = input
      return %0 as "r"
    }
  %6: bool[3] = Constant [true, false, true]
  return %5 as "y", %3 as "sizes"
}
"#;

#[test]
fn a_model_reads_and_prints_the_same() {
    let graph = parse(MODEL).unwrap();
    assert_eq!(print(&graph), MODEL);
    assert_eq!(graph.inputs().len(), 2);
    assert_eq!(graph.output_names().len(), 2);
}

#[test]
fn values_may_have_names_and_types_may_be_left_out() {
    let text = "graph \"g\" { // with a comment\n %x \"x\": f32[s] = input\n\
        %y = Unary(f: Neg) %x\n return %y as \"y\" }";
    let graph = parse(text).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[s]");
}

#[test]
fn large_constants_go_to_the_end_or_are_left_out() {
    let mut graph = Graph::new("g");
    let values: Vec<f32> = (0..100).map(|value| value as f32 / 3.0).collect();
    let tensor = kiln_tensor::Tensor::from_slice(vec![100], &values).unwrap();
    let value = graph.constant(tensor).unwrap();
    graph.output(value, "y").unwrap();
    let text = print(&graph);
    assert!(text.contains("Constant data 0") && text.contains("\ndata 0 \"\n"), "{text}");
    assert_eq!(parse(&text).unwrap(), graph);
    let short = abbreviate(&graph);
    assert!(short.contains("Constant …"), "{short}");
    let error = parse(&short).unwrap_err();
    assert!(error.to_string().contains("left out"), "{error}");
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let cases = [
        ("graf", "line 1, column 1: expected `graph`, found `graf`"),
        ("graph \"g\" {", "line 1, column 12: expected `%`, `return` or `=`, found the end"),
        (
            "graph \"g\" {\n  %0 \"x\": f33[2] = input\n",
            "line 2, column 11: unknown element type `f33`",
        ),
        (
            "graph \"g\" {\n  %0 \"x\": f32[2 +] = input\n",
            "line 2, column 15: `2 +` is not a dimension expression: expected a number, a name or `(`",
        ),
        (
            "graph \"g\" {\n  %0: f32[2] = Unary(f: Neg) %9\n",
            "line 2, column 31: value %9 is not defined",
        ),
        (
            "graph \"g\" {\n  %0: f32[2] = Wobble()\n",
            "line 2, column 16: there is no operation `Wobble`",
        ),
        (
            "graph \"g\" {\n  %0: i64[2] = Constant [1, 2]\n  %1: i64[3] = Unary(f: Abs) %0\n",
            "line 3, column 3: the type is i64[2], not i64[3]",
        ),
        (
            "graph \"g\" {\n  %0: i8[2] = Constant [1, 200]\n",
            "line 2, column 28: `200` is not of type i8",
        ),
        (
            "graph \"g\" {\n  %0: i8[2] = Constant [1]\n",
            "line 2, column 27: shape [2] of i8 needs 2 bytes, but 1 were given",
        ),
        (
            "graph \"g\" {\n  %0: i8[2] = Constant data 7\n",
            "line 2, column 28: there is no `data 7`",
        ),
        (
            "graph \"g\" {\n  %0: i64[2] = Constant [1, 2]\n  %0: i64[2] = Unary(f: Abs) %0\n",
            "line 3, column 3: value %0 is defined already",
        ),
        (
            "graph \"g\" {\n  %0: i64[2] = Constant [1, 2]\n  %1: i64[2] = Unary(f: Exp) %0\n",
            "line 3, column 16: Unary: Exp is not defined on i64[2]",
        ),
        ("graph \"g", "line 1, column 8: the string has no end"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    let deep = "graph \"g\" { %c \"c\": bool[] = input\n %y = Fused(label: \"\")\n ".repeat(100);
    assert_eq!(parse(&deep).unwrap_err().kind, ParseErrorKind::Nesting);
}

#[test]
fn attributes_that_do_not_fit_are_errors() {
    for text in ["Unary()", "Unary(f: Nope)", "Slice(starts: [\"((\"], sizes: [], steps: [])"] {
        let error = parse_operation(text).unwrap_err();
        assert!(matches!(error.kind, ParseErrorKind::Attributes(_)), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn parsing_what_was_printed_is_the_identity(seed: u64, nodes in 0usize..30) {
        let graph = random::graph(seed, nodes);
        let text = print(&graph);
        let again = parse(&text);
        prop_assert!(again.as_ref() == Ok(&graph), "{text}\n{again:?}");
        prop_assert_eq!(print(&again.unwrap()), text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        seed: u64,
        cuts in prop::collection::vec((0usize..4000, 0usize..12, "[ -~\n…]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = print(&random::graph(seed, 8)).chars().collect();
        for (place, length, inserted) in cuts {
            let place = place % (text.len() + 1);
            let end = (place + length).min(text.len());
            text.splice(place..end, inserted.chars());
        }
        let _ = parse(&text.into_iter().collect::<String>());
    }
}
