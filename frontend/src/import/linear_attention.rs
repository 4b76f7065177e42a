//! Linear attention: a matrix for each key head remembers keys and values, and each query reads
//! from it; one step of a loop for each token.
//!
//! Invariant: the state is kept in f32, whatever the operands are in.

use super::attention::by_heads;
use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::TensorType;
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("LinearAttention", 27, linear_attention)];

/// What a token brings: query, key, value, and as the rule has it, how much of the state decays
/// and how much of a value is new.
struct Token {
    query: V,
    key: V,
    value: V,
    decay: Option<V>,
    beta: Option<V>,
}

/// An operand by heads, tokens first: `[length, batch, heads, size]` in f32.
fn tokens(x: &mut Use<'_, '_, '_>, v: V, heads: i64) -> Result<V, Fault> {
    if x.rank(v) != 3 {
        let ty = x.ty(v);
        return Err(Fault::malformed(format!("operands must have rank 3, but one is {ty}")));
    }
    let apart = by_heads(x, v, heads)?;
    let first = x.transpose(apart, vec![2, 0, 1, 3])?;
    x.cast(first, DType::F32)
}

/// An operand that the rule asks for or forbids.
fn of_rule(
    x: &Use<'_, '_, '_>,
    number: usize,
    asked: bool,
    name: &str,
) -> Result<Option<V>, Fault> {
    match (x.optional(number), asked) {
        (None, true) => Err(Fault::malformed(format!("the update rule needs `{name}`"))),
        (Some(_), false) => Err(Fault::malformed(format!("the update rule takes no `{name}`"))),
        (v, _) => Ok(v),
    }
}

fn linear_attention(x: &mut Use<'_, '_, '_>) -> Results {
    let (q_heads, kv_heads) = (x.int_or("q_num_heads", 0)?, x.int_or("kv_num_heads", 0)?);
    if kv_heads < 1 || q_heads < 1 || q_heads % kv_heads != 0 {
        let message = format!("q_num_heads {q_heads} is no multiple of kv_num_heads {kv_heads}");
        return Err(Fault::malformed(message));
    }
    let (gated, corrected) = match x.string_or("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Fault::malformed(format!("update rule `{other}` is not known"))),
    };
    let (decay, beta) = (of_rule(x, 4, gated, "decay")?, of_rule(x, 5, corrected, "beta")?);
    let (q, k, v) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let dtype = x.dtype(q);
    let query = tokens(x, q, q_heads)?;
    let (key, value) = (tokens(x, k, kv_heads)?, tokens(x, v, kv_heads)?);
    let key = {
        let wanted = x.shape(query);
        let key = x.with_dim(key, 0, &wanted[0])?;
        let key = x.with_dim(key, 1, &wanted[1])?;
        x.with_dim(key, 3, &wanted[3])?
    };
    let wanted = x.shape(key)[..3].to_vec();
    let mut value = value;
    for (axis, dim) in wanted.iter().enumerate() {
        value = x.with_dim(value, axis, dim)?;
    }
    let decay = decay.map(|v| tokens(x, v, kv_heads)).transpose()?;
    let beta = match beta {
        // One for all heads, or one for each.
        Some(v) if x.shape(v).last().is_some_and(|dim| dim.is(1)) => Some(tokens(x, v, 1)?),
        Some(v) => Some(tokens(x, v, kv_heads)?),
        None => None,
    };
    let (from, size) = (x.shape(key), x.shape(value)[3].clone());
    let state_shape = vec![from[1].clone(), from[2].clone(), from[3].clone(), size.clone()];
    let (state, state_type) = match x.optional(3) {
        Some(past) => {
            let past_type = x.dtype(past);
            let past = x.with_dims(past, &state_shape)?;
            (x.cast(past, DType::F32)?, past_type)
        }
        None => (x.filled(DType::F32, 0.0, state_shape)?, dtype),
    };
    let scale = match (x.float_or("scale", 0.0)?, from[3].as_const()) {
        (0.0, Some(width)) if width > 0 => 1.0 / (width as f64).sqrt(),
        (0.0, _) => return Err(Fault::data_dependent("the size of a head")),
        (scale, _) => scale,
    };
    let all = Token { query, key, value, decay, beta };
    let (state, outputs) = run(x, state, all, scale)?;
    let shape = x.shape(outputs);
    let batch_first = x.transpose(outputs, vec![1, 0, 2, 3])?;
    let width = shape[2].clone() * shape[3].clone();
    let joined = x.reshape(batch_first, vec![shape[1].clone(), shape[0].clone(), width])?;
    Ok(vec![x.cast(joined, dtype)?, x.cast(state, state_type)?])
}

/// The last state, and what each token reads: `[length, batch, query heads, size]`.
fn run(x: &mut Use<'_, '_, '_>, state: V, all: Token, scale: f64) -> Result<(V, V), Fault> {
    let length = x.shape(all.query)[0].clone();
    if length.is(1) {
        let mut only = |v: V| {
            let shape = x.shape(v)[1..].to_vec();
            x.reshape(v, shape)
        };
        let token = Token {
            query: only(all.query)?,
            key: only(all.key)?,
            value: only(all.value)?,
            decay: all.decay.map(&mut only).transpose()?,
            beta: all.beta.map(&mut only).transpose()?,
        };
        let (state, output) = step(x, state, token, scale)?;
        let shape = [vec![length], x.shape(output)].concat();
        return Ok((state, x.reshape(output, shape)?));
    }
    let trip = x.add(op::SizeOf { dims: vec![length.clone()], scalar: true }, &[])?;
    let truth = x.scalar(DType::Bool, 1.0)?;
    let operands = [Some(all.query), Some(all.key), Some(all.value), all.decay, all.beta];
    let captured = operands.into_iter().flatten().filter(|&v| !x.importer.build.is_known(v));
    let mut captured: Vec<V> = captured.collect();
    captured.sort_unstable();
    captured.dedup();
    let ty = x.ty(state).clone();
    x.importer.build.enter("tokens");
    let made = body(x, ty, &all, &captured, scale);
    let graph = x.importer.build.leave();
    made?;
    let op = op::Loop { carried: 1, scan: 1, scan_length: length };
    let operands = [vec![trip, truth, state], captured].concat();
    match x.importer.build.add_node(op, &operands, vec![graph])?[..] {
        [state, outputs] => Ok((state, outputs)),
        _ => Err(Fault::Silent),
    }
}

fn body(
    x: &mut Use<'_, '_, '_>,
    ty: TensorType,
    all: &Token,
    captured: &[V],
    scale: f64,
) -> Result<(), Fault> {
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let number = x.importer.build.graph_input("token", scalar(DType::I64))?;
    let again = x.importer.build.graph_input("condition", scalar(DType::Bool))?;
    let state = x.importer.build.graph_input("state", ty)?;
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    let mut one = |v: V| x.add(op::Gather { axis: 0 }, &[v, number]);
    let token = Token {
        query: one(all.query)?,
        key: one(all.key)?,
        value: one(all.value)?,
        decay: all.decay.map(&mut one).transpose()?,
        beta: all.beta.map(&mut one).transpose()?,
    };
    let (state, output) = step(x, state, token, scale)?;
    for (v, name) in [(again, "again"), (state, "state"), (output, "output")] {
        x.importer.build.output(v, name)?;
    }
    Ok(())
}

/// The state after a token, and what its query reads from it.
fn step(x: &mut Use<'_, '_, '_>, state: V, token: Token, scale: f64) -> Result<(V, V), Fault> {
    let spec = |text: &str| text.parse::<op::ContractSpec>().map_err(Fault::malformed);
    let Token { query, key, mut value, decay, beta } = token;
    let mut state = state;
    if let Some(decay) = decay {
        let kept = x.unary(UnaryFn::Exp, decay)?;
        let kept = x.along(kept, 0, 4)?;
        state = x.binary(BinaryFn::Mul, state, kept)?;
    }
    if let Some(beta) = beta {
        let known = x.add(op::Contract { spec: spec("bhdm,bhd->bhm")? }, &[state, key])?;
        let news = x.binary(BinaryFn::Sub, value, known)?;
        value = x.binary(BinaryFn::Mul, beta, news)?;
    }
    let column = x.along(key, 0, 4)?;
    let mut row = x.shape(value);
    row.insert(2, Dim::from(1i64));
    let row = x.reshape(value, row)?;
    let written = x.binary(BinaryFn::Mul, column, row)?;
    state = x.binary(BinaryFn::Add, state, written)?;
    // Query heads in groups that read from one state.
    let (asked, own) = (x.shape(query), x.shape(state));
    let group = asked[1].floor_div(&own[1]);
    let groups = vec![asked[0].clone(), own[1].clone(), group, asked[2].clone()];
    let grouped = x.reshape(query, groups)?;
    let read = x.add(op::Contract { spec: spec("bhgd,bhdm->bhgm")? }, &[grouped, state])?;
    let flat = vec![asked[0].clone(), asked[1].clone(), own[3].clone()];
    let read = x.reshape(read, flat)?;
    Ok((state, x.with_number(BinaryFn::Mul, read, scale)?))
}
