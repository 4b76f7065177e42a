//! Sizes that are found when a model runs.
//!
//! Invariant: graphs are verified and evaluated.

use crate::written::case;
use kiln_frontend::{ImportOptions, Model, import};
use kiln_ir::{Op, evaluate, verify};
use prost::Message;

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
    let model = Model::from_bytes(case.model.encode_to_vec()).unwrap();
    let graph =
        import(&model, &ImportOptions::default()).unwrap_or_else(|report| panic!("{report}"));
    verify(&graph).unwrap();
    assert_eq!(evaluate(&graph, &case.operands).unwrap(), case.expected);
    // Of x and a, with b, and with c.
    let found = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Bind(_))).count();
    assert_eq!(found, 3);
}
