//! Sizes that must be equal, and what is said where they are not.
//!
//! Invariant: sizes are told by the names that the model has for them, and by their values.

use super::{Dim, DimError, Symbol, SymbolValues};
use thiserror::Error;

/// How two sizes differ.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unequal {
    /// A size is neither 1 nor what it should stretch to.
    #[error(
        "sizes {size} (`{symbol}`) and {other} do not broadcast: they must be equal, or one of them 1"
    )]
    Unstretchable {
        /// What the model calls the size.
        symbol: Symbol,
        /// The size.
        size: i64,
        /// What it should stretch to.
        other: i64,
    },
    /// They are not equal.
    #[error("{left} = {left_value} and {right} = {right_value} must be equal")]
    Different {
        /// One size.
        left: Dim,
        /// Its value.
        left_value: i64,
        /// The other.
        right: Dim,
        /// Its value.
        right_value: i64,
    },
}

impl Dim {
    /// How this size differs from another, if it does; of a [`Dim::misfit`], how that differs from 0.
    ///
    /// # Errors
    ///
    /// If one of them has no value.
    pub fn unequal(&self, right: &Dim, values: &SymbolValues) -> Result<Option<Unequal>, DimError> {
        let (left_value, right_value) = (self.evaluate(values)?, right.evaluate(values)?);
        if left_value == right_value {
            return Ok(None);
        }
        Ok(Some(match self.as_misfit().filter(|_| right.is(0)) {
            Some((symbol, other)) => Unequal::Unstretchable {
                size: Dim::symbol(symbol.clone()).evaluate(values)?,
                symbol,
                other: other.evaluate(values)?,
            },
            None => {
                let (left, right) = (self.clone(), right.clone());
                Unequal::Different { left, left_value, right, right_value }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_differ_are_told_by_name_and_value() {
        let values: SymbolValues = [(Symbol::new("n"), 3), (Symbol::new("m"), 4)].into();
        let (n, m) = (Dim::named("n"), Dim::named("m"));
        let said = |left: &Dim, right: &Dim| {
            left.unequal(right, &values).map(|found| found.map(|unequal| unequal.to_string()))
        };
        assert_eq!(said(&n, &Dim::from(3i64)), Ok(None));
        assert_eq!(said(&n, &m), Ok(Some("n = 3 and m = 4 must be equal".to_owned())));
        let stretched = said(&n.misfit(&m), &Dim::default()).unwrap().unwrap();
        assert!(stretched.starts_with("sizes 3 (`n`) and 4 do not broadcast"), "{stretched}");
        assert!(said(&Dim::named("k"), &n).is_err());
    }
}
