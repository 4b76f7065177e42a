//! The sum of a transformer's embeddings, normalised.
//!
//! Invariant: an embedding that is left out is not looked up.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::normalisation::normalized;
use super::super::operator::{Entry, microsoft};
use super::super::shape::counted;
use super::Results;
use kiln_ir::op::{self, BinaryFn, ReduceFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] =
    &[microsoft("EmbedLayerNormalization", embed_layer_normalization)];

/// `ids, segments, words, positions, segment table, gamma, beta, mask, position ids` to the
/// normalised sum, the length of each sequence by the mask, and the sum.
fn embed_layer_normalization(x: &mut Use<'_, '_, '_>) -> Results {
    let ids = x.input(0)?;
    let [batch, length] = &x.shape(ids)[..] else {
        return Err(Fault::malformed("the words must have dimensions batch and length"));
    };
    let (batch, length) = (batch.clone(), length.clone());
    let table = x.input(2)?;
    let words = rows(x, table, ids)?;
    let places = match x.optional(8) {
        Some(places) => places,
        None => counted(x, length, 0, 1)?,
    };
    let table = x.input(3)?;
    let positions = rows(x, table, places)?;
    let mut sum = x.binary(BinaryFn::Add, words, positions)?;
    if let Some(segments) = x.optional(1) {
        x.of_rank(segments, 2, "the segments")?;
    }
    if let (Some(segments), Some(table)) = (x.optional(1), x.optional(4)) {
        let segments = rows(x, table, segments)?;
        sum = x.binary(BinaryFn::Add, sum, segments)?;
    }
    let epsilon = x.float_or("epsilon", 1e-12)?;
    let parameters = [Some(x.input(5)?), x.optional(6)];
    let result = normalized(x, sum, 2, parameters, true, epsilon)?;
    let lengths = match x.optional(7) {
        Some(mask) => x.reduce(ReduceFn::Sum, mask, vec![1], false)?,
        None => x.filled(DType::I32, 0.0, vec![batch])?,
    };
    Ok(vec![result, lengths, sum])
}

/// Rows of a table by their numbers.
fn rows(x: &mut Use<'_, '_, '_>, table: V, numbers: V) -> Result<V, Fault> {
    let count = x.shape(table).first().cloned().unwrap_or_default();
    let last = count - Dim::from(1i64);
    x.within(numbers, "a row of an embedding", [&Dim::from(0i64), &last])?;
    x.add(op::Gather { axis: 0 }, &[table, numbers])
}
