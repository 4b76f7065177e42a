//! Softmax and normalisation: a reduction and a map over the same elements.
//!
//! Invariant: the result has the type of the first operand.

use super::typing::{axis, between, equal_types, exactly, float};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use serde::{Deserialize, Serialize};

/// `x → exp(x − max x)/Σ exp(x − max x)` along `axis`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Softmax {
    /// The dimension that sums to 1.
    pub axis: usize,
}

impl Operation for Softmax {
    const NAME: &'static str = "Softmax";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        axis(self.axis, x)?;
        float(x, "the operand")?;
        Ok(vec![TensorType::clone(x)])
    }
}

/// `x[, scale[, bias]] → (x − mean)/√(variance + epsilon)·scale + bias` over the dimensions from
/// `axis` to the last (layer normalisation); without centring, `x/√(mean(x²) + epsilon)` (RMS
/// normalisation). `scale` and `bias` have exactly the normalised dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalize {
    /// The first normalised dimension.
    pub axis: usize,
    /// What is added to the variance.
    pub epsilon: f64,
    /// Whether the mean is taken off.
    pub center: bool,
}

impl Operation for Normalize {
    const NAME: &'static str = "Normalize";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        between(inputs, 1, 3)?;
        let x = inputs[0];
        axis(self.axis, x)?;
        float(x, "the operand")?;
        let expected = TensorType::new(x.dtype, x.shape[self.axis..].to_vec());
        for (operand, what) in inputs[1..].iter().zip(["scale", "bias"]) {
            let what = format!("{what} must have the normalised dimensions of {x}");
            equal_types(operand, &expected, &what)?;
        }
        Ok(vec![TensorType::clone(x)])
    }
}
