//! Comparisons and selections, and copies of registers (PTX ISA, Comparison and Selection Instructions, mov).
//!
//! Invariant: an ordered comparison with NaN is false, an unordered one true.

use super::integer::{Bits, typed};
use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{Combine, Compare, Operation, SINK, Source, Truth};
use crate::lanes::{Binary, one, three, two};
use crate::number::{Small, small_compare_value};
use crate::syntax::{Operand, Type};

/// A comparison of values of a type.
fn test(name: &str, kind: Type, flush: bool) -> Option<Binary> {
    let unsigned = match kind {
        Type::S16 => Type::U16,
        Type::S32 => Type::U32,
        Type::S64 => Type::U64,
        other => other,
    };
    macro_rules! floats {
        ($value:expr) => {
            match name {
                "eq" => two!(a, b => u64::from($value(a) == $value(b))),
                "ne" => two!(a, b => { let (x, y) = ($value(a), $value(b)); u64::from(x != y && !x.is_nan() && !y.is_nan()) }),
                "lt" => two!(a, b => u64::from($value(a) < $value(b))),
                "le" => two!(a, b => u64::from($value(a) <= $value(b))),
                "gt" => two!(a, b => u64::from($value(a) > $value(b))),
                "ge" => two!(a, b => u64::from($value(a) >= $value(b))),
                "equ" => two!(a, b => { let (x, y) = ($value(a), $value(b)); u64::from(x == y || x.is_nan() || y.is_nan()) }),
                "neu" => two!(a, b => u64::from($value(a) != $value(b))),
                "ltu" => two!(a, b => { let (x, y) = ($value(a), $value(b)); u64::from(x < y || x.is_nan() || y.is_nan()) }),
                "leu" => two!(a, b => { let (x, y) = ($value(a), $value(b)); u64::from(x <= y || x.is_nan() || y.is_nan()) }),
                "gtu" => two!(a, b => { let (x, y) = ($value(a), $value(b)); u64::from(x > y || x.is_nan() || y.is_nan()) }),
                "geu" => two!(a, b => { let (x, y) = ($value(a), $value(b)); u64::from(x >= y || x.is_nan() || y.is_nan()) }),
                "num" => two!(a, b => u64::from(!$value(a).is_nan() && !$value(b).is_nan())),
                "nan" => two!(a, b => u64::from($value(a).is_nan() || $value(b).is_nan())),
                _ => return None,
            }
        };
    }
    fn plain(a: u64) -> f32 {
        f32::from_bits(a as u32)
    }
    fn flushed(a: u64) -> f32 {
        crate::number::flush(f32::from_bits(a as u32))
    }
    fn half(a: u64) -> f64 {
        small_compare_value(Small::of(0), a)
    }
    fn half_flushed(a: u64) -> f64 {
        small_compare_value(Small::of(2), a)
    }
    fn brain(a: u64) -> f64 {
        small_compare_value(Small::of(1), a)
    }
    Some(match kind {
        Type::F32 if flush => floats!(flushed),
        Type::F32 => floats!(plain),
        Type::F64 => floats!(f64::from_bits),
        Type::F16 | Type::F16x2 if flush => floats!(half_flushed),
        Type::F16 | Type::F16x2 => floats!(half),
        Type::BF16 | Type::BF16x2 => floats!(brain),
        _ => {
            return match name {
                "eq" => Some(two!(a, b => u64::from(a == b))),
                "ne" => Some(two!(a, b => u64::from(a != b))),
                "lt" => typed!(two, kind, |a, b| u16::from(a < b)),
                "le" => typed!(two, kind, |a, b| u16::from(a <= b)),
                "gt" => typed!(two, kind, |a, b| u16::from(a > b)),
                "ge" => typed!(two, kind, |a, b| u16::from(a >= b)),
                "lo" => typed!(two, unsigned, |a, b| u16::from(a < b)),
                "ls" => typed!(two, unsigned, |a, b| u16::from(a <= b)),
                "hi" => typed!(two, unsigned, |a, b| u16::from(a > b)),
                "hs" => typed!(two, unsigned, |a, b| u16::from(a >= b)),
                _ => None,
            };
        }
    })
}

const TESTS: &[&str] = &[
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
    "geu", "num", "nan",
];

impl Decoder<'_, '_> {
    /// `setp`, `set`, `selp`, `slct`.
    pub fn comparison(&mut self) -> Result<Operation, ParseError> {
        match self.statement.name.as_str() {
            "selp" => {
                let kind = self.words.kind()?;
                self.exactly(4)?;
                let (mut a, mut b) = (self.source(1, kind)?, self.source(2, kind)?);
                let operand = self.at(3)?;
                let (p, negated) = self.predicate(operand)?;
                if negated {
                    std::mem::swap(&mut a, &mut b);
                }
                Ok(Operation::Select { d: self.target(0, kind)?, a, b, p })
            }
            "slct" => {
                let flush = self.words.take("ftz");
                let kind = self.words.kind()?;
                let by = self.words.kind()?;
                let f = match by {
                    Type::S32 => Some(three!(a, b, c => if c as i32 >= 0 { a } else { b })),
                    Type::F32 if flush => Some(three!(a, b, c => {
                        if crate::number::flush(f32::from_bits(c as u32)) >= 0.0 { a } else { b }
                    })),
                    Type::F32 => {
                        Some(three!(a, b, c => if f32::from_bits(c as u32) >= 0.0 { a } else { b }))
                    }
                    _ => None,
                };
                self.ternary(f, kind, [kind, kind, by])
            }
            name => {
                let relation = self.words.one_of(TESTS);
                let relation = relation.ok_or_else(|| self.words.unsupported("its comparison"))?;
                let combine = self.words.pick(|w| match w {
                    "and" => Some(Combine::And),
                    "or" => Some(Combine::Or),
                    "xor" => Some(Combine::Xor),
                    _ => None,
                });
                let flush = self.words.take("ftz");
                let first = self.words.kind()?;
                let (truth, kind) = if name == "set" {
                    let kind = self.words.kind()?;
                    (truth_of(first), kind)
                } else {
                    (Some(Truth::Predicate), first)
                };
                let truth =
                    truth.ok_or_else(|| self.words.unsupported("the type of its result"))?;
                let packed = matches!(kind, Type::F16x2 | Type::BF16x2);
                if name == "set" && packed {
                    return Err(self.words.unsupported("packed halves"));
                }
                let test = test(relation, kind, flush);
                let test = test.ok_or_else(|| self.words.unsupported("its type"))?;
                self.exactly(if combine.is_some() { 4 } else { 3 })?;
                let (target, second) = if name == "set" {
                    (self.target(0, first)?, SINK)
                } else {
                    self.predicate_pair(0)?
                };
                let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
                let combine = match combine {
                    Some(how) => {
                        let operand = self.at(3)?;
                        let (source, negated) = self.predicate(operand)?;
                        Some((how, source, negated))
                    }
                    None => None,
                };
                Ok(Operation::Compare(Box::new(Compare {
                    test,
                    target,
                    second,
                    packed,
                    a,
                    b,
                    combine,
                    truth,
                })))
            }
        }
    }

    /// `mov`, also of parts of a vector and of addresses.
    pub fn copy(&mut self) -> Result<Operation, ParseError> {
        let kind = self.words.kind()?;
        self.exactly(2)?;
        let (to, from) = (self.at(0)?, self.at(1)?);
        if let Operand::Vector(_) = from {
            let parts = self.sources(1, None)?;
            let bits = parts_width(kind, parts.len()).ok_or_else(|| self.error("so many parts"))?;
            self.same_width(1, bits, true)?;
            return Ok(Operation::Pack { d: self.target(0, kind)?, parts, bits });
        }
        if let Operand::Vector(_) = to {
            let parts = self.targets(0, None)?;
            let bits = parts_width(kind, parts.len()).ok_or_else(|| self.error("so many parts"))?;
            self.same_width(0, bits, true)?;
            return Ok(Operation::Unpack { parts, a: self.source(1, kind)?, bits });
        }
        let a = match from {
            // Special registers of 32 bits may be read as 64, and addresses as 32.
            Operand::Special(_) | Operand::Name(_) | Operand::Variable(_) | Operand::Sum(..) => {
                let (d, a) = (self.target(0, kind)?, self.any_source(1)?);
                return Ok(match kind.bits() {
                    64 => Operation::Move { d, a },
                    32 => Operation::Unary { f: one!(a => a & 0xffff_ffff), d, a },
                    16 => Operation::Unary { f: one!(a => a & 0xffff), d, a },
                    _ => return Err(self.words.unsupported("its type")),
                });
            }
            _ => self.source(1, kind)?,
        };
        if matches!(a, Source::Register(_)) && kind == Type::B128 {
            return Err(self.words.unsupported("128 bits"));
        }
        Ok(Operation::Move { d: self.target(0, kind)?, a })
    }
}

fn parts_width(kind: Type, parts: usize) -> Option<u32> {
    match (kind.bits(), parts) {
        (64, 2) => Some(32),
        (64, 4) => Some(16),
        (64, 8) => Some(8),
        (32, 2) => Some(16),
        (32, 4) => Some(8),
        (16, 2) => Some(8),
        _ => None,
    }
}

fn truth_of(kind: Type) -> Option<Truth> {
    Some(match kind {
        Type::U32 | Type::S32 => Truth::Ones(32),
        Type::U16 | Type::S16 => Truth::Ones(16),
        Type::F32 => Truth::Bits(0x3f80_0000),
        Type::F16 => Truth::Bits(0x3c00),
        Type::BF16 => Truth::Bits(0x3f80),
        _ => return None,
    })
}
