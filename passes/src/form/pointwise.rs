//! Bodies without a core: every element of the result from elements of the operands.
//!
//! Invariant: one stage; or, where operands are put one after the other, one for each segment of the
//! result, so that no element asks which operand it comes from.

use super::draft::{Draft, Fault};
use super::index::shifted;
use kiln_ir::kernel::{Access, AxisKind, Index};
use kiln_tensor::Dim;

/// More segments than this are chosen among element by element.
const MOST_SEGMENTS: usize = 12;

pub(super) fn form(draft: &mut Draft) -> Result<(), Fault> {
    let body = draft.context.body;
    let &[result] = body.outputs() else { return Err("it has several results".into()) };
    let ty = body.ty(result);
    let name = |dim: usize| format!("d{dim}");
    let mut segments: Vec<Vec<(usize, Dim, Dim)>> = vec![Vec::new()];
    let mut cut = vec![false; ty.rank()];
    for (dim, extent) in ty.shape.iter().enumerate() {
        let Some(ends) = draft.context.cuts.get(&name(dim)).filter(|_| !extent.is(1)) else {
            continue;
        };
        if segments.len() * ends.len() > MOST_SEGMENTS {
            continue;
        }
        cut[dim] = true;
        let mut longer = Vec::new();
        for before in segments {
            let mut start = Dim::default();
            for end in ends {
                let length = end.clone() - start.clone();
                let mut segment = before.clone();
                segment.push((dim, std::mem::replace(&mut start, end.clone()), length));
                longer.push(segment);
            }
        }
        segments = longer;
    }
    let mut index = vec![Index::zero(); ty.rank()];
    for dim in (0..ty.rank()).filter(|&dim| !cut[dim]) {
        index[dim] = draft.outer_axis(&name(dim), &ty.shape[dim], AxisKind::Parallel);
    }
    for segment in segments {
        let mut stage = draft.stage();
        for (dim, start, length) in segment {
            let along = stage.axis(&name(dim), &length, AxisKind::Parallel);
            index[dim] = shifted(&along, start);
        }
        let mut finish = stage.walk();
        let value = finish.value(result, &index)?;
        let stored = finish.stored(value, ty.dtype);
        finish.program.results = vec![stored];
        let place = Access { operand: draft.output(0), index: index.clone() };
        draft.stages.push(stage.pointwise(finish, vec![place]));
    }
    Ok(())
}
