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
use std::cmp::Ordering;

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
    // Bytes hold one or several numbers, all other types are numbers of their own.
    let packed = x.dtype(data) == DType::U8;
    let bits = if packed { bits } else { 8 };
    if block < 0 {
        return Err(Fault::malformed(format!("a block cannot have {block} numbers")));
    }
    for (v, what) in [(Some(scales), "scales"), (x.optional(3), "zero points")] {
        if let Some(v) = v.filter(|&v| x.rank(v) != rank) {
            let (data, v) = (x.ty(data), x.ty(v));
            return Err(Fault::malformed(format!("{what} {v} must have the rank of {data}")));
        }
    }
    if packed && bits < 8 && axis + 1 == rank {
        let help = "gather from another axis than the one that is packed into bytes";
        return Err(Fault::unsupported(format!("numbers of bytes along axis {axis}"), help));
    }
    let rows = rows_of(x, indices, &x.shape(data)[axis].clone())?;
    let row_of =
        |x: &mut Use<'_, '_, '_>, v: V, number: V| x.add(op::Gather { axis }, &[v, number]);
    // Where each row's scales are: one for all rows, one for each, or one for a block of rows.
    let apart = x.shape(scales)[axis].is(1);
    let number = if apart {
        x.with_number(BinaryFn::Mul, rows.number, 0.0)?
    } else if axis == along && block > 0 {
        x.with_number(BinaryFn::Div, rows.number, block as f64)?
    } else {
        rows.number
    };
    // Where the dimensions after the gathered one are now; none is left of the gathered one.
    let shape = x.shape(rows.number);
    let after = match along.cmp(&axis) {
        Ordering::Less => Some(along),
        Ordering::Equal => None,
        Ordering::Greater => Some(along - 1 + shape.len()),
    };
    let dtype = x.dtype(scales);
    let taken = row_of(x, data, rows.number)?;
    let width = x.shape(taken).last().cloned().unwrap_or_default() * Dim::from(8 / bits.max(1));
    let values = if packed { unpacked(x, taken, bits, &width)? } else { taken };
    let blocks = x.shape(scales).last().cloned().unwrap_or_default();
    let spread = |x: &mut Use<'_, '_, '_>, v: V| {
        let v = row_of(x, v, number)?;
        let v = x.cast(v, DType::F32)?;
        match after {
            Some(after) => repeated(x, v, after, block, &x.shape(values)[after].clone()),
            None => Ok(v),
        }
    };
    let zeros = match x.optional(3) {
        Some(zeros) if packed => {
            let zeros = unpacked(x, zeros, bits, &blocks)?;
            spread(x, zeros)?
        }
        Some(zeros) => spread(x, zeros)?,
        None => x.scalar(DType::F32, if packed { f64::from(1 << (bits - 1)) } else { 0.0 })?,
    };
    let wide = x.cast(values, DType::F32)?;
    let centred = x.binary(BinaryFn::Sub, wide, zeros)?;
    let scales = spread(x, scales)?;
    let result = x.binary(BinaryFn::Mul, centred, scales)?;
    let exists = x.along(rows.exists, axis, x.rank(result))?;
    let zero = x.scalar(DType::F32, 0.0)?;
    let result = x.select(exists, result, zero)?;
    Ok(vec![x.cast(result, dtype)?])
}

/// Rows that are asked for.
struct Rows {
    /// Which one, inside of the table.
    number: V,
    /// Whether the table has the one that was asked for.
    exists: V,
}

/// Rows of a table of this many; negative ones are counted from the end.
fn rows_of(x: &mut Use<'_, '_, '_>, indices: V, size: &Dim) -> Result<Rows, Fault> {
    let indices = x.cast(indices, DType::I64)?;
    let size = x.size(size, DType::I64)?;
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
    Ok(Rows { number: x.binary(BinaryFn::Min, inside, last)?, exists })
}
