//! Convolution and its transpose, over any number of spatial dimensions.
//!
//! Invariant: like most of the field, these correlate (the filter is not flipped); a bias is
//! added by an operation of its own.

use super::contraction::{Ring, matrix_product};
use super::elements::{pack_floats, pack_integers};
use super::places::{gathered, strides, walk};
use super::typing::{
    entries, equal_dims, exactly, float, numeric, positive, rank, same_element, window_places,
};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{Dim, Tensor};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::num::Wrapping;

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
/// Operands and result have one element type; integers wrap.
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
        numeric(x, "the operand")?;
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let operands = [inputs[0].sizes(), inputs[1].sizes()];
        if dtype.is_float() {
            let (x, w) = (inputs[0].to_f64(), inputs[1].to_f64());
            let result = self.in_layout([&x, &w], operands, &sizes);
            return Ok(vec![pack_floats(dtype, sizes, &result)?]);
        }
        // Sums and products modulo 2⁶⁴ are right modulo any smaller power of two.
        let [x, w] = [0, 1].map(|number| inputs[number].to_i64().into_iter().map(Wrapping));
        let (x, w): (Vec<_>, Vec<_>) = (x.collect(), w.collect());
        let result = self.in_layout([&x, &w], operands, &sizes);
        let result: Vec<i64> = result.into_iter().map(|sum| sum.0).collect();
        Ok(vec![pack_integers(dtype, sizes, &result)?])
    }
}

impl Conv {
    /// The convolution with channels where the layout has them.
    fn in_layout<T: Ring>(
        &self,
        [x, w]: [&[T]; 2],
        [x_sizes, w_sizes]: [&[usize]; 2],
        sizes: &[usize],
    ) -> Vec<T> {
        if self.layout == ConvLayout::ChannelsFirst {
            return self.convolve((x, x_sizes), (w, w_sizes), sizes);
        }
        let spatial = sizes.len() - 2;
        // The same with the channels first.
        let to_first: Vec<usize> =
            [&[0, spatial + 1][..], &(1..=spatial).collect::<Vec<_>>()].concat();
        let from_first: Vec<usize> =
            [&[0][..], &(2..spatial + 2).collect::<Vec<_>>(), &[1]].concat();
        let filter: Vec<usize> =
            [&[spatial + 1, spatial][..], &(0..spatial).collect::<Vec<_>>()].concat();
        let (x, x_sizes) = permuted(x, x_sizes, &to_first);
        let (w, w_sizes) = permuted(w, w_sizes, &filter);
        let first_sizes: Vec<usize> = to_first.iter().map(|&from| sizes[from]).collect();
        let result = self.convolve((&x, &x_sizes), (&w, &w_sizes), &first_sizes);
        permuted(&result, &first_sizes, &from_first).0
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
        float(x, "the operand")?;
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let (x, w) = (inputs[0].to_f64(), inputs[1].to_f64());
        let (x_sizes, w_sizes) = (inputs[0].sizes(), inputs[1].sizes());
        let (channels, filters) = (x_sizes[1], w_sizes[1]);
        let (x_plane, w_plane, plane): (usize, usize, usize) = (
            x_sizes[2..].iter().product(),
            w_sizes[2..].iter().product(),
            sizes[2..].iter().product(),
        );
        let landings = self.landings(&x_sizes[2..], &w_sizes[2..], &sizes[2..]);
        let mut result = vec![0.0; sizes.iter().product()];
        for (batch, channel) in (0..x_sizes[0]).flat_map(|b| (0..channels).map(move |c| (b, c))) {
            let group = channel / (channels / self.groups);
            let x = &x[(batch * channels + channel) * x_plane..][..x_plane];
            for filter in 0..filters {
                let w = &w[(channel * filters + filter) * w_plane..][..w_plane];
                let out = (batch * self.groups + group) * filters + filter;
                let out = &mut result[out * plane..][..plane];
                for &(from, weight, to) in &landings {
                    out[to] += x[from] * w[weight];
                }
            }
        }
        Ok(vec![pack_floats(dtype, sizes, &result)?])
    }
}

/// The number of spatial dimensions of matching operands.
fn operands(x: &TensorType, w: &TensorType) -> Result<usize, OpError> {
    same_element(x, w)?;
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

impl Conv {
    /// Channels-first convolution: columns of operand elements under the filter, a block of places
    /// at a time, multiplied with the filters as a matrix.
    fn convolve<T: Ring>(
        &self,
        (x, x_sizes): (&[T], &[usize]),
        (w, w_sizes): (&[T], &[usize]),
        sizes: &[usize],
    ) -> Vec<T> {
        const BLOCK: usize = 1024;
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut elements: Vec<Vec<usize>> = Vec::new();
        let collect = |sizes: &[usize], to: &mut Vec<Vec<usize>>| {
            walk(sizes, |at| {
                to.push(at.to_vec());
                Ok::<(), Infallible>(())
            })
        };
        let (Ok(()), Ok(())) =
            (collect(&sizes[2..], &mut places), collect(&w_sizes[2..], &mut elements));
        let (channels, depth, filters) = (x_sizes[1], w_sizes[1], w_sizes[0]);
        let per_group = filters / self.groups;
        let (plane, rows) = (x_sizes[2..].iter().product::<usize>(), depth * elements.len());
        let mut result = vec![T::default(); sizes.iter().product()];
        for (batch, group) in (0..x_sizes[0]).flat_map(|b| (0..self.groups).map(move |g| (b, g))) {
            let x = &x[(batch * channels + group * depth) * plane..][..depth * plane];
            let w = &w[group * per_group * rows..][..per_group * rows];
            for (block, places_here) in places.chunks(BLOCK).enumerate() {
                let mut columns = Vec::with_capacity(rows * places_here.len());
                for channel in x.chunks(plane.max(1)).take(depth) {
                    for element in &elements {
                        columns.extend(places_here.iter().map(|place| {
                            let under = self.under(place, element, &x_sizes[2..]);
                            under.map_or(T::default(), |offset| channel[offset])
                        }));
                    }
                }
                // A crop can leave nothing of the operand under any filter.
                columns.resize(rows * places_here.len(), T::default());
                let count = places_here.len();
                let mut sums = vec![T::default(); per_group * count];
                matrix_product((per_group, rows, count), w, &columns, &mut sums);
                for (filter, sums) in sums.chunks(count).enumerate() {
                    let out = (batch * filters + group * per_group + filter) * places.len();
                    result[out + block * BLOCK..][..count].copy_from_slice(sums);
                }
            }
        }
        result
    }

    /// The offset in a channel of what lies under an element of the filter; `None` in padding.
    fn under(&self, place: &[usize], element: &[usize], sizes: &[usize]) -> Option<usize> {
        let mut offset = 0;
        for number in 0..sizes.len() {
            let reach = place[number] * self.strides[number];
            let reach = reach + element[number] * self.dilations[number];
            let at = usize::try_from((reach as i64).saturating_sub(self.before[number])).ok()?;
            offset = offset * sizes[number] + (at < sizes[number]).then_some(at)?;
        }
        Some(offset)
    }
}

impl ConvTranspose {
    /// For every element of a channel and of a filter, where in the result their product lands:
    /// offsets in the channel, the filter and the result.
    fn landings(
        &self,
        x_sizes: &[usize],
        w_sizes: &[usize],
        sizes: &[usize],
    ) -> Vec<(usize, usize, usize)> {
        let both = [x_sizes, w_sizes].concat();
        let spatial = sizes.len();
        let (mut number, mut landings) = (0, Vec::new());
        let plane: usize = w_sizes.iter().product();
        let walked = walk(&both, |at| {
            let mut offset = Some(0);
            for dimension in 0..spatial {
                let reach = at[dimension] * self.strides[dimension];
                let reach = reach + at[spatial + dimension] * self.dilations[dimension];
                let place = (reach as i64).saturating_sub(self.before[dimension]);
                let place = usize::try_from(place).ok().filter(|&at| at < sizes[dimension]);
                offset = offset.zip(place).map(|(sum, place)| sum * sizes[dimension] + place);
            }
            landings.extend(offset.map(|offset| (number / plane, number % plane, offset)));
            number += 1;
            Ok::<(), Infallible>(())
        });
        let Ok(()) = walked;
        landings
    }
}

/// The elements with dimensions permuted, and the sizes in that order.
fn permuted<T: Ring>(data: &[T], sizes: &[usize], perm: &[usize]) -> (Vec<T>, Vec<usize>) {
    let own = strides(sizes);
    let strides: Vec<isize> = perm.iter().map(|&from| own[from]).collect();
    let sizes: Vec<usize> = perm.iter().map(|&from| sizes[from]).collect();
    (gathered(data, &sizes, &strides), sizes)
}
