//! The bytes behind a host tensor: owned and aligned, or borrowed from a mapped file.
//!
//! Invariant: the bytes of a `Storage` never move or change while it is shared.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of owned tensor bytes: one cache line, one 512-bit vector.
pub const ALIGNMENT: usize = 64;

/// A zero-initialised block aligned to [`ALIGNMENT`].
pub(crate) struct Aligned {
    pointer: NonNull<u8>,
    length: usize,
}

impl Aligned {
    fn layout(length: usize) -> Option<Layout> {
        Layout::from_size_align(length.max(1), ALIGNMENT).ok()
    }

    fn zeroed(length: usize) -> Option<Self> {
        let layout = Self::layout(length)?;
        // SAFETY: the layout has a non-zero size.
        let pointer = unsafe { alloc_zeroed(layout) };
        NonNull::new(pointer).map(|pointer| Aligned { pointer, length })
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.length) {
            // SAFETY: allocated in `zeroed` with this same layout.
            unsafe { dealloc(self.pointer.as_ptr(), layout) }
        }
    }
}

// SAFETY: the block is owned; shared access is read-only, exclusive access goes through `&mut`.
unsafe impl Send for Aligned {}
// SAFETY: see above.
unsafe impl Sync for Aligned {}

enum Owner {
    Aligned(Aligned),
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
        let block = Aligned::zeroed(length)?;
        Some(Storage { owner: Arc::new(Owner::Aligned(block)), offset: 0, length })
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

    /// The bytes for writing; copied first if they are shared or borrowed.
    pub fn make_mut(&mut self) -> &mut [u8] {
        let exclusive =
            matches!(Arc::get_mut(&mut self.owner), Some(Owner::Aligned(_))) && self.offset == 0;
        if !exclusive {
            let mut block = match Aligned::zeroed(self.length) {
                Some(block) => block,
                None => return &mut [],
            };
            // SAFETY: the new block is exclusively ours and holds `length` bytes.
            unsafe {
                std::slice::from_raw_parts_mut(block.pointer.as_mut(), self.length)
                    .copy_from_slice(self);
            }
            *self =
                Storage { owner: Arc::new(Owner::Aligned(block)), offset: 0, length: self.length };
        }
        match Arc::get_mut(&mut self.owner) {
            // SAFETY: exclusive owner of a block of at least `length` bytes.
            Some(Owner::Aligned(block)) => unsafe {
                std::slice::from_raw_parts_mut(block.pointer.as_ptr(), self.length)
            },
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
        let mut block = Storage::zeroed(100).unwrap();
        let address = block.as_ptr() as usize;
        assert_eq!(address % ALIGNMENT, 0);
        assert_eq!(block.make_mut().as_ptr() as usize, address);
        let other = block.clone();
        assert_ne!(block.make_mut().as_ptr() as usize, address);
        assert_eq!(other.as_ptr() as usize, address);
    }
}
