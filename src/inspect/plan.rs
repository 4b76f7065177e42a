//! The text of a program: memory, buffers and steps.
//!
//! Invariant: every step and every buffer of the program is shown, each once.

use kiln_program::{Buffer, BufferId, Location, Partition, Program, Step};
use kiln_tensor::{Dim, Symbol};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The program as text, its kernels cut up like this; with `node`, only the launches that came from nodes whose names contain it,
/// and `None` if there are none.
pub fn print(program: &Program, partitions: &[Partition], node: Option<&str>) -> Option<String> {
    let text = String::new();
    let mut printer = Printer { program, partitions, node, text, number: 0, shown: 0 };
    if node.is_none() {
        printer.head();
    }
    printer.steps(&program.steps, 0);
    (node.is_none() || printer.shown > 0).then_some(printer.text)
}

/// Numbers of the kernels that are launched for nodes whose names contain `node`; all without.
pub(super) fn kernels_from(program: &Program, node: Option<&str>) -> BTreeSet<usize> {
    let mut kernels = BTreeSet::new();
    program.each_launch(&mut |kernel, source| {
        if node.is_none_or(|name| source.contains(name)) {
            kernels.insert(kernel);
        }
    });
    kernels
}

/// The nodes that a kernel is launched for.
pub(super) fn sources(program: &Program, kernel: usize) -> Vec<String> {
    let mut sources = Vec::new();
    program.each_launch(&mut |launched, source| {
        if launched == kernel {
            sources.push(format!("`{source}`"));
        }
    });
    sources
}

struct Printer<'a> {
    program: &'a Program,
    /// How the work of each kernel is cut up.
    partitions: &'a [Partition],
    node: Option<&'a str>,
    text: String,
    number: usize,
    shown: usize,
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = 2 * depth);
    }

    fn head(&mut self) {
        let program = self.program;
        let weights = program.buffers.iter().filter_map(|buffer| match buffer.location {
            Location::Weights(range) => Some(range.length),
            _ => None,
        });
        let (count, bytes) = weights.fold((0, 0u64), |(n, sum), bytes| (n + 1, sum + bytes));
        self.line(0, &format!("program \"{}\"", program.name));
        self.line(0, &format!("kernels {}, each compiled once", program.kernels.len()));
        self.line(0, &format!("weights {count} constants, {bytes} bytes"));
        for (what, ports) in [("input", &program.inputs), ("output", &program.outputs)] {
            for port in ports {
                let buffer = self.buffer(port.buffer);
                self.line(0, &format!("{what} \"{}\" {buffer}", port.name));
            }
        }
        self.line(0, "buffers in the arena (steps in which they are alive)");
        for (number, buffer) in program.buffers.iter().enumerate() {
            if let Location::Arena(life) = buffer.location {
                let bytes = buffer.bytes();
                let ty = type_of(buffer);
                let steps = format!("steps {}..={}", life.first, life.last);
                self.line(1, &format!("b{number}: {ty}, {bytes} bytes, {steps}"));
            }
        }
        self.line(0, "steps");
    }

    fn steps(&mut self, steps: &[Step], depth: usize) {
        for step in steps {
            self.step(step, depth);
        }
    }

    fn step(&mut self, step: &Step, depth: usize) {
        let number = self.number;
        self.number += 1;
        let shown = match (step, self.node) {
            (_, None) => true,
            (Step::Launch { source, .. }, Some(name)) => source.contains(name),
            _ => false,
        };
        if shown {
            self.shown += 1;
            let text = self.describe(step);
            self.line(depth, &format!("{number:>4} {text}"));
        }
        match step {
            Step::Branch { then, otherwise, .. } => {
                self.steps(then, depth + 1);
                if self.node.is_none() {
                    self.line(depth, "     else");
                }
                self.steps(otherwise, depth + 1);
            }
            Step::Loop(repeat) => self.steps(&repeat.body, depth + 1),
            _ => {}
        }
    }

    fn describe(&self, step: &Step) -> String {
        match step {
            Step::Launch { kernel, operands, params, source, .. } => {
                let number = *kernel as usize;
                let kernel = self.program.kernels.get(number);
                let name = kernel.map_or_else(|| format!("kernel {number}"), |k| k.symbol.clone());
                let operands: Vec<String> =
                    operands.iter().map(|(buffer, _)| self.buffer(*buffer)).collect();
                let mut text = format!("launch {name}({})", operands.join(", "));
                if !params.is_empty() {
                    let _ = write!(text, " sizes {}", list(params));
                }
                if let (Some(entry), Some(cut)) = (kernel, self.partitions.get(number)) {
                    let values: BTreeMap<&Symbol, &Dim> = entry.params.iter().zip(params).collect();
                    let here = |dim: &Dim| dim.substitute(&|s| values.get(s).copied().cloned());
                    let _ = write!(text, " tasks {}", here(&cut.tasks));
                    if !cut.scratch.is(0) {
                        let _ = write!(text, " scratch {} bytes", here(&cut.scratch));
                    }
                }
                let _ = write!(text, " for `{source}`");
                text
            }
            Step::Sizes { buffer, dims } => {
                format!("sizes {} = {}", self.buffer(*buffer), list(dims))
            }
            Step::Copy { from, to } => {
                format!("copy {} to {}", self.buffer(*from), self.buffer(*to))
            }
            Step::Bind { symbol, buffer, element, .. } => {
                format!("bind {symbol} = {}[{element}]", self.buffer(*buffer))
            }
            Step::Call { routine, inputs, outputs, source, .. } => {
                let read = inputs.iter().map(|(buffer, shape)| self.read_as(*buffer, shape));
                let written = outputs.iter().map(|buffer| self.buffer(*buffer));
                let buffers: Vec<String> = read.chain(written).collect();
                format!("call {}({}) for `{source}`", routine.name(), buffers.join(", "))
            }
            Step::CheckEqual { left, right, source } => {
                format!("check {left} = {right} for `{source}`")
            }
            Step::Branch { condition, .. } => format!("if {}", self.buffer(*condition)),
            Step::Loop(repeat) => format!(
                "loop at most {} times while {}, counting in {}",
                self.buffer(repeat.trip),
                self.buffer(repeat.condition),
                self.buffer(repeat.iteration)
            ),
        }
    }

    /// A buffer, and the shape in which it is looked at, if that is not its own.
    fn read_as(&self, id: BufferId, shape: &[Dim]) -> String {
        match self.program.buffer(id) {
            Some(buffer) if buffer.shape != shape => {
                format!("{} as [{}]", self.buffer(id), list(shape))
            }
            _ => self.buffer(id),
        }
    }

    fn buffer(&self, id: BufferId) -> String {
        let Some(buffer) = self.program.buffer(id) else { return format!("b{}", id.0) };
        let ty = type_of(buffer);
        match buffer.location {
            Location::Input(number) => format!("input {number}: {ty}"),
            Location::Output(number) => format!("output {number}: {ty}"),
            Location::Weights(range) => format!("weights+{}: {ty}", range.offset),
            Location::Arena(_) => format!("b{}: {ty}", id.0),
        }
    }
}

fn type_of(buffer: &Buffer) -> String {
    let dims: Vec<String> = buffer.shape.iter().map(Dim::to_string).collect();
    format!("{}[{}]", buffer.dtype, dims.join(", "))
}

fn list(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
    dims.join(", ")
}
