//! What the operations of one reference evaluation share: values of symbols, and a budget.
//!
//! Invariant: every evaluation ends, because all loops together have a bounded number of
//! iterations.

use super::OpError;
use crate::evaluate::evaluate_part;
use crate::graph::Graph;
use kiln_tensor::{Objects, SymbolValues, Tensor};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Iterations of all loops together.
const MOST_ITERATIONS: u64 = 1_000_000;

/// One reference evaluation, or one body of it.
pub struct Run<'a> {
    symbols: &'a SymbolValues,
    iterations: Rc<Cell<u64>>,
    /// What handles stand for.
    objects: Arc<Objects>,
}

impl<'a> Run<'a> {
    /// A fresh run in which symbols have these values.
    pub(crate) fn new(symbols: &'a SymbolValues) -> Self {
        Run { symbols, iterations: Rc::default(), objects: Arc::default() }
    }

    /// A part of this run in which symbols have these values.
    pub(crate) fn part<'b>(&self, symbols: &'b SymbolValues) -> Run<'b> {
        Run { symbols, iterations: self.iterations.clone(), objects: self.objects.clone() }
    }

    /// What each symbol is.
    pub fn symbols(&self) -> &SymbolValues {
        self.symbols
    }

    /// The table that handles are of.
    pub fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// Evaluates a body as a part of this run; it sees the symbols around it.
    pub fn body(&self, body: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
        evaluate_part(body, inputs, self).map_err(|error| OpError::new(error.to_string()))
    }

    /// Counts one iteration of a loop; an error if there were too many.
    pub fn count_iteration(&self) -> Result<(), OpError> {
        self.iterations.set(self.iterations.get() + 1);
        if self.iterations.get() > MOST_ITERATIONS {
            return Err(OpError::new(format!(
                "loops ran for more than {MOST_ITERATIONS} iterations"
            )));
        }
        Ok(())
    }
}
