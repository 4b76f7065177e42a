//! Operations that treat every element alone.
//!
//! Invariant: operands broadcast as in NumPy (aligned at the last dimension, a literal 1 or a
//! missing dimension stretches); dimensions that are neither equal nor literally 1 are an error.

use super::elements::{numbers, pack};
use super::places::{offsets, stretched};
use super::typing::{broadcast, element, exactly, is_numeric, same_element};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use crate::kernel::number::Number;
use kiln_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UnaryFn {
    /// −x; wraps on the least integer.
    Neg,
    /// |x|; wraps on the least integer.
    Abs,
    /// −1, 0 or 1; NaN for NaN.
    Sign,
    /// eˣ.
    Exp,
    /// The natural logarithm.
    Log,
    /// √x.
    Sqrt,
    /// 1/√x.
    Rsqrt,
    /// 1/x.
    Reciprocal,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Tangent of radians.
    Tan,
    /// Inverse of sine.
    Asin,
    /// Inverse of cosine.
    Acos,
    /// Inverse of tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse of hyperbolic sine.
    Asinh,
    /// Inverse of hyperbolic cosine.
    Acosh,
    /// Inverse of hyperbolic tangent.
    Atanh,
    /// Hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// The greatest whole number not above.
    Floor,
    /// The least whole number not below.
    Ceil,
    /// The nearest whole number, halves to even.
    Round,
    /// Logical not, of `bool`.
    Not,
    /// Every bit flipped, of integers.
    BitNot,
    /// Whether the number is NaN; gives `bool`.
    IsNan,
    /// Whether the number is infinite, of either sign; gives `bool`.
    IsInf,
    /// max(x, 0); NaN for NaN.
    Relu,
    /// x·(1 + erf(x/√2))/2.
    Gelu,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    GeluTanh,
    /// x/(1 + e⁻ˣ).
    Silu,
}

impl UnaryFn {
    /// Every function, in declaration order.
    pub const ALL: [UnaryFn; 33] = {
        use UnaryFn::*;
        [
            Neg, Abs, Sign, Exp, Log, Sqrt, Rsqrt, Reciprocal, Sin, Cos, Tan, Asin, Acos, Atan,
            Sinh, Cosh, Asinh, Acosh, Atanh, Tanh, Erf, Sigmoid, Floor, Ceil, Round, Not, BitNot,
            IsNan, IsInf, Relu, Gelu, GeluTanh, Silu,
        ]
    };

    /// The element type of the result for an operand of this one; `None` if it is not accepted.
    pub fn result(self, operand: DType) -> Option<DType> {
        let (accepted, result) = match self {
            UnaryFn::Neg => (is_numeric(operand) && operand.is_signed(), operand),
            UnaryFn::Abs | UnaryFn::Sign | UnaryFn::Relu => (is_numeric(operand), operand),
            UnaryFn::Not => (operand == DType::Bool, operand),
            UnaryFn::BitNot => (operand.is_integer(), operand),
            UnaryFn::IsNan | UnaryFn::IsInf => (operand.is_float(), DType::Bool),
            _ => (operand.is_float(), operand),
        };
        accepted.then_some(result)
    }
}

/// `x → f(x)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unary {
    /// The function.
    pub f: UnaryFn,
}

impl Operation for Unary {
    const NAME: &'static str = "Unary";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        let dtype = self
            .f
            .result(x.dtype)
            .ok_or_else(|| OpError::new(format!("{:?} is not defined on {x}", self.f)))?;
        Ok(vec![TensorType::new(dtype, x.shape.clone())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let of = inputs[0].dtype();
        let values = numbers(&inputs[0]).into_iter().map(|x| Number::unary(self.f, x, of));
        Ok(vec![pack(dtype, sizes, values)?])
    }
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BinaryFn {
    /// a + b; integers wrap.
    Add,
    /// a − b; integers wrap.
    Sub,
    /// a·b; integers wrap.
    Mul,
    /// a/b; integers truncate, and an integer divided by zero is divided by one instead (so that
    /// every backend gives the same).
    Div,
    /// The remainder of the truncated quotient, with the sign of a (C's `%` and `fmod`).
    Rem,
    /// The remainder of the floored quotient, with the sign of b (Python's `%`).
    Mod,
    /// aᵇ; an integer to a negative power is truncated towards zero.
    Pow,
    /// The smaller; NaN if one is NaN.
    Min,
    /// The larger; NaN if one is NaN.
    Max,
    /// Logical and, of `bool`.
    And,
    /// Logical or, of `bool`.
    Or,
    /// Logical exclusive or, of `bool`.
    Xor,
    /// Bitwise and, of integers.
    BitAnd,
    /// Bitwise or, of integers.
    BitOr,
    /// Bitwise exclusive or, of integers.
    BitXor,
    /// a·2ᵇ, of integers; 0 if b is not less than the width.
    Shl,
    /// ⌊a/2ᵇ⌋, of integers (so the sign stays); b is taken as the width if greater.
    Shr,
    /// Whether the elements are equal; gives `bool`.
    Equal,
    /// a < b; gives `bool`.
    Less,
    /// a ≤ b; gives `bool`.
    LessEqual,
    /// a > b; gives `bool`.
    Greater,
    /// a ≥ b; gives `bool`.
    GreaterEqual,
}

impl BinaryFn {
    /// Every function, in declaration order.
    pub const ALL: [BinaryFn; 22] = {
        use BinaryFn::*;
        [
            Add,
            Sub,
            Mul,
            Div,
            Rem,
            Mod,
            Pow,
            Min,
            Max,
            And,
            Or,
            Xor,
            BitAnd,
            BitOr,
            BitXor,
            Shl,
            Shr,
            Equal,
            Less,
            LessEqual,
            Greater,
            GreaterEqual,
        ]
    };

    /// The element type of the result for operands of this one; `None` if it is not accepted.
    pub fn result(self, operand: DType) -> Option<DType> {
        use BinaryFn::*;
        let (accepted, result) = match self {
            Add | Sub | Mul | Div | Rem | Mod | Pow | Min | Max => (is_numeric(operand), operand),
            And | Or | Xor => (operand == DType::Bool, operand),
            BitAnd | BitOr | BitXor | Shl | Shr => (operand.is_integer(), operand),
            // Equal strings of one run have equal handles.
            Equal => {
                (is_numeric(operand) || matches!(operand, DType::Bool | DType::String), DType::Bool)
            }
            Less | LessEqual | Greater | GreaterEqual => (is_numeric(operand), DType::Bool),
        };
        accepted.then_some(result)
    }
}

/// `a, b → f(a, b)`, of one element type, broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binary {
    /// The function.
    pub f: BinaryFn,
}

impl Operation for Binary {
    const NAME: &'static str = "Binary";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [a, b] = exactly(inputs)?;
        same_element(a, b)?;
        let dtype = self
            .f
            .result(a.dtype)
            .ok_or_else(|| OpError::new(format!("{:?} is not defined on {a} and {b}", self.f)))?;
        Ok(vec![TensorType::new(dtype, broadcast(&[a, b])?)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let (a, b, of) = (numbers(&inputs[0]), numbers(&inputs[1]), inputs[0].dtype());
        let strides = [0, 1].map(|operand| stretched(inputs[operand].sizes(), sizes.len()));
        let places = offsets(&sizes, [&strides[0], &strides[1]], [0; 2]);
        let values: Vec<Number> =
            places.map(|[i, j]| Number::binary(self.f, a[i], b[j], of)).collect();
        Ok(vec![pack(dtype, sizes, values)?])
    }
}

/// `condition, a, b → a` where the condition (`bool`) holds, else `b`; broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Select {}

impl Operation for Select {
    const NAME: &'static str = "Select";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [condition, a, b] = exactly(inputs)?;
        element(condition, "the condition", "bool", |dtype| dtype == DType::Bool)?;
        same_element(a, b)?;
        Ok(vec![TensorType::new(a.dtype, broadcast(&[condition, a, b])?)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let [condition, a, b] = [0, 1, 2].map(|operand| numbers(&inputs[operand]));
        let strides = [0, 1, 2].map(|operand| stretched(inputs[operand].sizes(), sizes.len()));
        let places = offsets(&sizes, [&strides[0], &strides[1], &strides[2]], [0; 3]);
        let values: Vec<Number> =
            places.map(|[c, i, j]| if condition[c].is_true() { a[i] } else { b[j] }).collect();
        Ok(vec![pack(dtype, sizes, values)?])
    }
}

/// `x → x` in another element type. Floats round to nearest even, once, and what is too large for a
/// float of at most 8 bits is its infinity or NaN, or its greatest number where it has neither; NaN
/// is negative zero there. Floats to integers truncate and saturate, NaN gives 0; integers to
/// narrower integers wrap; non-zero is true. Complex numbers are not converted, and nothing is
/// converted to `f8e8m0`, for which ONNX has three ways of rounding: see [`BitCast`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cast {
    /// The new element type.
    pub to: DType,
}

impl Operation for Cast {
    const NAME: &'static str = "Cast";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        if x.dtype != self.to && !x.dtype.converts_to(self.to) {
            return Err(OpError::new(format!("there is no conversion of {x} to {}", self.to)));
        }
        Ok(vec![TensorType::new(self.to, x.shape.clone())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (from, (dtype, sizes)) = (inputs[0].dtype(), self.result(inputs)?);
        let values = numbers(&inputs[0]).into_iter().map(|x| x.cast(from, dtype));
        Ok(vec![pack(dtype, sizes, values)?])
    }
}

/// The elements' bits as those of another element type, which is as wide. Any byte but 0 is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BitCast {
    /// The new element type.
    pub to: DType,
}

impl Operation for BitCast {
    const NAME: &'static str = "BitCast";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x] = exactly(inputs)?;
        if x.dtype.bits() != self.to.bits() {
            return Err(OpError::new(format!(
                "the bits of {x} are not those of {} elements, which are {} bits wide, not {}",
                self.to,
                self.to.bits(),
                x.dtype.bits()
            )));
        }
        Ok(vec![TensorType::new(self.to, x.shape.clone())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        if dtype.size() > 1 {
            return Ok(vec![Tensor::from_storage(dtype, sizes, inputs[0].storage().clone())?]);
        }
        let bytes: Vec<u8> = inputs[0].bytes().iter().map(|&byte| dtype.extended(byte)).collect();
        Ok(vec![Tensor::from_bytes(dtype, sizes, &bytes)?])
    }
}
