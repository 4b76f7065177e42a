//! Decisions about dimensions, from what is known of their symbols and of the sizes that occur.
//!
//! Invariant: a decision holds whenever the model runs without an error; where it takes sizes of
//! at least 1, that becomes a bound of the graph, which is checked when the model runs. What a run
//! finds is not taken so: there may be nothing.

use kiln_tensor::{Atom, Dim, Symbol, SymbolTable};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of dimensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Bounds of symbols.
    pub(super) symbols: SymbolTable,
    /// Those among them that a run finds; a run that finds nothing is none of its errors.
    pub(super) found: BTreeSet<Symbol>,
    /// The least value of expressions without a constant term, as sizes of tensors tell it.
    pub(super) least: BTreeMap<Dim, i64>,
}

impl Facts {
    /// Notes that a tensor has a dimension of this size, so it is not negative.
    pub(super) fn size(&mut self, dim: &Dim) {
        if dim.as_const().is_none() && dim.as_symbol().is_none() {
            let (rest, constant) = apart(dim);
            let least = self.least.entry(rest).or_insert(i64::MIN);
            *least = (*least).max(constant.saturating_neg());
        }
    }

    /// The least value that can be told.
    pub(super) fn lower(&self, dim: &Dim) -> i64 {
        let (rest, constant) = apart(dim);
        let of_sizes = self.least.get(&rest).map(|least| least.saturating_add(constant));
        dim.bounds(&self.symbols).min.max(of_sizes.unwrap_or(i64::MIN))
    }

    /// Whether an expression is certainly not negative.
    fn not_negative(&self, dim: &Dim, depth: usize) -> bool {
        if self.lower(dim) >= 0 {
            return true;
        }
        // With `x − (d − 1) ≤ d·⌊x/d⌋ ≤ x`, `d` times the expression has one quotient less.
        depth > 0 && relaxed(dim).any(|relaxed| self.not_negative(&relaxed, depth - 1))
    }

    /// Whether `a ≥ b`, if that can be told.
    pub(super) fn at_least(&self, a: &Dim, b: &Dim) -> Option<bool> {
        let difference = a.clone() - b.clone();
        if let Some(value) = difference.as_const() {
            return Some(value >= 0);
        }
        if self.not_negative(&difference, DEPTH) {
            return Some(true);
        }
        self.not_negative(&(-difference - Dim::from(1i64)), DEPTH).then_some(false)
    }

    /// Whether `a = b`, if that can be told.
    pub(super) fn equal(&self, a: &Dim, b: &Dim) -> Option<bool> {
        let difference = a.clone() - b.clone();
        if let Some(value) = difference.as_const() {
            return Some(value == 0);
        }
        let one = Dim::from(1i64);
        let positive = |dim: &Dim| self.not_negative(&(dim.clone() - one.clone()), DEPTH);
        (positive(&difference) || positive(&-difference)).then_some(false)
    }

    /// The smaller of two.
    pub(super) fn minimum(&self, a: &Dim, b: &Dim) -> Dim {
        match (self.at_least(a, b), self.at_least(b, a)) {
            (Some(true), _) => b.clone(),
            (Some(false), _) | (None, Some(true)) => a.clone(),
            (None, _) => a.minimum(b),
        }
    }

    /// The larger of two.
    pub(super) fn maximum(&self, a: &Dim, b: &Dim) -> Dim {
        match (self.at_least(a, b), self.at_least(b, a)) {
            (Some(true), _) => a.clone(),
            (Some(false), _) | (None, Some(true)) => b.clone(),
            (None, _) => a.maximum(b),
        }
    }

    /// Whether two dimensions that meet may be equal when the model runs; what is equal only if it
    /// is empty is taken not to be.
    pub(super) fn may_meet(&self, a: &Dim, b: &Dim) -> bool {
        if a == b {
            return true;
        }
        let mut raised = self.clone();
        // What is said to be empty may well meet what turns out to be.
        if !a.is(0) && !b.is(0) {
            raised.raise(&[a, b]);
        }
        raised.equal(a, b) != Some(false)
    }

    /// Whether of two meeting sizes one may be 1 and the other not. Of an input's own size that meets
    /// a constant, and of two expressions, it is taken that they are equal: nearly always they are,
    /// and what follows can only be told then.
    pub(super) fn may_stretch(&self, a: &Dim, b: &Dim) -> bool {
        let own = |dim: &Dim| dim.as_symbol().is_some();
        let two = Dim::from(2i64);
        let open = |a: &Dim, b: &Dim| match (a.as_const(), b.as_const()) {
            (Some(_), _) => false,
            (None, Some(size)) => {
                size != 1 && !self.is_given(a) && self.at_least(a, &two) != Some(true)
            }
            (None, None) => self.is_found(a) || is_left(a),
        };
        a != b && ((own(a) && own(b)) || open(a, b) || open(b, a))
    }

    /// Whether a size is an input's own.
    fn is_given(&self, dim: &Dim) -> bool {
        dim.as_symbol().is_some_and(|symbol| !self.found.contains(symbol))
    }

    /// Whether a size is one that a run finds.
    pub(super) fn is_found(&self, dim: &Dim) -> bool {
        dim.as_symbol().is_some_and(|symbol| self.found.contains(symbol))
    }

    /// Takes the symbols not to be 0 that inputs have.
    fn raise(&mut self, dims: &[&Dim]) {
        let mut involved = BTreeSet::new();
        dims.iter().for_each(|dim| dim.collect_symbols(&mut involved));
        involved.retain(|symbol| !self.found.contains(symbol));
        for symbol in involved {
            let bounds = self.symbols.entry(symbol).or_default();
            bounds.min = bounds.min.max(1);
        }
    }

    /// Whether `a ≥ b` is certain; where that takes sizes that are not empty, they are taken not
    /// to be, which raises the bounds of their symbols to 1.
    pub(super) fn at_least_of_sizes(&mut self, a: &Dim, b: &Dim) -> bool {
        if let Some(decided) = self.at_least(a, b) {
            return decided;
        }
        let mut raised = self.clone();
        raised.raise(&[a, b]);
        let holds = raised.at_least(a, b) == Some(true);
        if holds {
            *self = raised;
        }
        holds
    }
}

/// Whether a dimension is a quotient by what is not known. Those by a constant are of windows.
fn is_left(dim: &Dim) -> bool {
    let [(monomial, 1)] = dim.terms() else { return false };
    matches!(&monomial[..], [Atom::FloorDiv(_, divisor)] if divisor.as_const().is_none())
}

/// How many quotients of one expression are looked at together.
const DEPTH: usize = 2;

/// Multiples of the expression, each made smaller by taking one quotient for its bound.
fn relaxed(dim: &Dim) -> impl Iterator<Item = Dim> + '_ {
    dim.terms().iter().filter_map(move |(monomial, coefficient)| {
        let [Atom::FloorDiv(x, divisor)] = monomial.as_slice() else { return None };
        let d = divisor.as_const().filter(|&d| d > 0)?;
        let quotient = x.floor_div(divisor) * Dim::from(*coefficient);
        let rest = (dim.clone() - quotient) * Dim::from(d);
        let least = if *coefficient > 0 { Dim::from(1 - d) } else { Dim::from(0i64) };
        Some(rest + (x.as_ref().clone() + least) * Dim::from(*coefficient))
    })
}

/// The expression without its constant term, and that.
fn apart(dim: &Dim) -> (Dim, i64) {
    let constant = dim.terms().iter().find(|(monomial, _)| monomial.is_empty());
    let constant = constant.map_or(0, |(_, constant)| *constant);
    (dim.clone() - Dim::from(constant), constant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(text: &str) -> Dim {
        text.parse().unwrap()
    }

    #[test]
    fn what_can_be_told() {
        let mut facts = Facts::default();
        facts.size(&dim("floordiv(n, 2) - 3"));
        for (a, b, at_least, equal) in [
            ("n + 1", "n", Some(true), Some(false)),
            ("n", "n", Some(true), Some(true)),
            ("n + 1", "0", Some(true), Some(false)),
            ("0", "n + 1", Some(false), Some(false)),
            ("n", "1", None, None),
            ("floordiv(n, 2)", "3", Some(true), None),
            ("floordiv(n, 2)", "2", Some(true), Some(false)),
            ("2", "floordiv(n, 2)", Some(false), Some(false)),
            ("n", "m", None, None),
            ("n", "floordiv(n, 2)", Some(true), None),
            ("floordiv(n, 2)", "n + 1", Some(false), Some(false)),
            ("2*floordiv(n + 1, 2)", "n", Some(true), None),
            ("floordiv(n + 7, 8) + floordiv(n, 2)", "floordiv(n, 8)", Some(true), None),
        ] {
            let (a, b) = (dim(a), dim(b));
            assert_eq!(facts.at_least(&a, &b), at_least, "{a} ≥ {b}");
            assert_eq!(facts.equal(&a, &b), equal, "{a} = {b}");
        }
    }

    #[test]
    fn only_what_helps_is_taken_not_to_be_empty() {
        let mut facts = Facts::default();
        assert!(!facts.at_least_of_sizes(&dim("n"), &dim("2")));
        assert!(!facts.symbols.contains_key(&kiln_tensor::Symbol::new("n")));
        assert!(facts.at_least_of_sizes(&dim("n"), &dim("1")));
        assert_eq!(facts.at_least(&dim("n"), &dim("1")), Some(true));
        facts.found.insert(Symbol::new("found"));
        assert!(!facts.at_least_of_sizes(&dim("found"), &dim("1")));
    }
}
