//! Matrix instructions (PTX ISA, Warp Level Matrix Instructions, Asynchronous Warpgroup Level Matrix Instructions).
//!
//! Invariant: the number of registers of each fragment is that of its shape and element.

use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{Accumulator, Element, Mma, Multiplicand, Operation, Wgmma, Window};
use crate::number::{BF16, E4M3, E5M2, F16, TF32};
use crate::syntax::{Operand, Type};

fn element(kind: Type) -> Option<Element> {
    Some(match kind {
        Type::F16 => Element::Float(F16),
        Type::BF16 => Element::Float(BF16),
        Type::TF32 => Element::Float(TF32),
        Type::E4M3 => Element::Float(E4M3),
        Type::E5M2 => Element::Float(E5M2),
        Type::F64 => Element::Double,
        Type::S8 => Element::Signed8,
        Type::U8 => Element::Unsigned8,
        _ => return None,
    })
}

fn accumulator(kind: Type, saturate: bool) -> Option<Accumulator> {
    Some(match kind {
        Type::F16 => Accumulator::Half,
        Type::F32 => Accumulator::Single,
        Type::F64 => Accumulator::Double,
        Type::S32 => Accumulator::Integer { saturate },
        _ => return None,
    })
}

/// `m16n8k16` as numbers.
fn shape(word: &str) -> Option<(usize, usize, usize)> {
    let rest = word.strip_prefix('m')?;
    let (m, rest) = rest.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some((m.parse().ok()?, n.parse().ok()?, k.parse().ok()?))
}

impl Decoder<'_, '_> {
    /// Matrix instructions.
    pub fn matrix(&mut self) -> Result<Operation, ParseError> {
        match self.statement.name.as_str() {
            "mma" => self.mma(),
            "wgmma" => self.wgmma(),
            name => {
                let load = name == "ldmatrix";
                self.words.take("sync");
                self.words.take("aligned");
                if !self.words.take("m8n8") {
                    return Err(self.words.unsupported("its shape"));
                }
                let count = match self.words.one_of(&["x1", "x2", "x4"]) {
                    Some("x1") => 1,
                    Some("x2") => 2,
                    Some(_) => 4,
                    None => return Err(self.words.unsupported("its number of matrices")),
                };
                let transpose = self.words.take("trans");
                let window = self.window();
                if self.words.kind()? != Type::B16 {
                    return Err(self.words.unsupported("its type"));
                }
                self.exactly(2)?;
                let (place, own) = self.place(usize::from(load))?;
                let window = window.or(own).unwrap_or(Window::Generic);
                if load {
                    let targets = self.targets(0, Some(Type::B32))?;
                    if targets.len() != count {
                        return Err(
                            self.error(format!("{} registers for {count} matrices", targets.len()))
                        );
                    }
                    return Ok(Operation::LoadMatrix { targets, place, window, transpose });
                }
                let values = self.sources(1, Some(Type::B32))?;
                if values.len() != count {
                    return Err(
                        self.error(format!("{} registers for {count} matrices", values.len()))
                    );
                }
                Ok(Operation::StoreMatrix { values, place, window, transpose })
            }
        }
    }

    fn mma(&mut self) -> Result<Operation, ParseError> {
        if !self.words.take("sync") || !self.words.take("aligned") {
            return Err(self.words.unsupported("the form without `.sync.aligned`"));
        }
        let (m, n, k) =
            self.words.pick(shape).ok_or_else(|| self.words.unsupported("its shape"))?;
        if !self.words.take("row") || !self.words.take("col") {
            return Err(self.words.unsupported("its layouts"));
        }
        let saturate = self.words.take("satfinite");
        let kinds =
            [self.words.kind()?, self.words.kind()?, self.words.kind()?, self.words.kind()?];
        let missing = || self.words.unsupported("its types");
        let accumulator = accumulator(kinds[0], saturate).ok_or_else(missing)?;
        let (a_element, b_element) =
            (element(kinds[1]).ok_or_else(missing)?, element(kinds[2]).ok_or_else(missing)?);
        let known = match (a_element, m, n) {
            (Element::Double, 8, 8) => k == 4 && accumulator == Accumulator::Double,
            (Element::Signed8 | Element::Unsigned8, 8, 8) => k == 16,
            (Element::Signed8 | Element::Unsigned8, 16, 8) => k == 16 || k == 32,
            (Element::Float(TF32), 16, 8) => {
                (k == 4 || k == 8) && accumulator == Accumulator::Single
            }
            (Element::Float(F16), 16, 8) => k == 8 || k == 16,
            (Element::Float(BF16), 16, 8) => {
                (k == 8 || k == 16) && accumulator == Accumulator::Single
            }
            (Element::Float(_), 16, 8) => k == 32 || k == 16 && a_element.bits() == 8,
            _ => false,
        };
        let integers = matches!(a_element, Element::Signed8 | Element::Unsigned8);
        let same = a_element == b_element
            || integers && b_element.bits() == 8 && !matches!(b_element, Element::Float(_))
            || !integers
                && a_element.bits() == 8
                && matches!(b_element, Element::Float(E4M3 | E5M2));
        let sums = matches!(accumulator, Accumulator::Integer { .. }) == integers;
        let double = (a_element == Element::Double) == (accumulator == Accumulator::Double);
        if !known || !same || !sums || !double || kinds[3] != kinds[0] {
            return Err(self.words.unsupported("its shape and types together"));
        }
        self.exactly(4)?;
        let element_kind = if a_element == Element::Double { Type::B64 } else { Type::B32 };
        let (c_bits, c_kind) = match accumulator {
            Accumulator::Half => (16, Type::B32),
            Accumulator::Double => (64, Type::B64),
            _ => (32, Type::B32),
        };
        // Each of 32 lanes holds as many bits; an f64 fills a register of 64.
        let registers = |rows: usize, columns: usize, bits: u32| {
            rows * columns * bits as usize / 32 / bits.max(32) as usize
        };
        let d = self.targets(0, Some(c_kind))?;
        let a = self.sources(1, Some(element_kind))?;
        let b = self.sources(2, Some(element_kind))?;
        let c = self.sources(3, Some(c_kind))?;
        let (na, nb, nc) = (
            registers(m, k, a_element.bits()),
            registers(k, n, b_element.bits()),
            registers(m, n, c_bits),
        );
        if a.len() != na || b.len() != nb || c.len() != nc || d.len() != nc {
            return Err(
                self.error(format!("fragments of {na}, {nb} and {nc} registers are needed"))
            );
        }
        Ok(Operation::Mma(Box::new(Mma { m, n, k, a_element, b_element, accumulator, d, a, b, c })))
    }

    fn wgmma(&mut self) -> Result<Operation, ParseError> {
        if self.words.take("fence") {
            self.words.take("sync");
            self.words.take("aligned");
            return Ok(Operation::WgmmaFence);
        }
        if self.words.take("commit_group") {
            self.words.take("sync");
            self.words.take("aligned");
            return Ok(Operation::WgmmaCommit);
        }
        if self.words.take("wait_group") {
            self.words.take("sync");
            self.words.take("aligned");
            return Ok(Operation::WgmmaWait(self.constant(0)?.min(1 << 20) as u32));
        }
        if !self.words.take("mma_async") || !self.words.take("sync") || !self.words.take("aligned")
        {
            return Err(self.words.unsupported("what it does"));
        }
        let (m, n, k) =
            self.words.pick(shape).ok_or_else(|| self.words.unsupported("its shape"))?;
        let saturate = self.words.take("satfinite");
        let kinds = [self.words.kind()?, self.words.kind()?, self.words.kind()?];
        let missing = || self.words.unsupported("its types");
        let accumulator = accumulator(kinds[0], saturate).ok_or_else(missing)?;
        let (a_element, b_element) =
            (element(kinds[1]).ok_or_else(missing)?, element(kinds[2]).ok_or_else(missing)?);
        let bits = a_element.bits();
        let integers = matches!(a_element, Element::Signed8 | Element::Unsigned8);
        let sums = match accumulator {
            Accumulator::Integer { .. } => integers,
            Accumulator::Double => false,
            Accumulator::Half => !integers && a_element != Element::Float(BF16) && bits < 32,
            Accumulator::Single => !integers,
        };
        let pair = a_element == b_element || bits == 8 && b_element.bits() == 8;
        let columns = n % 8 == 0 && (8..=256).contains(&n);
        if m != 64 || !columns || k * bits as usize != 256 || !sums || !pair || bits == 64 {
            return Err(self.words.unsupported("its shape and types together"));
        }
        let d = self.targets(0, Some(Type::B32))?;
        let registers = if accumulator == Accumulator::Half { n / 4 } else { n / 2 };
        if d.len() != registers {
            return Err(self.error(format!("{registers} accumulators are needed")));
        }
        let a = match self.at(1)? {
            Operand::Vector(_) => {
                let a = self.sources(1, Some(Type::B32))?;
                if a.len() != 4 {
                    return Err(self.error("4 registers of A are needed"));
                }
                Multiplicand::Registers(a)
            }
            _ => Multiplicand::Descriptor(self.source(1, Type::B64)?),
        };
        let b = self.source(2, Type::B64)?;
        let operand = self.at(3)?;
        let scale_d = self.predicate(operand)?;
        let mut next = 4;
        let mut flag = |me: &Self, allowed: [u64; 2]| -> Result<bool, ParseError> {
            let value = me.constant(next)?;
            next += 1;
            if !allowed.contains(&value) {
                return Err(me.error(format!("operand {next} cannot be {}", value as i64)));
            }
            Ok(value == allowed[1])
        };
        let minus = 1u64.wrapping_neg();
        let (mut negate_a, mut negate_b, mut transpose_a, mut transpose_b) =
            (false, false, false, false);
        if !integers {
            negate_a = flag(self, [1, minus])?;
            negate_b = flag(self, [1, minus])?;
            if bits == 16 {
                if matches!(a, Multiplicand::Descriptor(_)) {
                    transpose_a = flag(self, [0, 1])?;
                }
                transpose_b = flag(self, [0, 1])?;
            }
        }
        self.exactly(next)?;
        Ok(Operation::Wgmma(Box::new(Wgmma {
            n,
            k,
            a_element,
            b_element,
            accumulator,
            d,
            a,
            b,
            scale_d: (scale_d.0, scale_d.1),
            negate_a,
            negate_b,
            transpose_a,
            transpose_b,
        })))
    }
}
