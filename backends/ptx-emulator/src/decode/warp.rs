//! Exchanges within a warp (PTX ISA, shfl.sync, vote.sync, match.sync, redux.sync, activemask, elect.sync).
//!
//! Invariant: only the forms with a mask of lanes are known; those without were removed from the PTX ISA.

use super::integer::reduction;
use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{Operation, SINK, Shuffle, ShuffleMode, VoteMode};
use crate::syntax::{Operand, Type};

impl Decoder<'_, '_> {
    /// Exchanges within a warp.
    pub fn warp(&mut self) -> Result<Operation, ParseError> {
        let name = self.statement.name.as_str();
        if name == "activemask" {
            self.words.kind()?;
            self.exactly(1)?;
            return Ok(Operation::ActiveMask { d: self.target(0, Type::B32)? });
        }
        if !self.words.take("sync") {
            return Err(self.words.unsupported("the form without `.sync`"));
        }
        match name {
            "shfl" => {
                let mode = self.words.pick(|w| match w {
                    "up" => Some(ShuffleMode::Up),
                    "down" => Some(ShuffleMode::Down),
                    "bfly" => Some(ShuffleMode::Butterfly),
                    "idx" => Some(ShuffleMode::Index),
                    _ => None,
                });
                let mode = mode.ok_or_else(|| self.words.unsupported("its mode"))?;
                self.words.kind()?;
                self.exactly(5)?;
                let (target, valid) = match self.at(0)? {
                    Operand::Pair(d, p) => {
                        (self.register(d, Some(Type::B32))?, self.register(p, Some(Type::Pred))?)
                    }
                    d => (self.register(d, Some(Type::B32))?, SINK),
                };
                Ok(Operation::Shuffle(Box::new(Shuffle {
                    mode,
                    target,
                    valid,
                    value: self.source(1, Type::B32)?,
                    distance: self.source(2, Type::B32)?,
                    clamp: self.source(3, Type::B32)?,
                    mask: self.source(4, Type::B32)?,
                })))
            }
            "vote" => {
                let mode = self.words.pick(|w| match w {
                    "all" => Some(VoteMode::All),
                    "any" => Some(VoteMode::Any),
                    "uni" => Some(VoteMode::Uniform),
                    "ballot" => Some(VoteMode::Ballot),
                    _ => None,
                });
                let mode = mode.ok_or_else(|| self.words.unsupported("its mode"))?;
                let kind = self.words.kind()?;
                self.exactly(3)?;
                let operand = self.at(1)?;
                let (p, negated) = self.predicate(operand)?;
                let mask = self.source(2, Type::B32)?;
                Ok(Operation::Vote { mode, d: self.target(0, kind)?, p, negated, mask })
            }
            "match" => {
                let all = match self.words.one_of(&["any", "all"]) {
                    Some(mode) => mode == "all",
                    None => return Err(self.words.unsupported("its mode")),
                };
                let kind = self.words.kind()?;
                self.exactly(3)?;
                let (d, p) = match self.at(0)? {
                    Operand::Pair(d, p) => {
                        (self.register(d, Some(Type::B32))?, self.register(p, Some(Type::Pred))?)
                    }
                    d => (self.register(d, Some(Type::B32))?, SINK),
                };
                let (a, mask) = (self.source(1, kind)?, self.source(2, Type::B32)?);
                Ok(Operation::Match { d, p, a, mask, all, bits: kind.bits() })
            }
            "redux" => {
                let how = self.words.one_of(&["add", "min", "max", "and", "or", "xor"]);
                let how = how.ok_or_else(|| self.words.unsupported("its operation"))?;
                let kind = self.words.kind()?;
                self.exactly(3)?;
                let f = if kind.is_integer() { reduction(how, kind) } else { None };
                let f = f.ok_or_else(|| self.words.unsupported("its type"))?;
                let (a, mask) = (self.source(1, kind)?, self.source(2, Type::B32)?);
                Ok(Operation::ReduceLanes { f, d: self.target(0, kind)?, a, mask })
            }
            _ => {
                self.exactly(2)?;
                let (d, p) = match self.at(0)? {
                    Operand::Pair(d, p) => {
                        (self.register(d, Some(Type::B32))?, self.register(p, Some(Type::Pred))?)
                    }
                    _ => return Err(self.error("`d|p` is missing")),
                };
                Ok(Operation::Elect { d, p, mask: self.source(1, Type::B32)? })
            }
        }
    }
}
