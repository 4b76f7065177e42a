//! What says, in one number, whether a size broadcasts to another.
//!
//! Invariant: [`Dim::misfit`] is 0 exactly where the size is 1 or the other one.

use super::{Dim, Symbol};

impl Dim {
    /// `(self − 1)·(self − size)`: 0 where this size is 1 or `size`.
    pub fn misfit(&self, size: &Dim) -> Dim {
        (self.clone() - Dim::from(1i64)) * (self.clone() - size.clone())
    }

    /// The symbol and the size of which this is the [`Dim::misfit`], if it is one.
    pub fn as_misfit(&self) -> Option<(Symbol, Dim)> {
        let mut symbols = Default::default();
        self.collect_symbols(&mut symbols);
        symbols.into_iter().find_map(|symbol| {
            // (0 − 1)·(0 − size) = size.
            let size = self.substitute(&|other| (*other == symbol).then(Dim::default));
            (Dim::symbol(symbol.clone()).misfit(&size) == *self).then_some((symbol, size))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_is_recognised() {
        let (b, size) = (Dim::named("b"), Dim::named("size"));
        for of in [size, Dim::from(5i64), Dim::named("c") + Dim::from(1i64)] {
            assert_eq!(b.misfit(&of).as_misfit(), Some((Symbol::new("b"), of)));
        }
        assert_eq!((b.clone() - Dim::from(2i64)).as_misfit(), None);
        assert_eq!((b.clone() * b).as_misfit(), None);
    }
}
