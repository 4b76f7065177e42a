//! Sums of products of bytes, of which a processor may take four terms at once.
//!
//! Invariant: terms are taken together along an axis only where both operands have, or can be laid out
//! to have, their bytes side by side along it.

use super::access::{Along, Memory};
use super::packing::is_whole;
use kiln_ir::kernel::{AxisKind, BYTES_AT_ONCE, Index};
use kiln_tensor::Dim;

/// Terms that are taken at once.
pub(super) const GROUP: u64 = BYTES_AT_ONCE as u64;

/// The axis of a reduction along which a sum of products of bytes is taken in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) axis: usize,
    /// The operand of the bytes with sign, which is laid out in groups.
    pub(super) operand: usize,
}

impl Groups {
    /// The groups of a stage, if it has whole ones.
    pub(super) fn of(memory: Memory<'_>, stage: usize) -> Option<Groups> {
        let kernel = memory.kernel;
        let stage = kernel.stages.get(stage)?;
        let product = stage.byte_product()?;
        let axes: Vec<_> = kernel.axes(stage).collect();
        let group = Dim::from(GROUP as usize);
        let laid_out = |axis: usize| {
            let mut indices = product.signed.index.iter().filter_map(Index::affine);
            indices.any(|at| is_whole(&at, axis, GROUP))
        };
        let axis = (0..axes.len()).find(|&axis| {
            axes[axis].kind == AxisKind::Reduction
                && axes[axis].extent.exact_div(&group).is_some()
                && memory.along(&stage.body, product.unsigned, axis) == Along::Contiguous
                && laid_out(axis)
        })?;
        Some(Groups { axis, operand: product.signed.operand })
    }
}
