//! Convolutions as other convolutions: with the padding before them, by transformed tiles, and transposed ones
//! by phases.
//!
//! Invariant: what becomes of a filter is folded afterwards and costs nothing at run time; a filter for which
//! that would take long is left as it is.

use super::algebra::at_least;
use crate::egraph::build::{reshape, shape, transpose, ty};
use crate::egraph::language::{TensorGraph, add_op};
use crate::egraph::magnitude::Magnitude;
use crate::egraph::pattern::Match;
use crate::egraph::rule::{Class, Replacement, Rule, Theme};
use crate::layout::may_be_winograd;
use egg::Id;
use kiln_ir::op::{
    Constant, Contract, ContractSpec, Conv, ConvLayout, Op, Pad, PadMode, Slice, Winograd,
};
use kiln_tensor::{DType, Dim, Tensor};

fn rounding(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Algebra, Class::Reassociating, left, right)
}

pub(super) fn rules() -> Vec<Rule> {
    vec![
        // conv(pad(x, 0), w) = conv with that much more padding (which is skipped, where 0·∞ is not)
        rounding("padding-into-convolution", "(Conv@c (Pad@p ?x 0) ?w)", pad_into_convolution),
        // conv(x, w) = winograd(x, G·w·Gᵀ), channels last, w of 3×3 and finite
        rounding("winograd", "(Conv@c ?x ?w:const)", winograd),
        // conv_transpose(x, w) = R(T(conv(x, w'))), w' the elements of w, more than a few, by the phase of the
        // places that they reach
        rounding("transposed-by-phases", "(ConvTranspose@c ?x ?w:const)", by_phases),
    ]
}

fn pad_into_convolution(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let Op::Conv(conv) = m.op(egraph, "c")?.clone() else { return None };
    let Op::Pad(pad) = m.op(egraph, "p")?.clone() else { return None };
    if pad.mode != PadMode::Constant {
        return None;
    }
    let rank = pad.before.len();
    let spatial = match conv.layout {
        ConvLayout::ChannelsFirst => 2..rank,
        ConvLayout::ChannelsLast => 1..rank - 1,
    };
    let amounts = |amounts: &[Dim], own: &[i64]| -> Option<Vec<i64>> {
        let outside = |number: &usize| !spatial.contains(number);
        if (0..rank).filter(outside).any(|number| !amounts[number].is(0)) {
            return None;
        }
        amounts[spatial.clone()]
            .iter()
            .zip(own)
            .map(|(amount, own)| {
                // Padding after cropping is not cropping after padding.
                let amount = amount.as_const().filter(|&amount| amount >= 0)?;
                if *own >= 0 { amount.checked_add(*own) } else { None }
            })
            .collect()
    };
    let before = amounts(&pad.before, &conv.before)?;
    let after = amounts(&pad.after, &conv.after)?;
    add_op(egraph, Conv { before, after, ..conv }, &[m.class("x")?, m.class("w")?])
}

/// Numbers of a filter's channels beyond which transforming it beforehand takes long.
const MOST_CHANNELS: i64 = 1 << 20;

fn winograd(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let Op::Conv(conv) = m.op(egraph, "c")?.clone() else { return None };
    let (x, w) = (m.class("x")?, m.class("w")?);
    let (dtype, filter) = (ty(egraph, w).dtype, shape(egraph, w));
    // The transformed filters of halves would be rounded to halves.
    let fits = conv.layout == ConvLayout::ChannelsLast && may_be_winograd(&conv, &filter);
    if !fits || !matches!(dtype, DType::F32 | DType::F64) {
        return None;
    }
    let channels = filter[2].clone() * filter[3].clone();
    channels.as_const().filter(|&channels| channels <= MOST_CHANNELS)?;
    at_least(egraph, w, Magnitude::Finite)?;
    let pair = |amounts: &[i64]| amounts.try_into().ok();
    let (before, after) = (pair(&conv.before)?, pair(&conv.after)?);
    let transform = Tensor::from_f64(dtype, vec![16, 9], &Winograd::filter()).ok()?;
    let transform = add_op(egraph, Constant { tensor: transform }, &[])?;
    let lines = reshape(egraph, w, vec![Dim::from(9i64), filter[2].clone(), filter[3].clone()])?;
    let spec = ContractSpec { lhs: b"pf".into(), rhs: b"fcm".into(), out: b"pcm".into() };
    let filters = add_op(egraph, Contract { spec }, &[transform, lines])?;
    add_op(egraph, Winograd { before, after }, &[x, filters])
}

/// Numbers of a filter beyond which moving them beforehand takes long.
const MOST_MOVED: i64 = 1 << 22;
/// Elements of a filter that are few.
const FEW: i64 = 4;

/// How the elements of a filter lie along one dimension of a transposed convolution: place `s·q + p` of the
/// result takes those that are congruent to `p + before`, which reach back `taps` places of the operand.
struct Phases {
    stride: i64,
    taps: i64,
    /// What makes the filter whole steps long, before and after it.
    padding: [i64; 2],
    /// Padding of the convolution before its operand.
    before: i64,
}

impl Phases {
    fn of(stride: usize, before: i64, filter: i64) -> Option<Self> {
        let stride = i64::try_from(stride).ok().filter(|&stride| stride > 0)?;
        // Steps back and forth from a place of the operand.
        let back = before.checked_add(stride - 1)?.div_euclid(stride);
        let forth = filter.checked_sub(1)?.checked_sub(before)?.div_euclid(stride);
        let taps = back.checked_add(forth)?.checked_add(1)?;
        let first = stride.checked_mul(back)?.checked_sub(before)?;
        let last = stride.checked_mul(taps)?.checked_sub(filter)?.checked_sub(first)?;
        let whole = taps > 0 && first >= 0 && last >= 0;
        whole.then_some(Phases { stride, taps, padding: [first, last], before: forth })
    }
}

fn by_phases(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let Op::ConvTranspose(conv) = m.op(egraph, "c")?.clone() else { return None };
    let (x, w) = (m.class("x")?, m.class("w")?);
    let (image, filter) = (shape(egraph, x), shape(egraph, w));
    let spatial = conv.strides.len();
    let plain = conv.groups == 1
        && conv.dilations.iter().all(|&dilation| dilation == 1)
        && conv.strides.iter().any(|&stride| stride > 1)
        && spatial <= 3;
    // Filters of few elements are read well enough as they lie.
    let elements: Dim = filter[2..].iter().cloned().product();
    elements.as_const().filter(|&elements| elements > FEW)?;
    let numbers: Dim = filter.iter().cloned().product();
    numbers.as_const().filter(|&numbers| plain && numbers <= MOST_MOVED)?;
    let phases: Vec<Phases> = (0..spatial)
        .map(|d| Phases::of(conv.strides[d], conv.before[d], filter[d + 2].as_const()?))
        .collect::<Option<_>>()?;
    let found = add_op(egraph, conv.clone(), &[x, w])?;
    let result = shape(egraph, found);
    let (mut places, mut after) = (Vec::new(), Vec::new());
    for (d, phase) in phases.iter().enumerate() {
        let count = result[d + 2].exact_div(&Dim::from(phase.stride))?;
        let more = count.clone() - image[d + 2].clone() + Dim::from(phase.taps - 1 - phase.before);
        after.push(more.as_const()?);
        places.push(count);
    }

    // w [C, M, K…] → [C, M, t, s, …] → [t…, C, s…, M], the last taps first.
    let dtype = ty(egraph, w).dtype;
    let zero = Tensor::from_f64(dtype, Vec::new(), &[0.0]).ok()?;
    let zero = add_op(egraph, Constant { tensor: zero }, &[])?;
    let around = |side: usize| -> Vec<Dim> {
        let amounts = phases.iter().map(|phase| Dim::from(phase.padding[side]));
        [Dim::default(), Dim::default()].into_iter().chain(amounts).collect()
    };
    let pad = Pad { before: around(0), after: around(1), mode: PadMode::Constant };
    let w = add_op(egraph, pad, &[w, zero])?;
    let lines = phases.iter().flat_map(|phase| [Dim::from(phase.taps), Dim::from(phase.stride)]);
    let split: Vec<Dim> = filter[..2].iter().cloned().chain(lines).collect();
    let w = reshape(egraph, w, split.clone())?;
    let is_tap = |dim: usize| dim >= 2 && dim.is_multiple_of(2);
    let backwards =
        Slice {
            starts: (0..split.len())
                .map(|dim| {
                    if is_tap(dim) { split[dim].clone() - Dim::from(1i64) } else { Dim::default() }
                })
                .collect(),
            sizes: split.clone(),
            steps: (0..split.len()).map(|dim| if is_tap(dim) { -1 } else { 1 }).collect(),
        };
    let w = add_op(egraph, backwards, &[w])?;
    let taps = (0..spatial).map(|d| 2 + 2 * d);
    let strides = (0..spatial).map(|d| 3 + 2 * d);
    let order: Vec<usize> = taps.clone().chain([0]).chain(strides.clone()).chain([1]).collect();
    let w = transpose(egraph, w, order)?;
    let all_phases: Dim = strides.map(|dim| split[dim].clone()).product();
    let joined: Vec<Dim> = taps
        .map(|dim| split[dim].clone())
        .chain([filter[0].clone(), all_phases * filter[1].clone()])
        .collect();
    let w = reshape(egraph, w, joined)?;

    // [N, q…, s…·M] → [N, q…, s…, M] → [N, M, q, s, …] → [N, M, q·s…]
    let to_last: Vec<usize> = [0].into_iter().chain(2..spatial + 2).chain([1]).collect();
    let x = transpose(egraph, x, to_last)?;
    let convolution = Conv {
        strides: vec![1; spatial],
        dilations: vec![1; spatial],
        before: phases.iter().map(|phase| phase.before).collect(),
        after,
        groups: 1,
        layout: ConvLayout::ChannelsLast,
    };
    let y = add_op(egraph, convolution, &[x, w])?;
    let steps = phases.iter().map(|phase| Dim::from(phase.stride));
    let apart: Vec<Dim> = [image[0].clone()]
        .into_iter()
        .chain(places)
        .chain(steps)
        .chain([filter[1].clone()])
        .collect();
    let y = reshape(egraph, y, apart)?;
    let order = (0..spatial).flat_map(|d| [1 + d, 1 + spatial + d]);
    let order: Vec<usize> = [0, 1 + 2 * spatial].into_iter().chain(order).collect();
    let y = transpose(egraph, y, order)?;
    reshape(egraph, y, result)
}
