//! Exponential and logarithm.
//!
//! Invariant: NaN in gives NaN out; infinities and zeros give their limits.
//!
//! Both reduce by powers of two through the exponent bits (Cody and Waite 1980) and use the Taylor
//! series on what is left.

use crate::nest::build::Builder;
use crate::nest::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};

/// Bits of a float format.
pub(super) struct Format {
    pub(super) integer: Element,
    pub(super) mantissa: i64,
    pub(super) bias: i64,
}

pub(super) const fn format(element: Element) -> Format {
    match element {
        Element::F64 => Format { integer: Element::I64, mantissa: 52, bias: 1023 },
        _ => Format { integer: Element::I32, mantissa: 23, bias: 127 },
    }
}

/// 1/k! for k from `first`, as many as the element needs on ±ln(2)/2.
fn inverse_factorials(element: Element, first: u32) -> Vec<f64> {
    let last = if element == Element::F64 { 13 } else { 7 };
    let factorial = |k: u32| (1..=k).map(f64::from).product::<f64>();
    (first..=last).map(|k| 1.0 / factorial(k)).collect()
}

/// ln 2 in two parts, the first short enough that its small multiples are exact.
const fn ln2_parts(element: Element) -> [f64; 2] {
    match element {
        Element::F64 => [0.6931471805592082, 7.371002565167799e-13],
        _ => [0.693145751953125, 1.4286068203094172e-6],
    }
}

impl Builder<'_> {
    /// `x = n·ln 2 + r` with whole n and |r| ≤ ln(2)/2. What is given for n is n + 1.5·2ᵐ with m
    /// mantissa bits: adding that number rounds to whole, and leaves n in the lowest bits.
    fn reduce_by_ln2(&mut self, x: ValueId) -> (ValueId, ValueId) {
        let element = self.ty(x).element;
        let rounding = 1.5 * (1u64 << format(element).mantissa) as f64;
        let [per_ln2, rounding] =
            [std::f64::consts::LOG2_E, rounding].map(|value| self.like(x, value));
        let shifted = self.fma(x, per_ln2, rounding);
        let n = self.fsub(shifted, rounding);
        let [high, low] = ln2_parts(element).map(|part| self.like(x, -part));
        let r = self.fma(n, high, x);
        (shifted, self.fma(n, low, r))
    }

    /// 2ⁿ⁻ᵈ for the n in the lowest bits of `shifted`, where the result is a normal number.
    fn exp2_whole(&mut self, shifted: ValueId, d: i64) -> ValueId {
        let element = self.ty(shifted).element;
        let Format { integer, mantissa, bias } = format(element);
        let bits = self.convert(Conversion::Bits, shifted, integer);
        let amount = self.integer(integer, mantissa);
        let exponent = self.binary(BinaryOp::ShiftLeft, bits, amount);
        let bias = self.integer(integer, (bias - d) << mantissa);
        let biased = self.binary(BinaryOp::Add, exponent, bias);
        self.convert(Conversion::Bits, biased, element)
    }

    /// eˣ.
    pub(in crate::nest) fn exp(&mut self, x: ValueId) -> ValueId {
        let element = self.ty(x).element;
        let (least, most) = if element == Element::F64 { (-708.0, 709.8) } else { (-87.0, 88.73) };
        let [least, most] = [least, most].map(|bound| self.like(x, bound));
        let underflow = self.compare(Predicate::Less, x, least);
        let overflow = self.compare(Predicate::Greater, x, most);
        let bounded = self.select(overflow, most, x);
        let bounded = self.select(underflow, least, bounded);
        let (n, r) = self.reduce_by_ln2(bounded);
        let series = self.polynomial(r, &inverse_factorials(element, 0));
        // 2ⁿ itself overflows before eˣ does: scale by 2ⁿ⁻¹ and double.
        let scale = self.exp2_whole(n, 1);
        let doubled = self.fadd(series, series);
        let result = self.fmul(doubled, scale);
        let [zero, infinity] = [0.0, f64::INFINITY].map(|value| self.like(x, value));
        let result = self.select(overflow, infinity, result);
        self.select(underflow, zero, result)
    }

    /// eˣ − 1 without cancellation, for x from −40 to 80 (f32) or 700 (f64); NaN stays.
    pub(super) fn exp_minus_one(&mut self, x: ValueId) -> ValueId {
        let element = self.ty(x).element;
        let (n, r) = self.reduce_by_ln2(x);
        let series = self.polynomial(r, &inverse_factorials(element, 1));
        let rest = self.fmul(series, r);
        let scale = self.exp2_whole(n, 0);
        let one = self.like(x, 1.0);
        let whole = self.fsub(scale, one);
        self.fma(rest, scale, whole)
    }

    /// The natural logarithm.
    pub(in crate::nest) fn log(&mut self, x: ValueId) -> ValueId {
        let element = self.ty(x).element;
        let Format { integer, mantissa, .. } = format(element);
        let (tiny, lift) = if element == Element::F64 {
            (f64::MIN_POSITIVE, 54)
        } else {
            (f32::MIN_POSITIVE as f64, 25)
        };
        // Subnormal numbers are scaled up first.
        let tiny = self.like(x, tiny);
        let subnormal = self.compare(Predicate::Less, x, tiny);
        let factor = self.like(x, (1u64 << lift) as f64);
        let lifted = self.fmul(x, factor);
        let normal = self.select(subnormal, lifted, x);
        // Mantissa in [√½, √2): subtract the bits of √½ so that the carry moves the exponent.
        let bits = self.convert(Conversion::Bits, normal, integer);
        let root = match element {
            Element::F64 => std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64,
            _ => i64::from(std::f32::consts::FRAC_1_SQRT_2.to_bits()),
        };
        let root = self.integer(integer, root);
        let above = self.binary(BinaryOp::Sub, bits, root);
        let amount = self.integer(integer, mantissa);
        let exponent = self.binary(BinaryOp::ShiftRight, above, amount);
        let whole = self.binary(BinaryOp::ShiftLeft, exponent, amount);
        let m = self.binary(BinaryOp::Sub, bits, whole);
        let m = self.convert(Conversion::Bits, m, element);
        let e = self.convert(Conversion::SignedToFloat, exponent, element);
        let lift = self.like(x, f64::from(lift));
        let less = self.fsub(e, lift);
        let e = self.select(subnormal, less, e);
        // ln m = 2·artanh(f/(2 + f)) with f = m − 1.
        let [one, two] = [1.0, 2.0].map(|value| self.like(x, value));
        let f = self.fsub(m, one);
        let sum = self.fadd(f, two);
        let s = self.fdiv(f, sum);
        let z = self.fmul(s, s);
        let terms = if element == Element::F64 { 11 } else { 5 };
        let series: Vec<f64> = (1..terms).map(|k| 2.0 / f64::from(2 * k + 1)).collect();
        let series = self.polynomial(z, &series);
        let series = self.fmul(series, z);
        // 2s = f − s·f keeps the leading term exact.
        let correction = self.fsub(series, f);
        let tail = self.fmul(s, correction);
        let [high, low] = ln2_parts(element).map(|part| self.like(x, part));
        let tail = self.fma(e, low, tail);
        let tail = self.fadd(tail, f);
        let result = self.fma(e, high, tail);
        let [zero, infinity, nan] = [0.0, f64::INFINITY, f64::NAN].map(|value| self.like(x, value));
        let minus_infinity = self.like(x, f64::NEG_INFINITY);
        let is_infinite = self.compare(Predicate::Equal, x, infinity);
        let result = self.select(is_infinite, infinity, result);
        let is_zero = self.compare(Predicate::Equal, x, zero);
        let result = self.select(is_zero, minus_infinity, result);
        let defined = self.compare(Predicate::GreaterEqual, x, zero);
        self.select(defined, result, nan)
    }

    /// ln(1 + x) without cancellation (Kahan's correction).
    pub(super) fn log_one_plus(&mut self, x: ValueId) -> ValueId {
        let one = self.like(x, 1.0);
        let sum = self.fadd(x, one);
        let rounded = self.fsub(sum, one);
        let log = self.log(sum);
        let ratio = self.fdiv(x, rounded);
        let corrected = self.fmul(log, ratio);
        let zero = self.like(x, 0.0);
        let exact = self.compare(Predicate::Equal, rounded, zero);
        let result = self.select(exact, x, corrected);
        let infinity = self.like(x, f64::INFINITY);
        let is_infinite = self.compare(Predicate::Equal, x, infinity);
        self.select(is_infinite, infinity, result)
    }

    /// 1/(1 + e⁻ˣ).
    pub(in crate::nest) fn sigmoid(&mut self, x: ValueId) -> ValueId {
        let minus = self.unary(UnaryOp::Neg, x);
        let e = self.exp(minus);
        let one = self.like(x, 1.0);
        let sum = self.fadd(e, one);
        self.fdiv(one, sum)
    }
}
