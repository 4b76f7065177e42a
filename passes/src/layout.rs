//! What an operation is on a transposed operand: `op(T(x)) = T'(op'(x))`; where convolutions have their
//! channels, and which may be done by transformed tiles.
//!
//! Invariant: exact up to the order of sums; the one place that knows how attributes follow their
//! dimensions.

use kiln_ir::op::{
    Accumulate, ArgReduce, Assume, Broadcast, Concat, Conv, ConvLayout, CoordinateMode, Op, Pad,
    Reduce, Resize, Slice, Softmax, WindowReduce,
};
use kiln_tensor::Dim;

/// Whether an operation is a convolution whose channels are last.
pub(crate) fn has_channels_last(op: &Op) -> bool {
    match op {
        Op::Conv(conv) => conv.layout == ConvLayout::ChannelsLast,
        Op::Winograd(_) => true,
        _ => false,
    }
}

/// Whether a convolution with a filter of this shape can be one by transformed tiles, in either layout.
pub(crate) fn may_be_winograd(conv: &Conv, filter: &[Dim]) -> bool {
    let window = match conv.layout {
        ConvLayout::ChannelsFirst => filter.get(2..),
        ConvLayout::ChannelsLast => filter.get(..2),
    };
    let three = |window: &[Dim]| window.len() == 2 && window.iter().all(|size| size.is(3));
    filter.len() == 4
        && window.is_some_and(three)
        && conv.groups == 1
        && conv.strides == [1, 1]
        && conv.dilations == [1, 1]
}

/// The operation `op'` on the operand as it was before a transpose by `perm`, and the transpose
/// `T'` of its result; `None` if there is no such operation. Operands after the first are scalars.
pub(crate) fn through(op: &Op, perm: &[usize]) -> Option<(Op, Vec<usize>)> {
    let back = inverse(perm);
    let same = |op: Op| Some((op, perm.to_vec()));
    match op {
        Op::Unary(_) | Op::Cast(_) | Op::BitCast(_) => same(op.clone()),
        Op::Assume(assume) => same(Assume { shape: permuted(&assume.shape, &back) }.into()),
        Op::Broadcast(broadcast) if broadcast.shape.len() == perm.len() => {
            same(Broadcast { shape: permuted(&broadcast.shape, &back) }.into())
        }
        Op::WindowReduce(window) => same(
            WindowReduce {
                f: window.f,
                window: permuted(&window.window, &back),
                strides: permuted(&window.strides, &back),
                dilations: permuted(&window.dilations, &back),
                before: permuted(&window.before, &back),
                after: permuted(&window.after, &back),
            }
            .into(),
        ),
        Op::Reduce(reduce) => {
            let mut axes: Vec<usize> = reduce.axes.iter().map(|&axis| perm[axis]).collect();
            axes.sort_unstable();
            let after = after_reduction(perm, &reduce.axes, reduce.keep);
            Some((Reduce { axes, ..reduce.clone() }.into(), after))
        }
        Op::ArgReduce(reduce) => {
            let after = after_reduction(perm, &[reduce.axis], reduce.keep);
            Some((ArgReduce { axis: perm[reduce.axis], ..reduce.clone() }.into(), after))
        }
        Op::Softmax(softmax) => same(Softmax { axis: perm[softmax.axis] }.into()),
        Op::Accumulate(scan) => same(Accumulate { axis: perm[scan.axis], ..scan.clone() }.into()),
        Op::Resize(resize) => {
            if matches!(resize.coordinates, CoordinateMode::TfCropAndResize { .. }) {
                return None;
            }
            same(
                Resize {
                    sizes: permuted(&resize.sizes, &back),
                    scales: resize.scales.as_ref().map(|scales| permuted(scales, &back)),
                    ..resize.clone()
                }
                .into(),
            )
        }
        Op::Pad(pad) => same(
            Pad {
                before: permuted(&pad.before, &back),
                after: permuted(&pad.after, &back),
                mode: pad.mode,
            }
            .into(),
        ),
        Op::Slice(slice) => same(
            Slice {
                starts: permuted(&slice.starts, &back),
                sizes: permuted(&slice.sizes, &back),
                steps: permuted(&slice.steps, &back),
            }
            .into(),
        ),
        _ => None,
    }
}

/// [`through`] for operations all of whose operands are transposed alike (and have, or are given,
/// the rank of the result).
pub(crate) fn through_all(op: &Op, perm: &[usize]) -> Option<Op> {
    match op {
        Op::Binary(_) | Op::Select(_) => Some(op.clone()),
        Op::Concat(concat) => Some(Concat { axis: *perm.get(concat.axis)? }.into()),
        _ => None,
    }
}

/// The transpose that is left of one when dimensions are reduced.
fn after_reduction(perm: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    if keep {
        return perm.to_vec();
    }
    // Ranks of the remaining dimensions among themselves.
    let left: Vec<usize> =
        (0..perm.len()).filter(|axis| !axes.contains(axis)).map(|axis| perm[axis]).collect();
    left.iter().map(|a| left.iter().filter(|b| *b < a).count()).collect()
}

/// The permutation that undoes `perm`.
pub(crate) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (to, &from) in perm.iter().enumerate() {
        if let Some(slot) = inverse.get_mut(from) {
            *slot = to;
        }
    }
    inverse
}

/// Items in the order of a permutation.
pub(crate) fn permuted<T: Clone>(items: &[T], perm: &[usize]) -> Vec<T> {
    perm.iter().filter_map(|&from| items.get(from)).cloned().collect()
}

/// Whether a transpose brings channels from the last place to the second, or back.
pub(crate) fn moves_channels(perm: &[usize]) -> Option<Channels> {
    let rank = perm.len();
    if rank < 3 {
        return None;
    }
    let to_first = [0, rank - 1].into_iter().chain(1..rank - 1);
    let to_last = [0].into_iter().chain(2..rank).chain([1]);
    if perm.iter().copied().eq(to_first) {
        Some(Channels::ToFirst)
    } else {
        perm.iter().copied().eq(to_last).then_some(Channels::ToLast)
    }
}

/// Where a transpose brings the channels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    /// From `[n, h, w, c]` to `[n, c, h, w]`.
    ToFirst,
    /// From `[n, c, h, w]` to `[n, h, w, c]`.
    ToLast,
}
