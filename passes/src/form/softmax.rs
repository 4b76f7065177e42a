//! Softmax and normalisation: several passes over the same elements, with what they find kept in
//! temporaries.
//!
//! Invariant: one point of the outer axes is one row that is normalised; temporaries hold what is
//! computed in, never halves. The steps of a softmax of halves are rounded, each as an operation.

use super::draft::{Draft, Fault, computed_in};
use super::reduction::{Reduced, kept};
use super::walk::Walk;
use kiln_ir::kernel::{Access, AxisKind, Combine, Index, ScalarId, ScalarOp};
use kiln_ir::op::{BinaryFn, Normalize, ReduceFn, Softmax, UnaryFn};
use kiln_ir::{Node, ValueId};
use kiln_tensor::{DType, Dim};

/// A stage that reduces what `element` gives along `axes` and writes what `last` makes of it to a
/// scalar temporary.
struct Pass<'d, 'c> {
    draft: &'d mut Draft<'c>,
    /// Index of the operand along the outer axes.
    index: Vec<Index>,
    /// Dimensions of the row, with their extents.
    row: Vec<(usize, Dim)>,
    dtype: DType,
}

impl<'c> Pass<'_, 'c> {
    fn reduce(
        &mut self,
        to: usize,
        how: ReduceFn,
        element: impl FnOnce(&mut Walk<'c>, &[Index], &[Index]) -> Result<ScalarId, Fault>,
        last: impl FnOnce(&mut Walk<'c>, ScalarId) -> Result<ScalarId, Fault>,
    ) -> Result<(), Fault> {
        let mut stage = self.draft.stage();
        let mut index = self.index.clone();
        let mut along = Vec::new();
        for (dim, extent) in &self.row {
            index[*dim] = stage.axis(&format!("r{dim}"), extent, AxisKind::Reduction);
            along.push(index[*dim].clone());
        }
        let mut body = stage.walk();
        let value = element(&mut body, &index, &along)?;
        body.program.results = vec![value];
        let mut finish = stage.walk();
        let combined = finish.push(ScalarOp::Reduced(0), self.dtype);
        let result = last(&mut finish, combined)?;
        finish.program.results = vec![result];
        let place = Access { operand: to, index: Vec::new() };
        let how = vec![Combine::Reduce(how)];
        self.draft.stages.push(stage.reducing(body, how, finish, vec![place])?);
        Ok(())
    }

    /// A stage over the elements of the row; `write` says what goes where.
    fn each(
        &mut self,
        write: impl FnOnce(
            &Draft<'c>,
            &mut Walk<'c>,
            &[Index],
            &[Index],
        ) -> Result<(ScalarId, Access), Fault>,
    ) -> Result<(), Fault> {
        let mut stage = self.draft.stage();
        let mut index = self.index.clone();
        let mut along = Vec::new();
        for (dim, extent) in &self.row {
            index[*dim] = stage.axis(&format!("r{dim}"), extent, AxisKind::Parallel);
            along.push(index[*dim].clone());
        }
        let mut finish = stage.walk();
        let (value, place) = write(self.draft, &mut finish, &index, &along)?;
        finish.program.results = vec![value];
        self.draft.stages.push(stage.pointwise(finish, vec![place]));
        Ok(())
    }
}

fn over_rows<'d, 'c>(
    draft: &'d mut Draft<'c>,
    x: ValueId,
    axes: &[usize],
) -> Result<Pass<'d, 'c>, Fault> {
    let ty = draft.context.body.ty(x);
    let Reduced { operand: index, .. } = kept(draft, &ty.shape, axes, true);
    let row = axes.iter().map(|&dim| (dim, ty.shape[dim].clone())).collect();
    Ok(Pass { draft, index, row, dtype: computed_in(ty.dtype) })
}

pub(super) fn form(draft: &mut Draft, core: &Node, softmax: &Softmax) -> Result<(), Fault> {
    let (x, y) = (core.inputs[0], core.outputs[0]);
    let mut pass = over_rows(draft, x, &[softmax.axis])?;
    let dtype = pass.dtype;
    let length = pass.row[0].1.clone();
    let greatest = pass.draft.temporary("greatest", dtype, Vec::new());
    let exponentials = pass.draft.temporary("exponentials", dtype, vec![length]);
    let sum = pass.draft.temporary("sum", dtype, Vec::new());
    pass.reduce(greatest, ReduceFn::Max, |walk, index, _| walk.value(x, index), |_, max| Ok(max))?;
    pass.each(|_, walk, index, along| {
        let value = walk.value(x, index)?;
        let most = walk.read(greatest, dtype, &[], None);
        let below = walk.binary(BinaryFn::Sub, value, most)?;
        let below = walk.rounded(below, y)?;
        let power = walk.unary(UnaryFn::Exp, below)?;
        let power = walk.rounded(power, y)?;
        Ok((power, Access { operand: exponentials, index: along.to_vec() }))
    })?;
    pass.reduce(
        sum,
        ReduceFn::Sum,
        |walk, _, along| Ok(walk.read(exponentials, dtype, along, None)),
        |walk, sum| walk.rounded(sum, y),
    )?;
    pass.each(|draft, walk, index, along| {
        let power = walk.read(exponentials, dtype, along, None);
        let total = walk.read(sum, dtype, &[], None);
        let share = walk.binary(BinaryFn::Div, power, total)?;
        draft.result(walk, y, index, share)
    })
}

pub(super) fn normalise(
    draft: &mut Draft,
    core: &Node,
    normalize: &Normalize,
) -> Result<(), Fault> {
    let x = core.inputs[0];
    let rank = draft.context.body.ty(x).rank();
    let axes: Vec<usize> = (normalize.axis..rank).collect();
    let mut pass = over_rows(draft, x, &axes)?;
    let dtype = pass.dtype;
    let count: Dim = pass.row.iter().map(|(_, extent)| extent.clone()).product();
    let mean = normalize.center.then(|| pass.draft.temporary("mean", dtype, Vec::new()));
    let scale = pass.draft.temporary("scale", dtype, Vec::new());
    let over_count = |walk: &mut Walk, sum| {
        let count = walk.index(&Index::Dim(count.clone()));
        let count = walk.cast(count, dtype)?;
        walk.binary(BinaryFn::Div, sum, count)
    };
    let centred = |walk: &mut Walk, index: &[Index]| {
        let value = walk.value(x, index)?;
        match mean {
            Some(mean) => {
                let mean = walk.read(mean, dtype, &[], None);
                walk.binary(BinaryFn::Sub, value, mean)
            }
            None => Ok(value),
        }
    };
    if let Some(mean) = mean {
        pass.reduce(mean, ReduceFn::Sum, |walk, index, _| walk.value(x, index), over_count)?;
    }
    pass.reduce(
        scale,
        ReduceFn::Sum,
        |walk, index, _| {
            let value = centred(walk, index)?;
            walk.binary(BinaryFn::Mul, value, value)
        },
        |walk, sum| {
            let variance = over_count(walk, sum)?;
            let epsilon = walk.float(normalize.epsilon, dtype);
            let shifted = walk.binary(BinaryFn::Add, variance, epsilon)?;
            walk.unary(UnaryFn::Rsqrt, shifted)
        },
    )?;
    pass.each(|draft, walk, index, _| {
        let mut value = centred(walk, index)?;
        let factor = walk.read(scale, dtype, &[], None);
        value = walk.binary(BinaryFn::Mul, value, factor)?;
        for (&operand, f) in core.inputs[1..].iter().zip([BinaryFn::Mul, BinaryFn::Add]) {
            let element = walk.value(operand, &index[normalize.axis..])?;
            value = walk.binary(f, value, element)?;
        }
        draft.result(walk, core.outputs[0], index, value)
    })
}
