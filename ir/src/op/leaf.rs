//! Operations without operands: constants, sizes, counters.
//!
//! Invariant: their results depend on attributes and symbols alone.

use super::typing::exactly;
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim, Tensor};
use serde::{Deserialize, Serialize};

/// `() → t`: a tensor that is part of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    /// The value.
    #[serde(with = "tensor_form")]
    pub tensor: Tensor,
}

impl Operation for Constant {
    const NAME: &'static str = "Constant";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        exactly::<0>(inputs)?;
        Ok(vec![TensorType::of(&self.tensor)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], run: &Run) -> Result<Vec<Tensor>, OpError> {
        self.result(inputs)?;
        Ok(vec![run.objects().adopt(&self.tensor)?])
    }
}

/// `() → i64[dims.len()]`, or `i64[]` when `scalar`: the values of dimension expressions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SizeOf {
    /// The expressions.
    pub dims: Vec<Dim>,
    /// Whether the result is a scalar; there is one expression then.
    pub scalar: bool,
}

impl Operation for SizeOf {
    const NAME: &'static str = "SizeOf";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        exactly::<0>(inputs)?;
        if !self.scalar {
            return Ok(vec![TensorType::new(DType::I64, vec![Dim::from(self.dims.len())])]);
        }
        if self.dims.len() != 1 {
            return Err(OpError::new(format!(
                "a scalar is one dimension, but {} are given",
                self.dims.len()
            )));
        }
        Ok(vec![TensorType::new(DType::I64, Vec::new())])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.dims.iter_mut().collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        let values = self.dims.iter().map(|dim| {
            dim.as_const().ok_or_else(|| OpError::new(format!("dimension `{dim}` has no value")))
        });
        Ok(vec![Tensor::from_slice(sizes, &values.collect::<Result<Vec<i64>, _>>()?)?])
    }
}

/// `() → i64[length]`: 0, 1, 2 and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Iota {
    /// How many.
    pub length: Dim,
}

impl Operation for Iota {
    const NAME: &'static str = "Iota";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        exactly::<0>(inputs)?;
        Ok(vec![TensorType::new(DType::I64, vec![self.length.clone()])])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        vec![&mut self.length]
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        let values: Vec<i64> = (0..).take(sizes[0]).collect();
        Ok(vec![Tensor::from_slice(sizes, &values)?])
    }
}

/// A tensor as element type, sizes and bytes.
mod tensor_form {
    use kiln_tensor::{DType, Tensor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    struct Form<'a> {
        dtype: DType,
        sizes: std::borrow::Cow<'a, [usize]>,
        bytes: std::borrow::Cow<'a, [u8]>,
    }

    pub(super) fn serialize<S: Serializer>(tensor: &Tensor, to: S) -> Result<S::Ok, S::Error> {
        let (sizes, bytes) = (tensor.sizes().into(), tensor.bytes().into());
        Form { dtype: tensor.dtype(), sizes, bytes }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tensor, D::Error> {
        let form = Form::deserialize(from)?;
        Tensor::from_bytes(form.dtype, form.sizes.into_owned(), &form.bytes)
            .map_err(D::Error::custom)
    }
}
