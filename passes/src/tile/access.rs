//! How an access moves through memory along an axis.
//!
//! Invariant: `Same` and `Contiguous` are certain; what is not understood counts as scattered.

use kiln_ir::kernel::{
    Access, Index, Kernel, Operand, Role, ScalarId, ScalarOp, ScalarProgram, Stage, Write,
};
use kiln_ir::schedule::PointsPlace;
use kiln_tensor::Dim;
use std::collections::BTreeSet;

/// Where neighbouring points of an axis lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Along {
    /// In one place.
    Same,
    /// Side by side.
    Contiguous,
    /// A few elements apart.
    Near,
    /// At a fixed distance.
    Strided,
    /// Anywhere.
    Scattered,
}

/// A read or write, as the model sees it.
#[derive(Clone, Debug)]
pub(super) struct Touch<'k> {
    pub(super) access: &'k Access,
    /// Movement along each axis of the stage.
    pub(super) along: Vec<Along>,
    /// Whether places may lie outside.
    pub(super) guarded: bool,
}

/// A kernel's memory, with what is decided of how its temporaries lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'k> {
    pub(super) kernel: &'k Kernel,
    /// Where the points of a task stand in temporaries.
    pub(super) points: PointsPlace,
}

impl Memory<'_> {
    /// Whether it matters where the points of a task stand: whether a temporary has dimensions of its own.
    pub(super) fn has_choice(self) -> bool {
        let mut operands = self.kernel.operands.iter();
        operands.any(|operand| operand.role == Role::Temporary && !operand.shape.is_empty())
    }

    /// Every read of a program.
    pub(super) fn reads<'p>(self, program: &'p ScalarProgram, axes: usize) -> Vec<Touch<'p>> {
        let code = program.code.iter();
        code.filter_map(|(op, _)| match op {
            ScalarOp::Read { access, outside } => Some(Touch {
                access,
                along: (0..axes).map(|axis| self.along(program, access, axis)).collect(),
                guarded: outside.is_some(),
            }),
            _ => None,
        })
        .collect()
    }

    /// Every write of a stage.
    pub(super) fn writes(self, stage: &Stage, axes: usize) -> Vec<Touch<'_>> {
        let touches = stage.writes.iter().map(|Write { access, only_if }| Touch {
            access,
            along: (0..axes).map(|axis| self.along(&stage.finish, access, axis)).collect(),
            guarded: stage.updates() || only_if.is_some(),
        });
        touches.collect()
    }

    /// How an access moves along an axis.
    pub(super) fn along(self, program: &ScalarProgram, access: &Access, axis: usize) -> Along {
        let outer = self.kernel.outer.len();
        let Some(operand) = self.kernel.operands.get(access.operand) else {
            return Along::Scattered;
        };
        if operand.role == Role::Temporary {
            let rank = operand.shape.len();
            let slices = self.points.slices(rank);
            if axis < outer {
                // A copy for each point of the task, the last axis fastest.
                let fastest = slices == rank && axis + 1 == outer;
                return if fastest { Along::Contiguous } else { Along::Strided };
            }
            // How many points stand behind a dimension is not known yet.
            let mut moves = access.index.iter().take(slices).filter_map(Index::affine);
            if moves.any(|affine| !affine.coefficient(axis).is(0)) {
                return Along::Strided;
            }
        }
        match stride(operand, program, access, axis).map(|stride| stride.as_const()) {
            None => Along::Scattered,
            Some(Some(0)) => Along::Same,
            Some(Some(1)) => Along::Contiguous,
            Some(Some(2..=8)) => Along::Near,
            Some(_) => Along::Strided,
        }
    }

    /// Bytes from one point of an axis to the next, of an operand in row-major order; `None` where that is not
    /// one number.
    pub(super) fn step_bytes(
        self,
        program: &ScalarProgram,
        access: &Access,
        axis: usize,
    ) -> Option<u64> {
        let operands = self.kernel.operands.get(access.operand);
        let operand = operands.filter(|operand| operand.role != Role::Temporary)?;
        let elements = stride(operand, program, access, axis)?.as_const()?;
        Some(elements.unsigned_abs().saturating_mul(operand.dtype.size() as u64))
    }
}

/// Elements from one point of an axis to the next, of an operand in row-major order; `None` where that is anywhere.
fn stride(operand: &Operand, program: &ScalarProgram, access: &Access, axis: usize) -> Option<Dim> {
    let mut stride = Dim::default();
    let mut row = Dim::from(1i64);
    for (index, extent) in access.index.iter().zip(&operand.shape).rev() {
        if let Some(affine) = index.affine() {
            stride = stride + affine.coefficient(axis) * row.clone();
        } else if depends(index, program, axis) {
            return None;
        }
        row = row * extent.clone();
    }
    Some(stride)
}

/// Whether an index has other values at other points of an axis.
pub(super) fn depends(index: &Index, program: &ScalarProgram, axis: usize) -> bool {
    match index {
        Index::Axis(number) => *number == axis,
        Index::Dim(_) => false,
        Index::Scalar(id) => computed_from(program, *id, axis, &mut BTreeSet::new()),
        Index::Add(a, b) => depends(a, program, axis) || depends(b, program, axis),
        Index::Mul(a, _) | Index::FloorDiv(a, _) | Index::Mod(a, _) | Index::Clamp(a, ..) => {
            depends(a, program, axis)
        }
    }
}

fn computed_from(
    program: &ScalarProgram,
    id: ScalarId,
    axis: usize,
    seen: &mut BTreeSet<ScalarId>,
) -> bool {
    if !seen.insert(id) {
        return false;
    }
    let Some((op, _)) = program.code.get(id.0 as usize) else { return true };
    match op {
        ScalarOp::Constant(_) | ScalarOp::Dim(_) => false,
        ScalarOp::Index(index) => depends(index, program, axis),
        ScalarOp::Read { access, .. } => {
            access.index.iter().any(|index| depends(index, program, axis))
        }
        ScalarOp::Reduced(_) => true,
        ScalarOp::Unary(_, a) | ScalarOp::Cast(a) | ScalarOp::BitCast(a) => {
            computed_from(program, *a, axis, seen)
        }
        ScalarOp::Binary(_, a, b) => {
            computed_from(program, *a, axis, seen) || computed_from(program, *b, axis, seen)
        }
        ScalarOp::Select(c, a, b) => {
            [c, a, b].into_iter().any(|id| computed_from(program, *id, axis, seen))
        }
    }
}
