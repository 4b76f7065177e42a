//! Loops: a body run again and again, and what its iterations make stacked.
//!
//! Invariant: what is stacked has one shape in every iteration; a run does no more iterations than its
//! limit, in all of its loops together.

use super::RunError;
use super::plan::sizes_of;
use super::prepare::Op;
use super::run::Run;
use kiln_program::{BufferId, LoopStep};
use std::collections::BTreeSet;

/// What iterations made so far.
#[derive(Default)]
struct Scan {
    bytes: Vec<u8>,
    /// Sizes of what each of them made.
    sizes: Option<Vec<usize>>,
}

impl Run<'_, '_> {
    pub(super) fn repeat(&mut self, step: &LoopStep, body: &[Op]) -> Result<(), RunError> {
        let trip = self.integer(step.trip, 0)?;
        let mut scans: Vec<Scan> = step.scans.iter().map(|_| Scan::default()).collect();
        let mut iteration = 0i64;
        while iteration < trip && self.truth(step.condition)? {
            if self.iterations >= self.session.loop_limit {
                return Err(RunError::LoopLimit(self.session.loop_limit));
            }
            self.iterations += 1;
            self.write(step.iteration, &iteration.to_le_bytes())?;
            self.steps(body)?;
            for (scan, (_, element)) in scans.iter_mut().zip(&step.scans) {
                self.append(scan, *element, step)?;
            }
            iteration += 1;
        }
        if iteration == 0 {
            self.bind_unmade(step)?;
        }
        if let Some(count) = &step.count {
            self.bind(count, iteration, &step.source)?;
        }
        for (scan, (stacked, _)) in scans.iter().zip(&step.scans) {
            self.write(*stacked, &scan.bytes)?;
        }
        Ok(())
    }

    /// Sizes that only a body tells, which did not run: nothing has them, so they are 0.
    fn bind_unmade(&mut self, step: &LoopStep) -> Result<(), RunError> {
        let program = self.model.program();
        let shapes = step.scans.iter().filter_map(|(stacked, _)| program.buffer(*stacked));
        let mut symbols = BTreeSet::new();
        shapes.flat_map(|buffer| &buffer.shape).for_each(|dim| dim.collect_symbols(&mut symbols));
        for symbol in symbols.iter().filter(|symbol| step.count.as_ref() != Some(symbol)) {
            if !self.symbols.contains_key(symbol) {
                self.bind(symbol, 0, &step.source)?;
            }
        }
        Ok(())
    }

    /// Adds the bytes of a buffer to what a loop has stacked.
    fn append(
        &mut self,
        scan: &mut Scan,
        element: BufferId,
        step: &LoopStep,
    ) -> Result<(), RunError> {
        let sizes = sizes_of(self.model.program(), element, &self.symbols)?;
        let first = scan.sizes.get_or_insert_with(|| sizes.clone());
        if *first != sizes {
            let (node, first) = (step.source.clone(), first.clone());
            return Err(RunError::Stack { node, first, other: sizes });
        }
        let length = self.bytes(element)?.len();
        self.session.used.arena = self.session.used.arena.saturating_add(length as u64);
        self.check_memory()?;
        scan.bytes.try_reserve(length).map_err(|error| crate::arena::ArenaError::Memory {
            bytes: length as u64,
            reason: error.to_string(),
        })?;
        scan.bytes.extend_from_slice(self.bytes(element)?);
        Ok(())
    }
}
