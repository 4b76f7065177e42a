//! Programs run on the host: one arena at the places that `kiln_program::place` gives, weights packed
//! as they will be, kernels by their reference evaluation.
//!
//! Invariant: bytes that no live buffer covers are overwritten before every step, so that a lifetime
//! that is too short shows as wrong numbers; nothing is read or written that the program does not
//! allow.

use kiln_ir::kernel::{Role, evaluate};
use kiln_ir::schedule::{PackedLayout, Part};
use kiln_passes::plan::PlannedKernel;
use kiln_passes::{Plan, tile};
use kiln_program::{BufferId, Coverage, Lifetime, Location, LoopStep, Step, place};
use kiln_tensor::{DType, Dim, Symbol, SymbolValues, Tensor};
use std::collections::BTreeSet;
use std::ops::Range;

/// A run-time check that failed, as the runtime would report it.
#[derive(Debug, PartialEq)]
pub struct CheckFailed(pub String);

/// What dead memory is filled with: not a number, the greatest unsigned, minus one.
const DEAD: u8 = 0xff;

/// Outputs of a program for these inputs. Panics where the program is at fault.
pub fn run(plan: &Plan, inputs: &[Tensor]) -> Result<Vec<Tensor>, CheckFailed> {
    let mut host = Host::new(plan, inputs)?;
    let mut number = 0;
    host.block(&plan.program.steps, &mut number)?;
    let program = &plan.program;
    let outputs = program.outputs.iter().map(|port| {
        let buffer = &program.buffers[port.buffer.0 as usize];
        let sizes = host.sizes(&buffer.shape);
        Tensor::from_bytes(buffer.dtype, sizes, &host.bytes(port.buffer)).unwrap()
    });
    Ok(outputs.collect())
}

/// Where a buffer's bytes are.
#[derive(Clone, Debug, PartialEq)]
enum Memory {
    Input(usize),
    Weights(Range<usize>),
    Output(usize),
    /// A range of one of the arenas, and when it is alive.
    Arena(usize, Range<usize>, Lifetime),
    /// Not placed: a size is not known yet.
    Nowhere,
}

struct Host<'p> {
    plan: &'p Plan,
    symbols: SymbolValues,
    inputs: Vec<Tensor>,
    weights: Vec<u8>,
    outputs: Vec<Vec<u8>>,
    /// The first for buffers whose sizes follow from the inputs; one more for each symbol that is
    /// bound later.
    arenas: Vec<Vec<u8>>,
    memory: Vec<Memory>,
}

impl<'p> Host<'p> {
    fn new(plan: &'p Plan, inputs: &[Tensor]) -> Result<Self, CheckFailed> {
        let program = &plan.program;
        let mut weights = vec![DEAD; plan.weight_bytes() as usize];
        for weight in &plan.weights {
            let mut bytes = Vec::new();
            weight.write(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, weight.range.length);
            let start = weight.range.offset as usize;
            weights[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        let mut host = Host {
            plan,
            symbols: SymbolValues::new(),
            inputs: inputs.to_vec(),
            weights,
            outputs: vec![Vec::new(); program.outputs.len()],
            arenas: Vec::new(),
            memory: vec![Memory::Nowhere; program.buffers.len()],
        };
        host.bind_inputs()?;
        host.place();
        Ok(host)
    }

    /// Values of the symbols in the shapes of the inputs: those that stand alone, then those that
    /// are the one unknown of a linear expression.
    fn bind_inputs(&mut self) -> Result<(), CheckFailed> {
        let program = &self.plan.program;
        let mut open: Vec<(Dim, i64)> = Vec::new();
        for (port, tensor) in program.inputs.iter().zip(&self.inputs) {
            let buffer = &program.buffers[port.buffer.0 as usize];
            assert_eq!(buffer.dtype, tensor.dtype());
            assert_eq!(buffer.shape.len(), tensor.sizes().len());
            open.extend(buffer.shape.iter().cloned().zip(tensor.sizes().iter().map(|&s| s as i64)));
        }
        for _ in 0..open.len() + 1 {
            for (dim, size) in &open {
                let mut unknown = BTreeSet::new();
                dim.collect_symbols(&mut unknown);
                unknown.retain(|symbol| !self.symbols.contains_key(symbol));
                let Some(symbol) = unknown.pop_first().filter(|_| unknown.is_empty()) else {
                    continue;
                };
                let value = (-1..=2 * size.abs() + 1).find(|&value| {
                    let mut values = self.symbols.clone();
                    values.insert(symbol.clone(), value);
                    dim.evaluate(&values) == Ok(*size)
                });
                if let Some(value) = value {
                    self.bind(&symbol, value)?;
                }
            }
        }
        for (dim, size) in open {
            if dim.evaluate(&self.symbols) != Ok(size) {
                return Err(CheckFailed(format!("an input's dimension {dim} is not {size}")));
            }
        }
        Ok(())
    }

    fn bind(&mut self, symbol: &Symbol, value: i64) -> Result<(), CheckFailed> {
        let bounds = self.plan.program.symbols.get(symbol).copied().unwrap_or_default();
        if value < bounds.min || bounds.max.is_some_and(|max| value > max) {
            return Err(CheckFailed(format!("{symbol:?} is {value}")));
        }
        if self.symbols.insert(symbol.clone(), value) != Some(value) {
            // A loop around binds it anew: what has such a size is placed again.
            let buffers = self.plan.program.buffers.iter();
            for (memory, buffer) in self.memory.iter_mut().zip(buffers) {
                let mut symbols = BTreeSet::new();
                buffer.shape.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
                if symbols.contains(symbol) {
                    *memory = Memory::Nowhere;
                }
            }
        }
        Ok(())
    }

    fn sizes(&self, shape: &[Dim]) -> Vec<usize> {
        let size = |dim: &Dim| usize::try_from(dim.evaluate(&self.symbols).unwrap()).unwrap();
        shape.iter().map(size).collect()
    }

    /// Places every buffer whose sizes are known by now and that has no place yet.
    fn place(&mut self) {
        let mut arena = Vec::new();
        for (number, buffer) in self.plan.program.buffers.iter().enumerate() {
            let known = buffer.shape.iter().all(|dim| dim.evaluate(&self.symbols).is_ok());
            if !known || self.memory[number] != Memory::Nowhere {
                continue;
            }
            let bytes = Tensor::byte_length(buffer.dtype, &self.sizes(&buffer.shape)).unwrap();
            self.memory[number] = match &buffer.location {
                Location::Input(input) => Memory::Input(*input as usize),
                Location::Weights(range) => {
                    let start = range.offset as usize;
                    Memory::Weights(start..start + range.length as usize)
                }
                Location::Output(output) => {
                    self.outputs[*output as usize] = vec![DEAD; bytes];
                    Memory::Output(*output as usize)
                }
                Location::Arena(lifetime) => {
                    arena.push((number, *lifetime, bytes));
                    continue;
                }
            };
        }
        let wanted: Vec<(Lifetime, u64)> =
            arena.iter().map(|&(_, lifetime, bytes)| (lifetime, bytes as u64)).collect();
        let placement = place(&wanted).unwrap();
        for ((number, lifetime, bytes), offset) in arena.into_iter().zip(placement.offsets) {
            let start = offset as usize;
            self.memory[number] = Memory::Arena(self.arenas.len(), start..start + bytes, lifetime);
        }
        self.arenas.push(vec![DEAD; placement.size as usize]);
    }

    /// Overwrites all memory that no buffer alive at this step covers.
    fn forget(&mut self, step: u32) {
        for (number, arena) in self.arenas.iter_mut().enumerate() {
            let mut alive = vec![false; arena.len()];
            for memory in &self.memory {
                if let Memory::Arena(own, range, lifetime) = memory
                    && *own == number
                    && (lifetime.first..=lifetime.last).contains(&step)
                {
                    alive[range.clone()].fill(true);
                }
            }
            arena.iter_mut().zip(alive).filter(|(_, alive)| !alive).for_each(|(b, _)| *b = DEAD);
        }
    }

    fn bytes(&self, id: BufferId) -> Vec<u8> {
        match &self.memory[id.0 as usize] {
            Memory::Input(number) => self.inputs[*number].bytes().to_vec(),
            Memory::Weights(range) => self.weights[range.clone()].to_vec(),
            Memory::Output(number) => self.outputs[*number].clone(),
            Memory::Arena(arena, range, _) => self.arenas[*arena][range.clone()].to_vec(),
            Memory::Nowhere => panic!("buffer {} is read before its sizes are known", id.0),
        }
    }

    fn write(&mut self, id: BufferId, bytes: &[u8]) {
        let place = match &self.memory[id.0 as usize] {
            Memory::Output(number) => &mut self.outputs[*number][..],
            Memory::Arena(arena, range, _) => &mut self.arenas[*arena][range.clone()],
            other => panic!("buffer {} is written in {other:?}", id.0),
        };
        assert_eq!(place.len(), bytes.len(), "buffer {} is written with other sizes", id.0);
        place.copy_from_slice(bytes);
    }

    fn integer(&self, id: BufferId, element: usize) -> i64 {
        let dtype = self.plan.program.buffers[id.0 as usize].dtype;
        let bytes = self.bytes(id);
        Tensor::from_bytes(dtype, vec![bytes.len() / dtype.size()], &bytes).unwrap().to_i64()
            [element]
    }

    fn block(&mut self, steps: &[Step], number: &mut u32) -> Result<(), CheckFailed> {
        for step in steps {
            let own = *number;
            *number += 1;
            self.forget(own);
            self.step(step, number)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, number: &mut u32) -> Result<(), CheckFailed> {
        match step {
            Step::Launch { kernel, operands, params, .. } => {
                self.launch(*kernel as usize, operands, params);
            }
            Step::Sizes { buffer, dims } => {
                let bytes: Vec<u8> = dims
                    .iter()
                    .flat_map(|dim| dim.evaluate(&self.symbols).unwrap().to_le_bytes())
                    .collect();
                self.write(*buffer, &bytes);
            }
            Step::Copy { from, to } => {
                let bytes = self.bytes(*from);
                self.write(*to, &bytes);
            }
            Step::Bind { symbol, buffer, element, .. } => {
                let value = self.integer(*buffer, *element as usize);
                self.bind(symbol, value)?;
                self.place();
            }
            Step::Call { routine, inputs, outputs, binds, .. } => {
                let operand = |(id, shape): &(BufferId, Vec<Dim>)| {
                    let buffer = &self.plan.program.buffers[id.0 as usize];
                    let sizes = self.sizes(shape);
                    Tensor::from_bytes(buffer.dtype, sizes, &self.bytes(*id)).unwrap()
                };
                let operands: Vec<Tensor> = inputs.iter().map(operand).collect();
                let results = routine.run(&operands, &Default::default()).unwrap();
                for (id, result) in outputs.iter().zip(&results) {
                    let shape = self.plan.program.buffers[id.0 as usize].shape.clone();
                    for (dim, &size) in shape.iter().zip(result.sizes()) {
                        if let Some(symbol) = dim.as_symbol().filter(|s| binds.contains(s)) {
                            self.bind(symbol, size as i64)?;
                        }
                    }
                }
                self.place();
                for (id, result) in outputs.iter().zip(&results) {
                    self.write(*id, result.bytes());
                }
            }
            Step::CheckEqual { left, right, source } => {
                let [a, b] = [left, right].map(|dim| dim.evaluate(&self.symbols).unwrap());
                if a != b {
                    return Err(CheckFailed(format!("{source}: {left} = {a}, {right} = {b}")));
                }
            }
            Step::Branch { condition, then, otherwise } => {
                let taken = self.bytes(*condition);
                assert!(taken == [0] || taken == [1], "{taken:?} is no condition");
                if taken == [1] {
                    self.block(then, number)?;
                    *number += count(otherwise);
                } else {
                    *number += count(then);
                    self.block(otherwise, number)?;
                }
            }
            Step::Loop(step) => self.repeat(step, number)?,
        }
        Ok(())
    }

    fn repeat(&mut self, step: &LoopStep, number: &mut u32) -> Result<(), CheckFailed> {
        let (first, trip) = (*number, self.integer(step.trip, 0));
        let mut scans = vec![Vec::new(); step.scans.len()];
        let mut iteration = 0i64;
        while iteration < trip && self.bytes(step.condition) == [1] {
            *number = first;
            self.write(step.iteration, &iteration.to_le_bytes());
            self.block(&step.body, number)?;
            for (scan, (_, element)) in scans.iter_mut().zip(&step.scans) {
                scan.extend(self.bytes(*element));
            }
            iteration += 1;
        }
        *number = first + count(&step.body);
        if let Some(symbol) = &step.count {
            self.bind(symbol, iteration)?;
            self.place();
        }
        for (scan, (stacked, _)) in scans.iter().zip(&step.scans) {
            self.write(*stacked, scan);
        }
        Ok(())
    }

    fn launch(&mut self, number: usize, operands: &[(BufferId, Coverage)], params: &[Dim]) {
        let PlannedKernel { kernel, schedule, .. } = &self.plan.kernels[number];
        tile::legal(kernel, schedule).unwrap();
        let values: SymbolValues = kernel
            .symbols
            .keys()
            .cloned()
            .zip(params.iter().map(|dim| dim.evaluate(&self.symbols).unwrap()))
            .collect();
        assert_eq!(params.len(), values.len(), "{kernel}");
        assert!(self.plan.program.kernels[number].params.iter().eq(kernel.symbols.keys()));

        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let bound: Vec<_> = kernel.bound_operands().collect();
        assert_eq!(bound.len(), operands.len(), "{kernel}");
        for ((place, operand), &(buffer, coverage)) in bound.into_iter().zip(operands) {
            let sizes: Vec<usize> =
                operand.shape.iter().map(|d| d.evaluate(&values).unwrap() as usize).collect();
            if operand.role == Role::Output {
                assert_eq!(coverage, Coverage::Write);
                outputs.push(buffer);
                continue;
            }
            assert_eq!(coverage, Coverage::Read);
            let mut bytes = self.bytes(buffer);
            if let Some(packing) = schedule.packing.iter().find(|p| p.operand == place) {
                let stored = &self.memory[buffer.0 as usize];
                assert!(matches!(stored, Memory::Weights(_)), "a packed operand in {stored:?}");
                bytes = unpacked(&bytes, operand.dtype, &sizes, &packing.layout);
            }
            inputs.push(Tensor::from_bytes(operand.dtype, sizes, &bytes).unwrap());
        }
        let results = evaluate(kernel, &values, &inputs);
        let results = results.unwrap_or_else(|error| panic!("{error}\n{kernel}"));
        // A kernel writes while it still reads: no result may lie where an operand does.
        for &(read, _) in operands.iter().filter(|(_, coverage)| *coverage == Coverage::Read) {
            outputs.iter().for_each(|&written| assert!(!self.overlap(read, written), "{kernel}"));
        }
        assert_eq!(results.len(), outputs.len(), "{kernel}");
        for (result, buffer) in results.iter().zip(outputs) {
            self.write(buffer, result.bytes());
        }
    }

    fn overlap(&self, a: BufferId, b: BufferId) -> bool {
        match (&self.memory[a.0 as usize], &self.memory[b.0 as usize]) {
            (Memory::Arena(first, a, _), Memory::Arena(second, b, _)) => {
                first == second && a.start < b.end && b.start < a.end
            }
            (Memory::Output(a), Memory::Output(b)) => a == b,
            _ => false,
        }
    }
}

/// Number of steps with those inside of them.
fn count(steps: &[Step]) -> u32 {
    let nested = |step: &Step| match step {
        Step::Branch { then, otherwise, .. } => count(then) + count(otherwise),
        Step::Loop(step) => count(&step.body),
        _ => 0,
    };
    steps.iter().map(|step| 1 + nested(step)).sum()
}

/// A packed constant in row-major order again: each element is looked up where the layout's
/// definition puts it.
fn unpacked(bytes: &[u8], dtype: DType, sizes: &[usize], layout: &PackedLayout) -> Vec<u8> {
    let width = dtype.size();
    let total: usize = sizes.iter().product();
    let mut plain = Vec::with_capacity(total * width);
    for element in 0..total {
        let mut rest = element;
        let mut index = vec![0; sizes.len()];
        for (slot, &size) in index.iter_mut().zip(sizes).rev() {
            *slot = rest % size;
            rest /= size;
        }
        let mut at = 0;
        for &(dim, part) in &layout.levels {
            let (position, extent) = match part {
                Part::Whole => (index[dim], sizes[dim]),
                Part::Outer(block) => {
                    (index[dim] / block as usize, sizes[dim].div_ceil(block as usize))
                }
                Part::Inner(block) => (index[dim] % block as usize, block as usize),
            };
            at = at * extent + position;
        }
        plain.extend_from_slice(&bytes[at * width..(at + 1) * width]);
    }
    plain
}
