//! Branches, loops and what is decided while a model is imported.
//!
//! Invariant: what a body computes is compared with what the same nodes compute without it.

use crate::written::{Case, case, difference};
use kiln_frontend::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, attribute_proto::AttributeType,
};
use kiln_frontend::{ImportOptions, Model, Report, import};
use kiln_ir::{Graph, evaluate, verify};
use kiln_tensor::{DType, Tensor};
use prost::Message;

/// The graph of a text, as an attribute: its inputs and outputs are names without types.
fn body(name: &str, text: &str) -> AttributeProto {
    graph_attribute(name, case(&format!("case b opset 17\n{text}")).model.graph.unwrap())
}

fn graph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(graph),
        ..Default::default()
    }
}

/// Gives the node that makes `output` its bodies.
fn with(mut case: Case, output: &str, bodies: Vec<AttributeProto>) -> Case {
    let nodes: &mut Vec<NodeProto> = &mut case.model.graph.as_mut().unwrap().node;
    let makes = |node: &&mut NodeProto| node.output.iter().any(|name| name == output);
    nodes.iter_mut().find(makes).unwrap().attribute.extend(bodies);
    case
}

fn imported(model: &ModelProto) -> Result<Graph, Report> {
    let model = Model::from_bytes(model.encode_to_vec()).unwrap();
    import(&model, &ImportOptions::default())
}

/// Imports, verifies and evaluates; the operations of the graph.
fn check(case: &Case) -> Vec<&'static str> {
    let graph = imported(&case.model).unwrap_or_else(|report| panic!("{report}"));
    verify(&graph).unwrap();
    let results = evaluate(&graph, &case.operands).unwrap();
    for (actual, expected) in results.iter().zip(&case.expected) {
        assert_eq!(difference(actual, expected), None, "{}", case.name);
    }
    graph.nodes().map(|(_, node)| node.op.name()).collect()
}

fn branches(a: &str, b: &str) -> Vec<AttributeProto> {
    vec![body("then_branch", a), body("else_branch", b)]
}

#[test]
fn a_branch_takes_what_it_uses_from_around_it() {
    for (condition, expected) in [(1, "-1 2"), (0, "6 -3")] {
        let text = format!(
            "case if opset 17
             input c bool[] {condition}
             input x f32[n=2] 1 -2
             const w f32[2] 5 -1
             node Neg x > m
             node If c > y
             output y f32[2] {expected}"
        );
        let branches = branches("node Identity m > a\noutput a", "node Add x,w > b\noutput b");
        let operations = check(&with(case(&text), "y", branches));
        assert_eq!(operations, ["Unary", "If"]);
    }
}

#[test]
fn branches_nest_and_capture_through_each_other() {
    let text = "case nested opset 17
                input c bool[] 1
                input d bool[] 0
                input x f32[2] 1 -2
                node If c > y
                output y f32[2] 2 -4";
    let inner = branches("node Neg x > p\noutput p", "node Add x,x > q\noutput q");
    let mut outer = branches("node If d > a\noutput a", "node Identity x > b\noutput b");
    let graph = outer[0].g.as_mut().unwrap();
    graph.node[0].attribute.extend(inner);
    check(&with(case(text), "y", outer));
}

#[test]
fn sizes_decide_a_branch_and_only_that_one_is_imported() {
    let text = "case decided opset 17
                input x f32[n=2,3] 1
                const two i64[] 2
                node Shape x > s
                node Size s > r
                node Equal r,two > c
                node If c > y
                output y f32[2,3] -1";
    let branches = branches("node Neg x > a\noutput a", "node NoSuchOperator x > b\noutput b");
    assert_eq!(check(&with(case(text), "y", branches)), ["Unary"]);
}

#[test]
fn branches_may_differ_in_sizes_but_not_in_type() {
    let text = "case types opset 17
                input c bool[] 1
                input x f32[2,3] 1
                node If c > y
                output y";
    let branches = branches("node Neg x > a\noutput a", "node Flatten x > b axis=0\noutput b");
    let graph = imported(&with(case(text), "y", branches).model).unwrap();
    let x = Tensor::from_slice(vec![2, 3], &[1f32; 6]).unwrap();
    for (condition, sizes) in [(1u8, [2, 3]), (0, [1, 6])] {
        let condition = Tensor::from_bytes(DType::Bool, vec![], &[condition]).unwrap();
        assert_eq!(evaluate(&graph, &[condition, x.clone()]).unwrap()[0].sizes(), sizes);
    }
    let scalar = "node Size x > s\nnode Cast s > b to=1\noutput b";
    // Of one element, both are what the other is with more dimensions.
    let flat = "node Flatten x > f axis=0\nnode ReduceMax f > a keepdims=1\noutput a";
    let graph = crate::control::branches(flat, scalar);
    let graph = imported(&with(case(text), "y", graph).model).unwrap();
    for (condition, number) in [(1u8, 1.0), (0, 6.0)] {
        let condition = Tensor::from_bytes(DType::Bool, vec![], &[condition]).unwrap();
        let y = evaluate(&graph, &[condition, x.clone()]).unwrap().remove(0);
        assert_eq!((y.sizes(), y.to_f64()[0]), (&[1, 1][..], number));
    }
    let ranks = crate::control::branches("node Neg x > a\noutput a", scalar);
    let report = imported(&with(case(text), "y", ranks).model).unwrap_err();
    assert_eq!(
        report.problems[0].message,
        "result 0 is f32[2, 3] in one branch and f32[] in the other"
    );
}

/// What exporters write for `squeeze`: drop the dimension if it is 1, else do nothing.
const SQUEEZE: &str = "case squeeze opset 17
                       input x f32[n=1,3] 1
                       const zero i64[] 0
                       const one i64[] 1
                       node Shape x > s
                       node Gather s,zero > d
                       node Equal d,one > c
                       node If c > y
                       output y f32[3] 1";

#[test]
fn a_branch_that_squeezes_is_taken_to_do_so_and_checked() {
    let squeeze = "const k i64[1] 0\nnode Squeeze x,k > a\noutput a";
    let branches = branches(squeeze, "node Identity x > b\noutput b");
    let case = with(case(SQUEEZE), "y", branches);
    assert_eq!(check(&case), ["Assume", "Reshape"]);
    let graph = imported(&case.model).unwrap();
    let wrong = Tensor::from_slice(vec![2, 3], &[1f32; 6]).unwrap();
    let error = evaluate(&graph, &[wrong]).unwrap_err();
    assert!(error.to_string().contains("cannot have the shape [1, 3]"), "{error}");
}

#[test]
fn sizes_that_meet_may_be_one_and_are_checked() {
    let text = "case meet opset 17
                input x f32[n=2,3] 1
                input z f32[m=2,3] 2
                node Add x,z > y
                output y f32[2,3] 3";
    let case = case(text);
    check(&case);
    let graph = imported(&case.model).unwrap();
    let x = case.operands[0].clone();
    let of = |size: usize| Tensor::from_slice(vec![size, 3], &vec![1f32; size * 3]).unwrap();
    assert_eq!(evaluate(&graph, &[x.clone(), of(1)]).unwrap()[0].to_f64(), [2.0; 6]);
    assert_eq!(evaluate(&graph, &[of(1), x.clone()]).unwrap()[0].sizes(), [2, 3]);
    assert_eq!(evaluate(&graph, &[of(0), of(1)]).unwrap()[0].sizes(), [0, 3]);
    assert!(evaluate(&graph, &[x, of(3)]).is_err());
}

#[test]
fn loops_carry_and_stack() {
    // Sums x times its number; stops after the sum passes a limit.
    let text = "case loop opset 17
                input m i64[] 5
                input x f32[2] 1 2
                const zero f32[2] 0
                node Loop m,_,zero > sum,all
                output sum f32[2] 6 12
                output all f32[4,2] 0 0 1 2 3 6 6 12";
    let text_body = "input i i64[] 0
                     input go bool[] 1
                     input before f32[2] 0
                     const limit f32[] 5
                     const k i64[1] 0
                     node Cast i > f to=1
                     node Mul x,f > step
                     node Add before,step > after
                     node ReduceMax after > most keepdims=0
                     node Mul limit,limit > far
                     node Add limit,limit > stop
                     node Less most,stop > again
                     output again
                     output after
                     output after";
    let case = with(case(text), "sum", vec![body("body", text_body)]);
    assert_eq!(check(&case), ["Constant", "Constant", "Loop"]);
    let graph = imported(&case.model).unwrap();
    assert_eq!(graph.ty(graph.outputs()[1]).to_string(), "f32[iterations, 2]");
}

#[test]
fn a_loop_of_a_known_count_has_results_of_a_known_length() {
    let text = "case counted opset 17
                input x f32[n=3] 1 2 3
                const zero i64[] 0
                node Shape x > s
                node Gather s,zero > m
                node Loop m,_ > all
                output all i64[3] 0 1 2";
    let text_body = "input i i64[] 0\ninput go bool[] 1\noutput go\noutput i";
    let case = with(case(text), "all", vec![body("body", text_body)]);
    check(&case);
    let graph = imported(&case.model).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "i64[n]");
}

#[test]
fn a_value_grows_in_a_loop() {
    let text = "case grows opset 17
                input m i64[] 5
                input x f32[n=2] 1
                node Loop m,_,x > y
                output y";
    let text_body = "input i i64[] 0
                     input go bool[] 1
                     input before f32[2] 0
                     node Concat before,x > after axis=0
                     output go
                     output after";
    let graph = imported(&with(case(text), "y", vec![body("body", text_body)]).model).unwrap();
    let trip = |count: i64| Tensor::scalar(count).unwrap();
    let x = Tensor::from_slice(vec![2], &[1f32, 2.0]).unwrap();
    for (count, size) in [(0, 2), (1, 4), (5, 12)] {
        let results = evaluate(&graph, &[trip(count), x.clone()]).unwrap();
        assert_eq!(results[0].sizes(), [size]);
    }
}

/// Loops in loops, each with a list that begins empty and out of which its body takes; the innermost
/// puts in what a node makes of that.
fn nested(depth: usize, innermost: &str) -> GraphProto {
    let loops = "node SequenceEmpty > none
                 node Loop i,_,none > inner
                 const zero i64[] 0
                 node SequenceAt inner,zero > a
                 node SequenceAt s,zero > b
                 node Concat a,b > c axis=0
                 node SequenceInsert s,c > t";
    let taken = format!(
        "const zero i64[] 0
         const axes i64[1] 0
         node SequenceAt s,zero > c
         {innermost}
         node SequenceInsert s,d > t"
    );
    let text = format!(
        "case nested opset 17
         input i i64[] 0
         input go bool[] 1
         input s f32[1] 0
         {}
         output go
         output t",
        if depth > 0 { loops } else { &taken }
    );
    let made = case(&text);
    let made = match depth {
        0 => made,
        _ => with(made, "inner", vec![graph_attribute("body", nested(depth - 1, innermost))]),
    };
    made.model.graph.unwrap()
}

fn nested_model(innermost: &str) -> ModelProto {
    let text = "case outside opset 17
                input i i64[] 3
                node SequenceEmpty > none
                node Loop i,_,none > y
                output y";
    with(case(text), "y", vec![graph_attribute("body", nested(20, innermost))]).model
}

#[test]
fn bodies_in_bodies_begin_with_what_they_came_to() {
    let graph = imported(&nested_model("node MatMul c,c > d")).unwrap();
    assert_eq!(graph.outputs().len(), 1);
}

#[test]
fn bodies_in_bodies_are_not_tried_without_end() {
    let report = imported(&nested_model("node Unsqueeze c,axes > d")).unwrap_err().to_string();
    assert!(report.contains("how many dimensions"), "{report}");
}

#[test]
fn each_element_of_a_sequence_draws_its_own_numbers() {
    let text = "case draws opset 17
                input x f32[2] 1 2
                const sizes i64[2] 1 1
                node SplitToSequence x,sizes > parts
                node SequenceMap parts > drawn
                node ConcatFromSequence drawn > y axis=0
                output y";
    let text_body = "input part f32[1] 0\nnode RandomNormalLike part > r\noutput r";
    let case = with(case(text), "drawn", vec![body("body", text_body)]);
    let graph = imported(&case.model).unwrap_or_else(|report| panic!("{report}"));
    let y = evaluate(&graph, &case.operands).unwrap()[0].to_f64();
    assert!(y.len() == 2 && y[0] != y[1], "{y:?}");
}

#[test]
fn scans_take_slices_in_either_direction() {
    let text = "case scan opset 17
                input x f32[n=3,2] 1 2 3 4 5 6
                const zero f32[2] 0
                node Scan zero,x > last,all num_scan_inputs=1 scan_input_directions=[1] \
                scan_output_axes=[1]
                output last f32[2] 9 12
                output all f32[2,3] 5 8 9 6 10 12";
    let text_body = "input before f32[2] 0
                     input row f32[2] 0
                     node Add before,row > after
                     node Identity after > step
                     output after
                     output step";
    check(&with(case(text), "last", vec![body("body", text_body)]));
}

#[test]
fn scans_before_opset_9_take_each_batch_to_its_own_end() {
    for (lengths, direction, last, all) in [
        ("3 1", 0, "9 12 11 21", "1 2 4 6 9 12 11 21 0 0 0 0"),
        ("2 3", 1, "4 6 29 39", "3 4 4 6 0 0 19 29 28 38 29 39"),
    ] {
        let text = format!(
            "case scan opset 8
             input l i64[b=2] {lengths}
             input s f32[b=2,2] 0 0 10 20
             input x f32[b=2,t=3,2] 1 2 3 4 5 6 1 1 9 9 9 9
             node Scan l,s,x > last,all num_scan_inputs=1 directions=[{direction}]
             output last f32[2,2] {last}
             output all f32[2,3,2] {all}"
        );
        let text_body = "input before f32[2] 0
                         input row f32[2] 0
                         node Add before,row > after
                         node Identity after > step
                         output after
                         output step";
        check(&with(case(&text), "last", vec![body("body", text_body)]));
    }
}

#[test]
fn problems_inside_bodies_are_all_reported() {
    let text = "case inside opset 17
                input c bool[] 1
                input x f32[2] 1
                node If c > y
                node Neg y > z
                output z";
    let branches = branches("node NoA x > a\noutput a", "node NoB x > b\noutput b");
    let report = imported(&with(case(text), "y", branches).model).unwrap_err();
    let operators: Vec<_> = report.problems.iter().map(|problem| &problem.site.op[..]).collect();
    assert_eq!(operators, ["NoA", "NoB"]);
}

#[test]
fn the_models_in_the_repository() {
    for (bytes, expected) in [
        (&include_bytes!("../models/control.onnx")[..], "f32[batch, 4]"),
        (&include_bytes!("../models/zfnet512_light.onnx")[..], "f32[1, 1000]"),
    ] {
        let model = Model::from_bytes(bytes).unwrap();
        let graph = import(&model, &ImportOptions::default()).unwrap();
        verify(&graph).unwrap();
        assert_eq!(graph.ty(graph.outputs()[0]).to_string(), expected);
    }
}
