//! Arithmetic on values of any lane count, with scalars widened where they meet vectors.
//!
//! Invariant: a value stays scalar for as long as it is the same in every lane.

use super::build::Builder;
use super::{BinaryOp, Conversion, Element, Op, Predicate, Type, UnaryOp, ValueId};

impl Builder<'_> {
    /// A scalar constant of a float element, rounded to it.
    pub(super) fn float(&mut self, element: Element, value: f64) -> ValueId {
        let bits = match element {
            Element::F64 => value.to_bits(),
            _ => u64::from((value as f32).to_bits()),
        };
        self.pure(Op::Constant(bits), Type::new(element, 1))
    }

    /// A scalar constant of an integer element or mask, cut to its width.
    pub(super) fn integer(&mut self, element: Element, value: i64) -> ValueId {
        match element {
            Element::I64 => self.index(value),
            _ => {
                let bits = value as u64 & ((1 << element.bits()) - 1);
                self.pure(Op::Constant(bits), Type::new(element, 1))
            }
        }
    }

    /// The value in this many lanes.
    pub(super) fn widen(&mut self, value: ValueId, lanes: u32) -> ValueId {
        let ty = self.ty(value);
        if ty.lanes == lanes {
            return value;
        }
        self.pure(Op::Splat(value), Type::new(ty.element, lanes))
    }

    fn meet<const N: usize>(&mut self, values: [ValueId; N]) -> ([ValueId; N], u32) {
        let lanes = values.iter().map(|value| self.ty(*value).lanes).max().unwrap_or(1);
        (values.map(|value| self.widen(value, lanes)), lanes)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, a: ValueId) -> ValueId {
        self.pure(Op::Unary(op, a), self.ty(a))
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        if self.ty(a) == Type::INDEX && self.ty(b) == Type::INDEX {
            match op {
                BinaryOp::Add => return self.add(a, b),
                BinaryOp::Sub => return self.sub(a, b),
                BinaryOp::Mul => return self.mul(a, b),
                _ => {}
            }
        }
        let ([a, b], _) = self.meet([a, b]);
        self.pure(Op::Binary(op, a, b), self.ty(a))
    }

    pub(super) fn compare(&mut self, predicate: Predicate, a: ValueId, b: ValueId) -> ValueId {
        let ([a, b], lanes) = self.meet([a, b]);
        self.pure(Op::Compare(predicate, a, b), Type::new(Element::Mask, lanes))
    }

    pub(super) fn select(&mut self, mask: ValueId, a: ValueId, b: ValueId) -> ValueId {
        if a == b {
            return a;
        }
        let ([mask, a, b], _) = self.meet([mask, a, b]);
        self.pure(Op::Select(mask, a, b), self.ty(a))
    }

    /// `a·b + c`, in one rounding where the target has it.
    pub(super) fn fma(&mut self, a: ValueId, b: ValueId, c: ValueId) -> ValueId {
        if !self.capabilities.fma {
            let product = self.binary(BinaryOp::Mul, a, b);
            return self.binary(BinaryOp::Add, product, c);
        }
        let ([a, b, c], _) = self.meet([a, b, c]);
        self.pure(Op::Fma(a, b, c), self.ty(a))
    }

    pub(super) fn convert(
        &mut self,
        conversion: Conversion,
        a: ValueId,
        element: Element,
    ) -> ValueId {
        let ty = self.ty(a);
        self.pure(Op::Convert(conversion, a), Type::new(element, ty.lanes))
    }

    pub(super) fn and(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::And, a, b)
    }

    pub(super) fn not(&mut self, mask: ValueId) -> ValueId {
        let yes = self.integer(Element::Mask, 1);
        self.binary(BinaryOp::Xor, mask, yes)
    }

    pub(super) fn fadd(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Add, a, b)
    }

    pub(super) fn fsub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Sub, a, b)
    }

    pub(super) fn fmul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Mul, a, b)
    }

    pub(super) fn fdiv(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Div, a, b)
    }

    /// A float constant of the element that `like` has.
    pub(super) fn like(&mut self, like: ValueId, value: f64) -> ValueId {
        let element = self.ty(like).element;
        self.float(element, value)
    }

    /// A function of two floats that is computed in f64, so that no digits of f32 are lost in it.
    pub(super) fn in_double(
        &mut self,
        a: ValueId,
        b: ValueId,
        f: impl FnOnce(&mut Self, ValueId, ValueId) -> ValueId,
    ) -> ValueId {
        if self.ty(a).element == Element::F64 {
            return f(self, a, b);
        }
        let [a, b] = [a, b].map(|v| self.convert(Conversion::FloatToFloat, v, Element::F64));
        let wide = f(self, a, b);
        self.convert(Conversion::FloatToFloat, wide, Element::F32)
    }

    /// The greatest of the lanes of signed integers.
    pub(super) fn greatest(&mut self, v: ValueId) -> ValueId {
        let ty = self.ty(v);
        if ty.lanes == 1 {
            return v;
        }
        self.pure(Op::Reduce(BinaryOp::MaxSigned, v), Type::new(ty.element, 1))
    }

    /// Whether a mask holds in any lane.
    pub(super) fn any(&mut self, mask: ValueId) -> ValueId {
        let ty = self.ty(mask);
        if ty.lanes == 1 {
            return mask;
        }
        self.pure(Op::Reduce(BinaryOp::Or, mask), Type::new(ty.element, 1))
    }

    /// `Σ coefficients[i]·xⁱ` by Horner's rule.
    pub(super) fn polynomial(&mut self, x: ValueId, coefficients: &[f64]) -> ValueId {
        let mut rest = coefficients.iter().rev();
        let highest = rest.next().copied().unwrap_or(0.0);
        let mut sum = self.like(x, highest);
        for coefficient in rest {
            let coefficient = self.like(x, *coefficient);
            sum = self.fma(sum, x, coefficient);
        }
        sum
    }
}
