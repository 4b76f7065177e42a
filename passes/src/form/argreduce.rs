//! Where along a dimension the largest or smallest element is.
//!
//! Invariant: NaN is the largest and the smallest element there is; it ties with infinity.

use super::draft::{Draft, Fault};
use super::reduction::{Reduced, kept};
use kiln_ir::Node;
use kiln_ir::kernel::{AxisKind, Combine, ScalarOp};
use kiln_ir::op::{ArgReduce, ReduceFn, UnaryFn};
use kiln_tensor::DType;

pub(super) fn form(draft: &mut Draft, core: &Node, reduce: &ArgReduce) -> Result<(), Fault> {
    let ty = draft.context.body.ty(core.inputs[0]);
    let axes = [reduce.axis];
    let Reduced { operand: mut index, result } = kept(draft, &ty.shape, &axes, reduce.keep);
    let mut stage = draft.stage();
    index[reduce.axis] = stage.axis("r", &ty.shape[reduce.axis], AxisKind::Reduction);
    let mut body = stage.walk();
    let mut key = body.value(core.inputs[0], &index)?;
    let dtype = body.dtype(key)?;
    if dtype.is_float() {
        let infinity = if reduce.f == ReduceFn::Max { f64::INFINITY } else { f64::NEG_INFINITY };
        let infinity = body.float(infinity, dtype);
        let unordered = body.unary(UnaryFn::IsNan, key)?;
        key = body.select(unordered, infinity, key)?;
    }
    let place = body.index(&index[reduce.axis]);
    body.program.results = vec![key, place];
    let key = match reduce.f {
        ReduceFn::Min => Combine::ArgMin { last: reduce.last },
        _ => Combine::ArgMax { last: reduce.last },
    };
    let mut finish = stage.walk();
    let found = finish.push(ScalarOp::Reduced(1), DType::I64);
    let (stored, access) = draft.result(&mut finish, core.outputs[0], &result, found)?;
    finish.program.results = vec![stored];
    draft.stages.push(stage.reducing(body, vec![key, Combine::Follow], finish, vec![access])?);
    Ok(())
}
