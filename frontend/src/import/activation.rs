//! Activation functions that are composed of several core operations.
//!
//! Invariant: each is written as the standard defines it, in a form that does not overflow where
//! the result does not.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, microsoft, onnx};
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Celu", 12, celu),
    onnx("Elu", 6, elu),
    onnx("Gelu", 20, gelu),
    onnx("HardSigmoid", 6, hard_sigmoid),
    onnx("HardSwish", 14, hard_swish),
    onnx("LeakyRelu", 6, leaky_relu),
    onnx("Mish", 18, mish),
    onnx("PRelu", 7, prelu),
    onnx("Selu", 6, selu),
    onnx("Shrink", 9, shrink),
    onnx("Softplus", 1, softplus),
    onnx("Softsign", 1, softsign),
    onnx("Swish", 24, swish),
    onnx("ThresholdedRelu", 10, thresholded_relu),
    microsoft("BiasGelu", bias_gelu),
    microsoft("FastGelu", fast_gelu),
    microsoft("Gelu", |x| one(x, |x, v| x.unary(UnaryFn::Gelu, v))),
    microsoft("QuickGelu", quick_gelu),
];

fn one<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    f: impl FnOnce(&mut Use<'i, 'r, 'm>, V) -> Result<V, Fault>,
) -> Results {
    let operand = x.input(0)?;
    Ok(vec![f(x, operand)?])
}

/// `above` where the operand is at least 0, else `below`.
fn by_sign(x: &mut Use<'_, '_, '_>, operand: V, above: V, below: V) -> Result<V, Fault> {
    let negative = x.with_number(BinaryFn::Less, operand, 0.0)?;
    x.select(negative, below, above)
}

/// `factor·(eˣ − 1)`.
fn exponential_less_one(x: &mut Use<'_, '_, '_>, v: V, factor: f64) -> Result<V, Fault> {
    let exponential = x.unary(UnaryFn::Exp, v)?;
    let less = x.with_number(BinaryFn::Sub, exponential, 1.0)?;
    x.with_number(BinaryFn::Mul, less, factor)
}

fn elu(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 1.0)?;
    one(x, |x, v| {
        let below = exponential_less_one(x, v, alpha)?;
        by_sign(x, v, v, below)
    })
}

fn celu(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 1.0)?;
    one(x, |x, v| {
        let scaled = x.with_number(BinaryFn::Div, v, alpha)?;
        let below = exponential_less_one(x, scaled, alpha)?;
        by_sign(x, v, v, below)
    })
}

fn selu(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 1.673_263_192_176_818_8)?;
    let gamma = x.float_or("gamma", 1.050_701_022_148_132_3)?;
    one(x, |x, v| {
        let above = x.with_number(BinaryFn::Mul, v, gamma)?;
        let below = exponential_less_one(x, v, alpha * gamma)?;
        by_sign(x, v, above, below)
    })
}

fn leaky_relu(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 0.01)?;
    one(x, |x, v| {
        let below = x.with_number(BinaryFn::Mul, v, alpha)?;
        by_sign(x, v, v, below)
    })
}

/// The slope stretches to the operand; one for each channel is aligned there.
fn prelu(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, slope) = (x.input(0)?, x.input(1)?);
    let below = x.binary(BinaryFn::Mul, operand, slope)?;
    Ok(vec![by_sign(x, operand, operand, below)?])
}

fn gelu(x: &mut Use<'_, '_, '_>) -> Results {
    let f = match x.string_or("approximate", "none")? {
        "none" => UnaryFn::Gelu,
        "tanh" => UnaryFn::GeluTanh,
        other => return Err(Fault::malformed(format!("approximation `{other}` is not known"))),
    };
    one(x, |x, v| x.unary(f, v))
}

fn biased(x: &mut Use<'_, '_, '_>, f: UnaryFn) -> Results {
    let mut operand = x.input(0)?;
    if let Some(bias) = x.optional(1) {
        operand = x.binary(BinaryFn::Add, operand, bias)?;
    }
    Ok(vec![x.unary(f, operand)?])
}

fn bias_gelu(x: &mut Use<'_, '_, '_>) -> Results {
    biased(x, UnaryFn::Gelu)
}

fn fast_gelu(x: &mut Use<'_, '_, '_>) -> Results {
    biased(x, UnaryFn::GeluTanh)
}

/// `x/(1 + e^(−alpha·x))`.
fn sigmoid_weighted(x: &mut Use<'_, '_, '_>, alpha: f64) -> Results {
    one(x, |x, v| {
        if alpha == 1.0 {
            return x.unary(UnaryFn::Silu, v);
        }
        let scaled = x.with_number(BinaryFn::Mul, v, alpha)?;
        let gate = x.unary(UnaryFn::Sigmoid, scaled)?;
        x.binary(BinaryFn::Mul, v, gate)
    })
}

fn swish(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 1.0)?;
    sigmoid_weighted(x, alpha)
}

fn quick_gelu(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 1.702)?;
    sigmoid_weighted(x, alpha)
}

/// `alpha·x + beta` between 0 and 1.
fn hard_gate(x: &mut Use<'_, '_, '_>, v: V, alpha: f64, beta: f64) -> Result<V, Fault> {
    let scaled = x.with_number(BinaryFn::Mul, v, alpha)?;
    let shifted = x.with_number(BinaryFn::Add, scaled, beta)?;
    let above = x.with_number(BinaryFn::Max, shifted, 0.0)?;
    x.with_number(BinaryFn::Min, above, 1.0)
}

fn hard_sigmoid(x: &mut Use<'_, '_, '_>) -> Results {
    let (alpha, beta) = (x.float_or("alpha", 0.2)?, x.float_or("beta", 0.5)?);
    one(x, |x, v| hard_gate(x, v, alpha, beta))
}

fn hard_swish(x: &mut Use<'_, '_, '_>) -> Results {
    one(x, |x, v| {
        let gate = hard_gate(x, v, 1.0 / 6.0, 0.5)?;
        x.binary(BinaryFn::Mul, v, gate)
    })
}

/// `max(x, 0) + ln(1 + e^−|x|)`, which is `ln(1 + eˣ)`.
fn soft_positive(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let absolute = x.unary(UnaryFn::Abs, v)?;
    let negated = x.unary(UnaryFn::Neg, absolute)?;
    let exponential = x.unary(UnaryFn::Exp, negated)?;
    let sum = x.with_number(BinaryFn::Add, exponential, 1.0)?;
    let logarithm = x.unary(UnaryFn::Log, sum)?;
    let positive = x.unary(UnaryFn::Relu, v)?;
    x.binary(BinaryFn::Add, positive, logarithm)
}

fn softplus(x: &mut Use<'_, '_, '_>) -> Results {
    one(x, soft_positive)
}

fn mish(x: &mut Use<'_, '_, '_>) -> Results {
    one(x, |x, v| {
        let soft = soft_positive(x, v)?;
        let gate = x.unary(UnaryFn::Tanh, soft)?;
        x.binary(BinaryFn::Mul, v, gate)
    })
}

fn softsign(x: &mut Use<'_, '_, '_>) -> Results {
    one(x, |x, v| {
        let absolute = x.unary(UnaryFn::Abs, v)?;
        let divisor = x.with_number(BinaryFn::Add, absolute, 1.0)?;
        x.binary(BinaryFn::Div, v, divisor)
    })
}

fn thresholded_relu(x: &mut Use<'_, '_, '_>) -> Results {
    let alpha = x.float_or("alpha", 1.0)?;
    one(x, |x, v| {
        let above = x.with_number(BinaryFn::Greater, v, alpha)?;
        let zero = x.scalar(x.dtype(v), 0.0)?;
        x.select(above, v, zero)
    })
}

/// `x + bias` below `−lambd`, `x − bias` above `lambd`, else 0.
fn shrink(x: &mut Use<'_, '_, '_>) -> Results {
    let (bias, lambda) = (x.float_or("bias", 0.0)?, x.float_or("lambd", 0.5)?);
    let dtype = x.dtype(x.input(0)?);
    one(x, |x, v| {
        // Integers are compared and moved as numbers, and what is left is cut off.
        let v = if dtype.is_float() { v } else { x.cast(v, DType::F64)? };
        let (below, above) = (
            x.with_number(BinaryFn::Less, v, -lambda)?,
            x.with_number(BinaryFn::Greater, v, lambda)?,
        );
        let raised = x.with_number(BinaryFn::Add, v, bias)?;
        let lowered = x.with_number(BinaryFn::Sub, v, bias)?;
        let zero = x.scalar(x.dtype(v), 0.0)?;
        let rest = x.select(above, lowered, zero)?;
        let shrunk = x.select(below, raised, rest)?;
        x.cast(shrunk, dtype)
    })
}
