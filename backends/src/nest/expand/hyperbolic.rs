//! Hyperbolic functions and their inverses.
//!
//! Invariant: odd functions keep the sign of small arguments and lose no digits near zero.

use crate::nest::build::Builder;
use crate::nest::{Element, Predicate, UnaryOp, ValueId};

impl Builder<'_> {
    /// |magnitude| with the sign of `x`.
    pub(super) fn with_sign_of(&mut self, magnitude: ValueId, x: ValueId) -> ValueId {
        let zero = self.like(x, 0.0);
        let negative = self.compare(Predicate::Less, x, zero);
        let minus = self.unary(UnaryOp::Neg, magnitude);
        self.select(negative, minus, magnitude)
    }

    /// tanh x = E/(E + 2) with E = e²ˣ − 1.
    pub(in crate::nest) fn tanh(&mut self, x: ValueId) -> ValueId {
        let bound = if self.ty(x).element == Element::F64 { 20.0 } else { 9.5 };
        let [most, least, two] = [bound, -bound, 2.0].map(|value| self.like(x, value));
        let high = self.compare(Predicate::Greater, x, most);
        let bounded = self.select(high, most, x);
        let low = self.compare(Predicate::Less, x, least);
        let bounded = self.select(low, least, bounded);
        let doubled = self.fadd(bounded, bounded);
        let e = self.exp_minus_one(doubled);
        let sum = self.fadd(e, two);
        self.fdiv(e, sum)
    }

    /// sinh x = (E + E/(E + 1))/2 with E = eˣ − 1 up to 20, eˣ⁻ˡⁿ² beyond.
    pub(in crate::nest) fn sinh(&mut self, x: ValueId) -> ValueId {
        let [twenty, one, half] = [20.0, 1.0, 0.5].map(|value| self.like(x, value));
        let size = self.unary(UnaryOp::Abs, x);
        let far = self.compare(Predicate::Greater, size, twenty);
        let near = self.select(far, twenty, size);
        let e = self.exp_minus_one(near);
        let sum = self.fadd(e, one);
        let ratio = self.fdiv(e, sum);
        let total = self.fadd(e, ratio);
        let small = self.fmul(total, half);
        let large = self.half_exp(size);
        let magnitude = self.select(far, large, small);
        self.with_sign_of(magnitude, x)
    }

    /// eˣ/2, also where eˣ overflows.
    fn half_exp(&mut self, x: ValueId) -> ValueId {
        let half = self.like(x, 0.5);
        let halved = self.fmul(x, half);
        let root = self.exp(halved);
        let part = self.fmul(root, half);
        self.fmul(part, root)
    }

    /// cosh x = (eˣ + e⁻ˣ)/2.
    pub(in crate::nest) fn cosh(&mut self, x: ValueId) -> ValueId {
        let size = self.unary(UnaryOp::Abs, x);
        let up = self.half_exp(size);
        let quarter = self.like(x, 0.25);
        let down = self.fdiv(quarter, up);
        self.fadd(up, down)
    }

    /// asinh x = ln(1 + |x| + x²/(1 + √(1 + x²))), and ln(2|x|) where x² would overflow.
    pub(in crate::nest) fn asinh(&mut self, x: ValueId) -> ValueId {
        let [one, large, ln2] =
            [1.0, 1e15, std::f64::consts::LN_2].map(|value| self.like(x, value));
        let size = self.unary(UnaryOp::Abs, x);
        let far = self.compare(Predicate::Greater, size, large);
        let near = self.select(far, one, size);
        let square = self.fmul(near, near);
        let sum = self.fadd(square, one);
        let root = self.unary(UnaryOp::Sqrt, sum);
        let divisor = self.fadd(root, one);
        let ratio = self.fdiv(square, divisor);
        let argument = self.fadd(near, ratio);
        let small = self.log_one_plus(argument);
        let log = self.log(size);
        let big = self.fadd(log, ln2);
        let magnitude = self.select(far, big, small);
        self.with_sign_of(magnitude, x)
    }

    /// acosh x = ln(1 + t + √(2t + t²)) with t = x − 1, and ln(2x) where x² would overflow.
    pub(in crate::nest) fn acosh(&mut self, x: ValueId) -> ValueId {
        let [one, large, ln2] =
            [1.0, 1e15, std::f64::consts::LN_2].map(|value| self.like(x, value));
        let far = self.compare(Predicate::Greater, x, large);
        let near = self.select(far, one, x);
        let t = self.fsub(near, one);
        let twice = self.fadd(t, t);
        let inner = self.fma(t, t, twice);
        let root = self.unary(UnaryOp::Sqrt, inner);
        let argument = self.fadd(t, root);
        let small = self.log_one_plus(argument);
        let log = self.log(x);
        let big = self.fadd(log, ln2);
        let magnitude = self.select(far, big, small);
        // Below 1 there is none, where the sum above would cancel to 0.
        let nan = self.like(x, f64::NAN);
        let below = self.compare(Predicate::Less, x, one);
        self.select(below, nan, magnitude)
    }

    /// atanh x = ln(1 + 2x/(1 − x))/2.
    pub(in crate::nest) fn atanh(&mut self, x: ValueId) -> ValueId {
        let [one, half] = [1.0, 0.5].map(|value| self.like(x, value));
        let size = self.unary(UnaryOp::Abs, x);
        let twice = self.fadd(size, size);
        let rest = self.fsub(one, size);
        let ratio = self.fdiv(twice, rest);
        let log = self.log_one_plus(ratio);
        let magnitude = self.fmul(log, half);
        self.with_sign_of(magnitude, x)
    }
}
