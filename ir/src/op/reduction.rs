//! Operations that combine the elements along some dimensions.
//!
//! Invariant: the result does not depend on the order of combination, apart from rounding.

use super::typing::{axis, element, exactly, is_numeric, numeric};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim};
use serde::{Deserialize, Serialize};

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
}

/// `x → i64`: where along `axis` the largest or smallest element is. NaN counts as both.
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
        if x.shape[self.axis].is(0) {
            return Err(OpError::new(format!("dimension {} of {x} has no elements", self.axis)));
        }
        Ok(vec![TensorType::new(DType::I64, without(&x.shape, &[self.axis], self.keep))])
    }
}

/// `x → x` with every element replaced by the sum of all up to it along `axis`; integers wrap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CumSum {
    /// The dimension along which sums run.
    pub axis: usize,
    /// Whether an element is left out of its own sum.
    pub exclusive: bool,
    /// Whether sums run from the end.
    pub reverse: bool,
}

impl Operation for CumSum {
    const NAME: &'static str = "CumSum";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        axis(self.axis, x)?;
        numeric(x, "the operand")?;
        Ok(vec![TensorType::clone(x)])
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
