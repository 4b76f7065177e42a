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
    onnx("Elu", 1, elu),
    onnx("Gelu", 20, gelu),
    onnx("HardSigmoid", 1, hard_sigmoid),
    onnx("HardSwish", 14, hard_swish),
    onnx("LeakyRelu", 1, leaky_relu),
    onnx("Mish", 18, mish),
    onnx("PRelu", 1, prelu),
    onnx("Selu", 1, selu),
    onnx("Shrink", 9, shrink),
    onnx("Softplus", 1, softplus),
    onnx("Softsign", 1, softsign),
    onnx("SwiGLU", 28, swiglu),
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

/// `factor·(eˣ − 1)`; halves are rounded at the end alone, as the difference would lose them.
fn exponential_less_one(x: &mut Use<'_, '_, '_>, v: V, factor: f64) -> Result<V, Fault> {
    let dtype = x.dtype(v);
    if matches!(dtype, DType::F16 | DType::BF16) {
        let wide = x.cast(v, DType::F32)?;
        let result = exponential_less_one(x, wide, factor)?;
        return x.cast(result, dtype);
    }
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
        let below = exponential_less_one(x, scaled, 1.0)?;
        let below = x.with_number(BinaryFn::Mul, below, alpha)?;
        by_sign(x, v, v, below)
    })
}

fn selu(x: &mut Use<'_, '_, '_>) -> Results {
    // Opset 1 had fewer digits.
    let rounded = x.opset() < 6;
    let alpha = x.float_or("alpha", if rounded { 1.6732 } else { 1.673_263_192_176_818_8 })?;
    let gamma = x.float_or("gamma", if rounded { 1.0507 } else { 1.050_701_022_148_132_3 })?;
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

/// The slope stretches to the operand; up to opset 6 it is one number, or one for each channel.
fn prelu(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, mut slope) = (x.input(0)?, x.input(1)?);
    let rank = x.rank(operand);
    if x.opset() < 7 && x.rank(slope) == 1 && !x.shape(slope)[0].is(1) && rank > 1 {
        slope = x.along(slope, 0, rank - 1)?;
    }
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

/// The second operand, as far as the swish of the first lets it through.
fn swiglu(x: &mut Use<'_, '_, '_>) -> Results {
    let (gate, operand) = (x.input(0)?, x.input(1)?);
    let shape = x.shape(gate);
    let operand = x.with_dims(operand, &shape)?;
    if x.ty(operand) != x.ty(gate) {
        let (gate, operand) = (x.ty(gate), x.ty(operand));
        return Err(Fault::malformed(format!("{gate} and {operand} must be of one type")));
    }
    let gate = swish(x)?;
    Ok(vec![x.binary(BinaryFn::Mul, gate[0], operand)?])
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
