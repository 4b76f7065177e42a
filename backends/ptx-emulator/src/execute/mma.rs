//! `mma.sync`: a product of small matrices whose elements are spread over a warp (PTX ISA, mma).
//!
//! Invariant: products are exact, sums are of `f64`, and each result is rounded once; hardware rounds in between (and
//! cuts bits off), so a test that compares with it needs a bound. Integers are exact, and wrap unless `.satfinite`.

use super::Machine;
use super::fragment::{Part, element_bits, gather};
use super::warp::Warp;
use crate::fault::Outcome;
use crate::instruction::{Accumulator, Mma, Source};
use crate::lanes::{Lanes, WIDTH};
use crate::number::{CANONICAL_NAN, F16, Rounding};

/// The value of accumulator `index` of a lane.
pub(crate) fn accumulator_value(
    kind: Accumulator,
    registers: &[Lanes],
    lane: usize,
    index: usize,
) -> f64 {
    match kind {
        Accumulator::Half => F16.decode(element_bits(registers, 16, lane, index)),
        Accumulator::Single => f64::from(f32::from_bits(registers[index][lane] as u32)),
        Accumulator::Double => f64::from_bits(registers[index][lane]),
        Accumulator::Integer { .. } => f64::from(registers[index][lane] as u32 as i32),
    }
}

/// Puts a sum into accumulator `index` of a lane.
pub(crate) fn put_accumulator(
    kind: Accumulator,
    registers: &mut [Lanes],
    lane: usize,
    index: usize,
    sum: f64,
) {
    match kind {
        Accumulator::Half => {
            let bits = F16.encode(sum, Rounding::Nearest, false);
            let (register, shift) = (&mut registers[index / 2][lane], 16 * (index % 2) as u32);
            *register = *register & !(0xffff << shift) | bits << shift;
        }
        Accumulator::Single => {
            let rounded = sum as f32;
            let bits = if rounded.is_nan() { CANONICAL_NAN } else { rounded.to_bits() };
            registers[index][lane] = u64::from(bits);
        }
        Accumulator::Double => registers[index][lane] = sum.to_bits(),
        // Sums of at most 2⁵ products of bytes and an integer of 32 bits are exact in f64.
        Accumulator::Integer { saturate: true } => {
            registers[index][lane] =
                u64::from((sum as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32);
        }
        Accumulator::Integer { saturate: false } => {
            registers[index][lane] = u64::from(sum as i64 as u32)
        }
    }
}

/// A product of matrices whose rows are contiguous.
pub(crate) fn product(a: &[f64], b: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut out = vec![0.0; a.len() / k * n];
    for (row, sums) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
        for (x, line) in row.iter().zip(b.chunks_exact(n)) {
            sums.iter_mut().zip(line).for_each(|(sum, y)| *sum += x * y);
        }
    }
    out
}

impl Machine<'_> {
    /// Values of several registers, in all lanes.
    pub fn fetch_all(&self, warp: &Warp, sources: &[Source]) -> Outcome<Vec<Lanes>> {
        sources.iter().map(|source| self.fetch(warp, *source, u32::MAX)).collect()
    }

    /// `mma.sync`.
    pub fn mma(&mut self, warp: &mut Warp, mma: &Mma) -> Outcome<()> {
        let (a, b, c) = (
            self.fetch_all(warp, &mma.a)?,
            self.fetch_all(warp, &mma.b)?,
            self.fetch_all(warp, &mma.c)?,
        );
        let (m, n, k) = (mma.m, mma.n, mma.k);
        let mut rows = vec![0.0; m * k];
        let mut columns = vec![0.0; k * n];
        let at = self.layout(Part::A, mma.a_element.bits(), m, m * k / WIDTH, k);
        gather(&a, mma.a_element, &at, &mut rows);
        let at = self.layout(Part::B, mma.b_element.bits(), m, k * n / WIDTH, n);
        gather(&b, mma.b_element, &at, &mut columns);
        let products = product(&rows, &columns, n, k);
        let mut out = vec![[0; WIDTH]; mma.d.len()];
        let count = m * n / WIDTH;
        let at = self.layout(Part::C, 0, m, count, n);
        for (i, offset) in at.iter().enumerate() {
            let (lane, index) = (i / count, i % count);
            let start = accumulator_value(mma.accumulator, &c, lane, index);
            let sum = products[*offset as usize] + start;
            put_accumulator(mma.accumulator, &mut out, lane, index, sum);
        }
        for (register, values) in mma.d.iter().zip(&out) {
            self.write(warp, *register, u32::MAX, values)?;
        }
        self.tally.counters.matrix_flops += 2 * (m * n * k) as u64;
        Ok(())
    }
}
