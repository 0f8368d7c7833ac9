//! Memory of tasks that are gone, for those that come next: the last one's is still in the cache.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Sizes are rounded up to whole cache lines; what is larger than the last class, or aligned to more than
/// [`ALIGN`], comes from the allocator and goes back there.
const STEP: usize = 64;
const CLASSES: usize = 16;
const ALIGN: usize = 16;

/// How many are kept of each size. AddressSanitizer is to see each use of one that is gone.
const KEPT: u32 = if cfg!(any(feature = "sanitizer", miri)) { 0 } else { 32 };

/// The list of a size. A free block begins with the address of the next.
#[derive(Debug)]
struct List {
    head: Cell<*mut u8>,
    len: Cell<u32>,
}

/// A hub's free blocks, by size.
#[derive(Debug)]
pub(super) struct Blocks {
    lists: [List; CLASSES],
}

/// Which list serves a layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class(usize);

impl Class {
    /// To be evaluated at compile time.
    pub(super) const fn of(layout: Layout) -> Option<Class> {
        let class = layout.size().div_ceil(STEP);
        if layout.align() > ALIGN || class == 0 || class > CLASSES {
            return None;
        }
        Some(Class(class - 1))
    }

    const fn layout(self) -> Layout {
        match Layout::from_size_align((self.0 + 1) * STEP, ALIGN) {
            Ok(layout) => layout,
            Err(_) => unreachable!(),
        }
    }

    /// Memory from the allocator.
    #[cold]
    pub(super) fn allocate(self) -> NonNull<u8> {
        // SAFETY: the size is not zero.
        let block = unsafe { alloc(self.layout()) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(self.layout()))
    }

    /// Gives memory back to the allocator.
    ///
    /// # Safety
    /// It must be of this class, and nobody may use it any more.
    pub(super) unsafe fn free(self, block: NonNull<u8>) {
        // SAFETY: by the caller's promise `allocate` made it, by this layout.
        unsafe { dealloc(block.as_ptr(), self.layout()) };
    }
}

impl Blocks {
    pub(super) fn new() -> Blocks {
        let list = || List { head: Cell::new(ptr::null_mut()), len: Cell::new(0) };
        Blocks { lists: std::array::from_fn(|_| list()) }
    }

    #[inline]
    pub(super) fn take(&self, class: Class) -> NonNull<u8> {
        let list = &self.lists[class.0];
        let Some(block) = NonNull::new(list.head.get()) else { return class.allocate() };
        // SAFETY: a block on the list is free, and `give` has written its beginning.
        list.head.set(unsafe { block.cast::<*mut u8>().read() });
        list.len.set(list.len.get() - 1);
        block
    }

    /// # Safety
    /// It must be of this class, and nobody may use it any more.
    #[inline]
    pub(super) unsafe fn give(&self, class: Class, block: NonNull<u8>) {
        let list = &self.lists[class.0];
        if list.len.get() == KEPT {
            // SAFETY: the caller's promise.
            return unsafe { class.free(block) };
        }
        // SAFETY: by the caller's promise the block is ours, and it is larger and better aligned than an address.
        unsafe { block.cast::<*mut u8>().write(list.head.get()) };
        list.head.set(block.as_ptr());
        list.len.set(list.len.get() + 1);
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for (class, list) in self.lists.iter().enumerate() {
            while let Some(block) = NonNull::new(list.head.get()) {
                // SAFETY: as in `take`; nobody else has it.
                unsafe {
                    list.head.set(block.cast::<*mut u8>().read());
                    Class(class).free(block);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_serves_again_for_its_size_only() {
        let blocks = Blocks::new();
        let class = |size| Class::of(Layout::from_size_align(size, 8).unwrap()).unwrap();
        let (small, large) = (blocks.take(class(60)), blocks.take(class(400)));
        // SAFETY: both are ours, of these sizes.
        unsafe {
            small.write_bytes(1, 64);
            large.write_bytes(2, 400);
            blocks.give(class(60), small);
            blocks.give(class(385), large); // of the same class as 400
        }
        let again = blocks.take(class(448));
        assert_eq!(again == large, KEPT != 0);
        assert_ne!(again, small);
        // SAFETY: as above.
        unsafe { blocks.give(class(448), again) };
    }

    #[test]
    fn no_more_are_kept_than_is_said() {
        let blocks = Blocks::new();
        let class = Class::of(Layout::new::<[u64; 100]>()).unwrap();
        let many: Vec<_> = (0..1000).map(|_| blocks.take(class)).collect();
        // SAFETY: each is ours.
        many.into_iter().for_each(|block| unsafe { blocks.give(class, block) });
        assert_eq!(blocks.lists[class.0].len.get(), KEPT);
    }

    #[test]
    fn what_is_large_or_strictly_aligned_has_no_class() {
        assert!(Class::of(Layout::from_size_align(1025, 8).unwrap()).is_none());
        assert!(Class::of(Layout::from_size_align(1024, 16).unwrap()).is_some());
        assert!(Class::of(Layout::from_size_align(64, 32).unwrap()).is_none());
    }
}
