//! Decisions about dimensions, from what is known of their symbols.
//!
//! Invariant: a decision holds for every value that the symbols may have; where it takes sizes of
//! at least 1, that becomes a bound of the graph, which is checked when the model runs.

use kiln_tensor::{Dim, SymbolTable};

/// Whether `a ≥ b`, if that can be told.
pub(super) fn at_least(a: &Dim, b: &Dim, symbols: &SymbolTable) -> Option<bool> {
    let difference = a.clone() - b.clone();
    if let Some(value) = difference.as_const() {
        return Some(value >= 0);
    }
    let bounds = difference.bounds(symbols);
    if bounds.min >= 0 {
        return Some(true);
    }
    bounds.max.filter(|&max| max < 0).map(|_| false)
}

/// Whether `a = b`, if that can be told.
pub(super) fn equal(a: &Dim, b: &Dim, symbols: &SymbolTable) -> Option<bool> {
    let difference = a.clone() - b.clone();
    if let Some(value) = difference.as_const() {
        return Some(value == 0);
    }
    let bounds = difference.bounds(symbols);
    (bounds.min > 0 || bounds.max.is_some_and(|max| max < 0)).then_some(false)
}

/// The smaller of two.
pub(super) fn minimum(a: &Dim, b: &Dim, symbols: &SymbolTable) -> Dim {
    match at_least(a, b, symbols) {
        Some(true) => b.clone(),
        Some(false) => a.clone(),
        None if at_least(b, a, symbols) == Some(true) => a.clone(),
        None => a.minimum(b),
    }
}

/// The larger of two.
pub(super) fn maximum(a: &Dim, b: &Dim, symbols: &SymbolTable) -> Dim {
    match at_least(a, b, symbols) {
        Some(true) => a.clone(),
        Some(false) => b.clone(),
        None if at_least(b, a, symbols) == Some(true) => b.clone(),
        None => a.maximum(b),
    }
}

/// Whether `a ≥ b`, if that can be told; a size that would have to be empty to make the
/// difference is taken not to be, which raises the bounds of its symbols to 1.
pub(super) fn at_least_of_sizes(a: &Dim, b: &Dim, symbols: &mut SymbolTable) -> Option<bool> {
    if let Some(decided) = at_least(a, b, symbols) {
        return Some(decided);
    }
    let mut involved = Default::default();
    a.collect_symbols(&mut involved);
    b.collect_symbols(&mut involved);
    let mut raised = symbols.clone();
    for symbol in involved {
        let bounds = raised.entry(symbol).or_default();
        bounds.min = bounds.min.max(1);
    }
    at_least(a, b, &raised).filter(|&holds| holds).inspect(|_| *symbols = raised)
}
