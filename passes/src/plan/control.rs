//! Bodies: choices and loops as nested steps over the same buffers.
//!
//! Invariant: both sides of a choice leave their results in the same buffers; a loop's carried values
//! are replaced only at the end of an iteration, all of them from values that no longer change.

use super::Planner;
use super::error::PlanError;
use super::scope::{Bound, Scope};
use kiln_ir::op::Loop;
use kiln_ir::{Node, TensorType};
use kiln_program::{BufferId, LoopStep, Step};
use kiln_tensor::DType;

impl Planner {
    pub(super) fn branch(
        &mut self,
        scope: &mut Scope,
        node: &Node,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let Some((&condition, captured)) = node.inputs.split_first() else {
            return Err(malformed(node, "it has no condition"));
        };
        let condition = self.value_buffer(scope, condition)?;
        let given: Vec<Bound> = captured
            .iter()
            .map(|&value| self.held(scope, node, value))
            .collect::<Result<_, _>>()?;
        let results: Vec<BufferId> =
            node.outputs.iter().map(|&output| self.target(scope, output)).collect();
        let mut blocks = Vec::with_capacity(2);
        for body in &node.regions {
            let inner = Scope::body(body, given.clone(), scope);
            blocks.push(self.body(inner, &results)?);
        }
        scope.introduced(node);
        let [then, otherwise] = <[Vec<Step>; 2]>::try_from(blocks)
            .map_err(|_| malformed(node, "it must have two bodies"))?;
        steps.push(Step::Branch { condition, then, otherwise });
        Ok(())
    }

    /// Steps of a body that leave its results in these buffers.
    fn body(&mut self, mut scope: Scope<'_>, results: &[BufferId]) -> Result<Vec<Step>, PlanError> {
        let body = scope.graph;
        for (&output, &result) in body.outputs().iter().zip(results) {
            scope.want(output, result);
        }
        let mut steps = Vec::new();
        self.nodes(&mut scope, &mut steps)?;
        for (&output, &result) in body.outputs().iter().zip(results) {
            let made = self.value_buffer(&mut scope, output)?;
            if made != result {
                steps.push(Step::Copy { from: made, to: result });
            }
        }
        Ok(steps)
    }

    pub(super) fn repeat(
        &mut self,
        scope: &mut Scope,
        node: &Node,
        op: &Loop,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let ([trip, condition, values @ ..], [body]) =
            (node.inputs.as_slice(), node.regions.as_slice())
        else {
            return Err(malformed(node, "it must have a body, a count and a condition"));
        };
        if values.len() < op.carried || node.outputs.len() != op.carried + op.scan {
            return Err(malformed(node, "its carried values do not fit its results"));
        }
        let (carried, captured) = values.split_at(op.carried);
        let trip = self.value_buffer(scope, *trip)?;
        // The body writes the condition and the carried values, so they are copies.
        let flag = self.arena(&TensorType::new(DType::Bool, Vec::new()));
        let from = self.value_buffer(scope, *condition)?;
        steps.push(Step::Copy { from, to: flag });
        let iteration = self.arena(&TensorType::new(DType::I64, Vec::new()));
        let mut held = Vec::with_capacity(op.carried);
        for (&value, &output) in carried.iter().zip(&node.outputs) {
            let from = self.value_buffer(scope, value)?;
            let own = self.target(scope, output);
            steps.push(Step::Copy { from, to: own });
            held.push(own);
        }
        let stacked: Vec<BufferId> = node.outputs[op.carried..]
            .iter()
            .map(|&output| self.shaped_target(scope, output))
            .collect();
        let mut given = vec![Bound::Buffer(iteration), Bound::Buffer(flag)];
        given.extend(held.iter().map(|&buffer| Bound::Buffer(buffer)));
        for &value in captured {
            given.push(self.held(scope, node, value)?);
        }

        let mut inner = Scope::body(body, given, scope);
        let mut block = Vec::new();
        self.nodes(&mut inner, &mut block)?;
        scope.introduced(node);
        let outputs = body.outputs();
        let Some((&next, new)) = outputs.split_first() else {
            return Err(malformed(node, "its body has no condition"));
        };
        let replaced: Vec<BufferId> = std::iter::once(flag).chain(held).collect();
        let mut made = vec![self.value_buffer(&mut inner, next)?];
        for &value in &new[..op.carried] {
            made.push(self.value_buffer(&mut inner, value)?);
        }
        let mut elements = Vec::with_capacity(op.scan);
        for &value in &new[op.carried..] {
            let element = self.value_buffer(&mut inner, value)?;
            // An element must have its own shape, and still be there when carried values are replaced.
            let shape = self.buffers.get(element.0 as usize).map(|buffer| &buffer.shape);
            let ty = body.ty(value);
            let fits = shape == Some(&ty.shape) && !replaced.contains(&element);
            elements.push(if fits { element } else { self.saved(&mut block, element, ty) });
        }
        // A carried value that moves to another place must be saved before it is replaced there.
        let mut copies = Vec::new();
        for (place, (&from, &to)) in made.iter().zip(&replaced).enumerate() {
            if from == to {
                continue;
            }
            let overwritten = replaced[..place].contains(&from);
            let from = match outputs.get(place) {
                Some(&value) if overwritten => self.saved(&mut block, from, body.ty(value)),
                _ => from,
            };
            copies.push(Step::Copy { from, to });
        }
        block.extend(copies);
        steps.push(Step::Loop(Box::new(LoopStep {
            trip,
            condition: flag,
            iteration,
            body: block,
            scans: stacked.into_iter().zip(elements).collect(),
            count: op.scan_length.as_symbol().cloned().filter(|_| op.scan > 0),
            source: node.source.as_deref().unwrap_or("Loop").to_owned(),
        })));
        Ok(())
    }

    /// A copy of a buffer.
    fn saved(&mut self, block: &mut Vec<Step>, from: BufferId, ty: &TensorType) -> BufferId {
        let to = self.arena(ty);
        block.push(Step::Copy { from, to });
        to
    }
}

fn malformed(node: &Node, reason: &str) -> PlanError {
    PlanError::Malformed {
        op: node.op.name(),
        source_node: node.source.clone(),
        reason: reason.into(),
    }
}
