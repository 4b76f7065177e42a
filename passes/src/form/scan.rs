//! Running sums and products, as a sequential axis with a number that it carries.
//!
//! Invariant: a sum starts as zero, which is what temporaries of a sequential axis hold at first; a
//! product takes 1 instead of that at the first step.

use super::draft::{Draft, Fault, computed_in};
use super::index::shifted;
use kiln_ir::Node;
use kiln_ir::kernel::{Access, AxisKind, Index};
use kiln_ir::op::{Accumulate, BinaryFn, ReduceFn};
use kiln_tensor::{DType, Dim};

pub(super) fn form(draft: &mut Draft, core: &Node, scan: &Accumulate) -> Result<(), Fault> {
    let ty = draft.context.body.ty(core.inputs[0]);
    let dtype = computed_in(ty.dtype);
    let mut index = Vec::with_capacity(ty.rank());
    let mut step = Index::zero();
    for (dim, extent) in ty.shape.iter().enumerate() {
        let kind = if dim == scan.axis { AxisKind::Sequential } else { AxisKind::Parallel };
        let mut at = draft.outer_axis(&format!("d{dim}"), extent, kind);
        if dim == scan.axis {
            step = at.clone();
        }
        if dim == scan.axis && scan.reverse {
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
    let mut before = match running {
        Some(running) => finish.read(running, dtype, &[], None),
        None => finish.zero(dtype),
    };
    let mut f = BinaryFn::Add;
    if scan.f == ReduceFn::Prod {
        let (number, zero) = (finish.index(&step), finish.int(0, DType::I64));
        let first = finish.binary(BinaryFn::Equal, number, zero)?;
        let one = finish.int(1, DType::I64);
        let one = finish.cast(one, dtype)?;
        before = finish.select(first, one, before)?;
        f = BinaryFn::Mul;
    }
    let after = finish.binary(f, before, element)?;
    let shown = finish.stored(if scan.exclusive { before } else { after }, ty.dtype);
    let mut writes = vec![Access { operand: draft.output(0), index: index.clone() }];
    finish.program.results = vec![shown];
    if let Some(running) = running {
        finish.program.results.push(after);
        writes.push(Access { operand: running, index: Vec::<Index>::new() });
    }
    draft.stages.push(stage.pointwise(finish, writes));
    Ok(())
}
