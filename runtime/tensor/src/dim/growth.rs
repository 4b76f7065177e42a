//! How large dimension expressions may grow: a few nodes of a hostile model could double one each.
//!
//! Invariant: nothing is multiplied out before it is known to stay small, and a small expression is
//! nested so little that what is written of it can be read back.

use super::{Atom, Dim};

/// The most parts of one expression.
const MOST_PARTS: usize = 512;

/// The most terms of a product.
const MOST_TERMS: usize = 1024;

/// The most quotients, minima and maxima inside of each other; each takes five levels of an
/// artefact, which is read to a depth of 256.
const MOST_DEPTH: usize = 32;

impl Dim {
    /// Whether an expression is small.
    pub fn is_small(&self) -> bool {
        self.parts(MOST_DEPTH).is_some_and(|parts| parts <= MOST_PARTS)
    }

    /// Whether the product of these is small.
    pub fn is_small_product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> bool {
        let mut dims = dims.into_iter();
        let terms = dims.try_fold(1usize, |terms, dim| {
            let terms = terms.saturating_mul(dim.terms.len().max(1));
            (dim.is_small() && terms <= MOST_TERMS).then_some(terms)
        });
        terms.is_some()
    }

    /// How many parts an expression has, all the way down; `None` if it is nested deeper.
    fn parts(&self, depth: usize) -> Option<usize> {
        let mut parts = 0usize;
        for (monomial, _) in self.terms() {
            parts += 1;
            for atom in monomial {
                parts += 1;
                if let Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) = atom {
                    let below = depth.checked_sub(1)?;
                    parts += a.parts(below)? + b.parts(below)?;
                }
            }
        }
        Some(parts)
    }

    /// The text of an expression, cut short if it is long.
    pub fn brief(&self) -> String {
        const MOST: usize = 200;
        let text = self.to_string();
        match text.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `steps` times `step` of the expression before and `n`.
    fn grown(steps: usize, step: fn(Dim, Dim) -> Dim) -> Dim {
        let n = Dim::named("n");
        (0..steps).fold(n.clone(), |dim, _| step(dim, n.clone()))
    }

    #[test]
    fn wide_and_deep_expressions_are_not_small() {
        let three = |dim: Dim, n: Dim| (dim + n).floor_div(&Dim::from(3i64));
        let power = |dim: Dim, n: Dim| dim.clone() * n + dim;
        for (steps, step, small) in [
            (MOST_DEPTH, three as fn(Dim, Dim) -> Dim, true),
            (MOST_DEPTH + 1, three, false),
            (10, power, true),
            (40, power, false),
        ] {
            assert_eq!(grown(steps, step).is_small(), small, "{steps} steps");
        }
        let wide = grown(32, power);
        assert!(!Dim::is_small_product([&wide, &wide]));
        assert!(wide.brief().chars().count() <= 201 && wide.brief().ends_with('…'));
        assert_eq!(Dim::named("n").brief(), "n");
    }
}
