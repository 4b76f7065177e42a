//! Powers.
//!
//! Invariant: integer powers wrap like repeated multiplication; float powers follow IEEE 754's
//! `pow` where the result is a number.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};

impl Builder<'_> {
    /// aᵇ of floats. f32 is computed in f64, so that no digits are lost in the logarithm.
    pub(in crate::nest) fn float_pow(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.in_double(a, b, Self::double_pow)
    }

    fn double_pow(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let [zero, one, half, nan] = [0.0, 1.0, 0.5, f64::NAN].map(|value| self.like(a, value));
        let size = self.unary(UnaryOp::Abs, a);
        let log = self.log(size);
        let product = self.fmul(b, log);
        let magnitude = self.exp(product);
        // A negative base, −0 among them, has a power only for whole exponents, negative for odd ones;
        // those of 0 and infinity have no sign otherwise.
        let whole = self.unary(UnaryOp::Trunc, b);
        let is_whole = self.compare(Predicate::Equal, whole, b);
        let halved = self.fmul(b, half);
        let half_whole = self.unary(UnaryOp::Trunc, halved);
        let is_even = self.compare(Predicate::Equal, half_whole, halved);
        let minus = self.unary(UnaryOp::Neg, magnitude);
        let odd = self.select(is_even, magnitude, minus);
        let infinity = self.like(a, f64::INFINITY);
        let is_zero = self.compare(Predicate::Equal, size, zero);
        let is_infinite = self.compare(Predicate::Equal, size, infinity);
        let unsigned = self.binary(BinaryOp::Or, is_zero, is_infinite);
        let broken = self.select(unsigned, magnitude, nan);
        let of_negative = self.select(is_whole, odd, broken);
        let bits = self.convert(Conversion::Bits, a, Element::I64);
        let none = self.integer(Element::I64, 0);
        let negative = self.compare(Predicate::Less, bits, none);
        let result = self.select(negative, of_negative, magnitude);
        // (±1)^±∞ = 1.
        let size_one = self.compare(Predicate::Equal, size, one);
        let size_of_b = self.unary(UnaryOp::Abs, b);
        let endless = self.compare(Predicate::Equal, size_of_b, infinity);
        let stays = self.and(size_one, endless);
        let result = self.select(stays, one, result);
        let base_one = self.compare(Predicate::Equal, a, one);
        let result = self.select(base_one, one, result);
        let exponent_zero = self.compare(Predicate::Equal, b, zero);
        self.select(exponent_zero, one, result)
    }

    /// aᵇ of a float to a literal exponent that needs no logarithm.
    pub(in crate::nest) fn float_pow_literal(&mut self, a: ValueId, b: f64) -> Option<ValueId> {
        let one = self.like(a, 1.0);
        let quarters = b.abs() * 4.0;
        if quarters.fract() != 0.0 || quarters > 64.0 {
            return None;
        }
        let (whole, quarters) = (quarters as u32 / 4, quarters as u32 % 4);
        let (mut square, mut product) = (a, None);
        if quarters != 0 {
            // Powers of −0 are those of 0, and of −∞ those of ∞; their roots are not.
            let [zero, least, most] =
                [0.0, f64::NEG_INFINITY, f64::INFINITY].map(|value| self.like(a, value));
            let base = self.fadd(a, zero);
            let is_least = self.compare(Predicate::Equal, a, least);
            square = self.select(is_least, most, base);
            let root = self.unary(UnaryOp::Sqrt, square);
            product = Some(match quarters {
                2 => root,
                _ => {
                    let fourth = self.unary(UnaryOp::Sqrt, root);
                    if quarters == 1 { fourth } else { self.fmul(root, fourth) }
                }
            });
        }
        let mut rest = whole;
        while rest > 0 {
            if rest % 2 == 1 {
                product = Some(product.map_or(square, |p| self.fmul(p, square)));
            }
            rest /= 2;
            if rest > 0 {
                square = self.fmul(square, square);
            }
        }
        let product = product.unwrap_or(one);
        Some(if b < 0.0 { self.fdiv(one, product) } else { product })
    }

    /// aᵇ of integers, by squaring; negative exponents truncate towards zero.
    pub(in crate::nest) fn integer_pow(&mut self, a: ValueId, b: ValueId, signed: bool) -> ValueId {
        let element = self.ty(a).element;
        let [zero, one, minus_one] = [0, 1, -1].map(|value| self.integer(element, value));
        let (mut result, mut square) = (one, a);
        for bit in 0..element.bits() {
            let mask = self.integer(element, (1u64 << bit) as i64);
            let bit_of = self.and(b, mask);
            let set = self.compare(Predicate::NotEqual, bit_of, zero);
            let next = self.binary(BinaryOp::Mul, result, square);
            result = self.select(set, next, result);
            square = self.binary(BinaryOp::Mul, square, square);
        }
        if !signed {
            return result;
        }
        let lowest = self.and(b, one);
        let odd = self.compare(Predicate::NotEqual, lowest, zero);
        let unit_power = self.select(odd, minus_one, one);
        let is_minus_one = self.compare(Predicate::Equal, a, minus_one);
        let is_one = self.compare(Predicate::Equal, a, one);
        let inverse = self.select(is_minus_one, unit_power, zero);
        let inverse = self.select(is_one, one, inverse);
        let negative = self.compare(Predicate::Less, b, zero);
        self.select(negative, inverse, result)
    }
}
