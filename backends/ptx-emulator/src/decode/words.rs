//! Modifiers of an opcode, taken one by one.
//!
//! Invariant: a modifier that nobody takes is an error, so nothing of an instruction is passed over.

use crate::error::ParseError;
use crate::syntax::{Statement, Type};

/// The modifiers that are left.
pub(crate) struct Words<'a> {
    pub statement: &'a Statement,
    left: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub fn new(statement: &'a Statement) -> Self {
        Words { statement, left: statement.modifiers.iter().map(String::as_str).collect() }
    }

    /// Takes a modifier if it is there.
    pub fn take(&mut self, word: &str) -> bool {
        let found = self.left.iter().position(|w| *w == word);
        if let Some(at) = found {
            self.left.remove(at);
        }
        found.is_some()
    }

    /// Takes the first modifier for which there is a value.
    pub fn pick<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, value) =
            self.left.iter().enumerate().find_map(|(i, w)| find(w).map(|v| (i, v)))?;
        self.left.remove(at);
        Some(value)
    }

    /// Takes whichever of some words is there.
    pub fn one_of(&mut self, words: &[&'static str]) -> Option<&'static str> {
        self.pick(|w| words.iter().find(|x| **x == w).copied())
    }

    /// Takes the first type.
    pub fn kind(&mut self) -> Result<Type, ParseError> {
        self.pick(Type::parse).ok_or_else(|| self.unsupported("it has no type"))
    }

    /// The whole opcode.
    pub fn opcode(&self) -> String {
        let mut out = self.statement.name.clone();
        for modifier in &self.statement.modifiers {
            out.push('.');
            out.push_str(modifier);
        }
        out
    }

    pub fn unsupported(&self, reason: impl Into<String>) -> ParseError {
        ParseError::unsupported(self.statement.line, self.opcode(), reason)
    }

    /// An error unless all were taken.
    pub fn finish(&self) -> Result<(), ParseError> {
        match self.left.first() {
            Some(word) => Err(self.unsupported(format!("`.{word}`"))),
            None => Ok(()),
        }
    }
}
