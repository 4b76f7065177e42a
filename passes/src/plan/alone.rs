//! A program of one launch: a kernel by itself, with every size known.
//!
//! Invariant: its inputs are the kernel's in their order, constants among them in the layout that the
//! schedule gives them; the kernel is the one that a model has, sizes that are parameters included. It
//! writes where it would in a model: to memory that is used again in the next run.

use super::kernels::symbol;
use super::{Plan, PlanError, PlannedKernel, lifetime};
use crate::form;
use kiln_ir::kernel::{Kernel, Operand, Role};
use kiln_ir::schedule::Schedule;
use kiln_program::{
    Buffer, BufferId, Coverage, KernelEntry, Lifetime, Location, Port, Program, Step,
};
use kiln_tensor::{Dim, Symbol};
use std::collections::{BTreeMap, BTreeSet};

/// The program that launches a kernel once, with these values of its size parameters in the order of
/// their names.
pub fn alone(kernel: &Kernel, schedule: &Schedule, params: &[i64]) -> Result<Plan, PlanError> {
    let values: BTreeMap<&Symbol, Dim> =
        kernel.symbols.keys().zip(params.iter().map(|&value| Dim::from(value))).collect();
    let known = |dim: &Dim| dim.substitute(&|symbol: &Symbol| values.get(symbol).cloned());
    let shape = |number: usize, operand: &Operand| -> Vec<Dim> {
        let shape: Vec<Dim> = operand.shape.iter().map(known).collect();
        let packing = schedule.packing.iter().find(|packing| packing.operand == number);
        packing.map_or_else(|| shape.clone(), |packing| packing.layout.extents(&shape))
    };
    let mut program = Program { name: kernel.name.clone(), ..Program::default() };
    let mut operands = Vec::new();
    let mut copies = Vec::new();
    for (number, operand) in kernel.bound_operands() {
        let mut buffer = |location| {
            let shape = shape(number, operand);
            program.buffers.push(Buffer { dtype: operand.dtype, shape, location });
            BufferId(program.buffers.len() as u32 - 1)
        };
        let name = operand.name.clone();
        if operand.role == Role::Input {
            let buffer = buffer(Location::Input(program.inputs.len() as u32));
            program.inputs.push(Port { name, buffer });
            operands.push((buffer, Coverage::Read));
        } else {
            let from = buffer(Location::Arena(Lifetime { first: 0, last: 0 }));
            let to = buffer(Location::Output(program.outputs.len() as u32));
            program.outputs.push(Port { name, buffer: to });
            operands.push((from, Coverage::Write));
            copies.push(Step::Copy { from, to });
        }
    }
    program.kernels.push(KernelEntry {
        name: kernel.name.clone(),
        symbol: symbol(kernel, schedule),
        operands: operands.len() as u32,
        params: kernel.symbols.keys().cloned().collect(),
    });
    program.steps.push(Step::Launch {
        kernel: 0,
        operands,
        params: params.iter().map(|&value| Dim::from(value)).collect(),
        flops: known(&form::flops(kernel)),
        bytes: known(&form::bytes(kernel)),
        source: kernel.name.clone(),
    });
    program.steps.append(&mut copies);
    lifetime::assign(&mut program.buffers, &program.steps);
    program.validate(0)?;
    let (kernel, schedule) = (kernel.clone(), schedule.clone());
    let (constants, tuned, predicted) = (BTreeSet::new(), false, 0.0);
    let planned = PlannedKernel { kernel, schedule, constants, tuned, predicted };
    Ok(Plan { program, kernels: vec![planned], weights: Vec::new() })
}
