//! The layout of constant operands: panels in the order in which the register tile reads them.
//!
//! Invariant: an operand is packed only if every access reads it along the same dimension at whole
//! panels.

use super::TileTarget;
use super::bytes::{GROUP, Groups};
use super::layouts::Layouts;
use super::stage::Plan;
use kiln_ir::kernel::{Access, Affine, Index, Kernel, Operand, ScalarOp};
use kiln_ir::schedule::{PackedLayout, Packing, Part};
use kiln_tensor::Dim;

/// Bytes by which reads of large constants are announced: a page, since processors look ahead inside of
/// one only. Between two reads of such constants stand so many multiply-adds that too few reads are under way.
pub(super) const AHEAD: u64 = 4096;

/// Constants are large that are this share of a second-level cache: a model has many.
const LARGE: u64 = 16;

/// A layout for each constant that gains from one.
pub(super) fn choose(
    kernel: &Kernel,
    stages: &[Plan],
    layouts: Layouts<'_>,
    target: &TileTarget,
) -> Vec<Packing> {
    let constants = match layouts {
        Layouts::Free(constants) => constants,
        Layouts::Fixed(packing) => return packing.to_vec(),
    };
    let layout = |&operand: &usize| {
        let layout = layout(kernel, stages, operand)?;
        let large = bytes(&kernel.operands[operand]) > target.l2 / LARGE;
        Some(Packing { operand, layout, ahead: if large { AHEAD } else { 0 } })
    };
    constants.iter().filter_map(layout).collect()
}

/// Bytes of an operand whose sizes are known.
fn bytes(operand: &Operand) -> u64 {
    let size = |dim: &Dim| dim.as_const().and_then(|size| u64::try_from(size).ok());
    let sizes = operand.shape.iter().map(|dim| size(dim).unwrap_or(1));
    sizes.fold(operand.dtype.size() as u64, u64::saturating_mul)
}

fn layout(kernel: &Kernel, stages: &[Plan], operand: usize) -> Option<PackedLayout> {
    let shape = &kernel.operands.get(operand)?.shape;
    if shape.len() < 2 || shape.iter().any(|dim| dim.as_const().is_none()) {
        return None;
    }
    let mut chosen: Option<PackedLayout> = None;
    for (stage, plan) in kernel.stages.iter().zip(stages) {
        let of = |access: &&Access| access.operand == operand;
        if stage.finish.reads().any(|access| of(&access)) {
            return None;
        }
        for (op, _) in &stage.body.code {
            let ScalarOp::Read { access, outside } = op else { continue };
            if access.operand != operand {
                continue;
            }
            if outside.is_some() {
                return None;
            }
            let wanted = panels(plan, access)?;
            if chosen.as_ref().is_some_and(|other| *other != wanted) {
                return None;
            }
            chosen = Some(wanted);
        }
    }
    chosen
}

/// Whether an access reads whole panels along an axis: it counts single elements from a multiple of their
/// width.
pub(super) fn is_whole(at: &Affine, axis: usize, width: u64) -> bool {
    let panel = Dim::from(width as usize);
    let mut others = at.coefficients.iter().filter(|(other, _)| **other != axis);
    at.coefficient(axis).is(1)
        && at.offset.exact_div(&panel).is_some()
        && others.all(|(_, coefficient)| coefficient.exact_div(&panel).is_some())
}

/// Whether panels of this width can be laid out for an access along an axis.
pub(super) fn takes_panels(access: &Access, axis: usize, width: u64) -> bool {
    access.index.iter().filter_map(Index::affine).any(|at| is_whole(&at, axis, width))
}

/// The panels that an access reads one after the other.
fn panels(plan: &Plan, access: &Access) -> Option<PackedLayout> {
    let (axis, width) = plan.panel?;
    let affine = access.index.iter().map(|index| index.affine()).collect::<Option<Vec<_>>>()?;
    let along: Vec<usize> =
        (0..affine.len()).filter(|&dim| !affine[dim].coefficient(axis).is(0)).collect();
    let &[dim] = along.as_slice() else { return None };
    if !is_whole(&affine[dim], axis, width) {
        return None;
    }
    // Other dimensions: those of no reduction outermost, then as the reduction's loops run.
    let place = |other: usize| {
        plan.reductions
            .iter()
            .position(|&axis| !affine[other].coefficient(axis).is(0))
            .map_or(0, |position| position + 1)
    };
    let mut others: Vec<usize> = (0..affine.len()).filter(|&other| other != dim).collect();
    others.sort_by_key(|&other| (place(other), other));
    let layout = PackedLayout::panels(dim, width, others);
    match plan.groups.filter(|groups| groups.operand == access.operand) {
        Some(groups) => in_groups(layout, groups, &affine),
        None => Some(layout),
    }
}

/// Panels in which places along the axis of a reduction stand side by side in groups, as one operation
/// takes them.
fn in_groups(mut layout: PackedLayout, groups: Groups, affine: &[Affine]) -> Option<PackedLayout> {
    let whole = |level: &(usize, Part)| {
        level.1 == Part::Whole && is_whole(&affine[level.0], groups.axis, GROUP)
    };
    let level = layout.levels.iter_mut().find(|level| whole(level))?;
    level.1 = Part::Outer(GROUP);
    let dim = level.0;
    layout.levels.push((dim, Part::Inner(GROUP)));
    Some(layout)
}
