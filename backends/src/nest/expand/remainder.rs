//! Remainders of floats.
//!
//! Invariant: remainders are exact, as those of C's `fmod`, whatever the quotient: it is taken off some
//! bits at a time.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};

/// Bits of a quotient that are taken off at once, so that a product of them with half of the divisor's
/// 53 is exact.
const AT_ONCE: i64 = 24;

impl Builder<'_> {
    /// The remainder of the truncated quotient of floats, with the sign of a.
    pub(in crate::nest) fn float_rem(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.in_double(a, b, Self::double_rem)
    }

    fn double_rem(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let lanes = self.ty(a).lanes.max(self.ty(b).lanes);
        let (a, b) = (self.widen(a, lanes), self.widen(b, lanes));
        let [zero, infinity, nan] = [0.0, f64::INFINITY, f64::NAN].map(|value| self.like(a, value));
        let (size, divisor) = (self.unary(UnaryOp::Abs, a), self.unary(UnaryOp::Abs, b));
        let exponent = self.exponent(divisor);
        let first = self.exponent(size);
        let gap = self.binary(BinaryOp::Sub, first, exponent);
        let rounds = self.rounds(gap);
        let start = self.index(0);
        let open = self.open_for(start, rounds, 1, &[size]);
        let rest = open.inside()[0];
        let rest = self.partial_rem(rest, divisor, exponent);
        let rest = self.close_for(open, &[rest])[0];
        let rest = self.with_sign_of(rest, a);
        let finite = self.compare(Predicate::Less, size, infinity);
        let divides = self.compare(Predicate::Greater, divisor, zero);
        let defined = self.and(finite, divides);
        let rest = self.select(defined, rest, nan);
        let endless = self.compare(Predicate::Equal, divisor, infinity);
        let keep = self.and(endless, finite);
        self.select(keep, a, rest)
    }

    /// How often the gap between two exponents must be narrowed, in the lane that needs it most.
    fn rounds(&mut self, gap: ValueId) -> ValueId {
        let widest = self.greatest(gap);
        let (none, bits, one) = (self.index(0), self.index(4), self.index(1));
        let widest = self.binary(BinaryOp::MaxSigned, widest, none);
        // A round takes more than 16 bits off.
        let rounds = self.binary(BinaryOp::ShiftRight, widest, bits);
        self.binary(BinaryOp::Add, rounds, one)
    }

    /// The exponent of a f64 that is not negative, as it is stored; below 0 for subnormal numbers.
    fn exponent(&mut self, size: ValueId) -> ValueId {
        let [shift, none, lift] = [52, 0, 54].map(|value| self.integer(Element::I64, value));
        let stored = |build: &mut Self, value: ValueId| {
            let bits = build.convert(Conversion::Bits, value, Element::I64);
            build.binary(BinaryOp::ShiftRightLogical, bits, shift)
        };
        let plain = stored(self, size);
        let factor = self.float(Element::F64, f64::from(1u32 << 27) * f64::from(1u32 << 27));
        let lifted = self.fmul(size, factor);
        let lifted = stored(self, lifted);
        let lifted = self.binary(BinaryOp::Sub, lifted, lift);
        let subnormal = self.compare(Predicate::Equal, plain, none);
        self.select(subnormal, lifted, plain)
    }

    /// 2ᵏ for 0 ≤ k < 1024.
    fn power_of_two(&mut self, k: ValueId) -> ValueId {
        let [bias, shift] = [1023, 52].map(|value| self.integer(Element::I64, value));
        let biased = self.binary(BinaryOp::Add, k, bias);
        let bits = self.binary(BinaryOp::ShiftLeft, biased, shift);
        self.convert(Conversion::Bits, bits, Element::F64)
    }

    /// What is left of `rest` by as large a multiple of the divisor as fits into [`AT_ONCE`] bits.
    fn partial_rem(&mut self, rest: ValueId, divisor: ValueId, exponent: ValueId) -> ValueId {
        let (own, zero) = (self.exponent(rest), self.like(rest, 0.0));
        let gap = self.binary(BinaryOp::Sub, own, exponent);
        let [at_once, none, two] = [AT_ONCE, 0, 2].map(|value| self.integer(Element::I64, value));
        let over = self.binary(BinaryOp::Sub, gap, at_once);
        let over = self.binary(BinaryOp::MaxSigned, over, none);
        // In four factors, since one may be out of range.
        let quarter = self.binary(BinaryOp::ShiftRight, over, two);
        let three = self.integer(Element::I64, 3);
        let three = self.binary(BinaryOp::Mul, quarter, three);
        let last = self.binary(BinaryOp::Sub, over, three);
        let (factor, last) = (self.power_of_two(quarter), self.power_of_two(last));
        let mut scaled = divisor;
        for factor in [factor, factor, factor, last] {
            scaled = self.fmul(scaled, factor);
        }
        let quotient = self.fdiv(rest, scaled);
        let quotient = self.unary(UnaryOp::Trunc, quotient);
        // Both halves of the divisor have at most 27 bits, so that every step is exact.
        let bits = self.convert(Conversion::Bits, scaled, Element::I64);
        let upper = self.integer(Element::I64, -(1 << 27));
        let upper = self.and(bits, upper);
        let upper = self.convert(Conversion::Bits, upper, Element::F64);
        let lower = self.fsub(scaled, upper);
        let mut left = rest;
        for half in [upper, lower] {
            let part = self.fmul(quotient, half);
            left = self.fsub(left, part);
        }
        // The rounded quotient may be one too large.
        let crossed = self.compare(Predicate::Less, left, zero);
        let raised = self.fadd(left, scaled);
        self.select(crossed, raised, left)
    }

    /// The remainder of the floored quotient, with the sign of b, from the truncated one.
    pub(in crate::nest) fn floored_rem(&mut self, rest: ValueId, b: ValueId) -> ValueId {
        let element = self.ty(rest).element;
        let zero =
            if element.is_float() { self.float(element, 0.0) } else { self.integer(element, 0) };
        let rest_negative = self.compare(Predicate::Less, rest, zero);
        let b_negative = self.compare(Predicate::Less, b, zero);
        let differ = self.binary(BinaryOp::Xor, rest_negative, b_negative);
        let there = self.compare(Predicate::NotEqual, rest, zero);
        let adjust = self.and(differ, there);
        let moved = self.binary(BinaryOp::Add, rest, b);
        self.select(adjust, moved, rest)
    }
}
