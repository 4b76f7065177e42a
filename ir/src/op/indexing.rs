//! Operations that read or write where index tensors say.
//!
//! Invariant: indices are `i32` or `i64`, and a negative index counts from the end; one outside
//! the dimension is an error when the model runs.

use super::typing::{axis, equal_dims, equal_shapes, equal_types, exactly, index, numeric};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};

/// `data, indices → data.take(indices, axis)`: the dimensions of `indices` in place of `axis`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gather {
    /// The indexed dimension.
    pub axis: usize,
}

impl Operation for Gather {
    const NAME: &'static str = "Gather";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [data, indices] = exactly(inputs)?;
        axis(self.axis, data)?;
        index(indices, "the index operand")?;
        let (outer, inner) = data.shape.split_at(self.axis);
        let shape = [outer, &indices.shape, &inner[1..]].concat();
        Ok(vec![TensorType::new(data.dtype, shape)])
    }
}

/// `data, indices →` for every place in `indices`, the element of `data` at that place with the
/// index instead of its coordinate along `axis`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatherElements {
    /// The indexed dimension.
    pub axis: usize,
}

impl Operation for GatherElements {
    const NAME: &'static str = "GatherElements";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [data, indices] = exactly(inputs)?;
        axis(self.axis, data)?;
        index(indices, "the index operand")?;
        inside(data, indices, self.axis)?;
        Ok(vec![TensorType::new(data.dtype, indices.shape.clone())])
    }
}

/// `data, indices → `: the last dimension of `indices` holds tuples that index the dimensions of
/// `data` after the first `batch_dims`, which both share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatherNd {
    /// How many leading dimensions both operands share.
    pub batch_dims: usize,
}

impl Operation for GatherNd {
    const NAME: &'static str = "GatherNd";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [data, indices] = exactly(inputs)?;
        index(indices, "the index operand")?;
        let depth = tuple_length(data, indices, self.batch_dims)?;
        let what = format!("{data} and {indices} must share their batch dimensions");
        equal_shapes(&data.shape[..self.batch_dims], &indices.shape[..self.batch_dims], &what)?;
        let tuples = &indices.shape[..indices.rank() - 1];
        let shape = [tuples, &data.shape[self.batch_dims + depth..]].concat();
        Ok(vec![TensorType::new(data.dtype, shape)])
    }
}

/// How an update meets what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScatterReduction {
    /// It replaces it; of several updates for one place, the last counts.
    None,
    /// The sum.
    Add,
    /// The product.
    Mul,
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

/// `data, indices, updates → data` with, for every place in `indices`, the update of that place
/// put in at that place with the index instead of its coordinate along `axis`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScatterElements {
    /// The indexed dimension.
    pub axis: usize,
    /// How an update meets what is there.
    pub reduction: ScatterReduction,
}

impl Operation for ScatterElements {
    const NAME: &'static str = "ScatterElements";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [data, indices, updates] = exactly(inputs)?;
        axis(self.axis, data)?;
        index(indices, "the index operand")?;
        inside(data, indices, self.axis)?;
        let expected = TensorType::new(data.dtype, indices.shape.clone());
        equal_types(&expected, updates, "the updates must have the shape of the indices")?;
        reducible(data, self.reduction)?;
        Ok(vec![TensorType::clone(data)])
    }
}

/// `data, indices, updates → data` with slices put in where the tuples in the last dimension of
/// `indices` say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScatterNd {
    /// How an update meets what is there.
    pub reduction: ScatterReduction,
}

impl Operation for ScatterNd {
    const NAME: &'static str = "ScatterNd";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [data, indices, updates] = exactly(inputs)?;
        index(indices, "the index operand")?;
        let depth = tuple_length(data, indices, 0)?;
        let tuples = &indices.shape[..indices.rank() - 1];
        let shape: Vec<Dim> = [tuples, &data.shape[depth..]].concat();
        let expected = TensorType::new(data.dtype, shape);
        equal_types(&expected, updates, "the updates must be one slice for each tuple")?;
        reducible(data, self.reduction)?;
        Ok(vec![TensorType::clone(data)])
    }
}

/// An error unless `indices` has the rank of `data` and, apart from `axis`, is no larger.
fn inside(data: &TensorType, indices: &TensorType, axis: usize) -> Result<(), OpError> {
    super::typing::rank(indices, data.rank(), "the index operand")?;
    for (number, (size, count)) in data.shape.iter().zip(&indices.shape).enumerate() {
        let spare = (size.clone() - count.clone()).as_const();
        if number != axis && spare.is_none_or(|spare| spare < 0) {
            let what = format!("{indices} must not be larger than {data} in dimension {number}");
            return equal_dims(count, size, &what);
        }
    }
    Ok(())
}

/// How many dimensions of `data` an index tuple covers.
fn tuple_length(
    data: &TensorType,
    indices: &TensorType,
    batch_dims: usize,
) -> Result<usize, OpError> {
    let length = indices.shape.last().and_then(Dim::as_const);
    let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(|| {
        OpError::new(format!("the last dimension of {indices} must be the constant tuple length"))
    })?;
    if batch_dims >= indices.rank() || batch_dims.saturating_add(length) > data.rank() {
        return Err(OpError::new(format!(
            "tuples of {length} after {batch_dims} batch dimensions in {indices} do not fit {data}"
        )));
    }
    Ok(length)
}

fn reducible(data: &TensorType, reduction: ScatterReduction) -> Result<(), OpError> {
    if reduction == ScatterReduction::None { Ok(()) } else { numeric(data, "the data") }
}
