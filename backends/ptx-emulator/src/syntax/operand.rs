//! Operands of instructions (PTX ISA, Instruction Operands).
//!
//! Invariant: an operand nests no deeper than a bound, so that reading it needs little stack.

use super::body::Scopes;
use super::lexer::Kind;
use super::parser::Parser;
use crate::error::ParseError;

/// A special register (PTX ISA, Special Registers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Special {
    Thread(u8),
    BlockSize(u8),
    Block(u8),
    GridSize(u8),
    Lane,
    Warp,
    WarpCount,
    LanesBelow,
    LanesUpTo,
    LaneOnly,
    LanesFrom,
    LanesAbove,
    Cluster(u8),
    ClusterCount(u8),
    BlockInCluster(u8),
    ClusterSize(u8),
    RankInCluster,
    ClusterBlocks,
    IsCluster,
    Clock,
    GlobalTimer,
    Multiprocessor,
    MultiprocessorCount,
    GridIdentity,
    DynamicShared,
    TotalShared,
    WarpSize,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// A register of the body.
    Register(u32),
    /// A variable of the body.
    Variable(u32),
    /// A label, a function, or a variable of the module or of the function's parameters.
    Name(String),
    /// A special register.
    Special(Special),
    /// An integer, as 64 bits of two's complement.
    Integer(u64),
    /// A float of 32 bits.
    Float32(u32),
    /// A float of 64 bits.
    Float64(u64),
    /// `[base+offset]`, or `[base, {coordinates}]`.
    Memory { base: Box<Operand>, offset: i64, coordinates: Vec<Operand> },
    /// `base+offset` outside of brackets.
    Sum(Box<Operand>, i64),
    /// `{a, b}`.
    Vector(Vec<Operand>),
    /// `(a, b)`.
    List(Vec<Operand>),
    /// `!p`.
    Not(Box<Operand>),
    /// `p|q`.
    Pair(Box<Operand>, Box<Operand>),
    /// `_`.
    Sink,
}

fn axis(name: &str) -> Option<u8> {
    match name {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    }
}

fn special(name: &str) -> Option<Special> {
    Some(match name {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::WarpCount,
        "%lanemask_lt" => Special::LanesBelow,
        "%lanemask_le" => Special::LanesUpTo,
        "%lanemask_eq" => Special::LaneOnly,
        "%lanemask_ge" => Special::LanesFrom,
        "%lanemask_gt" => Special::LanesAbove,
        "%cluster_ctarank" => Special::RankInCluster,
        "%cluster_nctarank" => Special::ClusterBlocks,
        "%is_explicit_cluster" => Special::IsCluster,
        "%clock" | "%clock_hi" | "%clock64" => Special::Clock,
        "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi" => Special::GlobalTimer,
        "%smid" => Special::Multiprocessor,
        "%nsmid" => Special::MultiprocessorCount,
        "%gridid" => Special::GridIdentity,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "WARP_SZ" => Special::WarpSize,
        _ => return None,
    })
}

fn special_vector(name: &str) -> Option<fn(u8) -> Special> {
    Some(match name {
        "%tid" => Special::Thread,
        "%ntid" => Special::BlockSize,
        "%ctaid" => Special::Block,
        "%nctaid" => Special::GridSize,
        "%clusterid" => Special::Cluster,
        "%nclusterid" => Special::ClusterCount,
        "%cluster_ctaid" => Special::BlockInCluster,
        "%cluster_nctaid" => Special::ClusterSize,
        _ => return None,
    })
}

/// How deep operands may nest.
const DEPTH: u32 = 4;

impl<'a> Parser<'a> {
    /// The next operand.
    pub fn operand(&mut self, scopes: &Scopes, depth: u32) -> Result<Operand, ParseError> {
        if depth > DEPTH {
            return Err(self.error("operands nest too deep"));
        }
        let first = self.primary(scopes, depth)?;
        if self.accept('|') {
            let second = self.primary(scopes, depth)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        match first {
            Operand::Name(_) | Operand::Variable(_) | Operand::Register(_) => {
                let offset = self.offset()?;
                Ok(if offset == 0 { first } else { Operand::Sum(Box::new(first), offset) })
            }
            _ => Ok(first),
        }
    }

    /// `+1`, `-1`, `+-1`, or nothing.
    pub fn offset(&mut self) -> Result<i64, ParseError> {
        let mut sum = 0i64;
        loop {
            let mut negative = match self.kind() {
                Some(Kind::Mark('+')) => false,
                Some(Kind::Mark('-')) => true,
                _ => return Ok(sum),
            };
            self.advance();
            if self.accept('-') {
                negative = !negative;
            }
            let value = self.integer()? as i64;
            sum = sum.wrapping_add(if negative { value.wrapping_neg() } else { value });
        }
    }

    fn primary(&mut self, scopes: &Scopes, depth: u32) -> Result<Operand, ParseError> {
        let Some(kind) = self.kind() else { return Err(self.error("an operand is missing")) };
        match kind {
            Kind::Word("_") => {
                self.advance();
                Ok(Operand::Sink)
            }
            Kind::Word(name) => {
                self.advance();
                if let Some(of) = special_vector(name) {
                    if let Some(Kind::Dot(component)) = self.kind()
                        && let Some(axis) = axis(component)
                    {
                        self.advance();
                        return Ok(Operand::Special(of(axis)));
                    }
                    return Err(self.error(format!("`{name}` is used as a whole")));
                }
                if let Some(found) = special(name) {
                    return Ok(Operand::Special(found));
                }
                if let Some(register) = scopes.register(name) {
                    return Ok(Operand::Register(register));
                }
                if let Some(variable) = scopes.variable(name) {
                    return Ok(Operand::Variable(variable));
                }
                if name.starts_with('%') {
                    return Err(self.error(format!("register `{name}` is not declared")));
                }
                Ok(Operand::Name(name.to_owned()))
            }
            Kind::Integer(value) => {
                self.advance();
                Ok(Operand::Integer(value))
            }
            Kind::Float32(bits) => {
                self.advance();
                Ok(Operand::Float32(bits))
            }
            Kind::Float64(bits) => {
                self.advance();
                Ok(Operand::Float64(bits))
            }
            Kind::Mark('-') => {
                self.advance();
                match self.kind() {
                    Some(Kind::Integer(value)) => {
                        self.advance();
                        Ok(Operand::Integer(value.wrapping_neg()))
                    }
                    Some(Kind::Float64(bits)) => {
                        self.advance();
                        Ok(Operand::Float64(bits ^ (1 << 63)))
                    }
                    Some(Kind::Float32(bits)) => {
                        self.advance();
                        Ok(Operand::Float32(bits ^ (1 << 31)))
                    }
                    _ => Err(self.error("a number follows `-`")),
                }
            }
            Kind::Mark('!') => {
                self.advance();
                let inner = self.primary(scopes, depth + 1)?;
                Ok(Operand::Not(Box::new(inner)))
            }
            Kind::Mark('[') => {
                self.advance();
                let base = self.operand(scopes, depth + 1)?;
                let (base, offset) = match base {
                    Operand::Sum(base, offset) => (*base, offset),
                    Operand::Integer(value) => (Operand::Integer(value), self.offset()?),
                    base => (base, 0),
                };
                let mut coordinates = Vec::new();
                if self.accept(',') {
                    match self.operand(scopes, depth + 1)? {
                        Operand::Vector(parts) => coordinates = parts,
                        one => coordinates.push(one),
                    }
                }
                self.expect(']')?;
                Ok(Operand::Memory { base: Box::new(base), offset, coordinates })
            }
            Kind::Mark('{') => Ok(Operand::Vector(self.sequence(scopes, '}', depth)?)),
            Kind::Mark('(') => Ok(Operand::List(self.sequence(scopes, ')', depth)?)),
            _ => Err(self.error("this is no operand")),
        }
    }

    fn sequence(
        &mut self,
        scopes: &Scopes,
        end: char,
        depth: u32,
    ) -> Result<Vec<Operand>, ParseError> {
        self.advance();
        let mut parts = Vec::new();
        if self.accept(end) {
            return Ok(parts);
        }
        loop {
            parts.push(self.operand(scopes, depth + 1)?);
            if self.accept(end) {
                return Ok(parts);
            }
            self.expect(',')?;
        }
    }
}
