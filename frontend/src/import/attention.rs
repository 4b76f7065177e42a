//! Attention and rotary embedding as operators of their own (opset 23 and later).
//!
//! Invariant: masks of all kinds become one, and a query that sees no key gives 0.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::sampling::computed_in;
use super::shape::counted;
use super::softmax;
use crate::read::element_type;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("Attention", 23, attention), onnx("RotaryEmbedding", 23, rotary_embedding)];

/// `[batch, length, heads·size]` as `[batch, heads, length, size]`.
pub(super) fn by_heads(x: &mut Use<'_, '_, '_>, v: V, heads: i64) -> Result<V, Fault> {
    let shape = x.shape(v);
    let [batch, length, width] = &shape[..] else { return Ok(v) };
    if heads < 1 {
        return Err(Fault::malformed("operands of rank 3 need q_num_heads and kv_num_heads"));
    }
    let heads = Dim::from(heads);
    let apart = vec![batch.clone(), length.clone(), heads.clone(), width.floor_div(&heads)];
    let apart = x.reshape(v, apart)?;
    x.transpose(apart, vec![0, 2, 1, 3])
}

/// The operands of an attention, by heads, with what was cached before.
struct Heads {
    q: V,
    k: V,
    v: V,
    /// How many keys were there before those of this call.
    past: Option<Dim>,
}

fn heads(x: &mut Use<'_, '_, '_>) -> Result<Heads, Fault> {
    let (q_heads, kv_heads) = (x.int_or("q_num_heads", 0)?, x.int_or("kv_num_heads", 0)?);
    let (q, k, v) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let q = by_heads(x, q, q_heads)?;
    let mut cached = [by_heads(x, k, kv_heads)?, by_heads(x, v, kv_heads)?];
    for operand in [q, cached[0], cached[1]] {
        if x.rank(operand) != 4 {
            let ty = x.ty(operand);
            return Err(Fault::malformed(format!("operands must have rank 3 or 4, not {ty}")));
        }
    }
    let past = x.optional(4).map(|past| x.shape(past).get(2).cloned());
    for (number, slot) in cached.iter_mut().enumerate() {
        if let Some(past) = x.optional(4 + number) {
            let both = x.agreeing(&[past, *slot], |axis| axis == 2)?;
            *slot = x.add(op::Concat { axis: 2 }, &both)?;
        }
    }
    let [mut k, mut v] = cached;
    let (batch, size) = (x.shape(q)[0].clone(), x.shape(q)[3].clone());
    k = x.with_dim(k, 0, &batch)?;
    k = x.with_dim(k, 3, &size)?;
    let wanted = x.shape(k);
    for (axis, dim) in wanted.iter().enumerate().take(3) {
        v = x.with_dim(v, axis, dim)?;
    }
    let q = grouped(x, q, &wanted[1])?;
    Ok(Heads { q, k, v, past: past.flatten() })
}

/// The queries, said to have a multiple of so many heads where that is not known.
pub(super) fn grouped(x: &mut Use<'_, '_, '_>, q: V, key_heads: &Dim) -> Result<V, Fault> {
    let heads = x.shape(q)[1].clone();
    let known = heads.as_const().is_some() && key_heads.as_const().is_some();
    if known || heads.exact_div(key_heads).is_some() {
        return Ok(q);
    }
    x.with_dim(q, 1, &(heads.floor_div(key_heads) * key_heads.clone()))
}

/// The scale that scores have by default, `1/√size`, of a size that is not known: queries that are
/// scaled by it.
fn scaled_queries(x: &mut Use<'_, '_, '_>, q: V, size: Dim) -> Result<V, Fault> {
    let size = x.add(op::SizeOf { dims: vec![size], scalar: true }, &[])?;
    let size = x.cast(size, DType::F64)?;
    let root = x.unary(UnaryFn::Sqrt, size)?;
    let scale = x.unary(UnaryFn::Reciprocal, root)?;
    let scale = x.cast(scale, x.dtype(q))?;
    x.binary(BinaryFn::Mul, q, scale)
}

/// Which keys a query sees: what is to hold, all together, and what is added to scores.
#[derive(Default)]
struct Mask {
    sees: Option<V>,
    added: Option<V>,
}

impl Mask {
    fn and(&mut self, x: &mut Use<'_, '_, '_>, condition: V) -> Result<(), Fault> {
        self.sees = Some(match self.sees {
            None => condition,
            Some(sees) => x.binary(BinaryFn::And, sees, condition)?,
        });
        Ok(())
    }

    /// One mask: `bool`, or numbers to add.
    fn joined(self, x: &mut Use<'_, '_, '_>) -> Result<Option<V>, Fault> {
        match (self.sees, self.added) {
            (Some(sees), Some(added)) => {
                let hidden = x.scalar(x.dtype(added), f64::NEG_INFINITY)?;
                Ok(Some(x.select(sees, added, hidden)?))
            }
            (sees, added) => Ok(sees.or(added)),
        }
    }
}

/// The operand's mask, as long as there are keys: what it leaves out is hidden.
fn given_mask(x: &mut Use<'_, '_, '_>, mask: V, keys: &Dim) -> Result<V, Fault> {
    let (shape, dtype) = (x.shape(mask), x.dtype(mask));
    let Some(last) = shape.last() else { return Ok(mask) };
    let missing = match (keys.clone() - last.clone()).as_const() {
        Some(missing) if missing > 0 => Dim::from(missing),
        // Of sizes that are not known, later versions allow that the mask is shorter.
        None if x.opset() >= 24 => {
            x.facts().maximum(&(keys.clone() - last.clone()), &Dim::from(0i64))
        }
        _ => return Ok(mask),
    };
    if last.is(1) {
        return Ok(mask);
    }
    let mut after = vec![Dim::from(0i64); shape.len()];
    after[shape.len() - 1] = missing;
    let before = vec![Dim::from(0i64); shape.len()];
    let hidden = if dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    let hidden = x.scalar(dtype, hidden)?;
    let mask = x.add(op::Pad { before, after, mode: op::PadMode::Constant }, &[mask, hidden])?;
    x.with_dim(mask, shape.len() - 1, keys)
}

/// The operand's mask, the causal one, windows, and the length of each batch's keys.
fn mask(x: &mut Use<'_, '_, '_>, heads: &Heads, causal: bool) -> Result<Mask, Fault> {
    let (queries, keys) = (x.shape(heads.q)[2].clone(), x.shape(heads.k)[2].clone());
    let mut mask = Mask::default();
    if let Some(given) = x.optional(3) {
        let given = given_mask(x, given, &keys)?;
        let q = x.shape(heads.q);
        let given = x.fitting(given, &[&q[..3], std::slice::from_ref(&keys)].concat())?;
        if x.dtype(given) == DType::Bool {
            mask.sees = Some(given);
        } else {
            mask.added = Some(given);
        }
    }
    let lengths = match x.optional(6) {
        Some(lengths) => {
            x.within(lengths, "the number of keys before padding", [&Dim::from(0i64), &keys])?;
            let lengths = x.cast(lengths, DType::I64)?;
            Some(x.along(lengths, 0, 4)?)
        }
        None => None,
    };
    let key = counted(x, keys.clone(), 3, 4)?;
    let windows = [x.int_or("left_window_size", -1)?, x.int_or("right_window_size", -1)?];
    if causal || windows.iter().any(|&window| window >= 0) {
        // The place of a query among the keys.
        let query = counted(x, queries.clone(), 2, 4)?;
        let offset = match (&heads.past, lengths) {
            (Some(past), _) => x.add(op::SizeOf { dims: vec![past.clone()], scalar: true }, &[])?,
            (None, Some(lengths)) => {
                let dims = vec![queries];
                let queries = x.add(op::SizeOf { dims, scalar: true }, &[])?;
                x.binary(BinaryFn::Sub, lengths, queries)?
            }
            (None, None) => x.scalar(DType::I64, 0.0)?,
        };
        let place = x.binary(BinaryFn::Add, query, offset)?;
        let distance = x.binary(BinaryFn::Sub, place, key)?;
        if causal {
            let sees = x.with_number(BinaryFn::GreaterEqual, distance, 0.0)?;
            mask.and(x, sees)?;
        }
        if windows[0] >= 0 {
            let sees = x.with_number(BinaryFn::LessEqual, distance, windows[0] as f64)?;
            mask.and(x, sees)?;
        }
        if windows[1] >= 0 {
            let sees = x.with_number(BinaryFn::GreaterEqual, distance, -windows[1] as f64)?;
            mask.and(x, sees)?;
        }
    }
    if let Some(lengths) = lengths {
        let sees = x.binary(BinaryFn::Less, key, lengths)?;
        mask.and(x, sees)?;
    }
    Ok(mask)
}

/// The value, or 0 for queries from which the mask hides every key.
pub(super) fn guarded(x: &mut Use<'_, '_, '_>, v: V, mask: V) -> Result<V, Fault> {
    let last = x.rank(mask).checked_sub(1);
    let axes: Vec<usize> = last.into_iter().collect();
    let sees = if x.dtype(mask) == DType::Bool {
        x.reduce(ReduceFn::Any, mask, axes, true)?
    } else {
        let most = x.reduce(ReduceFn::Max, mask, axes, true)?;
        x.with_number(BinaryFn::Greater, most, f64::NEG_INFINITY)?
    };
    let zero = x.scalar(x.dtype(v), 0.0)?;
    x.select(sees, v, zero)
}

fn attention(x: &mut Use<'_, '_, '_>) -> Results {
    let mut heads = heads(x)?;
    let size = x.shape(heads.q)[3].clone();
    let scale = match (x.float("scale")?, size.as_const()) {
        (Some(scale), _) => scale,
        (None, Some(size)) => 1.0 / (size.max(1) as f64).sqrt(),
        (None, None) => {
            heads.q = scaled_queries(x, heads.q, size)?;
            1.0
        }
    };
    let softcap = x.float_or("softcap", 0.0)?;
    let causal = x.flag("is_causal", false)?;
    let (queries, keys) = (x.shape(heads.q)[2].clone(), x.shape(heads.k)[2].clone());
    let before = heads.past.clone().unwrap_or_default();
    // Every intermediate of a bf16 is one, as the standard's function has it: last places of results
    // are as large as what is tolerated.
    let plain = softcap == 0.0 && !x.wants(3) && x.dtype(heads.q) != DType::BF16;
    // The core operation aligns the last query with the last key.
    let aligned = plain && x.optional(6).is_none() && keys.clone() - queries == before;
    let mask = mask(x, &heads, causal && !aligned)?.joined(x)?;
    let mut scores = None;
    let mut result = if plain {
        let mask = match mask {
            Some(mask) => {
                let (q, k) = (x.shape(heads.q), x.shape(heads.k));
                let shape = [&q[..3], &k[2..3]].concat();
                Some(x.fitting(mask, &shape)?)
            }
            None => None,
        };
        let operands = [vec![heads.q, heads.k, heads.v], mask.into_iter().collect()].concat();
        let causal = causal && aligned;
        let result =
            x.add(op::Attention { scale, causal, hidden: f64::NEG_INFINITY }, &operands)?;
        mask.map_or(Ok(result), |mask| guarded(x, result, mask))?
    } else {
        let (result, shown) = spelled_out(x, &heads, mask, scale, softcap)?;
        scores = Some(shown);
        result
    };
    if x.rank(x.input(0)?) == 3 {
        let moved = x.transpose(result, vec![0, 2, 1, 3])?;
        let shape = x.shape(moved);
        let width = shape[2].clone() * shape[3].clone();
        result = x.reshape(moved, vec![shape[0].clone(), shape[1].clone(), width])?;
    }
    let mut results = vec![result, heads.k, heads.v];
    results.extend(scores);
    Ok(results)
}

/// Attention with its scores: as they are asked for by `qk_matmul_output_mode`.
fn spelled_out(
    x: &mut Use<'_, '_, '_>,
    heads: &Heads,
    mask: Option<V>,
    scale: f64,
    softcap: f64,
) -> Result<(V, V), Fault> {
    let dtype = x.dtype(heads.q);
    let (q, k) = (x.shape(heads.q), x.shape(heads.k));
    let (all, own) = (q[1].clone(), k[1].clone());
    // Heads in groups that share a key head.
    let groups = vec![q[0].clone(), own.clone(), all.floor_div(&own), q[2].clone(), q[3].clone()];
    let grouped = x.reshape(heads.q, groups)?;
    let spec = |text: &str| text.parse::<op::ContractSpec>().map_err(Fault::malformed);
    let flat = vec![q[0].clone(), all.clone(), q[2].clone(), k[2].clone()];
    let halves = dtype == DType::BF16;
    let (mut query, mut key) = (grouped, heads.k);
    if halves {
        // Where both are scaled, neither product leaves the type's range.
        query = x.with_number(BinaryFn::Mul, query, scale.sqrt())?;
        key = x.with_number(BinaryFn::Mul, key, scale.sqrt())?;
    }
    let scores = x.add(op::Contract { spec: spec("bhgsd,bhtd->bhgst")? }, &[query, key])?;
    let scores = x.reshape(scores, flat.clone())?;
    let raw = if halves { scores } else { x.with_number(BinaryFn::Mul, scores, scale)? };
    let mut capped = raw;
    if softcap > 0.0 {
        let scaled = x.with_number(BinaryFn::Div, capped, softcap)?;
        let bent = x.unary(UnaryFn::Tanh, scaled)?;
        capped = x.with_number(BinaryFn::Mul, bent, softcap)?;
    }
    let masked = match mask {
        None => capped,
        Some(mask) if x.dtype(mask) == DType::Bool => {
            let hidden = x.scalar(dtype, f64::NEG_INFINITY)?;
            x.select(mask, capped, hidden)?
        }
        Some(mask) => x.binary(BinaryFn::Add, capped, mask)?,
    };
    let precision = x.int_or("softmax_precision", 0)?;
    let precision = i32::try_from(precision).ok().and_then(|number| element_type(number).ok());
    let exact = x.cast(masked, precision.unwrap_or(dtype))?;
    let softmax = softmax::softmax(x, exact, 3)?;
    let softmax = x.cast(softmax, dtype)?;
    let weights = mask.map_or(Ok(softmax), |mask| guarded(x, softmax, mask))?;
    let shown = match x.int_or("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        mode => return Err(Fault::malformed(format!("qk_matmul_output_mode {mode} is not known"))),
    };
    let groups = vec![q[0].clone(), own.clone(), all.floor_div(&own), q[2].clone(), k[2].clone()];
    let grouped = x.reshape(weights, groups)?;
    let result = x.add(op::Contract { spec: spec("bhgst,bhte->bhgse")? }, &[grouped, heads.v])?;
    let width = x.shape(heads.v)[3].clone();
    let result = x.reshape(result, vec![q[0].clone(), all, q[2].clone(), width])?;
    Ok((result, shown))
}

/// Part of the last dimension: every `step`th from `start` on.
pub(super) fn part(
    x: &mut Use<'_, '_, '_>,
    v: V,
    start: Dim,
    size: Dim,
    step: i64,
) -> Result<V, Fault> {
    let rank = x.rank(v);
    let (mut starts, mut sizes) = (vec![Dim::from(0i64); rank], x.shape(v));
    let mut steps = vec![1; rank];
    (starts[rank - 1], sizes[rank - 1], steps[rank - 1]) = (start, size, step);
    x.add(op::Slice { starts, sizes, steps }, &[v])
}

/// Pairs of each head turned by an angle for each position.
fn rotary_embedding(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let own = x.shape(operand);
    let v = by_heads(x, operand, x.int_or("num_heads", 0)?)?;
    let size = match &x.shape(v)[..] {
        [_, _, _, size] => size.clone(),
        _ => return Err(Fault::malformed("the operand must have rank 3 or 4")),
    };
    let turned = match x.int_or("rotary_embedding_dim", 0)? {
        0 => size,
        turned => Dim::from(turned),
    };
    let (cos, sin, positions) = (x.input(1)?, x.input(2)?, x.optional(3));
    if let Some(positions) = positions {
        within_tables(x, positions, [cos, sin])?;
    }
    let interleaved = x.flag("interleaved", false)?;
    let result = rotated(x, v, [cos, sin], positions, turned, interleaved)?;
    Ok(vec![if own.len() == 3 { side_by_side(x, result)? } else { result }])
}

/// `[batch, heads, length, size]` as `[batch, length, heads·size]`.
pub(super) fn side_by_side(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let moved = x.transpose(v, vec![0, 2, 1, 3])?;
    let mut shape = x.shape(moved);
    let (Some(size), Some(heads)) = (shape.pop(), shape.pop()) else { return Ok(moved) };
    shape.push(heads * size);
    x.reshape(moved, shape)
}

/// Says that positions are of rows that the tables have.
pub(super) fn within_tables(
    x: &mut Use<'_, '_, '_>,
    positions: V,
    tables: [V; 2],
) -> Result<(), Fault> {
    let mut rows = tables.map(|table| x.shape(table).first().cloned().unwrap_or_default()).to_vec();
    rows.dedup();
    rows.iter().try_for_each(|rows| {
        let last = rows.clone() - Dim::from(1i64);
        x.within(positions, "a position", [&Dim::from(0i64), &last])
    })
}

/// `[batch, heads, length, size]` with the first `turned` numbers of each head turned in pairs.
/// Cosines and sines are of angles `[batch, length, turned/2]`, or of a table in which positions
/// `[batch, length]` are looked up that are known to be in it.
pub(super) fn rotated(
    x: &mut Use<'_, '_, '_>,
    v: V,
    mut angles: [V; 2],
    positions: Option<V>,
    turned: Dim,
    interleaved: bool,
) -> Result<V, Fault> {
    let dtype = x.dtype(v);
    let wide = computed_in(&[dtype]);
    if wide != dtype {
        // The products of a sum are not rounded, only the sum is.
        let angles = [x.cast(angles[0], wide)?, x.cast(angles[1], wide)?];
        let v = x.cast(v, wide)?;
        let result = rotated(x, v, angles, positions, turned, interleaved)?;
        return x.cast(result, dtype);
    }
    let shape = x.shape(v);
    let [batch, _, length, size] = &shape[..] else {
        return Err(Fault::malformed("the operand must have rank 3 or 4"));
    };
    let half = turned.floor_div(&Dim::from(2i64));
    for slot in &mut angles {
        if let Some(positions) = positions {
            *slot = x.add(op::Gather { axis: 0 }, &[*slot, positions])?;
        }
        let all = vec![batch.clone(), length.clone(), half.clone()];
        let fitted = x.fitting(*slot, &all)?;
        // One angle for all heads.
        let mut apart = x.shape(fitted);
        apart.insert(apart.len().saturating_sub(2), Dim::from(1i64));
        *slot = x.reshape(fitted, apart)?;
    }
    let zero = Dim::from(0i64);
    let (first, second) = if interleaved {
        let one = Dim::from(1i64);
        (part(x, v, zero, half.clone(), 2)?, part(x, v, one, half.clone(), 2)?)
    } else {
        (part(x, v, zero, half.clone(), 1)?, part(x, v, half.clone(), half.clone(), 1)?)
    };
    let [cos, sin] = angles;
    let (a, b) = (x.binary(BinaryFn::Mul, cos, first)?, x.binary(BinaryFn::Mul, sin, second)?);
    let real = x.binary(BinaryFn::Sub, a, b)?;
    let (a, b) = (x.binary(BinaryFn::Mul, sin, first)?, x.binary(BinaryFn::Mul, cos, second)?);
    let imaginary = x.binary(BinaryFn::Add, a, b)?;
    let mut result = if interleaved {
        let mut apart = x.shape(real);
        apart.push(Dim::from(1i64));
        let pair = [x.reshape(real, apart.clone())?, x.reshape(imaginary, apart)?];
        let pairs = x.add(op::Concat { axis: 4 }, &pair)?;
        let mut joined = shape.clone();
        joined[3] = turned.clone();
        x.reshape(pairs, joined)?
    } else {
        x.add(op::Concat { axis: 3 }, &[real, imaginary])?
    };
    if turned != *size {
        let rest = part(x, v, turned.clone(), size.clone() - turned, 1)?;
        result = x.add(op::Concat { axis: 3 }, &[result, rest])?;
    }
    Ok(result)
}
