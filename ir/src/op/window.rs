//! Reductions over a window that moves across the tensor: pooling.
//!
//! Invariant: the window has an extent in every dimension (1 where nothing is pooled), so layouts
//! are no concern of the operation.

use super::typing::{entries, exactly, numeric, positive, window_places};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};

/// How the elements of a window are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowFn {
    /// The largest; NaN if one is NaN; padding counts as −∞ or the least integer.
    Max,
    /// The sum; padding counts as 0.
    Sum,
    /// The mean; padding counts as 0.
    Mean {
        /// Whether padding counts in the divisor. A window of nothing but padding gives NaN
        /// where it does not.
        count_padding: bool,
    },
}

/// `x →` the combined elements of each place of the window. The size of a dimension becomes
/// `⌊(size + before + after − dilation·(window − 1) − 1)/stride⌋ + 1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowReduce {
    /// How elements are combined.
    pub f: WindowFn,
    /// Elements of the window, for every dimension.
    pub window: Vec<usize>,
    /// Distance between places of the window, for every dimension.
    pub strides: Vec<usize>,
    /// Distance between elements of the window, for every dimension.
    pub dilations: Vec<usize>,
    /// Padding before the first element, for every dimension; negative crops.
    pub before: Vec<i64>,
    /// Padding after the last element, for every dimension; negative crops.
    pub after: Vec<i64>,
}

impl Operation for WindowReduce {
    const NAME: &'static str = "WindowReduce";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        numeric(x, "the operand")?;
        for (length, what) in [
            (self.window.len(), "window"),
            (self.strides.len(), "strides"),
            (self.dilations.len(), "dilations"),
            (self.before.len(), "before"),
            (self.after.len(), "after"),
        ] {
            entries(length, x.rank(), what)?;
        }
        positive(&self.window, "window")?;
        positive(&self.strides, "strides")?;
        positive(&self.dilations, "dilations")?;
        let shape = (0..x.rank()).map(|number| {
            window_places(
                &x.shape[number],
                &Dim::from(self.window[number]),
                self.strides[number],
                self.dilations[number],
                (self.before[number], self.after[number]),
            )
        });
        Ok(vec![TensorType::new(x.dtype, shape.collect::<Result<_, _>>()?)])
    }
}
