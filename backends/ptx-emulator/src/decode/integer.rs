//! Integer arithmetic, logic and shifts (PTX ISA, Integer Arithmetic, Logic and Shift Instructions), without comparisons.
//!
//! Invariant: functions take and give zero-extended bits. A division by zero, which the PTX ISA leaves open, gives
//! all ones (and its remainder the dividend), as NVIDIA's code does.

use super::bits::{dot2, dot4, extract, find_nth_set, funnel, permute, permute_mode};
use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{Carry, Operation, Source};
use crate::lanes::{Binary, Ternary, Unary, one, three, two};
use crate::syntax::{Type, low_bits, sign_extend};

/// Integers as zero-extended bits.
pub(crate) trait Bits: Copy {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! bits {
    ($($t:ty, $u:ty);*) => {$(
        impl Bits for $t {
            fn of(bits: u64) -> Self {
                bits as $t
            }
            fn bits(self) -> u64 {
                u64::from(self as $u)
            }
        }
    )*};
}

bits!(u16, u16; i16, u16; u32, u32; i32, u32; u64, u64; i64, u64);

/// An expression for each width and sign.
macro_rules! typed {
    ($lift:ident, $kind:expr, |$($x:ident),*| $body:expr) => {
        match $kind {
            Type::B16 | Type::U16 => Some($lift!($($x),* => { $(let $x = <u16 as Bits>::of($x);)* ($body).bits() })),
            Type::S16 => Some($lift!($($x),* => { $(let $x = <i16 as Bits>::of($x);)* ($body).bits() })),
            Type::B32 | Type::U32 => Some($lift!($($x),* => { $(let $x = <u32 as Bits>::of($x);)* ($body).bits() })),
            Type::S32 => Some($lift!($($x),* => { $(let $x = <i32 as Bits>::of($x);)* ($body).bits() })),
            Type::B64 | Type::U64 => Some($lift!($($x),* => { $(let $x = <u64 as Bits>::of($x);)* ($body).bits() })),
            Type::S64 => Some($lift!($($x),* => { $(let $x = <i64 as Bits>::of($x);)* ($body).bits() })),
            _ => None,
        }
    };
}

pub(crate) use typed;

/// The same for both halves of 32 bits.
fn halves(a: u64, b: u64, f: impl Fn(u64, u64) -> u64) -> u64 {
    f(a & 0xffff, b & 0xffff) & 0xffff | (f(a >> 16 & 0xffff, b >> 16 & 0xffff) & 0xffff) << 16
}

fn simple(name: &str, kind: Type) -> Option<Binary> {
    if matches!(kind, Type::U16x2 | Type::S16x2) {
        return Some(match (name, kind) {
            ("add", _) => two!(a, b => halves(a, b, |x, y| x.wrapping_add(y))),
            ("min", Type::U16x2) => two!(a, b => halves(a, b, |x, y| x.min(y))),
            ("max", Type::U16x2) => two!(a, b => halves(a, b, |x, y| x.max(y))),
            ("min", _) => two!(a, b => halves(a, b, |x, y| (x as i16).min(y as i16) as u64)),
            ("max", _) => two!(a, b => halves(a, b, |x, y| (x as i16).max(y as i16) as u64)),
            _ => return None,
        });
    }
    match name {
        "add" => typed!(two, kind, |a, b| a.wrapping_add(b)),
        "sub" => typed!(two, kind, |a, b| a.wrapping_sub(b)),
        "min" => typed!(two, kind, |a, b| a.min(b)),
        "max" => typed!(two, kind, |a, b| a.max(b)),
        "and" => Some(two!(a, b => a & b)),
        "or" => Some(two!(a, b => a | b)),
        "xor" => Some(two!(a, b => a ^ b)),
        "div" => match kind {
            Type::U16 => {
                Some(two!(a, b => u64::from((a as u16).checked_div(b as u16).unwrap_or(!0))))
            }
            Type::U32 => {
                Some(two!(a, b => u64::from((a as u32).checked_div(b as u32).unwrap_or(!0))))
            }
            Type::U64 => Some(two!(a, b => a.checked_div(b).unwrap_or(!0))),
            _ => typed!(two, kind, |a, b| if b.bits() == 0 { !b } else { a.wrapping_div(b) }),
        },
        "rem" => typed!(two, kind, |a, b| if b.bits() == 0 { a } else { a.wrapping_rem(b) }),
        _ => None,
    }
}

fn product(part: &str, kind: Type) -> Option<Binary> {
    Some(match (part, kind) {
        ("lo", _) => return typed!(two, kind, |a, b| a.wrapping_mul(b)),
        ("hi", Type::U16) => two!(a, b => (a * b) >> 16),
        ("hi", Type::S16) => {
            two!(a, b => ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16 as u64)
        }
        ("hi", Type::U32) => two!(a, b => (a * b) >> 32),
        ("hi", Type::S32) => {
            two!(a, b => ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32 as u64)
        }
        ("hi", Type::U64) => two!(a, b => ((u128::from(a) * u128::from(b)) >> 64) as u64),
        ("hi", Type::S64) => {
            two!(a, b => ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64)
        }
        ("wide", Type::U16) => two!(a, b => a * b),
        ("wide", Type::S16) => {
            two!(a, b => (i32::from(a as i16) * i32::from(b as i16)) as u32 as u64)
        }
        ("wide", Type::U32) => two!(a, b => a * b),
        ("wide", Type::S32) => two!(a, b => (i64::from(a as i32) * i64::from(b as i32)) as u64),
        _ => return None,
    })
}

fn product_sum(part: &str, kind: Type) -> Option<Ternary> {
    Some(match (part, kind) {
        ("lo", _) => return typed!(three, kind, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("hi", Type::U32) => three!(a, b, c => ((a * b) >> 32).wrapping_add(c) & 0xffff_ffff),
        ("hi", Type::S32) => three!(a, b, c => {
            let high = (i64::from(a as i32) * i64::from(b as i32)) >> 32;
            (high as u32).wrapping_add(c as u32) as u64
        }),
        ("hi", Type::U64) => {
            three!(a, b, c => ((u128::from(a) * u128::from(b)) >> 64).wrapping_add(u128::from(c)) as u64)
        }
        ("hi", Type::S64) => three!(a, b, c => {
            let high = (i128::from(a as i64) * i128::from(b as i64)) >> 64;
            (high as u64).wrapping_add(c)
        }),
        ("wide", Type::U16) => {
            three!(a, b, c => (a as u32 * b as u32).wrapping_add(c as u32) as u64)
        }
        ("wide", Type::S16) => three!(a, b, c => {
            let wide = i32::from(a as i16) * i32::from(b as i16);
            wide.wrapping_add(c as i32) as u32 as u64
        }),
        ("wide", Type::U32) => three!(a, b, c => (a * b).wrapping_add(c)),
        ("wide", Type::S32) => three!(a, b, c => {
            let wide = i64::from(a as i32) * i64::from(b as i32);
            wide.wrapping_add(c as i64) as u64
        }),
        _ => return None,
    })
}

/// Bits of an instruction's type as a constant of the function.
fn shifts(name: &str, kind: Type) -> Option<Binary> {
    Some(match (name, kind) {
        ("shl", Type::B16) => two!(a, b => if b as u32 > 15 { 0 } else { a << b & 0xffff }),
        ("shl", Type::B32) => two!(a, b => if b as u32 > 31 { 0 } else { a << b & 0xffff_ffff }),
        ("shl", Type::B64) => two!(a, b => if b as u32 > 63 { 0 } else { a << (b as u32) }),
        ("shr", Type::B16 | Type::U16 | Type::B32 | Type::U32 | Type::B64 | Type::U64) => {
            two!(a, b => if b as u32 > 63 { 0 } else { a >> (b as u32) })
        }
        ("shr", Type::S16) => two!(a, b => (a as i16 >> (b as u32).min(15)) as u16 as u64),
        ("shr", Type::S32) => two!(a, b => (a as i32 >> (b as u32).min(31)) as u32 as u64),
        ("shr", Type::S64) => two!(a, b => (a as i64 >> (b as u32).min(63)) as u64),
        _ => return None,
    })
}

fn single(name: &str, kind: Type) -> Option<Unary> {
    Some(match (name, kind) {
        ("not", Type::Pred) => one!(a => a ^ 1),
        ("not", Type::B16) => one!(a => !a & 0xffff),
        ("not", Type::B32) => one!(a => !a & 0xffff_ffff),
        ("not", Type::B64) => one!(a => !a),
        ("cnot", Type::B16 | Type::B32 | Type::B64) => one!(a => u64::from(a == 0)),
        ("neg", Type::S16) => one!(a => (a as i16).wrapping_neg() as u16 as u64),
        ("neg", Type::S32) => one!(a => (a as i32).wrapping_neg() as u32 as u64),
        ("neg", Type::S64) => one!(a => a.wrapping_neg()),
        ("abs", Type::S16) => one!(a => (a as i16).wrapping_abs() as u16 as u64),
        ("abs", Type::S32) => one!(a => (a as i32).wrapping_abs() as u32 as u64),
        ("abs", Type::S64) => one!(a => (a as i64).wrapping_abs() as u64),
        ("popc", Type::B32 | Type::B64) => one!(a => u64::from(a.count_ones())),
        ("clz", Type::B32) => one!(a => u64::from((a as u32).leading_zeros())),
        ("clz", Type::B64) => one!(a => u64::from(a.leading_zeros())),
        ("brev", Type::B32) => one!(a => u64::from((a as u32).reverse_bits())),
        ("brev", Type::B64) => one!(a => a.reverse_bits()),
        ("bfind", Type::U32) => {
            one!(a => u64::from(31u32.wrapping_sub((a as u32).leading_zeros())))
        }
        ("bfind", Type::U64) => one!(a => u64::from(63u32.wrapping_sub(a.leading_zeros()))),
        ("bfind", Type::S32) => one!(a => {
            let a = (if (a as i32) < 0 { !a } else { a }) as u32;
            u64::from(31u32.wrapping_sub(a.leading_zeros()))
        }),
        ("bfind", Type::S64) => one!(a => {
            let a = if (a as i64) < 0 { !a } else { a };
            u64::from(63u32.wrapping_sub(a.leading_zeros()))
        }),
        _ => return None,
    })
}

impl Decoder<'_, '_> {
    fn unary(&mut self, f: Option<Unary>, to: Type, from: Type) -> Result<Operation, ParseError> {
        self.exactly(2)?;
        let f = f.ok_or_else(|| self.words.unsupported("its type"))?;
        Ok(Operation::Unary { f, d: self.target(0, to)?, a: self.source(1, from)? })
    }

    fn binary(
        &mut self,
        f: Option<Binary>,
        to: Type,
        a: Type,
        b: Type,
    ) -> Result<Operation, ParseError> {
        self.exactly(3)?;
        let f = f.ok_or_else(|| self.words.unsupported("its type"))?;
        Ok(Operation::Binary {
            f,
            d: self.target(0, to)?,
            a: self.source(1, a)?,
            b: self.source(2, b)?,
        })
    }

    pub fn ternary(
        &mut self,
        f: Option<Ternary>,
        to: Type,
        kinds: [Type; 3],
    ) -> Result<Operation, ParseError> {
        self.exactly(4)?;
        let f = f.ok_or_else(|| self.words.unsupported("its type"))?;
        let (a, b, c) =
            (self.source(1, kinds[0])?, self.source(2, kinds[1])?, self.source(3, kinds[2])?);
        Ok(Operation::Ternary { f, d: self.target(0, to)?, a, b, c })
    }

    /// Instructions on integers and bits.
    pub fn integer(&mut self) -> Result<Operation, ParseError> {
        let name = self.statement.name.as_str();
        match name {
            "add" | "sub" | "addc" | "subc" if name.len() == 4 || self.words.take("cc") => {
                let writes = name.len() == 3 || self.words.take("cc");
                let kind = self.words.kind()?;
                self.exactly(3)?;
                let flag = self.lowering.carry_flag(self.statement.line)?;
                Ok(Operation::Carry(Box::new(Carry {
                    bits: kind.bits(),
                    subtract: name.starts_with("sub"),
                    reads: name.len() == 4,
                    writes,
                    target: self.target(0, kind)?,
                    a: self.source(1, kind)?,
                    b: self.source(2, kind)?,
                    flag,
                })))
            }
            "add" | "sub" if self.words.take("sat") => {
                let kind = self.words.kind()?;
                let f = match (name, kind) {
                    ("add", Type::S32) => {
                        Some(two!(a, b => (a as i32).saturating_add(b as i32) as u32 as u64))
                    }
                    ("sub", Type::S32) => {
                        Some(two!(a, b => (a as i32).saturating_sub(b as i32) as u32 as u64))
                    }
                    _ => None,
                };
                self.binary(f, kind, kind, kind)
            }
            "min" | "max" if self.words.take("relu") => {
                let kind = self.words.kind()?;
                let f = match (name, kind) {
                    ("min", Type::S32) => {
                        Some(two!(a, b => (a as i32).min(b as i32).max(0) as u64))
                    }
                    ("max", Type::S32) => {
                        Some(two!(a, b => (a as i32).max(b as i32).max(0) as u64))
                    }
                    _ => None,
                };
                self.binary(f, kind, kind, kind)
            }
            "add" | "sub" | "min" | "max" | "div" | "rem" | "and" | "or" | "xor" => {
                let kind = self.words.kind()?;
                if kind == Type::Pred {
                    self.exactly(3)?;
                }
                self.binary(simple(name, kind), kind, kind, kind)
            }
            "mul" | "mul24" => {
                let part = self.words.one_of(&["lo", "hi", "wide"]);
                let part =
                    part.ok_or_else(|| self.words.unsupported("which part of the product"))?;
                let kind = self.words.kind()?;
                if name == "mul24" {
                    let f = match (part, kind) {
                        ("lo", Type::U32) => {
                            Some(two!(a, b => ((a & 0xff_ffff) * (b & 0xff_ffff)) & 0xffff_ffff))
                        }
                        ("lo", Type::S32) => Some(two!(a, b => {
                            sign_extend(a, 24).wrapping_mul(sign_extend(b, 24)) & 0xffff_ffff
                        })),
                        _ => None,
                    };
                    return self.binary(f, kind, kind, kind);
                }
                let to = if part == "wide" { wider(kind) } else { kind };
                self.binary(product(part, kind), to, kind, kind)
            }
            "mad" => {
                let part = self.words.one_of(&["lo", "hi", "wide"]);
                let part =
                    part.ok_or_else(|| self.words.unsupported("which part of the product"))?;
                let kind = self.words.kind()?;
                let to = if part == "wide" { wider(kind) } else { kind };
                self.ternary(product_sum(part, kind), to, [kind, kind, to])
            }
            "sad" => {
                let kind = self.words.kind()?;
                let f = typed!(three, kind, |a, b, c| c.wrapping_add(if a < b {
                    b.wrapping_sub(a)
                } else {
                    a.wrapping_sub(b)
                }));
                self.ternary(f, kind, [kind; 3])
            }
            "shl" | "shr" => {
                let kind = self.words.kind()?;
                let f = shifts(name, kind);
                self.binary(f, kind, kind, Type::B32)
            }
            "shf" => {
                let left = self.words.one_of(&["l", "r"]) == Some("l");
                let wrap = self.words.one_of(&["wrap", "clamp"]) == Some("wrap");
                let kind = self.words.kind()?;
                self.ternary(Some(funnel((left, wrap))), kind, [Type::B32; 3])
            }
            "not" | "cnot" | "neg" | "abs" | "brev" => {
                let kind = self.words.kind()?;
                self.unary(single(name, kind), kind, kind)
            }
            "popc" | "clz" => {
                let kind = self.words.kind()?;
                self.unary(single(name, kind), Type::B32, kind)
            }
            "bfind" => {
                if self.words.take("shiftamt") {
                    // How far the found bit is from the top.
                    let kind = self.words.kind()?;
                    let f = match kind {
                        Type::U32 => Some(
                            one!(a => match a as u32 { 0 => 0xffff_ffff, a => u64::from(a.leading_zeros()) }),
                        ),
                        Type::U64 => Some(
                            one!(a => match a { 0 => 0xffff_ffff, a => u64::from(a.leading_zeros()) }),
                        ),
                        _ => None,
                    };
                    return self.unary(f, Type::B32, kind);
                }
                let kind = self.words.kind()?;
                self.unary(single(name, kind), Type::B32, kind)
            }
            "bfe" => {
                let kind = self.words.kind()?;
                let f = match kind {
                    Type::U32 => Some(three!(a, b, c => extract(a, b, c, 32, false))),
                    Type::S32 => Some(three!(a, b, c => extract(a, b, c, 32, true))),
                    Type::U64 => Some(three!(a, b, c => extract(a, b, c, 64, false))),
                    Type::S64 => Some(three!(a, b, c => extract(a, b, c, 64, true))),
                    _ => None,
                };
                self.ternary(f, kind, [kind, Type::B32, Type::B32])
            }
            "bfi" => self.bit_field_insert(),
            "prmt" => {
                let mode = self.words.one_of(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
                let kind = self.words.kind()?;
                let f = match mode {
                    None => three!(a, b, c => permute(a, b, c)),
                    Some("f4e") => three!(a, b, c => permute(a, b, permute_mode("f4e", c))),
                    Some("b4e") => three!(a, b, c => permute(a, b, permute_mode("b4e", c))),
                    Some("rc8") => three!(a, b, c => permute(a, b, permute_mode("rc8", c))),
                    Some("ecl") => three!(a, b, c => permute(a, b, permute_mode("ecl", c))),
                    Some("ecr") => three!(a, b, c => permute(a, b, permute_mode("ecr", c))),
                    Some(_) => three!(a, b, c => permute(a, b, permute_mode("rc16", c))),
                };
                self.ternary(Some(f), kind, [kind; 3])
            }
            "bmsk" => {
                let wrap = self.words.one_of(&["wrap", "clamp"]) == Some("wrap");
                let kind = self.words.kind()?;
                let f = if wrap {
                    two!(a, b => (low_bits((b & 31) as u32) << (a & 31)) & 0xffff_ffff)
                } else {
                    two!(a, b => if a > 31 { 0 } else { (low_bits(b.min(32) as u32) << a) & 0xffff_ffff })
                };
                self.binary(Some(f), kind, Type::B32, Type::B32)
            }
            // A policy of the caches changes nothing here.
            "createpolicy" => {
                while self.words.pick(|w| Type::parse(w).is_none().then_some(())).is_some() {}
                let kind = self.words.kind()?;
                Ok(Operation::Move { d: self.target(0, kind)?, a: Source::Immediate(0) })
            }
            "fns" => {
                let kind = self.words.kind()?;
                self.ternary(Some(three!(a, b, c => find_nth_set(a, b, c))), kind, [Type::B32; 3])
            }
            "lop3" => {
                let kind = self.words.kind()?;
                self.exactly(5)?;
                let table = self.constant(4)? as u8;
                let (a, b, c) =
                    (self.source(1, kind)?, self.source(2, kind)?, self.source(3, kind)?);
                Ok(Operation::Lop3 { d: self.target(0, kind)?, a, b, c, table })
            }
            "dp4a" | "dp2a" => {
                let high = self.words.one_of(&["lo", "hi"]) == Some("hi");
                let signed_a = self.words.kind()? == Type::S32;
                let signed_b = self.words.kind()? == Type::S32;
                let f = match (name, signed_a, signed_b, high) {
                    ("dp4a", false, false, _) => three!(a, b, c => dot4(a, b, c, false, false)),
                    ("dp4a", false, true, _) => three!(a, b, c => dot4(a, b, c, false, true)),
                    ("dp4a", true, false, _) => three!(a, b, c => dot4(a, b, c, true, false)),
                    ("dp4a", true, true, _) => three!(a, b, c => dot4(a, b, c, true, true)),
                    (_, false, false, false) => {
                        three!(a, b, c => dot2(a, b, c, false, false, false))
                    }
                    (_, false, true, false) => three!(a, b, c => dot2(a, b, c, false, true, false)),
                    (_, true, false, false) => three!(a, b, c => dot2(a, b, c, true, false, false)),
                    (_, true, true, false) => three!(a, b, c => dot2(a, b, c, true, true, false)),
                    (_, false, false, true) => three!(a, b, c => dot2(a, b, c, false, false, true)),
                    (_, false, true, true) => three!(a, b, c => dot2(a, b, c, false, true, true)),
                    (_, true, false, true) => three!(a, b, c => dot2(a, b, c, true, false, true)),
                    (_, true, true, true) => three!(a, b, c => dot2(a, b, c, true, true, true)),
                };
                self.ternary(Some(f), Type::B32, [Type::B32; 3])
            }
            _ => Err(self.words.unsupported("an unknown instruction")),
        }
    }

    /// Four operands: the field and its bounds, where the bounds are usually constants.
    fn bit_field_insert(&mut self) -> Result<Operation, ParseError> {
        let kind = self.words.kind()?;
        self.exactly(5)?;
        let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
        let (position, length) = (self.source(3, Type::B32)?, self.source(4, Type::B32)?);
        let d = self.target(0, kind)?;
        Ok(Operation::Insert { d, a, b, position, length, bits: kind.bits() })
    }
}

fn wider(kind: Type) -> Type {
    match kind {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        Type::S32 => Type::S64,
        other => other,
    }
}

/// The function of an atomic or a `redux`, by name and type.
pub(crate) fn reduction(name: &str, kind: Type) -> Option<Binary> {
    match (name, kind) {
        ("inc", Type::U32) => Some(two!(a, b => if a >= b { 0 } else { a + 1 })),
        ("dec", Type::U32) => Some(two!(a, b => if a == 0 || a > b { b } else { a - 1 })),
        ("add" | "min" | "max" | "and" | "or" | "xor", kind) if kind.is_integer() => {
            simple(name, kind)
        }
        _ => super::float::reduction(name, kind),
    }
}
