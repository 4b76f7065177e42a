//! Convolutions, over either layout, grouped or not.
//!
//! Invariant: outer axes are batch, channels and places in the order of the result; the channels of a
//! group and the elements of the filter are reduced; where there is padding, reads are guarded.

use super::draft::{Draft, Fault};
use super::index::shifted;
use kiln_ir::Node;
use kiln_ir::kernel::{AxisKind, Combine, Index, ScalarOp};
use kiln_ir::op::{BinaryFn, Conv, ConvLayout, ReduceFn};
use kiln_tensor::Dim;

/// Where dimensions stand in operand, filter and result.
struct Places {
    channel: usize,
    spatial: usize,
    filter_out: usize,
    filter_in: usize,
    filter_spatial: usize,
}

impl Places {
    fn of(layout: ConvLayout, spatial: usize) -> Self {
        match layout {
            ConvLayout::ChannelsFirst => {
                Places { channel: 1, spatial: 2, filter_out: 0, filter_in: 1, filter_spatial: 2 }
            }
            ConvLayout::ChannelsLast => Places {
                channel: spatial + 1,
                spatial: 1,
                filter_out: spatial + 1,
                filter_in: spatial,
                filter_spatial: 0,
            },
        }
    }
}

/// Outer axes over channels that fall into groups: the group, and the channel as a whole.
pub(super) fn grouped_axis(
    draft: &mut Draft,
    name: &str,
    channels: &Dim,
    groups: usize,
) -> Result<(Index, Index, Index), Fault> {
    let count = Dim::from(groups);
    let each = channels.exact_div(&count).ok_or("the channels do not split into groups")?;
    let group = draft.outer_axis("g", &count, AxisKind::Parallel);
    let within = draft.outer_axis(name, &each, AxisKind::Parallel);
    let channel = group.clone().times(each) + within.clone();
    Ok((group, within, channel))
}

pub(super) fn form(draft: &mut Draft, core: &Node, conv: &Conv) -> Result<(), Fault> {
    let body = draft.context.body;
    let (x, w) = (core.inputs[0], core.inputs[1]);
    let result = &body.ty(core.outputs[0]).shape;
    let (x_shape, w_shape) = (&body.ty(x).shape, &body.ty(w).shape);
    let spatial = conv.strides.len();
    let at = Places::of(conv.layout, spatial);

    let mut index = vec![Index::zero(); result.len()];
    let mut group = Index::zero();
    for (dim, extent) in result.iter().enumerate() {
        if dim == at.channel {
            let (g, _, channel) = grouped_axis(draft, "m", extent, conv.groups)?;
            (group, index[dim]) = (g, channel);
        } else {
            let name = if dim == 0 { "n".into() } else { format!("o{}", dim - at.spatial) };
            index[dim] = draft.outer_axis(&name, extent, AxisKind::Parallel);
        }
    }
    let mut stage = draft.stage();
    let depth = &w_shape[at.filter_in];
    let mut taps = Vec::with_capacity(spatial);
    for number in 0..spatial {
        let extent = &w_shape[at.filter_spatial + number];
        taps.push(stage.axis(&format!("k{number}"), extent, AxisKind::Reduction));
    }
    let channel = stage.axis("c", depth, AxisKind::Reduction);

    let mut x_index = vec![Index::zero(); x_shape.len()];
    x_index[0] = index[0].clone();
    x_index[at.channel] = group.times(depth.clone()) + channel.clone();
    let mut w_index = vec![Index::zero(); w_shape.len()];
    w_index[at.filter_in] = channel;
    w_index[at.filter_out] = index[at.channel].clone();
    let mut padded = false;
    for (number, tap) in taps.into_iter().enumerate() {
        let place = index[at.spatial + number].clone().times(conv.strides[number])
            + tap.clone().times(conv.dilations[number]);
        x_index[at.spatial + number] = shifted(&place, Dim::from(-conv.before[number]));
        w_index[at.filter_spatial + number] = tap;
        padded |= conv.before[number] > 0 || conv.after[number] > 0;
    }
    let mut products = stage.walk();
    let pixel = match padded {
        true => products.bounded(x, &x_index)?,
        false => products.value(x, &x_index)?,
    };
    let weight = products.value(w, &w_index)?;
    let product = products.binary(BinaryFn::Mul, pixel, weight)?;
    products.program.results = vec![product];
    let dtype = products.dtype(product)?;
    let mut finish = stage.walk();
    let sum = finish.push(ScalarOp::Reduced(0), dtype);
    let (stored, place) = draft.result(&mut finish, core.outputs[0], &index, sum)?;
    finish.program.results = vec![stored];
    let how = vec![Combine::Reduce(ReduceFn::Sum)];
    draft.stages.push(stage.reducing(products, how, finish, vec![place])?);
    Ok(())
}
