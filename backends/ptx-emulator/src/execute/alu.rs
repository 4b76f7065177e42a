//! Operands, and instructions that only compute.
//!
//! Invariant: a register is read only where the lane has written it, and never while a `wgmma` owns it.

use super::Machine;
use super::conversion::convert;
use super::step::Flow;
use super::warp::Warp;
use super::within;
use crate::decode::{SHARED_START, insert};
use crate::fault::{FaultKind, Outcome, trouble};
use crate::instruction::{Carry, Combine, Compare, Operation, SINK, Source, Truth};
use crate::lanes::{Lanes, WIDTH, set};
use crate::syntax::{Special, low_bits};

impl Machine<'_> {
    /// The values of an operand.
    pub fn fetch(&self, warp: &Warp, source: Source, mask: u32) -> Outcome<Lanes> {
        match source {
            Source::Register(register) => {
                let index = register as usize;
                if mask & !warp.defined[index] != 0
                    || !warp.busy.is_empty() && warp.busy[index] != 0
                {
                    return self.refuse(warp, register, mask);
                }
                Ok(warp.registers[index])
            }
            Source::Immediate(value) => Ok([value; WIDTH]),
            Source::Special(special) => Ok(self.special(warp, special)),
            Source::Symbol(symbol, offset) => {
                let address = self.symbols.get(symbol as usize).copied().unwrap_or(0);
                Ok([address.wrapping_add(offset as u64); WIDTH])
            }
            Source::Dynamic(offset) => {
                let start = SHARED_START + self.grid.dynamic_start;
                Ok([start.wrapping_add(offset as u64); WIDTH])
            }
        }
    }

    #[cold]
    fn refuse(&self, warp: &Warp, register: u32, mask: u32) -> Outcome<Lanes> {
        let name = self.kernel.register_names[register as usize].clone();
        let missing = mask & !warp.defined[register as usize];
        if missing != 0 {
            return trouble(
                missing.trailing_zeros() as usize,
                FaultKind::UninitialisedRegister(name),
            );
        }
        trouble(mask.trailing_zeros() as usize, FaultKind::InFlight(name))
    }

    /// Writes the lanes of a mask.
    pub fn write(&self, warp: &mut Warp, register: u32, mask: u32, values: &Lanes) -> Outcome<()> {
        if register == SINK {
            return Ok(());
        }
        let index = register as usize;
        if !warp.busy.is_empty() {
            if warp.busy[index] != 0 {
                let name = self.kernel.register_names[index].clone();
                return trouble(mask.trailing_zeros() as usize, FaultKind::InFlight(name));
            }
            warp.written_at[index] = warp.wgmma_fences;
        }
        if mask == u32::MAX {
            warp.registers[index] = *values;
        } else {
            let into = &mut warp.registers[index];
            for (lane, value) in values.iter().enumerate() {
                if mask >> lane & 1 == 1 {
                    into[lane] = *value;
                }
            }
        }
        warp.defined[index] |= mask;
        Ok(())
    }

    fn special(&self, warp: &Warp, special: Special) -> Lanes {
        let block = &self.blocks[warp.block];
        let of = |sizes: [u32; 3], axis: u8| u64::from(sizes[usize::from(axis) % 3]);
        let mut lanes = [0; WIDTH];
        let each = |lanes: &mut Lanes, f: &dyn Fn(u32) -> u64| {
            lanes.iter_mut().enumerate().for_each(|(lane, value)| *value = f(lane as u32));
        };
        let all = match special {
            Special::Thread(axis) => {
                let base = (warp.number * WIDTH) as u32;
                each(&mut lanes, &|lane| of(within(base + lane, self.grid.block), axis));
                return lanes;
            }
            Special::Lane => {
                each(&mut lanes, &u64::from);
                return lanes;
            }
            Special::LanesBelow => {
                each(&mut lanes, &|lane| (1u64 << lane) - 1);
                return lanes;
            }
            Special::LanesUpTo => {
                each(&mut lanes, &|lane| (2u64 << lane) - 1);
                return lanes;
            }
            Special::LaneOnly => {
                each(&mut lanes, &|lane| 1 << lane);
                return lanes;
            }
            Special::LanesFrom => {
                each(&mut lanes, &|lane| 0xffff_ffff & !((1u64 << lane) - 1));
                return lanes;
            }
            Special::LanesAbove => {
                each(&mut lanes, &|lane| 0xffff_ffff & !((2u64 << lane) - 1));
                return lanes;
            }
            Special::BlockSize(axis) => of(self.grid.block, axis),
            Special::Block(axis) => of(block.index, axis),
            Special::GridSize(axis) => of(self.grid.grid, axis),
            Special::Warp => warp.number as u64,
            Special::WarpCount => u64::from(self.grid.block.iter().product::<u32>().div_ceil(32)),
            Special::Cluster(axis) => of(self.cluster, axis),
            Special::ClusterCount(axis) => {
                of(self.grid.grid, axis) / of(self.grid.cluster, axis).max(1)
            }
            Special::BlockInCluster(axis) => of(within(warp.block as u32, self.grid.cluster), axis),
            Special::ClusterSize(axis) => of(self.grid.cluster, axis),
            Special::RankInCluster => warp.block as u64,
            Special::ClusterBlocks => self.blocks.len() as u64,
            Special::IsCluster => u64::from(self.grid.cluster != [1; 3]),
            // A clock that counts the launch's instructions moves, and repeats with the seed.
            Special::Clock | Special::GlobalTimer => self.tally.steps & 0xffff_ffff,
            Special::Multiprocessor | Special::GridIdentity => 0,
            Special::MultiprocessorCount => 1,
            Special::DynamicShared => self.grid.shared - self.grid.dynamic_start,
            Special::TotalShared => self.grid.shared,
            Special::WarpSize => WIDTH as u64,
        };
        [all; WIDTH]
    }

    /// Executes an instruction that is no branch.
    pub fn execute(
        &mut self,
        warp: &mut Warp,
        operation: &Operation,
        mask: u32,
        group: u32,
    ) -> Outcome<Flow> {
        match operation {
            Operation::Unary { f, d, a } => {
                let a = self.fetch(warp, *a, mask)?;
                self.write(warp, *d, mask, &f(&a))?;
            }
            Operation::Binary { f, d, a, b } => {
                let (a, b) = (self.fetch(warp, *a, mask)?, self.fetch(warp, *b, mask)?);
                self.write(warp, *d, mask, &f(&a, &b))?;
            }
            Operation::Ternary { f, d, a, b, c } => {
                let (a, b) = (self.fetch(warp, *a, mask)?, self.fetch(warp, *b, mask)?);
                let c = self.fetch(warp, *c, mask)?;
                self.write(warp, *d, mask, &f(&a, &b, &c))?;
            }
            Operation::Convert { conversion, d, a, b } => {
                let a = self.fetch(warp, *a, mask)?;
                let b = match b {
                    Some(b) => Some(self.fetch(warp, *b, mask)?),
                    None => None,
                };
                self.write(warp, *d, mask, &convert(conversion, &a, b.as_ref()))?;
            }
            Operation::Insert { d, a, b, position, length, bits } => {
                let (a, b) = (self.fetch(warp, *a, mask)?, self.fetch(warp, *b, mask)?);
                let (p, l) = (self.fetch(warp, *position, mask)?, self.fetch(warp, *length, mask)?);
                let mut out = [0; WIDTH];
                for lane in 0..WIDTH {
                    out[lane] = insert(a[lane], b[lane], p[lane], l[lane], *bits);
                }
                self.write(warp, *d, mask, &out)?;
            }
            Operation::Lop3 { d, a, b, c, table } => {
                let (a, b) = (self.fetch(warp, *a, mask)?, self.fetch(warp, *b, mask)?);
                let c = self.fetch(warp, *c, mask)?;
                let mut out = [0; WIDTH];
                for lane in 0..WIDTH {
                    for row in 0..8 {
                        if table >> row & 1 == 1 {
                            let pick = |value: u64, bit: u32| {
                                if row >> bit & 1 == 1 { value } else { !value }
                            };
                            out[lane] |= pick(a[lane], 2) & pick(b[lane], 1) & pick(c[lane], 0);
                        }
                    }
                    out[lane] &= 0xffff_ffff;
                }
                self.write(warp, *d, mask, &out)?;
            }
            Operation::Compare(compare) => self.compare(warp, mask, compare)?,
            Operation::Select { d, a, b, p } => self.select_value(warp, mask, *d, (*a, *b), *p)?,
            Operation::Move { d, a } => self.copy_value(warp, mask, *d, *a)?,
            Operation::Pack { d, parts, bits } => {
                let mut out = [0; WIDTH];
                let mut defined = mask;
                for (i, part) in parts.iter().enumerate() {
                    defined &= self.defined(warp, *part, mask)?;
                    let values = self.fetch(warp, *part, 0)?;
                    for lane in 0..WIDTH {
                        out[lane] |= (values[lane] & low_bits(*bits)) << (i as u32 * bits);
                    }
                }
                self.write_partly(warp, *d, mask, defined, &out)?;
            }
            Operation::Unpack { parts, a, bits } => {
                let defined = self.defined(warp, *a, mask)?;
                let values = self.fetch(warp, *a, 0)?;
                for (i, part) in parts.iter().enumerate() {
                    let out = values.map(|v| v >> (i as u32 * bits) & low_bits(*bits));
                    self.write_partly(warp, *part, mask, defined, &out)?;
                }
            }
            Operation::Carry(carry) => self.carry(warp, mask, carry)?,
            Operation::ToGeneric { d, a, window } => {
                let a = self.fetch(warp, *a, mask)?;
                let out = a.map(|address| self.to_generic(warp, *window, address));
                self.write(warp, *d, mask, &out)?;
            }
            Operation::FromGeneric { d, a, window } => {
                let a = self.fetch(warp, *a, mask)?;
                let out = a.map(|address| self.without_generic(warp, *window, address));
                self.write(warp, *d, mask, &out)?;
            }
            Operation::IsSpace { d, a, window } => {
                let a = self.fetch(warp, *a, mask)?;
                let out = a.map(|address| u64::from(self.is_in(warp, *window, address)));
                self.write(warp, *d, mask, &out)?;
            }
            Operation::MapAddress { d, a, rank, generic } => {
                let (a, rank) = (self.fetch(warp, *a, mask)?, self.fetch(warp, *rank, mask)?);
                let mut out = [0; WIDTH];
                for lane in set(mask) {
                    out[lane] = self.map_address(lane, a[lane], rank[lane], *generic)?;
                }
                self.write(warp, *d, mask, &out)?;
            }
            Operation::RankOf { d, a } => {
                let a = self.fetch(warp, *a, mask)?;
                let out = a.map(|address| self.rank_of(warp, address));
                self.write(warp, *d, mask, &out)?;
            }
            Operation::Load(load) => self.load(warp, mask, load)?,
            Operation::Store(store) => self.store(warp, mask, store)?,
            Operation::Atomic(atomic) => self.atomic(warp, mask, atomic)?,
            Operation::Touch { place, window, bytes } => {
                self.touch(warp, mask, *place, *window, *bytes)?
            }
            Operation::Branch { target } => {
                return Ok(Flow::Split { target: *target, taken: mask });
            }
            Operation::BranchIndex { targets, index } => {
                let index = self.fetch(warp, *index, mask)?;
                if mask != group {
                    let message = String::from("brx.idx under a guard that differs within a warp");
                    return trouble(mask.trailing_zeros() as usize, FaultKind::Operand(message));
                }
                let mut out = [0; WIDTH];
                for lane in set(mask) {
                    let Some(target) = targets.get(index[lane] as usize) else {
                        let message =
                            format!("brx.idx to target {} of {}", index[lane], targets.len());
                        return trouble(lane, FaultKind::Operand(message));
                    };
                    out[lane] = *target;
                }
                return Ok(Flow::Scatter(out));
            }
            Operation::Exit => return Ok(Flow::Exit(mask)),
            Operation::Trap => return trouble(mask.trailing_zeros() as usize, FaultKind::Trap),
            Operation::Nothing | Operation::Sleep => {}
            Operation::Barrier { id, count, wait, aligned, reduce } => {
                return self.barrier(warp, mask, group, *id, *count, *wait, *aligned, *reduce);
            }
            Operation::ClusterArrive { release } => self.cluster_arrive(warp, mask, *release)?,
            Operation::ClusterWait => return self.cluster_wait(warp, mask),
            Operation::WarpBarrier { mask: named } => return self.warp_barrier(warp, mask, *named),
            Operation::Fence => self.fence(warp, mask),
            Operation::ProxyFence => {
                for lane in set(mask) {
                    self.clocks.fence_proxy(warp.thread + lane);
                }
            }
            Operation::Shuffle(shuffle) => return self.shuffle(warp, mask, group, shuffle),
            Operation::Vote { mode, d, p, negated, mask: named } => {
                return self.vote(warp, mask, group, *mode, *d, (*p, *negated), *named);
            }
            Operation::Match { d, p, a, mask: named, all, bits } => {
                return self.matching(warp, mask, group, (*d, *p), *a, *named, *all, *bits);
            }
            Operation::ActiveMask { d } => self.write(warp, *d, mask, &[u64::from(mask); WIDTH])?,
            Operation::ReduceLanes { f, d, a, mask: named } => {
                return self.reduce_lanes(warp, mask, group, *f, *d, (*a, *named));
            }
            Operation::Elect { d, p, mask: named } => {
                return self.elect(warp, mask, group, *d, *p, *named);
            }
            Operation::LoadMatrix { .. }
            | Operation::StoreMatrix { .. }
            | Operation::Mma(_)
            | Operation::WgmmaFence
            | Operation::WgmmaCommit
            | Operation::WgmmaWait(_)
            | Operation::Wgmma(_) => {
                return self.aligned_instruction(warp, operation, mask, group);
            }
            Operation::CopyAsync { to, from, from_window, bytes, source_bytes } => {
                self.copy_async(warp, mask, *to, (*from, *from_window), *bytes, *source_bytes)?;
            }
            Operation::CopyCommit => self.copy_commit(warp, mask),
            Operation::CopyWait(pending) => self.copy_wait(warp, mask, *pending),
            Operation::Mbarrier(mbarrier) => return self.mbarrier(warp, mask, mbarrier),
            Operation::BulkCopy(copy) => self.bulk_copy(warp, mask, copy)?,
            Operation::TensorCopy(copy) => self.tensor_copy(warp, mask, copy)?,
            Operation::BulkCommit => self.bulk_commit(warp, mask),
            Operation::BulkWait { pending } => self.bulk_wait(warp, mask, *pending),
        }
        Ok(Flow::Next)
    }

    /// Instructions that all lanes of a warp execute together (`.sync.aligned`).
    fn aligned_instruction(
        &mut self,
        warp: &mut Warp,
        operation: &Operation,
        mask: u32,
        group: u32,
    ) -> Outcome<Flow> {
        if mask != warp.exists || warp.exists != u32::MAX {
            let lane = mask.trailing_zeros() as usize;
            if warp.exists != u32::MAX {
                let message = "the warp has fewer than 32 threads";
                let mask = u32::MAX;
                return trouble(
                    lane,
                    FaultKind::LaneMask { executing: mask & group, mask, message },
                );
            }
            return Ok(match self.converged(warp, mask, group, u32::MAX)? {
                Some(flow) => flow,
                None => Flow::Next,
            });
        }
        match operation {
            Operation::LoadMatrix { targets, place, window, transpose } => {
                self.load_matrix(warp, targets, *place, *window, *transpose)?;
            }
            Operation::StoreMatrix { values, place, window, transpose } => {
                self.store_matrix(warp, values, *place, *window, *transpose)?;
            }
            Operation::Mma(mma) => self.mma(warp, mma)?,
            Operation::WgmmaFence => warp.wgmma_fences = warp.wgmma_fences.saturating_add(1),
            Operation::WgmmaCommit => self.wgmma_commit(warp),
            Operation::WgmmaWait(pending) => self.wgmma_wait(warp, *pending),
            Operation::Wgmma(wgmma) => self.wgmma(warp, wgmma)?,
            _ => {}
        }
        Ok(Flow::Next)
    }

    fn compare(&mut self, warp: &mut Warp, mask: u32, compare: &Compare) -> Outcome<()> {
        let (a, b) = (self.fetch(warp, compare.a, mask)?, self.fetch(warp, compare.b, mask)?);
        let mut first = (compare.test)(&a, &b);
        let mut second = if compare.packed {
            (compare.test)(&a.map(|v| v >> 16), &b.map(|v| v >> 16))
        } else {
            first.map(|v| v ^ 1)
        };
        if let Some((how, source, negated)) = compare.combine {
            let with = self.fetch(warp, source, mask)?;
            for lane in 0..WIDTH {
                let p = u64::from((with[lane] != 0) != negated);
                let join = |value: u64| match how {
                    Combine::And => value & p,
                    Combine::Or => value | p,
                    Combine::Xor => value ^ p,
                };
                (first[lane], second[lane]) = (join(first[lane]), join(second[lane]));
            }
        }
        match compare.truth {
            Truth::Predicate => {}
            Truth::Ones(bits) => first = first.map(|v| if v != 0 { low_bits(bits) } else { 0 }),
            Truth::Bits(one) => first = first.map(|v| if v != 0 { one } else { 0 }),
        }
        self.write(warp, compare.target, mask, &first)?;
        self.write(warp, compare.second, mask, &second)
    }

    /// Lanes in which an operand is defined; copies pass on what is not, since compilers copy it.
    fn defined(&self, warp: &Warp, source: Source, mask: u32) -> Outcome<u32> {
        match source {
            Source::Register(register) => {
                if !warp.busy.is_empty() && warp.busy[register as usize] != 0 {
                    let name = self.kernel.register_names[register as usize].clone();
                    return trouble(mask.trailing_zeros() as usize, FaultKind::InFlight(name));
                }
                Ok(warp.defined[register as usize] & mask)
            }
            _ => Ok(mask),
        }
    }

    fn write_partly(
        &self,
        warp: &mut Warp,
        register: u32,
        mask: u32,
        defined: u32,
        values: &Lanes,
    ) -> Outcome<()> {
        self.write(warp, register, mask, values)?;
        if register != SINK {
            warp.defined[register as usize] &= !(mask & !defined);
        }
        Ok(())
    }

    fn copy_value(&self, warp: &mut Warp, mask: u32, d: u32, a: Source) -> Outcome<()> {
        let defined = self.defined(warp, a, mask)?;
        let values = self.fetch(warp, a, 0)?;
        self.write_partly(warp, d, mask, defined, &values)
    }

    fn select_value(
        &self,
        warp: &mut Warp,
        mask: u32,
        d: u32,
        (a, b): (Source, Source),
        p: Source,
    ) -> Outcome<()> {
        let held = self.fetch(warp, p, mask)?;
        let (in_a, in_b) = (self.defined(warp, a, mask)?, self.defined(warp, b, mask)?);
        let (a, b) = (self.fetch(warp, a, 0)?, self.fetch(warp, b, 0)?);
        let mut out = [0; WIDTH];
        let mut defined = 0;
        for lane in 0..WIDTH {
            let first = held[lane] != 0;
            out[lane] = if first { a[lane] } else { b[lane] };
            defined |= if first { in_a } else { in_b } & 1 << lane;
        }
        self.write_partly(warp, d, mask, defined, &out)
    }

    fn carry(&mut self, warp: &mut Warp, mask: u32, carry: &Carry) -> Outcome<()> {
        let (a, b) = (self.fetch(warp, carry.a, mask)?, self.fetch(warp, carry.b, mask)?);
        let flag = if carry.reads {
            self.fetch(warp, Source::Register(carry.flag), mask)?
        } else {
            [0; WIDTH]
        };
        let (mut out, mut flags) = ([0; WIDTH], [0; WIDTH]);
        let limit = u128::from(low_bits(carry.bits)) + 1;
        for lane in 0..WIDTH {
            let (x, y) = (u128::from(a[lane]), u128::from(b[lane]) + u128::from(flag[lane]));
            // A borrow is kept as 1.
            let sum = if carry.subtract { x + limit * 2 - y } else { x + y };
            out[lane] = sum as u64 & low_bits(carry.bits);
            flags[lane] = u64::from(if carry.subtract { x < y } else { sum >= limit });
        }
        self.write(warp, carry.target, mask, &out)?;
        if carry.writes {
            self.write(warp, carry.flag, mask, &flags)?;
        }
        Ok(())
    }

    /// Prefetches: an address must be one.
    fn touch(
        &mut self,
        warp: &Warp,
        mask: u32,
        place: crate::instruction::Place,
        window: crate::instruction::Window,
        bytes: u64,
    ) -> Outcome<()> {
        let addresses = self.addresses(warp, place, mask)?;
        if bytes < 2 {
            // A prefetch of memory that does not exist is dropped (PTX ISA, prefetch).
            return Ok(());
        }
        for lane in set(mask) {
            let target = self.resolve(warp, lane, window, addresses[lane])?;
            self.tensor_map(warp, lane, target)?;
        }
        Ok(())
    }
}
