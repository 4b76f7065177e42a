//! Normalisations that ONNX Runtime fuses with the sums before and the activations after them.
//!
//! Invariant: the sum is computed once, also where it is a result.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::normalisation::{normalized, statistics};
use super::super::operator::{Entry, microsoft};
use super::super::sampling::computed_in;
use super::Results;
use super::convolution::{channels_first, channels_last};
use crate::import::attention::part;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::Dim;

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("BiasAdd", bias_add),
    microsoft("BiasSplitGelu", bias_split_gelu),
    microsoft("GroupNorm", |x| {
        let operand = x.input(0)?;
        Ok(vec![group_norm(x, operand)?])
    }),
    microsoft("SkipGroupNorm", skip_group_norm),
    microsoft("SkipLayerNormalization", |x| skip_normalization(x, true)),
    microsoft("SkipSimplifiedLayerNormalization", |x| skip_normalization(x, false)),
];

/// A sum of two, with a bias, normalised: `input, skip, gamma[, beta][, bias]`.
fn skip_normalization(x: &mut Use<'_, '_, '_>, center: bool) -> Results {
    let (operand, skip, gamma) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let (beta, bias) = if center { (x.optional(3), x.optional(4)) } else { (None, x.optional(3)) };
    x.of_some_rank(operand, "the operand")?;
    let dtype = x.dtype(operand);
    // Halves are summed and normalised in f32.
    let wide = computed_in(&[dtype]);
    let mut sum = x.cast(operand, wide)?;
    for addend in [Some(skip), bias].into_iter().flatten() {
        let addend = x.cast(addend, wide)?;
        sum = x.binary(BinaryFn::Add, sum, addend)?;
    }
    let Some(axis) = x.rank(sum).checked_sub(1) else {
        return Err(Fault::malformed("a scalar cannot be normalised"));
    };
    let epsilon = x.float_or("epsilon", 1e-12)?;
    let result = normalized(x, sum, axis, [Some(gamma), beta], center, epsilon)?;
    let mut results = vec![x.cast(result, dtype)?];
    if x.wants(1) || x.wants(2) || x.wants(3) {
        let (mean, inverse) = statistics(x, sum, axis, center, epsilon)?;
        results.extend([mean, inverse, x.cast(sum, dtype)?]);
    }
    Ok(results)
}

/// Groups of channels normalised, with a scale and a bias for each channel.
fn group_norm(x: &mut Use<'_, '_, '_>, operand: V) -> Result<V, Fault> {
    let last = x.flag("channels_last", true)?;
    let groups = x.int_or("groups", 0)?;
    if groups < 1 {
        return Err(Fault::malformed("groups must be at least 1"));
    }
    let first = if last { channels_first(x, operand)? } else { operand };
    let shape = x.shape(first);
    let [batch, channels, plane @ ..] = &shape[..] else {
        return Err(Fault::malformed("the operand must have batch and channel dimensions"));
    };
    let groups = Dim::from(groups);
    let depth = channels.floor_div(&groups) * plane.iter().cloned().product();
    let flat = x.reshape(first, vec![batch.clone(), groups, depth])?;
    let epsilon = x.float_or("epsilon", 1e-5)?;
    let normal = x.add(op::Normalize { axis: 2, epsilon, center: true }, &[flat])?;
    let normal = x.reshape(normal, shape.clone())?;
    let (gamma, beta) = (x.input(1)?, x.input(2)?);
    let [gamma, beta] = [x.along(gamma, 0, shape.len() - 1)?, x.along(beta, 0, shape.len() - 1)?];
    let scaled = x.binary(BinaryFn::Mul, normal, gamma)?;
    let mut result = x.binary(BinaryFn::Add, scaled, beta)?;
    result = match x.int_or("activation", 0)? {
        0 => result,
        1 => x.unary(UnaryFn::Silu, result)?,
        other => return Err(Fault::malformed(format!("activation {other} is not known"))),
    };
    if last { channels_last(x, result) } else { Ok(result) }
}

/// `X, gamma, beta, skip[, bias]` to the normalised sum and the sum.
fn skip_group_norm(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, mut skip) = (x.input(0)?, x.input(3)?);
    let last = x.flag("channels_last", true)?;
    let rank = x.rank(operand);
    let by_channel = |x: &mut Use<'_, '_, '_>, v: V| {
        // Channels are where the operand has them, what comes before them stays.
        let mut shape = x.shape(v);
        let Some(channels) = shape.pop() else { return Ok(v) };
        let spatial = rank.saturating_sub(2);
        let ones = vec![Dim::from(1i64); spatial];
        shape.extend(if last {
            [ones, vec![channels]].concat()
        } else {
            [vec![channels], ones].concat()
        });
        x.reshape(v, shape)
    };
    if x.rank(skip) == 2 {
        skip = by_channel(x, skip)?;
    }
    let mut sum = x.binary(BinaryFn::Add, operand, skip)?;
    if let Some(bias) = x.optional(4) {
        let bias = by_channel(x, bias)?;
        sum = x.binary(BinaryFn::Add, sum, bias)?;
    }
    Ok(vec![group_norm(x, sum)?, sum])
}

fn bias_add(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, bias, skip) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let sum = x.binary(BinaryFn::Add, operand, bias)?;
    Ok(vec![x.binary(BinaryFn::Add, sum, skip)?])
}

/// The first half of the sum times the activated second half.
fn bias_split_gelu(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, bias) = (x.input(0)?, x.input(1)?);
    x.of_rank(operand, 3, "the operand")?;
    x.of_rank(bias, 1, "the bias")?;
    let sum = x.binary(BinaryFn::Add, operand, bias)?;
    let width = x.shape(sum)[2].clone();
    let half = width.floor_div(&Dim::from(2i64));
    let left = part(x, sum, Dim::from(0i64), half.clone(), 1)?;
    let right = part(x, sum, half.clone(), half, 1)?;
    let gate = x.unary(UnaryFn::Gelu, right)?;
    Ok(vec![x.binary(BinaryFn::Mul, left, gate)?])
}
