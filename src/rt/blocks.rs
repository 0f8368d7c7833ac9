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

/// What memory for a layout is taken from the allocator as, and which list keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    layout: Layout,
    list: Option<usize>,
}

impl Class {
    /// To be evaluated at compile time.
    ///
    /// # Panics
    /// If the layout has no size.
    pub(super) const fn of(layout: Layout) -> Class {
        assert!(layout.size() > 0);
        let steps = layout.size().div_ceil(STEP);
        if layout.align() > ALIGN || steps > CLASSES {
            return Class { layout, list: None };
        }
        match Layout::from_size_align(steps * STEP, ALIGN) {
            Ok(layout) => Class { layout, list: Some(steps - 1) },
            Err(_) => unreachable!(),
        }
    }

    /// Memory from the allocator.
    #[cold]
    pub(super) fn allocate(self) -> NonNull<u8> {
        // SAFETY: the size is not zero.
        let block = unsafe { alloc(self.layout) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(self.layout))
    }

    /// Gives memory back to the allocator.
    ///
    /// # Safety
    /// It must be of this class, and nobody may use it any more.
    pub(super) unsafe fn free(self, block: NonNull<u8>) {
        // SAFETY: by the caller's promise `allocate` made it, by this layout.
        unsafe { dealloc(block.as_ptr(), self.layout) };
    }
}

impl Blocks {
    pub(super) fn new() -> Blocks {
        let list = || List { head: Cell::new(ptr::null_mut()), len: Cell::new(0) };
        Blocks { lists: std::array::from_fn(|_| list()) }
    }

    #[inline]
    pub(super) fn take(&self, class: Class) -> NonNull<u8> {
        let Some(list) = class.list else { return class.allocate() };
        let list = &self.lists[list];
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
        let list = class.list.map(|list| &self.lists[list]);
        let Some(list) = list.filter(|list| list.len.get() != KEPT) else {
            // SAFETY: the caller's promise.
            return unsafe { class.free(block) };
        };
        // SAFETY: by the caller's promise the block is ours, and it is larger and better aligned than an address.
        unsafe { block.cast::<*mut u8>().write(list.head.get()) };
        list.head.set(block.as_ptr());
        list.len.set(list.len.get() + 1);
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for (index, list) in self.lists.iter().enumerate() {
            let layout = Layout::from_size_align((index + 1) * STEP, ALIGN);
            let class = Class::of(layout.expect("as `of` makes it"));
            while let Some(block) = NonNull::new(list.head.get()) {
                // SAFETY: as in `take`; nobody else has it.
                unsafe {
                    list.head.set(block.cast::<*mut u8>().read());
                    class.free(block);
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
        let class = |size| Class::of(Layout::from_size_align(size, 8).unwrap());
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
        let class = Class::of(Layout::new::<[u64; 100]>());
        let many: Vec<_> = (0..1000).map(|_| blocks.take(class)).collect();
        // SAFETY: each is ours.
        many.into_iter().for_each(|block| unsafe { blocks.give(class, block) });
        assert_eq!(blocks.lists[class.list.unwrap()].len.get(), KEPT);
    }

    #[test]
    fn what_is_large_or_strictly_aligned_is_not_kept() {
        let blocks = Blocks::new();
        for (size, align, is_kept) in [(1025, 8, false), (1024, 16, true), (64, 32, false)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            let class = Class::of(layout);
            assert_eq!(class.list.is_some(), is_kept);
            let block = blocks.take(class);
            assert_eq!(block.as_ptr().addr() % align, 0);
            // SAFETY: it is ours, of this size.
            unsafe {
                block.write_bytes(1, size);
                blocks.give(class, block);
            }
        }
    }
}
