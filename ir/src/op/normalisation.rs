//! Softmax and normalisation: a reduction and a map over the same elements.
//!
//! Invariant: the result has the type of the first operand.

use super::elements::pack_floats;
use super::typing::{axis, between, equal_types, exactly, float};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use crate::kernel::number::Number;
use kiln_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// `x → exp(x − max x)/Σ exp(x − max x)` along `axis`. Halves are rounded after each of the steps, as
/// if each were an operation of its own.
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let mut values = inputs[0].to_f64();
        let size = sizes[self.axis];
        let stride: usize = sizes[self.axis + 1..].iter().product();
        let outer: usize = sizes[..self.axis].iter().product();
        for first in (0..outer).flat_map(|o| (0..stride).map(move |i| o * size * stride + i)) {
            let mut lane: Vec<f64> = (0..size).map(|at| values[first + at * stride]).collect();
            softmax(&mut lane, dtype);
            lane.into_iter()
                .enumerate()
                .for_each(|(at, value)| values[first + at * stride] = value);
        }
        Ok(vec![pack_floats(dtype, sizes, &values)?])
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let mut values = inputs[0].to_f64();
        let count: usize = sizes[self.axis..].iter().product();
        let scale = inputs.get(1).map_or(vec![1.0; count], Tensor::to_f64);
        let bias = inputs.get(2).map_or(vec![0.0; count], Tensor::to_f64);
        for lane in values.chunks_mut(count.max(1)) {
            let mean = if self.center { lane.iter().sum::<f64>() / count as f64 } else { 0.0 };
            let variance = lane.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count as f64;
            let deviation = (variance + self.epsilon).sqrt();
            for (x, (scale, bias)) in lane.iter_mut().zip(scale.iter().zip(&bias)) {
                *x = (*x - mean) / deviation * scale + bias;
            }
        }
        Ok(vec![pack_floats(dtype, sizes, &values)?])
    }
}

/// Replaces numbers by their softmax, each step rounded to a type if that is a half. The maximum is
/// taken off first, so nothing overflows.
pub(super) fn softmax(lane: &mut [f64], dtype: DType) {
    let rounded = |x: f64| match dtype {
        DType::F16 | DType::BF16 => Number::Float(x).rounded(dtype).float(),
        _ => x,
    };
    let most = lane.iter().fold(f64::NEG_INFINITY, |most, &x| if x > most { x } else { most });
    lane.iter_mut().for_each(|x| *x = rounded(rounded(*x - most).exp()));
    let sum = rounded(lane.iter().sum());
    lane.iter_mut().for_each(|x| *x /= sum);
}
