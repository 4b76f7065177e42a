//! Attributes that hold what a model was trained to.
//!
//! Invariant: a list that is not given is empty.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use crate::resolve::Attribute;
use kiln_tensor::{DType, Dim, Tensor};

/// Whole numbers.
pub(super) fn integers(x: &Use<'_, '_, '_>, name: &str) -> Result<Vec<i64>, Fault> {
    Ok(x.ints(name)?.map(<[i64]>::to_vec).unwrap_or_default())
}

/// Numbers, as a list or, by the name with `_as_tensor`, as a tensor.
pub(super) fn numbers(x: &Use<'_, '_, '_>, name: &str) -> Result<Vec<f64>, Fault> {
    if let Some(values) = x.floats(name)? {
        return Ok(values.iter().map(|&value| f64::from(value)).collect());
    }
    let tensor = tensor(x, &format!("{name}_as_tensor"))?;
    Ok(tensor.map(|tensor| tensor.to_f64()).unwrap_or_default())
}

/// A tensor, if it is given.
pub(super) fn tensor(x: &Use<'_, '_, '_>, name: &str) -> Result<Option<Tensor>, Fault> {
    match x.attribute(name) {
        None => Ok(None),
        Some(Attribute::Tensor(tensor)) => {
            let tensor = x.importer.model.tensor(tensor);
            tensor.map(Some).map_err(|error| Fault::unsupported(error.to_string(), error.help()))
        }
        Some(other) => {
            let name_of = other.type_name();
            Err(Fault::malformed(format!("attribute `{name}` is {name_of}, not a tensor")))
        }
    }
}

/// An error unless lists are as long as the first.
pub(super) fn alike(lengths: &[usize], what: &str) -> Result<(), Fault> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(Fault::malformed(format!("the attributes of {what} differ in length: {lengths:?}")))
}

/// Elements that a table may have which is laid out from shorter lists.
const MOST_ELEMENTS: usize = 1 << 26;

/// The number of elements of a table; an error if it is absurdly large.
pub(super) fn area(rows: usize, columns: usize) -> Result<usize, Fault> {
    let elements = rows.checked_mul(columns).filter(|&elements| elements <= MOST_ELEMENTS);
    elements.ok_or_else(|| {
        let message = format!("a table of {rows} by {columns} is more than is laid out");
        Fault::unsupported(message, "split the model into several")
    })
}

/// A constant of numbers.
pub(super) fn table(
    x: &mut Use<'_, '_, '_>,
    dtype: DType,
    sizes: Vec<usize>,
    values: &[f64],
) -> Result<V, Fault> {
    let tensor = Tensor::from_f64(dtype, sizes, values);
    Ok(x.constant(tensor.map_err(|error| Fault::malformed(error.to_string()))?))
}

/// A constant of strings.
pub(super) fn texts(x: &mut Use<'_, '_, '_>, values: &[String]) -> Result<V, Fault> {
    let tensor = Tensor::from_strings(vec![values.len()], values);
    Ok(x.constant(tensor.map_err(|error| Fault::malformed(error.to_string()))?))
}

/// A constant of the strings of one attribute or, without any, the whole numbers of another.
pub(super) fn either(x: &mut Use<'_, '_, '_>, strings: &str, ints: &str) -> Result<V, Fault> {
    let strings = x.strings(strings)?;
    if !strings.is_empty() {
        return texts(x, &strings);
    }
    let ints = integers(x, ints)?;
    places(x, &ints)
}

/// A constant of whole numbers.
pub(super) fn places(x: &mut Use<'_, '_, '_>, values: &[i64]) -> Result<V, Fault> {
    let tensor = Tensor::from_slice(vec![values.len()], values);
    Ok(x.constant(tensor.map_err(|error| Fault::malformed(error.to_string()))?))
}

/// The operand as rows of features in a floating-point type, which is f32 unless it is f64 and
/// that may stay; a vector is one row.
pub(super) fn rows(x: &mut Use<'_, '_, '_>, double: bool) -> Result<V, Fault> {
    let operand = x.input(0)?;
    let mut shape = x.shape(operand);
    if shape.len() == 1 {
        shape.insert(0, Dim::from(1i64));
    }
    if shape.len() != 2 {
        let ty = x.ty(operand);
        let message = format!("the operand must be rows of features, but is {ty}");
        return Err(Fault::malformed(message));
    }
    let matrix = x.reshape(operand, shape)?;
    let keep = double && x.dtype(operand) == DType::F64;
    x.cast(matrix, if keep { DType::F64 } else { DType::F32 })
}
