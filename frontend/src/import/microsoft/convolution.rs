//! Convolutions and pooling with channels last or an activation after them.
//!
//! Invariant: channels are moved by transposes around the standard operator, which later passes
//! move until they cancel.

use super::super::convolution::conv;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::pooling::max_pool;
use super::{Results, activated};
use crate::import::build::V;
use kiln_ir::op::BinaryFn;

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("FusedConv", |x| fused_conv(x, false)),
    microsoft("NhwcConv", |x| fused_conv(x, true)),
    microsoft("NhwcFusedConv", |x| fused_conv(x, true)),
    microsoft("NhwcMaxPool", nhwc_max_pool),
];

/// `[N, spatial…, C]` as `[N, C, spatial…]`.
pub(super) fn channels_first(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let rank = x.rank(v);
    if rank < 3 {
        return Err(Fault::malformed("the operand must have spatial dimensions and channels"));
    }
    let perm = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    x.transpose(v, perm)
}

/// `[N, C, spatial…]` as `[N, spatial…, C]`.
pub(super) fn channels_last(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let rank = x.rank(v);
    x.transpose(v, std::iter::once(0).chain(2..rank).chain([1]).collect())
}

/// A convolution, plus what is added to it, activated.
fn fused_conv(x: &mut Use<'_, '_, '_>, last: bool) -> Results {
    let mut inputs = x.inputs.clone();
    if last {
        let operand = x.input(0)?;
        inputs[0] = Some(channels_first(x, operand)?);
    }
    let results = x.with_inputs(inputs, conv)?;
    let [mut result] = results[..] else { return Ok(results) };
    if last {
        result = channels_last(x, result)?;
    }
    if let Some(added) = x.optional(3) {
        result = x.binary(BinaryFn::Add, result, added)?;
    }
    let parameters = x.floats("activation_params")?.unwrap_or_default();
    let parameters: Vec<f64> = parameters.iter().copied().map(f64::from).collect();
    let name = x.string_or("activation", "")?;
    Ok(vec![activated(x, result, name, &parameters)?])
}

fn nhwc_max_pool(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let first = channels_first(x, operand)?;
    let results = x.with_inputs(vec![Some(first)], max_pool)?;
    results.into_iter().map(|v| channels_last(x, v)).collect()
}
