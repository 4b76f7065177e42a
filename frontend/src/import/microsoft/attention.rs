//! Attention of transformers as ONNX Runtime fuses it: with its projections, with its caches, on
//! quantised weights; and rotary embedding.
//!
//! Invariant: all become the one core operation wherever scores are not asked for.

use super::super::attention::{by_heads, part, rotated, side_by_side, within_tables};
use super::super::contraction::{matmul_integer, product};
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::shape::counted;
use super::Results;
use super::masks::{Heads, Scoring, causal, padding, scale};
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::Dim;

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("Attention", attention),
    microsoft("MultiHeadAttention", multi_head_attention),
    microsoft("QAttention", quantised_attention),
    microsoft("RotaryEmbedding", rotary_embedding),
];

/// How many heads there are.
pub(super) fn heads(x: &Use<'_, '_, '_>, name: &str) -> Result<i64, Fault> {
    match x.int(name)? {
        Some(heads) if heads > 0 => Ok(heads),
        _ => Err(Fault::malformed(format!("attribute `{name}` must be at least 1"))),
    }
}

/// `input, weights[, bias][, mask][, past][, bias of scores]`.
fn attention(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, weights) = (x.input(0)?, x.input(1)?);
    let mut all = product(x, operand, weights)?;
    if let Some(bias) = x.optional(2) {
        all = x.binary(BinaryFn::Add, all, bias)?;
    }
    let (mask, past, bias) = (x.optional(3), x.optional(4), x.optional(5));
    projected(x, all, mask, past, bias)
}

/// `input, weights, bias, scales[, mask][, zero points][, past]`.
fn quantised_attention(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = vec![x.optional(0), x.optional(1), x.optional(6), x.optional(7)];
    let sums = x.with_inputs(operands, matmul_integer)?;
    let [sums] = sums[..] else { return Ok(sums) };
    let (by_input, by_weight) = (x.input(3)?, x.input(4)?);
    let by_input = x.reshape(by_input, Vec::new())?;
    let factor = x.binary(BinaryFn::Mul, by_input, by_weight)?;
    let (dtype, bias) = (x.dtype(factor), x.input(2)?);
    let sums = x.cast(sums, dtype)?;
    let scaled = x.binary(BinaryFn::Mul, sums, factor)?;
    let all = x.binary(BinaryFn::Add, scaled, bias)?;
    let (mask, past) = (x.optional(5), x.optional(8));
    projected(x, all, mask, past, None)
}

/// Attention of queries, keys and values that lie side by side: `[batch, length, widths]`.
fn projected(
    x: &mut Use<'_, '_, '_>,
    all: V,
    mask: Option<V>,
    past: Option<V>,
    bias: Option<V>,
) -> Results {
    let count = heads(x, "num_heads")?;
    if x.flag("do_rotary", false)? || x.flag("past_present_share_buffer", false)? {
        let help = "export the model without do_rotary and past_present_share_buffer";
        return Err(Fault::unsupported("rotary embedding or shared buffers inside", help));
    }
    let [batch, _, width] = &x.shape(all)[..] else {
        return Err(Fault::malformed("the operand must have dimensions batch, length and width"));
    };
    let (batch, third) = (batch.clone(), width.floor_div(&Dim::from(3i64)));
    let widths = match x.ints("qkv_hidden_sizes")? {
        Some(&[q, k, v]) => [q, k, v].map(Dim::from),
        Some(_) => return Err(Fault::malformed("qkv_hidden_sizes must be three numbers")),
        None => [third.clone(), third.clone(), third],
    };
    let mut start = Dim::from(0i64);
    let mut parts = Vec::with_capacity(3);
    for width in widths {
        let own = part(x, all, start.clone(), width.clone(), 1)?;
        parts.push(by_heads(x, own, count)?);
        start = start + width;
    }
    let [q, mut k, mut v] = parts[..] else { return Err(Fault::Silent) };
    if let Some(past) = past {
        for (number, slot) in [&mut k, &mut v].into_iter().enumerate() {
            let before = one_of(x, past, number)?;
            let both = x.agreeing(&[before, *slot], |axis| axis == 2)?;
            *slot = x.add(op::Concat { axis: 2 }, &both)?;
        }
    }
    let (keys, dtype) = (x.shape(k)[2].clone(), x.dtype(q));
    let mut scoring =
        Scoring { scale: scale(x, &x.shape(q)[3])?, added: bias, ..Scoring::default() };
    scoring.causal = x.flag("unidirectional", false)?;
    if let Some(mask) = mask {
        let added = padding(x, mask, &batch, &keys, dtype)?;
        scoring.add(x, Some(added))?;
    }
    let (result, _) = scoring.attend(x, &Heads { q, k, v }, false)?;
    let mut results = vec![side_by_side(x, result)?];
    if x.wants(1) {
        let mut stacked = Vec::with_capacity(2);
        for state in [k, v] {
            let shape = [vec![Dim::from(1i64)], x.shape(state)].concat();
            stacked.push(x.reshape(state, shape)?);
        }
        results.push(x.add(op::Concat { axis: 0 }, &stacked)?);
    }
    Ok(results)
}

/// Part of the first dimension, which is dropped.
fn one_of(x: &mut Use<'_, '_, '_>, v: V, number: usize) -> Result<V, Fault> {
    let mut sizes = x.shape(v);
    let rank = sizes.len();
    if rank != 5 {
        let ty = x.ty(v);
        return Err(Fault::malformed(format!("the past must have rank 5, but is {ty}")));
    }
    let mut starts = vec![Dim::from(0i64); rank];
    (starts[0], sizes[0]) = (Dim::from(number), Dim::from(1i64));
    let own = x.add(op::Slice { starts, sizes: sizes.clone(), steps: vec![1; rank] }, &[v])?;
    x.reshape(own, sizes[1..].to_vec())
}

/// One of several that lie side by side before the last dimension: `[batch, length, heads,
/// count, size]` to `[batch, length, heads·size]`.
fn interleaved(x: &mut Use<'_, '_, '_>, v: V, number: usize) -> Result<V, Fault> {
    let shape = x.shape(v);
    let (mut starts, mut sizes) = (vec![Dim::from(0i64); 5], shape.clone());
    (starts[3], sizes[3]) = (Dim::from(number), Dim::from(1i64));
    let own = x.add(op::Slice { starts, sizes, steps: vec![1; 5] }, &[v])?;
    let width = shape[2].clone() * shape[4].clone();
    x.reshape(own, vec![shape[0].clone(), shape[1].clone(), width])
}

/// Queries, keys and values before any bias: apart, or packed with one another.
fn unpacked(x: &mut Use<'_, '_, '_>) -> Result<[V; 3], Fault> {
    let query = x.input(0)?;
    if x.rank(query) == 5 {
        return Ok([
            interleaved(x, query, 0)?,
            interleaved(x, query, 1)?,
            interleaved(x, query, 2)?,
        ]);
    }
    let key = x.input(1)?;
    if x.rank(key) == 5 {
        return Ok([query, interleaved(x, key, 0)?, interleaved(x, key, 1)?]);
    }
    Ok([query, key, x.input(2)?])
}

/// `query[, key, value][, bias][, mask][, bias of scores][, past key, past value]`.
fn multi_head_attention(x: &mut Use<'_, '_, '_>) -> Results {
    let count = heads(x, "num_heads")?;
    let mut operands = unpacked(x)?;
    if let Some(bias) = x.optional(3) {
        x.of_rank(bias, 1, "the bias")?;
        let mut start = Dim::from(0i64);
        for slot in &mut operands {
            let width = x.shape(*slot).last().cloned().unwrap_or_default();
            let own = part(x, bias, start.clone(), width.clone(), 1)?;
            *slot = x.binary(BinaryFn::Add, *slot, own)?;
            start = start + width;
        }
    }
    for slot in &mut operands {
        *slot = by_heads(x, *slot, count)?;
        if x.rank(*slot) != 4 {
            let ty = x.ty(*slot);
            return Err(Fault::malformed(format!("operands must have rank 3 to 5, not {ty}")));
        }
    }
    let [q, mut k, mut v] = operands;
    let added = x.shape(k)[2].clone();
    for (number, slot) in [&mut k, &mut v].into_iter().enumerate() {
        if let Some(past) = x.optional(6 + number) {
            let both = x.agreeing(&[past, *slot], |axis| axis == 2)?;
            *slot = x.add(op::Concat { axis: 2 }, &both)?;
        }
    }
    let shape = x.shape(q);
    k = x.with_dim(k, 0, &shape[0])?;
    let wanted = x.shape(k);
    for (axis, dim) in wanted.iter().enumerate().take(3) {
        v = x.with_dim(v, axis, dim)?;
    }
    let keys = wanted[2].clone();
    let mut scoring = Scoring { scale: scale(x, &shape[3])?, ..Scoring::default() };
    scoring.added = x.optional(5);
    if let Some(mask) = x.optional(4) {
        let dtype = x.dtype(q);
        let hidden = padding(x, mask, &shape[0], &keys, dtype)?;
        scoring.add(x, Some(hidden))?;
    }
    // A single query sees everything.
    if x.flag("unidirectional", false)? && !shape[2].is(1) {
        if added == shape[2] {
            scoring.causal = true;
        } else {
            let sees = causal(x, &shape[2], &keys, keys.clone() - added)?;
            scoring.and(x, sees)?;
        }
    }
    let (result, scores) = scoring.attend(x, &Heads { q, k, v }, x.wants(3))?;
    let mut results = vec![side_by_side(x, result)?, k, v];
    results.extend(scores.map(|[scores, _]| scores));
    Ok(results)
}

/// `input, positions, cosines, sines`; one position is that of the first.
fn rotary_embedding(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, cos, sin) = (x.input(0)?, x.input(2)?, x.input(3)?);
    let turned = match (x.int_or("rotary_embedding_dim", 0)?, &x.shape(cos)[..]) {
        (0, [_, half]) => half.clone() * Dim::from(2i64),
        (0, _) => return Err(Fault::malformed("cosines must be a matrix")),
        (turned, _) => Dim::from(turned),
    };
    let own = x.shape(operand);
    let count = match (x.int_or("num_heads", 0)?, own.last()) {
        (0, Some(width)) if own.len() == 3 => width.floor_div(&turned).as_const().unwrap_or(0),
        (count, _) => count,
    };
    let v = by_heads(x, operand, count)?;
    let [batch, _, length, _] = &x.shape(v)[..] else {
        return Err(Fault::malformed("the operand must have rank 3 or 4"));
    };
    let (batch, length) = (batch.clone(), length.clone());
    let mut positions = x.input(1)?;
    if x.rank(positions) <= 1 {
        let first = x.reshape(positions, Vec::new())?;
        let steps = counted(x, length, 1, 2)?;
        let dtype = x.dtype(first);
        let steps = x.cast(steps, dtype)?;
        positions = x.binary(BinaryFn::Add, steps, first)?;
    } else {
        positions = x.with_dims(positions, &[batch, length])?;
    }
    within_tables(x, positions, [cos, sin])?;
    let interleaved = x.flag("interleaved", false)?;
    let result = rotated(x, v, [cos, sin], Some(positions), turned, interleaved)?;
    Ok(vec![if own.len() == 3 { side_by_side(x, result)? } else { result }])
}
