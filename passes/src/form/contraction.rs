//! Sums of products over shared dimensions.
//!
//! Invariant: outer axes are the dimensions of the result in their order; the summed dimensions are
//! the reduction axes of the one stage.

use super::draft::{Draft, Fault};
use kiln_ir::Node;
use kiln_ir::kernel::{AxisKind, Combine, Index, ScalarOp};
use kiln_ir::op::{BinaryFn, Contract, ReduceFn};
use kiln_tensor::Dim;
use std::collections::BTreeMap;

pub(super) fn form(draft: &mut Draft, core: &Node, contract: &Contract) -> Result<(), Fault> {
    let body = draft.context.body;
    let spec = &contract.spec;
    let (a, b) = (core.inputs[0], core.inputs[1]);
    let left = spec.lhs.iter().zip(&body.ty(a).shape);
    let extents: BTreeMap<u8, &Dim> =
        left.chain(spec.rhs.iter().zip(&body.ty(b).shape)).map(|(l, dim)| (*l, dim)).collect();
    let mut places: BTreeMap<u8, Index> = BTreeMap::new();
    let name = |label: u8| char::from(label).to_string();
    for &label in &spec.out {
        let extent = extents.get(&label).ok_or("a label has no size")?;
        places.insert(label, draft.outer_axis(&name(label), extent, AxisKind::Parallel));
    }
    let mut stage = draft.stage();
    for label in spec.summed() {
        let extent = extents.get(&label).ok_or("a label has no size")?;
        places.insert(label, stage.axis(&name(label), extent, AxisKind::Reduction));
    }
    let index = |labels: &[u8]| -> Vec<Index> {
        labels.iter().filter_map(|label| places.get(label).cloned()).collect()
    };
    let mut products = stage.walk();
    let x = products.value(a, &index(&spec.lhs))?;
    let y = products.value(b, &index(&spec.rhs))?;
    let product = products.binary(BinaryFn::Mul, x, y)?;
    products.program.results = vec![product];
    let dtype = products.dtype(product)?;
    let mut finish = stage.walk();
    let sum = finish.push(ScalarOp::Reduced(0), dtype);
    let (stored, place) = draft.result(&mut finish, core.outputs[0], &index(&spec.out), sum)?;
    finish.program.results = vec![stored];
    let how = vec![Combine::Reduce(ReduceFn::Sum)];
    draft.stages.push(stage.reducing(products, how, finish, vec![place])?);
    Ok(())
}
