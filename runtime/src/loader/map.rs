//! Memory that is filled once and then can be run, but never be written again.
//!
//! Invariant: an [`ExecutableMemory`] exists only after the pages lost their write permission.

use super::LoadError;
use memmap2::{Mmap, MmapMut};

/// Pages that are readable and executable.
#[derive(Debug)]
pub(super) struct ExecutableMemory {
    pages: Mmap,
}

impl ExecutableMemory {
    /// Maps `size` bytes, lets `fill` write them (it gets the bytes and the address of the first),
    /// and makes them executable.
    pub(super) fn fill(
        size: usize,
        fill: impl FnOnce(&mut [u8], u64) -> Result<(), LoadError>,
    ) -> Result<Self, LoadError> {
        let failed =
            |error: std::io::Error| LoadError::Memory { bytes: size, reason: error.to_string() };
        let mut pages = MmapMut::map_anon(size.max(1)).map_err(failed)?;
        let address = pages.as_ptr() as u64;
        fill(&mut pages, address)?;
        let pages = pages.make_exec().map_err(failed)?;
        synchronise_instructions(&pages);
        Ok(ExecutableMemory { pages })
    }

    /// The address of a byte; `None` outside.
    pub(super) fn address_of(&self, offset: usize) -> Option<*const u8> {
        self.pages.get(offset).map(std::ptr::from_ref)
    }

    /// Number of bytes.
    pub(super) fn size(&self) -> usize {
        self.pages.len()
    }
}

/// Makes instruction fetches see what was stored. x86-64 does so by itself.
#[cfg(not(target_arch = "aarch64"))]
fn synchronise_instructions(_code: &[u8]) {}

/// Makes instruction fetches see what was stored (Arm ARM, B2.7.4.2 "Synchronization and coherency
/// issues between data and instruction accesses").
#[cfg(target_arch = "aarch64")]
fn synchronise_instructions(code: &[u8]) {
    use std::arch::asm;
    // The least line size that the architecture allows; smaller steps are only slower.
    const LINE: usize = 16;
    for line in code.chunks(LINE) {
        // SAFETY: cleaning a data line that is mapped and readable changes no value.
        unsafe { asm!("dc cvau, {}", in(reg) line.as_ptr(), options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers have no operands.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in code.chunks(LINE) {
        // SAFETY: invalidating an instruction line that is mapped changes no value.
        unsafe { asm!("ic ivau, {}", in(reg) line.as_ptr(), options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers have no operands.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}
