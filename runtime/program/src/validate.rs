//! Validation: everything about a program that execution relies on, checked once.
//!
//! Invariant: for a validated program, every number of a buffer, kernel, input or output that
//! execution meets is in range, and nothing is written that may only be read. Sizes that depend on
//! symbols are checked when they are evaluated.

use crate::{Buffer, BufferId, Coverage, Lifetime, Location, LoopStep, Program, Step};
use kiln_tensor::{DType, Dim, Symbol};
use std::collections::BTreeSet;
use thiserror::Error;

/// What is inconsistent in a program, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the compiled program is inconsistent: {place}: {reason}")]
pub struct ProgramError {
    /// Part of the program, e.g. `step 3`.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

type Check = Result<(), String>;

impl Program {
    /// Checks the program against a weight section of this many bytes.
    pub fn validate(&self, weights: u64) -> Result<(), ProgramError> {
        let at = |place: String| move |reason: String| ProgramError { place, reason };
        let checker = Checker { program: self, bound: self.bound_symbols() };
        for (number, port) in self.inputs.iter().enumerate() {
            checker.input(number, port.buffer).map_err(at(format!("input `{}`", port.name)))?;
        }
        let mut taken = BTreeSet::new();
        for (number, buffer) in self.buffers.iter().enumerate() {
            checker.buffer(buffer, weights).map_err(at(format!("buffer {number}")))?;
            // The tensor of an input or output is as large as its one buffer.
            let shared = match buffer.location {
                Location::Input(own) => !taken.insert((true, own)),
                Location::Output(own) => !taken.insert((false, own)),
                Location::Weights(_) | Location::Arena(_) => false,
            };
            if shared {
                let reason = format!("another buffer is {:?}, too", buffer.location);
                return Err(at(format!("buffer {number}"))(reason));
            }
        }
        let last = count(&self.steps).saturating_sub(1);
        for port in &self.outputs {
            checker.output(port.buffer, last).map_err(at(format!("output `{}`", port.name)))?;
        }
        checker.steps(&self.steps, &mut 0)
    }

    /// Symbols that get their value while the program runs, not from the shapes of its inputs.
    pub fn late_symbols(&self) -> BTreeSet<Symbol> {
        let mut late = BTreeSet::new();
        collect_late(&self.steps, &mut late);
        late
    }

    fn bound_symbols(&self) -> BTreeSet<Symbol> {
        let mut bound = self.late_symbols();
        let inputs = self.inputs.iter().filter_map(|port| self.buffer(port.buffer));
        for dim in inputs.flat_map(|buffer| &buffer.shape) {
            dim.collect_symbols(&mut bound);
        }
        bound
    }

    /// The buffer of this number, if there is one.
    pub fn buffer(&self, id: BufferId) -> Option<&Buffer> {
        self.buffers.get(id.0 as usize)
    }
}

/// Number of steps with those of nested blocks.
fn count(steps: &[Step]) -> u32 {
    let nested = |step: &Step| match step {
        Step::Branch { then, otherwise, .. } => count(then).saturating_add(count(otherwise)),
        Step::Loop(step) => count(&step.body),
        _ => 0,
    };
    steps.iter().fold(0u32, |sum, step| sum.saturating_add(1).saturating_add(nested(step)))
}

fn collect_late(steps: &[Step], late: &mut BTreeSet<Symbol>) {
    for step in steps {
        match step {
            Step::Bind { symbol, .. } => {
                late.insert(symbol.clone());
            }
            Step::Call { binds, .. } => late.extend(binds.iter().cloned()),
            Step::Branch { then, otherwise, .. } => {
                collect_late(then, late);
                collect_late(otherwise, late);
            }
            Step::Loop(step) => {
                late.extend(step.count.clone());
                collect_late(&step.body, late);
            }
            _ => {}
        }
    }
}

struct Checker<'a> {
    program: &'a Program,
    bound: BTreeSet<Symbol>,
}

impl Checker<'_> {
    fn buffer(&self, buffer: &Buffer, weights: u64) -> Check {
        self.dims(&buffer.shape)?;
        if let Some(dim) = buffer.shape.iter().find(|dim| dim.as_const().is_some_and(|d| d < 0)) {
            return Err(format!("dimension {dim} is negative"));
        }
        match &buffer.location {
            Location::Input(number) => within(*number, self.program.inputs.len(), "input"),
            Location::Output(number) => within(*number, self.program.outputs.len(), "output"),
            Location::Arena(Lifetime { first, last }) if first > last => {
                Err(format!("it lives from step {first} to step {last}"))
            }
            Location::Arena(_) => Ok(()),
            Location::Weights(range) => {
                let end = range.offset.checked_add(range.length);
                if end.is_none_or(|end| end > weights) || !range.offset.is_multiple_of(64) {
                    return Err(format!("{range:?} does not fit {weights} bytes of weights"));
                }
                // Packed constants are padded, never shorter.
                let bytes =
                    buffer.shape.iter().try_fold(buffer.dtype.size() as u64, |size, dim| {
                        size.checked_mul(u64::try_from(dim.as_const()?).ok()?)
                    });
                match bytes {
                    Some(bytes) if bytes <= range.length => Ok(()),
                    Some(bytes) => Err(format!("{bytes} bytes do not fit {range:?}")),
                    None => Err("a constant's shape must be known".to_owned()),
                }
            }
        }
    }

    fn input(&self, number: usize, id: BufferId) -> Check {
        match &self.get(id)?.location {
            Location::Input(own) if *own as usize == number => Ok(()),
            other => Err(format!("its buffer is in {other:?}")),
        }
    }

    fn output(&self, id: BufferId, last_step: u32) -> Check {
        match &self.get(id)?.location {
            Location::Arena(lifetime) if lifetime.last < last_step => {
                Err(format!("its buffer ends at step {} of {last_step}", lifetime.last))
            }
            _ => Ok(()),
        }
    }

    fn steps(&self, steps: &[Step], number: &mut u32) -> Result<(), ProgramError> {
        for step in steps {
            let own = *number;
            *number = number.saturating_add(1);
            match step {
                Step::Branch { then, otherwise, .. } => {
                    self.steps(then, number)?;
                    self.steps(otherwise, number)?;
                }
                Step::Loop(step) => self.steps(&step.body, number)?,
                _ => {}
            }
            let uses = Uses { checker: self, first: own, last: number.saturating_sub(1) };
            uses.step(step).map_err(|reason| ProgramError {
                place: match step {
                    Step::Launch { source, .. } | Step::Call { source, .. } => {
                        format!("step {own} (node `{source}`)")
                    }
                    _ => format!("step {own}"),
                },
                reason,
            })?;
        }
        Ok(())
    }

    fn get(&self, id: BufferId) -> Result<&Buffer, String> {
        self.program.buffer(id).ok_or_else(|| format!("there is no buffer {}", id.0))
    }

    fn dims<'d>(&self, dims: impl IntoIterator<Item = &'d Dim>) -> Check {
        let mut symbols = BTreeSet::new();
        dims.into_iter().for_each(|dim| dim.collect_symbols(&mut symbols));
        match symbols.difference(&self.bound).next() {
            Some(symbol) => Err(format!("nothing gives `{symbol}` a value")),
            None => Ok(()),
        }
    }
}

fn within(number: u32, length: usize, what: &str) -> Check {
    if (number as usize) < length { Ok(()) } else { Err(format!("there is no {what} {number}")) }
}

/// What one step does with buffers, from its own number to that of its last nested step.
struct Uses<'a> {
    checker: &'a Checker<'a>,
    first: u32,
    last: u32,
}

impl Uses<'_> {
    fn step(&self, step: &Step) -> Check {
        match step {
            Step::Launch { kernel, operands, params, flops, bytes, source: _ } => {
                within(*kernel, self.checker.program.kernels.len(), "kernel")?;
                let entry = &self.checker.program.kernels[*kernel as usize];
                if (operands.len(), params.len()) != (entry.operands as usize, entry.params.len()) {
                    return Err(format!(
                        "kernel `{}` takes {} operands and {} parameters, but gets {} and {}",
                        entry.name,
                        entry.operands,
                        entry.params.len(),
                        operands.len(),
                        params.len()
                    ));
                }
                for (id, coverage) in operands {
                    match coverage {
                        Coverage::Read => self.read(*id)?,
                        Coverage::Write => self.write(*id)?,
                    };
                }
                self.checker.dims(params.iter().chain([flops, bytes]))
            }
            Step::Sizes { buffer, dims } => {
                self.write(*buffer)?;
                self.element(*buffer, DType::I64, dims.len())?;
                self.checker.dims(dims)
            }
            Step::Copy { from, to } => {
                let (from, to) = (self.read(*from)?, self.write(*to)?);
                if from.dtype.size() != to.dtype.size() && from.bytes() != to.bytes() {
                    return Err(format!("copies {} to {}", from.dtype, to.dtype));
                }
                Ok(())
            }
            Step::Bind { symbol: _, buffer, element, source: _ } => {
                let dtype = self.read(*buffer)?.dtype;
                if !dtype.is_integer() {
                    return Err(format!("binds a symbol to an element of type {dtype}"));
                }
                self.element(*buffer, dtype, (*element as usize).saturating_add(1))
            }
            Step::Call { inputs, outputs, binds, routine: _, source: _ } => {
                for (id, shape) in inputs {
                    self.read(*id)?;
                    self.checker.dims(shape)?;
                }
                let mut alone = BTreeSet::new();
                for id in outputs {
                    alone.extend(self.write(*id)?.shape.iter().filter_map(Dim::as_symbol));
                }
                match binds.iter().find(|symbol| !alone.contains(symbol)) {
                    Some(symbol) => Err(format!("no result has a dimension `{symbol}`")),
                    None => Ok(()),
                }
            }
            Step::CheckEqual { left, right, source: _ } => self.checker.dims([left, right]),
            Step::Branch { condition, .. } => {
                self.read(*condition)?;
                self.element(*condition, DType::Bool, 1)
            }
            Step::Loop(step) => self.repeat(step),
        }
    }

    fn repeat(&self, step: &LoopStep) -> Check {
        self.read(step.trip)?;
        self.element(step.trip, DType::I64, 1)?;
        // Written by the body, and looked at after each iteration.
        self.read(step.condition)?;
        self.element(step.condition, DType::Bool, 1)?;
        self.write(step.iteration)?;
        self.element(step.iteration, DType::I64, 1)?;
        for (stacked, element) in &step.scans {
            let (stacked, element) = (self.write(*stacked)?, self.checker.get(*element)?);
            if stacked.dtype != element.dtype || stacked.shape.len() != element.shape.len() + 1 {
                return Err("a scan's buffers do not match".to_owned());
            }
        }
        Ok(())
    }

    fn read(&self, id: BufferId) -> Result<&Buffer, String> {
        let buffer = self.checker.get(id)?;
        if let Location::Arena(lifetime) = &buffer.location
            && (lifetime.first > self.first || lifetime.last < self.last)
        {
            return Err(format!(
                "uses buffer {}, which lives from step {} to step {} only",
                id.0, lifetime.first, lifetime.last
            ));
        }
        Ok(buffer)
    }

    fn write(&self, id: BufferId) -> Result<&Buffer, String> {
        let buffer = self.read(id)?;
        match buffer.location {
            Location::Input(_) | Location::Weights(_) => {
                Err(format!("writes to buffer {}, which may only be read", id.0))
            }
            _ => Ok(buffer),
        }
    }

    /// Checks that the buffer has this type and, if its shape is known, so many elements.
    fn element(&self, id: BufferId, dtype: DType, elements: usize) -> Check {
        let buffer = self.checker.get(id)?;
        let length = buffer
            .shape
            .iter()
            .try_fold(1i64, |product, dim| dim.as_const().and_then(|dim| product.checked_mul(dim)));
        if buffer.dtype != dtype || length.is_some_and(|length| length < elements as i64) {
            return Err(format!("needs {elements} elements of {dtype} in buffer {}", id.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KernelEntry, Port, WeightRange};

    /// `y = kernel(x, w)` with symbolic first dimension.
    fn sound() -> Program {
        let buffer =
            |dims: &[Dim], location| Buffer { dtype: DType::F32, shape: dims.to_vec(), location };
        let n = Dim::named("n");
        Program {
            inputs: vec![Port { name: "x".into(), buffer: BufferId(0) }],
            outputs: vec![Port { name: "y".into(), buffer: BufferId(2) }],
            buffers: vec![
                buffer(std::slice::from_ref(&n), Location::Input(0)),
                buffer(&[4usize.into()], Location::Weights(WeightRange { offset: 64, length: 16 })),
                buffer(std::slice::from_ref(&n), Location::Output(0)),
                buffer(std::slice::from_ref(&n), Location::Arena(Lifetime { first: 0, last: 0 })),
            ],
            kernels: vec![KernelEntry {
                name: "k".into(),
                symbol: "k".into(),
                operands: 3,
                params: vec![Symbol::new("n")],
            }],
            steps: vec![launch(0), Step::Copy { from: BufferId(0), to: BufferId(2) }],
            ..Program::default()
        }
    }

    fn launch(kernel: u32) -> Step {
        let n = Dim::named("n");
        let (read, write) = (Coverage::Read, Coverage::Write);
        Step::Launch {
            kernel,
            operands: vec![(BufferId(0), read), (BufferId(1), read), (BufferId(3), write)],
            params: vec![n],
            flops: Dim::default(),
            bytes: Dim::default(),
            source: "node".into(),
        }
    }

    #[test]
    fn each_inconsistency_is_found() {
        assert_eq!(sound().validate(80), Ok(()));
        type Damage = fn(&mut Program);
        let cases: [(&str, Damage); 16] = [
            ("there is no buffer 9", |p| p.inputs[0].buffer = BufferId(9)),
            ("its buffer is in", |p| p.inputs[0].buffer = BufferId(1)),
            ("there is no kernel 7", |p| p.steps[0] = launch(7)),
            ("takes 2 operands", |p| p.kernels[0].operands = 2),
            ("nothing gives `m` a value", |p| p.buffers[2].shape = vec![Dim::named("m")]),
            ("negative", |p| p.buffers[2].shape = vec![Dim::from(-1i64)]),
            ("there is no output 1", |p| p.buffers[2].location = Location::Output(1)),
            ("another buffer is Output(0), too", |p| p.buffers[3].location = Location::Output(0)),
            ("another buffer is Input(0), too", |p| p.buffers[3].location = Location::Input(0)),
            ("may only be read", |p| {
                p.inputs.push(Port { name: "z".into(), buffer: BufferId(3) });
                p.buffers[3].location = Location::Input(1);
            }),
            ("do not fit", |p| p.buffers[1].shape = vec![Dim::from(5i64)]),
            ("does not fit 80 bytes", |p| {
                p.buffers[1].location =
                    Location::Weights(WeightRange { offset: u64::MAX - 63, length: 64 });
            }),
            ("lives from step 1 to step 1", |p| {
                p.buffers[3].location = Location::Arena(Lifetime { first: 1, last: 1 });
            }),
            ("its buffer ends at step 0", |p| p.outputs[0].buffer = BufferId(3)),
            ("type f32", |p| {
                p.steps.push(Step::Bind {
                    symbol: Symbol::new("m"),
                    buffer: BufferId(0),
                    element: 0,
                    source: "m".to_owned(),
                });
            }),
            ("1 elements of bool", |p| {
                p.steps.push(Step::Branch {
                    condition: BufferId(1),
                    then: vec![],
                    otherwise: vec![],
                });
            }),
        ];
        for (expected, damage) in cases {
            let mut program = sound();
            damage(&mut program);
            let message = program.validate(80).expect_err(expected).to_string();
            assert!(message.contains(expected), "`{message}` should say `{expected}`");
        }
    }

    #[test]
    fn nested_steps_count_where_they_stand() {
        let mut program = sound();
        program.buffers[0].dtype = DType::Bool;
        program.buffers[0].shape = vec![Dim::from(1i64)];
        program.buffers[3].shape = vec![Dim::from(1i64)];
        program.buffers[3].location = Location::Arena(Lifetime { first: 3, last: 3 });
        program.kernels[0].params.clear();
        let mut inner = launch(0);
        if let Step::Launch { params, .. } = &mut inner {
            params.clear();
        }
        let copy = || Step::Copy { from: BufferId(0), to: BufferId(2) };
        program.buffers[2] = Buffer { location: Location::Output(0), ..program.buffers[0].clone() };
        // Numbers: branch 0, copies 1 and 2, launch 3.
        program.steps = vec![Step::Branch {
            condition: BufferId(0),
            then: vec![copy(), copy()],
            otherwise: vec![inner],
        }];
        assert_eq!(program.validate(80), Ok(()));
        assert_eq!(count(&program.steps), 4);
    }
}
