//! Sums of products over shared dimensions.
//!
//! Invariant: outer axes are the dimensions of the result in their order; the summed dimensions are
//! the reduction axes of the one stage, which has a sum for each window of the result that is used.

use super::draft::{Draft, Fault, within};
use crate::egraph::windows::Windows;
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
    let whole = || Windows::whole(&body.ty(core.outputs[0]).shape);
    let windows = draft.context.windows.clone().unwrap_or_else(whole);
    let name = |label: u8| char::from(label).to_string();
    let axes = spec.out.iter().zip(&windows.sizes);
    let at: Vec<Index> = axes
        .map(|(&label, extent)| draft.outer_axis(&name(label), extent, AxisKind::Parallel))
        .collect();
    let mut stage = draft.stage();
    let mut summed: BTreeMap<u8, Index> = BTreeMap::new();
    for label in spec.summed() {
        let extent = extents.get(&label).ok_or("a label has no size")?;
        summed.insert(label, stage.axis(&name(label), extent, AxisKind::Reduction));
    }
    let mut products = stage.walk();
    let mut finish = stage.walk();
    let mut sums = Vec::new();
    for start in &windows.starts {
        let mut places = summed.clone();
        places.extend(spec.out.iter().copied().zip(within(start, &at)));
        let index = |labels: &[u8]| -> Vec<Index> {
            labels.iter().filter_map(|label| places.get(label).cloned()).collect()
        };
        let x = products.value(a, &index(&spec.lhs))?;
        let y = products.value(b, &index(&spec.rhs))?;
        let product = products.binary(BinaryFn::Mul, x, y)?;
        let dtype = products.dtype(product)?;
        sums.push(finish.push(ScalarOp::Reduced(sums.len()), dtype));
        products.program.results.push(product);
    }
    let how = vec![Combine::Reduce(ReduceFn::Sum); sums.len()];
    let (stored, place) = draft.combined(&mut finish, core.outputs[0], &windows, &at, &sums)?;
    finish.program.results = vec![stored];
    draft.stages.push(stage.reducing(products, how, finish, vec![place])?);
    Ok(())
}
