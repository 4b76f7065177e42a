//! A program as lines of text: what is launched on what, and how long buffers live.
//!
//! Invariant: buffers are shown by where they are and their number: `i` input, `w` weights, `o`
//! output, `a` arena.

use kiln_passes::Plan;
use kiln_program::{Buffer, BufferId, Location, Step};
use std::fmt::Write;

pub fn listing(plan: &Plan) -> String {
    let program = &plan.program;
    let mut text = String::new();
    for (number, buffer) in program.buffers.iter().enumerate() {
        let shape: Vec<String> = buffer.shape.iter().map(ToString::to_string).collect();
        let name = name(buffer, number);
        let _ = write!(text, "{name}: {}[{}]", buffer.dtype, shape.join(", "));
        let _ = match &buffer.location {
            Location::Weights(range) => {
                writeln!(text, " bytes {}..{}", range.offset, range.offset + range.length)
            }
            Location::Arena(life) => writeln!(text, " steps {}..={}", life.first, life.last),
            _ => writeln!(text),
        };
    }
    steps(plan, &program.steps, 0, &mut 0, &mut text);
    for port in &program.outputs {
        let _ = writeln!(text, "return {} as `{}`", of(plan, port.buffer), port.name);
    }
    text
}

fn name(buffer: &Buffer, number: usize) -> String {
    let place = match buffer.location {
        Location::Input(_) => 'i',
        Location::Weights(_) => 'w',
        Location::Output(_) => 'o',
        Location::Arena(_) => 'a',
    };
    format!("{place}{number}")
}

fn of(plan: &Plan, id: BufferId) -> String {
    name(&plan.program.buffers[id.0 as usize], id.0 as usize)
}

fn steps(plan: &Plan, block: &[Step], depth: usize, number: &mut usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for step in block {
        let _ = write!(text, "{indent}{number}: ");
        *number += 1;
        match step {
            Step::Launch { kernel, operands, params, .. } => {
                let names: Vec<String> = operands.iter().map(|(id, _)| of(plan, *id)).collect();
                let sizes: Vec<String> = params.iter().map(ToString::to_string).collect();
                let name = &plan.program.kernels[*kernel as usize].name;
                let _ =
                    writeln!(text, "k{kernel} {name}({}) {}", sizes.join(", "), names.join(", "));
            }
            Step::Sizes { buffer, dims } => {
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "{} = sizes {}", of(plan, *buffer), dims.join(", "));
            }
            Step::Copy { from, to } => {
                let _ = writeln!(text, "copy {} to {}", of(plan, *from), of(plan, *to));
            }
            Step::Bind { symbol, buffer, element, .. } => {
                let _ = writeln!(text, "bind {symbol} to {}[{element}]", of(plan, *buffer));
            }
            Step::Call { routine, inputs, outputs, .. } => {
                let names: Vec<String> = inputs
                    .iter()
                    .map(|(id, _)| id)
                    .chain(outputs)
                    .map(|id| of(plan, *id))
                    .collect();
                let _ = writeln!(text, "{} {}", routine.name(), names.join(", "));
            }
            Step::CheckEqual { left, right, source } => {
                let _ = writeln!(text, "check {left} = {right} for {source}");
            }
            Step::Branch { condition, then, otherwise } => {
                let _ = writeln!(text, "if {}", of(plan, *condition));
                steps(plan, then, depth + 1, number, text);
                let _ = writeln!(text, "{indent}else");
                steps(plan, otherwise, depth + 1, number, text);
            }
            Step::Loop(step) => {
                let [trip, go, iteration] =
                    [step.trip, step.condition, step.iteration].map(|id| of(plan, id));
                let _ = write!(text, "loop {iteration} < {trip} while {go}");
                for (stacked, element) in &step.scans {
                    let _ = write!(text, ", {} stacks {}", of(plan, *stacked), of(plan, *element));
                }
                let _ = match &step.count {
                    Some(count) => writeln!(text, ", {count} iterations"),
                    None => writeln!(text),
                };
                steps(plan, &step.body, depth + 1, number, text);
            }
        }
    }
}
