//! Memory blocks for a run: aligned, zeroed when they are new, kept between runs.
//!
//! Invariant: a view is handed out only inside the block, and no byte of a block is ever
//! uninitialised.

use kiln_tensor::pages;
use memmap2::MmapMut;
use thiserror::Error;

/// Why a block does not give what was asked of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ArenaError {
    /// The system gave no memory.
    #[error("no memory for {bytes} bytes: {reason}")]
    Memory {
        /// Bytes that were asked for.
        bytes: u64,
        /// What the system said.
        reason: String,
    },
    /// A view that does not lie in the block.
    #[error("bytes {offset}..+{length} lie outside a block of {size} bytes")]
    Outside {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Bytes of the block.
        size: usize,
    },
}

/// A block of memory. It starts at a page, so every multiple of 64 in it is aligned to 64.
#[derive(Debug, Default)]
pub struct Arena {
    pages: Option<MmapMut>,
}

impl Arena {
    /// A block of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the block.
    pub fn size(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| pages.len())
    }

    /// Makes the block at least `bytes` long. If it has to grow it is a new one, full of zeros,
    /// and views of the old one are void.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), ArenaError> {
        if bytes <= self.size() as u64 {
            return Ok(());
        }
        // The old block goes first, so that the two never count together.
        self.pages = None;
        let failed = |reason: String| ArenaError::Memory { bytes, reason };
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.pages = Some(pages(size).map_err(|error| failed(error.to_string()))?);
        Ok(())
    }

    /// The address of `length` bytes from `offset`, valid until the block grows or is dropped.
    pub fn pointer(&mut self, offset: u64, length: u64) -> Result<*mut u8, ArenaError> {
        let size = self.size();
        let outside = || ArenaError::Outside { offset, length, size };
        let end = offset.checked_add(length).filter(|&end| end <= size as u64);
        end.ok_or_else(outside)?;
        match &mut self.pages {
            // In range: `offset` is at most the length of the block.
            Some(pages) => Ok(pages.as_mut_ptr().wrapping_add(offset as usize)),
            // Nothing is read or written through the address of no bytes.
            None => Ok(std::ptr::NonNull::<[u64; 8]>::dangling().as_ptr().cast()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_kept() {
        let mut arena = Arena::new();
        arena.reserve(1000).unwrap();
        let first = arena.pointer(64, 8).unwrap();
        assert_eq!(first as usize % 64, 0);
        // SAFETY: eight bytes that `pointer` just handed out.
        let word = unsafe { &mut *first.cast::<u64>() };
        assert_eq!(*word, 0);
        *word = 7;
        arena.reserve(500).unwrap();
        assert_eq!(arena.pointer(64, 8).unwrap(), first, "large enough already");
        arena.reserve(kiln_tensor::HUGE as u64 + 5).unwrap();
        // SAFETY: as above; the block grew.
        assert_eq!(unsafe { *arena.pointer(64, 8).unwrap() }, 0);
    }

    #[test]
    fn views_stay_inside() {
        let mut arena = Arena::new();
        assert!(arena.pointer(0, 0).is_ok());
        assert!(arena.pointer(0, 1).is_err());
        arena.reserve(4096).unwrap();
        assert!(arena.pointer(4096, 0).is_ok() && arena.pointer(4095, 1).is_ok());
        assert!(arena.pointer(4095, 2).is_err());
        assert!(arena.pointer(u64::MAX, 2).is_err());
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for bytes in [u64::MAX, 1 << 62, 1 << 56] {
            let error = Arena::new().reserve(bytes).unwrap_err();
            assert!(matches!(error, ArenaError::Memory { .. }), "{error}");
        }
    }
}
