//! Running sums, as a sequential axis with a sum that it carries.
//!
//! Invariant: the sum starts as zero, which is what temporaries of a sequential axis hold at first.

use super::draft::{Draft, Fault, computed_in};
use super::index::shifted;
use kiln_ir::Node;
use kiln_ir::kernel::{Access, AxisKind, Index};
use kiln_ir::op::{BinaryFn, CumSum};
use kiln_tensor::Dim;

pub(super) fn form(draft: &mut Draft, core: &Node, sum: &CumSum) -> Result<(), Fault> {
    let ty = draft.context.body.ty(core.inputs[0]);
    let dtype = computed_in(ty.dtype);
    let mut index = Vec::with_capacity(ty.rank());
    for (dim, extent) in ty.shape.iter().enumerate() {
        let kind = if dim == sum.axis { AxisKind::Sequential } else { AxisKind::Parallel };
        let mut at = draft.outer_axis(&format!("d{dim}"), extent, kind);
        if dim == sum.axis && sum.reverse {
            at = shifted(&at.times(-1i64), extent.clone() - Dim::from(1i64));
        }
        index.push(at);
    }
    // Without a sequential axis nothing clears temporaries.
    let several = draft.outer.iter().any(|axis| axis.kind == AxisKind::Sequential);
    let running = several.then(|| draft.temporary("running", dtype, Vec::new()));
    let stage = draft.stage();
    let mut finish = stage.walk();
    let element = finish.value(core.inputs[0], &index)?;
    let before = match running {
        Some(running) => finish.read(running, dtype, &[], None),
        None => finish.zero(dtype),
    };
    let after = finish.binary(BinaryFn::Add, before, element)?;
    let shown = finish.stored(if sum.exclusive { before } else { after }, ty.dtype);
    let mut writes = vec![Access { operand: draft.output(0), index: index.clone() }];
    finish.program.results = vec![shown];
    if let Some(running) = running {
        finish.program.results.push(after);
        writes.push(Access { operand: running, index: Vec::<Index>::new() });
    }
    draft.stages.push(stage.pointwise(finish, writes));
    Ok(())
}
