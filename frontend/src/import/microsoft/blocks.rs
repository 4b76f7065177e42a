//! Weights quantised by blocks of a row, several to a byte: products with them, and rows of them.
//!
//! Invariant: the lowest bits of a byte come first, and each row starts a byte of its own.

use super::super::contraction::contract;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::Results;
use crate::import::attention::part;
use crate::import::build::V;
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::{DType, Dim, Tensor};

pub(super) const OPERATORS: &[Entry] = &[
    microsoft("GatherBlockQuantized", gather_block_quantized),
    microsoft("MatMulNBits", matmul_n_bits),
];

/// Numbers of `bits` bits out of the bytes of the last dimension, `count` of them.
pub(super) fn unpacked(x: &mut Use<'_, '_, '_>, v: V, bits: i64, count: &Dim) -> Result<V, Fault> {
    if !matches!(bits, 2 | 4 | 8) {
        let help = "quantise to 2, 4 or 8 bits";
        return Err(Fault::unsupported(format!("numbers of {bits} bits"), help));
    }
    let mut shape = x.shape(v);
    let Some(bytes) = shape.pop() else {
        return Err(Fault::malformed("packed numbers have at least one dimension"));
    };
    let mut numbers = v;
    let each = 8 / bits;
    if each > 1 {
        let apart = [shape.clone(), vec![bytes.clone(), Dim::from(1i64)]].concat();
        let apart = x.reshape(v, apart)?;
        let shifts: Vec<u8> = (0..each).map(|number| (number * bits) as u8).collect();
        let shifts = Tensor::from_slice(vec![shifts.len()], &shifts)
            .map_err(|error| Fault::malformed(error.to_string()))?;
        let shifts = x.constant(shifts);
        let shifted = x.binary(BinaryFn::Shr, apart, shifts)?;
        let mask = x.scalar(DType::U8, ((1 << bits) - 1) as f64)?;
        numbers = x.binary(BinaryFn::BitAnd, shifted, mask)?;
    }
    let all = bytes * Dim::from(each);
    let longer = all != *count;
    numbers = x.reshape(numbers, [shape, vec![all]].concat())?;
    if longer { part(x, numbers, Dim::from(0i64), count.clone(), 1) } else { Ok(numbers) }
}

/// Each number of a dimension `block` times, `size` in all.
pub(super) fn repeated(
    x: &mut Use<'_, '_, '_>,
    v: V,
    axis: usize,
    block: i64,
    size: &Dim,
) -> Result<V, Fault> {
    let mut shape = x.shape(v);
    let blocks = shape[axis].clone();
    if *size == blocks || blocks.is(1) {
        return Ok(v);
    }
    shape.insert(axis + 1, Dim::from(1i64));
    let apart = x.reshape(v, shape.clone())?;
    shape[axis + 1] = Dim::from(block);
    let each = x.broadcast(apart, shape.clone())?;
    shape.remove(axis + 1);
    shape[axis] = blocks * Dim::from(block);
    let whole = x.reshape(each, shape.clone())?;
    if shape[axis] == *size {
        return Ok(whole);
    }
    let starts = vec![Dim::from(0i64); shape.len()];
    shape[axis] = size.clone();
    let steps = vec![1; shape.len()];
    x.add(op::Slice { starts, sizes: shape, steps }, &[whole])
}

fn positive(x: &Use<'_, '_, '_>, name: &str) -> Result<i64, Fault> {
    match x.int(name)? {
        Some(value) if value > 0 => Ok(value),
        _ => Err(Fault::malformed(format!("attribute `{name}` must be at least 1"))),
    }
}

/// `A, B [N, blocks, bytes], scales[, zero points][, groups][, bias]`: `A·Bᵀ`, computed in f32.
fn matmul_n_bits(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, packed, scales) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let (depth, columns) = (positive(x, "K")?, positive(x, "N")?);
    let (bits, block) = (x.int_or("bits", 4)?, positive(x, "block_size")?);
    if x.int_or("weight_prepacked", 0)? != 0 {
        let help = "export the model with weight_prepacked 0";
        return Err(Fault::unsupported("weights packed for another processor", help));
    }
    let dtype = x.dtype(a);
    let blocks = Dim::from(depth.div_euclid(block) + i64::from(depth % block != 0));
    let (rows, depth) = (Dim::from(columns), Dim::from(depth));
    let padded = blocks.clone() * Dim::from(block);
    let width = x.shape(packed).last().cloned().unwrap_or_default();
    let bytes = x.reshape(packed, vec![rows.clone(), blocks.clone() * width])?;
    let weights = unpacked(x, bytes, bits, &padded)?;
    let weights = part(x, weights, Dim::from(0i64), depth.clone(), 1)?;
    let each = vec![rows.clone(), blocks.clone()];
    let scales = x.reshape(scales, each.clone())?;
    let scales = x.cast(scales, DType::F32)?;
    let zeros = match x.optional(3) {
        None => x.scalar(DType::F32, f64::from(1 << (bits - 1)))?,
        Some(zeros) if x.dtype(zeros) == DType::U8 => {
            let bytes = (blocks.clone() * Dim::from(bits)).ceil_div(&Dim::from(8i64));
            let zeros = x.reshape(zeros, vec![rows.clone(), bytes])?;
            let zeros = unpacked(x, zeros, bits, &blocks)?;
            x.cast(zeros, DType::F32)?
        }
        Some(zeros) => {
            let zeros = x.reshape(zeros, each)?;
            x.cast(zeros, DType::F32)?
        }
    };
    // Which block each number belongs to: its place, unless the model says.
    let groups = x.optional(4);
    let spread = |x: &mut Use<'_, '_, '_>, v: V| match groups {
        _ if x.rank(v) == 0 => Ok(v),
        Some(groups) => {
            let groups = part(x, groups, Dim::from(0i64), depth.clone(), 1)?;
            x.add(op::Gather { axis: 1 }, &[v, groups])
        }
        None if blocks.is(1) => Ok(v),
        None => repeated(x, v, 1, block, &depth),
    };
    let (scales, zeros) = (spread(x, scales)?, spread(x, zeros)?);
    let numbers = x.cast(weights, DType::F32)?;
    let centred = x.binary(BinaryFn::Sub, numbers, zeros)?;
    let weights = x.binary(BinaryFn::Mul, centred, scales)?;
    let wide = x.cast(a, DType::F32)?;
    let mut result = times_rows(x, wide, weights)?;
    if let Some(bias) = x.optional(5) {
        let bias = x.cast(bias, DType::F32)?;
        result = x.binary(BinaryFn::Add, result, bias)?;
    }
    Ok(vec![x.cast(result, dtype)?])
}

/// `[…, k]·[n, k]ᵀ`.
pub(super) fn times_rows(x: &mut Use<'_, '_, '_>, a: V, b: V) -> Result<V, Fault> {
    let outer: Vec<u8> = (b'a'..=b'j').take(x.rank(a).saturating_sub(1)).collect();
    let spec = op::ContractSpec {
        lhs: [outer.as_slice(), b"k"].concat(),
        rhs: b"nk".to_vec(),
        out: [outer.as_slice(), b"n"].concat(),
    };
    contract(x, a, b, spec)
}

/// Rows of a quantised table, as numbers; an index that the table does not have gives zeros.
fn gather_block_quantized(x: &mut Use<'_, '_, '_>) -> Results {
    let (data, indices, scales) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let rank = x.rank(data);
    let axis = x.axis(x.int_or("gather_axis", 0)?, rank)?;
    let along = x.axis(x.int_or("quantize_axis", 1)?, rank)?;
    let (bits, block) = (x.int_or("bits", 4)?, x.int_or("block_size", 128)?);
    let bytes = x.dtype(data) == DType::U8;
    let bits = if bytes { bits } else { 8 };
    if block < 1 {
        return Err(Fault::unsupported("one block for a whole dimension", "give a block_size"));
    }
    if axis == along || bytes && bits < 8 && axis + 1 == rank {
        let help = "quantise along another axis than is gathered from";
        return Err(Fault::unsupported(
            format!("rows that lie across blocks of axis {axis}"),
            help,
        ));
    }
    let indices = x.cast(indices, DType::I64)?;
    let size = x.shape(data)[axis].clone();
    let size = x.add(op::SizeOf { dims: vec![size], scalar: true }, &[])?;
    let negative = x.with_number(BinaryFn::Less, indices, 0.0)?;
    let from_end = x.binary(BinaryFn::Add, indices, size)?;
    let place = x.select(negative, from_end, indices)?;
    let (not_before, before_end) = (
        x.with_number(BinaryFn::GreaterEqual, place, 0.0)?,
        x.binary(BinaryFn::Less, place, size)?,
    );
    let exists = x.binary(BinaryFn::And, not_before, before_end)?;
    let last = x.with_number(BinaryFn::Sub, size, 1.0)?;
    let inside = x.with_number(BinaryFn::Max, place, 0.0)?;
    let inside = x.binary(BinaryFn::Min, inside, last)?;
    let rows = |x: &mut Use<'_, '_, '_>, v: V| x.add(op::Gather { axis }, &[v, inside]);
    // Where the dimensions after the gathered one are now.
    let shift = x.rank(indices).max(1) - 1;
    let deep = x.rank(indices) == 0;
    let along = if along < axis {
        along
    } else if deep {
        along - 1
    } else {
        along + shift
    };
    let dtype = x.dtype(scales);
    let taken = rows(x, data)?;
    let width = x.shape(taken).last().cloned().unwrap_or_default() * Dim::from(8 / bits.max(1));
    let values = if bytes { unpacked(x, taken, bits, &width)? } else { taken };
    let scales = rows(x, scales)?;
    let blocks = x.shape(scales).last().cloned().unwrap_or_default();
    let zeros = match x.optional(3) {
        Some(zeros) => {
            let zeros = rows(x, zeros)?;
            if bytes { Some(unpacked(x, zeros, bits, &blocks)?) } else { Some(zeros) }
        }
        None => None,
    };
    let size = x.shape(values)[along].clone();
    let wide = x.cast(values, DType::F32)?;
    let zeros = match zeros {
        Some(zeros) => {
            let zeros = x.cast(zeros, DType::F32)?;
            repeated(x, zeros, along, block, &size)?
        }
        None => x.scalar(DType::F32, if bytes { f64::from(1 << (bits - 1)) } else { 0.0 })?,
    };
    let centred = x.binary(BinaryFn::Sub, wide, zeros)?;
    let scales = x.cast(scales, DType::F32)?;
    let scales = repeated(x, scales, along, block, &size)?;
    let result = x.binary(BinaryFn::Mul, centred, scales)?;
    let mut shape = vec![Dim::from(1i64); axis];
    shape.extend(x.shape(exists));
    shape.resize(x.rank(result), Dim::from(1i64));
    let exists = x.reshape(exists, shape)?;
    let zero = x.scalar(DType::F32, 0.0)?;
    let result = x.select(exists, result, zero)?;
    Ok(vec![x.cast(result, dtype)?])
}
