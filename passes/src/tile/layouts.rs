//! How constant operands lie, or may lie.
//!
//! Invariant: what is said of a layout that is fixed holds for every element of the operand.

use super::bytes::GROUP;
use super::packing::takes_panels;
use kiln_ir::kernel::Access;
use kiln_ir::schedule::{Packing, Part};
use std::collections::BTreeSet;

/// What a schedule may do about constants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layouts<'a> {
    /// It lays these out as it likes.
    Free(&'a BTreeSet<usize>),
    /// They lie like this, for another schedule of the kernel.
    Fixed(&'a [Packing]),
}

impl Layouts<'_> {
    /// Whether an operand has, or can have, a layout of its own.
    pub(super) fn has(&self, operand: usize) -> bool {
        match self {
            Layouts::Free(constants) => constants.contains(&operand),
            Layouts::Fixed(_) => self.fixed(operand).is_some(),
        }
    }

    /// The layout that an operand has already.
    pub(super) fn fixed(&self, operand: usize) -> Option<&Packing> {
        match self {
            Layouts::Free(_) => None,
            Layouts::Fixed(packing) => packing.iter().find(|packing| packing.operand == operand),
        }
    }

    /// Whether so many neighbours along an axis lie side by side, or can be laid so.
    pub(super) fn side_by_side(&self, access: &Access, axis: usize, lanes: u32) -> bool {
        match self.fixed(access.operand).map(|packing| packing.layout.levels.last()) {
            None => self.has(access.operand),
            Some(last) => last
                .filter(|(_, part)| match part {
                    Part::Inner(block) => block.is_multiple_of(lanes.into()),
                    Part::Whole | Part::Outer(_) => true,
                })
                .and_then(|&(dim, _)| access.index.get(dim)?.affine())
                .is_some_and(|at| at.coefficient(axis).is(1)),
        }
    }

    /// Whether an access can read panels of this width along an axis.
    pub(super) fn takes_panels(&self, access: &Access, axis: usize, width: u64) -> bool {
        let last = self.fixed(access.operand).and_then(|packing| packing.layout.levels.last());
        let whole = match last {
            Some(&(_, Part::Inner(block))) => block.is_multiple_of(width),
            _ => true,
        };
        whole && takes_panels(access, axis, width)
    }

    /// Whether an operand can be read in the groups of bytes that one operation takes.
    pub(super) fn takes_groups(&self, operand: usize) -> bool {
        match self.fixed(operand) {
            None => self.has(operand),
            // Groups stand inside of panels of another dimension.
            Some(packing) => matches!(
                packing.layout.levels.as_slice(),
                [.., (columns, Part::Inner(_)), (terms, Part::Inner(GROUP))] if columns != terms
            ),
        }
    }
}
