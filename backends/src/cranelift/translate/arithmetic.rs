//! Arithmetic on scalars and registers.
//!
//! Invariant: what an instruction set lacks for vectors is done lane by lane with the same scalar
//! instructions, never by a library.

use super::convert::SWAP_HALVES;
use super::value::{Datum, part_type, scalar_type};
use super::{Failure, Translator};
use crate::nest::{BinaryOp, Element, Op, Predicate, Type, UnaryOp, ValueId};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use kiln_program::Architecture;

impl Translator<'_, '_> {
    pub(super) fn constant(&mut self, element: Element, bits: u64) -> Value {
        match element {
            Element::F32 => self.builder.ins().f32const(Ieee32::with_bits(bits as u32)),
            Element::F64 => self.builder.ins().f64const(Ieee64::with_bits(bits)),
            Element::Mask => self.iconst(types::I8, i64::from(bits & 1 != 0)),
            _ => self.iconst(scalar_type(element), bits as i64),
        }
    }

    /// A constant in every lane of a vector.
    pub(super) fn constant_lanes(&mut self, ty: Type, bits: u64) -> Datum {
        let width = (ty.element.bits() / 8) as usize;
        let mut bytes = [0; 16];
        for field in bytes.chunks_mut(width) {
            field.copy_from_slice(&bits.to_le_bytes()[..width]);
        }
        let part = self.vconst(part_type(ty, ty.element.bits()), bytes);
        Datum::new(ty, vec![part; super::value::registers(ty.lanes, ty.element.bits())])
    }

    pub(super) fn unary(&mut self, op: UnaryOp, a: &Datum) -> Result<Datum, Failure> {
        self.by_parts([a], a.ty, a.bits, |this, [a]| {
            let ins = this.builder.ins();
            Ok(match op {
                UnaryOp::Neg => ins.fneg(a),
                UnaryOp::Abs => ins.fabs(a),
                UnaryOp::Sqrt => ins.sqrt(a),
                UnaryOp::Floor => ins.floor(a),
                UnaryOp::Ceil => ins.ceil(a),
                UnaryOp::Trunc => ins.trunc(a),
                UnaryOp::RoundEven => ins.nearest(a),
            })
        })
    }

    /// `b_id` is the value that `b` came from: shifts want to know if all lanes are equal.
    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        a: &Datum,
        b: &Datum,
        b_id: Option<ValueId>,
    ) -> Result<Datum, Failure> {
        let ty = a.ty;
        let b = &self.mask_like(b, a);
        match op {
            BinaryOp::ShiftLeft | BinaryOp::ShiftRight | BinaryOp::ShiftRightLogical
                if !a.is_scalar() =>
            {
                let amount = b_id.and_then(|id| self.definition(id));
                if let Some(&Op::Splat(amount)) = amount {
                    let amount = self.get(amount)?.single()?;
                    return self.by_parts([a], ty, a.bits, |this, [a]| {
                        Ok(this.binary_value(op, a, amount))
                    });
                }
                self.by_lanes([a, b], ty, a.bits, |this, [a, b]| Ok(this.binary_value(op, a, b)))
            }
            BinaryOp::DivSigned
            | BinaryOp::DivUnsigned
            | BinaryOp::RemSigned
            | BinaryOp::RemUnsigned
                if !a.is_scalar() =>
            {
                self.by_lanes([a, b], ty, a.bits, |this, [a, b]| Ok(this.binary_value(op, a, b)))
            }
            _ => self.by_parts([a, b], ty, a.bits, |this, [a, b]| Ok(this.binary_value(op, a, b))),
        }
    }

    /// Of scalars or of registers.
    fn binary_value(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        let ty = self.builder.func.dfg.value_type(a);
        let float = ty.lane_type().is_float();
        match op {
            BinaryOp::Min | BinaryOp::Max => return self.float_extreme(op, a, b),
            BinaryOp::Mul if ty == types::I8X16 => return self.multiply_bytes(a, b),
            _ => {}
        }
        let ins = self.builder.ins();
        match op {
            BinaryOp::Add if float => ins.fadd(a, b),
            BinaryOp::Sub if float => ins.fsub(a, b),
            BinaryOp::Mul if float => ins.fmul(a, b),
            BinaryOp::Add => ins.iadd(a, b),
            BinaryOp::Sub => ins.isub(a, b),
            BinaryOp::Mul => ins.imul(a, b),
            BinaryOp::Div => ins.fdiv(a, b),
            BinaryOp::DivSigned => ins.sdiv(a, b),
            BinaryOp::DivUnsigned => ins.udiv(a, b),
            BinaryOp::RemSigned => ins.srem(a, b),
            BinaryOp::RemUnsigned => ins.urem(a, b),
            BinaryOp::And => ins.band(a, b),
            BinaryOp::Or => ins.bor(a, b),
            BinaryOp::Xor => ins.bxor(a, b),
            BinaryOp::ShiftLeft => ins.ishl(a, b),
            BinaryOp::ShiftRight => ins.sshr(a, b),
            BinaryOp::ShiftRightLogical => ins.ushr(a, b),
            BinaryOp::Min => ins.fmin(a, b),
            BinaryOp::Max => ins.fmax(a, b),
            BinaryOp::MinSigned => ins.smin(a, b),
            BinaryOp::MaxSigned => ins.smax(a, b),
            BinaryOp::MinUnsigned => ins.umin(a, b),
            BinaryOp::MaxUnsigned => ins.umax(a, b),
        }
    }

    /// The lesser or greater float, NaN if one is NaN.
    fn float_extreme(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        if self.architecture == Architecture::Aarch64 {
            return match op {
                BinaryOp::Min => self.builder.ins().fmin(a, b),
                _ => self.builder.ins().fmax(a, b),
            };
        }
        // x86's MINPS gives its second operand if one is NaN, and sees no order of zeros. One
        // blend makes that enough here; Cranelift's `fmin` would also order zeros, at thrice the cost.
        let first = match op {
            BinaryOp::Min => self.builder.ins().fcmp(FloatCC::LessThan, a, b),
            _ => self.builder.ins().fcmp(FloatCC::LessThan, b, a),
        };
        let extreme = self.choose(first, a, b);
        let is_nan = self.builder.ins().fcmp(FloatCC::Unordered, a, a);
        self.choose(is_nan, a, extreme)
    }

    /// Selects by the result of a comparison of the same shape.
    fn choose(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let ty = self.builder.func.dfg.value_type(a);
        if !ty.is_vector() {
            return self.builder.ins().select(condition, a, b);
        }
        let condition = self.bitcast(ty, condition);
        self.builder.ins().bitselect(condition, a, b)
    }

    /// No instruction set multiplies bytes: do it in 16 bits.
    fn multiply_bytes(&mut self, a: Value, b: Value) -> Value {
        let low = {
            let (a, b) = (self.builder.ins().uwiden_low(a), self.builder.ins().uwiden_low(b));
            self.builder.ins().imul(a, b)
        };
        let high = {
            let (a, b) = (self.builder.ins().uwiden_high(a), self.builder.ins().uwiden_high(b));
            self.builder.ins().imul(a, b)
        };
        self.narrow(low, high, 16)
    }

    pub(super) fn fma(&mut self, a: &Datum, b: &Datum, c: &Datum) -> Result<Datum, Failure> {
        if !self.fma {
            return Err("the target has no fused multiply-add".to_owned());
        }
        self.by_parts([a, b, c], a.ty, a.bits, |this, [a, b, c]| {
            Ok(this.builder.ins().fma(a, b, c))
        })
    }

    pub(super) fn compare(
        &mut self,
        predicate: Predicate,
        a: &Datum,
        b: &Datum,
    ) -> Result<Datum, Failure> {
        let ty = Type::new(Element::Mask, a.ty.lanes);
        if a.ty.element == Element::Mask {
            let differ = self.binary(BinaryOp::Xor, a, b, None)?;
            return match predicate {
                Predicate::NotEqual => Ok(differ),
                Predicate::Equal => self.not(&differ),
                _ => Err("masks have no order".to_owned()),
            };
        }
        let bits = if a.is_scalar() { Element::Mask.bits() } else { a.bits };
        let float = a.ty.element.is_float();
        self.by_parts([a, b], ty, bits, |this, [a, b]| {
            Ok(if float {
                let condition = float_condition(predicate)
                    .ok_or_else(|| format!("{predicate:?} is not for floats"))?;
                this.builder.ins().fcmp(condition, a, b)
            } else {
                let condition = integer_condition(predicate)
                    .ok_or_else(|| format!("{predicate:?} is not for integers"))?;
                this.builder.ins().icmp(condition, a, b)
            })
        })
    }

    fn not(&mut self, mask: &Datum) -> Result<Datum, Failure> {
        let scalar = mask.is_scalar();
        self.by_parts([mask], mask.ty, mask.bits, |this, [mask]| {
            Ok(if scalar {
                let one = this.iconst(types::I8, 1);
                this.builder.ins().bxor(mask, one)
            } else {
                this.builder.ins().bnot(mask)
            })
        })
    }

    pub(super) fn select(&mut self, mask: &Datum, a: &Datum, b: &Datum) -> Result<Datum, Failure> {
        let b = &self.mask_like(b, a);
        let mask = self.mask_of_width(mask, a.bits);
        self.by_parts([&mask, a, b], a.ty, a.bits, |this, [mask, a, b]| Ok(this.choose(mask, a, b)))
    }

    /// A mask with lanes as wide as those of another; other values as they are.
    pub(super) fn mask_like(&mut self, value: &Datum, like: &Datum) -> Datum {
        match value.ty.element {
            Element::Mask => self.mask_of_width(value, like.bits),
            _ => value.clone(),
        }
    }

    /// All lanes combined.
    pub(super) fn reduce(&mut self, op: BinaryOp, a: &Datum) -> Result<Datum, Failure> {
        let element = a.ty.element;
        let ty = Type::new(element, 1);
        if a.is_scalar() {
            return Ok(a.clone());
        }
        let slow = a.part_type() == types::I8X16 && op == BinaryOp::Mul;
        if !a.is_full() || slow {
            let lanes = self.lanes(a)?;
            let value = self.combine(op, lanes)?;
            return Ok(Datum::new(ty, vec![value]));
        }
        let mut part = self.combine(op, a.parts.clone())?;
        // Halve once with a shuffle that is cheap everywhere, then finish with scalars: for the few
        // lanes that are left this takes no more instructions.
        let mut lanes = a.lanes_per_part();
        if lanes > 2 {
            let high = self.shuffle(part, part, SWAP_HALVES);
            part = self.binary_value(op, part, high);
            lanes /= 2;
        }
        let rest =
            Datum { ty: Type::new(element, a.lanes_per_part()), bits: a.bits, parts: vec![part] };
        let scalars =
            (0..lanes).map(|lane| self.lane(&rest, lane)).collect::<Result<Vec<_>, _>>()?;
        let value = self.combine(op, scalars)?;
        Ok(Datum::new(ty, vec![value]))
    }

    /// Combines values of equal type pair by pair, so that the chain of dependences is short.
    fn combine(&mut self, op: BinaryOp, mut values: Vec<Value>) -> Result<Value, Failure> {
        while values.len() > 1 {
            let mut half = Vec::with_capacity(values.len().div_ceil(2));
            for pair in values.chunks(2) {
                half.push(match *pair {
                    [a, b] => self.binary_value(op, a, b),
                    [a] => a,
                    _ => continue,
                });
            }
            values = half;
        }
        values.first().copied().ok_or_else(|| "there are no lanes to combine".to_owned())
    }
}

fn float_condition(predicate: Predicate) -> Option<FloatCC> {
    Some(match predicate {
        Predicate::Equal => FloatCC::Equal,
        Predicate::NotEqual => FloatCC::NotEqual,
        Predicate::Less => FloatCC::LessThan,
        Predicate::LessEqual => FloatCC::LessThanOrEqual,
        Predicate::Greater => FloatCC::GreaterThan,
        Predicate::GreaterEqual => FloatCC::GreaterThanOrEqual,
        Predicate::Unordered => FloatCC::Unordered,
        Predicate::LessUnsigned
        | Predicate::LessEqualUnsigned
        | Predicate::GreaterUnsigned
        | Predicate::GreaterEqualUnsigned => return None,
    })
}

fn integer_condition(predicate: Predicate) -> Option<IntCC> {
    Some(match predicate {
        Predicate::Equal => IntCC::Equal,
        Predicate::NotEqual => IntCC::NotEqual,
        Predicate::Less => IntCC::SignedLessThan,
        Predicate::LessEqual => IntCC::SignedLessThanOrEqual,
        Predicate::Greater => IntCC::SignedGreaterThan,
        Predicate::GreaterEqual => IntCC::SignedGreaterThanOrEqual,
        Predicate::LessUnsigned => IntCC::UnsignedLessThan,
        Predicate::LessEqualUnsigned => IntCC::UnsignedLessThanOrEqual,
        Predicate::GreaterUnsigned => IntCC::UnsignedGreaterThan,
        Predicate::GreaterEqualUnsigned => IntCC::UnsignedGreaterThanOrEqual,
        Predicate::Unordered => return None,
    })
}
