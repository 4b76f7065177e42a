//! Random numbers: a counter-based generator, each number a function of a key and its place.
//!
//! Invariant: integers alone decide, so every backend draws the same bits; a key follows from the
//! node's `seed`, or, without one, from where the node stands in the model, so a compiled model
//! draws the same numbers whenever it runs.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::read::element_type;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim, Tensor};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Bernoulli", 15, bernoulli),
    onnx("Multinomial", 7, multinomial),
    onnx("RandomNormal", 1, |x| of_shape(x, normal)),
    onnx("RandomNormalLike", 1, |x| like(x, normal)),
    onnx("RandomUniform", 1, |x| of_shape(x, between)),
    onnx("RandomUniformLike", 1, |x| like(x, between)),
];

/// What keys of nodes without a seed are mixed with.
const DEFAULT_SEED: u64 = 0x6b69_6c6e;

/// A step of SplitMix64, which makes keys of alike numbers unlike.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of the node's generator.
fn key(x: &Use<'_, '_, '_>) -> Result<u64, Fault> {
    Ok(match x.float("seed")? {
        Some(seed) => mixed(seed.to_bits()),
        None => position_key(x),
    })
}

/// The key of a node without a seed.
pub(super) fn position_key(x: &Use<'_, '_, '_>) -> u64 {
    mixed(DEFAULT_SEED ^ (x.importer.nodes as u64) << 32)
}

fn word(x: &mut Use<'_, '_, '_>, value: u64) -> Result<V, Fault> {
    let tensor = Tensor::scalar(value).map_err(|error| Fault::malformed(error.to_string()))?;
    Ok(x.constant(tensor))
}

/// 64 random bits for each of `count` places: Widynski's *Squares* (arXiv:2004.06278), five rounds
/// of squaring a multiple of the place.
fn bits(x: &mut Use<'_, '_, '_>, key: u64, count: Dim) -> Result<V, Fault> {
    let places = x.add(op::Iota { length: count }, &[])?;
    let places = x.cast(places, DType::U64)?;
    let (key, half) = (word(x, key | 1)?, word(x, 32)?);
    let y = x.binary(BinaryFn::Mul, places, key)?;
    let z = x.binary(BinaryFn::Add, y, key)?;
    let swapped = |x: &mut Use<'_, '_, '_>, v: V| {
        let (high, low) = (x.binary(BinaryFn::Shr, v, half)?, x.binary(BinaryFn::Shl, v, half)?);
        x.binary(BinaryFn::BitOr, high, low)
    };
    let mut state = y;
    for added in [y, z, y] {
        let square = x.binary(BinaryFn::Mul, state, state)?;
        let sum = x.binary(BinaryFn::Add, square, added)?;
        state = swapped(x, sum)?;
    }
    let square = x.binary(BinaryFn::Mul, state, state)?;
    let fourth = x.binary(BinaryFn::Add, square, z)?;
    state = swapped(x, fourth)?;
    let square = x.binary(BinaryFn::Mul, state, state)?;
    let sum = x.binary(BinaryFn::Add, square, y)?;
    let high = x.binary(BinaryFn::Shr, sum, half)?;
    x.binary(BinaryFn::BitXor, fourth, high)
}

/// Numbers of [0, 1) in f64, a multiple of 2⁻⁵³ each.
pub(super) fn uniform(x: &mut Use<'_, '_, '_>, key: u64, shape: Vec<Dim>) -> Result<V, Fault> {
    let bits = bits(x, key, shape.iter().cloned().product())?;
    let eleven = word(x, 11)?;
    let kept = x.binary(BinaryFn::Shr, bits, eleven)?;
    let numbers = x.cast(kept, DType::F64)?;
    let scaled = x.with_number(BinaryFn::Mul, numbers, 0.5f64.powi(53))?;
    x.reshape(scaled, shape)
}

/// What an operator draws: numbers of a shape.
type Draw = fn(&mut Use<'_, '_, '_>, Vec<Dim>) -> Result<V, Fault>;

fn between(x: &mut Use<'_, '_, '_>, shape: Vec<Dim>) -> Result<V, Fault> {
    let (low, high) = (x.float_or("low", 0.0)?, x.float_or("high", 1.0)?);
    let key = key(x)?;
    let unit = uniform(x, key, shape)?;
    let scaled = x.with_number(BinaryFn::Mul, unit, high - low)?;
    x.with_number(BinaryFn::Add, scaled, low)
}

/// Box and Muller's: `√(−2·ln(1 − u))·cos(2π·v)`.
fn normal(x: &mut Use<'_, '_, '_>, shape: Vec<Dim>) -> Result<V, Fault> {
    let (mean, scale) = (x.float_or("mean", 0.0)?, x.float_or("scale", 1.0)?);
    let key = key(x)?;
    let (u, v) = (uniform(x, key, shape.clone())?, uniform(x, mixed(key), shape)?);
    let one = x.scalar(DType::F64, 1.0)?;
    let positive = x.binary(BinaryFn::Sub, one, u)?;
    let logarithm = x.unary(UnaryFn::Log, positive)?;
    let doubled = x.with_number(BinaryFn::Mul, logarithm, -2.0)?;
    let radius = x.unary(UnaryFn::Sqrt, doubled)?;
    let angle = x.with_number(BinaryFn::Mul, v, std::f64::consts::TAU)?;
    let direction = x.unary(UnaryFn::Cos, angle)?;
    let unit = x.binary(BinaryFn::Mul, radius, direction)?;
    let scaled = x.with_number(BinaryFn::Mul, unit, scale)?;
    x.with_number(BinaryFn::Add, scaled, mean)
}

/// The element type that attribute `dtype` names.
fn dtype(x: &Use<'_, '_, '_>, default: DType) -> Result<DType, Fault> {
    let Some(number) = x.int("dtype")? else { return Ok(default) };
    let unknown = || Fault::malformed(format!("type {number} is not known"));
    element_type(i32::try_from(number).map_err(|_| unknown())?)
        .map_err(|error| Fault::unsupported(error.to_string(), error.help()))
}

fn of_shape(x: &mut Use<'_, '_, '_>, draw: Draw) -> Results {
    let sizes = x.ints("shape")?.ok_or_else(|| Fault::malformed("`shape` is missing"))?;
    if let Some(size) = sizes.iter().find(|&&size| size < 0) {
        return Err(Fault::malformed(format!("the shape has a dimension of {size}")));
    }
    let numbers = draw(x, sizes.iter().map(|&size| Dim::from(size)).collect())?;
    let dtype = dtype(x, DType::F32)?;
    Ok(vec![x.cast(numbers, dtype)?])
}

fn like(x: &mut Use<'_, '_, '_>, draw: Draw) -> Results {
    let operand = x.input(0)?;
    let dtype = dtype(x, x.dtype(operand))?;
    let shape = x.shape(operand);
    let numbers = draw(x, shape)?;
    Ok(vec![x.cast(numbers, dtype)?])
}

/// 1 with the probability that the operand says.
fn bernoulli(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let dtype = dtype(x, x.dtype(operand))?;
    let (key, shape) = (key(x)?, x.shape(operand));
    let numbers = uniform(x, key, shape)?;
    let probability = x.cast(operand, DType::F64)?;
    let hit = x.binary(BinaryFn::Less, numbers, probability)?;
    Ok(vec![x.cast(hit, dtype)?])
}

/// Classes drawn by unnormalised log-probabilities: how many of the running sums of probabilities
/// a number is not below.
fn multinomial(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let [batch, classes] = &x.shape(operand)[..] else {
        let ty = x.ty(operand);
        return Err(Fault::malformed(format!("the operand must be a matrix, but is {ty}")));
    };
    let (batch, classes) = (batch.clone(), classes.clone());
    let samples = x.int_or("sample_size", 1)?;
    if samples < 0 {
        return Err(Fault::malformed(format!("sample_size is {samples}")));
    }
    let dtype = dtype(x, DType::I32)?;
    if !matches!(dtype, DType::I32 | DType::I64) {
        return Err(Fault::malformed(format!("results are int32 or int64, not {dtype}")));
    }
    let wide = x.cast(operand, DType::F64)?;
    let probabilities = x.add(op::Softmax { axis: 1 }, &[wide])?;
    let sums = op::Accumulate { f: op::ReduceFn::Sum, axis: 1, exclusive: false, reverse: false };
    let sums = x.add(sums, &[probabilities])?;
    let sums = x.reshape(sums, vec![batch.clone(), Dim::from(1i64), classes.clone()])?;
    let key = key(x)?;
    let numbers = uniform(x, key, vec![batch, Dim::from(samples), Dim::from(1i64)])?;
    let passed = x.binary(BinaryFn::GreaterEqual, numbers, sums)?;
    let passed = x.cast(passed, DType::I64)?;
    let class = x.reduce(ReduceFn::Sum, passed, vec![2], false)?;
    // The last sum may be rounded below 1.
    let last = x.add(op::SizeOf { dims: vec![classes - Dim::from(1i64)], scalar: true }, &[])?;
    let class = x.binary(BinaryFn::Min, class, last)?;
    Ok(vec![x.cast(class, dtype)?])
}
