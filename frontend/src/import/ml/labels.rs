//! Labels: those of classifiers, and the operators that replace one kind by another.
//!
//! Invariant: a label is a number or a string, and either is an element like any other; of several
//! equal keys the last counts.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::attributes::{alike, either, integers, numbers, places, table, tensor, texts};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[ml("CategoryMapper", 1, map_categories), ml("LabelEncoder", 1, encode)];

/// The labels of a classifier.
pub(super) struct Labels {
    table: V,
    pub(super) count: usize,
}

impl Labels {
    /// Those of attribute `classlabels_strings`, or else of `ints`.
    pub(super) fn of(x: &mut Use<'_, '_, '_>, ints: &str) -> Result<Labels, Fault> {
        let table = either(x, "classlabels_strings", ints)?;
        let count = x.ty(table).elements().as_const().and_then(|count| usize::try_from(count).ok());
        Ok(Labels { table, count: count.unwrap_or(0) })
    }

    /// The label of each class number.
    pub(super) fn chosen(&self, x: &mut Use<'_, '_, '_>, class: V) -> Result<V, Fault> {
        x.add(op::Gather { axis: 0 }, &[self.table, class])
    }

    /// The second of two labels where a condition holds, else the first; if there are not two, they
    /// are 0 and 1.
    pub(super) fn either(&self, x: &mut Use<'_, '_, '_>, condition: V) -> Result<V, Fault> {
        let class = x.cast(condition, DType::I64)?;
        if self.count == 2 {
            return self.chosen(x, class);
        }
        if x.dtype(self.table) != DType::String {
            return Ok(class);
        }
        let table = texts(x, &["0".to_owned(), "1".to_owned()])?;
        x.add(op::Gather { axis: 0 }, &[table, class])
    }
}

/// The list that a kind of attribute holds, as a constant.
fn list(x: &mut Use<'_, '_, '_>, kind: &str) -> Result<Option<V>, Fault> {
    let strings = x.strings(&format!("{kind}_strings"))?;
    if !strings.is_empty() {
        return Ok(Some(texts(x, &strings)?));
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
    if dtype == DType::String {
        let text = x.string_or("default_string", "_Unused")?.to_owned();
        return texts(x, &[text]);
    }
    if dtype.is_float() {
        let value = x.float_or("default_float", -0.0)?;
        return table(x, dtype, vec![1], &[value]);
    }
    let value = places(x, &[x.int_or("default_int64", -1)?])?;
    x.cast(value, dtype)
}

/// Up to version 1 there are only strings, each of which is numbered.
fn encode(x: &mut Use<'_, '_, '_>) -> Results {
    if x.opset() < 2 {
        let strings = x.strings("classes_strings")?;
        let numbers: Vec<i64> = (0..strings.len() as i64).collect();
        return by_kind(x, &strings, &numbers);
    }
    let (Some(keys), Some(values)) = (list(x, "keys")?, list(x, "values")?) else {
        return Err(Fault::malformed("the keys or the values are missing"));
    };
    looked_up(x, keys, values)
}

/// Strings as numbers, or numbers as strings, whichever the operand is of.
fn map_categories(x: &mut Use<'_, '_, '_>) -> Results {
    let (strings, numbers) = (x.strings("cats_strings")?, integers(x, "cats_int64s")?);
    by_kind(x, &strings, &numbers)
}

fn by_kind(x: &mut Use<'_, '_, '_>, strings: &[String], numbers: &[i64]) -> Results {
    let strings = texts(x, strings)?;
    let numbers = places(x, numbers)?;
    match x.dtype(x.input(0)?) {
        DType::String => looked_up(x, strings, numbers),
        _ => looked_up(x, numbers, strings),
    }
}

/// For each element of the operand, the value that stands beside its key.
fn looked_up(x: &mut Use<'_, '_, '_>, keys: V, values: V) -> Results {
    let operand = x.input(0)?;
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
    // Without keys the greatest place is that of nothing.
    let place = x.binary(BinaryFn::Max, place, none)?;
    let fallback = default(x, x.dtype(values))?;
    let values = x.add(op::Concat { axis: 0 }, &[fallback, values])?;
    Ok(vec![x.add(op::Gather { axis: 0 }, &[values, place])?])
}
