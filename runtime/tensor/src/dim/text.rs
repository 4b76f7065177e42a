//! Text form of dimension expressions: `2*seq + 1`, `floordiv(h + 1, 2)`, `max(n, 1)`.
//!
//! Invariant: parsing what was printed gives the same expression.

use super::{Atom, Dim, DimError, Symbol};
use std::fmt;
use std::str::FromStr;

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The constant sorts first but reads best last.
        let constant = self.terms.iter().filter(|(monomial, _)| monomial.is_empty());
        let others = self.terms.iter().filter(|(monomial, _)| !monomial.is_empty());
        for (position, (monomial, coefficient)) in others.chain(constant).enumerate() {
            let magnitude = coefficient.unsigned_abs();
            match (position, *coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            if monomial.is_empty() || magnitude != 1 {
                write!(f, "{magnitude}")?;
                if !monomial.is_empty() {
                    f.write_str("*")?;
                }
            }
            for (index, atom) in monomial.iter().enumerate() {
                if index > 0 {
                    f.write_str("*")?;
                }
                match atom {
                    Atom::Symbol(symbol) => write!(f, "{symbol}")?,
                    Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})")?,
                    Atom::Min(a, b) => write!(f, "min({a}, {b})")?,
                    Atom::Max(a, b) => write!(f, "max({a}, {b})")?,
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Dim {
    type Err = DimError;

    fn from_str(text: &str) -> Result<Self, DimError> {
        let mut parser = Parser { text, rest: text, depth: 0 };
        let dim = parser.sum()?;
        parser.skip_spaces();
        if parser.rest.is_empty() {
            Ok(dim)
        } else {
            Err(parser.error("unexpected text at the end"))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

/// Deeper nesting than any real model has; keeps hostile text from exhausting the stack.
const MAX_DEPTH: usize = 64;

impl Parser<'_> {
    fn error(&self, reason: &str) -> DimError {
        DimError::Parse { text: self.text.to_owned(), reason: reason.to_owned() }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn accept(&mut self, token: char) -> bool {
        self.skip_spaces();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), DimError> {
        if self.accept(token) { Ok(()) } else { Err(self.error(&format!("expected `{token}`"))) }
    }

    fn sum(&mut self) -> Result<Dim, DimError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let mut sum = if self.accept('-') { -self.product()? } else { self.product()? };
        loop {
            if self.accept('+') {
                sum = sum + self.product()?;
            } else if self.accept('-') {
                sum = sum - self.product()?;
            } else {
                self.depth -= 1;
                return Ok(sum);
            }
        }
    }

    fn product(&mut self) -> Result<Dim, DimError> {
        let mut product = self.factor()?;
        while self.accept('*') {
            product = product * self.factor()?;
        }
        Ok(product)
    }

    fn word(&mut self, accepts: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !accepts(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn factor(&mut self) -> Result<Dim, DimError> {
        if self.accept('(') {
            let inner = self.sum()?;
            self.expect(')')?;
            return Ok(inner);
        }
        self.skip_spaces();
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = self.word(|c| c.is_ascii_digit()).to_owned();
            let value =
                digits.parse::<i64>().map_err(|_| self.error("number does not fit 64 bits"))?;
            return Ok(Dim::from(value));
        }
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.').to_owned();
        match name.as_str() {
            "" => Err(self.error("expected a number, a name or `(`")),
            "floordiv" | "min" | "max" => {
                self.expect('(')?;
                let a = self.sum()?;
                self.expect(',')?;
                let b = self.sum()?;
                self.expect(')')?;
                Ok(match name.as_str() {
                    "floordiv" => a.floor_div(&b),
                    "min" => a.minimum(&b),
                    _ => a.maximum(&b),
                })
            }
            _ => Ok(Dim::symbol(Symbol::new(&name))),
        }
    }
}
