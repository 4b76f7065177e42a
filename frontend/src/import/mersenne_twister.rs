//! NumPy's `RandomState`: the numbers that ONNX's reference draws for a seed.
//!
//! Invariant: the generator's words are those of MT19937 as NumPy seeds it, for any count: each
//! iteration of a loop makes the next 624 of them.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::TensorType;
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::{DType, Dim, Tensor};

/// Words of the state.
const LENGTH: usize = 624;

/// How far the word lies ahead that each word is combined with.
const AHEAD: usize = 397;

const BEHIND: usize = LENGTH - AHEAD;

/// The state that a seed starts with: Knuth's linear congruential generator.
fn seeded(seed: u32) -> Vec<u32> {
    let next = |(word, place): &(u32, u32)| {
        let mixed = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30));
        Some((mixed.wrapping_add(place + 1), place + 1))
    };
    std::iter::successors(Some((seed, 0)), next).map(|(word, _)| word).take(LENGTH).collect()
}

fn word(x: &mut Use<'_, '_, '_>, value: u32) -> Result<V, Fault> {
    let tensor = Tensor::scalar(value).map_err(|error| Fault::malformed(error.to_string()))?;
    Ok(x.constant(tensor))
}

fn part(x: &mut Use<'_, '_, '_>, v: V, start: usize, length: usize) -> Result<V, Fault> {
    let (starts, sizes) = (vec![Dim::from(start)], vec![Dim::from(length)]);
    x.add(op::Slice { starts, sizes, steps: vec![1] }, &[v])
}

/// What the high bit of a word and the low bits of the next are combined with the word ahead by.
fn twisted(x: &mut Use<'_, '_, '_>, high: V, low: V) -> Result<V, Fault> {
    let (upper, lower) = (word(x, 0x8000_0000)?, word(x, 0x7fff_ffff)?);
    let (one, odd) = (word(x, 1)?, word(x, 0x9908_b0df)?);
    let high = x.binary(BinaryFn::BitAnd, high, upper)?;
    let low = x.binary(BinaryFn::BitAnd, low, lower)?;
    let y = x.binary(BinaryFn::BitOr, high, low)?;
    let (half, last) = (x.binary(BinaryFn::Shr, y, one)?, x.binary(BinaryFn::BitAnd, y, one)?);
    let matrix = x.binary(BinaryFn::Mul, last, odd)?;
    x.binary(BinaryFn::BitXor, half, matrix)
}

/// The state after the next `LENGTH` words: each part depends on parts before it.
fn advanced(x: &mut Use<'_, '_, '_>, state: V) -> Result<V, Fault> {
    let (from, to) = (part(x, state, 0, LENGTH - 1)?, part(x, state, 1, LENGTH - 1)?);
    let twists = twisted(x, from, to)?;
    let twist = |x: &mut Use<'_, '_, '_>, start, length| part(x, twists, start, length);
    let (ahead, by) = (part(x, state, AHEAD, BEHIND)?, twist(x, 0, BEHIND)?);
    let first = x.binary(BinaryFn::BitXor, ahead, by)?;
    let by = twist(x, BEHIND, BEHIND)?;
    let second = x.binary(BinaryFn::BitXor, first, by)?;
    let rest = LENGTH - 1 - 2 * BEHIND;
    let (ahead, by) = (part(x, second, 0, rest)?, twist(x, 2 * BEHIND, rest)?);
    let third = x.binary(BinaryFn::BitXor, ahead, by)?;
    // The last word is followed by the first of the new ones.
    let (high, low) = (part(x, state, LENGTH - 1, 1)?, part(x, first, 0, 1)?);
    let (ahead, by) = (part(x, second, rest, 1)?, twisted(x, high, low)?);
    let last = x.binary(BinaryFn::BitXor, ahead, by)?;
    x.add(op::Concat { axis: 0 }, &[first, second, third, last])
}

fn tempered(x: &mut Use<'_, '_, '_>, state: V) -> Result<V, Fault> {
    let steps = [
        (BinaryFn::Shr, 11, u32::MAX),
        (BinaryFn::Shl, 7, 0x9d2c_5680),
        (BinaryFn::Shl, 15, 0xefc6_0000),
        (BinaryFn::Shr, 18, u32::MAX),
    ];
    let mut y = state;
    for (shift, by, mask) in steps {
        let (by, mask) = (word(x, by)?, word(x, mask)?);
        let moved = x.binary(shift, y, by)?;
        let masked = x.binary(BinaryFn::BitAnd, moved, mask)?;
        y = x.binary(BinaryFn::BitXor, y, masked)?;
    }
    Ok(y)
}

/// Numbers of [0, 1) in f64 as `RandomState(seed).random_sample(shape)` gives them.
pub(super) fn uniform(x: &mut Use<'_, '_, '_>, seed: u32, shape: Vec<Dim>) -> Result<V, Fault> {
    let count: Dim = shape.iter().cloned().product();
    let words = count.clone() * Dim::from(2i64);
    let iterations = words.ceil_div(&Dim::from(LENGTH));
    let state = Tensor::from_slice(vec![LENGTH], &seeded(seed));
    let state = x.constant(state.map_err(|error| Fault::malformed(error.to_string()))?);
    let trip = x.add(op::SizeOf { dims: vec![iterations.clone()], scalar: true }, &[])?;
    let truth = x.scalar(DType::Bool, 1.0)?;
    x.importer.build.enter("twist");
    let made = body(x);
    let graph = x.importer.build.leave();
    made?;
    let twister = op::Loop { carried: 1, scan: 1, scan_length: iterations.clone() };
    let made = x.importer.build.add_node(twister, &[trip, truth, state], vec![graph])?;
    let [_, blocks] = made[..] else { return Err(Fault::Silent) };
    let flat = x.reshape(blocks, vec![iterations * Dim::from(LENGTH)])?;
    let (starts, sizes) = (vec![Dim::from(0i64)], vec![words]);
    let used = x.add(op::Slice { starts, sizes, steps: vec![1] }, &[flat])?;
    let pairs = x.reshape(used, vec![count, Dim::from(2i64)])?;
    // 27 bits of one word and 26 of the next.
    let mut halves = [(0i64, 5), (1, 6)].map(|half| (pairs, half));
    for (slot, (column, shift)) in &mut halves {
        let starts = vec![Dim::from(0i64), Dim::from(*column)];
        let sizes = vec![x.shape(pairs)[0].clone(), Dim::from(1i64)];
        let bits = x.add(op::Slice { starts, sizes, steps: vec![1, 1] }, &[pairs])?;
        let shift = word(x, *shift)?;
        let bits = x.binary(BinaryFn::Shr, bits, shift)?;
        *slot = x.cast(bits, DType::F64)?;
    }
    let high = x.with_number(BinaryFn::Mul, halves[0].0, 2f64.powi(26))?;
    let whole = x.binary(BinaryFn::Add, high, halves[1].0)?;
    let numbers = x.with_number(BinaryFn::Mul, whole, 0.5f64.powi(53))?;
    x.reshape(numbers, shape)
}

fn body(x: &mut Use<'_, '_, '_>) -> Result<(), Fault> {
    let ty = |dtype, shape: &[usize]| {
        TensorType::new(dtype, shape.iter().map(|&size| Dim::from(size)).collect())
    };
    x.importer.build.graph_input("iteration", ty(DType::I64, &[]))?;
    let again = x.importer.build.graph_input("condition", ty(DType::Bool, &[]))?;
    let state = x.importer.build.graph_input("state", ty(DType::U32, &[LENGTH]))?;
    let state = advanced(x, state)?;
    let words = tempered(x, state)?;
    for (v, name) in [(again, "again"), (state, "state"), (words, "words")] {
        x.importer.build.output(v, name)?;
    }
    Ok(())
}
