//! 16-bit floats as integer arithmetic on their bits.
//!
//! Invariant: conversions round to nearest, ties to even, and keep infinities, NaN and subnormals.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, ValueId};

impl Builder<'_> {
    fn bits_op(&mut self, op: BinaryOp, a: ValueId, b: i64) -> ValueId {
        let element = self.ty(a).element;
        let b = self.integer(element, b);
        self.binary(op, a, b)
    }

    /// f32 of the bits of a bf16.
    pub(in crate::nest) fn single_of_bfloat(&mut self, bits: ValueId) -> ValueId {
        let wide = self.convert(Conversion::ZeroExtend, bits, Element::I32);
        let shifted = self.bits_op(BinaryOp::ShiftLeft, wide, 16);
        self.convert(Conversion::Bits, shifted, Element::F32)
    }

    /// Bits of the bf16 nearest to an f32.
    pub(in crate::nest) fn bfloat_of_single(&mut self, x: ValueId) -> ValueId {
        let bits = self.convert(Conversion::Bits, x, Element::I32);
        let shifted = self.bits_op(BinaryOp::ShiftRightLogical, bits, 16);
        let odd = self.bits_op(BinaryOp::And, shifted, 1);
        let rounding = self.bits_op(BinaryOp::Add, odd, 0x7fff);
        let rounded = self.binary(BinaryOp::Add, bits, rounding);
        let rounded = self.bits_op(BinaryOp::ShiftRightLogical, rounded, 16);
        let quiet = self.bits_op(BinaryOp::Or, shifted, 0x40);
        let is_nan = self.compare(Predicate::Unordered, x, x);
        let result = self.select(is_nan, quiet, rounded);
        self.convert(Conversion::Truncate, result, Element::I16)
    }

    /// f32 of the bits of an f16.
    pub(in crate::nest) fn single_of_half(&mut self, bits: ValueId) -> ValueId {
        if self.capabilities.half {
            return self.convert(Conversion::HalfToSingle, bits, Element::F32);
        }
        let wide = self.convert(Conversion::ZeroExtend, bits, Element::I32);
        let sign = self.bits_op(BinaryOp::And, wide, 0x8000);
        let sign = self.bits_op(BinaryOp::ShiftLeft, sign, 16);
        let size = self.bits_op(BinaryOp::And, wide, 0x7fff);
        // As the bits of an f32 the number is 2⁻¹¹² of what it means, subnormals included;
        // infinities and NaN need the full exponent.
        let moved = self.bits_op(BinaryOp::ShiftLeft, size, 13);
        let small = self.convert(Conversion::Bits, moved, Element::F32);
        let scale = self.float(Element::F32, 2f64.powi(112));
        let scaled = self.fmul(small, scale);
        let scaled = self.convert(Conversion::Bits, scaled, Element::I32);
        let special = self.bits_op(BinaryOp::Or, moved, 0x7f80_0000);
        let limit = self.integer(Element::I32, 0x7c00);
        let is_special = self.compare(Predicate::GreaterEqual, size, limit);
        let result = self.select(is_special, special, scaled);
        let result = self.binary(BinaryOp::Or, result, sign);
        self.convert(Conversion::Bits, result, Element::F32)
    }

    /// Bits of the f16 nearest to an f32.
    pub(in crate::nest) fn half_of_single(&mut self, x: ValueId) -> ValueId {
        if self.capabilities.half {
            return self.convert(Conversion::SingleToHalf, x, Element::I16);
        }
        let bits = self.convert(Conversion::Bits, x, Element::I32);
        let sign = self.bits_op(BinaryOp::ShiftRightLogical, bits, 16);
        let sign = self.bits_op(BinaryOp::And, sign, 0x8000);
        let size = self.bits_op(BinaryOp::And, bits, 0x7fff_ffff);
        // Normal results: round the mantissa in place and move the exponent's bias.
        let shifted = self.bits_op(BinaryOp::ShiftRightLogical, size, 13);
        let odd = self.bits_op(BinaryOp::And, shifted, 1);
        let rounding = self.bits_op(BinaryOp::Add, odd, 0xfff - (112 << 23));
        let normal = self.binary(BinaryOp::Add, size, rounding);
        let normal = self.bits_op(BinaryOp::ShiftRightLogical, normal, 13);
        // Subnormal results: adding ½ leaves the rounded number in the lowest bits.
        let magnitude = self.convert(Conversion::Bits, size, Element::F32);
        let half = self.float(Element::F32, 0.5);
        let lifted = self.fadd(magnitude, half);
        let lifted = self.convert(Conversion::Bits, lifted, Element::I32);
        let subnormal = self.bits_op(BinaryOp::Sub, lifted, i64::from(0.5f32.to_bits()));
        let least_normal = self.integer(Element::I32, 113 << 23);
        let is_small = self.compare(Predicate::Less, size, least_normal);
        let result = self.select(is_small, subnormal, normal);
        let overflow = self.integer(Element::I32, 0x477f_f000);
        let is_large = self.compare(Predicate::GreaterEqual, size, overflow);
        let infinity = self.integer(Element::I32, 0x7c00);
        let result = self.select(is_large, infinity, result);
        let is_nan = self.compare(Predicate::Unordered, x, x);
        let nan = self.integer(Element::I32, 0x7e00);
        let result = self.select(is_nan, nan, result);
        let result = self.binary(BinaryOp::Or, result, sign);
        self.convert(Conversion::Truncate, result, Element::I16)
    }
}
