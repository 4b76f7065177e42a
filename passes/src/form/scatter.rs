//! Scatters: the data is copied, then updated in the order of the updates.
//!
//! Invariant: updates for one place run one after the other, so the last one wins and sums are the
//! same on any number of threads; what is parallel are the places that no index decides. An index
//! outside of the data (an error in the model) updates nothing.

use super::draft::{Draft, Fault, StageDraft, computed_in};
use super::indexing::from_end;
use super::walk::{Walk, zero_of};
use kiln_ir::Node;
use kiln_ir::kernel::{Access, AxisKind, Index};
use kiln_ir::op::{BinaryFn, ScatterElements, ScatterNd, ScatterReduction};
use kiln_tensor::{DType, Dim};

/// The update where the indices say, along one axis.
pub(super) fn elements(
    draft: &mut Draft,
    core: &Node,
    scatter: &ScatterElements,
) -> Result<(), Fault> {
    let body = draft.context.body;
    let (indices, updates) = (core.inputs[1], core.inputs[2]);
    let data = body.ty(core.inputs[0]).shape.clone();
    let counts = body.ty(indices).shape.clone();
    let axis = scatter.axis;
    let decided = |dim: usize| dim == axis;
    let others = copied(draft, core, decided)?;
    let mut stage = draft.stage();
    let mut at = others.clone();
    at[axis] = stage.sequential("u", &counts[axis]);
    let mut finish = stage.walk();
    let index = finish.guarded(|walk| walk.value(indices, &at))?;
    let mut target = from_end(&mut finish, index, &data[axis])?;
    // Updates may cover less than the data in other dimensions.
    for (dim, count) in counts.iter().enumerate().filter(|&(dim, _)| dim != axis) {
        let sides = finish.space().sides(&at[dim], count);
        if let Some(covered) = finish.within(&at[dim], count, sides)? {
            let nowhere = finish.int(-1, DType::I64);
            target = finish.select(covered, target, nowhere)?;
        }
    }
    let update = finish.guarded(|walk| walk.value(updates, &at))?;
    let mut place = others;
    place[axis] = Index::Scalar(target);
    updated(draft, core, scatter.reduction, (stage, finish), place, update)
}

/// The slice where a tuple of indices says.
pub(super) fn slices(draft: &mut Draft, core: &Node, scatter: &ScatterNd) -> Result<(), Fault> {
    let body = draft.context.body;
    let (indices, updates) = (core.inputs[1], core.inputs[2]);
    let data = body.ty(core.inputs[0]).shape.clone();
    let shape = body.ty(indices).shape.clone();
    let (length, tuples) = shape.split_last().ok_or("the indices have no dimensions")?;
    let depth = length.as_const().and_then(|depth| usize::try_from(depth).ok());
    let depth = depth.ok_or("a tuple has no known length")?;
    let mut place = copied(draft, core, |dim| dim < depth)?;
    let mut stage = draft.stage();
    let mut along: Vec<Index> = Vec::with_capacity(tuples.len());
    for (number, extent) in tuples.iter().enumerate() {
        along.push(stage.sequential(&format!("u{number}"), extent));
    }
    if along.is_empty() {
        stage.sequential("u", &Dim::from(1i64));
    }
    let mut finish = stage.walk();
    for component in 0..depth {
        let mut at = along.clone();
        at.push(Index::Dim(Dim::from(component)));
        let index = finish.value(indices, &at)?;
        place[component] = Index::Scalar(from_end(&mut finish, index, &data[component])?);
    }
    let from = [&along, &place[depth..]].concat();
    let update = finish.value(updates, &from)?;
    updated(draft, core, scatter.reduction, (stage, finish), place, update)
}

/// Copies the data; gives the index of an element in terms of the outer axes, which run over the
/// dimensions that no index decides.
fn copied(
    draft: &mut Draft,
    core: &Node,
    decided: impl Fn(usize) -> bool,
) -> Result<Vec<Index>, Fault> {
    let data = core.inputs[0];
    let ty = draft.context.body.ty(data).clone();
    let mut outer = Vec::with_capacity(ty.rank());
    for (dim, extent) in ty.shape.iter().enumerate() {
        outer.push(match decided(dim) {
            true => Index::zero(),
            false => draft.outer_axis(&format!("d{dim}"), extent, AxisKind::Parallel),
        });
    }
    let mut stage = draft.stage();
    let mut index = outer.clone();
    for (dim, extent) in ty.shape.iter().enumerate().filter(|&(dim, _)| decided(dim)) {
        index[dim] = stage.axis(&format!("d{dim}"), extent, AxisKind::Parallel);
    }
    let mut finish = stage.walk();
    let element = finish.value(data, &index)?;
    let stored = finish.stored(element, ty.dtype);
    finish.program.results = vec![stored];
    let write = Access { operand: draft.output(0), index };
    draft.stages.push(stage.pointwise(finish, vec![write]));
    Ok(outer)
}

/// Writes an update at a place that indices decide.
fn updated(
    draft: &mut Draft,
    core: &Node,
    reduction: ScatterReduction,
    (stage, mut finish): (StageDraft, Walk),
    place: Vec<Index>,
    update: kiln_ir::kernel::ScalarId,
) -> Result<(), Fault> {
    let stored = draft.context.body.ty(core.inputs[0]).dtype;
    let f = match reduction {
        ScatterReduction::None => None,
        ScatterReduction::Add => Some(BinaryFn::Add),
        ScatterReduction::Mul => Some(BinaryFn::Mul),
        ScatterReduction::Min => Some(BinaryFn::Min),
        ScatterReduction::Max => Some(BinaryFn::Max),
    };
    let output = draft.output(0);
    let result = match f {
        None => update,
        Some(f) => {
            let before = finish.read(output, stored, &place, Some(zero_of(stored)));
            let before = finish.cast(before, computed_in(stored))?;
            finish.binary(f, before, update)?
        }
    };
    let result = finish.stored(result, stored);
    finish.program.results = vec![result];
    let write = Access { operand: output, index: place };
    draft.stages.push(stage.pointwise(finish, vec![write]));
    Ok(())
}
