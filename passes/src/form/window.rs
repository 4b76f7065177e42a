//! Pooling: reductions over a window that moves across the tensor.
//!
//! Invariant: padding takes part as the neutral element; how many elements a window holds is computed
//! from its place, not counted.

use super::draft::{Draft, Fault, computed_in};
use super::index::shifted;
use super::walk::Walk;
use kiln_ir::Node;
use kiln_ir::kernel::{AxisKind, Combine, Index, Scalar, ScalarId, ScalarOp};
use kiln_ir::op::{BinaryFn, ReduceFn, WindowFn, WindowReduce};
use kiln_tensor::{DType, Dim};

pub(super) fn form(draft: &mut Draft, core: &Node, window: &WindowReduce) -> Result<(), Fault> {
    let body = draft.context.body;
    let x = core.inputs[0];
    let result = &body.ty(core.outputs[0]).shape;
    let dtype = computed_in(body.ty(x).dtype);
    let index = draft.outer_axes("o", result);
    let mut stage = draft.stage();
    let mut place = Vec::with_capacity(index.len());
    for (dim, at) in index.iter().enumerate() {
        let extent = Dim::from(window.window[dim]);
        let tap = stage.axis(&format!("k{dim}"), &extent, AxisKind::Reduction);
        let start = at.clone().times(window.strides[dim]);
        let along = start + tap.times(window.dilations[dim]);
        place.push(shifted(&along, Dim::from(-window.before[dim])));
    }
    let mut elements = stage.walk();
    let (how, outside) = match window.f {
        WindowFn::Max => (ReduceFn::Max, lowest(dtype)),
        WindowFn::Sum | WindowFn::Mean { .. } => (ReduceFn::Sum, super::walk::zero_of(dtype)),
    };
    let padded = window.before.iter().chain(&window.after).any(|&amount| amount > 0);
    let element = if padded {
        let outside = elements.push(ScalarOp::Constant(outside), dtype);
        elements.or_else(x, &place, outside)?
    } else {
        elements.value(x, &place)?
    };
    elements.program.results = vec![element];
    let mut finish = stage.walk();
    let mut combined = finish.push(ScalarOp::Reduced(0), dtype);
    if let WindowFn::Mean { count_padding } = window.f {
        let count = if count_padding || !padded {
            finish.int(window.window.iter().product::<usize>() as i64, DType::I64)
        } else {
            inside(&mut finish, window, &index, &body.ty(x).shape)?
        };
        let count = finish.cast(count, dtype)?;
        combined = finish.binary(BinaryFn::Div, combined, count)?;
    }
    let (stored, access) = draft.result(&mut finish, core.outputs[0], &index, combined)?;
    finish.program.results = vec![stored];
    let how = vec![Combine::Reduce(how)];
    draft.stages.push(stage.reducing(elements, how, finish, vec![access])?);
    Ok(())
}

fn lowest(dtype: DType) -> Scalar {
    let bits = dtype.size() as u32 * 8;
    match dtype {
        _ if dtype.is_float() => Scalar::Float(f64::NEG_INFINITY),
        _ if dtype.is_signed() => Scalar::Int(-1i64 << (bits - 1)),
        _ => Scalar::Int(0),
    }
}

/// How many elements of a window at `index` are no padding.
fn inside(
    walk: &mut Walk,
    window: &WindowReduce,
    index: &[Index],
    shape: &[Dim],
) -> Result<ScalarId, Fault> {
    let mut count = walk.int(1, DType::I64);
    for (dim, at) in index.iter().enumerate() {
        let taps = Dim::from(window.window[dim]);
        if taps.is(1) && window.before[dim] == 0 && window.after[dim] == 0 {
            continue;
        }
        let dilation = Dim::from(window.dilations[dim]);
        let start = shifted(&at.clone().times(window.strides[dim]), Dim::from(-window.before[dim]));
        // The least k with start + k·d at `edge` or beyond.
        let first_from = |edge: Dim| {
            let up = edge + dilation.clone() - Dim::from(1i64);
            let ceiling = shifted(&start.clone().times(-1i64), up).floor_div(dilation.clone());
            Index::Clamp(Box::new(ceiling), Dim::default(), taps.clone())
        };
        let first = walk.index(&first_from(Dim::default()));
        let end = walk.index(&first_from(shape[dim].clone()));
        let taps = walk.binary(BinaryFn::Sub, end, first)?;
        count = walk.binary(BinaryFn::Mul, count, taps)?;
    }
    Ok(count)
}
