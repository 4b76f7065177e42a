//! Operators that carry a state from one call of the model to the next: caches of keys and values,
//! and convolutions over what came before.
//!
//! Invariant: the state that is given is read, never written; the next one is a result.

use super::build::V;
use super::convolution::add_bias;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("CausalConvWithState", 27, causal_conv), onnx("TensorScatter", 24, tensor_scatter)];

/// A depthwise convolution along time, each result over the last elements before it.
fn causal_conv(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, w) = (x.input(0)?, x.input(1)?);
    let w = x.with_dim(w, 1, &Dim::from(1i64))?;
    let (shape, filter, dtype) = (x.shape(operand), x.shape(w), x.dtype(operand));
    if shape.len() != 3 || filter.len() != 3 || !filter[1].is(1) || !dtype.is_float() {
        let (operand, w) = (x.ty(operand), x.ty(w));
        return Err(Fault::malformed(format!(
            "{operand} and {w} are no floats over [batch, channels, length] and filters \
             [channels, 1, length] for them"
        )));
    }
    if let Some(bias) = x.optional(2) {
        x.of_rank(bias, 1, "the bias")?;
    }
    let silu = match x.string_or("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        other => return Err(Fault::malformed(format!("activation `{other}` is not known"))),
    };
    let operand = x.with_dim(operand, 1, &filter[0])?;
    let history = filter[2].clone() - Dim::from(1i64);
    let before = vec![shape[0].clone(), filter[0].clone(), history.clone()];
    let past = match x.optional(3) {
        Some(past) => x.of_dims(past, &before, "the state")?,
        None => x.filled(dtype, 0.0, before)?,
    };
    let whole =
        if history.is(0) { operand } else { x.add(op::Concat { axis: 2 }, &[past, operand])? };
    let bias = x.optional(2);
    let channels = filter[0].as_const().and_then(|channels| usize::try_from(channels).ok());
    let made = match channels.filter(|&channels| channels > 0) {
        Some(groups) => {
            let conv = op::Conv {
                strides: vec![1],
                dilations: vec![1],
                before: vec![0],
                after: vec![0],
                groups,
                layout: op::ConvLayout::ChannelsFirst,
            };
            x.add(conv, &[whole, w])?
        }
        None => sliding(x, whole, w, &shape[2])?,
    };
    let mut made = add_bias(x, made, bias)?;
    if silu {
        let wide = x.cast(made, if dtype == DType::F64 { dtype } else { DType::F32 })?;
        let active = x.unary(UnaryFn::Silu, wide)?;
        made = x.cast(active, dtype)?;
    }
    let state = x.part(whole, 2, shape[2].clone(), history)?;
    Ok(vec![made, state])
}

/// A depthwise convolution of channels that nobody counted: each result is a sum over the elements
/// before it, which are gathered.
fn sliding(x: &mut Use<'_, '_, '_>, whole: V, w: V, length: &Dim) -> Result<V, Fault> {
    let step = x.counter(length, DType::I64, 0, 2)?;
    let tap = x.counter(&x.shape(w)[2].clone(), DType::I64, 1, 2)?;
    let places = x.binary(BinaryFn::Add, step, tap)?;
    let seen = x.add(op::Gather { axis: 2 }, &[whole, places])?;
    let filter = x.shape(w);
    let w = x.reshape(w, vec![filter[0].clone(), filter[2].clone()])?;
    let spec = "bctk,ck->bct".parse::<op::ContractSpec>().map_err(Fault::malformed)?;
    x.add(op::Contract { spec }, &[seen, w])
}

/// A cache with new entries put in along its axis of time, at a place of its own for each batch.
fn tensor_scatter(x: &mut Use<'_, '_, '_>) -> Results {
    let (cache, update) = (x.input(0)?, x.input(1)?);
    let (shape, rank) = (x.shape(cache), x.rank(cache));
    let circular = match x.string_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    let axis = x.axis(x.int_or("axis", -2)?, rank)?;
    if axis == 0 {
        return Err(Fault::malformed("the axis must not be that of batches"));
    }
    let news = x.shape(update).get(axis).cloned();
    let Some(news) = news.filter(|_| x.rank(update) == rank && x.dtype(update) == x.dtype(cache))
    else {
        let (cache, update) = (x.ty(cache), x.ty(update));
        return Err(Fault::malformed(format!(
            "the update {update} does not fit the cache {cache}"
        )));
    };
    let mut expected = shape.clone();
    expected[axis] = news.clone();
    let update = x.with_dims(update, &expected)?;
    if x.shape(update) != expected || x.facts().at_least(&shape[axis], &news) == Some(false) {
        let (cache, update) = (x.ty(cache), x.ty(update));
        return Err(Fault::malformed(format!(
            "the update {update} does not fit the cache {cache}"
        )));
    }
    if news.is(0) {
        return Ok(vec![cache]);
    }
    // Which entry is new at each place of the cache, if one is.
    let place = x.counter(&shape[axis], DType::I64, 1, 2)?;
    let length = x.size(&shape[axis], DType::I64)?;
    let mut number = match x.optional(2) {
        Some(first) => {
            let first = x.of_dims(first, &shape[..1], "the first places")?;
            if !circular {
                let last = shape[axis].clone() - news.clone();
                x.within(first, "the place to write at", [&Dim::from(0i64), &last])?;
            }
            let first = x.cast(first, DType::I64)?;
            let first = x.along(first, 0, 2)?;
            x.binary(BinaryFn::Sub, place, first)?
        }
        None => place,
    };
    if circular {
        number = x.binary(BinaryFn::Mod, number, length)?;
    }
    let count = x.size(&news, DType::I64)?;
    let from = x.with_number(BinaryFn::GreaterEqual, number, 0.0)?;
    let to = x.binary(BinaryFn::Less, number, count)?;
    let new = x.binary(BinaryFn::And, from, to)?;
    let last = x.with_number(BinaryFn::Sub, count, 1.0)?;
    let raised = x.with_number(BinaryFn::Max, number, 0.0)?;
    let number = x.binary(BinaryFn::Min, raised, last)?;
    let places = vec![shape[0].clone(), shape[axis].clone()];
    let number = x.broadcast(number, places.clone())?;
    let new = x.broadcast(new, places)?;
    // Batches and time first, for entries to be taken whole.
    let mut perm: Vec<usize> = (0..rank).filter(|&dim| dim != axis).collect();
    perm.insert(1, axis);
    let moved = x.transpose(update, perm)?;
    let tuple = [x.shape(number), vec![Dim::from(1i64)]].concat();
    let number = x.reshape(number, tuple)?;
    let taken = x.add(op::GatherNd { batch_dims: 1 }, &[moved, number])?;
    let mut perm: Vec<usize> = [0].into_iter().chain(2..rank).collect();
    perm.insert(axis, 1);
    let taken = x.transpose(taken, perm)?;
    let mut spread = vec![Dim::from(1i64); rank];
    (spread[0], spread[axis]) = (shape[0].clone(), shape[axis].clone());
    let new = x.reshape(new, spread)?;
    Ok(vec![x.select(new, taken, cache)?])
}
