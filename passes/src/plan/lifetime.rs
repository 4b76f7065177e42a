//! Lifetimes: from the first step that touches a buffer to the last, whichever way control goes.
//!
//! Invariant: a buffer that a loop finds there when it starts lives until the loop ends; what is
//! used only inside of one iteration lives only there.

use kiln_program::{Buffer, BufferId, Lifetime, Location, Step};

/// Fills in the lifetimes of all buffers in the arena.
pub(super) fn assign(buffers: &mut [Buffer], steps: &[Step]) {
    let mut walk = Walk { uses: vec![None; buffers.len()], loops: Vec::new(), number: 0 };
    walk.block(steps);
    for (buffer, uses) in buffers.iter_mut().zip(walk.uses) {
        if let (Location::Arena(lifetime), Some(uses)) = (&mut buffer.location, uses) {
            *lifetime = Lifetime { first: uses.first, last: uses.last };
        }
    }
}

/// Steps that touch a buffer.
#[derive(Clone)]
struct Uses {
    first: u32,
    last: u32,
    /// Loops around the first step, by their numbers.
    loops: Vec<(u32, u32)>,
}

struct Walk {
    uses: Vec<Option<Uses>>,
    /// Loops around the current step: their first and last steps.
    loops: Vec<(u32, u32)>,
    number: u32,
}

impl Walk {
    fn block(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let own = self.number;
        let end = own + nested(step);
        self.number += 1;
        match step {
            Step::Launch { operands, .. } => {
                operands.iter().for_each(|(buffer, _)| self.touch(*buffer, own, own));
            }
            Step::Call { inputs, outputs, .. } => {
                let read = inputs.iter().map(|(buffer, _)| buffer);
                read.chain(outputs).for_each(|buffer| self.touch(*buffer, own, own));
            }
            Step::Sizes { buffer, .. } | Step::Bind { buffer, .. } => {
                self.touch(*buffer, own, own);
            }
            Step::Copy { from, to } => {
                self.touch(*from, own, own);
                self.touch(*to, own, own);
            }
            Step::CheckEqual { .. } => {}
            Step::Branch { condition, then, otherwise } => {
                self.touch(*condition, own, end);
                self.block(then);
                self.block(otherwise);
            }
            Step::Loop(step) => {
                for buffer in [step.trip, step.condition, step.iteration] {
                    self.touch(buffer, own, end);
                }
                for (stacked, _) in &step.scans {
                    self.touch(*stacked, own, end);
                }
                self.loops.push((own, end));
                self.block(&step.body);
                // Elements are stacked after the last step of the body.
                for (_, element) in &step.scans {
                    self.touch(*element, end, end);
                }
                self.loops.pop();
            }
        }
    }

    fn touch(&mut self, buffer: BufferId, first: u32, last: u32) {
        let Some(slot) = self.uses.get_mut(buffer.0 as usize) else { return };
        match slot {
            None => *slot = Some(Uses { first, last, loops: self.loops.clone() }),
            Some(uses) => {
                let shared = uses.loops.iter().zip(&self.loops).take_while(|(a, b)| a == b).count();
                // It was there before the outermost loop that does not hold its first step.
                let until = self.loops.get(shared).map_or(last, |&(_, end)| end);
                uses.last = uses.last.max(last).max(until);
                uses.first = uses.first.min(first);
                // What is used behind a loop that it was first touched in lives through all of it.
                if let Some(&(start, end)) = uses.loops.get(shared) {
                    uses.first = uses.first.min(start);
                    uses.last = uses.last.max(end);
                    uses.loops.truncate(shared);
                }
            }
        }
    }
}

/// Number of steps inside of a step.
fn nested(step: &Step) -> u32 {
    let count = |steps: &[Step]| steps.iter().map(|step| 1 + nested(step)).sum::<u32>();
    match step {
        Step::Branch { then, otherwise, .. } => count(then) + count(otherwise),
        Step::Loop(step) => count(&step.body),
        _ => 0,
    }
}
