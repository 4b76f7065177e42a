//! Interpolation onto another grid, with ONNX's variants of it.
//!
//! Invariant: the result's sizes are given, never derived from scales here; scales only say
//! where samples are taken.

use super::typing::{entries, exactly, float, numeric};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};

/// Which neighbour `Nearest` takes at a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NearestMode {
    /// The nearer; the lower at a half.
    RoundPreferFloor,
    /// The nearer; the upper at a half.
    RoundPreferCeil,
    /// The lower.
    Floor,
    /// The upper.
    Ceil,
}

/// How samples are combined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResizeMode {
    /// One neighbour.
    Nearest(NearestMode),
    /// Two neighbours a dimension, by distance.
    Linear,
    /// Four neighbours a dimension, by Keys' cubic.
    Cubic {
        /// The cubic's coefficient, usually −0.5 or −0.75.
        a: f64,
        /// Whether neighbours outside of the tensor have weight 0 (and the others are scaled up)
        /// instead of being the border element.
        exclude_outside: bool,
    },
}

/// The coordinate of the operand, `x`, for coordinate `i` of the result, where `scale` is result
/// size over operand size, or as the model gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CoordinateMode {
    /// `x = (i + 0.5)/scale − 0.5`.
    HalfPixel,
    /// `HalfPixel` around the centre of the operand even if `scale` times the size is not whole.
    HalfPixelSymmetric,
    /// `HalfPixel`, or 0 if the result has size 1.
    PytorchHalfPixel,
    /// `x = i·(size − 1)/(result − 1)`, or 0 if the result has size 1.
    AlignCorners,
    /// `x = i/scale`.
    Asymmetric,
    /// Over a part of the operand, given as fractions of `size − 1`; coordinates outside of the
    /// operand give the extrapolation value.
    TfCropAndResize {
        /// Where the part begins, for every dimension.
        start: Vec<f64>,
        /// Where the part ends, for every dimension.
        end: Vec<f64>,
    },
}

/// `x → x` sampled on a grid of `sizes`, in every dimension (a dimension whose size and scale
/// do not change is left alone).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// The shape of the result.
    pub sizes: Vec<Dim>,
    /// Scales as the model gave them, for every dimension; otherwise result size over size.
    pub scales: Option<Vec<f64>>,
    /// How samples are combined.
    pub mode: ResizeMode,
    /// Where samples are taken.
    pub coordinates: CoordinateMode,
    /// Whether the filter is stretched when the result is smaller; not for `Nearest`.
    pub antialias: bool,
    /// What lies outside for `TfCropAndResize`.
    pub extrapolation: f64,
}

impl Operation for Resize {
    const NAME: &'static str = "Resize";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        if matches!(self.mode, ResizeMode::Nearest(_)) {
            numeric(x, "the operand")?;
        } else {
            float(x, "the operand of an interpolation")?;
        }
        entries(self.sizes.len(), x.rank(), "sizes")?;
        if let Some(scales) = &self.scales {
            entries(scales.len(), x.rank(), "scales")?;
            if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
                return Err(OpError::new(format!("scales must be positive: {scales:?}")));
            }
        }
        if let CoordinateMode::TfCropAndResize { start, end } = &self.coordinates {
            entries(start.len(), x.rank(), "start")?;
            entries(end.len(), x.rank(), "end")?;
        }
        for (size, dim) in self.sizes.iter().zip(&x.shape) {
            if dim.is(0) && !size.is(0) {
                return Err(OpError::new(format!("{x} has no elements to take samples of")));
            }
        }
        Ok(vec![TensorType::new(x.dtype, self.sizes.clone())])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.sizes.iter_mut().collect()
    }
}
