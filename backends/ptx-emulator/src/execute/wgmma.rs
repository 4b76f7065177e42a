//! `wgmma`: products of a warpgroup, asynchronous, with operands in shared memory (PTX ISA, Asynchronous Warpgroup
//! Level Matrix Instructions).
//!
//! Invariant: each warp of the group computes its own sixteen rows when it issues the instruction; what it reads of
//! shared memory counts as being read until the group is waited for, and its registers are not to be touched until then.

use super::Machine;
use super::fragment::{Part, element_value, gather};
use super::mma::{accumulator_value, product, put_accumulator};
use super::warp::{Flight, Warp};
use crate::fault::{FaultKind, Outcome, Trouble, trouble};
use crate::instruction::{Multiplicand, SINK, Source, Wgmma};
use crate::lanes::{Lanes, WIDTH};
use crate::memory::Access;
use crate::tensor_map::Swizzle;

/// The kind of the agents of matrix products.
const AGENT: u8 = 2;
/// More than this in flight is a loop that never waits.
const MAX_FLIGHTS: usize = 4096;

/// A matrix in shared memory (PTX ISA, Matrix Descriptor).
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    swizzle: Swizzle,
}

impl Descriptor {
    fn decode(bits: u64) -> Result<Descriptor, String> {
        let field = |at: u32| (bits >> at & 0x3fff) << 4;
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        if bits >> 49 & 7 != 0 {
            return Err(String::from("a matrix descriptor with a base offset"));
        }
        Ok(Descriptor { start: field(0), leading: field(16), stride: field(32), swizzle })
    }

    /// The address of an element: `along` counts rows of A or columns of B, `k` the other axis.
    ///
    /// Without transposition k is contiguous: eight lines of 16 bytes (or of the swizzle's width) are a block, blocks
    /// of eight lines are `stride` apart, and without swizzle the next 16 bytes of k are `leading` away. Transposed,
    /// the lines run along the other axis: eight of k are a block; with a swizzle blocks of k are `stride` and blocks
    /// along the line `leading` apart, without one it is the other way round.
    fn address(self, bytes: u64, along: u64, k: u64, transposed: bool) -> u64 {
        let each = 16 / bytes;
        let width = self.swizzle.bytes();
        let offset = match (transposed, self.swizzle) {
            (false, Swizzle::None) => {
                along % 8 * 16
                    + along / 8 * self.stride
                    + k / each * self.leading
                    + k % each * bytes
            }
            (false, _) => along % 8 * width + along / 8 * self.stride + k * bytes,
            (true, Swizzle::None) => {
                along % each * bytes
                    + along / each * self.stride
                    + k % 8 * 16
                    + k / 8 * self.leading
            }
            (true, _) => {
                let line = width / bytes;
                along % line * bytes
                    + along / line * self.leading
                    + k % 8 * width
                    + k / 8 * self.stride
            }
        };
        self.swizzle.apply(self.start + offset)
    }
}

impl Machine<'_> {
    /// The matrix that a descriptor leads to, row by row of `along`.
    fn matrix(
        &mut self,
        warp: &Warp,
        source: Source,
        first: usize,
        (count, k): (usize, usize),
        element: crate::instruction::Element,
        transposed: bool,
    ) -> Outcome<Vec<f64>> {
        let values = self.fetch(warp, source, u32::MAX)?;
        if let Some(lane) = values.iter().position(|v| *v != values[0]) {
            return trouble(
                lane,
                FaultKind::Operand(String::from("lanes have different matrix descriptors")),
            );
        }
        let descriptor = match Descriptor::decode(values[0]) {
            Ok(descriptor) => descriptor,
            Err(message) => return trouble(0, FaultKind::Operand(message)),
        };
        let agent = self.clocks.agent(AGENT, warp.thread as u64);
        let access = Access {
            thread: warp.thread,
            stamp: self.clocks.agent_now(agent),
            asynchronous: true,
            strong: false,
        };
        let bytes = u64::from(element.bits() / 8);
        let each = (16 / bytes) as usize;
        let shared = &mut self.blocks[warp.block].shared;
        let mut out = vec![0.0; count * k];
        // Sixteen bytes at a time lie side by side, along k or, transposed, along the other axis.
        let (lines, chunks) =
            if transposed { (k, count / each.min(count)) } else { (count, k / each) };
        for line in 0..lines {
            for chunk in 0..chunks {
                let at = if transposed {
                    descriptor.address(bytes, (first + chunk * each) as u64, line as u64, true)
                } else {
                    descriptor.address(bytes, (first + line) as u64, (chunk * each) as u64, false)
                };
                let mut buffer = [0u8; 16];
                let read = shared.read(at, &mut buffer, &self.clocks, access);
                read.map_err(|kind| Box::new(Trouble { lane: 0, kind }))?;
                for i in 0..each {
                    let mut word = [0u8; 8];
                    let size = bytes as usize;
                    word[..size].copy_from_slice(&buffer[i * size..(i + 1) * size]);
                    let value = element_value(element, u64::from_le_bytes(word));
                    let place = if transposed {
                        (chunk * each + i) * k + line
                    } else {
                        line * k + chunk * each + i
                    };
                    out[place] = value;
                }
            }
        }
        Ok(out)
    }

    /// Registers that a `wgmma` uses: they must not have been written since the last fence.
    fn fenced(&self, warp: &Warp, register: u32) -> Outcome<()> {
        let index = register as usize;
        if warp.busy[index] == 0 && warp.written_at[index] >= warp.wgmma_fences {
            let name = self.kernel.register_names[index].clone();
            return trouble(0, FaultKind::MissingWgmmaFence(name));
        }
        Ok(())
    }

    /// `wgmma.mma_async`.
    pub fn wgmma(&mut self, warp: &mut Warp, wgmma: &Wgmma) -> Outcome<()> {
        let scale = self.fetch(warp, wgmma.scale_d.0, u32::MAX)?;
        let adds = (scale[0] != 0) != wgmma.scale_d.1;
        let (n, k) = (wgmma.n, wgmma.k);
        let warps = self.grid.block.iter().product::<u32>() as usize / WIDTH;
        if (warp.number / 4 + 1) * 4 > warps {
            let message = String::from("wgmma by a warpgroup of fewer than four warps");
            return trouble(0, FaultKind::Operand(message));
        }
        if warp.flights.len() >= MAX_FLIGHTS {
            let message = format!("more than {MAX_FLIGHTS} wgmma in flight");
            return trouble(0, FaultKind::Operand(message));
        }
        for register in wgmma.d.iter().filter(|r| **r != SINK) {
            self.fenced(warp, *register)?;
        }
        let warp_in_group = warp.number % 4;
        let mut used: Vec<u32> = wgmma.d.to_vec();
        let rows = match &wgmma.a {
            Multiplicand::Registers(sources) => {
                let mut registers: Vec<Lanes> = Vec::with_capacity(4);
                for source in sources.iter() {
                    if let Source::Register(register) = source {
                        self.fenced(warp, *register)?;
                        if warp.defined[*register as usize] != u32::MAX {
                            self.fetch(warp, *source, u32::MAX)?;
                        }
                        registers.push(warp.registers[*register as usize]);
                        used.push(*register);
                    } else {
                        registers.push(self.fetch(warp, *source, u32::MAX)?);
                    }
                }
                let mut rows = vec![0.0; 16 * k];
                let at = self.layout(Part::A, wgmma.a_element.bits(), 16, 16 * k / WIDTH, k);
                gather(&registers, wgmma.a_element, &at, &mut rows);
                rows
            }
            Multiplicand::Descriptor(source) => {
                let shape = (16, k);
                self.matrix(
                    warp,
                    *source,
                    16 * warp_in_group,
                    shape,
                    wgmma.a_element,
                    wgmma.transpose_a,
                )?
            }
        };
        let columns = self.matrix(warp, wgmma.b, 0, (n, k), wgmma.b_element, wgmma.transpose_b)?;
        // `k` by `n`.
        let mut across = vec![0.0; columns.len()];
        for (column, line) in columns.chunks_exact(k).enumerate() {
            line.iter().enumerate().for_each(|(i, value)| across[i * n + column] = *value);
        }
        let products = product(&rows, &across, n, k);
        let sign = if wgmma.negate_a != wgmma.negate_b { -1.0 } else { 1.0 };
        let mut out: Vec<Lanes> = Vec::with_capacity(wgmma.d.len());
        for register in &wgmma.d {
            if adds && *register != SINK && warp.defined[*register as usize] != u32::MAX {
                self.fetch(warp, Source::Register(*register), u32::MAX)?;
            }
            out.push(if adds && *register != SINK {
                warp.registers[*register as usize]
            } else {
                [0; WIDTH]
            });
        }
        let count = 16 * n / WIDTH;
        let at = self.layout(Part::C, 0, 16, count, n);
        for (i, offset) in at.iter().enumerate() {
            let (lane, index) = (i / count, i % count);
            let start =
                if adds { accumulator_value(wgmma.accumulator, &out, lane, index) } else { 0.0 };
            let sum = products[*offset as usize] * sign + start;
            put_accumulator(wgmma.accumulator, &mut out, lane, index, sum);
        }
        for (register, values) in wgmma.d.iter().zip(out) {
            if *register != SINK {
                warp.registers[*register as usize] = values;
                warp.defined[*register as usize] = u32::MAX;
            }
        }
        used.retain(|r| *r != SINK);
        used.iter().for_each(|r| warp.busy[*r as usize] = warp.busy[*r as usize].saturating_add(1));
        warp.flights.push(Flight { group: warp.wgmma_group, registers: used });
        self.tally.counters.matrix_flops += 2 * (16 * n * k) as u64;
        Ok(())
    }

    /// `wgmma.commit_group`.
    pub fn wgmma_commit(&mut self, warp: &mut Warp) {
        let agent = self.clocks.agent(AGENT, warp.thread as u64);
        self.clocks.agent_advance(agent);
        warp.wgmma_group = warp.wgmma_group.saturating_add(1);
    }

    /// `wgmma.wait_group`: all but the last groups are complete.
    pub fn wgmma_wait(&mut self, warp: &mut Warp, pending: u32) {
        let complete = warp.wgmma_group.saturating_sub(pending);
        let agent = self.clocks.agent(AGENT, warp.thread as u64);
        let mut stamp = self.clocks.agent_now(agent);
        stamp.clock = stamp.clock.saturating_sub(1).saturating_sub(pending);
        for lane in 0..WIDTH {
            self.clocks.learn(warp.thread + lane, stamp);
        }
        let (done, left): (Vec<Flight>, Vec<Flight>) =
            std::mem::take(&mut warp.flights).into_iter().partition(|f| f.group < complete);
        warp.flights = left;
        for register in done.iter().flat_map(|f| &f.registers) {
            warp.busy[*register as usize] = warp.busy[*register as usize].saturating_sub(1);
        }
    }
}
