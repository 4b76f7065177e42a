//! Winograd's convolution: tiles are transformed, multiplied with the filters, and transformed back, in one
//! kernel.
//!
//! Invariant: transformed tiles live in temporaries; a block of tiles makes the products of each of their 16
//! places an ordinary matrix product.

use super::draft::{Draft, Fault, computed_in};
use super::index::shifted;
use super::walk::Walk;
use kiln_ir::Node;
use kiln_ir::kernel::{Access, AxisKind, Combine, Index, ScalarId, ScalarOp, Write};
use kiln_ir::op::{BinaryFn, ReduceFn, Winograd};
use kiln_tensor::Dim;

/// Elements of a line of a tile, and places of a line of its result.
const LINE: usize = 4;
const STEP: usize = 2;

pub(super) fn form(draft: &mut Draft, core: &Node, winograd: &Winograd) -> Result<(), Fault> {
    let body = draft.context.body;
    let (x, w) = (core.inputs[0], core.inputs[1]);
    let result = &body.ty(core.outputs[0]).shape;
    let (channels, filters) = (&body.ty(x).shape[3], &result[3]);
    let dtype = computed_in(body.ty(x).dtype);
    let tiles = |size: &Dim| size.ceil_div(&Dim::from(STEP));
    let batch = draft.outer_axis("n", &result[0], AxisKind::Parallel);
    let corner = [
        draft.outer_axis("p", &tiles(&result[1]), AxisKind::Parallel).times(STEP),
        draft.outer_axis("q", &tiles(&result[2]), AxisKind::Parallel).times(STEP),
    ];
    let places = Dim::from(LINE * LINE);
    let tile = draft.temporary("tile", dtype, vec![places.clone(), channels.clone()]);
    let products = draft.temporary("products", dtype, vec![places.clone(), filters.clone()]);

    // tile = Bᵀ·d·B.
    let mut stage = draft.stage();
    let channel = stage.axis("c", channels, AxisKind::Parallel);
    let mut walk = stage.walk();
    let mut lines = Vec::with_capacity(LINE * LINE);
    for place in 0..LINE * LINE {
        let at = [place / LINE, place % LINE];
        let along = |number: usize| {
            let first = Dim::from(at[number]) - Dim::from(winograd.before[number]);
            shifted(&corner[number], first)
        };
        let place = [batch.clone(), along(0), along(1), channel.clone()];
        lines.push(walk.bounded(x, &place)?);
    }
    walk.program.results = transformed(&mut walk, &Winograd::TILE, LINE, &lines)?;
    let place = |operand: usize, place: usize, last: &Index| Access {
        operand,
        index: vec![Index::Dim(Dim::from(place)), last.clone()],
    };
    let writes = (0..LINE * LINE).map(|at| place(tile, at, &channel)).collect();
    draft.stages.push(stage.pointwise(walk, writes));

    // products[a] = tile[a]·w[a].
    let mut stage = draft.stage();
    let at = stage.axis("a", &places, AxisKind::Parallel);
    let filter = stage.axis("m", filters, AxisKind::Parallel);
    let channel = stage.axis("c", channels, AxisKind::Reduction);
    let mut each = stage.walk();
    let element = each.read(tile, dtype, &[at.clone(), channel.clone()], None);
    let weight = each.value(w, &[at.clone(), channel, filter.clone()])?;
    each.program.results = vec![each.binary(BinaryFn::Mul, element, weight)?];
    let mut finish = stage.walk();
    finish.program.results = vec![finish.push(ScalarOp::Reduced(0), dtype)];
    let sum = vec![Combine::Reduce(ReduceFn::Sum)];
    let to = Access { operand: products, index: vec![at, filter] };
    draft.stages.push(stage.reducing(each, sum, finish, vec![to])?);

    // result = Aᵀ·products·A.
    let mut stage = draft.stage();
    let filter = stage.axis("m", filters, AxisKind::Parallel);
    let mut walk = stage.walk();
    let lines: Vec<ScalarId> = (0..LINE * LINE)
        .map(|at| walk.read(products, dtype, &place(products, at, &filter).index, None))
        .collect();
    let values = transformed(&mut walk, &Winograd::PLACES, LINE, &lines)?;
    let (mut results, mut writes) = (Vec::new(), Vec::new());
    for (number, value) in values.into_iter().enumerate() {
        let along = |axis: usize, at: usize| shifted(&corner[axis], Dim::from(at));
        let index =
            [batch.clone(), along(0, number / STEP), along(1, number % STEP), filter.clone()];
        // A tile may reach beyond a result of odd sizes.
        let only_if = walk.all_within(&index, result)?;
        let (stored, access) =
            walk.guarded(|walk| draft.result(walk, core.outputs[0], &index, value))?;
        results.push(stored);
        writes.push(Write { access, only_if });
    }
    walk.program.results = results;
    draft.stages.push(stage.pointwise(walk, writes));
    Ok(())
}

/// `T·v·Tᵀ` of a square of values in row-major order, `T` by the terms of its rows.
fn transformed<const TERMS: usize>(
    walk: &mut Walk,
    rows: &[[(usize, f64); TERMS]],
    side: usize,
    values: &[ScalarId],
) -> Result<Vec<ScalarId>, Fault> {
    let mut sum = |terms: [(usize, f64); TERMS], of: &dyn Fn(usize) -> ScalarId| {
        // The first of each row is positive.
        let mut terms = terms.into_iter();
        let (first, _) = terms.next().ok_or("a row without terms")?;
        terms.try_fold(of(first), |sum, (term, sign)| {
            let f = if sign > 0.0 { BinaryFn::Add } else { BinaryFn::Sub };
            walk.binary(f, sum, of(term))
        })
    };
    // T·v, then each of its rows times Tᵀ.
    let mut lines = Vec::with_capacity(rows.len() * side);
    for terms in rows {
        for column in 0..side {
            lines.push(sum(*terms, &|row| values[row * side + column])?);
        }
    }
    let mut results = Vec::with_capacity(rows.len() * rows.len());
    for line in lines.chunks(side) {
        for terms in rows {
            results.push(sum(*terms, &|column| line[column])?);
        }
    }
    Ok(results)
}
