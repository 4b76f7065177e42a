//! Operations with bodies: choice, repetition, and a part of the graph that is one kernel.
//!
//! Invariant: a body sees only its own inputs, so whatever it uses is an operand of the node.

use super::typing::{bodies, equal_types, scalar};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim};
use serde::{Deserialize, Serialize};

/// `condition bool[], captured… → ` the results of the first body if the condition holds, else of
/// the second. Both bodies take the captured values and have results of equal types.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct If {}

impl Operation for If {
    const NAME: &'static str = "If";

    fn infer(&self, inputs: &[&TensorType], regions: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        bodies(regions, 2)?;
        let Some((condition, captured)) = inputs.split_first() else {
            return Err(OpError::new("takes at least 1 operand, got 0"));
        };
        scalar(condition, DType::Bool, "the condition")?;
        let captured: Vec<TensorType> = captured.iter().map(|ty| TensorType::clone(ty)).collect();
        takes(&regions[0], &captured, "the first body")?;
        takes(&regions[1], &captured, "the second body")?;
        let (first, second) = (results(&regions[0]), results(&regions[1]));
        if first.len() != second.len() {
            return Err(OpError::new(format!(
                "one body has {} results, the other {}",
                first.len(),
                second.len()
            )));
        }
        for (number, (a, b)) in first.iter().zip(&second).enumerate() {
            equal_types(a, b, &format!("result {number} of the bodies"))?;
        }
        Ok(first)
    }
}

/// `trip i64[], condition bool[], carried…, captured… → carried…, scans…`.
///
/// While the condition holds, and at most `trip` times, the body
/// `(iteration i64[], condition bool[], carried…, captured…) → (condition, carried…, scans…)`
/// is run; the results are the last carried values and the scans of all iterations, stacked along
/// a new first dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loop {
    /// How many values go from one iteration to the next.
    pub carried: usize,
    /// How many values of each iteration are stacked.
    pub scan: usize,
    /// The new first dimension of stacked values: usually a symbol of its own, which is bound
    /// when the loop ends.
    pub scan_length: Dim,
}

impl Operation for Loop {
    const NAME: &'static str = "Loop";

    fn infer(&self, inputs: &[&TensorType], regions: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        bodies(regions, 1)?;
        let least = self.carried.saturating_add(2);
        if inputs.len() < least {
            return Err(OpError::new(format!("takes {least} operands, got {}", inputs.len())));
        }
        scalar(inputs[0], DType::I64, "the trip count")?;
        scalar(inputs[1], DType::Bool, "the condition")?;
        let operands: Vec<TensorType> = inputs.iter().map(|ty| TensorType::clone(ty)).collect();
        takes(&regions[0], &operands, "the body")?;
        let results = results(&regions[0]);
        if results.len() != self.carried.saturating_add(self.scan).saturating_add(1) {
            return Err(OpError::new(format!(
                "the body must have a condition, {} carried and {} scanned results, but has {}",
                self.carried,
                self.scan,
                results.len()
            )));
        }
        scalar(&results[0], DType::Bool, "the condition of the body")?;
        let (carried, scans) = results[1..].split_at(self.carried);
        for (number, (before, after)) in operands[2..].iter().zip(carried).enumerate() {
            let what = format!("carried value {number} must keep its type");
            equal_types(before, after, &what)?;
        }
        let stacked = scans.iter().map(|ty| {
            let shape = [std::slice::from_ref(&self.scan_length), &ty.shape].concat();
            TensorType::new(ty.dtype, shape)
        });
        Ok(carried.iter().cloned().chain(stacked).collect())
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        vec![&mut self.scan_length]
    }
}

/// `captured… →` the results of the body: a part of the graph that becomes one kernel. Made by
/// the e-graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fused {
    /// What it is, for people.
    pub label: String,
}

impl Operation for Fused {
    const NAME: &'static str = "Fused";

    fn infer(&self, inputs: &[&TensorType], regions: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        bodies(regions, 1)?;
        let operands: Vec<TensorType> = inputs.iter().map(|ty| TensorType::clone(ty)).collect();
        takes(&regions[0], &operands, "the body")?;
        Ok(results(&regions[0]))
    }
}

/// An error unless the inputs of the body have these types.
fn takes(body: &Graph, operands: &[TensorType], what: &str) -> Result<(), OpError> {
    if body.inputs().len() != operands.len() {
        return Err(OpError::new(format!(
            "{what} takes {} values, but gets {}",
            body.inputs().len(),
            operands.len()
        )));
    }
    for (number, (input, operand)) in body.inputs().iter().zip(operands).enumerate() {
        equal_types(body.ty(*input), operand, &format!("input {number} of {what}"))?;
    }
    Ok(())
}

fn results(body: &Graph) -> Vec<TensorType> {
    body.outputs().iter().map(|id| body.ty(*id).clone()).collect()
}
