//! Memory in whole pages, straight from the system.
//!
//! Invariant: pages are zero when they are new, and cost nothing until they are touched.

use memmap2::MmapMut;
use std::io;

/// Blocks from this size on ask for huge pages, which spare the system a fault every 4 KiB, and a large
/// matrix its TLB misses.
pub const HUGE: usize = 4 << 20;

/// So many bytes.
pub fn pages(bytes: usize) -> io::Result<MmapMut> {
    if bytes > isize::MAX as usize {
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, "larger than the address space"));
    }
    let pages = MmapMut::map_anon(bytes)?;
    if bytes >= HUGE {
        // Only advice: a system that does not take it is slower, not wrong.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
    }
    Ok(pages)
}
