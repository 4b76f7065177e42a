//! How operands met before opset 7: in equal shapes, unless `broadcast` lets the second stretch to
//! the first, from `axis` on or at its last dimensions.
//!
//! Invariant: what comes out stretches by the rules of later opsets to just the first operand's
//! shape.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::MICROSOFT;
use kiln_tensor::Dim;

/// The first opset in which operands stretch by themselves, both ways.
const BOTH_STRETCH: i64 = 7;

/// The first opset in which sums and the like of many operands stretch them.
const MANY_STRETCH: i64 = 8;

/// The two operands, with the second reshaped so that it stretches as the attributes say.
pub(super) fn operands(x: &mut Use<'_, '_, '_>) -> Result<(V, V), Fault> {
    let (a, b) = (x.input(0)?, x.input(1)?);
    Ok((a, second(x, a, b)?))
}

/// The operand that stretches to `first`.
pub(super) fn second(x: &mut Use<'_, '_, '_>, first: V, v: V) -> Result<V, Fault> {
    // ONNX Runtime's own operators never had the old rules, although their opset is 1.
    if x.opset() >= BOTH_STRETCH || x.node.site.domain == MICROSOFT {
        return Ok(v);
    }
    if !x.flag("broadcast", false)? {
        return equal(x, first, v);
    }
    let (target, own) = (x.shape(first), x.shape(v));
    let start = match x.int("axis")? {
        Some(axis) => Some(x.axis(axis, target.len())?),
        None => target.len().checked_sub(own.len()),
    };
    let there = start.and_then(|start| target.get(start..start + own.len()));
    let fits =
        |(dim, wanted): (&Dim, &Dim)| dim.is(1) || x.importer.build.facts.may_meet(dim, wanted);
    match (start, there) {
        (Some(start), Some(there)) if own.iter().zip(there).all(fits) => {
            let spare = target.len() - own.len() - start;
            let shape = own.into_iter().chain(vec![Dim::from(1i64); spare]).collect();
            x.reshape(v, shape)
        }
        _ => {
            let (first, v) = (x.ty(first), x.ty(v));
            Err(Fault::malformed(format!("{v} does not stretch to {first} there")))
        }
    }
}

/// The operand, said to have the shape of the first.
fn equal(x: &mut Use<'_, '_, '_>, first: V, v: V) -> Result<V, Fault> {
    let (target, own) = (x.shape(first), x.shape(v));
    let facts = x.facts();
    let same = own.len() == target.len()
        && own.iter().zip(&target).all(|(dim, wanted)| facts.may_meet(dim, wanted));
    if !same {
        let (opset, first, v) = (x.opset(), x.ty(first), x.ty(v));
        return Err(Fault::malformed(format!(
            "{first} and {v} must have one shape: opset {opset} does not stretch them by itself"
        )));
    }
    x.with_dims(v, &target)
}

/// All operands of an operator that takes any number of them.
pub(super) fn many(x: &mut Use<'_, '_, '_>) -> Result<Vec<V>, Fault> {
    let mut operands = x.all_inputs()?;
    if x.opset() < MANY_STRETCH
        && let Some((&first, rest)) = operands.clone().split_first()
    {
        for (slot, &v) in operands.iter_mut().skip(1).zip(rest) {
            *slot = equal(x, first, v)?;
        }
    }
    Ok(operands)
}
