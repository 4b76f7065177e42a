//! Sizes that are found when a model runs.
//!
//! Invariant: graphs are verified and evaluated.

use crate::written::{Case, case};
use kiln_frontend::{ImportOptions, Model, import};
use kiln_ir::{Graph, Op, evaluate, verify};
use prost::Message;

fn imported(case: &Case) -> Graph {
    let model = Model::from_bytes(case.model.encode_to_vec()).unwrap();
    let graph = import(&model, &ImportOptions::default());
    let graph = graph.unwrap_or_else(|report| panic!("{}: {report}", case.name));
    verify(&graph).unwrap();
    graph
}

#[test]
fn what_several_sizes_broadcast_to_is_found_once() {
    let mut text = "case stretched opset 17
                    input x f32[n=1] 1
                    input a f32[m=3] 1
                    input b f32[k=3] 1
                    input c f32[l=1] 1"
        .to_owned();
    let mut last = "x".to_owned();
    for number in 0..12 {
        let other = ["a", "b", "c", "x"][number % 4];
        text += &format!("\nnode Add {last},{other} > y{number}");
        last = format!("y{number}");
    }
    text += &format!("\noutput {last} f32[3] 13");
    let case = case(&text);
    let graph = imported(&case);
    assert_eq!(evaluate(&graph, &case.operands).unwrap(), case.expected);
    // Of x and a, with b, and with c.
    let found = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Bind(_))).count();
    assert_eq!(found, 3);
}

#[test]
fn what_is_data_is_held_to_the_rules_when_the_model_runs() {
    let cases = [
        ("CumSum x,a > y", "a i64[] 5", "index 5"),
        ("Unsqueeze x,a > y", "a i64[1] 7", "index 7"),
        ("Unsqueeze x,a > y", "a i64[2] 1 1", "the number of distinct axes must be 2, but is 1"),
        ("Squeeze x,a > y", "a i64[1] -9", "index -9"),
        ("ReduceSum x,a > y", "a i64[1] -7", "index -7"),
        ("ReduceSum x,a > y", "a i64[2] 0 -2", "the number of distinct axes must be 2, but is 1"),
        ("Slice x,zero,three,a > y", "a i64[1] 5", "index 5"),
        (
            "Slice x,zero,three,zero,a > y",
            "a i64[1] 0",
            "the size of a step must be at least 1, but is 0",
        ),
        ("Range none,nine,a > y", "a i64[] 0", "the size of the step must be at least 1, but is 0"),
        ("SplitToSequence x,a > y", "a i64[] 0", "the size of a part must be at least 1, but is 0"),
        ("Pad x,pads,_,a > y", "a i64[1] 9", "index 9"),
        ("Compress x,a > y axis=0", "a bool[5] 0 0 0 0 1", "index 4"),
    ];
    for (node, data, expected) in cases {
        let text = format!(
            "case data opset 18
             input x f32[3,2] wave
             input {data}
             const zero i64[1] 0
             const three i64[1] 3
             const none i64[] 0
             const nine i64[] 9
             const pads i64[2] 1 1
             node {node}
             output y"
        );
        let case = case(&text);
        let error = evaluate(&imported(&case), &case.operands).unwrap_err().to_string();
        assert!(error.contains(expected), "{node} with {data}: {error}");
    }
}

#[test]
fn what_is_at_most_one_is_squeezed() {
    let text = "case last opset 17
                input x f32[n=3,2] 1 2 3 4 5 6
                const end i64[1] -1
                const none i64[1] 9223372036854775807
                const zero i64[1] 0
                node Slice x,end,none,zero > last
                node Squeeze last > y
                output y f32[2] 5 6";
    let case = case(text);
    assert_eq!(evaluate(&imported(&case), &case.operands).unwrap(), case.expected);
}
