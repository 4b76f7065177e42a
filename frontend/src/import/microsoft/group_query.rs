//! Attention with fewer key heads than query heads and a cache that grows: decoders of today.
//!
//! Invariant: keys lie at their positions in the sequence, each sequence of a batch from its own
//! start; positions after the end of a sequence are hidden, and hold zeros or the prompt's padding.

use super::super::attention::{by_heads, part, rotated, side_by_side, within_tables};
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::sampling::computed_in;
use super::super::shape::counted;
use super::Results;
use super::attention::heads;
use super::masks::{Heads, Scoring, scale};
use super::quantised_cache::quanta;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] = &[microsoft("GroupQueryAttention", group_query_attention)];

/// Inputs and attributes that change what is computed in ways that are not imported.
fn check(x: &Use<'_, '_, '_>) -> Result<(), Fault> {
    if x.optional(16).is_some() || x.flag("sliding_window_cache", false)? {
        let help = "export the model without query_seqlens and sliding_window_cache";
        return Err(Fault::unsupported("chunks with padding or a window-sized cache", help));
    }
    Ok(())
}

/// Queries, keys and values by heads, normalised if there are weights for it.
fn operands(x: &mut Use<'_, '_, '_>) -> Result<[V; 3], Fault> {
    let (all, own) = (heads(x, "num_heads")?, heads(x, "kv_num_heads")?);
    let query = x.input(0)?;
    let mut apart = match (x.optional(1), x.optional(2)) {
        (Some(key), Some(value)) => [query, key, value],
        (None, None) => {
            let width = x.shape(query).last().cloned().unwrap_or_default();
            let size = width.floor_div(&Dim::from(all.saturating_add(own.saturating_mul(2))));
            let (wide, narrow) = (size.clone() * Dim::from(all), size * Dim::from(own));
            [
                part(x, query, Dim::from(0i64), wide.clone(), 1)?,
                part(x, query, wide.clone(), narrow.clone(), 1)?,
                part(x, query, wide + narrow.clone(), narrow, 1)?,
            ]
        }
        _ => return Err(Fault::malformed("key and value are given together or not at all")),
    };
    for (slot, count) in apart.iter_mut().zip([all, own, own]) {
        *slot = by_heads(x, *slot, count)?;
        if x.rank(*slot) != 4 {
            let ty = x.ty(*slot);
            return Err(Fault::malformed(format!("operands must have rank 3, not {ty}")));
        }
    }
    let epsilon = x.float_or("qk_norm_epsilon", 1e-6)?;
    for (number, name) in [(0, "q_norm_epsilon"), (1, "k_norm_epsilon")] {
        if let Some(weight) = x.optional(14 + number) {
            let epsilon = x.float(name)?.unwrap_or(epsilon);
            let normalize = op::Normalize { axis: 3, epsilon, center: false };
            apart[number] = x.add(normalize, &[apart[number], weight])?;
        }
    }
    Ok(apart)
}

/// Where the new keys stand. If the longest sequence is all new, it is a prompt: every sequence
/// starts with its new keys, and those after its end are padding.
struct Place {
    /// Where each sequence ends: `[batch]`, in i64.
    ends: V,
    /// How many keys each sequence had: `[batch]`, in i64; none where they are all new.
    before: Option<V>,
    /// The same, if all sequences of the batch have as many.
    uniform: Option<Dim>,
    /// How many keys there are at most.
    keys: Dim,
    /// Whether a sequence may end before its last query.
    padded: bool,
}

/// The length of the longest sequence, which is all that was and is new, or fits where past keys are.
fn total_length(x: &mut Use<'_, '_, '_>, past: &Dim, length: &Dim) -> Result<Dim, Fault> {
    let total = x.dims(x.input(6)?, "the total sequence length")?;
    let [total] = &total[..] else {
        return Err(Fault::malformed("the total sequence length is not one number"));
    };
    let both = past.clone() + length.clone();
    if *total == both {
        return Ok(both);
    }
    if past.is(0) && x.facts().equal(total, length) != Some(false) {
        x.check(total.clone(), both.clone())?;
        return Ok(both);
    }
    let (given, kept) = (x.size(total, DType::I64)?, x.size(&both, DType::I64)?);
    let is_kept = x.binary(BinaryFn::Equal, given, kept)?;
    let least = x.size(length, DType::I64)?;
    let given = x.select(is_kept, least, given)?;
    let what = "the total sequence length, unless it is that of past and new keys together,";
    x.within(given, what, [length, &past.maximum(length)])?;
    Ok(total.clone())
}

fn place(x: &mut Use<'_, '_, '_>, q: V) -> Result<Place, Fault> {
    let (batch, length) = (x.shape(q)[0].clone(), x.shape(q)[2].clone());
    let past = x.optional(3).map(|past| x.shape(past)).unwrap_or_default();
    let past = past.get(2).cloned().unwrap_or_default();
    let total = total_length(x, &past, &length)?;
    let keys = x.facts().maximum(&total, &past);
    let lasts = x.input(5)?;
    let lasts = x.cast(lasts, DType::I64)?;
    let lasts = x.reshape(lasts, vec![batch.clone()])?;
    let one = Dim::from(1i64);
    let (earlier, last) = (total.clone() - length.clone(), total.clone() - one.clone());
    // The longest sequence has the total length; a batch of one that goes on is of that length.
    let even = batch.is(1) && earlier == past;
    let least = if even { last.clone() } else { length.clone() - one.clone() };
    // 0 for a prompt, whose sequences may be of any length.
    let goes_on = x.facts().minimum(&earlier, &one);
    let what = "the length of a sequence less one";
    x.within(lasts, what, [&(least * goes_on.clone()), &last])?;
    let ends = x.with_number(BinaryFn::Add, lasts, 1.0)?;
    let padded = !goes_on.is(1);
    if goes_on.is(0) {
        return Ok(Place { ends, before: None, uniform: Some(Dim::from(0i64)), keys, padded });
    }
    let count = x.size(&length, DType::I64)?;
    let mut before = x.binary(BinaryFn::Sub, ends, count)?;
    if padded {
        let goes_on = x.size(&goes_on, DType::I64)?;
        before = x.binary(BinaryFn::Mul, before, goes_on)?;
    }
    let uniform = even.then_some(earlier);
    Ok(Place { ends, before: Some(before), uniform, keys, padded })
}

impl Place {
    /// The position of each query, `[batch or 1, length]`.
    fn positions(&self, x: &mut Use<'_, '_, '_>, length: Dim) -> Result<V, Fault> {
        let steps = counted(x, length, 1, 2)?;
        match self.before {
            None => Ok(steps),
            Some(before) => {
                let before = x.along(before, 0, 2)?;
                x.binary(BinaryFn::Add, before, steps)
            }
        }
    }

    /// The cache with the new keys, or values, in their place: `[batch, heads, keys, size]`.
    fn present(&self, x: &mut Use<'_, '_, '_>, new: V, past: Option<V>) -> Result<V, Fault> {
        let [batch, heads, length, size] = &x.shape(new)[..] else { return Ok(new) };
        let (batch, heads) = (batch.clone(), heads.clone());
        let (length, size) = (length.clone(), size.clone());
        if self.uniform == Some(Dim::from(0i64)) && self.keys == length {
            return Ok(new);
        }
        if let (Some(past), Some(_)) = (past, &self.uniform)
            && self.before.is_some()
        {
            let both = x.agreeing(&[past, new], |axis| axis == 2)?;
            return x.add(op::Concat { axis: 2 }, &both);
        }
        let zero = x.scalar(x.dtype(new), 0.0)?;
        let key = counted(x, self.keys.clone(), 1, 2)?;
        let before = match self.before {
            Some(before) => x.along(before, 0, 2)?,
            None => x.scalar(DType::I64, 0.0)?,
        };
        // Which of the new keys stands at each place, where one does.
        let number = x.binary(BinaryFn::Sub, key, before)?;
        let after = x.with_number(BinaryFn::GreaterEqual, number, 0.0)?;
        let count = x.add(op::SizeOf { dims: vec![length.clone()], scalar: true }, &[])?;
        let within = x.binary(BinaryFn::Less, number, count)?;
        let fresh = x.binary(BinaryFn::And, after, within)?;
        let last = x.with_number(BinaryFn::Sub, count, 1.0)?;
        let number = x.with_number(BinaryFn::Max, number, 0.0)?;
        let number = x.binary(BinaryFn::Min, number, last)?;
        let row = counted(x, batch.clone(), 0, 2)?;
        let row = x.binary(BinaryFn::Mul, row, count)?;
        let number = x.binary(BinaryFn::Add, number, row)?;
        let rows = x.transpose(new, vec![0, 2, 1, 3])?;
        let flat = x.reshape(rows, vec![batch.clone() * length, heads, size])?;
        let moved = x.add(op::Gather { axis: 0 }, &[flat, number])?;
        let moved = x.transpose(moved, vec![0, 2, 1, 3])?;
        let fresh = for_heads(x, fresh)?;
        let old = match past {
            None => zero,
            Some(past) => {
                let missing = self.keys.clone() - x.shape(past)[2].clone();
                let none = Dim::from(0i64);
                let amounts = vec![none.clone(), none.clone(), missing, none.clone()];
                let mode = op::PadMode::Constant;
                let pad = op::Pad { before: vec![none; 4], after: amounts, mode };
                let wide = x.add(pad, &[past, zero])?;
                let old = x.binary(BinaryFn::Less, key, before)?;
                let old = for_heads(x, old)?;
                x.select(old, wide, zero)?
            }
        };
        x.select(fresh, moved, old)
    }

    /// Which keys each query sees: none after the end of its sequence, none after itself if `causal`,
    /// and none `window` or more before.
    fn sees(
        &self,
        x: &mut Use<'_, '_, '_>,
        scoring: &mut Scoring,
        length: &Dim,
        causal: bool,
    ) -> Result<(), Fault> {
        let window = x.int_or("local_window_size", -1)?;
        let all = self
            .uniform
            .as_ref()
            .is_some_and(|before| before.clone() + length.clone() == self.keys);
        scoring.causal = causal && all;
        let query = self.positions(x, length.clone())?;
        let query = for_heads(x, query)?;
        let key = counted(x, self.keys.clone(), 3, 4)?;
        if causal && !all {
            let sees = x.binary(BinaryFn::LessEqual, key, query)?;
            scoring.and(x, sees)?;
        }
        // In order, none but the padding itself sees padding: a sequence by itself needs no mask then.
        let alone = self.uniform.is_some() && self.before.is_some();
        let ends = if causal { self.padded && !alone } else { self.padded || !alone };
        if ends {
            let end = x.along(self.ends, 0, 4)?;
            let sees = x.binary(BinaryFn::Less, key, end)?;
            scoring.and(x, sees)?;
        }
        if window >= 0 {
            let distance = x.binary(BinaryFn::Sub, query, key)?;
            let sees = x.with_number(BinaryFn::Less, distance, window as f64)?;
            scoring.and(x, sees)?;
            scoring.blind = ends;
        }
        Ok(())
    }
}

/// `[batch or 1, length]` as `[batch or 1, 1, length, 1]`.
fn for_heads(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let shape = x.shape(v);
    let one = Dim::from(1i64);
    x.reshape(v, vec![shape[0].clone(), one.clone(), shape[1].clone(), one])
}

/// `query[, key, value][, past key, past value], lengths − 1, total[, cosines, sines][,
/// positions][, bias of scores][, sink][, key scale, value scale][, key norm, value norm]`.
fn group_query_attention(x: &mut Use<'_, '_, '_>) -> Results {
    check(x)?;
    let query = x.input(0)?;
    x.of_rank(query, 3, "the query")?;
    let (batch, mut inputs) = (x.shape(query)[0].clone(), x.inputs.clone());
    // Exporters name, or leave open, the batch of each input for itself.
    for slot in inputs.iter_mut().skip(1).take(5) {
        *slot = slot.map(|v| x.with_dim(v, 0, &batch)).transpose()?;
    }
    x.with_inputs(inputs, attend)
}

fn attend(x: &mut Use<'_, '_, '_>) -> Results {
    let [mut q, mut k, mut v] = operands(x)?;
    let (length, size) = (x.shape(q)[2].clone(), x.shape(q)[3].clone());
    let place = place(x, q)?;
    if x.flag("do_rotary", false)? {
        let tables = [x.input(7)?, x.input(8)?];
        let positions = match x.optional(9) {
            Some(positions) => positions,
            None => place.positions(x, length.clone())?,
        };
        within_tables(x, positions, tables)?;
        let turned = match &x.shape(tables[0])[..] {
            [_, half] => half.clone() * Dim::from(2i64),
            _ => return Err(Fault::malformed("cosines must be a matrix")),
        };
        let interleaved = x.flag("rotary_interleaved", false)?;
        q = rotated(x, q, tables, Some(positions), turned.clone(), interleaved)?;
        k = rotated(x, k, tables, Some(positions), turned, interleaved)?;
    }
    let past = [x.optional(3), x.optional(4)];
    past.into_iter().flatten().try_for_each(|past| x.of_rank(past, 4, "the past"))?;
    // Halves are kept as such, but attended to in f32.
    let dtype = x.dtype(q);
    let wide = computed_in(&[dtype]);
    let quanta = quanta(x, [k, v])?;
    let mut attended = [k, v];
    for (number, slot) in [&mut k, &mut v].into_iter().enumerate() {
        if let Some(quanta) = quanta[number] {
            *slot = quanta.rounded(x, *slot)?;
        }
        *slot = place.present(x, *slot, past[number])?;
        attended[number] = match quanta[number] {
            Some(quanta) => quanta.read(x, *slot)?,
            None => x.cast(*slot, wide)?,
        };
    }
    let attended = Heads { q: x.cast(q, wide)?, k: attended[0], v: attended[1] };
    let mut scoring = Scoring { scale: scale(x, &size)?, ..Scoring::default() };
    scoring.softcap = x.float_or("softcap", 0.0)?;
    scoring.sink = match x.optional(11) {
        Some(sink) => Some(x.cast(sink, wide)?),
        None if x.int_or("smooth_softmax", 0)? == 1 => {
            let count = x.shape(q)[1].clone();
            Some(x.filled(wide, 0.0, vec![count])?)
        }
        None => None,
    };
    scoring.added = x.optional(10).map(|added| x.cast(added, wide)).transpose()?;
    let causal = x.flag("causal", true)?;
    place.sees(x, &mut scoring, &length, causal)?;
    let (result, shown) = scoring.attend(x, &attended, x.wants(3))?;
    let result = x.cast(result, dtype)?;
    let mut results = vec![side_by_side(x, result)?, k, v];
    if let Some([scores, weights]) = shown {
        let shown = if x.int_or("qk_output", 0)? == 2 {
            weights
        } else {
            // Hidden keys are shown with a score of 0.
            let hidden = x.with_number(BinaryFn::Equal, scores, f64::NEG_INFINITY)?;
            let zero = x.scalar(wide, 0.0)?;
            x.select(hidden, zero, scores)?
        };
        results.push(x.cast(shown, dtype)?);
    }
    Ok(results)
}
