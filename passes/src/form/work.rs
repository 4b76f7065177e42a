//! How much a kernel computes and moves.
//!
//! Invariant: follows from the kernel alone, so that equal kernels cost the same wherever they stand.

use kiln_ir::kernel::{AxisKind, Kernel, Role, ScalarOp, ScalarProgram, Stage};
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

/// Arithmetic operations of one launch on floats (or, where there are no floats, on integers):
/// one each for sums, products and comparisons, and about as many as it takes for functions that
/// are computed from those.
pub fn flops(kernel: &Kernel) -> Dim {
    let outer: Dim = kernel.outer.iter().map(|axis| axis.extent.clone()).product();
    let programs = kernel.stages.iter().flat_map(|stage| [&stage.body, &stage.finish]);
    let floats = programs.flat_map(|program| &program.code).any(|(_, dtype)| dtype.is_float());
    let stages: Dim = kernel.stages.iter().map(|of| stage(of, floats)).sum();
    outer * stages
}

fn stage(stage: &Stage, floats: bool) -> Dim {
    let points = |reduction: bool| -> Dim {
        let axes = stage.axes.iter();
        axes.filter(|axis| reduction || axis.kind != AxisKind::Reduction)
            .map(|axis| axis.extent.clone())
            .product()
    };
    let combined = stage.combine.len() as i64;
    let inner = Dim::from(program(&stage.body, floats) + combined);
    points(true) * inner + points(false) * Dim::from(program(&stage.finish, floats))
}

fn program(program: &ScalarProgram, floats: bool) -> i64 {
    let code = program.code.iter();
    code.map(|(op, dtype)| match op {
        ScalarOp::Unary(f, _) => unary(*f),
        ScalarOp::Binary(BinaryFn::Pow, ..) => 20,
        ScalarOp::Binary(BinaryFn::Rem | BinaryFn::Mod, ..) => 4,
        // Index arithmetic is not counted.
        ScalarOp::Binary(..) | ScalarOp::Select(..) if *dtype == DType::I64 => 0,
        // A zero point is taken off as an operand is read.
        ScalarOp::Binary(..) if floats && dtype.is_integer() => 0,
        ScalarOp::Binary(..) | ScalarOp::Select(..) => 1,
        _ => 0,
    })
    .sum()
}

fn unary(f: UnaryFn) -> i64 {
    use UnaryFn::*;
    match f {
        Neg | Abs | Sign | Floor | Ceil | Round | Not | BitNot | IsNan | IsInf | Relu => 1,
        Sqrt | Reciprocal => 2,
        Rsqrt => 3,
        Exp | Log | Sigmoid | Tanh | Silu => 12,
        Gelu | GeluTanh | Erf => 20,
        _ => 24,
    }
}

/// Bytes that one launch reads and writes at least once: no operand counts more than it has.
pub fn bytes(kernel: &Kernel) -> Dim {
    let outer: Dim = kernel.outer.iter().map(|axis| axis.extent.clone()).product();
    let mut sum = Dim::default();
    for (number, operand) in kernel.bound_operands() {
        let elements: Dim = operand.shape.iter().cloned().product();
        let touched = match operand.role {
            Role::Input => smaller(elements, reads(kernel, number, &outer), kernel),
            _ => elements,
        };
        sum = sum + touched * Dim::from(operand.dtype.size());
    }
    sum
}

fn smaller(a: Dim, b: Dim, kernel: &Kernel) -> Dim {
    let above = |a: &Dim, b: &Dim| (a.clone() - b.clone()).bounds(&kernel.symbols).min >= 0;
    match (above(&b, &a), above(&a, &b)) {
        (true, _) => a,
        (_, true) => b,
        _ => a.minimum(&b),
    }
}

/// How often an operand is read.
fn reads(kernel: &Kernel, operand: usize, outer: &Dim) -> Dim {
    let mut count = Dim::default();
    for stage in &kernel.stages {
        let of = |program: &ScalarProgram| {
            Dim::from(program.reads().filter(|access| access.operand == operand).count())
        };
        let points: Dim = stage.axes.iter().map(|axis| axis.extent.clone()).product();
        count = count + outer.clone() * points * (of(&stage.body) + of(&stage.finish));
    }
    count
}
