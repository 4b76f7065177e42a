//! Calls of routines: operands as host tensors, results copied to their buffers.
//!
//! Invariant: a result has the type that the program says before anything is written, and symbols
//! that its sizes tell have their values before its buffer is looked for.

use super::RunError;
use super::plan::{sizes, sizes_of};
use super::prepare::Call;
use super::run::Run;
use kiln_program::BufferId;
use kiln_routine::RoutineError;
use kiln_tensor::{Dim, Tensor};
use std::sync::Arc;

impl Run<'_, '_> {
    pub(super) fn call(&mut self, call: &Call) -> Result<(), RunError> {
        let failed = |error: RoutineError| RunError::Routine { node: call.source.clone(), error };
        let operands = call.inputs.iter().map(|(id, shape)| self.tensor(*id, shape));
        let operands = operands.collect::<Result<Vec<_>, _>>()?;
        let results = call.routine.run(&operands, &self.objects).map_err(failed)?;
        self.count_objects()?;
        if results.len() != call.outputs.len() {
            let (found, expected) = (results.len(), call.outputs.len());
            let message = format!("{found} results came out, not {expected}");
            return Err(failed(RoutineError::new(message)));
        }
        for (&id, result) in call.outputs.iter().zip(&results) {
            let Some(buffer) = self.model.program().buffer(id) else { continue };
            if buffer.dtype != result.dtype() || buffer.shape.len() != result.sizes().len() {
                let (expected, rank) = (buffer.dtype, buffer.shape.len());
                let (found, sizes) = (result.dtype(), result.sizes());
                return Err(failed(RoutineError::new(format!(
                    "a result of {found} and shape {sizes:?} came out, where {rank} dimensions of \
                     {expected} are expected"
                ))));
            }
            for (dim, &size) in buffer.shape.iter().zip(result.sizes()) {
                let symbol = Dim::as_symbol(dim).filter(|symbol| call.binds.contains(symbol));
                if let Some(symbol) = symbol {
                    let size = i64::try_from(size).unwrap_or(i64::MAX);
                    self.bind(symbol, size, &call.source)?;
                }
            }
        }
        for (&id, result) in call.outputs.iter().zip(&results) {
            let sizes = sizes_of(self.model.program(), id, &self.symbols)?;
            if sizes != result.sizes() {
                let found = result.sizes();
                let message = format!("shape {found:?} came out, where {sizes:?} is expected");
                return Err(failed(RoutineError::new(message)));
            }
            let result = self.objects.adopt(result)?;
            self.write(id, result.bytes())?;
        }
        Ok(())
    }

    /// The contents of a buffer as a host tensor of a shape.
    fn tensor(&self, id: BufferId, shape: &[Dim]) -> Result<Tensor, RunError> {
        let sizes = sizes(shape, &self.symbols, || format!("buffer {}", id.0))?;
        let Some(buffer) = self.model.program().buffer(id) else {
            return Err(RunError::ImpossibleSize { place: "call".into(), value: "none".into() });
        };
        let bytes = self.bytes(id)?;
        let length = Tensor::byte_length(buffer.dtype, &sizes)?;
        // A constant's range may be longer than it is.
        let bytes = bytes.get(..length).unwrap_or(bytes);
        let tensor = Tensor::from_bytes(buffer.dtype, sizes, bytes)?;
        Ok(tensor.with_objects(&Arc::clone(&self.objects)))
    }

    /// Counts new objects into the memory that the run uses.
    fn count_objects(&mut self) -> Result<(), RunError> {
        let bytes = self.objects.bytes();
        let new = bytes.saturating_sub(self.objects_counted);
        self.objects_counted = bytes;
        self.session.used.arena = self.session.used.arena.saturating_add(new);
        self.check_memory()
    }
}
