//! How large dimension expressions may grow: a few nodes of a hostile model could double one each.
//!
//! Invariant: nothing is multiplied out before it is known to stay small.

use kiln_tensor::{Atom, Dim};

/// The most parts of one expression.
const MOST_PARTS: usize = 512;

/// The most terms of a product.
const MOST_TERMS: usize = 1024;

/// How many parts an expression has, all the way down.
fn parts(dim: &Dim) -> usize {
    let atom = |atom: &Atom| match atom {
        Atom::Symbol(_) => 1,
        Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => 1 + parts(a) + parts(b),
    };
    dim.terms().iter().map(|(monomial, _)| 1 + monomial.iter().map(atom).sum::<usize>()).sum()
}

/// Whether an expression is small.
pub(super) fn is_small(dim: &Dim) -> bool {
    parts(dim) <= MOST_PARTS
}

/// Whether the product of these is small.
pub(super) fn is_small_product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> bool {
    let mut dims = dims.into_iter();
    let terms = dims.try_fold(1usize, |terms, dim| {
        let terms = terms.saturating_mul(dim.terms().len().max(1));
        (is_small(dim) && terms <= MOST_TERMS).then_some(terms)
    });
    terms.is_some()
}
