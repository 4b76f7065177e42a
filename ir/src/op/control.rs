//! Operations with bodies: choice, repetition, and a part of the graph that is one kernel.
//!
//! Invariant: a body sees only its own inputs, so whatever it uses is an operand of the node.

use super::typing::{bodies, equal_types, scalar};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
        let captured: Vec<TensorType> = captured.iter().map(|&ty| ty.clone()).collect();
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

    fn evaluate(
        &self,
        inputs: &[Tensor],
        regions: &[Graph],
        run: &Run,
    ) -> Result<Vec<Tensor>, OpError> {
        bodies(regions, 2)?;
        let Some((condition, captured)) = inputs.split_first() else {
            return Err(OpError::new("takes at least 1 operand, got 0"));
        };
        run.body(&regions[if truth(condition)? { 0 } else { 1 }], captured)
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
        let operands: Vec<TensorType> = inputs.iter().map(|&ty| ty.clone()).collect();
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

    fn evaluate(
        &self,
        inputs: &[Tensor],
        regions: &[Graph],
        run: &Run,
    ) -> Result<Vec<Tensor>, OpError> {
        bodies(regions, 1)?;
        let body = &regions[0];
        let [trip, condition, values @ ..] = inputs else {
            return Err(OpError::new(format!("takes at least 2 operands, got {}", inputs.len())));
        };
        let results = self.carried.saturating_add(self.scan).saturating_add(1);
        if values.len() < self.carried || body.outputs().len() != results {
            return Err(OpError::new("the operands do not fit the body"));
        }
        let trip = match trip.to_i64().as_slice() {
            [trip] => *trip,
            _ => return Err(OpError::new("the trip count must be one number")),
        };
        let (mut condition, mut values) = (condition.clone(), values.to_vec());
        let mut scans: Vec<Vec<Tensor>> = vec![Vec::new(); self.scan];
        let mut iteration = 0i64;
        while iteration < trip && truth(&condition)? {
            run.count_iteration()?;
            let mut operands = vec![Tensor::scalar(iteration)?, condition];
            operands.extend(values.iter().cloned());
            let mut results = run.body(body, &operands)?.into_iter();
            condition = results.next().ok_or_else(|| OpError::new("the body has no results"))?;
            values
                .iter_mut()
                .take(self.carried)
                .zip(&mut results)
                .for_each(|(old, new)| *old = new);
            scans.iter_mut().zip(results).for_each(|(scan, value)| scan.push(value));
            iteration += 1;
        }
        values.truncate(self.carried);
        for (scan, output) in scans.iter().zip(&body.outputs()[1 + self.carried..]) {
            values.push(stack(scan, body.ty(*output), run)?);
        }
        Ok(values)
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
        let operands: Vec<TensorType> = inputs.iter().map(|&ty| ty.clone()).collect();
        takes(&regions[0], &operands, "the body")?;
        Ok(results(&regions[0]))
    }

    fn evaluate(
        &self,
        inputs: &[Tensor],
        regions: &[Graph],
        run: &Run,
    ) -> Result<Vec<Tensor>, OpError> {
        bodies(regions, 1)?;
        run.body(&regions[0], inputs)
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

/// A condition.
fn truth(condition: &Tensor) -> Result<bool, OpError> {
    match (condition.dtype(), condition.bytes()) {
        (DType::Bool, [value]) => Ok(*value != 0),
        _ => Err(OpError::new("the condition must be bool[]")),
    }
}

/// Tensors of one type along a new first dimension.
fn stack(tensors: &[Tensor], ty: &TensorType, run: &Run) -> Result<Tensor, OpError> {
    let Some(first) = tensors.first() else {
        // Sizes that only the body tells, which did not run: nothing has them, so they are 0.
        let mut symbols = BTreeSet::new();
        ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
        let mut values = run.symbols().clone();
        for symbol in symbols {
            values.entry(symbol).or_insert(0);
        }
        let sizes = ty.shape.iter().map(|dim| {
            let size = usize::try_from(dim.evaluate(&values)?).ok();
            size.ok_or_else(|| OpError::new(format!("dimension `{dim}` is negative")))
        });
        let sizes = [vec![0], sizes.collect::<Result<Vec<usize>, _>>()?].concat();
        return Ok(Tensor::zeros(ty.dtype, sizes)?);
    };
    if let Some(other) = tensors.iter().find(|other| other.sizes() != first.sizes()) {
        return Err(OpError::new(format!(
            "iterations gave shapes {:?} and {:?}, which do not stack",
            first.sizes(),
            other.sizes()
        )));
    }
    let bytes: Vec<u8> = tensors.iter().flat_map(|tensor| tensor.bytes()).copied().collect();
    let sizes = [&[tensors.len()], first.sizes()].concat();
    Ok(Tensor::from_bytes(first.dtype(), sizes, &bytes)?)
}
