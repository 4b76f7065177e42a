//! Large angles in f32, less whole quarter turns.
//!
//! Invariant: what is left is right to the rounding of f32 for every finite angle. An angle is a whole
//! number m of 24 bits times 2ᵉ, so of the bits of 2/π those that count whole turns of m·2ᵉ can be left
//! out, and 96 of those behind say the rest (M. Payne and R. Hanek, SIGNUM 18, 1983). It costs dozens of
//! instructions, and only runs where an angle asks for it.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};

/// From here on.
const LARGE: f64 = 8192.0;

/// 2/π in words of 32 bits behind the point, after one of zeros.
const WORDS: [i64; 9] = [
    0,
    0xa2f9_836e,
    0x4e44_1529,
    0xfc27_57d1,
    0xf534_ddc0,
    0xdb62_9599,
    0x3c43_9041,
    0xfe51_63ab,
    0xdebb_c561,
];

impl Builder<'_> {
    /// The rest and the number of quarter turns of an angle: those given, or better ones where it is
    /// large.
    pub(super) fn reduced_if_large(
        &mut self,
        x: ValueId,
        rest: ValueId,
        turns: ValueId,
    ) -> (ValueId, ValueId) {
        let size = self.unary(UnaryOp::Abs, x);
        let limit = self.like(x, LARGE);
        let large = self.compare(Predicate::GreaterEqual, size, limit);
        let any = self.any(large);
        let any = self.convert(Conversion::ZeroExtend, any, Element::I64);
        let start = self.index(0);
        // The angle is carried, too: what follows from nothing but values outside would be computed there.
        let open = self.open_for(start, any, 1, &[rest, turns, x]);
        let (near, few, x) = (open.inside()[0], open.inside()[1], open.inside()[2]);
        let (far, many) = self.reduced(x);
        let rest = self.select(large, far, near);
        let turns = self.select(large, many, few);
        let results = self.close_for(open, &[rest, turns, x]);
        (results[0], results[1])
    }

    /// The rest, f32, and the number of quarter turns modulo 4, i32, of a large angle.
    fn reduced(&mut self, x: ValueId) -> (ValueId, ValueId) {
        use BinaryOp::{Add, Mul, Or, ShiftLeft, ShiftRightLogical, Sub};
        let size = self.unary(UnaryOp::Abs, x);
        let wide = |build: &mut Self, value: i64| build.integer(Element::I64, value);
        let bits = self.convert(Conversion::Bits, size, Element::I32);
        let bits = self.convert(Conversion::ZeroExtend, bits, Element::I64);
        let [mantissa, hidden, width, offset] =
            [(1 << 23) - 1, 1 << 23, 23, 150 - 30].map(|value| wide(self, value));
        let m = self.and(bits, mantissa);
        let m = self.binary(Or, m, hidden);
        let exponent = self.binary(ShiftRightLogical, bits, width);
        // The first bit that counts: its word, and its place in that.
        let first = self.binary(Sub, exponent, offset);
        let [five, low, word] = [5, 31, 32].map(|value| wide(self, value));
        let number = self.binary(ShiftRightLogical, first, five);
        let place = self.and(first, low);
        let back = self.binary(Sub, word, place);
        let words: Vec<ValueId> = (0..4).map(|after| self.word(number, after)).collect();
        let high = self.binary(ShiftLeft, words[0], word);
        let high = self.binary(Or, high, words[1]);
        let joined = |build: &mut Self, high: ValueId, low: ValueId| {
            let high = build.binary(ShiftLeft, high, place);
            let low = build.binary(ShiftRightLogical, low, back);
            build.binary(Or, high, low)
        };
        let high = joined(self, high, words[2]);
        let after = joined(self, words[2], words[3]);
        let only = wide(self, 0xffff_ffff);
        let after = self.and(after, only);
        // m·2/π·2ᵉ modulo 4, with 62 bits behind the point.
        let product = self.binary(Mul, m, high);
        let after = self.binary(Mul, m, after);
        let after = self.binary(ShiftRightLogical, after, word);
        let product = self.binary(Add, product, after);
        let [half, point] = [1 << 61, 62].map(|value| wide(self, value));
        let turns = self.binary(Add, product, half);
        let turns = self.binary(ShiftRightLogical, turns, point);
        let whole = self.binary(ShiftLeft, turns, point);
        let fraction = self.binary(Sub, product, whole);
        let fraction = self.convert(Conversion::SignedToFloat, fraction, Element::F64);
        let unit = std::f64::consts::FRAC_PI_2 / (1u64 << 62) as f64;
        let unit = self.float(Element::F64, unit);
        let rest = self.fmul(fraction, unit);
        let rest = self.convert(Conversion::FloatToFloat, rest, Element::F32);
        let turns = self.convert(Conversion::Truncate, turns, Element::I32);
        // An angle below zero turns the other way.
        let (zero, none) = (self.like(x, 0.0), self.integer(Element::I32, 0));
        let negative = self.compare(Predicate::Less, x, zero);
        let (mirrored, back) = (self.unary(UnaryOp::Neg, rest), self.binary(Sub, none, turns));
        let [infinity, nan] = [f64::INFINITY, f64::NAN].map(|value| self.like(x, value));
        let finite = self.compare(Predicate::Less, size, infinity);
        let rest = self.select(negative, mirrored, rest);
        (self.select(finite, rest, nan), self.select(negative, back, turns))
    }

    /// The word `after` that of a number.
    fn word(&mut self, number: ValueId, after: usize) -> ValueId {
        let mut word = self.integer(Element::I64, WORDS[after]);
        for (at, &bits) in WORDS[after..].iter().enumerate().skip(1).take(5) {
            let (at, bits) =
                (self.integer(Element::I64, at as i64), self.integer(Element::I64, bits));
            let this = self.compare(Predicate::Equal, number, at);
            word = self.select(this, bits, word);
        }
        word
    }
}
