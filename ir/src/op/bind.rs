//! Sizes that only data tells: symbols that get their values from elements of a tensor.
//!
//! Invariant: a symbol that an operation introduces stands in nothing that is computed before it;
//! passes keep that order by [`crate::Graph::introduced`].

use super::typing::exactly;
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim, Symbol, Tensor};
use serde::{Deserialize, Serialize};

/// `values i64[n] → `: no result, but from here on each of the `n` symbols stands for the element
/// of its number. A value outside of a symbol's bounds is an error of the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bind {
    /// The symbols, each an expression of its own.
    pub symbols: Vec<Dim>,
}

impl Bind {
    /// The symbols with the elements that they get.
    pub fn bound<'a>(&'a self, values: &'a [i64]) -> impl Iterator<Item = (&'a Symbol, i64)> {
        self.symbols.iter().filter_map(Dim::as_symbol).zip(values.iter().copied())
    }
}

impl Operation for Bind {
    const NAME: &'static str = "Bind";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [values] = exactly::<1>(inputs)?;
        if values.dtype != DType::I64 || values.shape != [Dim::from(self.symbols.len())] {
            let count = self.symbols.len();
            return Err(OpError::new(format!("needs i64[{count}], but gets {values}")));
        }
        match self.symbols.iter().find(|dim| dim.as_symbol().is_none()) {
            Some(dim) => Err(OpError::new(format!("`{dim}` is not a symbol"))),
            None => Ok(Vec::new()),
        }
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.symbols.iter_mut().collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        self.results(inputs)?;
        Ok(Vec::new())
    }
}

/// ` → `: no result, but each expression on the left must equal the one of its number on the right
/// when the model runs; else the run ends with an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Check {
    /// What is compared.
    pub left: Vec<Dim>,
    /// What it is compared with.
    pub right: Vec<Dim>,
}

impl Operation for Check {
    const NAME: &'static str = "Check";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        exactly::<0>(inputs)?;
        let (left, right) = (self.left.len(), self.right.len());
        if left == right {
            return Ok(Vec::new());
        }
        Err(OpError::new(format!("compares {left} sizes with {right}")))
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.left.iter_mut().chain(&mut self.right).collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        self.results(inputs)?;
        match self.left.iter().zip(&self.right).find(|(left, right)| left != right) {
            Some((left, right)) => Err(OpError::new(format!("{left} must be {right}"))),
            None => Ok(Vec::new()),
        }
    }
}
