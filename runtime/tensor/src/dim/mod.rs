//! Dimension expressions: polynomials over named symbols, with floor division, min and max.
//!
//! Invariant: a `Dim` is always in normal form (terms sorted, like terms merged, zero terms
//! dropped), so that equal polynomials compare equal.

mod bounds;
mod form;
mod growth;
mod stretch;
mod text;
mod unequal;

pub use bounds::{Bounds, SymbolTable};
pub use unequal::Unequal;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;
use thiserror::Error;

/// A named unknown size, bound when a model is run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// A symbol of this name. Characters that the text form cannot carry become `_`.
    pub fn new(name: &str) -> Self {
        let mut clean: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' })
            .collect();
        let starts_well = clean.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || matches!(clean.as_str(), "min" | "max" | "floordiv") {
            clean.insert(0, '_');
        }
        Symbol(clean.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What each symbol is in one run.
pub type SymbolValues = BTreeMap<Symbol, i64>;

/// Why an expression has no value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DimError {
    /// A symbol was not given a value.
    #[error("dimension `{0}` has no value")]
    Unbound(Symbol),
    /// A divisor came out as zero.
    #[error("division by zero in dimension `{0}`")]
    DivisionByZero(String),
    /// The value does not fit 64 bits.
    #[error("dimension `{0}` does not fit 64 bits")]
    Overflow(String),
    /// The text is not an expression.
    #[error("`{text}` is not a dimension expression: {reason}")]
    Parse {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An indivisible factor of a monomial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Atom {
    /// A symbol.
    Symbol(Symbol),
    /// The quotient rounded towards minus infinity.
    FloorDiv(Box<Dim>, Box<Dim>),
    /// The smaller of two.
    Min(Box<Dim>, Box<Dim>),
    /// The larger of two.
    Max(Box<Dim>, Box<Dim>),
}

/// A product of atoms, sorted; empty for the constant term.
pub type Monomial = Vec<Atom>;

/// A dimension: a sum of integer multiples of monomials. Copies share them: graphs are copied by every pass,
/// and every value has a shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dim {
    terms: Arc<[(Monomial, i64)]>,
}

impl Dim {
    /// The expression that is just `symbol`.
    pub fn symbol(symbol: Symbol) -> Self {
        Self::atom(Atom::Symbol(symbol))
    }

    /// The expression that is just a symbol of this name.
    pub fn named(name: &str) -> Self {
        Self::symbol(Symbol::new(name))
    }

    fn atom(atom: Atom) -> Self {
        Dim { terms: Arc::new([(vec![atom], 1)]) }
    }

    fn from_terms(terms: impl IntoIterator<Item = (Monomial, i64)>) -> Self {
        let mut merged: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (monomial, coefficient) in terms {
            let slot = merged.entry(monomial).or_default();
            *slot = slot.saturating_add(coefficient);
        }
        Dim { terms: merged.into_iter().filter(|(_, coefficient)| *coefficient != 0).collect() }
    }

    /// The terms of the polynomial, in normal order.
    pub fn terms(&self) -> &[(Monomial, i64)] {
        &self.terms
    }

    /// The value, if it does not depend on any symbol.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms() {
            [] => Some(0),
            [(monomial, value)] if monomial.is_empty() => Some(*value),
            _ => None,
        }
    }

    /// The symbol, if the expression is nothing but one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self.terms() {
            [(monomial, 1)] => match monomial.as_slice() {
                [Atom::Symbol(symbol)] => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the expression is the constant `value`.
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    /// The quotient rounded towards minus infinity. A zero divisor shows when it is evaluated.
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        if divisor.is(1) || self.is(0) {
            return self.clone();
        }
        if let Some(exact) = self.exact_div(divisor) {
            return exact;
        }
        let Some(d) = divisor.as_const().filter(|&d| d > 0) else {
            return Self::atom(Atom::FloorDiv(Box::new(self.clone()), Box::new(divisor.clone())));
        };
        // Monomials are integers, so whole multiples of the divisor move out of the quotient.
        let quotient = Self::from_terms(
            self.terms.iter().map(|(monomial, c)| (monomial.clone(), c.div_euclid(d))),
        );
        let rest = Self::from_terms(
            self.terms.iter().map(|(monomial, c)| (monomial.clone(), c.rem_euclid(d))),
        );
        let rest_quotient = match rest.as_const() {
            Some(value) => Dim::from(value.div_euclid(d)),
            None => match rest.as_offset_quotient() {
                // ⌊(⌊x/a⌋ + c)/d⌋ = ⌊(x + c·a)/(a·d)⌋ for positive a and d.
                Some((inner, a, c)) if a.checked_mul(d).is_some() => {
                    (inner.clone() + Dim::from(c) * Dim::from(a)).floor_div(&Dim::from(a * d))
                }
                _ => Self::atom(Atom::FloorDiv(Box::new(rest), Box::new(divisor.clone()))),
            },
        };
        quotient + rest_quotient
    }

    /// The quotient rounded towards plus infinity.
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        // ⌈x/d⌉ = ⌊(x + d − 1)/d⌋: the form that sizes of windows have too.
        match divisor.as_const() {
            Some(d) if d > 0 => (self.clone() + Dim::from(d - 1)).floor_div(divisor),
            _ => -(-self.clone()).floor_div(divisor),
        }
    }

    /// The remainder of [`Dim::floor_div`].
    pub fn modulo(&self, divisor: &Dim) -> Dim {
        self.clone() - self.floor_div(divisor) * divisor.clone()
    }

    /// The smaller of two.
    pub fn minimum(&self, other: &Dim) -> Dim {
        match (self.clone() - other.clone()).as_const() {
            Some(difference) if difference <= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Self::atom(Atom::Min(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// The larger of two.
    pub fn maximum(&self, other: &Dim) -> Dim {
        match (self.clone() - other.clone()).as_const() {
            Some(difference) if difference >= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Self::atom(Atom::Max(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// The quotient, if `divisor` divides every term without remainder whatever the symbols are
    /// (a symbolic divisor is taken to be non-zero).
    pub fn exact_div(&self, divisor: &Dim) -> Option<Dim> {
        if self == divisor {
            return Some(Dim::from(1i64));
        }
        let [(factors, scale)] = divisor.terms() else { return None };
        let mut terms = Vec::with_capacity(self.terms.len());
        for (monomial, coefficient) in self.terms() {
            if coefficient.checked_rem(*scale)? != 0 {
                return None;
            }
            let mut rest = monomial.clone();
            for factor in factors {
                let position = rest.iter().position(|atom| atom == factor)?;
                rest.remove(position);
            }
            terms.push((rest, coefficient.checked_div(*scale)?));
        }
        Some(Self::from_terms(terms))
    }

    /// `(x, a, c)` if the expression is `⌊x/a⌋ + c` with constant positive `a`.
    fn as_offset_quotient(&self) -> Option<(&Dim, i64, i64)> {
        let (c, (monomial, coefficient)) = match self.terms() {
            [term] => (0, term),
            [(constant, c), term] if constant.is_empty() => (*c, term),
            _ => return None,
        };
        match (monomial.as_slice(), coefficient) {
            ([Atom::FloorDiv(x, a)], 1) => Some((x, a.as_const().filter(|&a| a > 0)?, c)),
            _ => None,
        }
    }

    /// The value under `values`.
    pub fn evaluate(&self, values: &SymbolValues) -> Result<i64, DimError> {
        let overflow = || DimError::Overflow(self.brief());
        let mut sum = 0i64;
        for (monomial, coefficient) in self.terms() {
            let mut product = *coefficient;
            for atom in monomial {
                product = product.checked_mul(atom.evaluate(values)?).ok_or_else(overflow)?;
            }
            sum = sum.checked_add(product).ok_or_else(overflow)?;
        }
        Ok(sum)
    }

    /// The expression with each symbol replaced by what `replace` gives for it.
    pub fn substitute(&self, replace: &impl Fn(&Symbol) -> Option<Dim>) -> Dim {
        let mut sum = Dim::default();
        for (monomial, coefficient) in self.terms() {
            let mut product = Dim::from(*coefficient);
            for atom in monomial {
                product = product
                    * match atom {
                        Atom::Symbol(symbol) => {
                            replace(symbol).unwrap_or_else(|| Dim::symbol(symbol.clone()))
                        }
                        Atom::FloorDiv(a, b) => {
                            a.substitute(replace).floor_div(&b.substitute(replace))
                        }
                        Atom::Min(a, b) => a.substitute(replace).minimum(&b.substitute(replace)),
                        Atom::Max(a, b) => a.substitute(replace).maximum(&b.substitute(replace)),
                    };
            }
            sum = sum + product;
        }
        sum
    }

    /// Adds every symbol of the expression to `symbols`.
    pub fn collect_symbols(&self, symbols: &mut BTreeSet<Symbol>) {
        self.visit_symbols(&mut |symbol| {
            symbols.insert(symbol.clone());
        });
    }

    /// Shows every symbol of the expression, some of them again.
    pub fn visit_symbols(&self, visit: &mut dyn FnMut(&Symbol)) {
        for atom in self.terms().iter().flat_map(|(monomial, _)| monomial) {
            match atom {
                Atom::Symbol(symbol) => visit(symbol),
                Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    a.visit_symbols(visit);
                    b.visit_symbols(visit);
                }
            }
        }
    }
}

impl Atom {
    fn evaluate(&self, values: &SymbolValues) -> Result<i64, DimError> {
        Ok(match self {
            Atom::Symbol(symbol) => {
                *values.get(symbol).ok_or_else(|| DimError::Unbound(symbol.clone()))?
            }
            Atom::FloorDiv(a, b) => {
                let (a, b) = (a.evaluate(values)?, b.evaluate(values)?);
                if b == 0 {
                    return Err(DimError::DivisionByZero(Dim::atom(self.clone()).brief()));
                }
                let quotient = a
                    .checked_div(b)
                    .ok_or_else(|| DimError::Overflow(Dim::atom(self.clone()).brief()))?;
                if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
            }
            Atom::Min(a, b) => a.evaluate(values)?.min(b.evaluate(values)?),
            Atom::Max(a, b) => a.evaluate(values)?.max(b.evaluate(values)?),
        })
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Dim { terms: if value == 0 { Arc::default() } else { Arc::new([(Vec::new(), value)]) } }
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Self {
        Self::from(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Self {
        Self::symbol(symbol)
    }
}

impl Add for Dim {
    type Output = Dim;

    fn add(self, other: Dim) -> Dim {
        // Most dimensions are plain numbers.
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return Dim::from(a.saturating_add(b));
        }
        Dim::from_terms(self.terms().iter().chain(other.terms()).cloned())
    }
}

impl Sub for Dim {
    type Output = Dim;

    fn sub(self, other: Dim) -> Dim {
        self + -other
    }
}

impl Neg for Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        let terms = self.terms().iter().map(|(m, c)| (m.clone(), c.saturating_neg()));
        Dim { terms: terms.collect() }
    }
}

impl Mul for Dim {
    type Output = Dim;

    fn mul(self, other: Dim) -> Dim {
        match (self.as_const(), other.as_const()) {
            (Some(a), Some(b)) => return Dim::from(a.saturating_mul(b)),
            (Some(1), _) => return other,
            (_, Some(1)) => return self,
            _ => {}
        }
        let mut terms = Vec::with_capacity(self.terms.len() * other.terms.len());
        for (left, a) in self.terms() {
            for (right, b) in other.terms() {
                let mut monomial: Monomial = left.iter().chain(right).cloned().collect();
                monomial.sort();
                terms.push((monomial, a.saturating_mul(*b)));
            }
        }
        Dim::from_terms(terms)
    }
}

impl std::iter::Product for Dim {
    fn product<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::from(1i64), |product, dim| product * dim)
    }
}

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::default(), |sum, dim| sum + dim)
    }
}

#[cfg(test)]
mod tests;
