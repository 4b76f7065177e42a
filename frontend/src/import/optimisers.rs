//! Optimisers: one step of Adagrad, Adam or momentum for any number of tensors.
//!
//! Invariant: operands come in groups (all tensors, all gradients, then each accumulator of all),
//! and so do results, without the gradients.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, preview};
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

/// The domain of operators for training.
pub(super) const TRAINING: &str = "ai.onnx.preview.training";

pub(super) const OPERATORS: &[Entry] = &[
    preview(TRAINING, "Adagrad", |x| each(x, 3, adagrad)),
    preview(TRAINING, "Adam", |x| each(x, 4, adam)),
    preview(TRAINING, "Momentum", |x| each(x, 3, momentum)),
];

/// A step for one tensor: from the rate, the count of updates and the group's operands to the
/// tensor and its accumulators.
type Step = fn(&mut Use<'_, '_, '_>, V, V, &[V]) -> Results;

fn each(x: &mut Use<'_, '_, '_>, groups: usize, step: Step) -> Results {
    let operands = x.all_inputs()?;
    let [rate, count, tensors @ ..] = &operands[..] else {
        return Err(Fault::malformed("the learning rate or the count of updates is missing"));
    };
    if tensors.is_empty() || !tensors.len().is_multiple_of(groups) {
        let message = format!("{} tensors are not {groups} for each optimised one", tensors.len());
        return Err(Fault::malformed(message));
    }
    let (rate, count) = (x.reshape(*rate, Vec::new())?, x.reshape(*count, Vec::new())?);
    let optimised = tensors.len() / groups;
    let mut results = vec![Vec::new(); groups - 1];
    for number in 0..optimised {
        let own: Vec<V> = (0..groups).map(|group| tensors[group * optimised + number]).collect();
        let dtype = x.dtype(own[0]);
        let (rate, count) = (x.cast(rate, dtype)?, x.cast(count, dtype)?);
        for (group, v) in results.iter_mut().zip(step(x, rate, count, &own)?) {
            group.push(v);
        }
    }
    Ok(results.concat())
}

/// `a·p + b·q`.
fn mixed(x: &mut Use<'_, '_, '_>, (a, p): (V, f64), (b, q): (V, f64)) -> Result<V, Fault> {
    let (a, b) = (x.with_number(BinaryFn::Mul, a, p)?, x.with_number(BinaryFn::Mul, b, q)?);
    x.binary(BinaryFn::Add, a, b)
}

/// The gradient with that of the squared norm.
fn regularized(x: &mut Use<'_, '_, '_>, tensor: V, gradient: V) -> Result<V, Fault> {
    let norm = x.float_or("norm_coefficient", 0.0)?;
    if norm == 0.0 { Ok(gradient) } else { mixed(x, (tensor, norm), (gradient, 1.0)) }
}

fn adagrad(x: &mut Use<'_, '_, '_>, rate: V, count: V, own: &[V]) -> Results {
    let [tensor, gradient, squares] = own[..] else { return Err(Fault::Silent) };
    let (epsilon, decay) = (x.float_or("epsilon", 1e-6)?, x.float_or("decay_factor", 0.0)?);
    let decayed = x.with_number(BinaryFn::Mul, count, decay)?;
    let divisor = x.with_number(BinaryFn::Add, decayed, 1.0)?;
    let rate = x.binary(BinaryFn::Div, rate, divisor)?;
    let gradient = regularized(x, tensor, gradient)?;
    let square = x.binary(BinaryFn::Mul, gradient, gradient)?;
    let squares = x.binary(BinaryFn::Add, squares, square)?;
    let root = x.unary(UnaryFn::Sqrt, squares)?;
    let divisor = x.with_number(BinaryFn::Add, root, epsilon)?;
    let scaled = x.binary(BinaryFn::Mul, rate, gradient)?;
    let step = x.binary(BinaryFn::Div, scaled, divisor)?;
    Ok(vec![x.binary(BinaryFn::Sub, tensor, step)?, squares])
}

/// `1 − factorᶜᵒᵘⁿᵗ`, in f64: few updates leave little of it.
fn bias(x: &mut Use<'_, '_, '_>, factor: f64, count: V) -> Result<V, Fault> {
    let (factor, one) = (x.scalar(DType::F64, factor)?, x.scalar(DType::F64, 1.0)?);
    let power = x.binary(BinaryFn::Pow, factor, count)?;
    x.binary(BinaryFn::Sub, one, power)
}

fn adam(x: &mut Use<'_, '_, '_>, rate: V, count: V, own: &[V]) -> Results {
    let [tensor, gradient, mean, squares] = own[..] else { return Err(Fault::Silent) };
    let dtype = x.dtype(tensor);
    let (alpha, beta) = (x.float_or("alpha", 0.9)?, x.float_or("beta", 0.999)?);
    let epsilon = x.float_or("epsilon", 1e-6)?;
    let gradient = regularized(x, tensor, gradient)?;
    let mean = mixed(x, (mean, alpha), (gradient, 1.0 - alpha))?;
    let square = x.binary(BinaryFn::Mul, gradient, gradient)?;
    let squares = mixed(x, (squares, beta), (square, 1.0 - beta))?;
    let root = x.unary(UnaryFn::Sqrt, squares)?;
    let divisor = x.with_number(BinaryFn::Add, root, epsilon)?;
    // Both running means start at 0; at the first update (count 0) that is not made up for.
    let count = x.cast(count, DType::F64)?;
    let (of_squares, of_mean) = (bias(x, beta, count)?, bias(x, alpha, count)?);
    let root = x.unary(UnaryFn::Sqrt, of_squares)?;
    let corrected = x.binary(BinaryFn::Div, root, of_mean)?;
    let later = x.with_number(BinaryFn::Greater, count, 0.0)?;
    let one = x.scalar(DType::F64, 1.0)?;
    let correction = x.select(later, corrected, one)?;
    let correction = x.cast(correction, dtype)?;
    let rate = x.binary(BinaryFn::Mul, rate, correction)?;
    let direction = x.binary(BinaryFn::Div, mean, divisor)?;
    let step = x.binary(BinaryFn::Mul, rate, direction)?;
    let mut result = x.binary(BinaryFn::Sub, tensor, step)?;
    let after = x.float_or("norm_coefficient_post", 0.0)?;
    if after != 0.0 {
        result = x.with_number(BinaryFn::Mul, result, 1.0 - after)?;
    }
    Ok(vec![result, mean, squares])
}

fn momentum(x: &mut Use<'_, '_, '_>, rate: V, count: V, own: &[V]) -> Results {
    let [tensor, gradient, velocity] = own[..] else { return Err(Fault::Silent) };
    let needed = |x: &Use<'_, '_, '_>, name: &str| {
        let missing = || Fault::malformed(format!("attribute `{name}` is missing"));
        x.float(name)?.ok_or_else(missing)
    };
    let (alpha, beta) = (needed(x, "alpha")?, needed(x, "beta")?);
    let nesterov = match x.string_or("mode", "")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    let gradient = regularized(x, tensor, gradient)?;
    let dtype = x.dtype(tensor);
    let later = x.with_number(BinaryFn::Greater, count, 0.0)?;
    let (beta, one) = (x.scalar(dtype, beta)?, x.scalar(dtype, 1.0)?);
    let beta = x.select(later, beta, one)?;
    let added = x.binary(BinaryFn::Mul, beta, gradient)?;
    let velocity = mixed(x, (velocity, alpha), (added, 1.0))?;
    let direction = if nesterov { mixed(x, (gradient, 1.0), (velocity, alpha))? } else { velocity };
    let step = x.binary(BinaryFn::Mul, rate, direction)?;
    Ok(vec![x.binary(BinaryFn::Sub, tensor, step)?, velocity])
}
