//! The bytes behind a host tensor: owned and aligned, or borrowed from a mapped file.
//!
//! Invariant: the bytes of a `Storage` never move or change while it is shared.

use crate::pages::{HUGE, pages};
use memmap2::MmapMut;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of owned tensor bytes: one cache line, one 512-bit vector.
pub const ALIGNMENT: usize = 64;

/// The alignment at which the system's allocator hands out fresh pages as they are. Where it is asked for
/// more, zeros are written over all of a block that is zero already.
const NATURAL: usize = 16;

/// A zero-initialised block aligned to [`ALIGNMENT`].
pub(crate) struct Aligned {
    pointer: NonNull<u8>,
    length: usize,
    /// Where the allocation that the block lies in begins.
    start: NonNull<u8>,
}

impl Aligned {
    fn layout(length: usize) -> Option<Layout> {
        let room = length.checked_add(ALIGNMENT - NATURAL)?;
        Layout::from_size_align(room, NATURAL).ok()
    }

    fn zeroed(length: usize) -> Option<Self> {
        let layout = Self::layout(length)?;
        // SAFETY: the layout has a non-zero size.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let before = start.addr().get().wrapping_neg() % ALIGNMENT;
        // SAFETY: the start is a multiple of `NATURAL`, so this is at most their difference, which the
        // layout has room for.
        let pointer = unsafe { start.add(before) };
        Some(Aligned { pointer, length, start })
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.length) {
            // SAFETY: allocated in `zeroed` with this same layout.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

// SAFETY: the block is owned; shared access is read-only, exclusive access goes through `&mut`.
unsafe impl Send for Aligned {}
// SAFETY: see above.
unsafe impl Sync for Aligned {}

enum Owner {
    Aligned(Aligned),
    Pages(MmapMut),
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

/// Reference-counted tensor bytes.
#[derive(Clone)]
pub struct Storage {
    owner: Arc<Owner>,
    offset: usize,
    length: usize,
}

impl Storage {
    /// A zero-filled block of `length` bytes, aligned to [`ALIGNMENT`]; `None` if there is
    /// no memory for it.
    pub fn zeroed(length: usize) -> Option<Self> {
        let owner = if length >= HUGE {
            Owner::Pages(pages(length).ok()?)
        } else {
            Owner::Aligned(Aligned::zeroed(length)?)
        };
        Some(Storage { owner: Arc::new(owner), offset: 0, length })
    }

    /// An aligned copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut storage = Self::zeroed(bytes.len())?;
        storage.make_mut().copy_from_slice(bytes);
        Some(storage)
    }

    /// A window into bytes owned elsewhere (a mapped file), without copying; `None` if the window
    /// does not lie inside them.
    pub fn shared(
        owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
        offset: usize,
        length: usize,
    ) -> Option<Self> {
        let end = offset.checked_add(length)?;
        (end <= (*owner).as_ref().len()).then(|| Storage {
            owner: Arc::new(Owner::Shared(owner)),
            offset,
            length,
        })
    }

    /// Whether the bytes can be written without a copy: nobody else has them.
    pub fn is_exclusive(&mut self) -> bool {
        !matches!(Arc::get_mut(&mut self.owner), None | Some(Owner::Shared(_)))
    }

    /// The bytes for writing; copied first if they are shared or borrowed.
    pub fn make_mut(&mut self) -> &mut [u8] {
        if !self.is_exclusive() {
            match Self::copy_of(self) {
                Some(copy) => *self = copy,
                None => return &mut [],
            }
        }
        match Arc::get_mut(&mut self.owner) {
            // SAFETY: exclusive owner of a block of at least `length` bytes.
            Some(Owner::Aligned(block)) => unsafe {
                std::slice::from_raw_parts_mut(block.pointer.as_ptr(), self.length)
            },
            Some(Owner::Pages(pages)) => pages.get_mut(..self.length).unwrap_or(&mut []),
            _ => &mut [],
        }
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.owner {
            // SAFETY: the block holds `length` initialised bytes and lives as long as `self`.
            Owner::Aligned(block) => unsafe {
                std::slice::from_raw_parts(block.pointer.as_ptr(), self.length)
            },
            Owner::Pages(pages) => pages.get(..self.length).unwrap_or(&[]),
            Owner::Shared(owner) => {
                (**owner).as_ref().get(self.offset..self.offset + self.length).unwrap_or(&[])
            }
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_window_is_checked_and_copied_on_write() {
        let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![1u8, 2, 3, 4]);
        assert!(Storage::shared(owner.clone(), 2, 3).is_none());
        assert!(Storage::shared(owner.clone(), usize::MAX, 2).is_none());
        let mut window = Storage::shared(owner, 1, 2).unwrap();
        let before = window.clone();
        window.make_mut()[0] = 9;
        assert_eq!((&*window, &*before), (&[9u8, 3][..], &[2u8, 3][..]));
    }

    #[test]
    fn owned_bytes_are_aligned_and_not_copied_when_exclusive() {
        for length in [0, 1, 100, HUGE - 1, HUGE, HUGE + 1] {
            let mut block = Storage::zeroed(length).unwrap();
            assert!(block.len() == length && block.iter().all(|&byte| byte == 0));
            let address = block.as_ptr() as usize;
            assert_eq!(address % ALIGNMENT, 0);
            assert_eq!(block.make_mut().as_ptr() as usize, address);
            block.make_mut().fill(7);
            let other = block.clone();
            assert_ne!(block.make_mut().as_ptr() as usize, address);
            assert_eq!(other.as_ptr() as usize, address);
            assert_eq!(&*block, &*other);
        }
        assert!(Storage::zeroed(usize::MAX).is_none() && Storage::zeroed(1 << 60).is_none());
    }
}
