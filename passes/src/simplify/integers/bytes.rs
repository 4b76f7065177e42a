//! Products of integers of 8 bits as sums of products of bytes, one without sign and one with, which
//! some processors have an operation for.
//!
//! Invariant: the same integers, to the bit: `Σ(x − zx)(w − zw)` is `Σx·w − zx·Σw − zw·Σx + n·zx·zw`,
//! modulo 2³² in between, and fits 32 bits in the end.

use super::super::rebuild::Rebuild;
use super::constant;
use super::dequantised::Dequantised;
use crate::PassError;
use kiln_ir::kernel::BYTES_AT_ONCE;
use kiln_ir::op::{self, BinaryFn, ConvLayout, Op, PadMode, ReduceFn, WindowFn};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::{DType, Dim, Tensor};

/// Results of one product below which vectors would mostly be empty.
const LEAST_RESULTS: i64 = 16;

/// What is added to bytes with sign to have none, and taken from those without.
const HALF: i64 = 128;

/// A product of weights that are constant with what a model computes.
pub(super) struct Bytes {
    /// The weights as bytes with sign, and what their zero point is then.
    weights: Tensor,
    zero: i64,
    /// The zero point of the other operand, if it is known.
    operand_zero: Option<i64>,
    /// Products in one sum.
    terms: i64,
}

impl Bytes {
    /// Whether a product of operands of this type is one of bytes already.
    pub(super) fn is_written(graph: &Graph, dtype: DType, [x, w]: [&Dequantised; 2]) -> bool {
        let of = |operand: &Dequantised, dtype: DType| {
            operand.is_plain() && graph.ty(operand.integers).dtype == dtype
        };
        dtype == DType::I32 && of(x, DType::U8) && of(w, DType::I8)
    }

    /// The weights of a product of bytes, if it is one and processors take its terms together.
    pub(super) fn of(
        graph: &Graph,
        node: &Node,
        [x, w]: [&Dequantised; 2],
        terms: i64,
    ) -> Option<Self> {
        let is_byte = |dtype: DType| matches!(dtype, DType::U8 | DType::I8);
        let (x_type, w_type) = (graph.ty(x.integers).dtype, graph.ty(w.integers).dtype);
        let fits = terms.checked_mul(255 * HALF).is_some_and(|most| most <= i32::MAX.into());
        if !is_byte(x_type) || !is_byte(w_type) || !x.one_zero || !fits || !suits(graph, node) {
            return None;
        }
        let tensor = graph.constant_of(w.integers)?;
        let value = |byte: u8| match w_type {
            DType::I8 => i64::from(byte as i8),
            _ => i64::from(byte),
        };
        let zeros = w.known_zeros(graph)?;
        let (&least, &most) = (zeros.iter().min()?, zeros.iter().max()?);
        let bytes = tensor.bytes().iter().map(|&byte| value(byte));
        let (low, high) = bytes.fold((0, 0), |(low, high), byte| (byte.min(low), byte.max(high)));
        let signed = |value: i64| i8::try_from(value).is_ok();
        let (shift, zero) = match () {
            _ if least == most && signed(low - least) && signed(high - least) => (least, 0),
            _ if least != most => return None,
            _ if w_type == DType::U8 => (HALF, least - HALF),
            _ => (0, least),
        };
        let bytes: Vec<i8> =
            tensor.bytes().iter().map(|&byte| (value(byte) - shift) as i8).collect();
        let weights = Tensor::from_slice(tensor.sizes().to_vec(), &bytes).ok()?;
        let operand_zero = x.known_zeros(graph).and_then(|zeros| zeros.first().copied());
        Some(Bytes { weights, zero, operand_zero, terms })
    }

    /// The sums, in i32.
    pub(super) fn write(
        &self,
        rebuild: &mut Rebuild,
        node: &Node,
        [x, w]: [&Dequantised; 2],
    ) -> Result<ValueId, PassError> {
        let mut bytes = x.integers(rebuild, node)?;
        let signed = rebuild.new.ty(bytes).dtype == DType::I8;
        if signed {
            let half = number(rebuild, HALF, node)?;
            let wide = rebuild.add1(op::Cast { to: DType::I32 }, &[bytes], node)?;
            let shifted = rebuild.add1(op::Binary { f: BinaryFn::Add }, &[wide, half], node)?;
            bytes = rebuild.add1(op::Cast { to: DType::U8 }, &[shifted], node)?;
        }
        let shift = if signed { HALF } else { 0 };
        let zero = match (self.operand_zero, x.zero_point(rebuild, node)?) {
            (Some(known), _) if known + shift == 0 => None,
            (Some(known), _) => Some(number(rebuild, known + shift, node)?),
            (None, Some(zero)) if signed => {
                let half = number(rebuild, HALF, node)?;
                Some(rebuild.add1(op::Binary { f: BinaryFn::Add }, &[zero, half], node)?)
            }
            (None, zero) => zero,
        };
        let mut op = node.op.clone();
        if let (Op::Conv(conv), Some(zero)) = (&mut op, zero) {
            bytes = padded(rebuild, conv, bytes, zero, node)?;
        }
        let weights = constant(rebuild, Ok(self.weights.clone()), node)?;
        let weights = w.moved(rebuild, weights, node)?;
        let wide = |rebuild: &mut Rebuild, value| {
            rebuild.add1(op::Cast { to: DType::I32 }, &[value], node)
        };
        let (x, w) = (wide(rebuild, bytes)?, wide(rebuild, weights)?);
        let mut result = rebuild.add1(op.clone(), &[x, w], node)?;
        if let Some(zero) = zero {
            let sums = self.sums_of_weights(rebuild, &op, weights, node)?;
            let product = rebuild.add1(op::Binary { f: BinaryFn::Mul }, &[sums, zero], node)?;
            result = rebuild.add1(op::Binary { f: BinaryFn::Sub }, &[result, product], node)?;
        }
        if self.zero != 0 {
            // Converted once more, so that either reads the bytes.
            let x = wide(rebuild, bytes)?;
            let sums = sums_of_operand(rebuild, &op, x, w, node)?;
            let zero = number(rebuild, self.zero, node)?;
            let product = rebuild.add1(op::Binary { f: BinaryFn::Mul }, &[sums, zero], node)?;
            result = rebuild.add1(op::Binary { f: BinaryFn::Sub }, &[result, product], node)?;
        }
        Ok(result)
    }

    /// For each filter or column, `Σw − n·zw`, along its axis of the result.
    fn sums_of_weights(
        &self,
        rebuild: &mut Rebuild,
        op: &Op,
        weights: ValueId,
        node: &Node,
    ) -> Result<ValueId, PassError> {
        let rank = rebuild.new.ty(weights).rank();
        let (own, trailing) = match op {
            Op::Contract(contract) => {
                let column = contract.spec.rhs.iter().position(|l| contract.spec.out.contains(l));
                (column.unwrap_or(0), 0)
            }
            _ => (0, rank - 2),
        };
        let mut sums = match rebuild.new.constant_of(weights) {
            Some(tensor) => {
                let (sizes, sums) = sums_along(tensor, own);
                constant(rebuild, Tensor::from_slice(sizes, &sums), node)?
            }
            None => {
                let axes = (0..rank).filter(|&axis| axis != own).collect();
                let wide = rebuild.add1(op::Cast { to: DType::I32 }, &[weights], node)?;
                let sum = op::Reduce { f: ReduceFn::Sum, axes, keep: false };
                rebuild.add1(sum, &[wide], node)?
            }
        };
        if trailing > 0 {
            let mut shape = rebuild.new.ty(sums).shape.clone();
            shape.extend((0..trailing).map(|_| Dim::from(1i64)));
            sums = rebuild.add1(op::Reshape { shape }, &[sums], node)?;
        }
        if self.zero == 0 {
            return Ok(sums);
        }
        let constant = number(rebuild, self.terms * self.zero, node)?;
        rebuild.add1(op::Binary { f: BinaryFn::Sub }, &[sums, constant], node)
    }
}

/// Sums of bytes with sign over all other axes, which are known to fit.
fn sums_along(tensor: &Tensor, axis: usize) -> (Vec<usize>, Vec<i32>) {
    let sizes = tensor.sizes();
    let count = sizes.get(axis).copied().unwrap_or(1);
    let row: usize = sizes.iter().skip(axis + 1).product();
    let mut sums = vec![0i32; count];
    for (place, bytes) in tensor.bytes().chunks(row.max(1)).enumerate() {
        let sum: i32 = bytes.iter().map(|&byte| i32::from(byte as i8)).sum();
        sums[place % count] += sum;
    }
    (vec![count], sums)
}

/// Whether a product sums bytes that lie side by side, as many as are taken together, for enough results.
fn suits(graph: &Graph, node: &Node) -> bool {
    let &[x, w] = node.inputs.as_slice() else { return false };
    let (x, w) = (&graph.ty(x).shape, &graph.ty(w).shape);
    let grouped = |dim: &Dim| dim.modulo(&Dim::from(BYTES_AT_ONCE as usize)).is(0);
    let enough = |dim: &Dim| dim.as_const().is_some_and(|count| count >= LEAST_RESULTS);
    match &node.op {
        Op::Conv(conv) => {
            let crops = conv.before.iter().chain(&conv.after).any(|&amount| amount < 0);
            let whole = conv.groups == 1 && conv.layout == ConvLayout::ChannelsFirst && !crops;
            whole && grouped(&w[1]) && enough(&w[0])
        }
        Op::Contract(contract) => {
            let spec = &contract.spec;
            let (&[summed], Some((last, rows))) = (&spec.summed()[..], spec.lhs.split_last())
            else {
                return false;
            };
            let column = spec.rhs.iter().position(|&label| label != summed);
            let (Some(column), 2) = (column, spec.rhs.len()) else { return false };
            let result = [rows, &spec.rhs[column..=column]].concat();
            let sums = *last == summed && spec.out == result;
            sums && x.last().is_some_and(grouped) && enough(&w[column])
        }
        _ => false,
    }
}

/// The operand with its zero point around it, where the convolution would have added zeros.
fn padded(
    rebuild: &mut Rebuild,
    conv: &mut op::Conv,
    bytes: ValueId,
    zero: ValueId,
    node: &Node,
) -> Result<ValueId, PassError> {
    if conv.before.iter().chain(&conv.after).all(|&amount| amount == 0) {
        return Ok(bytes);
    }
    let amounts = |amounts: &mut Vec<i64>| -> Vec<Dim> {
        let all = [0, 0].iter().chain(amounts.iter()).map(|&amount| Dim::from(amount)).collect();
        amounts.fill(0);
        all
    };
    let (before, after) = (amounts(&mut conv.before), amounts(&mut conv.after));
    let value = rebuild.add1(op::Cast { to: DType::U8 }, &[zero], node)?;
    rebuild.add1(op::Pad { before, after, mode: PadMode::Constant }, &[bytes, value], node)
}

/// For each row or place, `Σx`, which stretches to the result.
fn sums_of_operand(
    rebuild: &mut Rebuild,
    op: &Op,
    x: ValueId,
    w: ValueId,
    node: &Node,
) -> Result<ValueId, PassError> {
    let rank = rebuild.new.ty(x).rank();
    let channels = if matches!(op, Op::Conv(_)) { 1 } else { rank - 1 };
    let sum = op::Reduce { f: ReduceFn::Sum, axes: vec![channels], keep: true };
    let sums = rebuild.add1(sum, &[x], node)?;
    let Op::Conv(conv) = op else { return Ok(sums) };
    let ones = |more: &[usize]| [&[1, 1], more].concat();
    let sizes = rebuild.new.ty(w).static_sizes().unwrap_or_default();
    let window = ones(sizes.get(2..).unwrap_or_default());
    // What a zero point of 0 leaves to the convolution: zeros, which add nothing here either.
    let around = |amounts: &[i64]| [&[0, 0], amounts].concat();
    let (before, after) = (around(&conv.before), around(&conv.after));
    let none = before.iter().chain(&after).all(|&amount| amount == 0);
    if none && window.iter().chain(&conv.strides).all(|&length| length == 1) {
        return Ok(sums);
    }
    let sum = op::WindowReduce {
        f: WindowFn::Sum,
        window,
        strides: ones(&conv.strides),
        dilations: ones(&conv.dilations),
        before,
        after,
    };
    rebuild.add1(sum, &[sums], node)
}

/// A number in i32.
fn number(rebuild: &mut Rebuild, value: i64, node: &Node) -> Result<ValueId, PassError> {
    constant(rebuild, Tensor::from_f64(DType::I32, Vec::new(), &[value as f64]), node)
}
