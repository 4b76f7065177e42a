//! The layout of constant operands: panels in the order in which the register tile reads them.
//!
//! Invariant: an operand is packed only if every access reads it along the same dimension at whole
//! panels; packing moves elements and pads with zeros, nothing else.

use super::stage::Plan;
use kiln_ir::kernel::{Access, Kernel, ScalarOp};
use kiln_ir::schedule::{PackedLayout, Packing, Part};
use kiln_tensor::{Dim, Tensor};
use std::collections::BTreeSet;
use std::io::{self, Write};

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

/// The panels that an access reads one after the other.
fn panels(plan: &Plan, access: &Access) -> Option<PackedLayout> {
    let (axis, width) = plan.panel?;
    let affine = access.index.iter().map(|index| index.affine()).collect::<Option<Vec<_>>>()?;
    let along: Vec<usize> =
        (0..affine.len()).filter(|&dim| !affine[dim].coefficient(axis).is(0)).collect();
    let &[dim] = along.as_slice() else { return None };
    // Whole panels: the vector axis counts single elements from a multiple of the panel's width.
    let at = &affine[dim];
    let panel = Dim::from(width as usize);
    let whole = at.coefficient(axis).is(1)
        && at.offset.exact_div(&panel).is_some()
        && at
            .coefficients
            .iter()
            .all(|(other, coefficient)| *other == axis || coefficient.exact_div(&panel).is_some());
    if !whole {
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
    let mut levels = vec![(dim, Part::Outer(width))];
    levels.extend(others.into_iter().map(|other| (other, Part::Whole)));
    levels.push((dim, Part::Inner(width)));
    Some(PackedLayout { levels })
}

/// Writes a constant in a packed layout: element after element of the layout, padded with zeros.
/// `sizes` is the shape that the kernel gives the constant, in the same row-major order.
///
/// The layout must name each dimension whole, or once outer and once inner with the same block;
/// nothing is written beyond it. Errors are those of `to`, or `InvalidInput` where sizes do not fit.
pub fn pack(
    tensor: &Tensor,
    sizes: &[usize],
    layout: &PackedLayout,
    to: &mut impl Write,
) -> io::Result<()> {
    let mismatch =
        || io::Error::new(io::ErrorKind::InvalidInput, "a layout does not fit its tensor");
    let elements: usize = sizes.iter().product();
    if elements != tensor.len() || layout.levels.iter().any(|(dim, _)| *dim >= sizes.len()) {
        return Err(mismatch());
    }
    let width = tensor.dtype().size();
    let strides: Vec<usize> =
        (0..sizes.len()).map(|dim| sizes[dim + 1..].iter().product()).collect();
    let extents: Vec<usize> = layout
        .levels
        .iter()
        .map(|&(dim, part)| match part {
            Part::Whole => sizes[dim],
            Part::Outer(block) => sizes[dim].div_ceil(block.max(1) as usize),
            Part::Inner(block) => block as usize,
        })
        .collect();
    let total: usize = extents.iter().product();
    let bytes = tensor.bytes();
    let mut at = vec![0usize; extents.len()];
    // Written in pieces, so that only one piece is in memory.
    let mut piece: Vec<u8> = Vec::with_capacity(1 << 16);
    for _ in 0..total {
        let mut place = vec![0usize; sizes.len()];
        for (&(dim, part), &position) in layout.levels.iter().zip(&at) {
            place[dim] += match part {
                Part::Whole | Part::Inner(_) => position,
                Part::Outer(block) => position * block as usize,
            };
        }
        if place.iter().zip(sizes).all(|(position, size)| position < size) {
            let element: usize = place.iter().zip(&strides).map(|(p, s)| p * s).sum();
            let from = bytes.get(element * width..(element + 1) * width).ok_or_else(mismatch)?;
            piece.extend_from_slice(from);
        } else {
            piece.resize(piece.len() + width, 0);
        }
        if piece.len() >= 1 << 16 {
            to.write_all(&piece)?;
            piece.clear();
        }
        for (position, extent) in at.iter_mut().zip(&extents).rev() {
            *position += 1;
            if *position < *extent {
                break;
            }
            *position = 0;
        }
    }
    to.write_all(&piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_padded_with_zeros() {
        let values: Vec<u8> = (1..=6).collect();
        let tensor = Tensor::from_slice(vec![2, 3], &values).unwrap();
        let layout = PackedLayout {
            levels: vec![(1, Part::Outer(2)), (0, Part::Whole), (1, Part::Inner(2))],
        };
        let mut packed = Vec::new();
        pack(&tensor, &[2, 3], &layout, &mut packed).unwrap();
        assert_eq!(packed, [1, 2, 4, 5, 3, 0, 6, 0]);
        assert!(pack(&tensor, &[2, 2], &layout, &mut packed).is_err());
    }
}
