//! The layout of constant operands: panels in the order in which the register tile reads them.
//!
//! Invariant: an operand is packed only if every access reads it along the same dimension at whole
//! panels.

use super::stage::Plan;
use kiln_ir::kernel::{Access, Affine, Index, Kernel, ScalarOp};
use kiln_ir::schedule::{PackedLayout, Packing};
use kiln_tensor::Dim;
use std::collections::BTreeSet;

/// A layout for each constant that gains from one.
pub(super) fn choose(
    kernel: &Kernel,
    stages: &[Plan],
    constants: &BTreeSet<usize>,
) -> Vec<Packing> {
    let layout = |&operand: &usize| {
        let layout = layout(kernel, stages, operand)?;
        Some(Packing { operand, layout })
    };
    constants.iter().filter_map(layout).collect()
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
fn is_whole(at: &Affine, axis: usize, width: u64) -> bool {
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
    Some(PackedLayout::panels(dim, width, others))
}
