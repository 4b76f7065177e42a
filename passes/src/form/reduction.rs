//! Reductions over some dimensions, with what comes before and after them.
//!
//! Invariant: the kept dimensions are outer axes; a mean is a sum with a division at its end.

use super::draft::{Draft, Fault};
use kiln_ir::Node;
use kiln_ir::kernel::{AxisKind, Combine, Index, ScalarOp};
use kiln_ir::op::{BinaryFn, Reduce, ReduceFn};
use kiln_tensor::{DType, Dim};

/// Indices of an operand and of the result where some dimensions are reduced.
pub(super) struct Reduced {
    /// Of the operand; reduced dimensions are still to be filled in.
    pub(super) operand: Vec<Index>,
    /// Of the result.
    pub(super) result: Vec<Index>,
}

/// Outer axes over the dimensions that are kept.
pub(super) fn kept(draft: &mut Draft, shape: &[Dim], axes: &[usize], keep: bool) -> Reduced {
    let mut reduced = Reduced { operand: Vec::new(), result: Vec::new() };
    for (dim, extent) in shape.iter().enumerate() {
        let gone = axes.contains(&dim);
        let index = if gone {
            Index::zero()
        } else {
            draft.outer_axis(&format!("d{dim}"), extent, AxisKind::Parallel)
        };
        reduced.operand.push(index.clone());
        if !gone || keep {
            reduced.result.push(index);
        }
    }
    reduced
}

/// The type that holds the sum and the count of a mean.
fn summed_in(dtype: DType) -> DType {
    if dtype.is_float() { dtype } else { DType::I64 }
}

pub(super) fn form(draft: &mut Draft, core: &Node, reduce: &Reduce) -> Result<(), Fault> {
    let ty = draft.context.body.ty(core.inputs[0]);
    let Reduced { operand: mut index, result } = kept(draft, &ty.shape, &reduce.axes, reduce.keep);
    let mut stage = draft.stage();
    for &dim in &reduce.axes {
        index[dim] = stage.axis(&format!("r{dim}"), &ty.shape[dim], AxisKind::Reduction);
    }
    let mut body = stage.walk();
    let value = body.value(core.inputs[0], &index)?;
    let own = body.dtype(value)?;
    let dtype = if reduce.f == ReduceFn::Mean { summed_in(own) } else { own };
    body.program.results = vec![body.cast(value, dtype)?];
    let mut finish = stage.walk();
    let mut combined = finish.push(ScalarOp::Reduced(0), dtype);
    let mut how = reduce.f;
    if how == ReduceFn::Mean {
        how = ReduceFn::Sum;
        let count: Dim = reduce.axes.iter().map(|&dim| ty.shape[dim].clone()).product();
        let count = finish.index(&Index::Dim(count));
        let count = finish.cast(count, dtype)?;
        combined = finish.binary(BinaryFn::Div, combined, count)?;
        combined = finish.cast(combined, own)?;
    }
    let (stored, place) = draft.result(&mut finish, core.outputs[0], &result, combined)?;
    finish.program.results = vec![stored];
    draft.stages.push(stage.reducing(body, vec![Combine::Reduce(how)], finish, vec![place])?);
    Ok(())
}
