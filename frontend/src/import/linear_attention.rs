//! Attention whose memory is one matrix a head: each step decays it, corrects and adds what a key
//! says, and reads it with a query.
//!
//! Invariant: the memory is kept in single precision, whatever the types of operands and results.

use super::build::V;
use super::fault::Fault;
use super::loops::repeat;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, Contract, ContractSpec, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("LinearAttention", 27, linear_attention)];

/// `[batch, time, heads·size]` as `[batch, time, heads, size]` in single precision.
fn heads(x: &mut Use<'_, '_, '_>, v: V, heads: &Dim, what: &str) -> Result<V, Fault> {
    let v = match x.shape(v).get(2) {
        Some(size) if size.as_const().is_none() => {
            let whole = size.floor_div(heads) * heads.clone();
            x.with_dim(v, 2, &whole)?
        }
        _ => v,
    };
    let shape = x.shape(v);
    let size = shape.get(2).and_then(|size| size.exact_div(heads));
    let Some(size) = size.filter(|_| shape.len() == 3 && x.dtype(v).is_float()) else {
        let ty = x.ty(v);
        let message = format!("{what} {ty} is not [batch, time, elements of {heads} heads]");
        return Err(Fault::malformed(message));
    };
    let v = x.cast(v, DType::F32)?;
    let apart = vec![shape[0].clone(), shape[1].clone(), heads.clone(), size];
    x.reshape(v, apart)
}

fn contract(x: &mut Use<'_, '_, '_>, a: V, b: V, spec: [&str; 3]) -> Result<V, Fault> {
    let [lhs, rhs, out] = spec.map(|labels| labels.as_bytes().to_vec());
    x.add(Contract { spec: ContractSpec { lhs, rhs, out } }, &[a, b])
}

/// How many heads an attribute says there are.
fn count(x: &Use<'_, '_, '_>, name: &str) -> Result<i64, Fault> {
    x.int(name)?
        .filter(|&heads| heads > 0)
        .ok_or_else(|| Fault::malformed(format!("`{name}` must be at least 1")))
}

fn linear_attention(x: &mut Use<'_, '_, '_>) -> Results {
    let (gated, corrected) = match x.string_or("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Fault::malformed(format!("update rule `{other}` is not known"))),
    };
    for (input, name, used) in [(4, "decay", gated), (5, "beta", corrected)] {
        if x.optional(input).is_some() != used {
            let must = if used { "needs" } else { "has no" };
            let rule = x.string_or("update_rule", "gated_delta")?;
            return Err(Fault::malformed(format!("update rule `{rule}` {must} `{name}`")));
        }
    }
    let (readers, writers) = (count(x, "q_num_heads")?, count(x, "kv_num_heads")?);
    if readers % writers != 0 {
        let message = format!("{readers} heads of queries are no multiple of {writers}");
        return Err(Fault::malformed(message));
    }
    let (group, writers) = (Dim::from(readers / writers), Dim::from(writers));
    let given = x.dtype(x.input(0)?);
    let query = heads(x, x.input(0)?, &Dim::from(readers), "the query")?;
    let key = heads(x, x.input(1)?, &writers, "the key")?;
    let value = heads(x, x.input(2)?, &writers, "the value")?;
    let shape = x.shape(query);
    let (batch, time, depth) = (shape[0].clone(), shape[1].clone(), shape[3].clone());
    let of_key = [batch.clone(), time.clone(), writers.clone(), depth.clone()];
    let key = x.of_dims(key, &of_key, "the key")?;
    let width = x.shape(value)[3].clone();
    let of_value = [batch.clone(), time.clone(), writers.clone(), width.clone()];
    let value = x.of_dims(value, &of_value, "the value")?;
    let scale = match x.float_or("scale", 0.0)? {
        scale if scale != 0.0 => x.scalar(DType::F32, scale)?,
        _ => {
            let depth = x.size(&depth, DType::F32)?;
            x.unary(UnaryFn::Rsqrt, depth)?
        }
    };
    let query = x.binary(BinaryFn::Mul, query, scale)?;
    let apart = vec![batch.clone(), time.clone(), writers.clone(), group.clone(), depth.clone()];
    let query = x.reshape(query, apart)?;
    let decay = match x.optional(4) {
        Some(decay) => {
            let decay = heads(x, decay, &writers, "the decay")?;
            let decay = x.unary(UnaryFn::Exp, decay)?;
            let decay = match x.shape(decay)[3].as_const() {
                None => x.stretch_if_one(decay, 3, &depth)?,
                Some(_) => decay,
            };
            let each = x.shape(decay)[3].clone();
            let shape = [batch.clone(), time.clone(), writers.clone(), each.clone()];
            let decay = x.of_dims(decay, &shape, "the decay")?;
            if !each.is(1) && each != depth {
                let message = format!("a head decays by {each} numbers, not 1 or {depth}");
                return Err(Fault::malformed(message));
            }
            Some(decay)
        }
        None => None,
    };
    let beta = match x.optional(5) {
        Some(beta) => {
            let mut beta = x.cast(beta, DType::F32)?;
            if x.rank(beta) == 3 && x.shape(beta)[2].as_const().is_none() {
                beta = x.stretch_if_one(beta, 2, &writers)?;
            }
            let last = x.shape(beta).last().cloned().unwrap_or_default();
            if x.rank(beta) != 3 || !(last.is(1) || last == writers) {
                let beta = x.ty(beta);
                return Err(Fault::malformed(format!("beta {beta} is not one number a head")));
            }
            Some(x.of_dims(beta, &[batch.clone(), time.clone(), last], "beta")?)
        }
        None => None,
    };
    let memory = vec![batch.clone(), writers.clone(), depth.clone(), width.clone()];
    let (start, kept) = match x.optional(3) {
        Some(past) => {
            let past = x.with_dims(past, &memory)?;
            (x.cast(past, DType::F32)?, x.dtype(past))
        }
        None => (x.filled(DType::F32, 0.0, memory.clone())?, given),
    };
    if x.shape(start) != memory {
        let ty = x.ty(start);
        return Err(Fault::malformed(format!("the past state {ty} does not fit the heads")));
    }
    let trip = x.size(&time, DType::I64)?;
    let mut used = vec![query, key, value];
    used.extend(decay);
    used.extend(beta);
    let results = repeat(x, trip, (&[start], &used), Some(&time), |x, step, memory| {
        let now = |x: &mut Use<'_, '_, '_>, v: V| x.add(op::Gather { axis: 1 }, &[v, step]);
        let (query, key, mut value) = (now(x, query)?, now(x, key)?, now(x, value)?);
        let mut memory = memory[0];
        if let Some(decay) = decay {
            let decay = now(x, decay)?;
            let decay = inner(x, decay)?;
            memory = x.binary(BinaryFn::Mul, memory, decay)?;
        }
        if let Some(beta) = beta {
            let beta = now(x, beta)?;
            let beta = inner(x, beta)?;
            let known = contract(x, memory, key, ["bhdm", "bhd", "bhm"])?;
            let news = x.binary(BinaryFn::Sub, value, known)?;
            value = x.binary(BinaryFn::Mul, beta, news)?;
        }
        let written = contract(x, key, value, ["bhd", "bhm", "bhdm"])?;
        let memory = x.binary(BinaryFn::Add, memory, written)?;
        let read = contract(x, query, memory, ["bhgd", "bhdm", "bhgm"])?;
        Ok((vec![memory], vec![read]))
    })?;
    let [state, read] = results[..] else { return Err(Fault::Silent) };
    let read = x.transpose(read, vec![1, 0, 2, 3, 4])?;
    let read = x.cast(read, given)?;
    let joined = vec![batch, time, writers * group * width];
    Ok(vec![x.reshape(read, joined)?, x.cast(state, kept)?])
}

/// The value with a last dimension of 1.
fn inner(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let shape = [x.shape(v), vec![Dim::from(1i64)]].concat();
    x.reshape(v, shape)
}
