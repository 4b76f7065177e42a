//! Attention with subgraphs that change its scores and its probabilities.
//!
//! Invariant: scores and probabilities are in the type of the softmax, and the subgraphs keep that
//! type and their shape.

use super::attention::grouped;
use super::build::V;
use super::control::{body, results};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, preview};
use crate::read::element_type;
use kiln_ir::op::{BinaryFn, Contract, ContractSpec, Softmax};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] =
    &[preview("ai.onnx.preview", "FlexAttention", flex_attention)];

fn contract(x: &mut Use<'_, '_, '_>, a: V, b: V, spec: [&str; 3]) -> Result<V, Fault> {
    let [lhs, rhs, out] = spec.map(|labels| labels.as_bytes().to_vec());
    x.add(Contract { spec: ContractSpec { lhs, rhs, out } }, &[a, b])
}

fn flex_attention(x: &mut Use<'_, '_, '_>) -> Result<Vec<V>, Fault> {
    let (q, k, v) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let dtype = x.dtype(q);
    if [q, k, v].iter().any(|&v| x.rank(v) != 4 || x.dtype(v) != dtype) || !dtype.is_float() {
        let types = [q, k, v].map(|v| x.ty(v).to_string()).join(", ");
        let message = format!("operands must be floats of one type and rank 4, but are {types}");
        return Err(Fault::malformed(message));
    }
    let shape = x.shape(q);
    let k = x.with_dim(k, 0, &shape[0])?;
    let k = x.with_dim(k, 3, &shape[3])?;
    let keys = x.shape(k);
    let mut v = v;
    for (axis, dim) in keys.iter().enumerate().take(3) {
        v = x.with_dim(v, axis, dim)?;
    }
    let q = grouped(x, q, &keys[1])?;
    let shape = x.shape(q);
    let (readers, writers) = (shape[1].clone(), keys[1].clone());
    let Some(group) = readers.exact_div(&writers) else {
        let message = format!("{readers} heads of queries are no multiple of {writers}");
        return Err(Fault::malformed(message));
    };
    let softmax_type = match x.int("softmax_precision")? {
        Some(number) => {
            let number = i32::try_from(number).unwrap_or(0);
            element_type(number).map_err(|error| Fault::malformed(error.to_string()))?
        }
        None if dtype.size() < 4 => DType::F32,
        None => dtype,
    };
    if !softmax_type.is_float() {
        return Err(Fault::malformed(format!("a softmax of {softmax_type} is not possible")));
    }
    // Both operands are scaled by the root, rounded to their type.
    let root = match x.float("scale")? {
        Some(scale) => x.scalar(DType::F32, scale.sqrt())?,
        None => {
            let width = x.size(&shape[3], DType::F32)?;
            x.with_number(BinaryFn::Pow, width, -0.25)?
        }
    };
    let root = x.cast(root, dtype)?;
    let (q, k) = (x.binary(BinaryFn::Mul, q, root)?, x.binary(BinaryFn::Mul, k, root)?);
    let [batch, _, queries, width] = <[Dim; 4]>::try_from(shape).map_err(|_| Fault::Silent)?;
    let apart = vec![batch.clone(), writers, group, queries.clone(), width];
    let q = x.reshape(q, apart)?;
    let scores = contract(x, q, k, ["bhgqd", "bhkd", "bhgqk"])?;
    let grouped = x.shape(scores);
    let whole = vec![batch.clone(), readers.clone(), queries.clone(), keys[2].clone()];
    let scores = x.reshape(scores, whole)?;
    let scores = x.cast(scores, softmax_type)?;
    let scores = changed(x, scores, "score_mod")?;
    let probabilities = x.add(Softmax { axis: 3 }, &[scores])?;
    let probabilities = changed(x, probabilities, "prob_mod")?;
    let probabilities = x.reshape(probabilities, grouped)?;
    let v = x.cast(v, softmax_type)?;
    let result = contract(x, probabilities, v, ["bhgqk", "bhkd", "bhgqd"])?;
    let result = x.cast(result, dtype)?;
    let last = x.shape(result)[4].clone();
    Ok(vec![x.reshape(result, vec![batch, readers, queries, last])?])
}

/// What a subgraph makes of scores or probabilities, if there is one.
fn changed(x: &mut Use<'_, '_, '_>, v: V, name: &str) -> Result<V, Fault> {
    if x.attribute(name).is_none() {
        return Ok(v);
    }
    let body = body(x, name)?;
    let ([(input, _)], 1) = (&body.inputs[..], body.outputs.len()) else {
        return Err(Fault::malformed(format!("`{name}` must have one input and one output")));
    };
    x.importer.define(*input, Some(v));
    let made = results(x, body)?;
    let shape = x.shape(v);
    let made = x.with_dims(made[0], &shape)?;
    if x.ty(made) != x.ty(v) {
        let (from, to) = (x.ty(v), x.ty(made));
        return Err(Fault::malformed(format!("`{name}` makes {to} of {from}")));
    }
    Ok(made)
}
