//! Tensors as plain numbers for the reference evaluation, and back.
//!
//! Invariant: a result is rounded to its element type here, once, and nowhere before.

use super::OpError;
use crate::kernel::number::Number;
use kiln_tensor::{DType, Tensor};

/// The most elements that the reference evaluation makes for one value: it is meant for tests
/// and constants, and must not exhaust memory on hostile sizes.
pub(super) const MOST_ELEMENTS: usize = 1 << 28;

/// The elements in row-major order.
pub(super) fn numbers(tensor: &Tensor) -> Vec<Number> {
    let dtype = tensor.dtype();
    let chunks = tensor.bytes().chunks_exact(dtype.size());
    chunks.filter_map(|bytes| Number::load(dtype, bytes)).collect()
}

/// A tensor of numbers in row-major order.
pub(super) fn pack(
    dtype: DType,
    sizes: Vec<usize>,
    numbers: impl IntoIterator<Item = Number>,
) -> Result<Tensor, OpError> {
    let mut bytes = Vec::with_capacity(Tensor::byte_length(dtype, &sizes)?);
    numbers.into_iter().for_each(|number| number.append(dtype, &mut bytes));
    Ok(Tensor::from_bytes(dtype, sizes, &bytes)?)
}

/// A tensor of real numbers in row-major order.
pub(super) fn pack_floats(
    dtype: DType,
    sizes: Vec<usize>,
    values: &[f64],
) -> Result<Tensor, OpError> {
    pack(dtype, sizes, values.iter().map(|&value| Number::Float(value)))
}

/// A tensor of integers modulo 2⁶⁴, wrapped to the type.
pub(super) fn pack_integers(
    dtype: DType,
    sizes: Vec<usize>,
    values: &[i64],
) -> Result<Tensor, OpError> {
    pack(dtype, sizes, values.iter().map(|&value| Number::Int(i128::from(value))))
}

/// The type in which intermediate results are kept: floats unrounded, integers as they are.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype.is_float() { DType::F64 } else { dtype }
}

/// Index elements as places in a dimension of `size`; negative ones count from its end.
pub(super) fn indices(tensor: &Tensor, size: usize) -> Result<Vec<usize>, OpError> {
    tensor.to_i64().into_iter().map(|index| place(index, size)).collect()
}

/// One index as a place in a dimension of `size`; a negative one counts from its end.
pub(super) fn place(index: i64, size: usize) -> Result<usize, OpError> {
    let from_start = if index < 0 { index.checked_add_unsigned(size as u64) } else { Some(index) };
    from_start
        .and_then(|place| usize::try_from(place).ok())
        .filter(|&place| place < size)
        .ok_or_else(|| OpError::new(format!("index {index} is outside of a dimension of {size}")))
}
