//! Transposed convolutions, as sums over the filter elements that reach a place of the result.
//!
//! Invariant: each element of the result is computed once, from where it stands; nothing is
//! scattered. Where strides divide result and filter, places are told apart by their phase, so that
//! no element of the filter is tried in vain.

use super::convolution::grouped_axis;
use super::draft::{Draft, Fault};
use super::index::shifted;
use kiln_ir::Node;
use kiln_ir::kernel::{AxisKind, Combine, Index, ScalarOp};
use kiln_ir::op::{BinaryFn, ConvTranspose, ReduceFn};
use kiln_tensor::{DType, Dim};

pub(super) fn form(draft: &mut Draft, core: &Node, conv: &ConvTranspose) -> Result<(), Fault> {
    let body = draft.context.body;
    let (x, w) = (core.inputs[0], core.inputs[1]);
    let result = &body.ty(core.outputs[0]).shape;
    let (x_shape, w_shape) = (&body.ty(x).shape, &body.ty(w).shape);
    let spatial = conv.strides.len();
    let depth = x_shape[1]
        .exact_div(&Dim::from(conv.groups))
        .ok_or("the channels do not split into groups")?;

    let mut index = vec![Index::zero(); result.len()];
    index[0] = draft.outer_axis("n", &result[0], AxisKind::Parallel);
    let (group, within, channel) = grouped_axis(draft, "m", &result[1], conv.groups)?;
    index[1] = channel;
    let mut phases = Vec::with_capacity(spatial);
    for number in 0..spatial {
        let (extent, filter) = (&result[2 + number], &w_shape[2 + number]);
        let stride = Dim::from(conv.strides[number]);
        let whole = extent
            .exact_div(&stride)
            .filter(|_| conv.dilations[number] == 1 && filter.exact_div(&stride).is_some());
        index[2 + number] = match whole {
            Some(whole) => {
                let step = draft.outer_axis(&format!("o{number}"), &whole, AxisKind::Parallel);
                let phase = draft.outer_axis(&format!("p{number}"), &stride, AxisKind::Parallel);
                phases.push(Some((step.clone(), phase.clone())));
                step.times(stride) + phase
            }
            None => {
                phases.push(None);
                draft.outer_axis(&format!("o{number}"), extent, AxisKind::Parallel)
            }
        };
    }

    let mut stage = draft.stage();
    let mut taps = Vec::with_capacity(spatial);
    for (number, phase) in phases.iter().enumerate() {
        let filter = &w_shape[2 + number];
        let extent = match phase {
            Some(_) => filter.floor_div(&Dim::from(conv.strides[number])),
            None => filter.clone(),
        };
        taps.push(stage.axis(&format!("k{number}"), &extent, AxisKind::Reduction));
    }
    let summed = stage.axis("c", &depth, AxisKind::Reduction);
    let mut products = stage.walk();
    let mut x_index = vec![index[0].clone(), group.times(depth) + summed.clone()];
    let mut w_index = vec![x_index[1].clone(), within];
    let mut lands = None;
    for (number, tap) in taps.into_iter().enumerate() {
        let (stride, before) = (Dim::from(conv.strides[number]), Dim::from(conv.before[number]));
        match &phases[number] {
            Some((step, phase)) => {
                // Place q·s + p takes filter elements that are congruent to p + before.
                let reach = shifted(phase, before);
                let (steps, element) = products.space().div_mod(&reach, &stride);
                x_index.push(step.clone() + steps + tap.clone().times(-1i64));
                w_index.push(tap.times(stride) + element);
            }
            None => {
                let reach = tap.clone().times(-(conv.dilations[number] as i64));
                let reach = shifted(&(index[2 + number].clone() + reach), before);
                if !stride.is(1) {
                    let rest = products.index(&reach.clone().modulo(stride.clone()));
                    let zero = products.int(0, DType::I64);
                    let hit = products.binary(BinaryFn::Equal, rest, zero)?;
                    lands = Some(match lands {
                        Some(other) => products.binary(BinaryFn::And, other, hit)?,
                        None => hit,
                    });
                }
                x_index.push(reach.floor_div(stride));
                w_index.push(tap);
            }
        }
    }
    let pixel = products.bounded(x, &x_index)?;
    let weight = products.value(w, &w_index)?;
    let mut product = products.binary(BinaryFn::Mul, pixel, weight)?;
    let dtype = products.dtype(product)?;
    if let Some(lands) = lands {
        let zero = products.zero(dtype);
        product = products.select(lands, product, zero)?;
    }
    products.program.results = vec![product];
    let mut finish = stage.walk();
    let sum = finish.push(ScalarOp::Reduced(0), dtype);
    let (stored, place) = draft.result(&mut finish, core.outputs[0], &index, sum)?;
    finish.program.results = vec![stored];
    let how = vec![Combine::Reduce(ReduceFn::Sum)];
    draft.stages.push(stage.reducing(products, how, finish, vec![place])?);
    Ok(())
}
