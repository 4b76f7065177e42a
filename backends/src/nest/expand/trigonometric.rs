//! Sine, cosine, tangent and their inverses.
//!
//! Invariant: arguments are reduced by quarter turns in four parts of π/2; large ones of f32 as in
//! `quarter_turns`. Of f64 beyond the range that the module above names digits are lost, but sines and
//! cosines stay within −1 and 1.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};

const fn quarter_turn(element: Element) -> [f64; 4] {
    match element {
        Element::F64 => {
            [1.570796325802803, 9.920935791635221e-10, 5.17018297889025e-19, 2.9038559739793583e-28]
        }
        _ => [1.5703125, 0.0004837512969970703, 7.549533620476723e-8, 2.563344151594519e-12],
    }
}

impl Builder<'_> {
    /// Sine and cosine of x.
    fn sine_and_cosine(&mut self, x: ValueId) -> (ValueId, ValueId) {
        let element = self.ty(x).element;
        let integer = if element == Element::F64 { Element::I64 } else { Element::I32 };
        let per_turn = self.like(x, std::f64::consts::FRAC_2_PI);
        let scaled = self.fmul(x, per_turn);
        let n = self.unary(UnaryOp::RoundEven, scaled);
        let mut r = x;
        for part in quarter_turn(element) {
            let part = self.like(x, -part);
            r = self.fma(n, part, r);
        }
        let quadrant = self.convert(Conversion::FloatToSigned, n, integer);
        let (r, quadrant) = match element {
            Element::F64 => (self.within_an_eighth(r), quadrant),
            _ => self.reduced_if_large(x, r, quadrant),
        };
        let z = self.fmul(r, r);
        let last = if element == Element::F64 { 9 } else { 6 };
        let alternating = |first: u32| -> Vec<f64> {
            let factorial = |k: u32| (1..=k).map(f64::from).product::<f64>();
            let sign = |k: u32| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
            (0..last).map(|k| sign(k) / factorial(2 * k + first)).collect()
        };
        let sine = self.polynomial(z, &alternating(1));
        let sine = self.fmul(sine, r);
        let cosine = self.polynomial(z, &alternating(0));
        let [zero, one, two] = [0, 1, 2].map(|value| self.integer(integer, value));
        let odd = self.and(quadrant, one);
        let odd = self.compare(Predicate::NotEqual, odd, zero);
        let next = self.binary(BinaryOp::Add, quadrant, one);
        let signed = |build: &mut Self, quadrant: ValueId, value: ValueId| {
            let bit = build.and(quadrant, two);
            let negative = build.compare(Predicate::NotEqual, bit, zero);
            let minus = build.unary(UnaryOp::Neg, value);
            build.select(negative, minus, value)
        };
        let s = self.select(odd, cosine, sine);
        let s = signed(self, quadrant, s);
        let c = self.select(odd, sine, cosine);
        let c = signed(self, next, c);
        (s, c)
    }

    /// The rest of a reduction, where that may have gone wrong: at most an eighth of a turn.
    fn within_an_eighth(&mut self, r: ValueId) -> ValueId {
        let [most, least] =
            [1.0, -1.0].map(|sign| self.like(r, sign * std::f64::consts::FRAC_PI_4));
        let high = self.compare(Predicate::Greater, r, most);
        let r = self.select(high, most, r);
        let low = self.compare(Predicate::Less, r, least);
        self.select(low, least, r)
    }

    /// Sine of radians.
    pub(in crate::nest) fn sin(&mut self, x: ValueId) -> ValueId {
        self.sine_and_cosine(x).0
    }

    /// Cosine of radians.
    pub(in crate::nest) fn cos(&mut self, x: ValueId) -> ValueId {
        self.sine_and_cosine(x).1
    }

    /// Tangent of radians.
    pub(in crate::nest) fn tan(&mut self, x: ValueId) -> ValueId {
        let (sine, cosine) = self.sine_and_cosine(x);
        self.fdiv(sine, cosine)
    }

    /// Inverse of tangent.
    pub(in crate::nest) fn atan(&mut self, x: ValueId) -> ValueId {
        let element = self.ty(x).element;
        let one = self.like(x, 1.0);
        let size = self.unary(UnaryOp::Abs, x);
        let far = self.compare(Predicate::Greater, size, one);
        let inverse = self.fdiv(one, size);
        let t = self.select(far, inverse, size);
        // Half the angle: |t| ≤ tan(π/8) below.
        let square = self.fma(t, t, one);
        let root = self.unary(UnaryOp::Sqrt, square);
        let divisor = self.fadd(root, one);
        let t = self.fdiv(t, divisor);
        let z = self.fmul(t, t);
        let terms = if element == Element::F64 { 21 } else { 10 };
        let series: Vec<f64> = (0..terms)
            .map(|k| if k % 2 == 0 { 2.0 } else { -2.0 } / f64::from(2 * k + 1))
            .collect();
        let series = self.polynomial(z, &series);
        let near = self.fmul(series, t);
        let quarter = self.like(x, std::f64::consts::FRAC_PI_2);
        let rest = self.fsub(quarter, near);
        let magnitude = self.select(far, rest, near);
        self.with_sign_of(magnitude, x)
    }

    /// asin x = atan(x/√((1 − x)(1 + x))).
    pub(in crate::nest) fn asin(&mut self, x: ValueId) -> ValueId {
        let one = self.like(x, 1.0);
        let below = self.fsub(one, x);
        let above = self.fadd(one, x);
        let product = self.fmul(below, above);
        let root = self.unary(UnaryOp::Sqrt, product);
        let ratio = self.fdiv(x, root);
        self.atan(ratio)
    }

    /// acos x = 2·atan(√((1 − x)/(1 + x))).
    pub(in crate::nest) fn acos(&mut self, x: ValueId) -> ValueId {
        let one = self.like(x, 1.0);
        let below = self.fsub(one, x);
        let above = self.fadd(one, x);
        let ratio = self.fdiv(below, above);
        let root = self.unary(UnaryOp::Sqrt, ratio);
        let half = self.atan(root);
        self.fadd(half, half)
    }
}
