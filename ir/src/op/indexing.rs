//! Operations that read or write where index tensors say.
//!
//! Invariant: indices are `i32` or `i64`, and a negative index counts from the end; one outside
//! the dimension is an error when the model runs.

use super::elements::{indices, numbers, pack, place, wide};
use super::places::{moved, strides, walk};
use super::typing::{axis, equal_dims, equal_shapes, equal_types, exactly, index, numeric};
use super::{BinaryFn, OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use crate::kernel::number::Number;
use kiln_tensor::{DType, Dim, Tensor};
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let data = &inputs[0];
        let size = data.sizes()[self.axis];
        let chosen = indices(&inputs[1], size)?;
        let block = data.sizes()[self.axis + 1..].iter().product::<usize>() * dtype.size();
        let outer: usize = data.sizes()[..self.axis].iter().product();
        let mut bytes = Vec::with_capacity(Tensor::byte_length(dtype, &sizes)?);
        for number in 0..outer {
            for &index in &chosen {
                bytes.extend_from_slice(&data.bytes()[(number * size + index) * block..][..block]);
            }
        }
        Ok(vec![Tensor::from_bytes(dtype, sizes, &bytes)?])
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        let from = element_places(&inputs[0], &inputs[1], self.axis)?;
        Ok(vec![moved(&inputs[0], sizes, from.into_iter())?])
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let (data, tuples) = (&inputs[0], &inputs[1]);
        let depth = tuples.sizes().last().copied().unwrap_or(0);
        let block = data.sizes()[self.batch_dims + depth..].iter().product::<usize>();
        let (starts, blocks) = (tuple_places(data, tuples, self.batch_dims)?, block * dtype.size());
        let mut bytes = Vec::with_capacity(Tensor::byte_length(dtype, &sizes)?);
        for start in starts {
            bytes.extend_from_slice(&data.bytes()[start * dtype.size()..][..blocks]);
        }
        Ok(vec![Tensor::from_bytes(dtype, sizes, &bytes)?])
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

impl ScatterReduction {
    fn combine(self, old: Number, update: Number, dtype: DType) -> Number {
        let f = match self {
            ScatterReduction::None => return update,
            ScatterReduction::Add => BinaryFn::Add,
            ScatterReduction::Mul => BinaryFn::Mul,
            ScatterReduction::Min => BinaryFn::Min,
            ScatterReduction::Max => BinaryFn::Max,
        };
        Number::binary(f, old, update, wide(dtype))
    }
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let places = element_places(&inputs[0], &inputs[1], self.axis)?;
        let mut data = numbers(&inputs[0]);
        for (place, update) in places.into_iter().zip(numbers(&inputs[2])) {
            data[place] = self.reduction.combine(data[place], update, dtype);
        }
        Ok(vec![pack(dtype, sizes, data)?])
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let depth = inputs[1].sizes().last().copied().unwrap_or(0);
        let block: usize = sizes[depth..].iter().product();
        let (mut data, updates) = (numbers(&inputs[0]), numbers(&inputs[2]));
        for (number, start) in tuple_places(&inputs[0], &inputs[1], 0)?.into_iter().enumerate() {
            for element in 0..block {
                let slot = &mut data[start + element];
                *slot = self.reduction.combine(*slot, updates[number * block + element], dtype);
            }
        }
        Ok(vec![pack(dtype, sizes, data)?])
    }
}

/// An error unless `indices` has the rank of `data` and, apart from `axis`, is no larger.
fn inside(data: &TensorType, indices: &TensorType, axis: usize) -> Result<(), OpError> {
    super::typing::rank(indices, data.rank(), "the index operand")?;
    for (number, (size, count)) in data.shape.iter().zip(&indices.shape).enumerate() {
        let spare = (size.clone() - count.clone()).as_const();
        if number != axis && spare.is_some_and(|spare| spare < 0) {
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

/// For every place in `index`, the offset in `data` with the index for the coordinate of `axis`.
fn element_places(data: &Tensor, index: &Tensor, axis: usize) -> Result<Vec<usize>, OpError> {
    let strides = strides(data.sizes());
    let mut chosen = indices(index, data.sizes()[axis])?.into_iter();
    let mut places = Vec::with_capacity(index.len());
    walk(index.sizes(), |at| {
        let offsets = at.iter().zip(&strides).enumerate();
        let others = offsets.filter(|(number, _)| *number != axis);
        let base: usize = others.map(|(_, (&at, &stride))| at * stride as usize).sum();
        places.extend(chosen.next().map(|index| base + index * strides[axis] as usize));
        Ok::<(), OpError>(())
    })?;
    Ok(places)
}

/// For every tuple of `index`, the offset in `data` of the slice that it names.
fn tuple_places(data: &Tensor, index: &Tensor, batch_dims: usize) -> Result<Vec<usize>, OpError> {
    let strides = strides(data.sizes());
    let (values, rank) = (index.to_i64(), index.sizes().len());
    let depth = index.sizes()[rank - 1];
    let mut tuples = 0..;
    let mut places = Vec::new();
    walk(&index.sizes()[..rank - 1], |at| {
        let batch = at.iter().zip(&strides).take(batch_dims);
        let mut offset: usize = batch.map(|(&at, &stride)| at * stride as usize).sum();
        let first = tuples.next().unwrap_or(0) * depth;
        for number in 0..depth {
            let dimension = batch_dims + number;
            let at = place(values[first + number], data.sizes()[dimension])?;
            offset += at * strides[dimension] as usize;
        }
        places.push(offset);
        Ok::<(), OpError>(())
    })?;
    Ok(places)
}
