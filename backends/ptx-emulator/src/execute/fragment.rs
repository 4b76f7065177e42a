//! Fragments: which element of a matrix is in which register of which lane (PTX ISA, Matrix Fragments for mma), and
//! the instructions that load and store them.
//!
//! Invariant: a layout is a function from lane and element to row and column, and no instruction knows it otherwise.

use super::Machine;
use super::address::Target;
use super::warp::Warp;
use crate::fault::{FaultKind, Outcome, Space, trouble};
use crate::instruction::{Element, Place, Source, Window};
use crate::lanes::{Lanes, WIDTH};
use std::collections::HashMap;
use std::rc::Rc;

/// Elements in one register.
pub(crate) fn per_register(bits: u32) -> usize {
    (32 / bits.min(32)) as usize
}

/// Row and column of A that element `index` of a lane is: registers are taken in turn from rows 0–7 and 8–15, and from
/// the left and the right half of the columns.
pub(crate) fn place_a(bits: u32, rows: usize, lane: usize, index: usize) -> (usize, usize) {
    let each = per_register(bits);
    let (register, within) = (index / each, index % each);
    let (group, thread) = (lane / 4, lane % 4);
    let down = if rows == 8 { 0 } else { register % 2 };
    let right = if rows == 8 { register } else { register / 2 };
    (group + 8 * down, thread * each + within + right * each * 4)
}

/// Row and column of B, which has 8 columns.
pub(crate) fn place_b(bits: u32, lane: usize, index: usize) -> (usize, usize) {
    let each = per_register(bits);
    let (register, within) = (index / each, index % each);
    ((lane % 4) * each + within + register * each * 4, lane / 4)
}

/// Row and column of an accumulator, element by element: pairs of columns, then eight rows down, then the next eight
/// columns.
pub(crate) fn place_c(rows: usize, lane: usize, index: usize) -> (usize, usize) {
    let (pair, within) = (index / 2, index % 2);
    let down = if rows == 8 { 0 } else { pair % 2 };
    let block = if rows == 8 { pair } else { pair / 2 };
    (lane / 4 + 8 * down, (lane % 4) * 2 + within + 8 * block)
}

/// The value of an element.
pub(crate) fn element_value(element: Element, bits: u64) -> f64 {
    match element {
        Element::Float(format) => format.decode(bits),
        Element::Double => f64::from_bits(bits),
        Element::Signed8 => f64::from(bits as u8 as i8),
        Element::Unsigned8 => f64::from(bits as u8),
    }
}

/// The bits of element `index` of a lane.
pub(crate) fn element_bits(registers: &[Lanes], bits: u32, lane: usize, index: usize) -> u64 {
    let each = per_register(bits);
    let register = registers[index / each][lane];
    if bits >= 32 {
        register
    } else {
        register >> ((index % each) as u32 * bits) & ((1 << bits) - 1)
    }
}

/// Which part of a product a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    A,
    B,
    C,
}

/// Offsets in a row-major matrix of all elements of a fragment: those of lane 0, of lane 1, and so on.
pub(crate) type Offsets = Rc<[u32]>;

/// Offsets that were worked out, by part, bits of an element, rows of A, elements a lane, and columns.
pub(crate) type Layouts = HashMap<(Part, u32, usize, usize, usize), Offsets>;

/// Spreads a fragment over its matrix.
pub(crate) fn gather(registers: &[Lanes], element: Element, offsets: &[u32], out: &mut [f64]) {
    let bits = element.bits();
    let each = per_register(bits);
    let count = registers.len() * each;
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    for (r, lanes) in registers.iter().enumerate() {
        for (lane, value) in lanes.iter().enumerate() {
            let first = lane * count + r * each;
            for (i, offset) in offsets[first..first + each].iter().enumerate() {
                out[*offset as usize] = element_value(element, value >> (i as u32 * bits) & mask);
            }
        }
    }
}

impl Machine<'_> {
    /// The layout of a fragment.
    pub fn layout(
        &mut self,
        part: Part,
        bits: u32,
        rows: usize,
        count: usize,
        columns: usize,
    ) -> Offsets {
        let make = || {
            (0..WIDTH * count)
                .map(|i| {
                    let (lane, index) = (i / count, i % count);
                    let (row, column) = match part {
                        Part::A => place_a(bits, rows, lane, index),
                        Part::B => place_b(bits, lane, index),
                        Part::C => place_c(rows, lane, index),
                    };
                    (row * columns + column) as u32
                })
                .collect()
        };
        self.tally.layouts.entry((part, bits, rows, count, columns)).or_insert_with(make).clone()
    }

    /// Where the rows of 8×8 matrices are: lane `8·i + r` tells row `r` of matrix `i`.
    fn rows(
        &mut self,
        warp: &Warp,
        count: usize,
        place: Place,
        window: Window,
    ) -> Outcome<Vec<Target>> {
        let used = if count == 4 { u32::MAX } else { (1 << (8 * count)) - 1 };
        let addresses = self.addresses(warp, place, used)?;
        let mut rows = Vec::with_capacity(8 * count);
        for (lane, address) in addresses.iter().enumerate().take(8 * count) {
            let target = self.resolve(warp, lane, window, *address)?;
            let Target::Shared(_, address) = target else {
                let message = String::from("rows of a matrix that are not in shared memory");
                return trouble(lane, FaultKind::Operand(message));
            };
            if address % 16 != 0 {
                return trouble(
                    lane,
                    FaultKind::Misaligned { space: Space::Shared, address, bytes: 16 },
                );
            }
            rows.push(target);
        }
        for matrix in rows.chunks(8) {
            let mut words = [0u64; 32];
            for (i, row) in matrix.iter().enumerate() {
                if let Target::Shared(_, address) = row {
                    (0..4).for_each(|w| words[4 * i + w] = address / 4 + w as u64);
                }
            }
            self.count_words(&mut words);
        }
        Ok(rows)
    }

    /// `ldmatrix`. Each row is read by the lane that gave its address.
    pub fn load_matrix(
        &mut self,
        warp: &mut Warp,
        targets: &[u32],
        place: Place,
        window: Window,
        transpose: bool,
    ) -> Outcome<()> {
        let rows = self.rows(warp, targets.len(), place, window)?;
        for (i, register) in targets.iter().enumerate() {
            let mut matrix = [[0u16; 8]; 8];
            for (r, row) in matrix.iter_mut().enumerate() {
                let lane = 8 * i + r;
                let mut bytes = [0u8; 16];
                self.read_bytes(warp, lane, rows[lane], false, &mut bytes)?;
                for (c, element) in row.iter_mut().enumerate() {
                    *element = u16::from_le_bytes([bytes[2 * c], bytes[2 * c + 1]]);
                }
            }
            let mut out = [0; WIDTH];
            for (lane, value) in out.iter_mut().enumerate() {
                let (r, c) = (lane / 4, 2 * (lane % 4));
                let pair = if transpose {
                    [matrix[c][r], matrix[c + 1][r]]
                } else {
                    [matrix[r][c], matrix[r][c + 1]]
                };
                *value = u64::from(pair[0]) | u64::from(pair[1]) << 16;
            }
            self.write(warp, *register, u32::MAX, &out)?;
        }
        Ok(())
    }

    /// `stmatrix`.
    pub fn store_matrix(
        &mut self,
        warp: &mut Warp,
        values: &[Source],
        place: Place,
        window: Window,
        transpose: bool,
    ) -> Outcome<()> {
        let rows = self.rows(warp, values.len(), place, window)?;
        for (i, source) in values.iter().enumerate() {
            let registers = self.fetch(warp, *source, u32::MAX)?;
            let mut matrix = [[0u16; 8]; 8];
            for (lane, value) in registers.iter().enumerate() {
                let (r, c) = (lane / 4, 2 * (lane % 4));
                for k in 0..2 {
                    let element = (value >> (16 * k)) as u16;
                    if transpose {
                        matrix[c + k][r] = element;
                    } else {
                        matrix[r][c + k] = element;
                    }
                }
            }
            for (r, row) in matrix.iter().enumerate() {
                let lane = 8 * i + r;
                let mut bytes = [0u8; 16];
                for (c, element) in row.iter().enumerate() {
                    bytes[2 * c..2 * c + 2].copy_from_slice(&element.to_le_bytes());
                }
                self.write_bytes(warp, lane, rows[lane], false, &bytes)?;
            }
        }
        Ok(())
    }
}
