//! Interpolation onto another grid, with ONNX's variants of it.
//!
//! Invariant: the result's sizes are given, never derived from scales here; scales only say
//! where samples are taken.

use super::elements::{MOST_ELEMENTS, numbers, pack, pack_floats};
use super::places::{strides, walk};
use super::typing::{entries, exactly, float, numeric};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use crate::kernel::number::Number;
use kiln_tensor::{DType, Dim, Tensor};
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
    /// `x = i·(size − 1)/(scale·size − 1)`, or 0 if the result has size 1: where the scale asks for
    /// a part of an element, the last sample lies short of the last element.
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let x_sizes = inputs[0].sizes();
        let samples = (0..sizes.len()).map(|axis| self.samples(axis, x_sizes[axis], sizes[axis]));
        let samples = samples.collect::<Result<Vec<Vec<Sample>>, _>>()?;
        if !dtype.is_float() {
            // Only `Nearest` is defined on integers: one neighbour of weight 1 a dimension.
            return Ok(vec![self.nearest(&inputs[0], sizes, &samples)?]);
        }
        let mut values = inputs[0].to_f64();
        let mut current = x_sizes.to_vec();
        for (axis, samples) in samples.iter().enumerate() {
            let stride: usize = current[axis + 1..].iter().product();
            let block = current[axis] * stride;
            let mut next = Vec::with_capacity(values.len() / block.max(1) * samples.len() * stride);
            for values in values.chunks(block.max(1)) {
                for sample in samples {
                    next.extend((0..stride).map(|inner| {
                        let Sample::Of(neighbours) = sample else { return self.extrapolation };
                        let terms = neighbours.iter();
                        terms.map(|&(at, weight)| weight * values[at * stride + inner]).sum()
                    }));
                }
            }
            values = next;
            current[axis] = samples.len();
        }
        // Outside along one dimension is outside, whatever the other dimensions made of it.
        if samples.iter().flatten().any(|sample| matches!(sample, Sample::Outside)) {
            let mut slots = values.iter_mut();
            walk(&sizes, |at| {
                let outside = at.iter().zip(&samples).any(|(&at, all)| all[at] == Sample::Outside);
                if let Some(slot) = slots.next().filter(|_| outside) {
                    *slot = self.extrapolation;
                }
                Ok::<(), OpError>(())
            })?;
        }
        Ok(vec![pack_floats(dtype, sizes, &values)?])
    }
}

/// What one coordinate of the result is made of, along one dimension.
#[derive(Clone, Debug, PartialEq)]
enum Sample {
    /// Neighbours and their weights.
    Of(Vec<(usize, f64)>),
    /// The extrapolation value.
    Outside,
}

impl Resize {
    fn nearest(
        &self,
        x: &Tensor,
        sizes: Vec<usize>,
        samples: &[Vec<Sample>],
    ) -> Result<Tensor, OpError> {
        let (all, strides) = (numbers(x), strides(x.sizes()));
        let mut values = Vec::with_capacity(sizes.iter().product());
        walk(&sizes, |at| {
            let mut offset = Some(0);
            for (dimension, &at) in at.iter().enumerate() {
                let neighbour = match &samples[dimension][at] {
                    Sample::Of(neighbours) => neighbours.first().map(|(place, _)| *place),
                    Sample::Outside => None,
                };
                let stride = strides[dimension] as usize;
                offset = offset.zip(neighbour).map(|(sum, place)| sum + place * stride);
            }
            let outside = Number::Float(self.extrapolation).cast(DType::F64, x.dtype());
            values.push(offset.map_or(outside, |offset| all[offset]));
            Ok::<(), OpError>(())
        })?;
        pack(x.dtype(), sizes, values)
    }

    /// The samples of every coordinate of the result along one dimension.
    fn samples(&self, axis: usize, size: usize, result: usize) -> Result<Vec<Sample>, OpError> {
        let given = self.scales.as_ref().map(|scales| scales[axis]);
        let scale = given.unwrap_or(result as f64 / size as f64);
        let whole = !matches!(&self.coordinates, CoordinateMode::TfCropAndResize { start, end }
            if start[axis] != 0.0 || end[axis] != 1.0);
        if size == result && (scale - 1.0).abs() < 1e-9 && whole {
            return Ok((0..size).map(|place| Sample::Of(vec![(place, 1.0)])).collect());
        }
        let each = (0..result).map(|place| {
            let x = self.coordinate(axis, place as f64, (size as f64, result as f64), scale);
            let crop = matches!(self.coordinates, CoordinateMode::TfCropAndResize { .. });
            if !x.is_finite() {
                return Err(OpError::new(format!("coordinate {place} of axis {axis} is {x}")));
            }
            if crop && (x < 0.0 || x > size as f64 - 1.0) {
                return Ok(Sample::Outside);
            }
            Ok(Sample::Of(self.neighbours(x, size, scale)?))
        });
        each.collect()
    }

    /// Where the operand is sampled for coordinate `i` of the result.
    fn coordinate(&self, axis: usize, i: f64, (size, result): (f64, f64), scale: f64) -> f64 {
        // The size that the scale asks for, which may not be whole; one that was derived is.
        let exact = if self.scales.is_some() { scale * size } else { result };
        match &self.coordinates {
            CoordinateMode::HalfPixel => (i + 0.5) / scale - 0.5,
            CoordinateMode::HalfPixelSymmetric => {
                size / 2.0 * (1.0 - result / exact) + (i + 0.5) / scale - 0.5
            }
            CoordinateMode::PytorchHalfPixel if result == 1.0 => 0.0,
            CoordinateMode::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
            CoordinateMode::AlignCorners if result == 1.0 => 0.0,
            CoordinateMode::AlignCorners => i * (size - 1.0) / (exact - 1.0),
            CoordinateMode::Asymmetric => i / scale,
            CoordinateMode::TfCropAndResize { start, end } => {
                let (start, part) = (start[axis], end[axis] - start[axis]);
                let along = if result == 1.0 { 0.5 } else { i / (result - 1.0) };
                (start + part * along) * (size - 1.0)
            }
        }
    }

    /// The neighbours of a coordinate and their weights.
    fn neighbours(&self, x: f64, size: usize, scale: f64) -> Result<Vec<(usize, f64)>, OpError> {
        let clamp = |place: f64| place.clamp(0.0, size as f64 - 1.0) as usize;
        // How far the filter reaches, and by how much it is stretched.
        let stretch = if self.antialias { scale.min(1.0) } else { 1.0 };
        let (reach, exclude) = match self.mode {
            ResizeMode::Nearest(mode) => return Ok(vec![(clamp(mode.nearest(x)), 1.0)]),
            ResizeMode::Linear => (1.0, false),
            ResizeMode::Cubic { exclude_outside, .. } => (2.0, exclude_outside),
        };
        let reach = reach / stretch;
        if reach > MOST_ELEMENTS as f64 {
            return Err(OpError::new(format!("a scale of {scale} is too small")));
        }
        let mut neighbours = Vec::new();
        let (mut place, mut total) = ((x - reach).floor(), 0.0);
        while place <= x + reach {
            let weight = self.weight((place - x) * stretch);
            let inside = place >= 0.0 && place < size as f64;
            if weight != 0.0 && (inside || !exclude) {
                neighbours.push((clamp(place), weight));
                total += weight;
            }
            place += 1.0;
        }
        if neighbours.is_empty() {
            return Ok(vec![(clamp(x.round()), 1.0)]);
        }
        // Left as they are where they sum to 1 anyway.
        if exclude || self.antialias {
            neighbours.iter_mut().for_each(|(_, weight)| *weight /= total);
        }
        Ok(neighbours)
    }

    /// The weight of a neighbour at a distance.
    fn weight(&self, distance: f64) -> f64 {
        let d = distance.abs();
        match self.mode {
            ResizeMode::Nearest(_) => 1.0,
            ResizeMode::Linear => (1.0 - d).max(0.0),
            // Keys, "Cubic convolution interpolation for digital image processing", 1981.
            ResizeMode::Cubic { a, .. } if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            ResizeMode::Cubic { a, .. } if d < 2.0 => ((d - 5.0) * d + 8.0) * d * a - 4.0 * a,
            ResizeMode::Cubic { .. } => 0.0,
        }
    }
}

impl NearestMode {
    fn nearest(self, x: f64) -> f64 {
        match self {
            NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
            NearestMode::RoundPreferCeil => (x + 0.5).floor(),
            NearestMode::Floor => x.floor(),
            NearestMode::Ceil => x.ceil(),
        }
    }
}
