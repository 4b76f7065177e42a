//! What hides keys from queries in ONNX Runtime's attentions, and attention under it.
//!
//! Invariant: a mask stretches to `[batch, heads, queries, keys]`; what hides by adding a finite
//! number is added, what hides altogether is a condition.

use super::super::attention::{guarded, part};
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::shape::counted;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

/// Operands by heads, `[batch, heads, length, size]`.
pub(super) struct Heads {
    pub(super) q: V,
    pub(super) k: V,
    pub(super) v: V,
}

/// How scores become weights.
#[derive(Default)]
pub(super) struct Scoring {
    pub(super) scale: f64,
    /// Whether query `i` of `s` sees key `j` of `t` only if `j ≤ i + t − s`.
    pub(super) causal: bool,
    /// Which keys are seen.
    pub(super) sees: Option<V>,
    /// Whether they may be none, in which case the result is 0.
    pub(super) blind: bool,
    /// What is added to scores.
    pub(super) added: Option<V>,
    /// Scores are bent to stay below it, unless it is 0.
    pub(super) softcap: f64,
    /// The score of a key without a value, for each head: `[heads]`.
    pub(super) sink: Option<V>,
}

impl Scoring {
    /// Adds to the scores.
    pub(super) fn add(&mut self, x: &mut Use<'_, '_, '_>, more: Option<V>) -> Result<(), Fault> {
        self.added = match (self.added, more) {
            (Some(added), Some(more)) => Some(x.binary(BinaryFn::Add, added, more)?),
            (added, more) => added.or(more),
        };
        Ok(())
    }

    /// Hides the keys of which the condition does not hold.
    pub(super) fn and(&mut self, x: &mut Use<'_, '_, '_>, condition: V) -> Result<(), Fault> {
        self.sees = Some(match self.sees {
            Some(sees) => x.binary(BinaryFn::And, sees, condition)?,
            None => condition,
        });
        Ok(())
    }

    /// `bool`, or numbers to add.
    fn mask(&self, x: &mut Use<'_, '_, '_>) -> Result<Option<V>, Fault> {
        match (self.sees, self.added) {
            (Some(sees), Some(added)) => {
                let hidden = x.scalar(x.dtype(added), f64::NEG_INFINITY)?;
                Ok(Some(x.select(sees, added, hidden)?))
            }
            (sees, added) => Ok(sees.or(added)),
        }
    }

    /// The result by heads, and where they are asked for the scores and the weights that they become.
    pub(super) fn attend(
        &self,
        x: &mut Use<'_, '_, '_>,
        heads: &Heads,
        shown: bool,
    ) -> Result<(V, Option<[V; 2]>), Fault> {
        if shown || self.softcap != 0.0 || self.sink.is_some() {
            let (result, shown) = self.spelled_out(x, heads)?;
            return Ok((result, Some(shown)));
        }
        let mut operands = vec![heads.q, heads.k, heads.v];
        if let Some(mask) = self.mask(x)? {
            let (q, k) = (x.shape(heads.q), x.shape(heads.k));
            operands.push(x.fitting(mask, &[&q[..3], &k[2..3]].concat())?);
        }
        let attention =
            op::Attention { scale: self.scale, causal: self.causal, hidden: f64::NEG_INFINITY };
        let result = x.add(attention, &operands)?;
        match self.sees.filter(|_| self.blind) {
            Some(sees) => Ok((guarded(x, result, sees)?, None)),
            None => Ok((result, None)),
        }
    }

    fn spelled_out(&self, x: &mut Use<'_, '_, '_>, heads: &Heads) -> Result<(V, [V; 2]), Fault> {
        let (dtype, q, k) = (x.dtype(heads.q), x.shape(heads.q), x.shape(heads.k));
        let (all, own, keys) = (q[1].clone(), k[1].clone(), k[2].clone());
        let spec = |text: &str| text.parse::<op::ContractSpec>().map_err(Fault::malformed);
        // Heads in groups that share a key head.
        let group = all.floor_div(&own);
        let groups = vec![q[0].clone(), own.clone(), group.clone(), q[2].clone(), q[3].clone()];
        let grouped = x.reshape(heads.q, groups)?;
        let products = op::Contract { spec: spec("bhgsd,bhtd->bhgst")? };
        let scores = x.add(products, &[grouped, heads.k])?;
        let scores =
            x.reshape(scores, vec![q[0].clone(), all.clone(), q[2].clone(), keys.clone()])?;
        let mut scores = x.with_number(BinaryFn::Mul, scores, self.scale)?;
        if self.softcap != 0.0 {
            let scaled = x.with_number(BinaryFn::Div, scores, self.softcap)?;
            let bent = x.unary(UnaryFn::Tanh, scaled)?;
            scores = x.with_number(BinaryFn::Mul, bent, self.softcap)?;
        }
        if let Some(added) = self.added {
            scores = x.binary(BinaryFn::Add, scores, added)?;
        }
        let mut sees = self.sees;
        if self.causal {
            let seen = causal(x, &q[2], &keys, keys.clone() - q[2].clone())?;
            sees = Some(match sees {
                Some(sees) => x.binary(BinaryFn::And, sees, seen)?,
                None => seen,
            });
        }
        if let Some(sees) = sees {
            let hidden = x.scalar(dtype, f64::NEG_INFINITY)?;
            scores = x.select(sees, scores, hidden)?;
        }
        let mut weights = scores;
        if let Some(sink) = self.sink {
            // One more key takes its share of the weight.
            let sink = x.along(sink, 1, 3)?;
            let mut column = x.shape(scores);
            column[3] = Dim::from(1i64);
            let sink = x.reshape(
                sink,
                vec![Dim::from(1i64), all.clone(), Dim::from(1i64), Dim::from(1i64)],
            )?;
            let sink = x.broadcast(sink, column)?;
            weights = x.add(op::Concat { axis: 3 }, &[weights, sink])?;
        }
        weights = x.add(op::Softmax { axis: 3 }, &[weights])?;
        if self.sink.is_some() {
            weights = part(x, weights, Dim::from(0i64), keys.clone(), 1)?;
        } else if let Some(sees) = sees.filter(|_| self.blind) {
            weights = guarded(x, weights, sees)?;
        }
        let groups = vec![q[0].clone(), own, group, q[2].clone(), keys];
        let grouped = x.reshape(weights, groups)?;
        let sums = op::Contract { spec: spec("bhgst,bhte->bhgse")? };
        let result = x.add(sums, &[grouped, heads.v])?;
        let width = x.shape(heads.v)[3].clone();
        let result = x.reshape(result, vec![q[0].clone(), all, q[2].clone(), width])?;
        Ok((result, [scores, weights]))
    }
}

/// Whether query `i` sees key `j`: `j ≤ i + before`.
pub(super) fn causal(
    x: &mut Use<'_, '_, '_>,
    queries: &Dim,
    keys: &Dim,
    before: Dim,
) -> Result<V, Fault> {
    let query = counted(x, queries.clone(), 2, 4)?;
    let key = counted(x, keys.clone(), 3, 4)?;
    let before = x.add(op::SizeOf { dims: vec![before], scalar: true }, &[])?;
    let last = x.binary(BinaryFn::Add, query, before)?;
    x.binary(BinaryFn::LessEqual, key, last)
}

/// Where the keys of each sequence end, by a mask of one number for each, and where they start, if
/// that follows (`[2·batch]`). What follows in a mask of `3·batch + 2` is where packed sequences
/// start, which these are not. Both are `[batch, 1, 1, 1]`.
fn bounds(x: &mut Use<'_, '_, '_>, mask: V, batch: &Dim) -> Result<(V, Option<V>), Fault> {
    let length = x.shape(mask)[0].clone();
    let times = |count: i64| batch.clone() * Dim::from(count);
    let forms = [times(1), times(2), times(3) + Dim::from(2i64)];
    let form = forms.iter().position(|form| *form == length);
    if forms.iter().all(|form| x.facts().equal(form, &length) == Some(false)) {
        let message = format!("a mask of {length} numbers is not one for each of {batch}");
        return Err(Fault::unsupported(message, "give a mask of keys: [batch, keys]"));
    }
    let mask = x.cast(mask, DType::I64)?;
    let last = x.size(&(length.clone() - Dim::from(1i64)), DType::I64)?;
    let taken = |x: &mut Use<'_, '_, '_>, number: V| {
        // What is beyond the mask is not used.
        let inside = if form.is_some() { number } else { x.binary(BinaryFn::Min, number, last)? };
        x.add(op::Gather { axis: 0 }, &[mask, inside])
    };
    let number = counted(x, batch.clone(), 0, 1)?;
    let ends = taken(x, number)?;
    let ends = x.along(ends, 0, 4)?;
    if matches!(form, Some(0 | 2)) {
        return Ok((ends, None));
    }
    let size = x.size(batch, DType::I64)?;
    let number = x.binary(BinaryFn::Add, number, size)?;
    let mut starts = taken(x, number)?;
    if form.is_none() {
        // Which form it is follows from sizes that only a run tells.
        let forms = x.vector(forms.to_vec())?;
        let length = x.size(&length, DType::I64)?;
        let is = x.binary(BinaryFn::Equal, forms, length)?;
        let fitting = x.cast(is, DType::I64)?;
        let fitting = x.reduce(ReduceFn::Sum, fitting, vec![0], false)?;
        let what = "how many of batch, 2·batch and 3·batch + 2 the mask's length equals";
        x.within(fitting, what, [&Dim::from(1i64), &Dim::from(3i64)])?;
        let pairs = x.part(is, 0, 1i64, 1i64)?;
        let zero = x.scalar(DType::I64, 0.0)?;
        starts = x.select(pairs, starts, zero)?;
    }
    Ok((ends, Some(x.along(starts, 0, 4)?)))
}

/// What an integer mask adds to scores: of numbers for each sequence, which [`bounds`] reads, or of 0
/// for what is hidden: `[batch, keys]`, `[batch, queries, keys]`.
pub(super) fn padding(
    x: &mut Use<'_, '_, '_>,
    mask: V,
    batch: &Dim,
    keys: &Dim,
    dtype: DType,
) -> Result<V, Fault> {
    let filter = x.float_or("mask_filter_value", -10000.0)?;
    let shape = x.shape(mask);
    let sees = match &shape[..] {
        [_] => {
            let key = counted(x, keys.clone(), 3, 4)?;
            let (end, start) = bounds(x, mask, batch)?;
            let before_end = x.binary(BinaryFn::Less, key, end)?;
            match start {
                Some(start) => {
                    let after_start = x.binary(BinaryFn::GreaterEqual, key, start)?;
                    x.binary(BinaryFn::And, before_end, after_start)?
                }
                None => before_end,
            }
        }
        [batch, keys] => {
            let one = Dim::from(1i64);
            let mask = x.reshape(mask, vec![batch.clone(), one.clone(), one, keys.clone()])?;
            x.with_number(BinaryFn::Greater, mask, 0.0)?
        }
        [batch, queries, keys] => {
            let shape = vec![batch.clone(), Dim::from(1i64), queries.clone(), keys.clone()];
            let mask = x.reshape(mask, shape)?;
            x.with_number(BinaryFn::Greater, mask, 0.0)?
        }
        _ => {
            let help = "give a mask of rank 1 to 3";
            return Err(Fault::unsupported(format!("a mask {} ", x.ty(mask)), help));
        }
    };
    let (shown, hidden) = (x.scalar(dtype, 0.0)?, x.scalar(dtype, filter)?);
    x.select(sees, shown, hidden)
}

/// The factor of scores, by default `1/√size`.
pub(super) fn scale(x: &Use<'_, '_, '_>, size: &Dim) -> Result<f64, Fault> {
    match (x.float("scale")?.filter(|&scale| scale != 0.0), size.as_const()) {
        (Some(scale), _) => Ok(scale),
        (None, Some(size)) if size > 0 => Ok(1.0 / (size as f64).sqrt()),
        _ => {
            let message = format!("the size of a head must be a number, but is `{size}`");
            Err(Fault::unsupported(message, "fix the dimensions that it is made of with --dim"))
        }
    }
}
