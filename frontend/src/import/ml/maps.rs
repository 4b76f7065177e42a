//! Maps: what classifiers give for each row, and what dictionaries of features are made into.
//!
//! Invariant: a map has keys of one type, numbers or strings, and single elements as values; a key
//! that a vocabulary does not have is passed over.

use super::super::build::V;
use super::super::conversion;
use super::super::fault::Fault;
use super::super::form::{Form, Shape};
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::super::text;
use super::attributes::{either, rows};
use kiln_ir::TensorType;
use kiln_routine::Routine;
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[ml("CastMap", 1, cast_map), ml("DictVectorizer", 1, vectorize), ml("ZipMap", 1, zip_map)];

/// The keys that one of two attributes holds.
fn keys(x: &mut Use<'_, '_, '_>, strings: &str, ints: &str) -> Result<V, Fault> {
    let keys = either(x, strings, ints)?;
    match x.ty(keys).elements().is(0) {
        true => Err(Fault::malformed(format!("`{strings}` or `{ints}` must be given"))),
        false => Ok(keys),
    }
}

/// Scores as a map from labels for each row.
fn zip_map(x: &mut Use<'_, '_, '_>) -> Results {
    let labels = keys(x, "classlabels_strings", "classlabels_int64s")?;
    let scores = rows(x, false)?;
    let count = x.shape(labels)[0].clone();
    let scores = x.of_dim(scores, 1, &count, "the scores")?;
    let of = Form::Tensor { dtype: x.dtype(scores), shape: Shape::Ranked(Vec::new()) };
    let of = Form::Entries { keys: x.dtype(labels), of: Box::new(of) };
    let result = TensorType::new(DType::Sequence, Vec::new());
    let made = x.call1(Routine::Maps, &[labels, scores], result)?;
    Ok(vec![x.holding(made, Form::List(DType::Map, Box::new(of)))])
}

/// Element types of a map's keys and values.
fn map_type(x: &Use<'_, '_, '_>, map: V) -> Result<(DType, DType), Fault> {
    match x.form(map) {
        Form::List(DType::Map, entries) => match *entries {
            Form::Entries { keys, of } if matches!(*of, Form::Tensor { .. }) => {
                Ok((keys, of.dtype()))
            }
            _ => Err(Fault::malformed("the values of the map must be tensors")),
        },
        _ => {
            let ty = x.ty(map);
            Err(Fault::malformed(format!("the operand must be a map, but is {ty}")))
        }
    }
}

/// The value of each key, which is zero where the map has none; a row.
fn looked_up(x: &mut Use<'_, '_, '_>, map: V, keys: V) -> Result<V, Fault> {
    let (of_keys, of) = map_type(x, map)?;
    if x.dtype(keys) != of_keys {
        let keys = x.ty(keys);
        return Err(Fault::malformed(format!("the map has keys of {of_keys}, not {keys}")));
    }
    let count = x.shape(keys)[0].clone();
    let result = TensorType::new(of, vec![count.clone()]);
    let found = x.call1(Routine::LookUp { of }, &[map, keys], result)?;
    x.reshape(found, vec![Dim::from(1i64), count])
}

/// The value of each word of a vocabulary.
fn vectorize(x: &mut Use<'_, '_, '_>) -> Results {
    let vocabulary = keys(x, "string_vocabulary", "int64_vocabulary")?;
    let map = x.input(0)?;
    Ok(vec![looked_up(x, map, vocabulary)?])
}

/// Values in the order of their keys, or each at the place that its key says.
fn cast_map(x: &mut Use<'_, '_, '_>) -> Results {
    let map = x.input(0)?;
    let (keys, of) = map_type(x, map)?;
    let to = match x.string_or("cast_to", "TO_FLOAT")? {
        "TO_FLOAT" => DType::F32,
        "TO_STRING" => DType::String,
        "TO_INT64" => DType::I64,
        other => return Err(Fault::malformed(format!("cast_to `{other}` is not known"))),
    };
    let row = match x.string_or("map_form", "DENSE")? {
        "DENSE" => {
            let count = x.found("entries");
            let result = TensorType::new(of, vec![count.clone()]);
            let values = x.call1(Routine::Values { keys, of }, &[map], result)?;
            x.reshape(values, vec![Dim::from(1i64), count])?
        }
        "SPARSE" => {
            let most = x.int_or("max_map", 1)?;
            if most < 1 {
                return Err(Fault::malformed(format!("max_map must be at least 1, not {most}")));
            }
            let keys = x.counter(&Dim::from(most), DType::I64, 0, 1)?;
            looked_up(x, map, keys)?
        }
        other => return Err(Fault::malformed(format!("map_form `{other}` is not known"))),
    };
    Ok(vec![match text::converted(x, row, to)? {
        Some(row) => row,
        None => conversion::converted(x, row, to, true)?,
    }])
}
