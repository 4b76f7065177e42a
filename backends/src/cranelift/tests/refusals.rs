//! Nests that are malformed, or say what Cranelift cannot, are refused with the statement.

use super::compile;
use super::draft::{Draft, draft};
use crate::codegen::CodegenError;
use crate::nest::{
    Address, BinaryOp, Chosen, Conversion, Element, For, If, Op, Stmt, Type, ValueId,
};
use crate::target::Target;
use kiln_tensor::DType;

const FLOAT: Type = Type { element: Element::F32, lanes: 4 };

/// What is wrong, and a part of what is said about it.
fn cases() -> Vec<(&'static str, Draft)> {
    let mut cases = Vec::new();
    let mut case = |said: &'static str, build: &dyn Fn(&mut Draft)| {
        let mut nest = draft();
        nest.buffer(DType::F32, 16, true);
        build(&mut nest);
        cases.push((said, nest));
    };
    case("not defined here", &|nest| {
        let missing = nest.value(FLOAT);
        nest.op(FLOAT, Op::Binary(BinaryOp::Add, missing, missing));
    });
    case("has no type", &|nest| {
        nest.op(FLOAT, Op::Splat(ValueId(99)));
    });
    case("defined twice", &|nest| {
        let zero = nest.index(0);
        nest.body.push(Stmt::Let(zero, Op::Begin));
    });
    case("expected i64", &|nest| {
        let half = nest.op(Type::new(Element::F32, 1), Op::Constant(0));
        nest.load(FLOAT, 0, half);
    });
    case("does not lie in memory of f32", &|nest| {
        let zero = nest.index(0);
        nest.load(Type::new(Element::F64, 2), 0, zero);
    });
    case("there is no buffer 7", &|nest| {
        let zero = nest.index(0);
        nest.load(FLOAT, 7, zero);
    });
    case("1 to 256 lanes", &|nest| {
        nest.op(Type::new(Element::I32, 0), Op::LaneNumbers);
    });
    case("1 to 256 lanes", &|nest| {
        nest.op(Type::new(Element::I32, 1 << 20), Op::LaneNumbers);
    });
    case("no such operation on f32x4", &|nest| {
        let zero = nest.index(0);
        let value = nest.load(FLOAT, 0, zero);
        nest.op(FLOAT, Op::Binary(BinaryOp::ShiftLeft, value, value));
    });
    case("there are 0 parameters", &|nest| {
        nest.op(Type::INDEX, Op::Param(0));
    });
    case("Truncate does not make", &|nest| {
        let zero = nest.index(0);
        nest.op(FLOAT, Op::Convert(Conversion::Truncate, zero));
    });
    case("no f16 conversion instructions", &|nest| {
        let zero = nest.op(Type::new(Element::F32, 1), Op::Constant(0));
        nest.op(Type::new(Element::I16, 1), Op::Convert(Conversion::SingleToHalf, zero));
    });
    case("the step is 0", &|nest| {
        let zero = nest.index(0);
        let variable = nest.value(Type::INDEX);
        let l = For { variable, from: zero, to: zero, step: 0, carried: vec![], body: vec![] };
        nest.body.push(Stmt::For(Box::new(l)));
    });
    case("not defined here", &|nest| {
        let zero = nest.index(0);
        let variable = nest.value(Type::INDEX);
        let l = For { variable, from: zero, to: zero, step: 1, carried: vec![], body: vec![] };
        nest.body.push(Stmt::For(Box::new(l)));
        let address = Address::Contiguous(variable);
        nest.op(FLOAT, Op::Load { buffer: 0, address, mask: None });
    });
    case("expected mask", &|nest| {
        let condition = nest.index(0);
        let branch = If { condition, then: vec![], otherwise: vec![], chosen: vec![] };
        nest.body.push(Stmt::If(Box::new(branch)));
    });
    case("expected f32", &|nest| {
        let [then, otherwise] =
            [nest.op(Type::new(Element::F32, 1), Op::Constant(0)), nest.index(0)];
        let condition = nest.op(Type::new(Element::Mask, 1), Op::Constant(1));
        let chosen =
            vec![Chosen { then: otherwise, otherwise: then, result: nest.value(Type::INDEX) }];
        let branch = If { condition, then: vec![], otherwise: vec![], chosen };
        nest.body.push(Stmt::If(Box::new(branch)));
    });
    cases
}

#[test]
fn malformed_nests_are_refused_by_statement() {
    let target = Target::named("haswell").unwrap();
    for (said, nest) in cases() {
        let nest = nest.finish("broken");
        match compile(std::slice::from_ref(&nest), &target) {
            Err(CodegenError::Statement { kernel, statement, reason, .. }) => {
                assert_eq!(kernel, "broken");
                assert!(!statement.is_empty());
                assert!(reason.contains(said), "`{reason}` does not say `{said}`");
            }
            other => panic!("{said}: {other:?}\n{nest}"),
        }
    }
}

#[test]
fn no_library_stands_in_for_a_missing_instruction() {
    let mut nest = draft();
    nest.buffer(DType::F32, 4, true);
    let zero = nest.index(0);
    let value = nest.load(FLOAT, 0, zero);
    let value = nest.op(FLOAT, Op::Fma(value, value, value));
    nest.store(0, zero, value);
    let nest = nest.finish("fused");
    assert!(compile(std::slice::from_ref(&nest), &Target::named("haswell").unwrap()).is_ok());
    let message = compile(&[nest], &Target::named("x86-64-v2").unwrap()).unwrap_err().to_string();
    assert!(message.contains("no fused multiply-add") && message.contains("fused"), "{message}");
}
