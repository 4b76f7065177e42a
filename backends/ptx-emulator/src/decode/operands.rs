//! Operands of a statement as sources, targets and places.
//!
//! Invariant: a register's width is that of the instruction's type, except where the PTX ISA relaxes it (`ld`, `st`,
//! `cvt` and copies of bits).

use super::words::Words;
use super::{Frame, Location, Lowering, address};
use crate::error::ParseError;
use crate::instruction::{Operation, Place, SINK, Source, Window};
use crate::syntax::{Operand, Statement, Type, low_bits};

/// A statement that is being decoded.
pub(crate) struct Decoder<'l, 'a> {
    pub lowering: &'l mut Lowering<'a>,
    pub frame: &'l Frame<'a>,
    pub statement: &'a Statement,
    pub words: Words<'a>,
}

impl<'a> Decoder<'_, 'a> {
    pub fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::malformed(self.statement.line, message)
    }

    /// The number of operands.
    pub fn count(&self) -> usize {
        self.statement.operands.len()
    }

    /// An error unless there are so many operands.
    pub fn exactly(&self, count: usize) -> Result<(), ParseError> {
        if self.count() == count {
            return Ok(());
        }
        Err(self.error(format!(
            "`{}` has {} operands, not {count}",
            self.words.opcode(),
            self.count()
        )))
    }

    /// An operand.
    pub fn at(&self, index: usize) -> Result<&'a Operand, ParseError> {
        let operand = self.statement.operands.get(index);
        operand.ok_or_else(|| self.error(format!("operand {} is missing", index + 1)))
    }

    fn checked(&self, register: u32, kind: Option<Type>) -> Result<u32, ParseError> {
        let declared = self.frame.body.register_type(register);
        if let Some(kind) = kind
            && declared.bits() != kind.bits()
        {
            return Err(self.error(format!(
                "register `{}` has {} bits, the instruction takes {}",
                self.frame.body.register_name(register),
                declared.bits(),
                kind.bits()
            )));
        }
        Ok(self.frame.first + register)
    }

    fn locate(&mut self, operand: &Operand) -> Result<Location, ParseError> {
        let found = match operand {
            Operand::Variable(variable) => self.frame.locations.get(*variable as usize).copied(),
            Operand::Name(name) => match self.frame.parameters.get(name.as_str()) {
                Some(location) => Some(*location),
                None => self.lowering.module_variable(name),
            },
            _ => None,
        };
        found.ok_or_else(|| self.error(format!("{operand:?} is no variable")))
    }

    /// The value of an operand; with a type, registers must have its width and constants are cut to it.
    pub fn value(&mut self, operand: &Operand, kind: Option<Type>) -> Result<Source, ParseError> {
        let bits = kind.map_or(64, Type::bits);
        Ok(match operand {
            Operand::Register(register) => Source::Register(self.checked(*register, kind)?),
            Operand::Integer(value) if kind == Some(Type::Pred) => {
                Source::Immediate(u64::from(*value != 0))
            }
            Operand::Integer(value) => Source::Immediate(value & low_bits(bits)),
            Operand::Float32(value) => match kind {
                Some(Type::F64) => Source::Immediate(f64::from(f32::from_bits(*value)).to_bits()),
                _ if bits < 32 => return Err(self.error("a constant of 32 bits")),
                _ => Source::Immediate(u64::from(*value)),
            },
            Operand::Float64(value) => match kind {
                Some(Type::F32) => {
                    Source::Immediate(u64::from((f64::from_bits(*value) as f32).to_bits()))
                }
                _ if bits < 64 => return Err(self.error("a constant of 64 bits")),
                _ => Source::Immediate(*value),
            },
            Operand::Special(special) => Source::Special(*special),
            Operand::Variable(_) | Operand::Name(_) => {
                let location = self.locate(operand)?;
                address(location, 0).0
            }
            Operand::Sum(base, offset) => {
                if matches!(**base, Operand::Register(_)) {
                    return Err(self.error("a sum of a register outside of brackets"));
                }
                let location = self.locate(base)?;
                address(location, *offset).0
            }
            _ => return Err(self.error("a value is missing")),
        })
    }

    /// Operand `index`, as a value of a type.
    pub fn source(&mut self, index: usize, kind: Type) -> Result<Source, ParseError> {
        let operand = self.at(index)?;
        self.value(operand, Some(kind))
    }

    /// Operand `index`, of whatever width.
    pub fn any_source(&mut self, index: usize) -> Result<Source, ParseError> {
        let operand = self.at(index)?;
        self.value(operand, None)
    }

    /// A register to write.
    pub fn register(&self, operand: &Operand, kind: Option<Type>) -> Result<u32, ParseError> {
        match operand {
            Operand::Register(register) => self.checked(*register, kind),
            Operand::Sink => Ok(SINK),
            _ => Err(self.error("a register is missing")),
        }
    }

    /// Operand `index`, as a register to write.
    pub fn target(&self, index: usize, kind: Type) -> Result<u32, ParseError> {
        self.register(self.at(index)?, Some(kind))
    }

    /// Bits of the register that operand `index` is.
    pub fn width(&self, index: usize) -> Result<u32, ParseError> {
        match self.at(index)? {
            Operand::Register(register) => Ok(self.frame.body.register_type(*register).bits()),
            Operand::Sink => Ok(64),
            _ => Err(self.error("a register is missing")),
        }
    }

    /// A predicate, possibly negated.
    pub fn predicate(&mut self, operand: &Operand) -> Result<(Source, bool), ParseError> {
        match operand {
            Operand::Not(inner) => {
                let (source, negated) = self.predicate(inner)?;
                Ok((source, !negated))
            }
            Operand::Integer(value) => Ok((Source::Immediate(u64::from(*value != 0)), false)),
            other => Ok((self.value(other, Some(Type::Pred))?, false)),
        }
    }

    /// `p` or `p|q` to write.
    pub fn predicate_pair(&self, index: usize) -> Result<(u32, u32), ParseError> {
        match self.at(index)? {
            Operand::Pair(p, q) => {
                Ok((self.register(p, Some(Type::Pred))?, self.register(q, Some(Type::Pred))?))
            }
            p => Ok((self.register(p, Some(Type::Pred))?, SINK)),
        }
    }

    /// The parts of a vector, or the operand itself.
    pub fn parts(&self, index: usize) -> Result<&'a [Operand], ParseError> {
        match self.at(index)? {
            Operand::Vector(parts) | Operand::List(parts) => Ok(parts),
            one => Ok(std::slice::from_ref(one)),
        }
    }

    /// An error unless all registers of a vector have so many bits, or one width of at least so many.
    pub fn same_width(&self, index: usize, bits: u32, exactly: bool) -> Result<u32, ParseError> {
        let mut common = None;
        for part in self.parts(index)? {
            let Operand::Register(register) = part else { continue };
            let width = self.frame.body.register_type(*register).bits();
            let fits = if exactly { width == bits } else { width >= bits };
            if !fits || *common.get_or_insert(width) != width {
                let name = self.frame.body.register_name(*register);
                return Err(
                    self.error(format!("register `{name}` has {width} bits, which does not fit"))
                );
            }
        }
        Ok(common.unwrap_or(64))
    }

    /// Registers to write, of one type.
    pub fn targets(&self, index: usize, kind: Option<Type>) -> Result<Box<[u32]>, ParseError> {
        self.parts(index)?.iter().map(|part| self.register(part, kind)).collect()
    }

    /// Values of one type.
    pub fn sources(
        &mut self,
        index: usize,
        kind: Option<Type>,
    ) -> Result<Box<[Source]>, ParseError> {
        let parts = self.parts(index)?;
        parts.iter().map(|part| self.value(part, kind)).collect()
    }

    /// Operand `index` as a place in memory; a variable has a window of its own.
    pub fn place(&mut self, index: usize) -> Result<(Place, Option<Window>), ParseError> {
        let operand = self.at(index)?;
        let (base, offset) = match operand {
            Operand::Memory { base, offset, coordinates } if coordinates.is_empty() => {
                (&**base, *offset)
            }
            Operand::Memory { base, offset, .. } => (&**base, *offset),
            other => (other, 0),
        };
        self.place_of(base, offset)
    }

    fn place_of(
        &mut self,
        base: &Operand,
        offset: i64,
    ) -> Result<(Place, Option<Window>), ParseError> {
        match base {
            Operand::Register(register) => {
                let bits = self.frame.body.register_type(*register).bits();
                if bits != 32 && bits != 64 {
                    return Err(self.error("an address of neither 32 nor 64 bits"));
                }
                let base = Source::Register(self.frame.first + register);
                Ok((Place { base, offset }, None))
            }
            Operand::Integer(value) => Ok((
                Place { base: Source::Immediate(value.wrapping_add(offset as u64)), offset: 0 },
                None,
            )),
            Operand::Variable(_) | Operand::Name(_) => {
                let location = self.locate(base)?;
                let (base, window) = address(location, offset);
                Ok((Place { base, offset: 0 }, Some(window)))
            }
            _ => Err(self.error("an address is missing")),
        }
    }

    /// The immediate that operand `index` has to be.
    pub fn constant(&self, index: usize) -> Result<u64, ParseError> {
        match self.at(index)? {
            Operand::Integer(value) => Ok(*value),
            _ => Err(self.error(format!("operand {} has to be a constant", index + 1))),
        }
    }

    /// What the statement does.
    pub fn decode(&mut self) -> Result<Operation, ParseError> {
        match self.statement.name.as_str() {
            "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" | "bar" | "barrier" | "membar"
            | "fence" | "nanosleep" | "griddepcontrol" | "setmaxnreg" | "pmevent" => self.control(),
            "shfl" | "vote" | "match" | "activemask" | "redux" | "elect" => self.warp(),
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "discard"
            | "applypriority" | "cvta" | "isspacep" | "mapa" | "getctarank" => self.memory(),
            "cp" | "mbarrier" => self.bulk(),
            "mma" | "wgmma" | "ldmatrix" | "stmatrix" => self.matrix(),
            "cvt" => self.convert(),
            "mov" => self.copy(),
            "selp" | "slct" | "setp" | "set" => self.comparison(),
            _ => self.arithmetic(),
        }
    }

    /// Arithmetic on integers or floats, by type.
    fn arithmetic(&mut self) -> Result<Operation, ParseError> {
        let float = self.statement.modifiers.iter().any(|m| {
            matches!(
                m.as_str(),
                "f16" | "f16x2" | "bf16" | "bf16x2" | "f32" | "f64" | "tf32" | "f32x2"
            )
        });
        if float { self.float() } else { self.integer() }
    }
}
