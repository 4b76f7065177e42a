//! Operations that combine the elements along some dimensions.
//!
//! Invariant: the result does not depend on the order of combination, apart from rounding.

use super::elements::{numbers, pack, wide};
use super::places::{offsets, stretched};
use super::typing::{axis, element, exactly, is_numeric, numeric};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use crate::kernel::number::Number;
use kiln_tensor::{DType, Dim, Tensor};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReduceFn {
    /// The sum; integers wrap; 0 of nothing.
    Sum,
    /// The sum over the count; integers truncate; NaN of nothing, which integers refuse.
    Mean,
    /// The largest; NaN if one is NaN; −∞ or the least integer of nothing.
    Max,
    /// The smallest; NaN if one is NaN; +∞ or the greatest integer of nothing.
    Min,
    /// The product; integers wrap; 1 of nothing.
    Prod,
    /// Whether any is true, of `bool`.
    Any,
    /// Whether all are true, of `bool`.
    All,
}

/// `x → f` over `axes` of `x`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reduce {
    /// How elements are combined.
    pub f: ReduceFn,
    /// The reduced dimensions, ascending; none leaves the tensor as it is.
    pub axes: Vec<usize>,
    /// Whether reduced dimensions stay, with size 1.
    pub keep: bool,
}

impl Operation for Reduce {
    const NAME: &'static str = "Reduce";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        if matches!(self.f, ReduceFn::Any | ReduceFn::All) {
            element(x, "the operand", "bool", |dtype| dtype == DType::Bool)?;
        } else {
            numeric(x, "the operand")?;
        }
        if !self.axes.is_sorted_by(|a, b| a < b) {
            return Err(OpError::new(format!("axes {:?} must be ascending", self.axes)));
        }
        self.axes.iter().try_for_each(|&number| axis(number, x))?;
        Ok(vec![TensorType::new(x.dtype, without(&x.shape, &self.axes, self.keep))])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let from = inputs[0].sizes();
        let kept: Vec<usize> = (0..from.len())
            .map(|number| if self.axes.contains(&number) { 1 } else { from[number] })
            .collect();
        let count: usize = self.axes.iter().map(|&axis| from[axis]).product();
        let start = Number::neutral(self.f, wide(dtype));
        let mut results = vec![start; kept.iter().product()];
        let strides = stretched(&kept, from.len());
        let places = offsets(from, [&strides], [0]);
        for (x, [place]) in numbers(&inputs[0]).into_iter().zip(places) {
            results[place] = match (self.f, results[place], x) {
                // Not wrapped before it is divided.
                (ReduceFn::Mean, Number::Int(sum), Number::Int(x)) => Number::Int(sum + x),
                (_, result, x) => Number::combine(self.f, result, x, wide(dtype)),
            };
        }
        if self.f == ReduceFn::Mean {
            for result in &mut results {
                *result = mean(*result, count)?;
            }
        }
        Ok(vec![pack(dtype, sizes, results)?])
    }
}

/// `x → i64`: where along `axis` the largest or smallest element is. NaN counts as infinite, of
/// the sign that is searched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArgReduce {
    /// `Max` or `Min`.
    pub f: ReduceFn,
    /// The reduced dimension.
    pub axis: usize,
    /// Whether it stays, with size 1.
    pub keep: bool,
    /// Whether the last of several equal elements is meant, and not the first.
    pub last: bool,
}

impl Operation for ArgReduce {
    const NAME: &'static str = "ArgReduce";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        if !matches!(self.f, ReduceFn::Max | ReduceFn::Min) {
            return Err(OpError::new(format!("searches Max or Min, not {:?}", self.f)));
        }
        axis(self.axis, x)?;
        element(x, "the operand", "of an integer or floating-point type", is_numeric)?;
        let shape = without(&x.shape, &[self.axis], self.keep);
        // Where there is no result there may be nothing to search.
        if x.shape[self.axis].is(0)
            && !without(&x.shape, &[self.axis], false).iter().any(|dim| dim.is(0))
        {
            return Err(OpError::new(format!("dimension {} of {x} has no elements", self.axis)));
        }
        Ok(vec![TensorType::new(DType::I64, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (_, sizes) = self.result(inputs)?;
        let from = inputs[0].sizes();
        let values = numbers(&inputs[0]);
        let size = from[self.axis];
        let stride: usize = from[self.axis + 1..].iter().product();
        let outer: usize = from[..self.axis].iter().product();
        if size == 0 && outer * stride > 0 {
            return Err(OpError::new(format!("dimension {} has no elements", self.axis)));
        }
        let mut results = Vec::with_capacity(outer * stride);
        for (outer, inner) in (0..outer).flat_map(|o| (0..stride).map(move |i| (o, i))) {
            let at = |place: usize| values[(outer * size + place) * stride + inner];
            let mut best = 0;
            for place in 1..size {
                let order = self.compare(at(place), at(best));
                if order.is_gt() || self.last && order.is_eq() {
                    best = place;
                }
            }
            results.push(best as i64);
        }
        Ok(vec![Tensor::from_slice(sizes, &results)?])
    }
}

/// `x → x` with every element replaced by the sum or product of all up to it along `axis`;
/// integers wrap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accumulate {
    /// `Sum` or `Prod`.
    pub f: ReduceFn,
    /// The dimension along which sums or products run.
    pub axis: usize,
    /// Whether an element is left out of its own.
    pub exclusive: bool,
    /// Whether they run from the end.
    pub reverse: bool,
}

impl Operation for Accumulate {
    const NAME: &'static str = "Accumulate";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        if !matches!(self.f, ReduceFn::Sum | ReduceFn::Prod) {
            return Err(OpError::new(format!("runs a Sum or Prod, not {:?}", self.f)));
        }
        axis(self.axis, x)?;
        numeric(x, "the operand")?;
        Ok(vec![TensorType::clone(x)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let mut values = numbers(&inputs[0]);
        let size = sizes[self.axis];
        let stride: usize = sizes[self.axis + 1..].iter().product();
        let outer: usize = sizes[..self.axis].iter().product();
        for (outer, inner) in (0..outer).flat_map(|o| (0..stride).map(move |i| (o, i))) {
            let mut sum = Number::neutral(self.f, wide(dtype));
            for step in 0..size {
                let place = if self.reverse { size - 1 - step } else { step };
                let slot = &mut values[(outer * size + place) * stride + inner];
                let next = Number::combine(self.f, sum, *slot, wide(dtype));
                *slot = if self.exclusive { sum } else { next };
                sum = next;
            }
        }
        Ok(vec![pack(dtype, sizes, values)?])
    }
}

/// The shape with `axes` dropped, or kept with size 1.
fn without(shape: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    let dims = shape.iter().enumerate();
    dims.filter_map(|(number, dim)| match (axes.contains(&number), keep) {
        (false, _) => Some(dim.clone()),
        (true, true) => Some(Dim::from(1i64)),
        (true, false) => None,
    })
    .collect()
}

impl ArgReduce {
    /// Which of two elements is more of what is searched.
    fn compare(&self, a: Number, b: Number) -> Ordering {
        let infinite = if self.f == ReduceFn::Max { f64::INFINITY } else { f64::NEG_INFINITY };
        let float = |x: f64| if x.is_nan() { infinite } else { x };
        let order = match (a, b) {
            (Number::Float(a), Number::Float(b)) => {
                float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal)
            }
            (a, b) => a.int().cmp(&b.int()),
        };
        if self.f == ReduceFn::Max { order } else { order.reverse() }
    }
}

/// A sum over its count; integers truncate.
pub(super) fn mean(sum: Number, count: usize) -> Result<Number, OpError> {
    match sum {
        Number::Float(sum) => Ok(Number::Float(sum / count as f64)),
        Number::Code(_) => Err(OpError::new("codes have no mean")),
        Number::Int(_) if count == 0 => Err(OpError::new("the mean of no integers has no value")),
        Number::Int(sum) => Ok(Number::Int(sum / count as i128)),
    }
}
