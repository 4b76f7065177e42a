//! Complex numbers of 16 bytes as two halves, since no register holds one.
//!
//! Invariant: the kernel's buffers stay as they are, element by element; along one more axis of two
//! the same program moves the real and the imaginary part.

use kiln_ir::kernel::{
    Access, Axis, AxisKind, Index, Kernel, Scalar, ScalarId, ScalarOp, ScalarProgram, Stage, Write,
};
use kiln_ir::op::BinaryFn;
use kiln_tensor::{DType, Dim};

/// The kernel with every operand of complex numbers as one of pairs.
pub(super) fn in_halves(mut kernel: Kernel) -> Kernel {
    let wide: Vec<bool> =
        kernel.operands.iter().map(|operand| operand.dtype == DType::C128).collect();
    if !wide.contains(&true) {
        return kernel;
    }
    let outer = kernel.outer.len();
    for stage in &mut kernel.stages {
        halve(stage, outer, &wide);
    }
    for operand in kernel.operands.iter_mut().filter(|operand| operand.dtype == DType::C128) {
        operand.dtype = DType::I64;
        operand.shape.push(Dim::from(2i64));
    }
    kernel
}

fn halve(stage: &mut Stage, outer: usize, wide: &[bool]) {
    let is_wide = |write: &Write| wide.get(write.access.operand) == Some(&true);
    if !stage.writes.iter().any(is_wide) {
        return;
    }
    let part = Index::Axis(outer + stage.axes.len());
    stage.axes.push(Axis {
        name: "part".into(),
        extent: Dim::from(2i64),
        kind: AxisKind::Parallel,
    });
    (stage.body, _) = of_part(std::mem::take(&mut stage.body), &part, wide);
    let places;
    (stage.finish, places) = of_part(std::mem::take(&mut stage.finish), &part, wide);
    let at = |id: ScalarId| places.get(id.0 as usize).copied().unwrap_or(id);
    for write in &mut stage.writes {
        write.only_if = write.only_if.map(at);
        let index = &mut write.access.index;
        index.iter_mut().for_each(|index| *index = index.map(&Index::Axis, &at));
    }
    for write in stage.writes.iter_mut().filter(|write| is_wide(write)) {
        write.access.index.push(part.clone());
    }
}

/// The program for one part, and where each of its instructions is now: those that are put in move the others.
fn of_part(program: ScalarProgram, part: &Index, wide: &[bool]) -> (ScalarProgram, Vec<ScalarId>) {
    let mut halved = ScalarProgram::default();
    let mut places: Vec<ScalarId> = Vec::with_capacity(program.code.len());
    for (op, dtype) in program.code {
        let at = |id: ScalarId| places.get(id.0 as usize).copied().unwrap_or(id);
        let moved = |index: &Index| index.map(&Index::Axis, &at);
        let place = match op {
            ScalarOp::Constant(Scalar::Pair(real, imaginary)) => {
                let mut integer =
                    |value| halved.push(ScalarOp::Constant(Scalar::Int(value)), DType::I64);
                let [zero, real, imaginary] = [0, real, imaginary].map(&mut integer);
                let number = halved.push(ScalarOp::Index(part.clone()), DType::I64);
                let equal = ScalarOp::Binary(BinaryFn::Equal, number, zero);
                let is_real = halved.push(equal, DType::Bool);
                halved.push(ScalarOp::Select(is_real, real, imaginary), DType::I64)
            }
            op => {
                let op = match op {
                    ScalarOp::Read { access, outside } => {
                        let mut index: Vec<Index> = access.index.iter().map(moved).collect();
                        if wide.get(access.operand) == Some(&true) {
                            index.push(part.clone());
                        }
                        ScalarOp::Read { access: Access { index, ..access }, outside }
                    }
                    ScalarOp::Index(index) => ScalarOp::Index(moved(&index)),
                    ScalarOp::Unary(f, a) => ScalarOp::Unary(f, at(a)),
                    ScalarOp::Binary(f, a, b) => ScalarOp::Binary(f, at(a), at(b)),
                    ScalarOp::Select(c, a, b) => ScalarOp::Select(at(c), at(a), at(b)),
                    ScalarOp::Cast(a) => ScalarOp::Cast(at(a)),
                    ScalarOp::BitCast(a) => ScalarOp::BitCast(at(a)),
                    other @ (ScalarOp::Constant(_) | ScalarOp::Dim(_) | ScalarOp::Reduced(_)) => {
                        other
                    }
                };
                let dtype = if dtype == DType::C128 { DType::I64 } else { dtype };
                halved.push(op, dtype)
            }
        };
        places.push(place);
    }
    let results = program.results.iter();
    halved.results = results.map(|id| places.get(id.0 as usize).copied().unwrap_or(*id)).collect();
    (halved, places)
}
