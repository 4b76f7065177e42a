//! Calls of routines: what has no kernel form.
//!
//! Invariant: whoever makes the node says of which types its results are; sizes among them that are
//! symbols of their own are found by the call. A run checks both.

use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_routine::Routine;
use kiln_tensor::{Dim, Tensor};
use serde::{Deserialize, Serialize};

/// `operands… → results…` as the routine documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The routine.
    pub routine: Routine,
    /// Types of its results.
    pub results: Vec<TensorType>,
}

impl Operation for Call {
    const NAME: &'static str = "Call";

    fn infer(&self, _: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        Ok(self.results.clone())
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        self.results.iter_mut().flat_map(|ty| &mut ty.shape).collect()
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], run: &Run) -> Result<Vec<Tensor>, OpError> {
        let results = self.routine.run(inputs, run.objects());
        results.map_err(|error| OpError::new(error.to_string()))
    }
}
