//! Scatters turned around: each element of the result looks for the updates that are meant for it.
//!
//! Invariant: every element of the result is written once; of several updates that replace, the last
//! wins. The search makes this slow for many updates, which models rarely have.

use super::draft::{Draft, Fault, computed_in};
use super::indexing::from_end;
use super::walk::Walk;
use kiln_ir::kernel::{AxisKind, Combine, Index, Scalar, ScalarId, ScalarOp};
use kiln_ir::op::{BinaryFn, ReduceFn, ScatterElements, ScatterNd, ScatterReduction};
use kiln_ir::{Node, ValueId};
use kiln_tensor::{DType, Dim};

/// An update that a place of the result looks at.
struct Candidate {
    /// Whether it is meant for the place.
    meant: ScalarId,
    update: ScalarId,
}

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
    search(draft, core, scatter.reduction, &counts[axis..=axis], |walk, index, along| {
        let mut place = index.to_vec();
        place[axis] = along[0].clone();
        let at = walk.guarded(|walk| walk.value(indices, &place))?;
        let target = from_end(walk, at, &data[axis])?;
        let own = walk.index(&index[axis]);
        let mut meant = walk.binary(BinaryFn::Equal, target, own)?;
        // Updates may cover less than the data in other dimensions.
        for (dim, count) in counts.iter().enumerate().filter(|&(dim, _)| dim != axis) {
            let sides = walk.space().sides(&index[dim], count);
            if let Some(covered) = walk.within(&index[dim], count, sides)? {
                meant = walk.binary(BinaryFn::And, meant, covered)?;
            }
        }
        let update = walk.guarded(|walk| walk.value(updates, &place))?;
        Ok(Candidate { meant, update })
    })
}

/// The slice where a tuple of indices says.
pub(super) fn slices(draft: &mut Draft, core: &Node, scatter: &ScatterNd) -> Result<(), Fault> {
    let body = draft.context.body;
    let (indices, updates) = (core.inputs[1], core.inputs[2]);
    let data = body.ty(core.inputs[0]).shape.clone();
    let shape = body.ty(indices).shape.clone();
    let (length, tuples) = shape.split_last().ok_or("the indices have no dimensions")?;
    let depth = length.as_const().ok_or("a tuple has no known length")?;
    search(draft, core, scatter.reduction, tuples, |walk, index, along| {
        let mut meant: Option<ScalarId> = None;
        for (component, size) in (0..depth).zip(&data) {
            let mut place = along.to_vec();
            place.push(Index::Dim(Dim::from(component)));
            let at = walk.value(indices, &place)?;
            let target = from_end(walk, at, size)?;
            let own = walk.index(&index[component as usize]);
            let same = walk.binary(BinaryFn::Equal, target, own)?;
            meant = Some(match meant {
                Some(others) => walk.binary(BinaryFn::And, others, same)?,
                None => same,
            });
        }
        let meant = match meant {
            Some(meant) => meant,
            None => walk.int(1, DType::Bool),
        };
        let place = [along, &index[depth as usize..]].concat();
        Ok(Candidate { meant, update: walk.value(updates, &place)? })
    })
}

fn search(
    draft: &mut Draft,
    core: &Node,
    reduction: ScatterReduction,
    over: &[Dim],
    candidate: impl Fn(&mut Walk, &[Index], &[Index]) -> Result<Candidate, Fault>,
) -> Result<(), Fault> {
    let data: ValueId = core.inputs[0];
    let ty = draft.context.body.ty(data).clone();
    let dtype = computed_in(ty.dtype);
    let index = draft.outer_axes("d", &ty.shape);
    let mut stage = draft.stage();
    let along: Vec<Index> = over
        .iter()
        .enumerate()
        .map(|(number, extent)| stage.axis(&format!("u{number}"), extent, AxisKind::Reduction))
        .collect();
    let mut body = stage.walk();
    let found = candidate(&mut body, &index, &along)?;
    let combiner = match reduction {
        ScatterReduction::None => None,
        ScatterReduction::Add => Some((ReduceFn::Sum, BinaryFn::Add)),
        ScatterReduction::Mul => Some((ReduceFn::Prod, BinaryFn::Mul)),
        ScatterReduction::Min => Some((ReduceFn::Min, BinaryFn::Min)),
        ScatterReduction::Max => Some((ReduceFn::Max, BinaryFn::Max)),
    };
    let mut finish = stage.walk();
    let before = finish.value(data, &index)?;
    let (how, result) = match combiner {
        None => {
            // The last update that is meant for the place, if one is: keys are 0 and 1.
            let key = body.cast(found.meant, DType::I32)?;
            let update = if dtype == DType::Bool {
                body.cast(found.update, DType::U8)?
            } else {
                found.update
            };
            let carried = body.dtype(update)?;
            body.program.results = vec![key, update];
            let key = finish.push(ScalarOp::Reduced(0), DType::I32);
            let update = finish.push(ScalarOp::Reduced(1), carried);
            let update = finish.cast(update, dtype)?;
            let one = finish.int(1, DType::I32);
            let hit = finish.binary(BinaryFn::Equal, key, one)?;
            let result = finish.select(hit, update, before)?;
            (vec![Combine::ArgMax { last: true }, Combine::Follow], result)
        }
        Some((reduce, function)) => {
            let neutral = body.push(ScalarOp::Constant(neutral(reduce, dtype)), dtype);
            let update = body.select(found.meant, found.update, neutral)?;
            body.program.results = vec![update];
            let combined = finish.push(ScalarOp::Reduced(0), dtype);
            (vec![Combine::Reduce(reduce)], finish.binary(function, before, combined)?)
        }
    };
    let stored = finish.stored(result, ty.dtype);
    finish.program.results = vec![stored];
    let place = kiln_ir::kernel::Access { operand: draft.output(0), index };
    draft.stages.push(stage.reducing(body, how, finish, vec![place]));
    Ok(())
}

/// What changes nothing when it is combined.
fn neutral(f: ReduceFn, dtype: DType) -> Scalar {
    let bits = dtype.size() as u32 * 8;
    let float = dtype.is_float();
    match f {
        ReduceFn::Prod | ReduceFn::All if float => Scalar::Float(1.0),
        ReduceFn::Prod | ReduceFn::All => Scalar::Int(1),
        ReduceFn::Max if float => Scalar::Float(f64::NEG_INFINITY),
        ReduceFn::Min if float => Scalar::Float(f64::INFINITY),
        ReduceFn::Max if dtype.is_signed() => Scalar::Int(-1i64 << (bits - 1)),
        ReduceFn::Min if dtype.is_signed() => Scalar::Int(!(-1i64 << (bits - 1))),
        // Every bit set is the greatest unsigned number.
        ReduceFn::Min => Scalar::Int(-1),
        _ if float => Scalar::Float(0.0),
        _ => Scalar::Int(0),
    }
}
