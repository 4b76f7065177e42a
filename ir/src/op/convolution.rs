//! Convolution and its transpose, over any number of spatial dimensions.
//!
//! Invariant: like most of the field, these correlate (the filter is not flipped); a bias is
//! added by an operation of its own.

use super::typing::{
    entries, equal_dims, exactly, float, positive, rank, same_element, window_places,
};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};

/// Where the channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConvLayout {
    /// `x [N, C, spatial…]`, `w [M, C/groups, spatial…]`, result `[N, M, spatial…]`.
    ChannelsFirst,
    /// `x [N, spatial…, C]`, `w [spatial…, C/groups, M]`, result `[N, spatial…, M]`.
    ChannelsLast,
}

/// `x, w →` the convolution of `x` with the filters `w`. A spatial size becomes
/// `⌊(size + before + after − dilation·(filter − 1) − 1)/stride⌋ + 1`; padding counts as 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv {
    /// Distance between places of the filter, for every spatial dimension.
    pub strides: Vec<usize>,
    /// Distance between elements of the filter, for every spatial dimension.
    pub dilations: Vec<usize>,
    /// Padding before the first element, for every spatial dimension; negative crops.
    pub before: Vec<i64>,
    /// Padding after the last element, for every spatial dimension; negative crops.
    pub after: Vec<i64>,
    /// Into how many groups channels are split; an output sees its own group's inputs.
    pub groups: usize,
    /// Where the channels are.
    pub layout: ConvLayout,
}

impl Operation for Conv {
    const NAME: &'static str = "Conv";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x, w] = exactly(inputs)?;
        let spatial = operands(x, w)?;
        for (length, what) in [
            (self.strides.len(), "strides"),
            (self.dilations.len(), "dilations"),
            (self.before.len(), "before"),
            (self.after.len(), "after"),
        ] {
            entries(length, spatial, what)?;
        }
        positive(&self.strides, "strides")?;
        positive(&self.dilations, "dilations")?;
        let first = self.layout == ConvLayout::ChannelsFirst;
        let (channels, sizes) = if first {
            (&x.shape[1], &x.shape[2..])
        } else {
            (&x.shape[spatial + 1], &x.shape[1..spatial + 1])
        };
        let (filters, depth, window) = if first {
            (&w.shape[0], &w.shape[1], &w.shape[2..])
        } else {
            (&w.shape[spatial + 1], &w.shape[spatial], &w.shape[..spatial])
        };
        grouped(filters, self.groups, "filters")?;
        let expected = depth.clone() * Dim::from(self.groups);
        let what = format!("channels of {x} and {w} in {} groups", self.groups);
        equal_dims(channels, &expected, &what)?;
        let places = (0..spatial).map(|number| {
            let padding = (self.before[number], self.after[number]);
            let (stride, dilation) = (self.strides[number], self.dilations[number]);
            window_places(&sizes[number], &window[number], stride, dilation, padding)
        });
        let places = places.collect::<Result<Vec<Dim>, _>>()?;
        let (batch, filters) = ([x.shape[0].clone()], [filters.clone()]);
        let shape = if first {
            [&batch[..], &filters, &places].concat()
        } else {
            [&batch[..], &places, &filters].concat()
        };
        Ok(vec![TensorType::new(x.dtype, shape)])
    }
}

/// `x [N, C, spatial…], w [C, M/groups, spatial…] → [N, M, spatial…]`: the transpose of the
/// convolution that `w` defines. A spatial size becomes
/// `stride·(size − 1) + dilation·(filter − 1) + 1 + output_padding − before − after`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvTranspose {
    /// Distance between where inputs land, for every spatial dimension.
    pub strides: Vec<usize>,
    /// Distance between elements of the filter, for every spatial dimension.
    pub dilations: Vec<usize>,
    /// What is cut off before, for every spatial dimension.
    pub before: Vec<i64>,
    /// What is cut off after, for every spatial dimension.
    pub after: Vec<i64>,
    /// What the result is longer by at the end, for every spatial dimension.
    pub output_padding: Vec<usize>,
    /// Into how many groups channels are split.
    pub groups: usize,
}

impl Operation for ConvTranspose {
    const NAME: &'static str = "ConvTranspose";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x, w] = exactly(inputs)?;
        let spatial = operands(x, w)?;
        for (length, what) in [
            (self.strides.len(), "strides"),
            (self.dilations.len(), "dilations"),
            (self.before.len(), "before"),
            (self.after.len(), "after"),
            (self.output_padding.len(), "output_padding"),
        ] {
            entries(length, spatial, what)?;
        }
        positive(&self.strides, "strides")?;
        positive(&self.dilations, "dilations")?;
        grouped(&x.shape[1], self.groups, "channels")?;
        equal_dims(&x.shape[1], &w.shape[0], &format!("channels of {x} and {w}"))?;
        let one = Dim::from(1i64);
        let mut shape = vec![x.shape[0].clone(), w.shape[1].clone() * Dim::from(self.groups)];
        for number in 0..spatial {
            let size = &x.shape[number + 2];
            let reach = (size.clone() - one.clone()) * Dim::from(self.strides[number]);
            let filter = &w.shape[number + 2];
            let extent = (filter.clone() - one.clone()) * Dim::from(self.dilations[number]);
            let more = Dim::from(self.output_padding[number]) + one.clone();
            let cut = Dim::from(self.before[number]) + Dim::from(self.after[number]);
            let result = reach + extent + more - cut;
            if result.as_const().is_some_and(|size| size < 0) {
                return Err(OpError::new(format!(
                    "spatial dimension {number} of {x} with {w} would have size {result}"
                )));
            }
            shape.push(result);
        }
        Ok(vec![TensorType::new(x.dtype, shape)])
    }
}

/// The number of spatial dimensions of matching operands.
fn operands(x: &TensorType, w: &TensorType) -> Result<usize, OpError> {
    same_element(x, w)?;
    float(x, "the operand")?;
    rank(w, x.rank(), "the filter")?;
    x.rank().checked_sub(2).filter(|&spatial| spatial > 0).ok_or_else(|| {
        OpError::new(format!("the operand must have batch, channels and spatial dimensions: {x}"))
    })
}

/// An error unless `groups` divides the number.
fn grouped(number: &Dim, groups: usize, what: &str) -> Result<(), OpError> {
    let groups = Dim::from(groups);
    if groups.is(0) || number.exact_div(&groups).is_none() {
        return Err(OpError::new(format!("{number} {what} do not split into {groups} groups")));
    }
    Ok(())
}
