//! Gradients of operations on single elements.
//!
//! Invariant: where a function has a kink, the gradient is that of one of its sides; where it is
//! flat, there is none.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::{Step, narrowed};
use kiln_ir::op::{BinaryFn, Op, UnaryFn};
use std::f64::consts::{PI, SQRT_2};

type Part = Result<Option<V>, Fault>;

pub(super) fn of_operand(x: &mut Use<'_, '_, '_>, step: &Step, number: usize) -> Part {
    let (operand, g) = (step.inputs[number], step.gradient);
    let whole = match &step.op {
        Op::Unary(unary) => match slope(x, unary.f, operand, step.output)? {
            Some(slope) => Some(x.binary(BinaryFn::Mul, g, slope)?),
            None => None,
        },
        Op::Binary(binary) => {
            let [a, b] = step.inputs[..] else { return Err(Fault::Silent) };
            of_binary(x, binary.f, [a, b], step.output, g, number == 0)?
        }
        Op::Select(_) => {
            let zero = x.scalar(x.dtype(g), 0.0)?;
            let (a, b) = if number == 1 { (g, zero) } else { (zero, g) };
            Some(x.select(step.inputs[0], a, b)?)
        }
        Op::Cast(_) if x.dtype(step.output).is_float() => Some(x.cast(g, x.dtype(operand))?),
        _ => None,
    };
    let shape = x.shape(operand);
    whole.map(|v| narrowed(x, v, shape)).transpose()
}

/// `1 − v²`, or with plus.
fn one_and_square(x: &mut Use<'_, '_, '_>, v: V, f: BinaryFn) -> Result<V, Fault> {
    let square = x.binary(BinaryFn::Mul, v, v)?;
    let one = x.scalar(x.dtype(v), 1.0)?;
    x.binary(f, one, square)
}

fn over_root(x: &mut Use<'_, '_, '_>, v: V, sign: f64) -> Result<V, Fault> {
    let root = x.unary(UnaryFn::Rsqrt, v)?;
    x.with_number(BinaryFn::Mul, root, sign)
}

/// `factor·e^(scale·x²)`.
fn bell(x: &mut Use<'_, '_, '_>, v: V, factor: f64, scale: f64) -> Result<V, Fault> {
    let square = x.binary(BinaryFn::Mul, v, v)?;
    let scaled = x.with_number(BinaryFn::Mul, square, scale)?;
    let exponential = x.unary(UnaryFn::Exp, scaled)?;
    x.with_number(BinaryFn::Mul, exponential, factor)
}

/// The derivative of `y = f(v)`; nothing if it is 0 wherever it is one.
fn slope(x: &mut Use<'_, '_, '_>, f: UnaryFn, v: V, y: V) -> Part {
    let dtype = x.dtype(v);
    Ok(Some(match f {
        UnaryFn::Neg => x.scalar(dtype, -1.0)?,
        UnaryFn::Abs => x.unary(UnaryFn::Sign, v)?,
        UnaryFn::Exp => y,
        UnaryFn::Log => x.unary(UnaryFn::Reciprocal, v)?,
        UnaryFn::Sqrt => {
            let inverse = x.unary(UnaryFn::Reciprocal, y)?;
            x.with_number(BinaryFn::Mul, inverse, 0.5)?
        }
        UnaryFn::Rsqrt => {
            let quotient = x.binary(BinaryFn::Div, y, v)?;
            x.with_number(BinaryFn::Mul, quotient, -0.5)?
        }
        UnaryFn::Reciprocal => {
            let square = x.binary(BinaryFn::Mul, y, y)?;
            x.unary(UnaryFn::Neg, square)?
        }
        UnaryFn::Sin => x.unary(UnaryFn::Cos, v)?,
        UnaryFn::Cos => {
            let sine = x.unary(UnaryFn::Sin, v)?;
            x.unary(UnaryFn::Neg, sine)?
        }
        UnaryFn::Tan => one_and_square(x, y, BinaryFn::Add)?,
        UnaryFn::Asin | UnaryFn::Acos => {
            let inside = one_and_square(x, v, BinaryFn::Sub)?;
            over_root(x, inside, if f == UnaryFn::Asin { 1.0 } else { -1.0 })?
        }
        UnaryFn::Atan | UnaryFn::Atanh => {
            let sign = if f == UnaryFn::Atan { BinaryFn::Add } else { BinaryFn::Sub };
            let divisor = one_and_square(x, v, sign)?;
            x.unary(UnaryFn::Reciprocal, divisor)?
        }
        UnaryFn::Sinh => x.unary(UnaryFn::Cosh, v)?,
        UnaryFn::Cosh => x.unary(UnaryFn::Sinh, v)?,
        UnaryFn::Asinh => {
            let inside = one_and_square(x, v, BinaryFn::Add)?;
            over_root(x, inside, 1.0)?
        }
        UnaryFn::Acosh => {
            let negative = one_and_square(x, v, BinaryFn::Sub)?;
            let inside = x.unary(UnaryFn::Neg, negative)?;
            over_root(x, inside, 1.0)?
        }
        UnaryFn::Tanh => one_and_square(x, y, BinaryFn::Sub)?,
        UnaryFn::Erf => bell(x, v, 2.0 / PI.sqrt(), -1.0)?,
        UnaryFn::Sigmoid => {
            let square = x.binary(BinaryFn::Mul, y, y)?;
            x.binary(BinaryFn::Sub, y, square)?
        }
        UnaryFn::Relu => {
            let positive = x.with_number(BinaryFn::Greater, v, 0.0)?;
            x.cast(positive, dtype)?
        }
        UnaryFn::Gelu => {
            let scaled = x.with_number(BinaryFn::Div, v, SQRT_2)?;
            let error = x.unary(UnaryFn::Erf, scaled)?;
            let shifted = x.with_number(BinaryFn::Add, error, 1.0)?;
            let below = x.with_number(BinaryFn::Mul, shifted, 0.5)?;
            let density = bell(x, v, 1.0 / (2.0 * PI).sqrt(), -0.5)?;
            let moved = x.binary(BinaryFn::Mul, v, density)?;
            x.binary(BinaryFn::Add, below, moved)?
        }
        UnaryFn::GeluTanh => of_gelu_tanh(x, v)?,
        UnaryFn::Silu => {
            // s + y·(1 − s)
            let gate = x.unary(UnaryFn::Sigmoid, v)?;
            let one = x.scalar(dtype, 1.0)?;
            let rest = x.binary(BinaryFn::Sub, one, gate)?;
            let moved = x.binary(BinaryFn::Mul, y, rest)?;
            x.binary(BinaryFn::Add, gate, moved)?
        }
        UnaryFn::Sign
        | UnaryFn::Floor
        | UnaryFn::Ceil
        | UnaryFn::Round
        | UnaryFn::Not
        | UnaryFn::BitNot
        | UnaryFn::IsNan
        | UnaryFn::IsInf => return Ok(None),
    }))
}

/// With `u = √(2/π)·(x + c·x³)`: `(1 + tanh u)/2 + x/2·(1 − tanh² u)·√(2/π)·(1 + 3c·x²)`.
fn of_gelu_tanh(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    const CUBIC: f64 = 0.044_715;
    let root = (2.0 / PI).sqrt();
    let square = x.binary(BinaryFn::Mul, v, v)?;
    let polynomial = |x: &mut Use<'_, '_, '_>, factor: f64| {
        let scaled = x.with_number(BinaryFn::Mul, square, factor * root)?;
        x.with_number(BinaryFn::Add, scaled, root)
    };
    let inner = polynomial(x, CUBIC)?;
    let inner = x.binary(BinaryFn::Mul, inner, v)?;
    let bent = x.unary(UnaryFn::Tanh, inner)?;
    let shifted = x.with_number(BinaryFn::Add, bent, 1.0)?;
    let below = x.with_number(BinaryFn::Mul, shifted, 0.5)?;
    let of_tanh = one_and_square(x, bent, BinaryFn::Sub)?;
    let of_inner = polynomial(x, 3.0 * CUBIC)?;
    let product = x.binary(BinaryFn::Mul, of_tanh, of_inner)?;
    let half = x.with_number(BinaryFn::Mul, v, 0.5)?;
    let moved = x.binary(BinaryFn::Mul, half, product)?;
    x.binary(BinaryFn::Add, below, moved)
}

/// The part of the left or the right operand in `y = f(a, b)`.
fn of_binary(x: &mut Use<'_, '_, '_>, f: BinaryFn, [a, b]: [V; 2], y: V, g: V, left: bool) -> Part {
    Ok(Some(match (f, left) {
        (BinaryFn::Add, _) | (BinaryFn::Sub | BinaryFn::Rem | BinaryFn::Mod, true) => g,
        (BinaryFn::Sub, false) => x.unary(UnaryFn::Neg, g)?,
        (BinaryFn::Mul, _) => x.binary(BinaryFn::Mul, g, if left { b } else { a })?,
        (BinaryFn::Div, true) => x.binary(BinaryFn::Div, g, b)?,
        (BinaryFn::Div, false) => {
            let quotient = x.binary(BinaryFn::Div, y, b)?;
            let part = x.binary(BinaryFn::Mul, g, quotient)?;
            x.unary(UnaryFn::Neg, part)?
        }
        (BinaryFn::Pow, true) => {
            let less = x.with_number(BinaryFn::Sub, b, 1.0)?;
            let power = x.binary(BinaryFn::Pow, a, less)?;
            let slope = x.binary(BinaryFn::Mul, b, power)?;
            // A constant, whatever power of 0 that would be.
            let flat = x.with_number(BinaryFn::Equal, b, 0.0)?;
            let zero = x.scalar(x.dtype(b), 0.0)?;
            let slope = x.select(flat, zero, slope)?;
            x.binary(BinaryFn::Mul, g, slope)?
        }
        (BinaryFn::Pow, false) => {
            let logarithm = x.unary(UnaryFn::Log, a)?;
            let slope = x.binary(BinaryFn::Mul, y, logarithm)?;
            let nothing = x.with_number(BinaryFn::Equal, a, 0.0)?;
            let zero = x.scalar(x.dtype(a), 0.0)?;
            let slope = x.select(nothing, zero, slope)?;
            x.binary(BinaryFn::Mul, g, slope)?
        }
        (BinaryFn::Min | BinaryFn::Max, _) => {
            let f = if f == BinaryFn::Min { BinaryFn::LessEqual } else { BinaryFn::GreaterEqual };
            let chosen = x.binary(f, a, b)?;
            let zero = x.scalar(x.dtype(g), 0.0)?;
            if left { x.select(chosen, g, zero)? } else { x.select(chosen, zero, g)? }
        }
        (BinaryFn::Rem | BinaryFn::Mod, false) => {
            // y = a − q·b, with a whole q.
            let taken = x.binary(BinaryFn::Sub, a, y)?;
            let quotient = x.binary(BinaryFn::Div, taken, b)?;
            let whole = x.unary(UnaryFn::Round, quotient)?;
            let part = x.binary(BinaryFn::Mul, g, whole)?;
            x.unary(UnaryFn::Neg, part)?
        }
        _ => return Ok(None),
    }))
}
