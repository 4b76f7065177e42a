//! Conversions (PTX ISA, cvt).
//!
//! Invariant: the first type of `cvt` is the result's, the second the operand's.

use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{Conversion, Operation};
use crate::number::Rounding;
use crate::syntax::Type;

fn is_float(kind: Type) -> bool {
    !kind.is_integer()
        && kind != Type::Pred
        && !matches!(kind, Type::U16x2 | Type::S16x2 | Type::F32x2)
}

fn is_packed(kind: Type) -> bool {
    matches!(kind, Type::F16x2 | Type::BF16x2 | Type::E4M3x2 | Type::E5M2x2)
}

impl Decoder<'_, '_> {
    /// `cvt`.
    pub fn convert(&mut self) -> Result<Operation, ParseError> {
        if self.words.take("pack") {
            return Err(self.words.unsupported("`.pack`"));
        }
        let rounding = self.words.pick(|w| match w {
            "rn" => Some((Rounding::Nearest, false)),
            "rna" => Some((Rounding::Away, false)),
            "rz" => Some((Rounding::Zero, false)),
            "rm" => Some((Rounding::Down, false)),
            "rp" => Some((Rounding::Up, false)),
            "rni" => Some((Rounding::Nearest, true)),
            "rzi" => Some((Rounding::Zero, true)),
            "rmi" => Some((Rounding::Down, true)),
            "rpi" => Some((Rounding::Up, true)),
            _ => None,
        });
        let flush = self.words.take("ftz");
        let saturate = self.words.take("sat");
        let finite = self.words.take("satfinite");
        let relu = self.words.take("relu");
        let to = self.words.kind()?;
        let from = self.words.kind()?;
        if !is_float(to) && !to.is_integer() || !is_float(from) && !from.is_integer() {
            return Err(self.words.unsupported("its types"));
        }
        let two = is_packed(to) && !is_packed(from);
        self.exactly(if two { 3 } else { 2 })?;
        if two && from != Type::F32 || is_packed(from) && !is_packed(to) {
            return Err(self.words.unsupported("its types"));
        }
        let wide = self.width(0)?;
        if wide < to.bits() {
            return Err(self.error("the register is too narrow"));
        }
        // Registers may be wider than the type that is converted from (PTX ISA, Operand Size Exceeding
        // Instruction-Type Size).
        let mut sources = [None, None];
        for (i, source) in sources.iter_mut().enumerate().take(if two { 2 } else { 1 }) {
            let operand = self.at(i + 1)?;
            if let crate::syntax::Operand::Register(register) = operand
                && self.frame.body.register_type(*register).bits() < from.bits()
            {
                return Err(self.error("the register is too narrow"));
            }
            let integer = matches!(operand, crate::syntax::Operand::Register(_));
            *source = Some(self.value(operand, if integer { None } else { Some(from) })?);
        }
        let Some(a) = sources[0] else { return Err(self.error("an operand is missing")) };
        let (rounding, integral) = rounding.unwrap_or((Rounding::Nearest, false));
        let operand = self.at(0)?;
        Ok(Operation::Convert {
            conversion: Conversion {
                from,
                to,
                rounding,
                integral,
                flush,
                saturate,
                finite,
                relu,
                bits: wide,
            },
            d: self.register(operand, None)?,
            a,
            b: sources[1],
        })
    }
}
