//! What is known of a dimension before a model runs: an interval.
//!
//! Invariant: intervals only widen what is true; a value outside its bounds cannot occur.

use super::{Atom, Dim, Symbol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Bounds of every symbol of a graph, in name order.
pub type SymbolTable = BTreeMap<Symbol, Bounds>;

/// A closed interval; a missing maximum means unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds {
    /// Least value.
    pub min: i64,
    /// Greatest value.
    pub max: Option<i64>,
}

impl Default for Bounds {
    /// A size: zero or more.
    fn default() -> Self {
        Bounds { min: 0, max: None }
    }
}

/// As `0..` or `1..=8`.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.min)?;
        self.max.map_or(Ok(()), |max| write!(f, "={max}"))
    }
}

impl Bounds {
    const UNKNOWN: Bounds = Bounds { min: i64::MIN, max: None };

    /// Just `value`.
    pub fn exactly(value: i64) -> Self {
        Bounds { min: value, max: Some(value) }
    }

    /// What lies in both.
    pub fn and(self, other: Bounds) -> Bounds {
        let max = [self.max, other.max].into_iter().flatten().min();
        Bounds { min: self.min.max(other.min), max }
    }

    fn add(self, other: Bounds) -> Bounds {
        Bounds {
            min: self.min.saturating_add(other.min),
            max: self.max.zip(other.max).and_then(|(a, b)| a.checked_add(b)),
        }
    }

    fn multiply(self, other: Bounds) -> Bounds {
        match (self.max, other.max) {
            (Some(a), Some(b)) => {
                let corners = [
                    self.min.saturating_mul(other.min),
                    self.min.saturating_mul(b),
                    a.saturating_mul(other.min),
                    a.saturating_mul(b),
                ];
                Bounds {
                    min: corners.into_iter().fold(i64::MAX, i64::min),
                    max: corners.into_iter().max(),
                }
            }
            _ if self.min >= 0 && other.min >= 0 => {
                Bounds { min: self.min.saturating_mul(other.min), max: None }
            }
            _ => Bounds::UNKNOWN,
        }
    }

    fn scale(self, factor: i64) -> Bounds {
        if factor >= 0 {
            return Bounds {
                min: self.min.saturating_mul(factor),
                max: self.max.and_then(|max| max.checked_mul(factor)),
            };
        }
        Bounds {
            min: self.max.map_or(i64::MIN, |max| max.saturating_mul(factor)),
            max: self.min.checked_mul(factor),
        }
    }
}

impl Dim {
    /// An interval that holds the value under every binding that `symbols` allows.
    pub fn bounds(&self, symbols: &SymbolTable) -> Bounds {
        self.terms().iter().fold(Bounds::exactly(0), |sum, (monomial, coefficient)| {
            let product = monomial
                .iter()
                .fold(Bounds::exactly(1), |product, atom| product.multiply(atom.bounds(symbols)));
            sum.add(product.scale(*coefficient))
        })
    }
}

impl Atom {
    fn bounds(&self, symbols: &SymbolTable) -> Bounds {
        match self {
            Atom::Symbol(symbol) => symbols.get(symbol).copied().unwrap_or_default(),
            Atom::FloorDiv(a, b) => match b.as_const() {
                Some(d) if d > 0 => {
                    let a = a.bounds(symbols);
                    Bounds { min: a.min.div_euclid(d), max: a.max.map(|max| max.div_euclid(d)) }
                }
                // Each operand is looked at once: nested quotients would double the work.
                _ => match (a.bounds(symbols), b.bounds(symbols)) {
                    (a, b) if a.min >= 0 && b.min >= 1 => Bounds { min: 0, max: a.max },
                    _ => Bounds::UNKNOWN,
                },
            },
            Atom::Min(a, b) => {
                let (a, b) = (a.bounds(symbols), b.bounds(symbols));
                let max = match (a.max, b.max) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                Bounds { min: a.min.min(b.min), max }
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.bounds(symbols), b.bounds(symbols));
                Bounds { min: a.min.max(b.min), max: a.max.zip(b.max).map(|(a, b)| a.max(b)) }
            }
        }
    }
}
