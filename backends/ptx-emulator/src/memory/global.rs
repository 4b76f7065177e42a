//! Device memory: allocations far enough apart that none is reached from another by mistake.
//!
//! Invariant: an address is never given out twice, so that what was freed stays an error.

use super::written::Written;
use crate::error::DeviceError;
use crate::fault::{FaultKind, Space};

/// Where device memory begins.
const START: u64 = 0x10_0000_0000;
/// Least distance of two allocations.
const GAP: u64 = 4096;
/// What allocations are aligned to, as `cudaMalloc` does.
const ALIGN: u64 = 256;

/// One allocation.
#[derive(Debug)]
struct Allocation {
    start: u64,
    data: Vec<u8>,
    written: Written,
    constant: bool,
}

/// All device memory.
#[derive(Debug)]
pub(crate) struct Global {
    /// In the order of their addresses.
    allocations: Vec<Allocation>,
    next: u64,
    total: u64,
    limit: u64,
    /// The allocation that was found last.
    last: usize,
    pub check_uninitialised: bool,
}

impl Global {
    pub fn new(limit: u64) -> Self {
        Global {
            allocations: Vec::new(),
            next: START,
            total: 0,
            limit,
            last: 0,
            check_uninitialised: true,
        }
    }

    /// Bytes that nothing has written.
    pub fn allocate(&mut self, bytes: u64, constant: bool) -> Result<u64, DeviceError> {
        let total = self.total.saturating_add(bytes);
        if total > self.limit {
            return Err(DeviceError::Memory { bytes, total, limit: self.limit });
        }
        let start = self.next;
        self.next = (start + bytes + GAP).div_ceil(ALIGN) * ALIGN;
        self.total = total;
        let size = bytes as usize;
        self.allocations.push(Allocation {
            start,
            data: vec![0; size],
            written: Written::new(size),
            constant,
        });
        Ok(start)
    }

    /// Gives an allocation back.
    pub fn free(&mut self, start: u64) -> Result<(), DeviceError> {
        let at = self.allocations.binary_search_by_key(&start, |a| a.start);
        let at = at.map_err(|_| DeviceError::NotAllocated(start))?;
        self.total -= self.allocations.remove(at).data.len() as u64;
        self.last = 0;
        Ok(())
    }

    fn find(&mut self, address: u64, bytes: u64) -> Option<usize> {
        let holds = |a: &Allocation| {
            address >= a.start
                && address
                    .checked_add(bytes)
                    .is_some_and(|end| end <= a.start + a.data.len() as u64)
        };
        if self.allocations.get(self.last).is_some_and(holds) {
            return Some(self.last);
        }
        let after = self.allocations.partition_point(|a| a.start <= address);
        let at = after.checked_sub(1)?;
        if !holds(&self.allocations[at]) {
            return None;
        }
        self.last = at;
        Some(at)
    }

    /// What bytes hold.
    pub fn read(&mut self, address: u64, out: &mut [u8]) -> Result<(), FaultKind> {
        let bytes = out.len() as u64;
        let space = Space::Global;
        let Some(at) = self.find(address, bytes) else {
            return Err(FaultKind::OutOfBounds { space, address, bytes });
        };
        let allocation = &self.allocations[at];
        let offset = (address - allocation.start) as usize;
        if self.check_uninitialised
            && let Some(missing) = allocation.written.first_missing(offset, out.len())
        {
            return Err(FaultKind::UninitialisedMemory {
                space,
                address: allocation.start + missing as u64,
            });
        }
        out.copy_from_slice(&allocation.data[offset..offset + out.len()]);
        Ok(())
    }

    /// Writes bytes; `host`: constants, too.
    pub fn write(&mut self, address: u64, data: &[u8], host: bool) -> Result<(), FaultKind> {
        let bytes = data.len() as u64;
        let Some(at) = self.find(address, bytes) else {
            return Err(FaultKind::OutOfBounds { space: Space::Global, address, bytes });
        };
        let allocation = &mut self.allocations[at];
        if allocation.constant && !host {
            return Err(FaultKind::ReadOnly { space: Space::Constant, address });
        }
        let offset = (address - allocation.start) as usize;
        allocation.data[offset..offset + data.len()].copy_from_slice(data);
        allocation.written.set(offset, data.len());
        Ok(())
    }

    /// Whether bytes are inside of an allocation.
    pub fn holds(&mut self, address: u64, bytes: u64) -> bool {
        self.find(address, bytes).is_some()
    }
}
