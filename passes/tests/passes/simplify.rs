//! What simplification leaves of small graphs.
//!
//! Invariant: each case names what is left, in order; inputs, outputs and their types stay.

use crate::build::*;
use kiln_ir::op::*;
use kiln_ir::{Graph, ValueId};
use kiln_passes::simplify;
use kiln_tensor::{DType, Dim, Tensor};

type Case = (&'static str, fn(&mut Build) -> ValueId, &'static [&'static str]);

/// Neighbouring columns of a value.
fn part(b: &mut Build, x: ValueId, start: i64, size: i64) -> ValueId {
    let starts = vec![Dim::from(0i64), Dim::from(start)];
    let sizes = vec![Dim::named("n"), Dim::from(size)];
    b.op(Slice { starts, sizes, steps: vec![1, 1] }, &[x])
}

const CASES: &[Case] = &[
    (
        "neutral elements go",
        |b| {
            let x = b.input("x", "n, 3");
            let (zero, one) = (b.number(0.0), b.number(1.0));
            let negative = b.number(-0.0);
            let y = b.add(negative, x);
            let y = b.mul(y, one);
            let y = b.binary(BinaryFn::Sub, y, zero);
            b.binary(BinaryFn::Div, y, one)
        },
        &[],
    ),
    (
        "what makes 0 of -0 stays",
        |b| {
            let x = b.input("x", "n, 3");
            let (zero, negative) = (b.number(0.0), b.number(-0.0));
            let y = b.add(zero, x);
            b.binary(BinaryFn::Sub, y, negative)
        },
        &["Binary", "Binary"],
    ),
    (
        "a neutral element that stretches stays",
        |b| {
            let x = b.input("x", "1");
            let zeros = Tensor::zeros(DType::F32, vec![3]).unwrap();
            let zeros = b.graph.constant(zeros).unwrap();
            b.add(x, zeros)
        },
        &["Binary"],
    ),
    (
        "movement that moves nothing goes",
        |b| {
            let x = b.input("x", "n, 3");
            let y = b.reshape(x, "n, 3");
            let y = b.transpose(y, &[0, 1]);
            let y = b.op(Broadcast { shape: shape("n, 3") }, &[y]);
            let y = b.op(Cast { to: DType::F32 }, &[y]);
            let whole = Slice { starts: shape("0, 0"), sizes: shape("n, 3"), steps: vec![1, 1] };
            let y = b.op(whole, &[y]);
            b.op(Concat { axis: 1 }, &[y])
        },
        &[],
    ),
    (
        "chains merge, and cancel",
        |b| {
            let x = b.input("x", "a, b, c");
            let y = b.transpose(x, &[1, 2, 0]);
            let y = b.transpose(y, &[2, 0, 1]);
            let y = b.reshape(y, "a, b*c");
            b.reshape(y, "a*b*c")
        },
        &["Reshape"],
    ),
    (
        "parts that are put together again are the whole",
        |b| {
            let x = b.input("x", "n, 12");
            let parts = [(0, 5), (5, 4), (9, 3)].map(|(start, size)| part(b, x, start, size));
            b.op(Concat { axis: 1 }, &parts)
        },
        &[],
    ),
    (
        "neighbours are one part, and others stay",
        |b| {
            let x = b.input("x", "n, 12");
            let parts = [(9, 3), (0, 5), (5, 4)].map(|(start, size)| part(b, x, start, size));
            b.op(Concat { axis: 1 }, &parts)
        },
        &["Slice", "Slice", "Concat"],
    ),
    (
        "parts along another axis are not the whole",
        |b| {
            let x = b.input("x", "n, 12");
            let parts = [part(b, x, 0, 6), part(b, x, 6, 6)];
            b.op(Concat { axis: 0 }, &parts)
        },
        &["Slice", "Slice", "Concat"],
    ),
    (
        "parts of a concatenation are read where they came from",
        |b| {
            let (x, y) = (b.input("x", "n, 5"), b.input("y", "n, 7"));
            let both = b.op(Concat { axis: 1 }, &[x, y]);
            let (left, right) = (part(b, both, 0, 5), part(b, both, 6, 5));
            b.add(left, right)
        },
        &["Slice", "Binary"],
    ),
    (
        "a concatenation that is needed whole is read",
        |b| {
            let (x, y) = (b.input("x", "n, 5"), b.input("y", "n, 7"));
            let both = b.op(Concat { axis: 1 }, &[x, y]);
            let (within, across) = (part(b, both, 0, 5), part(b, both, 3, 5));
            b.add(within, across)
        },
        &["Concat", "Slice", "Slice", "Binary"],
    ),
    (
        "a conversion that loses nothing goes",
        |b| {
            let x = b.input("x", "n, 3");
            let y = b.op(Cast { to: DType::F64 }, &[x]);
            let y = b.op(Cast { to: DType::I32 }, &[y]);
            let y = b.op(Cast { to: DType::I64 }, &[y]);
            b.op(Cast { to: DType::I32 }, &[y])
        },
        &["Cast"],
    ),
    (
        "a conversion that rounds stays",
        |b| {
            let x = b.input("x", "n, 3");
            let y = b.op(Cast { to: DType::F16 }, &[x]);
            let y = b.op(Cast { to: DType::F32 }, &[y]);
            let y = b.op(Cast { to: DType::I64 }, &[y]);
            b.op(Cast { to: DType::F32 }, &[y])
        },
        &["Cast", "Cast", "Cast"],
    ),
    (
        "integers that wrap in one type and not in another stay apart",
        |b| {
            let x = b.input("x", "n, 3");
            let y = b.op(Cast { to: DType::I32 }, &[x]);
            let y = b.op(Cast { to: DType::F64 }, &[y]);
            b.op(Cast { to: DType::U8 }, &[y])
        },
        &["Cast", "Cast", "Cast"],
    ),
    (
        "operations that differ in the sign of a zero stay apart",
        |b| {
            let x = b.input("x", "n, 3");
            let scale = b.input("scale", "3");
            let normal = |b: &mut Build, epsilon| {
                b.op(Normalize { axis: 1, epsilon, center: true }, &[x, scale])
            };
            let (a, c) = (normal(b, 0.0), normal(b, -0.0));
            b.add(a, c)
        },
        &["Normalize", "Normalize", "Binary"],
    ),
    (
        "slices of slices merge",
        |b| {
            let x = b.input("x", "12");
            let first = Slice { starts: shape("1"), sizes: shape("5"), steps: vec![2] };
            let y = b.op(first, &[x]);
            let second = Slice { starts: shape("4"), sizes: shape("2"), steps: vec![-2] };
            b.op(second, &[y])
        },
        &["Slice"],
    ),
    (
        "a transpose of ones is a reshape",
        |b| {
            let x = b.input("x", "n, 1, 3");
            b.transpose(x, &[1, 0, 2])
        },
        &["Reshape"],
    ),
    (
        "operations stretch by themselves",
        |b| {
            let x = b.input("x", "n, 3");
            let y = b.input("y", "1, 3");
            let wide = b.op(Broadcast { shape: shape("n, 3") }, &[y]);
            b.add(x, wide)
        },
        &["Binary"],
    ),
    (
        "equal operations are done once",
        |b| {
            let x = b.input("x", "n");
            let (two, again) = (b.number(2.0), b.number(2.0));
            let y = b.mul(x, two);
            let z = b.mul(x, again);
            b.add(y, z)
        },
        &["Binary", "Binary"],
    ),
    (
        "what is not used goes",
        |b| {
            let x = b.input("x", "n");
            b.unary(UnaryFn::Exp, x);
            b.unary(UnaryFn::Neg, x)
        },
        &["Unary"],
    ),
    (
        "a choice by a constant is taken",
        |b| {
            let x = b.input("x", "n");
            let y = b.input("y", "n");
            let condition = Tensor::from_f64(DType::Bool, vec![1], &[0.0]).unwrap();
            let condition = b.graph.constant(condition).unwrap();
            let z = b.op(Select {}, &[condition, x, y]);
            b.unary(UnaryFn::Neg, z)
        },
        &["Unary"],
    ),
];

#[test]
fn cases() {
    for (name, make, expected) in CASES {
        let mut b = Build::new(name);
        let y = make(&mut b);
        let graph = b.finish(&[y]);
        let simple = simplify(&graph).unwrap();
        assert_eq!(names(&simple), *expected, "{name}");
        assert_eq!(simple.inputs().len(), graph.inputs().len(), "{name}");
        assert_eq!(simple.ty(simple.outputs()[0]), graph.ty(graph.outputs()[0]), "{name}");
    }
}

/// A body that applies `f` to the sum of its two inputs.
fn branch(f: UnaryFn) -> Graph {
    let mut b = Build::new("branch");
    let (x, w) = (b.input("x", "4"), b.input("w", "4"));
    let sum = b.add(x, w);
    let y = b.unary(f, sum);
    b.finish(&[y])
}

fn choice(condition: Option<bool>) -> Graph {
    let mut b = Build::new("choice");
    let x = b.input("x", "4");
    let w = b.weight(&[4]);
    let condition = match condition {
        Some(value) => {
            let value = Tensor::from_f64(DType::Bool, vec![], &[f64::from(u8::from(value))]);
            b.graph.constant(value.unwrap()).unwrap()
        }
        None => b.graph.input("c", kiln_ir::TensorType::new(DType::Bool, vec![])),
    };
    let bodies = vec![branch(UnaryFn::Exp), branch(UnaryFn::Neg)];
    let y = b.graph.add_node(If {}.into(), &[condition, x, w], bodies, None).unwrap();
    b.finish(&y)
}

#[test]
fn a_known_condition_takes_its_branch() {
    for (condition, expected) in [(true, UnaryFn::Exp), (false, UnaryFn::Neg)] {
        let simple = simplify(&choice(Some(condition))).unwrap();
        assert_eq!(names(&simple), ["Binary", "Unary"]);
        let (_, last) = simple.nodes().last().unwrap();
        assert_eq!(last.op, Unary { f: expected }.into());
    }
}

#[test]
fn constants_go_into_bodies() {
    let simple = simplify(&choice(None)).unwrap();
    let (_, node) = simple.nodes().find(|(_, node)| node.op == If {}.into()).unwrap();
    assert_eq!(node.inputs.len(), 2, "the condition and x");
    for body in &node.regions {
        assert_eq!(body.inputs().len(), 1);
        assert_eq!(names(body), ["Binary", "Unary"]);
    }
}

#[test]
fn sizes_are_computed_as_expressions() {
    let mut b = Build::new("sizes");
    let x = b.input("x", "batch, seq, 8");
    let dims = shape("batch, seq, 8");
    let sizes = b.op(SizeOf { dims, scalar: false }, &[]);
    let start = Slice { starts: shape("0"), sizes: shape("2"), steps: vec![1] };
    let leading = b.op(start, &[sizes]);
    let product = b.op(Reduce { f: ReduceFn::Prod, axes: vec![0], keep: true }, &[leading]);
    let simple = simplify(&b.finish(&[x, product])).unwrap();
    let (_, node) = simple.nodes().next().unwrap();
    let dims = vec!["batch*seq".parse::<Dim>().unwrap()];
    assert_eq!(node.op, SizeOf { dims, scalar: false }.into());
    assert_eq!(simple.nodes().len(), 1);
}
