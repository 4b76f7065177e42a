//! Names, functions and subgraphs.
//!
//! Invariant: expectations are written as the text of the resolved graph, so that a change in
//! what a name means shows.

use kiln_frontend::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto, attribute_proto::AttributeType,
};
use kiln_frontend::resolve::{Attribute, Body, Resolved, resolve};
use kiln_frontend::{Model, ProblemKind};
use prost::Message;

/// `"op in1,in2 > out1"`; the domain stands before the operator as `domain:op`.
fn node(text: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    let (call, outputs) = text.split_once('>').unwrap();
    let (op, inputs) = call.trim().split_once(' ').unwrap_or((call.trim(), ""));
    let (domain, op) = op.split_once(':').unwrap_or(("", op));
    let names = |text: &str| match text.trim() {
        "" => Vec::new(),
        text => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    NodeProto {
        op_type: Some(op.to_owned()),
        domain: Some(domain.to_owned()),
        input: names(inputs),
        output: names(outputs),
        attribute: attributes,
        ..Default::default()
    }
}

fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.to_owned()), ..Default::default() }
}

fn graph(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    GraphProto {
        name: Some("g".to_owned()),
        input: inputs.iter().map(|name| value(name)).collect(),
        output: outputs.iter().map(|name| value(name)).collect(),
        node: nodes,
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    }
}

fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(graph),
        ..Default::default()
    }
}

fn reference(name: &str, to: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ref_attr_name: Some(to.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        ..Default::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) }
}

fn function(name: &str, inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> FunctionProto {
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("f".to_owned()),
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: outputs.iter().map(|name| name.to_string()).collect(),
        node: nodes,
        opset_import: vec![opset("", 15)],
        ..Default::default()
    }
}

fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> Model {
    let proto = ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset("", 18), opset("f", 1)],
        graph: Some(graph),
        functions,
        ..Default::default()
    };
    Model::from_bytes(proto.encode_to_vec()).unwrap()
}

fn text(resolved: &Resolved<'_>, body: &Body<'_>, indent: usize) -> String {
    let name = |id: &kiln_frontend::resolve::ValueId| {
        format!("{}%{}", resolved.names[id.index()], id.index())
    };
    let list = |ids: &[Option<_>]| {
        ids.iter().map(|id| id.as_ref().map_or("_".to_owned(), name)).collect::<Vec<_>>().join(",")
    };
    let mut out = String::new();
    for node in &body.nodes {
        let space = " ".repeat(indent);
        out += &format!(
            "{space}{} = {}@{}({})",
            list(&node.outputs),
            node.site.op,
            node.site.opset,
            list(&node.inputs)
        );
        for (key, attribute) in &node.attributes {
            match attribute {
                Attribute::Int(value) => out += &format!(" {key}={value}"),
                Attribute::Graph(inner) => {
                    let captures: Vec<_> = inner.captures.iter().map(name).collect();
                    out += &format!(" {key}[{}]\n", captures.join(","));
                    out += text(resolved, inner, indent + 2).trim_end();
                }
                other => out += &format!(" {key}:{}", other.type_name()),
            }
        }
        out.push('\n');
    }
    let outputs: Vec<_> = body.outputs.iter().map(|(id, _)| Some(*id)).collect();
    out + &" ".repeat(indent) + "return " + &list(&outputs) + "\n"
}

fn check(model: Model, expected: &str) {
    let (resolved, problems) = resolve(&model);
    assert_eq!(problems, []);
    let expected: Vec<_> = expected.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(text(&resolved, &resolved.graph, 0).trim_end(), expected.join("\n"));
}

#[test]
fn subgraphs_see_outer_names_and_list_what_they_capture() {
    let inner = graph(&[], vec![node("Add x,y > s", vec![]), node("Neg s > t", vec![])], &["t"]);
    let middle = graph(&[], vec![node("If c > r", vec![body("then_branch", inner)])], &["r"]);
    let outer =
        graph(&["c", "x", "y"], vec![node("If c > z", vec![body("then_branch", middle)])], &["z"]);
    check(
        model(outer, vec![]),
        "
z%6 = If@18(c%0) then_branch[c%0,x%1,y%2]
  r%5 = If@18(c%0) then_branch[x%1,y%2]
    s%3 = Add@18(x%1,y%2)
    t%4 = Neg@18(s%3)
    return t%4
  return r%5
return z%6",
    );
}

#[test]
fn functions_are_inlined_with_their_versions_attributes_and_optional_inputs() {
    let mut inner = function(
        "Inner",
        &["a", "b"],
        vec![
            node("Softmax a > t", vec![reference("axis", "axis"), reference("gone", "none")]),
            node("Clip t,b > u", vec![]),
        ],
        &["u"],
    );
    inner.attribute_proto = vec![int("axis", -1)];
    let outer = function(
        "Outer",
        &["a"],
        vec![
            node("f:Inner a > p", vec![reference("axis", "where")]),
            node("f:Inner p,a > q", vec![]),
        ],
        &["q"],
    );
    // `t` inside the function is not the `t` of the graph.
    let main = graph(
        &["x"],
        vec![
            node("Neg x > t", vec![]),
            node("f:Outer t > y", vec![int("where", 2)]),
            node("Add t,y > z", vec![]),
        ],
        &["z"],
    );
    check(
        model(main, vec![inner, outer]),
        "
t%1 = Neg@18(x%0)
t%2 = Softmax@15(t%1) axis=2
u%3 = Clip@15(t%2,_)
t%4 = Softmax@15(u%3) axis=-1
u%5 = Clip@15(t%4,t%1)
z%6 = Add@18(t%1,u%5)
return z%6",
    );
}

#[test]
fn a_function_does_not_see_its_callers_names_but_its_subgraphs_see_its_own() {
    let branch = graph(&[], vec![node("Neg a > n", vec![])], &["n"]);
    let good = function(
        "F",
        &["c", "a"],
        vec![node("If c > r", vec![body("then_branch", branch)])],
        &["r"],
    );
    let main = |op: &str| graph(&["k", "x"], vec![node(op, vec![])], &["y"]);
    check(
        model(main("f:F k,x > y"), vec![good]),
        "
r%3 = If@15(k%0) then_branch[x%1]
  n%2 = Neg@15(x%1)
  return n%2
return r%3",
    );
    let bad = function("F", &["c"], vec![node("Add c,x > r", vec![])], &["r"]);
    let model = model(main("f:F k > y"), vec![bad]);
    let (_, problems) = resolve(&model);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("`x`"), "{}", problems[0]);
    assert_eq!(problems[0].site.node, "y/r");
}

#[test]
fn every_structural_fault_is_listed() {
    let main = graph(
        &["x"],
        vec![
            node("Neg never > a", vec![]),
            node("Neg x > a", vec![]),
            node("Neg x > b", vec![int("k", 1), int("k", 2)]),
        ],
        &["nowhere"],
    );
    let model = model(main, vec![]);
    let (_, problems) = resolve(&model);
    let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "input `never` is not defined",
            "`a` is defined twice in one graph",
            "attribute `k` is given twice",
            "output `nowhere` is not defined",
        ]
    );
    assert!(problems.iter().all(|problem| problem.kind == ProblemKind::Malformed));
}

#[test]
fn nodes_are_put_into_an_order_of_execution() {
    let branch = graph(&[], vec![node("Neg late > inner", vec![])], &["inner"]);
    let main = graph(
        &["x"],
        vec![
            node("Add a,b > y", vec![]),
            node("Neg late > a", vec![]),
            node("If c > b", vec![body("then_branch", branch)]),
            node("Abs x > c", vec![]),
            node("Exp x > late", vec![]),
        ],
        &["y"],
    );
    let one = model(main, vec![]);
    let (resolved, problems) = resolve(&one);
    assert!(problems.is_empty(), "{problems:?}");
    let mut known: Vec<_> = resolved.graph.inputs.iter().map(|(value, _)| *value).collect();
    for node in &resolved.graph.nodes {
        assert!(node.inputs.iter().flatten().all(|input| known.contains(input)));
        known.extend(node.outputs.iter().flatten());
    }

    let circle =
        graph(&["x"], vec![node("Add x,b > a", vec![]), node("Neg a > b", vec![])], &["a"]);
    let circle = model(circle, vec![]);
    let (_, problems) = resolve(&circle);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let message = &problems[0].message;
    assert!(message.ends_with("nodes form a circle"), "{message}");
}

#[test]
fn hostile_functions_end() {
    let call = |name: &str| graph(&["x"], vec![node(&format!("f:{name} x > y"), vec![])], &["y"]);
    let itself = function("F", &["a"], vec![node("f:F a > b", vec![])], &["b"]);
    let mutual = [
        function("G", &["a"], vec![node("f:H a > b", vec![])], &["b"]),
        function("H", &["a"], vec![node("f:G a > b", vec![])], &["b"]),
    ];
    // Each calls the next twice: 2^60 nodes if nothing stopped it.
    let doubling = |depth: usize| -> Vec<_> {
        (0..depth)
            .map(|level| {
                let next = level + 1;
                let nodes = if next == depth {
                    vec![node("Neg a > b", vec![])]
                } else {
                    vec![
                        node(&format!("f:D{next} a > m"), vec![]),
                        node(&format!("f:D{next} m > b"), vec![]),
                    ]
                };
                function(&format!("D{level}"), &["a"], nodes, &["b"])
            })
            .collect()
    };
    // Names and inputs are many bytes, of which every inlined node would have a copy.
    let named = |mut functions: Vec<FunctionProto>| {
        for node in functions.iter_mut().flat_map(|function| &mut function.node) {
            node.name = Some("n".repeat(20_000));
        }
        functions
    };
    let wide = |mut functions: Vec<FunctionProto>| {
        let last = functions.last_mut().unwrap();
        last.node = vec![node(&format!("Sum {} > b", vec!["a"; 100_000].join(",")), vec![])];
        functions
    };
    let large = "nodes of inlined functions take more than 268435456 bytes";
    let cases = [
        (call("D0"), named(doubling(15)), large),
        (call("D0"), wide(doubling(15)), large),
        (call("F"), vec![itself], "the function calls itself"),
        (call("G"), mutual.to_vec(), "the function calls itself"),
        (call("D0"), doubling(60), "the model has more than 1048576 nodes, functions inlined"),
        (call("D0"), doubling(200), "functions and graphs are nested more than 100 deep"),
    ];
    for (graph, functions, expected) in cases {
        let model = model(graph, functions);
        let (_, problems) = resolve(&model);
        assert!(
            problems.iter().any(|problem| problem.message == expected
                && problem.kind == ProblemKind::Function),
            "{expected}: {:?}",
            problems.first()
        );
    }
}
