//! Conversions between elements, and masks between lane widths.
//!
//! Invariant: a conversion gives the same lanes in registers and lane by lane; no library is
//! called.

use super::value::{Datum, registers, scalar_type};
use super::{Failure, Translator};
use crate::nest::{Conversion, Element, Type};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// What fills the new high bits of a wider lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Sign,
    Zero,
}

/// Low words of the lanes of two registers of twice their width.
const LOW_WORDS: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
/// Low half of each of two registers.
const LOW_HALVES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
/// High half first.
pub(super) const SWAP_HALVES: [u8; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

impl Translator<'_, '_> {
    pub(super) fn convert(
        &mut self,
        conversion: Conversion,
        a: &Datum,
        ty: Type,
    ) -> Result<Datum, Failure> {
        let element = a.ty.element;
        let lane_by_lane = |this: &mut Self, a: &Datum| {
            this.by_lanes([a], ty, ty.element.bits(), |this, [a]| {
                this.convert_scalar(conversion, element, a, ty.element)
            })
        };
        if a.is_scalar() {
            return lane_by_lane(self, a);
        }
        let bits = ty.element.bits();
        Ok(match conversion {
            Conversion::Bits if element == Element::Mask => {
                return Err("a mask has no bits of its own".to_owned());
            }
            Conversion::Bits => self.by_parts([a], ty, bits, |this, [a]| {
                Ok(this.bitcast(super::value::register_type(ty.element, bits), a))
            })?,
            Conversion::ZeroExtend if element == Element::Mask => {
                let mask = self.mask_of_width(a, bits);
                let one = self.iconst(scalar_type(ty.element), 1);
                let one = self.splat(Type::new(ty.element, ty.lanes), bits, one).parts;
                let one = one.first().copied().ok_or("no lanes")?;
                self.by_parts([&mask], ty, bits, |this, [a]| Ok(this.builder.ins().band(a, one)))?
            }
            Conversion::SignExtend => Datum::new(ty, self.widen_to(a, bits, Fill::Sign)),
            Conversion::ZeroExtend => Datum::new(ty, self.widen_to(a, bits, Fill::Zero)),
            Conversion::Truncate => Datum::new(ty, self.truncate_to(a, bits)),
            Conversion::SignedToFloat | Conversion::UnsignedToFloat => {
                match self.integer_to_float(conversion, a, ty) {
                    Some(parts) => Datum::new(ty, parts),
                    None => lane_by_lane(self, a)?,
                }
            }
            Conversion::FloatToSigned | Conversion::FloatToUnsigned
                if element == Element::F32 && bits <= 32 =>
            {
                self.single_to_integer(conversion, a, ty)?
            }
            Conversion::FloatToFloat => Datum::new(ty, self.change_precision(a, ty)),
            Conversion::FloatToSigned | Conversion::FloatToUnsigned => lane_by_lane(self, a)?,
            Conversion::HalfToSingle | Conversion::SingleToHalf => return Err(no_half()),
        })
    }

    fn convert_scalar(
        &mut self,
        conversion: Conversion,
        from: Element,
        value: Value,
        to: Element,
    ) -> Result<Value, Failure> {
        let ty = scalar_type(to);
        let narrow = |element: Element| element.bits() < 32;
        Ok(match conversion {
            Conversion::SignExtend => self.builder.ins().sextend(ty, value),
            Conversion::ZeroExtend if scalar_type(from) == ty => value,
            Conversion::ZeroExtend => self.builder.ins().uextend(ty, value),
            Conversion::Truncate => self.builder.ins().ireduce(ty, value),
            Conversion::SignedToFloat if narrow(from) => {
                let wide = self.builder.ins().sextend(types::I32, value);
                self.builder.ins().fcvt_from_sint(ty, wide)
            }
            Conversion::SignedToFloat => self.builder.ins().fcvt_from_sint(ty, value),
            Conversion::UnsignedToFloat if narrow(from) => {
                let wide = self.builder.ins().uextend(types::I32, value);
                self.builder.ins().fcvt_from_sint(ty, wide)
            }
            Conversion::UnsignedToFloat => self.builder.ins().fcvt_from_uint(ty, value),
            Conversion::FloatToSigned | Conversion::FloatToUnsigned if narrow(to) => {
                let wide = self.builder.ins().fcvt_to_sint_sat(types::I32, value);
                let (low, high) = range(conversion, to.bits());
                let (low, high) = (self.iconst(types::I32, low), self.iconst(types::I32, high));
                let raised = self.builder.ins().smax(wide, low);
                let clamped = self.builder.ins().smin(raised, high);
                self.builder.ins().ireduce(ty, clamped)
            }
            Conversion::FloatToSigned => self.builder.ins().fcvt_to_sint_sat(ty, value),
            Conversion::FloatToUnsigned => self.builder.ins().fcvt_to_uint_sat(ty, value),
            Conversion::FloatToFloat if to == Element::F64 => {
                self.builder.ins().fpromote(ty, value)
            }
            Conversion::FloatToFloat => self.builder.ins().fdemote(ty, value),
            Conversion::Bits => self.bitcast(ty, value),
            Conversion::HalfToSingle | Conversion::SingleToHalf => return Err(no_half()),
        })
    }

    fn integer_to_float(
        &mut self,
        conversion: Conversion,
        a: &Datum,
        ty: Type,
    ) -> Option<Vec<Value>> {
        let signed = conversion == Conversion::SignedToFloat;
        let fill = if signed { Fill::Sign } else { Fill::Zero };
        let from = a.bits;
        if from == 64 && ty.element == Element::F32 {
            return None;
        }
        let bits = ty.element.bits();
        let register = super::value::register_type(ty.element, bits);
        let wide = self.widen_to(a, bits, fill);
        let convert = |part: &Value| {
            // What was widened with zeros is not negative.
            if signed || from < bits {
                self.builder.ins().fcvt_from_sint(register, *part)
            } else {
                self.builder.ins().fcvt_from_uint(register, *part)
            }
        };
        Some(wide.iter().map(convert).collect())
    }

    /// f32 to integers of at most 32 bits.
    fn single_to_integer(
        &mut self,
        conversion: Conversion,
        a: &Datum,
        ty: Type,
    ) -> Result<Datum, Failure> {
        let bits = ty.element.bits();
        let wide_type = Type::new(Element::I32, ty.lanes);
        let unsigned = conversion == Conversion::FloatToUnsigned && bits == 32;
        let wide = self.by_parts([a], wide_type, 32, |this, [a]| {
            Ok(if unsigned {
                this.builder.ins().fcvt_to_uint_sat(types::I32X4, a)
            } else {
                this.builder.ins().fcvt_to_sint_sat(types::I32X4, a)
            })
        })?;
        if bits == 32 {
            return Ok(wide);
        }
        let (low, high) = range(conversion, bits);
        let [low, high] = [low, high].map(|bound| {
            let bound = self.iconst(types::I32, bound);
            self.builder.ins().splat(types::I32X4, bound)
        });
        let clamped = self.by_parts([&wide], wide_type, 32, |this, [a]| {
            let raised = this.builder.ins().smax(a, low);
            Ok(this.builder.ins().smin(raised, high))
        })?;
        Ok(Datum::new(ty, self.truncate_to(&clamped, bits)))
    }

    fn change_precision(&mut self, a: &Datum, ty: Type) -> Vec<Value> {
        if ty.element == a.ty.element {
            return a.parts.clone();
        }
        let mut parts = Vec::with_capacity(registers(ty.lanes, ty.element.bits()));
        if ty.element == Element::F64 {
            for &part in &a.parts {
                parts.push(self.builder.ins().fvpromote_low(part));
                let high = self.shuffle(part, part, SWAP_HALVES);
                parts.push(self.builder.ins().fvpromote_low(high));
            }
            parts.truncate(registers(ty.lanes, 64));
        } else {
            for pair in a.parts.chunks(2) {
                let halves: Vec<_> =
                    pair.iter().map(|part| self.builder.ins().fvdemote(*part)).collect();
                parts.push(match *halves.as_slice() {
                    [a, b] => self.shuffle(a, b, LOW_HALVES),
                    [a] => a,
                    _ => continue,
                });
            }
        }
        parts
    }

    /// The mask with lanes of this many bits.
    pub(super) fn mask_of_width(&mut self, mask: &Datum, bits: u32) -> Datum {
        if mask.is_scalar() || mask.bits == bits {
            return mask.clone();
        }
        let parts = if bits > mask.bits {
            self.widen_to(mask, bits, Fill::Sign)
        } else {
            let mut parts = mask.parts.clone();
            let mut width = mask.bits;
            while width > bits {
                parts = self.pairs(&parts, |this, a, b| match width {
                    64 => this.shuffle_words(a, b),
                    _ => this.builder.ins().snarrow(a, b),
                });
                width /= 2;
            }
            parts
        };
        Datum::mask(mask.ty.lanes, bits, parts)
    }

    fn widen_to(&mut self, a: &Datum, bits: u32, fill: Fill) -> Vec<Value> {
        let mut parts = a.parts.clone();
        let mut width = a.bits;
        while width < bits {
            width *= 2;
            let mut wider = Vec::with_capacity(parts.len() * 2);
            for part in parts {
                wider.extend(self.halves(part, fill));
            }
            wider.truncate(registers(a.ty.lanes, width));
            parts = wider;
        }
        parts
    }

    fn halves(&mut self, part: Value, fill: Fill) -> [Value; 2] {
        match fill {
            Fill::Sign => {
                [self.builder.ins().swiden_low(part), self.builder.ins().swiden_high(part)]
            }
            Fill::Zero => {
                [self.builder.ins().uwiden_low(part), self.builder.ins().uwiden_high(part)]
            }
        }
    }

    fn truncate_to(&mut self, a: &Datum, bits: u32) -> Vec<Value> {
        let mut parts = a.parts.clone();
        let mut width = a.bits;
        while width > bits {
            parts = self.pairs(&parts, |this, a, b| match width {
                64 => this.shuffle_words(a, b),
                _ => this.narrow(a, b, width),
            });
            width /= 2;
        }
        parts
    }

    /// Low halves of the lanes of two registers; `width` is that of their lanes, 16 or 32.
    pub(super) fn narrow(&mut self, a: Value, b: Value, width: u32) -> Value {
        // Without their high halves the lanes are in the range that `unarrow` keeps.
        let register = super::value::integer_register(width);
        let low = self.iconst(register.lane_type(), (1 << (width / 2)) - 1);
        let low = self.builder.ins().splat(register, low);
        let (a, b) = (self.builder.ins().band(a, low), self.builder.ins().band(b, low));
        self.builder.ins().unarrow(a, b)
    }

    /// Low words of four i64 lanes, as i32.
    fn shuffle_words(&mut self, a: Value, b: Value) -> Value {
        let words = self.shuffle(a, b, LOW_WORDS);
        self.bitcast(types::I32X4, words)
    }

    fn pairs(
        &mut self,
        parts: &[Value],
        mut f: impl FnMut(&mut Self, Value, Value) -> Value,
    ) -> Vec<Value> {
        let pair = |pair: &[Value]| match *pair {
            [a, b] => Some((a, b)),
            [a] => Some((a, a)),
            _ => None,
        };
        parts.chunks(2).filter_map(pair).map(|(a, b)| f(self, a, b)).collect()
    }

    /// The mask of lanes whose number is below `count`.
    pub(super) fn first_lanes(&mut self, count: Value, lanes: u32) -> Result<Datum, Failure> {
        if lanes == 1 {
            let zero = self.iconst(types::I64, 0);
            let some = self.builder.ins().icmp(IntCC::SignedGreaterThan, count, zero);
            return Ok(Datum::scalar(Element::Mask, some));
        }
        let [least, most] = [0, i64::from(lanes)].map(|bound| self.iconst(types::I64, bound));
        let raised = self.builder.ins().smax(count, least);
        let clamped = self.builder.ins().smin(raised, most);
        let narrow = self.builder.ins().ireduce(types::I32, clamped);
        let count = self.builder.ins().splat(types::I32X4, narrow);
        let numbers = self.lane_numbers(Type::new(Element::I32, lanes));
        let compare =
            |this: &mut Self, number| this.builder.ins().icmp(IntCC::SignedLessThan, number, count);
        let parts = numbers.parts.iter().map(|part| compare(self, *part)).collect();
        Ok(Datum::mask(lanes, 32, parts))
    }

    /// 0, 1, 2, … in the lanes.
    pub(super) fn lane_numbers(&mut self, ty: Type) -> Datum {
        let bits = ty.element.bits();
        if ty.lanes == 1 {
            let zero = self.zero(scalar_type(ty.element));
            return Datum::new(ty, vec![zero]);
        }
        let width = (bits / 8) as usize;
        let register = super::value::integer_register(bits);
        let per_part = super::value::lanes_per_register(bits);
        let parts = (0..registers(ty.lanes, bits) as u32)
            .map(|part| {
                let mut bytes = [0; 16];
                for (lane, field) in (0u32..).zip(bytes.chunks_mut(width)) {
                    let number = u64::from(part * per_part + lane).to_le_bytes();
                    field.copy_from_slice(&number[..width]);
                }
                self.vconst(register, bytes)
            })
            .collect();
        Datum::new(ty, parts)
    }
}

/// The range of an integer of fewer than 32 bits.
fn range(conversion: Conversion, bits: u32) -> (i64, i64) {
    match conversion {
        Conversion::FloatToUnsigned => (0, (1 << bits) - 1),
        _ => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
    }
}

fn no_half() -> Failure {
    "there are no f16 conversion instructions here; they must be integer arithmetic".to_owned()
}
