//! Copies of boxes of tensors (PTX ISA, cp.async.bulk.tensor; Tensors).
//!
//! Invariant: an element outside of the tensor is filled on the way in and dropped on the way out; the bytes that an
//! mbarrier is told of are those of the whole box.

use super::Machine;
use super::address::Target;
use super::warp::Warp;
use crate::fault::{FaultKind, Outcome, Space, Trouble, trouble};
use crate::instruction::TensorCopy;
use crate::lanes::set;
use crate::memory::Access;
use crate::syntax::Type;
use crate::tensor_map::{ElementType, TensorMap};

/// A box is at most what a block's shared memory could hold.
const MAX_BOX: u64 = 1 << 20;

/// A run of elements of a box that are side by side in memory.
struct Run {
    /// Offset in the box, in bytes.
    at: usize,
    address: u64,
    bytes: usize,
}

fn register_type(element: ElementType) -> Type {
    match element {
        ElementType::U8 => Type::U8,
        ElementType::U16 => Type::U16,
        ElementType::U32 => Type::U32,
        ElementType::S32 => Type::S32,
        ElementType::U64 => Type::U64,
        ElementType::S64 => Type::S64,
        ElementType::F16 => Type::F16,
        ElementType::BF16 => Type::BF16,
        ElementType::F64 => Type::F64,
        _ => Type::F32,
    }
}

/// The parts of a box that are inside of its tensor.
fn runs(map: &TensorMap, coordinates: &[i64]) -> Vec<Run> {
    let counts = map.counts();
    let size = map.element.bytes();
    let rank = counts.len();
    let mut out = Vec::new();
    let rows: u64 = counts[1..].iter().product();
    for row in 0..rows {
        let mut rest = row;
        let mut address = map.address;
        let mut inside = true;
        for axis in 1..rank {
            let index = rest % counts[axis];
            rest /= counts[axis];
            let place = coordinates[axis] + (index * u64::from(map.element_strides[axis])) as i64;
            inside &= place >= 0 && (place as u64) < map.sizes[axis];
            if inside {
                address = address.wrapping_add((place as u64).wrapping_mul(map.strides[axis - 1]));
            }
        }
        if !inside {
            continue;
        }
        let start = (row * counts[0] * size) as usize;
        let step = u64::from(map.element_strides[0]);
        if step == 1 {
            let first = coordinates[0].max(0);
            let last = (coordinates[0] + counts[0] as i64).min(map.sizes[0] as i64);
            if first < last {
                out.push(Run {
                    at: start + ((first - coordinates[0]) as u64 * size) as usize,
                    address: address.wrapping_add(first as u64 * size),
                    bytes: ((last - first) as u64 * size) as usize,
                });
            }
            continue;
        }
        for index in 0..counts[0] {
            let place = coordinates[0] + (index * step) as i64;
            if place >= 0 && (place as u64) < map.sizes[0] {
                out.push(Run {
                    at: start + (index * size) as usize,
                    address: address.wrapping_add(place as u64 * size),
                    bytes: size as usize,
                });
            }
        }
    }
    out
}

impl Machine<'_> {
    /// The tensor map at a lane's address.
    pub fn tensor_map(&mut self, warp: &Warp, lane: usize, target: Target) -> Outcome<TensorMap> {
        let (space, address) = match target {
            Target::Global(a) => (Space::Global, a),
            Target::Parameter(a) => (Space::Parameter, a),
            _ => {
                return trouble(
                    lane,
                    FaultKind::Operand(String::from("a tensor map in another space")),
                );
            }
        };
        if address % 64 != 0 {
            return trouble(lane, FaultKind::Misaligned { space, address, bytes: 64 });
        }
        let mut bytes = [0u8; 128];
        self.read_bytes(warp, lane, target, false, &mut bytes)?;
        match TensorMap::decode(&bytes) {
            Some(map) => Ok(map),
            None => {
                trouble(lane, FaultKind::Operand(format!("there is no tensor map at {address:#x}")))
            }
        }
    }

    /// `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor`.
    pub fn tensor_copy(&mut self, warp: &mut Warp, mask: u32, copy: &TensorCopy) -> Outcome<()> {
        let maps = self.addresses(warp, copy.map, mask)?;
        let shared = self.addresses(warp, copy.shared, mask)?;
        let mut coordinates = Vec::with_capacity(copy.coordinates.len());
        for source in &copy.coordinates {
            coordinates.push(self.fetch(warp, *source, mask)?);
        }
        let (mbarriers, multicast) = self.told(warp, mask, copy.completion, copy.multicast)?;
        for lane in set(mask) {
            let target =
                self.resolve(warp, lane, crate::instruction::Window::Generic, maps[lane])?;
            let map = self.tensor_map(warp, lane, target)?;
            let at: Vec<i64> =
                coordinates.iter().map(|c| i64::from(c[lane] as u32 as i32)).collect();
            if at.len() != map.sizes.len() {
                let message = format!(
                    "{} coordinates for a tensor map of {} dimensions",
                    at.len(),
                    map.sizes.len()
                );
                return trouble(lane, FaultKind::Operand(message));
            }
            if map.box_bytes() > MAX_BOX {
                return trouble(
                    lane,
                    FaultKind::Operand(format!("a box of {} bytes", map.box_bytes())),
                );
            }
            let Target::Shared(block, address) =
                self.resolve(warp, lane, copy.shared_window, shared[lane])?
            else {
                return trouble(
                    lane,
                    FaultKind::Operand(String::from("a box that is not in shared memory")),
                );
            };
            if address % 128 != 0 {
                return trouble(
                    lane,
                    FaultKind::Misaligned { space: Space::Shared, address, bytes: 128 },
                );
            }
            if let Some(mbarriers) = &mbarriers {
                let cast = multicast.as_ref().map(|m| m[lane]);
                let list = self.destinations(warp, lane, block, mbarriers[lane], cast)?;
                self.load_box(warp, lane, &map, &at, address, &list)?;
            } else {
                self.store_box(warp, lane, &map, &at, (block, address), copy)?;
            }
        }
        Ok(())
    }

    fn load_box(
        &mut self,
        warp: &Warp,
        lane: usize,
        map: &TensorMap,
        coordinates: &[i64],
        address: u64,
        destinations: &[(usize, usize, u64)],
    ) -> Outcome<()> {
        let size = map.element.bytes() as usize;
        let filling = map.filling().to_le_bytes();
        let mut data: Vec<u8> = (0..map.box_bytes() as usize).map(|i| filling[i % size]).collect();
        for run in runs(map, coordinates) {
            self.tally.counters.global_bytes_read += run.bytes as u64;
            let last = run.address.wrapping_add(run.bytes as u64 - 1) / 32;
            self.tally.counters.global_sectors += last.saturating_sub(run.address / 32) + 1;
            let read = self.memory.read(run.address, &mut data[run.at..run.at + run.bytes]);
            read.map_err(|kind| Box::new(Trouble { lane, kind }))?;
        }
        let thread = warp.thread + lane;
        for (block, signalled, mbarrier) in destinations {
            let stamp = self.transaction_stamp(thread, lane, *signalled, *mbarrier)?;
            let access = Access { thread, stamp, asynchronous: true, strong: false };
            for (i, chunk) in data.chunks(16).enumerate() {
                let place = map.swizzle.apply(address + 16 * i as u64);
                let written = self.blocks[*block].shared.write(place, chunk, &self.clocks, access);
                written.map_err(|kind| Box::new(Trouble { lane, kind }))?;
            }
            self.complete_bytes(thread, lane, *signalled, *mbarrier, map.box_bytes())?;
        }
        Ok(())
    }

    fn store_box(
        &mut self,
        warp: &Warp,
        lane: usize,
        map: &TensorMap,
        coordinates: &[i64],
        (block, address): (usize, u64),
        copy: &TensorCopy,
    ) -> Outcome<()> {
        let access = self.bulk_access(warp.thread + lane);
        let mut data = vec![0u8; map.box_bytes() as usize];
        for (i, chunk) in data.chunks_mut(16).enumerate() {
            let place = map.swizzle.apply(address + 16 * i as u64);
            let read = self.blocks[block].shared.read(place, chunk, &self.clocks, access);
            read.map_err(|kind| Box::new(Trouble { lane, kind }))?;
        }
        let reduction = copy.reduction.map(|how| (how, register_type(map.element)));
        for run in runs(map, coordinates) {
            self.bulk_write(lane, run.address, &data[run.at..run.at + run.bytes], reduction)?;
        }
        Ok(())
    }
}
