//! Operations that move elements without looking at them.
//!
//! Invariant: every element of a result is an element of an operand (or the padding value), so
//! all element types are accepted.

use super::places::{moved, offsets, stretched, strides, walk};
use super::typing::{
    axis, broadcasts_to, entries, equal_dims, exactly, list, same_element, scalar,
};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{Dim, Tensor};
use serde::{Deserialize, Serialize};

/// `x → x` under another shape of as many elements, in row-major order. If symbols keep the
/// counts from being compared, that is done when the model runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reshape {
    /// The new shape.
    pub shape: Vec<Dim>,
}

impl Operation for Reshape {
    const NAME: &'static str = "Reshape";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        let result = TensorType::new(x.dtype, self.shape.clone());
        let (before, after) = (x.elements(), result.elements());
        if (before.clone() - after.clone()).as_const().is_some_and(|difference| difference != 0) {
            return Err(OpError::new(format!(
                "{x} has {before} elements, but {} has {after}",
                list(&self.shape)
            )));
        }
        Ok(vec![result])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.shape.iter_mut().collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        Ok(vec![inputs[0].reshaped(sizes)?])
    }
}

/// `x → x` whose dimensions are said to be these. Dimensions that cannot be shown to be equal, but
/// must be for the model to make sense, are named alike from here on; whether they are equal is
/// checked when the model runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Assume {
    /// The shape that `x` has.
    pub shape: Vec<Dim>,
}

impl Operation for Assume {
    const NAME: &'static str = "Assume";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        let differ = |(a, b): (&Dim, &Dim)| {
            (a.clone() - b.clone()).as_const().is_some_and(|difference| difference != 0)
        };
        if x.rank() != self.shape.len() || x.shape.iter().zip(&self.shape).any(differ) {
            return Err(OpError::new(format!("{x} cannot have the shape {}", list(&self.shape))));
        }
        Ok(vec![TensorType::new(x.dtype, self.shape.clone())])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.shape.iter_mut().collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        // Sizes that are not those assumed were refused just now.
        self.result(inputs)?;
        Ok(vec![inputs[0].clone()])
    }
}

/// `x → x` with its dimensions permuted: dimension `i` of the result is dimension `perm[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transpose {
    /// A permutation of `0..rank`.
    pub perm: Vec<usize>,
}

impl Operation for Transpose {
    const NAME: &'static str = "Transpose";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.rank()) {
            return Err(OpError::new(format!(
                "{:?} is not a permutation of the {} dimensions of {x}",
                self.perm,
                x.rank()
            )));
        }
        let shape = self.perm.iter().map(|&from| x.shape[from].clone()).collect();
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        let own = strides(inputs[0].sizes());
        let permuted: Vec<isize> = self.perm.iter().map(|&from| own[from]).collect();
        let from: Vec<usize> = offsets(&sizes, [&permuted], [0]).map(|[offset]| offset).collect();
        Ok(vec![moved(&inputs[0], sizes, from.into_iter())?])
    }
}

/// `x → x` stretched to exactly this shape, by NumPy's rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Broadcast {
    /// The full shape of the result.
    pub shape: Vec<Dim>,
}

impl Operation for Broadcast {
    const NAME: &'static str = "Broadcast";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        broadcasts_to(&x.shape, &self.shape, "broadcast")?;
        Ok(vec![TensorType::new(x.dtype, self.shape.clone())])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.shape.iter_mut().collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        let strides = stretched(inputs[0].sizes(), sizes.len());
        let from: Vec<usize> = offsets(&sizes, [&strides], [0]).map(|[offset]| offset).collect();
        Ok(vec![moved(&inputs[0], sizes, from.into_iter())?])
    }
}

/// `x → x[starts + steps·i]` for `i` below `sizes`, in every dimension. Nothing may lie outside
/// `x`; what symbols hide is checked when the model runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// The first element, for every dimension (the highest one where the step is negative).
    pub starts: Vec<Dim>,
    /// How many elements, for every dimension.
    pub sizes: Vec<Dim>,
    /// The distance between them, for every dimension; negative counts down, never zero.
    pub steps: Vec<i64>,
}

impl Operation for Slice {
    const NAME: &'static str = "Slice";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        entries(self.starts.len(), x.rank(), "starts")?;
        entries(self.sizes.len(), x.rank(), "sizes")?;
        entries(self.steps.len(), x.rank(), "steps")?;
        if self.steps.contains(&0) {
            return Err(OpError::new(format!("steps must not be zero: {:?}", self.steps)));
        }
        for (number, dim) in x.shape.iter().enumerate() {
            let (start, size, step) =
                (&self.starts[number], &self.sizes[number], self.steps[number]);
            if size.as_const().is_some_and(|size| size < 0) {
                return Err(OpError::new(format!(
                    "the slice of dimension {number} has size {size}"
                )));
            }
            if size.is(0) {
                continue;
            }
            let last = start.clone() + (size.clone() - Dim::from(1i64)) * Dim::from(step);
            let (low, high) = if step > 0 { (start, &last) } else { (&last, start) };
            let above = high.clone() - dim.clone();
            if low.as_const().is_some_and(|low| low < 0) || above.as_const().is_some_and(|d| d >= 0)
            {
                return Err(OpError::new(format!(
                    "the slice of dimension {number} goes from {start} to {last}, outside of {x}"
                )));
            }
        }
        Ok(vec![TensorType::new(x.dtype, self.sizes.clone())])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.starts.iter_mut().chain(&mut self.sizes).collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        if sizes.contains(&0) {
            return Ok(vec![Tensor::zeros(dtype, sizes)?]);
        }
        let own = strides(inputs[0].sizes());
        let starts = self.starts.iter().zip(&own);
        let first =
            starts.map(|(start, stride)| start.as_const().unwrap_or(0) as isize * stride).sum();
        // A step of a dimension of one element is never taken, however large.
        let steps = own.iter().zip(&self.steps);
        let strides: Vec<isize> =
            steps.map(|(own, &step)| own.wrapping_mul(step as isize)).collect();
        let from: Vec<usize> =
            offsets(&sizes, [&strides], [first]).map(|[offset]| offset).collect();
        Ok(vec![moved(&inputs[0], sizes, from.into_iter())?])
    }
}

/// `x₀, x₁, … → ` all of them one after the other along `axis`; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Concat {
    /// The dimension that grows.
    pub axis: usize,
}

impl Operation for Concat {
    const NAME: &'static str = "Concat";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let Some((first, others)) = inputs.split_first() else {
            return Err(OpError::new("takes at least 1 operand, got 0"));
        };
        axis(self.axis, first)?;
        let mut result = TensorType::clone(first);
        for other in others {
            same_element(first, other)?;
            super::typing::rank(other, first.rank(), "every operand")?;
            for (number, (a, b)) in first.shape.iter().zip(&other.shape).enumerate() {
                if number != self.axis {
                    let what = format!("{first} and {other} must agree in dimension {number}");
                    equal_dims(a, b, &what)?;
                }
            }
            let slot = &mut result.shape[self.axis];
            *slot = slot.clone() + other.shape[self.axis].clone();
        }
        Ok(vec![result])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let outer: usize = sizes[..self.axis].iter().product();
        let mut bytes = Vec::with_capacity(Tensor::byte_length(dtype, &sizes)?);
        for number in 0..outer {
            for input in inputs {
                let block = input.bytes().len() / outer;
                bytes.extend_from_slice(&input.bytes()[number * block..][..block]);
            }
        }
        Ok(vec![Tensor::from_bytes(dtype, sizes, &bytes)?])
    }
}

/// What lies around a padded tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PadMode {
    /// One value everywhere.
    Constant,
    /// The tensor mirrored at its border element, which is not repeated: `c b | a b c | b a`.
    Reflect,
    /// The border element: `a a | a b c | c c`.
    Edge,
    /// The tensor again: `b c | a b c | a b`.
    Wrap,
}

impl PadMode {
    /// Which coordinate lies at `at` around a dimension of `size`; `None` for the padding value.
    fn source(self, at: i64, size: i64) -> Option<i64> {
        match self {
            _ if (0..size).contains(&at) => Some(at),
            PadMode::Constant => None,
            PadMode::Edge => Some(at.clamp(0, size - 1)),
            PadMode::Wrap => Some(at.rem_euclid(size)),
            PadMode::Reflect if size == 1 => Some(0),
            PadMode::Reflect => {
                let turn = at.rem_euclid(2 * (size - 1));
                Some(turn.min(2 * (size - 1) - turn))
            }
        }
    }
}

/// `x → x` with elements added around it; `x, value → …` with a scalar `value` if the mode is
/// `Constant`. Negative amounts crop, but what is added comes from the whole operand. `Reflect`
/// repeats its mirrors for amounts beyond the size.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pad {
    /// How many before the first element, for every dimension.
    pub before: Vec<Dim>,
    /// How many after the last element, for every dimension.
    pub after: Vec<Dim>,
    /// What is added.
    pub mode: PadMode,
}

impl Operation for Pad {
    const NAME: &'static str = "Pad";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let x = if self.mode == PadMode::Constant {
            let [x, value] = exactly(inputs)?;
            scalar(value, x.dtype, "the padding value")?;
            x
        } else {
            let [x] = exactly(inputs)?;
            x
        };
        entries(self.before.len(), x.rank(), "before")?;
        entries(self.after.len(), x.rank(), "after")?;
        let amounts = self.before.iter().zip(&self.after);
        let shape: Vec<Dim> = x
            .shape
            .iter()
            .zip(amounts)
            .map(|(dim, (before, after))| dim.clone() + before.clone() + after.clone())
            .collect();
        if let Some(dim) = shape.iter().find(|dim| dim.as_const().is_some_and(|size| size < 0)) {
            return Err(OpError::new(format!(
                "{x} cropped by {} and {} would have a dimension of {dim}",
                list(&self.before),
                list(&self.after)
            )));
        }
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.before.iter_mut().chain(&mut self.after).collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let x = &inputs[0];
        if x.is_empty() && self.mode != PadMode::Constant && !sizes.contains(&0) {
            return Err(OpError::new("there are no elements to pad with"));
        }
        let before: Vec<i64> = self.before.iter().map(|dim| dim.as_const().unwrap_or(0)).collect();
        let own = strides(x.sizes());
        let width = dtype.size();
        let mut bytes = Vec::with_capacity(Tensor::byte_length(dtype, &sizes)?);
        walk(&sizes, |at| {
            let mut offset = Some(0usize);
            for (number, &coordinate) in at.iter().enumerate() {
                let wanted = (coordinate as i64).saturating_sub(before[number]);
                let found = self.mode.source(wanted, x.sizes()[number] as i64);
                offset =
                    offset.zip(found).map(|(sum, at)| sum + at as usize * own[number] as usize);
            }
            match offset {
                Some(offset) => bytes.extend_from_slice(&x.bytes()[offset * width..][..width]),
                None => bytes.extend_from_slice(inputs[1].bytes()),
            }
            Ok::<(), OpError>(())
        })?;
        Ok(vec![Tensor::from_bytes(dtype, sizes, &bytes)?])
    }
}
