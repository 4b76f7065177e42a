//! Floats and integers of at most 8 bits as integer arithmetic on their codes.
//!
//! Invariant: what a code means and which one is nearest is said by [`FloatFormat`] alone; one
//! expansion serves all formats. A number is rounded once: what is wider than f32 is first rounded
//! to odd.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};
use kiln_tensor::{DType, FloatFormat, Special};

impl Builder<'_> {
    fn code_op(&mut self, op: BinaryOp, a: ValueId, b: i64) -> ValueId {
        let element = self.ty(a).element;
        let b = self.integer(element, b);
        self.binary(op, a, b)
    }

    /// f32 of the code of a float of at most 8 bits.
    pub(in crate::nest) fn single_of_code(&mut self, code: ValueId, dtype: DType) -> ValueId {
        let wide = self.convert(Conversion::ZeroExtend, code, Element::I32);
        match dtype.format() {
            Some(format) => self.single_of_format(wide, format),
            None => self.single_of_scale(wide),
        }
    }

    /// A power of two has its code as exponent; the least is subnormal.
    fn single_of_scale(&mut self, wide: ValueId) -> ValueId {
        let bits = self.code_op(BinaryOp::ShiftLeft, wide, 23);
        let [zero, nan, least, not_a_number] =
            [0, 255, 0x40_0000, 0x7fc0_0000].map(|value| self.integer(Element::I32, value));
        let is_least = self.compare(Predicate::Equal, wide, zero);
        let bits = self.select(is_least, least, bits);
        let is_nan = self.compare(Predicate::Equal, wide, nan);
        let bits = self.select(is_nan, not_a_number, bits);
        self.convert(Conversion::Bits, bits, Element::F32)
    }

    fn single_of_format(&mut self, wide: ValueId, format: FloatFormat) -> ValueId {
        let sign = self.code_op(BinaryOp::And, wide, i64::from(format.sign()));
        let sign = self.code_op(BinaryOp::ShiftLeft, sign, i64::from(32 - format.bits));
        let size = self.code_op(BinaryOp::And, wide, i64::from(format.sign()) - 1);
        // As the bits of an f32 the number is smaller than what it means by the difference of the
        // biases, subnormals included.
        let moved = self.code_op(BinaryOp::ShiftLeft, size, i64::from(23 - format.fraction));
        let small = self.convert(Conversion::Bits, moved, Element::F32);
        let scale = self.float(Element::F32, 2f64.powi(127 - format.bias));
        let scaled = self.fmul(small, scale);
        let mut bits = self.convert(Conversion::Bits, scaled, Element::I32);
        if format.nan_has_sign() {
            // A fraction of zeros is infinity; the only NaN without infinity has a fraction of ones.
            let special = self.code_op(BinaryOp::Or, moved, 0x7f80_0000);
            let greatest = self.integer(Element::I32, i64::from(format.greatest_code()));
            let is_special = self.compare(Predicate::Greater, size, greatest);
            bits = self.select(is_special, special, bits);
        }
        bits = self.binary(BinaryOp::Or, bits, sign);
        if format.special == Special::NanIsNegativeZero {
            let [code, nan] = [i64::from(format.nan_code()), 0x7fc0_0000]
                .map(|value| self.integer(Element::I32, value));
            let is_nan = self.compare(Predicate::Equal, wide, code);
            bits = self.select(is_nan, nan, bits);
        }
        self.convert(Conversion::Bits, bits, Element::F32)
    }

    /// The code of the float of this format that is nearest to an f32.
    pub(in crate::nest) fn code_of_single(&mut self, x: ValueId, format: FloatFormat) -> ValueId {
        let bits = self.convert(Conversion::Bits, x, Element::I32);
        let sign = self.code_op(BinaryOp::ShiftRightLogical, bits, i64::from(32 - format.bits));
        let sign = self.code_op(BinaryOp::And, sign, i64::from(format.sign()));
        let size = self.code_op(BinaryOp::And, bits, 0x7fff_ffff);
        let dropped = i64::from(23 - format.fraction);
        // Normal results: round the fraction in place and move the exponent's bias.
        let shifted = self.code_op(BinaryOp::ShiftRightLogical, size, dropped);
        let odd = self.code_op(BinaryOp::And, shifted, 1);
        let bias = i64::from(127 - format.bias) << 23;
        let rounding = self.code_op(BinaryOp::Add, odd, (1 << (dropped - 1)) - 1 - bias);
        let normal = self.binary(BinaryOp::Add, size, rounding);
        let normal = self.code_op(BinaryOp::ShiftRightLogical, normal, dropped);
        // Subnormal results: adding a number whose last place is the least number leaves the
        // rounded one in the lowest bits.
        let magnitude = self.convert(Conversion::Bits, size, Element::F32);
        let lift = 2f64.powi(format.least_exponent() + 23) as f32;
        let lifting = self.float(Element::F32, f64::from(lift));
        let lifted = self.fadd(magnitude, lifting);
        let lifted = self.convert(Conversion::Bits, lifted, Element::I32);
        let subnormal = self.code_op(BinaryOp::Sub, lifted, i64::from(lift.to_bits()));
        let least_normal = self.integer(Element::I32, bias + (1 << 23));
        let is_small = self.compare(Predicate::Less, size, least_normal);
        let code = self.select(is_small, subnormal, normal);
        let [greatest, overflow, nan, zero] = [
            i64::from(format.greatest_code()),
            i64::from(format.overflow_code()),
            i64::from(format.nan_code()),
            0,
        ]
        .map(|value| self.integer(Element::I32, value));
        let is_large = self.compare(Predicate::Greater, code, greatest);
        let code = self.select(is_large, overflow, code);
        let is_nan = self.compare(Predicate::Unordered, x, x);
        let code = if format.nan_has_sign() {
            let code = self.select(is_nan, nan, code);
            self.binary(BinaryOp::Or, code, sign)
        } else {
            let signed = self.binary(BinaryOp::Or, code, sign);
            let signed = match format.special {
                Special::NanIsNegativeZero => {
                    let is_zero = self.compare(Predicate::Equal, code, zero);
                    self.select(is_zero, zero, signed)
                }
                _ => signed,
            };
            self.select(is_nan, nan, signed)
        };
        self.convert(Conversion::Truncate, code, Element::I8)
    }

    /// An f64 in f32, rounded to odd: rounding that once more to a narrower type gives what rounding
    /// the number itself would give (Boldo and Melquiond, 2008).
    pub(in crate::nest) fn odd_single_of_double(&mut self, x: ValueId) -> ValueId {
        let nearest = self.convert(Conversion::FloatToFloat, x, Element::F32);
        let back = self.convert(Conversion::FloatToFloat, nearest, Element::F64);
        let bits = self.convert(Conversion::Bits, nearest, Element::I32);
        // The neighbour on the other side of the number is odd where this one is even. Bits of
        // floats of one sign are ordered by magnitude.
        let (size, back_size) = (self.unary(UnaryOp::Abs, x), self.unary(UnaryOp::Abs, back));
        let [one, minus_one, zero] = [1, -1, 0].map(|value| self.integer(Element::I32, value));
        let above = self.compare(Predicate::Greater, back_size, size);
        let step = self.select(above, minus_one, one);
        let low = self.code_op(BinaryOp::And, bits, 1);
        let even = self.compare(Predicate::Equal, low, zero);
        let below = self.compare(Predicate::Less, back_size, size);
        let differs = self.binary(BinaryOp::Or, above, below);
        let moves = self.and(differs, even);
        let step = self.select(moves, step, zero);
        let odd = self.binary(BinaryOp::Add, bits, step);
        self.convert(Conversion::Bits, odd, Element::F32)
    }

    /// An integer of an I8 cut to the bits of its type and extended as its sign says.
    pub(in crate::nest) fn cut_to(&mut self, x: ValueId, dtype: DType) -> ValueId {
        if dtype.bits() >= 8 {
            return x;
        }
        if !dtype.is_signed() {
            return self.code_op(BinaryOp::And, x, (1 << dtype.bits()) - 1);
        }
        // With the sign's bit flipped and taken off again the bits above it become copies of it.
        let sign = 1 << (dtype.bits() - 1);
        let low = self.code_op(BinaryOp::And, x, (sign << 1) - 1);
        let flipped = self.code_op(BinaryOp::Xor, low, sign);
        self.code_op(BinaryOp::Sub, flipped, sign)
    }
}
