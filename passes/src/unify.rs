//! Sizes that must be equal for a model to make sense get one name.
//!
//! Invariant: a model refuses the same inputs as before; that their sizes fit is looked at when they are
//! handed in, no longer where the model relies on it.

use crate::PassError;
use crate::region::substitute;
use kiln_ir::{Graph, Op};
use kiln_tensor::{Bounds, Dim, Symbol, SymbolTable};
use std::collections::{BTreeMap, BTreeSet};

/// The graph with sizes of inputs put in that its assumptions tell, as `past + s` for the last of a mask's;
/// `None` if they tell none.
///
/// Only what the graph assumes itself counts: a body may assume what holds only where it runs.
pub fn unify(graph: &Graph) -> Result<Option<Graph>, PassError> {
    let mut sizes = Sizes::of(graph);
    for (_, node) in graph.nodes() {
        let (Op::Assume(assume), &[x]) = (&node.op, node.inputs.as_slice()) else { continue };
        for (from, to) in graph.ty(x).shape.iter().zip(&assume.shape) {
            sizes.equate(from, to);
        }
    }
    if sizes.meanings.is_empty() {
        return Ok(None);
    }
    let unified = substitute(graph, &sizes.meanings, &|source| Some(source.clone()));
    unified.map(Some).map_err(|error| PassError::Graph { pass: "unify", error })
}

/// What is known of the sizes of inputs.
struct Sizes {
    /// What is known of each symbol, and of those that it was put in for.
    known: SymbolTable,
    /// Symbols that are a dimension of an input, by which of them comes first.
    order: BTreeMap<Symbol, usize>,
    /// What some of them are, in terms of the others.
    meanings: BTreeMap<Symbol, Dim>,
}

impl Sizes {
    fn of(graph: &Graph) -> Self {
        let mut order = BTreeMap::new();
        let dims = graph.inputs().iter().flat_map(|&input| &graph.ty(input).shape);
        for symbol in dims.filter_map(Dim::as_symbol) {
            let number = order.len();
            order.entry(symbol.clone()).or_insert(number);
        }
        Sizes { known: graph.symbols.clone(), order, meanings: BTreeMap::new() }
    }

    fn equate(&mut self, a: &Dim, b: &Dim) {
        let put_in = |dim: &Dim| dim.substitute(&|symbol| self.meanings.get(symbol).cloned());
        let (a, b) = (put_in(a), put_in(b));
        if a == b {
            return;
        }
        let candidates = [(&a, &b), (&b, &a)].into_iter().filter_map(|(symbol, meaning)| {
            let symbol = symbol.as_symbol()?;
            self.is_meaning(symbol, meaning).then_some((symbol, meaning))
        });
        // Of two symbols the one that comes first stays.
        let Some((symbol, meaning)) = candidates.max_by_key(|(symbol, _)| self.order[*symbol])
        else {
            return;
        };
        let (symbol, meaning) = (symbol.clone(), meaning.clone());
        for other in self.meanings.values_mut() {
            *other = other.substitute(&|found| (*found == symbol).then(|| meaning.clone()));
        }
        if let Some(other) = meaning.as_symbol() {
            let bounds = self.bounds(&symbol).and(self.bounds(other));
            self.known.insert(other.clone(), bounds);
        }
        self.meanings.insert(symbol, meaning);
    }

    fn bounds(&self, symbol: &Symbol) -> Bounds {
        self.known.get(symbol).copied().unwrap_or_default()
    }

    /// Whether a size of inputs may be put in for a symbol: all that it is made of are dimensions of
    /// inputs, too, and it says no less about what it can be.
    fn is_meaning(&self, symbol: &Symbol, meaning: &Dim) -> bool {
        let mut parts = BTreeSet::new();
        meaning.collect_symbols(&mut parts);
        let known = |symbol: &Symbol| {
            self.order.contains_key(symbol) && !self.meanings.contains_key(symbol)
        };
        let (own, other) = (self.bounds(symbol), meaning.bounds(&self.known));
        let narrow = meaning.as_symbol().is_some()
            || other.min >= own.min
                && own.max.is_none_or(|max| other.max.is_some_and(|m| m <= max));
        known(symbol) && !parts.contains(symbol) && parts.iter().all(known) && narrow
    }
}
