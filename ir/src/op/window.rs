//! Reductions over a window that moves across the tensor: pooling.
//!
//! Invariant: the window has an extent in every dimension (1 where nothing is pooled), so layouts
//! are no concern of the operation.

use super::elements::{numbers, pack, wide};
use super::places::{strides, walk};
use super::reduction::mean;
use super::typing::{entries, exactly, numeric, positive, window_places};
use super::{OpError, Operation, ReduceFn, Run};
use crate::graph::{Graph, TensorType};
use crate::kernel::number::Number;
use kiln_tensor::{Dim, Tensor};
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
        /// where it does not, which integers refuse.
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let x = inputs[0].sizes();
        let values = numbers(&inputs[0]);
        let own = strides(x);
        let f = if self.f == WindowFn::Max { ReduceFn::Max } else { ReduceFn::Sum };
        let mut results = Vec::with_capacity(sizes.iter().product());
        walk(&sizes, |at| {
            let (mut result, mut inside, mut total) = (Number::neutral(f, wide(dtype)), 0, 0);
            walk(&self.window, |element| {
                total += 1;
                let mut offset = Some(0usize);
                for number in 0..x.len() {
                    let reach = at[number] * self.strides[number];
                    let reach = reach + element[number] * self.dilations[number];
                    let place = (reach as i64).saturating_sub(self.before[number]);
                    let place = usize::try_from(place).ok().filter(|&place| place < x[number]);
                    offset =
                        offset.zip(place).map(|(sum, place)| sum + place * own[number] as usize);
                }
                if let Some(offset) = offset {
                    inside += 1;
                    result = Number::combine(f, result, values[offset], wide(dtype));
                }
                Ok::<(), OpError>(())
            })?;
            results.push(match self.f {
                WindowFn::Mean { count_padding: true } => mean(result, total)?,
                WindowFn::Mean { count_padding: false } => mean(result, inside)?,
                WindowFn::Max | WindowFn::Sum => result,
            });
            Ok::<(), OpError>(())
        })?;
        Ok(vec![pack(dtype, sizes, results)?])
    }
}
