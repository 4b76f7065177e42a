//! The scalar language's functions as nest operations.
//!
//! Invariant: each function is translated by its meaning on the element type alone; f16 and bf16
//! are computed in f32 and rounded where they are cast or stored.

use super::build::Builder;
use super::{BinaryOp, Conversion, Element, Predicate, UnaryOp, ValueId};
use kiln_ir::kernel::Scalar;
use kiln_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::DType;

/// What registers hold for an element type.
pub(super) const fn element_of(dtype: DType) -> Element {
    match dtype {
        DType::Bool => Element::Mask,
        DType::U8 | DType::I8 => Element::I8,
        DType::U16 | DType::I16 => Element::I16,
        DType::U32 | DType::I32 => Element::I32,
        DType::U64 | DType::I64 => Element::I64,
        DType::F16 | DType::BF16 | DType::F32 => Element::F32,
        DType::F64 => Element::F64,
        DType::U2 | DType::U4 | DType::I2 | DType::I4 => Element::I8,
        DType::F4E2M1 | DType::F6E2M3 | DType::F6E3M2 => Element::I8,
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => Element::I8,
        DType::F8E8M0 => Element::I8,
        DType::C64 => Element::I64,
        DType::String | DType::Sequence | DType::Optional | DType::Map => Element::I64,
        // Forming kernels splits these into two halves.
        DType::C128 => Element::I64,
    }
}

/// What memory holds for an element type.
pub(super) const fn memory_element_of(dtype: DType) -> Element {
    match dtype {
        DType::Bool => Element::I8,
        DType::F16 | DType::BF16 => Element::I16,
        _ => element_of(dtype),
    }
}

impl Builder<'_> {
    /// A constant of an element type.
    pub(super) fn scalar(&mut self, scalar: Scalar, dtype: DType) -> ValueId {
        let element = element_of(dtype);
        match scalar {
            Scalar::Float(value) if element.is_float() => self.float(element, value),
            // Forming kernels leaves none.
            Scalar::Pair(low, _) => self.integer(element, low),
            Scalar::Int(value) if element.is_float() => self.float(element, value as f64),
            Scalar::Float(value) => self.integer(element, value as i64),
            Scalar::Int(value) if dtype == DType::Bool => {
                self.integer(element, i64::from(value != 0))
            }
            Scalar::Int(value) => self.integer(element, value),
        }
    }

    /// Register form of what was loaded.
    pub(super) fn register_form(&mut self, value: ValueId, dtype: DType) -> ValueId {
        match dtype {
            DType::Bool => {
                let zero = self.integer(Element::I8, 0);
                self.compare(Predicate::NotEqual, value, zero)
            }
            DType::F16 | DType::BF16 => {
                let half = dtype == DType::F16;
                let single =
                    if half { self.single_of_half(value) } else { self.single_of_bfloat(value) };
                self.remember_bits(single, dtype, value);
                single
            }
            _ => value,
        }
    }

    /// Memory form of a value.
    pub(super) fn memory_form(&mut self, value: ValueId, dtype: DType) -> ValueId {
        if let Some(bits) = self.remembered_bits(value, dtype) {
            return bits;
        }
        match dtype {
            DType::Bool => self.convert(Conversion::ZeroExtend, value, Element::I8),
            DType::F16 => self.half_of_single(value),
            DType::BF16 => self.bfloat_of_single(value),
            _ => value,
        }
    }

    /// A function of one value of an element type.
    pub(super) fn unary_fn(&mut self, f: UnaryFn, x: ValueId, dtype: DType) -> ValueId {
        let element = element_of(dtype);
        if !dtype.is_float() {
            let zero = self.integer(element, 0);
            return match f {
                UnaryFn::Not => self.not(x),
                UnaryFn::BitNot => {
                    let ones = self.integer(element, -1);
                    self.binary(BinaryOp::Xor, x, ones)
                }
                UnaryFn::Neg => self.binary(BinaryOp::Sub, zero, x),
                UnaryFn::Abs if dtype.is_signed() => {
                    let minus = self.binary(BinaryOp::Sub, zero, x);
                    let negative = self.compare(Predicate::Less, x, zero);
                    self.select(negative, minus, x)
                }
                UnaryFn::Relu if dtype.is_signed() => self.binary(BinaryOp::MaxSigned, x, zero),
                UnaryFn::Sign => {
                    let [one, minus_one] = [1, -1].map(|value| self.integer(element, value));
                    let there = self.compare(Predicate::NotEqual, x, zero);
                    let positive = self.select(there, one, zero);
                    if dtype.is_signed() {
                        let negative = self.compare(Predicate::Less, x, zero);
                        self.select(negative, minus_one, positive)
                    } else {
                        positive
                    }
                }
                _ => x,
            };
        }
        match f {
            UnaryFn::Neg => self.unary(UnaryOp::Neg, x),
            UnaryFn::Abs => self.unary(UnaryOp::Abs, x),
            UnaryFn::Sqrt => self.unary(UnaryOp::Sqrt, x),
            UnaryFn::Floor => self.unary(UnaryOp::Floor, x),
            UnaryFn::Ceil => self.unary(UnaryOp::Ceil, x),
            UnaryFn::Round => self.unary(UnaryOp::RoundEven, x),
            UnaryFn::Sign => {
                let [zero, one, minus_one] = [0.0, 1.0, -1.0].map(|value| self.like(x, value));
                let positive = self.compare(Predicate::Greater, x, zero);
                let negative = self.compare(Predicate::Less, x, zero);
                let rest = self.select(negative, minus_one, x);
                self.select(positive, one, rest)
            }
            UnaryFn::Rsqrt => {
                let root = self.unary(UnaryOp::Sqrt, x);
                let one = self.like(x, 1.0);
                self.fdiv(one, root)
            }
            UnaryFn::Reciprocal => {
                let one = self.like(x, 1.0);
                self.fdiv(one, x)
            }
            UnaryFn::Relu => {
                let zero = self.like(x, 0.0);
                let negative = self.compare(Predicate::Less, x, zero);
                self.select(negative, zero, x)
            }
            UnaryFn::IsNan => self.compare(Predicate::Unordered, x, x),
            UnaryFn::IsInf => {
                let size = self.unary(UnaryOp::Abs, x);
                let infinity = self.like(x, f64::INFINITY);
                self.compare(Predicate::Equal, size, infinity)
            }
            UnaryFn::Exp => self.exp(x),
            UnaryFn::Log => self.log(x),
            UnaryFn::Sin => self.sin(x),
            UnaryFn::Cos => self.cos(x),
            UnaryFn::Tan => self.tan(x),
            UnaryFn::Asin => self.asin(x),
            UnaryFn::Acos => self.acos(x),
            UnaryFn::Atan => self.atan(x),
            UnaryFn::Sinh => self.sinh(x),
            UnaryFn::Cosh => self.cosh(x),
            UnaryFn::Asinh => self.asinh(x),
            UnaryFn::Acosh => self.acosh(x),
            UnaryFn::Atanh => self.atanh(x),
            UnaryFn::Tanh => self.tanh(x),
            UnaryFn::Erf => self.erf(x),
            UnaryFn::Sigmoid => self.sigmoid(x),
            UnaryFn::Gelu => self.gelu(x),
            UnaryFn::GeluTanh => self.gelu_tanh(x),
            UnaryFn::Silu => {
                let gate = self.sigmoid(x);
                self.fmul(x, gate)
            }
            UnaryFn::Not | UnaryFn::BitNot => x,
        }
    }

    /// A function of two values of an element type.
    pub(super) fn binary_fn(
        &mut self,
        f: BinaryFn,
        a: ValueId,
        b: ValueId,
        dtype: DType,
    ) -> ValueId {
        use BinaryFn::*;
        let element = element_of(dtype);
        let float = dtype.is_float();
        let signed = dtype.is_signed();
        if dtype == DType::Bool {
            return self.boolean_fn(f, a, b);
        }
        let predicate = |ordered, unsigned| if signed { ordered } else { unsigned };
        match f {
            Add => self.binary(BinaryOp::Add, a, b),
            Sub => self.binary(BinaryOp::Sub, a, b),
            Mul => self.binary(BinaryOp::Mul, a, b),
            Div if float => self.fdiv(a, b),
            Div => self.divide(a, b, signed).0,
            Rem if float => self.float_rem(a, b),
            Rem => self.divide(a, b, signed).1,
            Mod if !signed => self.divide(a, b, false).1,
            Mod => {
                let rest = if float { self.float_rem(a, b) } else { self.divide(a, b, true).1 };
                self.floored_rem(rest, b)
            }
            Pow if float => self.float_pow(a, b),
            Pow => self.integer_pow(a, b, signed),
            Min | Max => {
                let op = match (f, float, signed) {
                    (Min, true, _) => BinaryOp::Min,
                    (_, true, _) => BinaryOp::Max,
                    (Min, _, true) => BinaryOp::MinSigned,
                    (_, _, true) => BinaryOp::MaxSigned,
                    (Min, ..) => BinaryOp::MinUnsigned,
                    _ => BinaryOp::MaxUnsigned,
                };
                self.binary(op, a, b)
            }
            And | BitAnd => self.binary(BinaryOp::And, a, b),
            Or | BitOr => self.binary(BinaryOp::Or, a, b),
            Xor | BitXor => self.binary(BinaryOp::Xor, a, b),
            Shl | Shr => {
                let last = self.integer(element, i64::from(element.bits()) - 1);
                let amount = self.binary(BinaryOp::MinUnsigned, b, last);
                if f == Shr && signed {
                    return self.binary(BinaryOp::ShiftRight, a, amount);
                }
                let op = if f == Shl { BinaryOp::ShiftLeft } else { BinaryOp::ShiftRightLogical };
                let shifted = self.binary(op, a, amount);
                let zero = self.integer(element, 0);
                let beyond = self.compare(Predicate::GreaterUnsigned, b, last);
                self.select(beyond, zero, shifted)
            }
            Equal => self.compare(Predicate::Equal, a, b),
            Less => self.compare(predicate(Predicate::Less, Predicate::LessUnsigned), a, b),
            LessEqual => {
                self.compare(predicate(Predicate::LessEqual, Predicate::LessEqualUnsigned), a, b)
            }
            Greater => {
                self.compare(predicate(Predicate::Greater, Predicate::GreaterUnsigned), a, b)
            }
            GreaterEqual => self.compare(
                predicate(Predicate::GreaterEqual, Predicate::GreaterEqualUnsigned),
                a,
                b,
            ),
        }
    }

    fn boolean_fn(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> ValueId {
        use BinaryFn::*;
        match f {
            Or | BitOr | Max | Add => self.binary(BinaryOp::Or, a, b),
            Xor | BitXor => self.binary(BinaryOp::Xor, a, b),
            Equal => {
                let differ = self.binary(BinaryOp::Xor, a, b);
                self.not(differ)
            }
            Less | Greater | LessEqual | GreaterEqual => {
                let (low, high) = if matches!(f, Less | LessEqual) { (a, b) } else { (b, a) };
                let not_low = self.not(low);
                let op = if matches!(f, Less | Greater) { BinaryOp::And } else { BinaryOp::Or };
                self.binary(op, not_low, high)
            }
            _ => self.and(a, b),
        }
    }

    /// Truncated quotient and remainder of integers that trap on no operands: the processor's
    /// division faults on a zero divisor, which unused lanes may hold, and on the least integer
    /// by −1.
    fn divide(&mut self, a: ValueId, b: ValueId, signed: bool) -> (ValueId, ValueId) {
        let element = self.ty(b).element;
        let [zero, one, minus_one] = [0, 1, -1].map(|value| self.integer(element, value));
        let is_zero = self.compare(Predicate::Equal, b, zero);
        if !signed {
            let divisor = self.select(is_zero, one, b);
            return (
                self.binary(BinaryOp::DivUnsigned, a, divisor),
                self.binary(BinaryOp::RemUnsigned, a, divisor),
            );
        }
        let is_minus_one = self.compare(Predicate::Equal, b, minus_one);
        let unsafe_divisor = self.binary(BinaryOp::Or, is_zero, is_minus_one);
        let divisor = self.select(unsafe_divisor, one, b);
        let quotient = self.binary(BinaryOp::DivSigned, a, divisor);
        let minus = self.binary(BinaryOp::Sub, zero, a);
        let quotient = self.select(is_minus_one, minus, quotient);
        (quotient, self.binary(BinaryOp::RemSigned, a, divisor))
    }

    /// Conversion between element types.
    pub(super) fn cast(&mut self, x: ValueId, from: DType, to: DType) -> ValueId {
        if from == to || self.remembered_bits(x, to).is_some() {
            return x;
        }
        if from.is_code() {
            let number = self.single_of_code(x, from);
            return self.cast(number, DType::F32, to);
        }
        if let Some(format) = to.format() {
            let number = self.single_for_rounding(x, from);
            return self.code_of_single(number, format);
        }
        let (source, element) = (element_of(from), element_of(to));
        if to == DType::Bool {
            let zero =
                if source.is_float() { self.float(source, 0.0) } else { self.integer(source, 0) };
            return self.compare(Predicate::NotEqual, x, zero);
        }
        let value = match (source, element) {
            (Element::Mask, _) if element.is_float() => {
                let [one, zero] = [1.0, 0.0].map(|value| self.float(element, value));
                self.select(x, one, zero)
            }
            (Element::Mask, _) => self.convert(Conversion::ZeroExtend, x, element),
            _ if matches!(to, DType::F16 | DType::BF16) => self.single_for_rounding(x, from),
            (Element::F32 | Element::F64, Element::F32 | Element::F64) if source == element => x,
            (Element::F32 | Element::F64, Element::F32 | Element::F64) => {
                self.convert(Conversion::FloatToFloat, x, element)
            }
            (Element::F32 | Element::F64, _) => self.saturate(x, to),
            (_, Element::F32 | Element::F64) => {
                let wide = if source.bits() < 32 { self.resize(x, from, Element::I32) } else { x };
                let conversion = if from.is_signed() || source.bits() < 32 {
                    Conversion::SignedToFloat
                } else {
                    Conversion::UnsignedToFloat
                };
                self.convert(conversion, wide, element)
            }
            _ => {
                let low = self.resize(x, from, element);
                self.cut_to(low, to)
            }
        };
        match to {
            DType::F16 | DType::BF16 => {
                let bits = self.memory_form(value, to);
                self.register_form(bits, to)
            }
            _ => value,
        }
    }

    /// A number in f32, so that rounding it to a narrower float rounds as if it were done once.
    fn single_for_rounding(&mut self, x: ValueId, from: DType) -> ValueId {
        match element_of(from) {
            Element::F32 => x,
            Element::F64 => self.odd_single_of_double(x),
            Element::I32 | Element::I64 => {
                let wide = self.cast(x, from, DType::F64);
                self.odd_single_of_double(wide)
            }
            Element::Mask | Element::I8 | Element::I16 => self.cast(x, from, DType::F32),
        }
    }

    /// The number of another type, which is as wide, that has the same bits.
    pub(super) fn bit_cast(&mut self, x: ValueId, from: DType, to: DType) -> ValueId {
        if from == to {
            return x;
        }
        let memory = self.memory_form(x, from);
        let (source, element) = (memory_element_of(from), memory_element_of(to));
        let bits = if source == element {
            self.cut_to(memory, to)
        } else {
            self.convert(Conversion::Bits, memory, element)
        };
        self.register_form(bits, to)
    }

    fn resize(&mut self, x: ValueId, from: DType, element: Element) -> ValueId {
        let bits = self.ty(x).element.bits();
        if bits == element.bits() {
            x
        } else if bits > element.bits() {
            self.convert(Conversion::Truncate, x, element)
        } else if from.is_signed() {
            self.convert(Conversion::SignExtend, x, element)
        } else {
            self.convert(Conversion::ZeroExtend, x, element)
        }
    }

    fn saturate(&mut self, x: ValueId, to: DType) -> ValueId {
        let element = element_of(to);
        if element.bits() >= 32 {
            let conversion = if to.is_signed() {
                Conversion::FloatToSigned
            } else {
                Conversion::FloatToUnsigned
            };
            return self.convert(conversion, x, element);
        }
        let (least, most) = if to.is_signed() {
            (-(1i64 << (to.bits() - 1)), (1i64 << (to.bits() - 1)) - 1)
        } else {
            (0, (1i64 << to.bits()) - 1)
        };
        let whole = self.convert(Conversion::FloatToSigned, x, Element::I32);
        let [least, most] = [least, most].map(|bound| self.integer(Element::I32, bound));
        let raised = self.binary(BinaryOp::MaxSigned, whole, least);
        let bounded = self.binary(BinaryOp::MinSigned, raised, most);
        self.convert(Conversion::Truncate, bounded, element)
    }

    /// The operation that combines two values in a reduction.
    pub(super) fn combiner(f: ReduceFn, dtype: DType) -> BinaryOp {
        match f {
            ReduceFn::Sum | ReduceFn::Mean if dtype == DType::Bool => BinaryOp::Or,
            ReduceFn::Sum | ReduceFn::Mean => BinaryOp::Add,
            ReduceFn::Prod if dtype == DType::Bool => BinaryOp::And,
            ReduceFn::Prod => BinaryOp::Mul,
            ReduceFn::Any => BinaryOp::Or,
            ReduceFn::All => BinaryOp::And,
            ReduceFn::Max if dtype == DType::Bool => BinaryOp::Or,
            ReduceFn::Min if dtype == DType::Bool => BinaryOp::And,
            ReduceFn::Max if dtype.is_float() => BinaryOp::Max,
            ReduceFn::Min if dtype.is_float() => BinaryOp::Min,
            ReduceFn::Max if dtype.is_signed() => BinaryOp::MaxSigned,
            ReduceFn::Min if dtype.is_signed() => BinaryOp::MinSigned,
            ReduceFn::Max => BinaryOp::MaxUnsigned,
            ReduceFn::Min => BinaryOp::MinUnsigned,
        }
    }

    /// What a reduction starts from.
    pub(super) fn neutral(&mut self, f: ReduceFn, dtype: DType) -> ValueId {
        let element = element_of(dtype);
        let float = element.is_float();
        match f {
            ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Any if float => self.float(element, 0.0),
            ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Any => self.integer(element, 0),
            ReduceFn::Prod | ReduceFn::All if float => self.float(element, 1.0),
            ReduceFn::Prod | ReduceFn::All => self.integer(element, 1),
            ReduceFn::Max if float => self.float(element, f64::NEG_INFINITY),
            ReduceFn::Min if float => self.float(element, f64::INFINITY),
            ReduceFn::Max | ReduceFn::Min => {
                let bits = element.bits();
                let ones = if bits == 64 { -1i64 } else { (1i64 << bits) - 1 };
                let top = 1i64.wrapping_shl(bits - 1);
                let signed = dtype.is_signed();
                let value = match (f, signed) {
                    (ReduceFn::Max, true) => top,
                    (ReduceFn::Max, false) => 0,
                    (_, true) => ones ^ top,
                    (_, false) => ones,
                };
                self.integer(element, value)
            }
        }
    }
}
