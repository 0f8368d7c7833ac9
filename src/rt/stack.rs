//! Stacks: cut from large regions, guarded, coloured, reused.
//!
//! ```text
//!  region: one mmap, MAP_NORESERVE, no huge pages
//!  low                                                                         high
//!  +-------+-----------------------+-------+-----------------------+------- - -
//!  | guard | slot 0                | guard | slot 1                | guard
//!  +-------+-----------------------+-------+-----------------------+------- - -
//!
//!  one slot
//!  +-------------------+--------------------------------+--------+-------------+
//!  | guard             | usable, grows downwards  <---- | header | colour      |
//!  +-------------------+--------------------------------+--------+-------------+
//!  ^ limit()                                            ^ base()  0..15 cache lines,
//!                                                                 by the slot's number
//! ```
//!
//! * The **region** costs address space only: pages come into being when they are touched, so
//!   a stack's size is a promise and not a price.
//! * The **guard** makes an overflow a fault instead of a corruption. `MADV_GUARD_INSTALL`
//!   (Linux 6.13) marks it in the page table, so a million guards need no map of their own;
//!   elsewhere `mprotect` does, at two maps a stack. A guard is put in when its slot is first used,
//!   and stays for good.
//! * The **header** tells the overflow report whose stack this is. It lies beside what the coroutine
//!   touches first, so it costs no page and no cache line of its own.
//! * The **colour** starts each stack a few cache lines lower than its neighbour. Without it the hot
//!   end of every stack lies at the same offset of a page, and a thousand coroutines fight for a
//!   handful of L1 sets.
//!
//! A [`Stack`] that is dropped returns to its thread's pool, last in first out. One that is never
//! dropped (its coroutine was forgotten) is never reused.

use std::cell::{Cell, RefCell};
use std::io;
use std::num::NonZeroUsize;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

mod guard;

use super::{exit, overflow};
use guard::GUARD;
pub(crate) use guard::force_mprotect_guards;

/// Size of a coroutine's stack unless it asks for another: 256 KiB.
pub(crate) const DEFAULT_SIZE: usize = 256 * 1024;

/// The smallest stack: room for a panic to unwind through a few frames.
pub(crate) const MIN_SIZE: usize = 16 * 1024;

/// The largest stack that can be asked for: 1 TiB of address space.
const MAX_SIZE: usize = 1 << 40;

/// How many free stacks keep their pages, for each size and thread.
pub(crate) const DEFAULT_CACHED: usize = 16 * 1024;

/// Slots of the first region of a size, and of the largest. Regions double in between, so that a
/// thread with three coroutines maps little and one with a million makes few maps.
const FIRST_SLOTS: usize = 16;
const MAX_SLOTS: usize = 4096;

/// A region that is smaller than this is not tried for: the address space is used up.
const LAST_REGION: usize = 1 << 20;

/// What is left of the address space for others. The heap has to grow, too, and aborts if it cannot.
const HEADROOM: usize = 32 << 20;

/// Step and number of the colours.
const COLOUR_STEP: usize = 64;
const COLOURS: usize = 16;

/// Whose stack this is; read by the overflow report, from a signal handler.
#[repr(C, align(16))]
pub(crate) struct Header {
    /// The name's bytes, or null. They belong to the coroutine, which outlives its use of the stack.
    name: Cell<*const u8>,
    name_len: Cell<usize>,
    id: Cell<u64>,
    /// What kind of thing runs here: "coroutine", "greenlet", "generator".
    kind: Cell<&'static str>,
}

impl Header {
    /// # Safety
    /// The name that was set must still be alive.
    pub(crate) unsafe fn label(&self) -> (&'static str, u64, Option<&[u8]>) {
        let name = self.name.get();
        let name = if name.is_null() {
            None
        } else {
            // SAFETY: `set_label` stored a valid slice, alive by contract.
            Some(unsafe { std::slice::from_raw_parts(name, self.name_len.get()) })
        };
        (self.kind.get(), self.id.get(), name)
    }
}

/// One mapping, divided into slots of equal size.
///
/// Descriptors live for ever, on a list that the signal handler can walk without a lock. The
/// descriptor of a region that was unmapped has base 0 and serves the next region.
pub(crate) struct Region {
    /// Lowest address; 0 while unused. Written last when a region appears and first when it goes.
    base: AtomicUsize,
    /// Bytes from one slot to the next: guard and usable part.
    stride: AtomicUsize,
    slots: AtomicUsize,
    /// Slots that are in use or in a free list. Only its thread changes it.
    taken: AtomicUsize,
    /// The generation of the pool that it belongs to.
    pool: AtomicUsize,
    next: AtomicPtr<Region>,
}

static REGIONS: AtomicPtr<Region> = AtomicPtr::new(ptr::null_mut());

/// Where an address lies among the stacks.
pub(crate) struct Place {
    pub(crate) slot_start: usize,
    pub(crate) slot_end: usize,
    pub(crate) usable: usize,
    pub(crate) in_guard: bool,
    pub(crate) header: *const Header,
}

/// Finds the slot that `address` lies in. Async-signal-safe.
pub(crate) fn locate(address: usize) -> Option<Place> {
    let mut region = REGIONS.load(Ordering::Acquire);
    // SAFETY: descriptors are leaked, so every pointer on the list is valid for ever.
    while let Some(found) = unsafe { region.as_ref() } {
        let base = found.base.load(Ordering::Acquire);
        let stride = found.stride.load(Ordering::Relaxed);
        let len = stride * found.slots.load(Ordering::Relaxed);
        if base != 0 && address >= base && address < base + len {
            let slot = (address - base) / stride;
            let slot_start = base + slot * stride;
            return Some(Place {
                slot_start,
                slot_end: slot_start + stride,
                usable: stride - GUARD,
                in_guard: address - slot_start < GUARD,
                header: header_of(slot_start + stride, slot),
            });
        }
        region = found.next.load(Ordering::Acquire);
    }
    None
}

fn header_of(slot_end: usize, slot: usize) -> *const Header {
    let colour = (slot % COLOURS) * COLOUR_STEP;
    ptr::with_exposed_provenance(slot_end - colour - size_of::<Header>())
}

fn page_size() -> usize {
    static PAGE: OnceLock<usize> = OnceLock::new();
    // SAFETY: sysconf takes a number and returns one.
    *PAGE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize)
}

impl Region {
    /// Maps a region of up to `slots` slots; fewer when the address space is short.
    fn map(stride: usize, mut slots: usize, pool: usize) -> io::Result<&'static Region> {
        let base = loop {
            match map_with_headroom(stride * slots) {
                Ok(base) => break base,
                Err(error) if slots * stride <= LAST_REGION || slots == 1 => return Err(error),
                Err(_) => slots /= 2,
            }
        };
        let region = Region::descriptor();
        region.stride.store(stride, Ordering::Relaxed);
        region.slots.store(slots, Ordering::Relaxed);
        region.taken.store(0, Ordering::Relaxed);
        region.pool.store(pool, Ordering::Relaxed);
        region.base.store(base, Ordering::Release);
        Ok(region)
    }

    /// A descriptor that nobody uses: an old one, or a new one at the head of the list.
    fn descriptor() -> &'static Region {
        /// Marks a descriptor as claimed before its real base is known. No address is below it.
        const CLAIMED: usize = usize::MAX;
        let mut region = REGIONS.load(Ordering::Acquire);
        // SAFETY: descriptors are leaked, so every pointer on the list is valid for ever.
        while let Some(found) = unsafe { region.as_ref() } {
            let claim =
                found.base.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed);
            if claim.is_ok() {
                return found;
            }
            region = found.next.load(Ordering::Acquire);
        }
        let region = Box::leak(Box::new(Region {
            base: AtomicUsize::new(CLAIMED),
            stride: AtomicUsize::new(1),
            slots: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            pool: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let mut head = REGIONS.load(Ordering::Acquire);
        loop {
            region.next.store(head, Ordering::Relaxed);
            let pushed =
                REGIONS.compare_exchange_weak(head, region, Ordering::AcqRel, Ordering::Acquire);
            match pushed {
                Ok(_) => return region,
                Err(now) => head = now,
            }
        }
    }

    fn len(&self) -> usize {
        self.stride.load(Ordering::Relaxed) * self.slots.load(Ordering::Relaxed)
    }

    /// Gives the whole region back to the kernel. No slot may be in use.
    fn unmap(&self) {
        let len = self.len();
        let base = self.base.swap(0, Ordering::AcqRel);
        // SAFETY: the range is one mapping of ours and no stack in it is in use.
        unsafe { unmap_pages(base, len) };
    }
}

/// As [`map_pages`], if [`HEADROOM`] is left after that.
fn map_with_headroom(len: usize) -> io::Result<usize> {
    let base = map_pages(len)?;
    let headroom = map_pages(HEADROOM);
    // SAFETY: both were mapped just now, and nobody has seen them.
    unsafe {
        if let Ok(probe) = headroom {
            unmap_pages(probe, HEADROOM);
            return Ok(base);
        }
        unmap_pages(base, len);
    }
    headroom
}

/// # Safety
/// The range must be a mapping of [`map_pages`] that nobody uses any more.
unsafe fn unmap_pages(base: usize, len: usize) {
    // SAFETY: by contract.
    unsafe { libc::munmap(ptr::with_exposed_provenance_mut(base), len) };
}

fn map_pages(len: usize) -> io::Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let base = unsafe {
        libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A huge page would make an idle coroutine cost 2 MiB. Kernels without them say EINVAL.
    // SAFETY: the range is the mapping just made.
    unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
    Ok(base.expose_provenance())
}

/// A free slot of a region.
#[derive(Clone, Copy)]
struct Slot {
    region: &'static Region,
    number: u32,
}

impl Slot {
    fn start(self) -> usize {
        let stride = self.region.stride.load(Ordering::Relaxed);
        self.region.base.load(Ordering::Relaxed) + self.number as usize * stride
    }

    /// Lets the kernel take back the pages; the guard stays.
    fn discard_pages(self) {
        let stride = self.region.stride.load(Ordering::Relaxed);
        let usable = ptr::with_exposed_provenance_mut(self.start() + GUARD);
        // SAFETY: nobody uses the slot, so nobody misses what was in it.
        unsafe { libc::madvise(usable, stride - GUARD, libc::MADV_DONTNEED) };
    }
}

/// The stacks of one size.
struct Class {
    /// Usable bytes of each.
    size: usize,
    /// Free stacks whose pages are still there, the last used on top.
    warm: Vec<Slot>,
    /// Free stacks whose pages were given back.
    cold: Vec<Slot>,
    regions: Vec<&'static Region>,
    /// Slots of the newest region that were never used.
    fresh: u32,
    /// How many of the free stacks are promised to coroutines that have not started.
    reserved: usize,
    in_use: usize,
}

impl Class {
    /// Makes sure that there is a free stack for one more who will come for it.
    #[inline]
    fn reserve(&mut self, pool: usize) -> io::Result<()> {
        if self.warm.len() + self.cold.len() <= self.reserved {
            let slot = self.carve(pool)?;
            self.cold.push(slot);
        }
        self.reserved += 1;
        Ok(())
    }

    /// A slot that was never used, with its guard.
    #[cold]
    fn carve(&mut self, pool: usize) -> io::Result<Slot> {
        if self.fresh == 0 {
            let last = self.regions.last().map_or(0, |last| last.slots.load(Ordering::Relaxed));
            let wanted = (last * 2).clamp(FIRST_SLOTS, MAX_SLOTS);
            let region = Region::map(self.size + GUARD, wanted, pool)?;
            self.fresh = region.slots.load(Ordering::Relaxed) as u32;
            self.regions.push(region);
        }
        let region = *self.regions.last().expect("a class with fresh slots has a region");
        let number = region.slots.load(Ordering::Relaxed) as u32 - self.fresh;
        let slot = Slot { region, number };
        guard::install(slot.start())?;
        self.fresh -= 1;
        region.taken.fetch_add(1, Ordering::Relaxed);
        Ok(slot)
    }
}

/// The stacks of one thread.
struct Pool {
    classes: Vec<Class>,
    cached: usize,
    /// Tells pools apart: a thread that is ending may make a second one.
    generation: usize,
}

thread_local! {
    /// Null before first use and after the thread's end. No destructor: a stack may be dropped by
    /// another thread-local's destructor, whatever their order.
    static POOL: Cell<*const RefCell<Pool>> = const { Cell::new(ptr::null()) };
}

fn pool() -> &'static RefCell<Pool> {
    let pool = POOL.get();
    // SAFETY: the pointer is null or what `make_pool` stored. The box is freed only by
    // `release_pool`, which resets the pointer and keeps no reference.
    match unsafe { pool.as_ref() } {
        Some(pool) => pool,
        None => make_pool(),
    }
}

#[cold]
fn make_pool() -> &'static RefCell<Pool> {
    static GENERATION: AtomicUsize = AtomicUsize::new(1);
    overflow::install();
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    let pool = Pool { classes: Vec::new(), cached: DEFAULT_CACHED, generation };
    let pool = Box::leak(Box::new(RefCell::new(pool)));
    POOL.set(pool);
    exit::at_thread_exit(exit::Phase::Stacks, release_pool);
    pool
}

/// Gives back what the ending thread's pool holds. Regions with a stack that is still in use
/// stay, for ever: nobody can tell who refers to them.
fn release_pool() {
    let pool = POOL.replace(ptr::null());
    if pool.is_null() {
        return;
    }
    // SAFETY: made by `make_pool` from a box; the thread-local no longer gives it out, and no
    // function here keeps a reference over a call that could end the thread.
    let pool = unsafe { Box::from_raw(pool.cast_mut()) };
    for class in pool.into_inner().classes {
        for slot in class.warm.iter().chain(&class.cold) {
            slot.region.taken.fetch_sub(1, Ordering::Relaxed);
        }
        for region in class.regions {
            if region.taken.load(Ordering::Relaxed) == 0 {
                region.unmap();
            }
        }
    }
    overflow::remove_alt_stack();
}

/// Sets how many free stacks of each size this thread keeps with their pages.
pub(crate) fn set_cached(limit: usize) {
    pool().borrow_mut().cached = limit;
}

/// Gives the pages of all free stacks of this thread back to the kernel.
pub(crate) fn trim() {
    let pool = &mut *pool().borrow_mut();
    for class in &mut pool.classes {
        for slot in class.warm.drain(..) {
            slot.discard_pages();
            class.cold.push(slot);
        }
    }
}

/// What a thread's pool holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolStats {
    pub(crate) in_use: usize,
    pub(crate) cached: usize,
    pub(crate) reserved_bytes: usize,
}

pub(crate) fn pool_stats() -> PoolStats {
    let mut stats = PoolStats::default();
    for class in &pool().borrow().classes {
        stats.in_use += class.in_use;
        stats.cached += class.warm.len();
        stats.reserved_bytes += class.regions.iter().map(|region| region.len()).sum::<usize>();
    }
    stats
}

/// A stack that somebody runs on, or is about to.
pub(crate) struct Stack {
    base: NonZeroUsize,
    slot: Slot,
    /// Index of its size in the pool's table.
    class: u32,
}

/// A promise of a stack: taking it cannot fail.
///
/// A coroutine needs no stack before it runs, and by then another has often given back a warm one. So
/// to spawn only reserves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// The usable size of the stack, in bytes.
    size: usize,
}

impl Reservation {
    /// Reserves a stack of at least `size` bytes (rounded up to a power of two) in this thread's pool.
    ///
    /// # Errors
    /// `OutOfMemory` when the address space, the memory or the number of maps is used up, and
    /// `InvalidInput` for a size beyond 1 TiB.
    #[inline]
    pub(crate) fn new(size: usize) -> io::Result<Reservation> {
        let pool = &mut *pool().borrow_mut();
        let class = match pool.classes.iter_mut().position(|class| class.size == size) {
            Some(class) => class,
            None => pool.class_for(size)?,
        };
        let class = &mut pool.classes[class];
        class.reserve(pool.generation)?;
        Ok(Reservation { size: class.size })
    }

    /// Gives the promise back.
    pub(crate) fn cancel(self) {
        let pool = &mut *pool().borrow_mut();
        if let Some(class) = pool.classes.iter_mut().find(|class| class.size == self.size) {
            class.reserved = class.reserved.saturating_sub(1);
        }
    }

    /// Takes the stack.
    ///
    /// # Errors
    /// Only if the thread's pool has been taken down and made anew since the reservation.
    #[inline]
    pub(crate) fn take(self) -> io::Result<Stack> {
        let pool = &mut *pool().borrow_mut();
        let index = match pool.classes.iter().position(|class| class.size == self.size) {
            Some(index) => index,
            None => pool.class_for(self.size)?,
        };
        let class = &mut pool.classes[index];
        class.reserved = class.reserved.saturating_sub(1);
        let slot = match class.warm.pop().or_else(|| class.cold.pop()) {
            Some(slot) => slot,
            None => class.carve(pool.generation)?,
        };
        class.in_use += 1;
        let slot_end = slot.start() + GUARD + class.size;
        let header = header_of(slot_end, slot.number as usize);
        // SAFETY: the header lies at the top of a slot that is ours alone, in writable pages, and
        // is aligned: slots end on a page and colours are multiples of 64.
        unsafe {
            header.cast_mut().write(Header {
                name: Cell::new(ptr::null()),
                name_len: Cell::new(0),
                id: Cell::new(0),
                kind: Cell::new("coroutine"),
            })
        };
        let base = NonZeroUsize::new(header.addr()).expect("a mapped address is not zero");
        Ok(Stack { base, slot, class: index as u32 })
    }
}

impl Pool {
    #[cold]
    fn class_for(&mut self, size: usize) -> io::Result<usize> {
        if size > MAX_SIZE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "stack size too large"));
        }
        let size = size.max(MIN_SIZE).max(page_size()).next_power_of_two();
        if let Some(class) = self.classes.iter().position(|class| class.size == size) {
            return Ok(class);
        }
        self.classes.push(Class {
            size,
            warm: Vec::new(),
            cold: Vec::new(),
            regions: Vec::new(),
            fresh: 0,
            reserved: 0,
            in_use: 0,
        });
        Ok(self.classes.len() - 1)
    }
}

impl Stack {
    /// A stack of at least `size` bytes (rounded up to a power of two).
    ///
    /// # Errors
    /// As for [`Reservation::new`].
    pub(crate) fn new(size: usize) -> io::Result<Stack> {
        Reservation::new(size)?.take()
    }

    fn header(&self) -> &Header {
        // SAFETY: `new` wrote the header there, and it stays as long as the stack is ours.
        unsafe { &*ptr::with_exposed_provenance(self.base.get()) }
    }

    /// Says whose stack this is, for the overflow report.
    ///
    /// # Safety
    /// `name` must stay alive until the stack is dropped or labelled anew.
    pub(crate) unsafe fn set_label(&self, kind: &'static str, id: u64, name: Option<&str>) {
        let header = self.header();
        header.kind.set(kind);
        header.id.set(id);
        header.name_len.set(name.map_or(0, str::len));
        header.name.set(name.map_or(ptr::null(), str::as_ptr));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let slot = self.slot;
        let pool = POOL.get();
        // SAFETY: null, or the live pool of this thread (see `pool`). Stacks are not `Send`, so if
        // the pool is there, the slot is its own.
        let pool = unsafe { pool.as_ref() };
        let generation = slot.region.pool.load(Ordering::Relaxed);
        let pool = pool.map(RefCell::borrow_mut).filter(|pool| pool.generation == generation);
        let Some(mut pool) = pool else {
            // The thread is ending and its pool is gone: the last one out unmaps the region.
            if slot.region.taken.fetch_sub(1, Ordering::Relaxed) == 1 {
                slot.region.unmap();
            }
            return;
        };
        let pool = &mut *pool;
        let class = &mut pool.classes[self.class as usize];
        class.in_use -= 1;
        if class.warm.len() < pool.cached {
            class.warm.push(slot);
        } else {
            slot.discard_pages();
            class.cold.push(slot);
        }
    }
}

// SAFETY: the stack has a guard below (`Class::take` fails otherwise), at least MIN_SIZE minus the
// largest colour and the header of usable bytes, and both ends are aligned to 16: `limit` to a
// page, `base` because the header is `align(16)`.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        self.base
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.slot.start()).expect("a mapped address is not zero")
    }
}

#[cfg(test)]
mod tests;
