//! Labels: those of classifiers, and the operator that replaces one kind by another.
//!
//! Invariant: of several equal keys the last counts.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::attributes::{alike, integers, numbers, places, strings, table, tensor};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[ml("LabelEncoder", 1, encode)];

/// The labels of a classifier.
pub(super) fn of_classes(x: &Use<'_, '_, '_>, ints: &str) -> Result<Vec<i64>, Fault> {
    if !strings(x, "classlabels_strings")?.is_empty() {
        return Err(no_strings());
    }
    integers(x, ints)
}

fn no_strings() -> Fault {
    let help = "train or convert the model with labels that are numbers";
    Fault::unsupported("labels that are strings are not supported", help)
}

/// The label of each class number.
pub(super) fn chosen(x: &mut Use<'_, '_, '_>, labels: &[i64], class: V) -> Result<V, Fault> {
    let table = places(x, labels)?;
    x.add(op::Gather { axis: 0 }, &[table, class])
}

/// One of two labels, by whether a condition holds.
pub(super) fn either(x: &mut Use<'_, '_, '_>, condition: V, yes: i64, no: i64) -> Result<V, Fault> {
    let mut labels = [yes, no].map(|label| (label, condition));
    for (label, slot) in &mut labels {
        let vector = places(x, &[*label])?;
        *slot = x.reshape(vector, Vec::new())?;
    }
    x.select(condition, labels[0].1, labels[1].1)
}

/// The list that a kind of attribute holds, as a constant.
fn list(x: &mut Use<'_, '_, '_>, kind: &str) -> Result<Option<V>, Fault> {
    if x.attribute(&format!("{kind}_strings")).is_some() {
        return Err(no_strings());
    }
    let ints = integers(x, &format!("{kind}_int64s"))?;
    if !ints.is_empty() {
        return Ok(Some(places(x, &ints)?));
    }
    let floats = numbers(x, &format!("{kind}_floats"))?;
    if !floats.is_empty() {
        return Ok(Some(table(x, DType::F32, vec![floats.len()], &floats)?));
    }
    let Some(tensor) = tensor(x, &format!("{kind}_tensor"))? else { return Ok(None) };
    let v = x.constant(tensor);
    let count = x.ty(v).elements();
    Ok(Some(x.reshape(v, vec![count])?))
}

/// What stands for a value that is no key.
fn default(x: &mut Use<'_, '_, '_>, dtype: DType) -> Result<V, Fault> {
    if let Some(tensor) = tensor(x, "default_tensor")? {
        let v = x.constant(tensor);
        let v = x.cast(v, dtype)?;
        return x.reshape(v, vec![Dim::from(1i64)]);
    }
    if dtype.is_float() {
        let value = x.float_or("default_float", -0.0)?;
        return table(x, dtype, vec![1], &[value]);
    }
    let value = places(x, &[x.int_or("default_int64", -1)?])?;
    x.cast(value, dtype)
}

fn encode(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    if x.opset() < 2 {
        return Err(no_strings());
    }
    let (Some(keys), Some(values)) = (list(x, "keys")?, list(x, "values")?) else {
        return Err(Fault::malformed("the keys or the values are missing"));
    };
    let count = |x: &Use<'_, '_, '_>, v: V| x.ty(v).elements().as_const().unwrap_or(0) as usize;
    alike(&[count(x, keys), count(x, values)], "keys and values")?;
    let (key_type, operand_type) = (x.dtype(keys), x.dtype(operand));
    if key_type != operand_type {
        let message = format!("keys of {key_type} are given for an operand of {operand_type}");
        return Err(Fault::malformed(message));
    }
    let number = count(x, keys);
    let mut shape = x.shape(operand);
    shape.push(Dim::from(1i64));
    let column = x.reshape(operand, shape)?;
    let mut equal = x.binary(BinaryFn::Equal, column, keys)?;
    if key_type.is_float() {
        // NaN is a key like any other.
        let (a, b) = (x.unary(UnaryFn::IsNan, column)?, x.unary(UnaryFn::IsNan, keys)?);
        let both = x.binary(BinaryFn::And, a, b)?;
        equal = x.binary(BinaryFn::Or, equal, both)?;
    }
    // The greatest place of a key that is equal, counted from 1; at 0 stands the default.
    let all: Vec<i64> = (1..=number as i64).collect();
    let (all, none) = (places(x, &all)?, x.scalar(DType::I64, 0.0)?);
    let candidates = x.select(equal, all, none)?;
    let last = x.rank(candidates) - 1;
    let place = x.reduce(ReduceFn::Max, candidates, vec![last], false)?;
    let fallback = default(x, x.dtype(values))?;
    let values = x.add(op::Concat { axis: 0 }, &[fallback, values])?;
    Ok(vec![x.add(op::Gather { axis: 0 }, &[values, place])?])
}
