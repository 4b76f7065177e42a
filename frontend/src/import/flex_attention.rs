//! Attention whose scores and weights graphs of the model change on the way.
//!
//! Invariant: a graph becomes part of the graph around it, so that it is fused like anything else.

use super::build::V;
use super::control::results;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, preview};
use crate::read::element_type;
use crate::resolve::Attribute;
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[preview("ai.onnx.preview", "FlexAttention", flex_attention)];

/// The value as the graph of an attribute changes it, if there is one.
fn modified(x: &mut Use<'_, '_, '_>, name: &str, v: V) -> Result<V, Fault> {
    let body = match x.attribute(name) {
        None => return Ok(v),
        Some(Attribute::Graph(body)) => body,
        Some(_) => return Err(Fault::malformed(format!("attribute `{name}` must be a graph"))),
    };
    let ([(id, _)], 1) = (&body.inputs[..], body.outputs.len()) else {
        let message = format!("the graph `{name}` must have one input and one output");
        return Err(Fault::malformed(message));
    };
    x.importer.define(*id, Some(v));
    let made = results(x, body)?;
    let shape = x.shape(v);
    let made = x.with_dims(made[0], &shape)?;
    if x.ty(made) != x.ty(v) {
        let (before, after) = (x.ty(v), x.ty(made));
        return Err(Fault::malformed(format!("the graph `{name}` makes {after} of {before}")));
    }
    Ok(made)
}

fn flex_attention(x: &mut Use<'_, '_, '_>) -> Results {
    let (query, mut key, mut value) = (x.input(0)?, x.input(1)?, x.input(2)?);
    for v in [query, key, value] {
        if x.rank(v) != 4 {
            let ty = x.ty(v);
            return Err(Fault::malformed(format!("operands must have rank 4, but one is {ty}")));
        }
    }
    let q = x.shape(query);
    (key, value) = (x.with_dim(key, 0, &q[0])?, x.with_dim(value, 0, &q[0])?);
    key = x.with_dim(key, 3, &q[3])?;
    let k = x.shape(key);
    for axis in [1, 2] {
        value = x.with_dim(value, axis, &k[axis])?;
    }
    let scale = match (x.float("scale")?, q[3].as_const()) {
        (Some(scale), _) => scale,
        (None, Some(size)) if size > 0 => 1.0 / (size as f64).sqrt(),
        _ => return Err(Fault::data_dependent("the size of a head")),
    };
    let dtype = x.dtype(query);
    let precision = match x.int("softmax_precision")? {
        None if dtype == DType::F64 => DType::F64,
        None => DType::F32,
        Some(number) => i32::try_from(number)
            .ok()
            .and_then(|number| element_type(number).ok())
            .filter(|dtype| dtype.is_float())
            .ok_or_else(|| Fault::malformed(format!("softmax_precision {number} is no float")))?,
    };
    let plain = x.attribute("score_mod").is_none() && x.attribute("prob_mod").is_none();
    if plain && precision == dtype {
        return Ok(vec![x.add(op::Attention { scale, causal: false }, &[query, key, value])?]);
    }
    // Both operands are scaled by the root, in their own type.
    let root = f64::from((scale as f32).sqrt());
    let query = x.with_number(BinaryFn::Mul, query, root)?;
    let key = x.with_number(BinaryFn::Mul, key, root)?;
    let spec = |text: &str| text.parse::<op::ContractSpec>().map_err(Fault::malformed);
    // Heads in groups that share a key head.
    let group = q[1].floor_div(&k[1]);
    let groups = vec![q[0].clone(), k[1].clone(), group.clone(), q[2].clone(), q[3].clone()];
    let grouped = x.reshape(query, groups)?;
    let scores = x.add(op::Contract { spec: spec("bhgsd,bhtd->bhgst")? }, &[grouped, key])?;
    let flat = vec![q[0].clone(), q[1].clone(), q[2].clone(), k[2].clone()];
    let scores = x.reshape(scores, flat)?;
    let scores = x.cast(scores, precision)?;
    let scores = modified(x, "score_mod", scores)?;
    let weights = x.add(op::Softmax { axis: 3 }, &[scores])?;
    let weights = modified(x, "prob_mod", weights)?;
    let groups = vec![q[0].clone(), k[1].clone(), group, q[2].clone(), k[2].clone()];
    let grouped = x.reshape(weights, groups)?;
    let (wide, to) = (x.cast(value, precision)?, x.dtype(value));
    let result = x.add(op::Contract { spec: spec("bhgst,bhte->bhgse")? }, &[grouped, wide])?;
    let width = x.shape(value)[3].clone();
    let result = x.reshape(result, vec![q[0].clone(), q[1].clone(), q[2].clone(), width])?;
    Ok(vec![x.cast(result, to)?])
}
