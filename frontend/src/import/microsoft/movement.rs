//! Operators that existed in this domain before they became standard.
//!
//! Invariant: each is the standard operator of today, with what it was called or left out then.

use super::super::fault::Fault;
use super::super::movement::{gather_nd, padded};
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::shape::{range, trilu};
use super::Results;
use kiln_tensor::Dim;

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("ExpandDims", expand_dims),
    microsoft("GatherND", gather_nd),
    microsoft("Pad", pad),
    microsoft("Range", range_by_one),
    microsoft("Trilu", trilu),
];

/// A dimension of 1 put in.
fn expand_dims(x: &mut Use<'_, '_, '_>) -> Results {
    let (v, axis) = (x.input(0)?, x.input(1)?);
    let mut shape = x.shape(v);
    let axis = match x.integers(axis, "the axis")?[..] {
        [axis] => x.axis(axis, shape.len() + 1)?,
        _ => return Err(Fault::malformed("the axis must be one number")),
    };
    shape.insert(axis, Dim::from(1i64));
    Ok(vec![x.reshape(v, shape)?])
}

/// The amounts are a vector, or the one row of a matrix.
fn pad(x: &mut Use<'_, '_, '_>) -> Results {
    let amounts = x.input(1)?;
    let count = x.ty(amounts).elements();
    let flat = x.reshape(amounts, vec![count])?;
    let amounts = x.dims(flat, "the amounts to pad with")?;
    let value = match x.optional(2) {
        Some(value) => x.reshape(value, Vec::new())?,
        None => {
            let dtype = x.dtype(x.input(0)?);
            x.scalar(dtype, 0.0)?
        }
    };
    padded(x, &amounts, None, value)
}

/// The step may be left out.
fn range_by_one(x: &mut Use<'_, '_, '_>) -> Results {
    let (start, limit) = (x.input(0)?, x.input(1)?);
    let step = match x.optional(2) {
        Some(step) => step,
        None => {
            let dtype = x.dtype(start);
            x.scalar(dtype, 1.0)?
        }
    };
    x.with_inputs(vec![Some(start), Some(limit), Some(step)], range)
}
