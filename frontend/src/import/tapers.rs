//! Windows that frames of a signal are weighted with, and the filters of the mel scale.
//!
//! Invariant: everything is computed in double precision and rounded to the type of the result
//! once.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::read::element_type;
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};
use std::f64::consts::{LN_10, TAU};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("BlackmanWindow", 17, |x| window(x, &[0.42, -0.5, 0.08])),
    onnx("HammingWindow", 17, |x| window(x, &[25.0 / 46.0, -21.0 / 46.0])),
    onnx("HannWindow", 17, |x| window(x, &[0.5, -0.5])),
    onnx("MelWeightMatrix", 17, mel_weight_matrix),
];

/// The element type that `output_datatype` asks for.
fn asked_type(x: &Use<'_, '_, '_>) -> Result<DType, Fault> {
    let number = x.int_or("output_datatype", 1)?;
    let number = i32::try_from(number)
        .map_err(|_| Fault::malformed(format!("there is no element type {number}")))?;
    element_type(number).map_err(|error| Fault::malformed(error.to_string()))
}

/// A size that is given as a tensor of one element.
fn size(x: &mut Use<'_, '_, '_>, input: usize, what: &str) -> Result<Dim, Fault> {
    let v = x.input(input)?;
    match x.dims(v, what)?.as_slice() {
        [dim] if dim.as_const().is_none_or(|size| size >= 0) => Ok(dim.clone()),
        [dim] => Err(Fault::malformed(format!("{what} must not be negative, but is {dim}"))),
        _ => Err(Fault::malformed(format!("{what} must be one number, but is {}", x.ty(v)))),
    }
}

/// A sum of cosines of multiples of the angle that goes around once over the window.
fn window(x: &mut Use<'_, '_, '_>, coefficients: &[f64]) -> Results {
    let dtype = asked_type(x)?;
    let length = size(x, 0, "the size of the window")?;
    let periodic = x.flag("periodic", true)?;
    let span = if periodic { length.clone() } else { length.clone() - Dim::from(1i64) };
    let span = x.size(&span, DType::F64)?;
    let number = x.counter(&length, DType::F64, 0, 1)?;
    let turns = x.binary(BinaryFn::Div, number, span)?;
    let angle = x.with_number(BinaryFn::Mul, turns, TAU)?;
    let mut sum: Option<V> = None;
    for (multiple, &coefficient) in coefficients.iter().enumerate() {
        let angle = x.with_number(BinaryFn::Mul, angle, multiple as f64)?;
        let wave = x.unary(UnaryFn::Cos, angle)?;
        let part = x.with_number(BinaryFn::Mul, wave, coefficient)?;
        sum = Some(match sum {
            Some(before) => x.binary(BinaryFn::Add, before, part)?,
            None => part,
        });
    }
    let sum = sum.ok_or(Fault::Silent)?;
    Ok(vec![x.cast(sum, dtype)?])
}

/// Hertz as mel: 2595·log₁₀(1 + f/700).
fn mel(x: &mut Use<'_, '_, '_>, input: usize) -> Result<V, Fault> {
    let hertz = number(x, input)?;
    let share = x.with_number(BinaryFn::Div, hertz, 700.0)?;
    let above = x.with_number(BinaryFn::Add, share, 1.0)?;
    let log = x.unary(UnaryFn::Log, above)?;
    x.with_number(BinaryFn::Mul, log, 2595.0 / LN_10)
}

/// An operand of one element, in double precision.
fn number(x: &mut Use<'_, '_, '_>, input: usize) -> Result<V, Fault> {
    let v = x.input(input)?;
    let scalar = x.reshape(v, Vec::new())?;
    x.cast(scalar, DType::F64)
}

/// Triangles over the bins of a spectrum, which begin, peak and end at neighbouring multiples of
/// one step in mel.
fn mel_weight_matrix(x: &mut Use<'_, '_, '_>) -> Results {
    let dtype = asked_type(x)?;
    let bands = size(x, 0, "the number of mel bands")?;
    let length = size(x, 1, "the length of the transform")?;
    let bins = length.floor_div(&Dim::from(2i64)) + Dim::from(1i64);
    let (low, high) = (mel(x, 3)?, mel(x, 4)?);
    let edges = bands.clone() + Dim::from(2i64);
    let count = x.size(&edges, DType::F64)?;
    let range = x.binary(BinaryFn::Sub, high, low)?;
    let step = x.binary(BinaryFn::Div, range, count)?;
    let number_of_edge = x.counter(&edges, DType::F64, 0, 1)?;
    let above = x.binary(BinaryFn::Mul, number_of_edge, step)?;
    let mels = x.binary(BinaryFn::Add, above, low)?;
    let power = x.with_number(BinaryFn::Mul, mels, LN_10 / 2595.0)?;
    let power = x.unary(UnaryFn::Exp, power)?;
    let share = x.with_number(BinaryFn::Sub, power, 1.0)?;
    let hertz = x.with_number(BinaryFn::Mul, share, 700.0)?;
    let frames = x.size(&(length + Dim::from(1i64)), DType::F64)?;
    let scaled = x.binary(BinaryFn::Mul, hertz, frames)?;
    let rate = number(x, 2)?;
    let places = x.binary(BinaryFn::Div, scaled, rate)?;
    let places = x.unary(UnaryFn::Floor, places)?;
    let mut ends = Vec::with_capacity(3);
    for first in 0..3i64 {
        ends.push(x.part(places, 0, first, bands.clone())?);
    }
    let (left, peak, right) = (ends[0], ends[1], ends[2]);
    let bin = x.counter(&bins, DType::F64, 0, 2)?;
    let zero = x.scalar(DType::F64, 0.0)?;
    let one = x.scalar(DType::F64, 1.0)?;
    // Up to the peak, which is 1 even where nothing leads to it.
    let along = x.binary(BinaryFn::Sub, bin, left)?;
    let rise = x.binary(BinaryFn::Sub, peak, left)?;
    let risen = x.binary(BinaryFn::Div, along, rise)?;
    let begun = x.binary(BinaryFn::GreaterEqual, bin, left)?;
    let not_past = x.binary(BinaryFn::LessEqual, bin, peak)?;
    let rising = x.binary(BinaryFn::And, begun, not_past)?;
    let steep = x.with_number(BinaryFn::Equal, rise, 0.0)?;
    let risen = x.select(steep, one, risen)?;
    let up = x.select(rising, risen, zero)?;
    let left_over = x.binary(BinaryFn::Sub, right, bin)?;
    let fall = x.binary(BinaryFn::Sub, right, peak)?;
    let fallen = x.binary(BinaryFn::Div, left_over, fall)?;
    let past = x.binary(BinaryFn::GreaterEqual, bin, peak)?;
    let before_end = x.binary(BinaryFn::Less, bin, right)?;
    let falling = x.binary(BinaryFn::And, past, before_end)?;
    let weights = x.select(falling, fallen, up)?;
    Ok(vec![x.cast(weights, dtype)?])
}
