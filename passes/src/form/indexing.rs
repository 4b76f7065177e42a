//! Gathers as index maps: an index tensor is read first, and its element is an index.
//!
//! Invariant: whatever the index tensors hold, memory outside the data is never touched: an index
//! beyond the data (an error in the model) reads the nearest element, or zero where there is none.

use super::draft::Fault;
use super::walk::Walk;
use kiln_ir::ValueId;
use kiln_ir::kernel::{Index, ScalarId, ScalarOp};
use kiln_ir::op::BinaryFn;
use kiln_tensor::{DType, Dim};

/// `data.take(indices, axis)` at an index.
pub(super) fn gather(
    walk: &mut Walk,
    inputs: &[ValueId],
    axis: usize,
    index: &[Index],
) -> Result<ScalarId, Fault> {
    let body = walk.context.body;
    let rank = body.ty(inputs[1]).rank();
    let at = walk.value(inputs[1], &index[axis..axis + rank])?;
    let mut place = index[..axis].to_vec();
    place.push(Index::zero());
    place.extend_from_slice(&index[axis + rank..]);
    looked_up(walk, inputs[0], place, &[(axis, at)])
}

/// The data at the index, with its coordinate along `axis` looked up.
pub(super) fn gather_elements(
    walk: &mut Walk,
    inputs: &[ValueId],
    axis: usize,
    index: &[Index],
) -> Result<ScalarId, Fault> {
    let at = walk.value(inputs[1], index)?;
    looked_up(walk, inputs[0], index.to_vec(), &[(axis, at)])
}

/// The data at a tuple of looked-up coordinates.
pub(super) fn gather_nd(
    walk: &mut Walk,
    inputs: &[ValueId],
    batch_dims: usize,
    index: &[Index],
) -> Result<ScalarId, Fault> {
    let indices = body_shape(walk, inputs[1]);
    let tuples = indices.len().saturating_sub(1);
    let depth = indices.last().and_then(Dim::as_const).ok_or("a tuple has no known length")?;
    let mut place = index[..batch_dims].to_vec();
    let mut found = Vec::new();
    for component in 0..depth {
        let mut tuple = index[..tuples].to_vec();
        tuple.push(Index::Dim(Dim::from(component)));
        found.push((place.len(), walk.value(inputs[1], &tuple)?));
        place.push(Index::zero());
    }
    place.extend_from_slice(&index[tuples..]);
    looked_up(walk, inputs[0], place, &found)
}

fn body_shape(walk: &Walk, value: ValueId) -> Vec<Dim> {
    walk.context.body.ty(value).shape.clone()
}

/// Reads `data` at `place` with some coordinates taken from index tensors.
fn looked_up(
    walk: &mut Walk,
    data: ValueId,
    mut place: Vec<Index>,
    found: &[(usize, ScalarId)],
) -> Result<ScalarId, Fault> {
    let shape = body_shape(walk, data);
    let mut may_be_empty = false;
    for &(dim, at) in found {
        let size = &shape[dim];
        place[dim] = coordinate(walk, at, size)?;
        may_be_empty |= size.bounds(&walk.context.symbols).min < 1;
    }
    if may_be_empty {
        return walk.guarded(|walk| walk.value(data, &place));
    }
    walk.value(data, &place)
}

/// The coordinate that an element of an index tensor means: counted from the end if negative.
pub(super) fn from_end(walk: &mut Walk, at: ScalarId, size: &Dim) -> Result<ScalarId, Fault> {
    let at = walk.cast(at, DType::I64)?;
    let zero = walk.int(0, DType::I64);
    let negative = walk.binary(BinaryFn::Less, at, zero)?;
    let size = walk.index(&Index::Dim(size.clone()));
    let wrapped = walk.binary(BinaryFn::Add, at, size)?;
    walk.select(negative, wrapped, at)
}

fn coordinate(walk: &mut Walk, at: ScalarId, size: &Dim) -> Result<Index, Fault> {
    if let Some((ScalarOp::Constant(kiln_ir::kernel::Scalar::Int(value)), _)) =
        walk.program.code.get(at.0 as usize)
    {
        let known = Dim::from(*value);
        let fits = |place: &Dim| walk.space().inside(&Index::Dim(place.clone()), size);
        let wrapped = if *value < 0 { known + size.clone() } else { known };
        if fits(&wrapped) {
            return Ok(Index::Dim(wrapped));
        }
    }
    let at = from_end(walk, at, size)?;
    let last = size.clone() - Dim::from(1i64);
    Ok(Index::Clamp(Box::new(Index::Scalar(at)), Dim::default(), last))
}
