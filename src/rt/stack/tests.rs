//! Stacks by themselves, without coroutines on them. libtest runs each test on a thread of its own, so each has
//! a pool of its own. That guards fault is shown in `tests/overflow.rs`, since a fault ends the process.

#![cfg(not(miri))] // all of it is mmap

use super::guard::guard_kind;
use super::*;
use corosensei::stack::Stack as _;
use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

fn base(stack: &Stack) -> usize {
    stack.base().get()
}

fn slot_of(stack: &Stack) -> usize {
    stack.limit().get()
}

/// All regions that there are descriptors for, in use or not.
fn descriptors() -> usize {
    let mut count = 0;
    let mut region = REGIONS.load(Ordering::Acquire);
    // SAFETY: descriptors are leaked.
    while let Some(found) = unsafe { region.as_ref() } {
        count += 1;
        region = found.next.load(Ordering::Acquire);
    }
    count
}

/// Fills the whole usable part with a pattern; a neighbour that is touched by that would show.
fn fill(stack: &Stack, value: u64) {
    for address in (slot_of(stack) + GUARD..base(stack)).step_by(8) {
        // SAFETY: between the guard and the header of a stack that nobody runs on.
        unsafe { ptr::with_exposed_provenance_mut::<u64>(address).write(value) };
    }
}

fn is_filled(stack: &Stack, value: u64) -> bool {
    (slot_of(stack) + GUARD..base(stack)).step_by(8).all(|address| {
        // SAFETY: as in `fill`.
        unsafe { ptr::with_exposed_provenance::<u64>(address).read() == value }
    })
}

#[test]
fn sizes_are_rounded_up_to_powers_of_two() {
    for (asked, size) in [
        (0, MIN_SIZE),
        (1, MIN_SIZE),
        (MIN_SIZE, MIN_SIZE),
        (MIN_SIZE + 1, 2 * MIN_SIZE),
        (100_000, 128 * 1024),
        (DEFAULT_SIZE, DEFAULT_SIZE),
        (3 << 20, 4 << 20),
    ] {
        let stack = Stack::new(asked).unwrap();
        let place = locate(base(&stack)).unwrap();
        assert_eq!(place.usable, size, "for {asked}");
        assert_eq!(place.slot_end - place.slot_start, size + GUARD);
        // What the header and the colour take is little.
        let room = base(&stack) - slot_of(&stack) - GUARD;
        assert!(room <= size && room >= size - 2048, "{room} of {size}");
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for size in [MAX_SIZE + 1, usize::MAX / 2, usize::MAX] {
        let refused = Stack::new(size).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(pool_stats().reserved_bytes, 0);
}

#[test]
fn stacks_are_aligned_and_do_not_overlap() {
    let stacks: Vec<_> = (0..100).map(|n| Stack::new(MIN_SIZE << (n % 3)).unwrap()).collect();
    let mut ranges: Vec<_> = stacks.iter().map(|stack| (slot_of(stack), base(stack))).collect();
    for &(limit, base) in &ranges {
        assert_eq!((limit % page_size(), base % 16), (0, 0));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
    for (n, stack) in stacks.iter().enumerate() {
        fill(stack, n as u64);
    }
    for (n, stack) in stacks.iter().enumerate() {
        assert!(is_filled(stack, n as u64));
    }
}

#[test]
fn an_address_is_found_in_its_slot() {
    let stacks: Vec<_> = (0..20).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    for stack in &stacks {
        let start = slot_of(stack);
        let end = start + GUARD + MIN_SIZE;
        for (address, in_guard) in [
            (start, true),
            (start + GUARD - 1, true),
            (start + GUARD, false),
            (base(stack), false),
            (end - 1, false),
        ] {
            let place = locate(address).unwrap();
            assert_eq!((place.slot_start, place.slot_end), (start, end));
            assert_eq!(place.in_guard, in_guard);
            assert_eq!(place.header.addr(), base(stack));
        }
        if let Some(next) = locate(end) {
            assert_eq!(next.slot_start, end);
        }
    }
    let local = 0_u8;
    for elsewhere in
        [0, 1, usize::MAX, &raw const local as usize, descriptors as *const () as usize]
    {
        assert!(locate(elsewhere).is_none());
    }
}

#[test]
fn the_header_says_whose_stack_it_is() {
    let stack = Stack::new(MIN_SIZE).unwrap();
    let place = locate(slot_of(&stack)).unwrap();
    let name = String::from("somebody");
    // SAFETY: the name outlives the labels that are read.
    unsafe {
        assert_eq!((*place.header).label().2, None);
        stack.set_label("coroutine", 7, Some(&name));
        assert_eq!((*place.header).label(), ("coroutine", 7, Some(b"somebody".as_slice())));
        stack.set_label("generator", 8, None);
        assert_eq!((*place.header).label(), ("generator", 8, None));
    }
    // Whoever has the stack next is not called by the old name.
    // SAFETY: as above.
    unsafe { stack.set_label("coroutine", 9, Some(&name)) };
    let at = base(&stack);
    drop(stack);
    let next = Stack::new(MIN_SIZE).unwrap();
    assert_eq!(base(&next), at);
    // SAFETY: there is no name.
    assert_eq!(unsafe { (*place.header).label().2 }, None);
}

#[test]
fn the_stack_that_was_dropped_last_is_taken_first() {
    let mut stacks: Vec<_> = (0..10).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    let places: Vec<_> = stacks.iter().map(base).collect();
    stacks.drain(..).for_each(drop);
    let again: Vec<_> = (0..10).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    assert!(again.iter().map(base).eq(places.into_iter().rev()));
}

#[test]
fn neighbours_have_different_colours() {
    let stacks: Vec<_> = (0..2 * COLOURS).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    let offsets: HashSet<_> = stacks.iter().map(|stack| base(stack) % page_size()).collect();
    assert_eq!(offsets.len(), COLOURS);
    let lines: HashSet<_> = offsets.iter().map(|offset| offset / COLOUR_STEP).collect();
    assert_eq!(lines.len(), COLOURS, "no two in the same cache line of a page");
}

#[test]
fn a_reservation_is_a_promise() {
    // All reserved, then all taken; and one taken for every two reserved.
    for step in [1, 2, 7] {
        let mut reserved = Vec::new();
        let mut taken = Vec::new();
        for n in 0..200 {
            reserved.push(Reservation::new(MIN_SIZE).unwrap());
            if n % step == 0 {
                taken.push(reserved.pop().unwrap().take().unwrap());
            }
            if n % 11 == 0 {
                taken.pop();
            }
            if n % 13 == 0 {
                reserved.pop().into_iter().for_each(Reservation::cancel);
            }
        }
        // From here on nothing new may be needed: there is no room for another region.
        let before = pool_stats().reserved_bytes;
        taken.extend(reserved.drain(..).map(|reservation| reservation.take().unwrap()));
        assert_eq!(pool_stats().reserved_bytes, before);
        let places: HashSet<_> = taken.iter().map(base).collect();
        assert_eq!(places.len(), taken.len());
        assert_eq!(pool_stats().in_use, taken.len());
    }
    assert_eq!(pool_stats().in_use, 0);
}

#[test]
fn a_cancelled_reservation_leaves_its_stack_to_others() {
    for _ in 0..1000 {
        Reservation::new(MIN_SIZE).unwrap().cancel();
        drop(Stack::new(MIN_SIZE).unwrap());
    }
    let stride = MIN_SIZE + GUARD;
    assert_eq!(pool_stats().reserved_bytes, FIRST_SLOTS * stride, "one region is enough");
}

#[test]
fn regions_grow_and_are_counted() {
    let stacks: Vec<_> = (0..FIRST_SLOTS * 7).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    let stats = pool_stats();
    assert_eq!((stats.in_use, stats.cached), (stacks.len(), 0));
    // 1 + 2 + 4 times the first.
    assert_eq!(stats.reserved_bytes, FIRST_SLOTS * 7 * (MIN_SIZE + GUARD));
    drop(stacks);
    let stats = pool_stats();
    assert_eq!((stats.in_use, stats.cached), (0, FIRST_SLOTS * 7));
}

#[test]
fn beyond_the_limit_pages_are_given_back() {
    set_cached(2);
    let stacks: Vec<_> = (0..5).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    let places: Vec<_> = stacks.iter().map(|stack| (slot_of(stack), base(stack))).collect();
    stacks.iter().for_each(|stack| fill(stack, 5));
    stacks.into_iter().for_each(drop);
    assert_eq!(pool_stats().cached, 2);
    // The first two are as they were, of the others nothing is left.
    for (n, (slot, _)) in places.iter().enumerate() {
        let lowest = ptr::with_exposed_provenance::<u64>(slot + GUARD);
        // SAFETY: the usable part stays mapped.
        assert_eq!(unsafe { lowest.read() }, if n < 2 { 5 } else { 0 });
    }
    // They are taken warm ones first, and work.
    let again: Vec<_> = (0..5).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
    let warm: HashSet<_> = again[..2].iter().map(base).collect();
    assert_eq!(warm, places[..2].iter().map(|place| place.1).collect());
    again.iter().for_each(|stack| fill(stack, 6));
    assert!(again.iter().all(|stack| is_filled(stack, 6)));
}

#[test]
fn trim_gives_the_pages_of_all_free_stacks_back() {
    let keep = Stack::new(MIN_SIZE).unwrap();
    let free = Stack::new(MIN_SIZE).unwrap();
    let lowest = ptr::with_exposed_provenance::<u64>(slot_of(&free) + GUARD);
    fill(&keep, 1);
    fill(&free, 2);
    drop(free);
    trim();
    assert_eq!(pool_stats().cached, 0);
    assert!(is_filled(&keep, 1));
    // SAFETY: the usable part stays mapped.
    assert_eq!(unsafe { lowest.read() }, 0);
    trim(); // with nothing to do
}

#[test]
fn a_stack_that_is_never_dropped_is_never_taken_again() {
    let (place, forgotten) = std::thread::spawn(|| {
        let forgotten = Stack::new(MIN_SIZE).unwrap();
        let place = base(&forgotten);
        fill(&forgotten, 0xf0f0);
        std::mem::forget(forgotten);
        for _ in 0..100 {
            let other = Stack::new(MIN_SIZE).unwrap();
            assert_ne!(base(&other), place);
        }
        (place, locate(place).unwrap().slot_start + GUARD)
    })
    .join()
    .unwrap();
    // Its thread is gone, others come and go, and it is still as it was.
    for _ in 0..20 {
        std::thread::spawn(|| {
            let stacks: Vec<_> = (0..100).map(|_| Stack::new(MIN_SIZE).unwrap()).collect();
            stacks.iter().for_each(|stack| fill(stack, 1));
        })
        .join()
        .unwrap();
    }
    assert!(locate(place).is_some());
    // SAFETY: the promise is that it is still there.
    assert_eq!(unsafe { ptr::with_exposed_provenance::<u64>(forgotten).read() }, 0xf0f0);
}

#[test]
fn a_thread_that_ends_gives_its_regions_back() {
    let places = std::thread::spawn(|| {
        let stacks: Vec<_> = (0..50).map(|n| Stack::new(MIN_SIZE << (n % 3)).unwrap()).collect();
        // Reserved but never taken, too.
        let _ = Reservation::new(8 << 20).unwrap();
        stacks.iter().map(base).collect::<Vec<_>>()
    })
    .join()
    .unwrap();
    // Another thread may have mapped something there since; but not all of it, and not the same.
    let still_there = places.iter().filter(|place| locate(**place).is_some()).count();
    assert!(still_there < places.len());
}

#[test]
fn the_last_stack_unmaps_its_region_when_the_pool_is_gone() {
    std::thread::spawn(|| {
        let first = Stack::new(MIN_SIZE).unwrap();
        let second = Stack::new(MIN_SIZE).unwrap();
        let place = base(&first);
        release_pool();
        fill(&first, 1);
        drop(first);
        assert!(locate(place).is_some(), "the second one is still in use");
        fill(&second, 2);
        assert!(is_filled(&second, 2));
        drop(second);
        assert!(locate(place).is_none_or(|found| found.slot_end < place));
    })
    .join()
    .unwrap();
}

/// At the end of a thread a second pool may come into being while stacks of the first are in use.
#[test]
fn a_stack_of_an_earlier_pool_does_not_get_into_a_later_one() {
    std::thread::spawn(|| {
        let old = Stack::new(MIN_SIZE).unwrap();
        release_pool();
        // The same place in the table stands for another size now.
        let larger = Stack::new(16 * MIN_SIZE).unwrap();
        let old_slot = slot_of(&old);
        drop(old);
        drop(larger);
        for _ in 0..3 {
            let next: Vec<_> = (0..4).map(|_| Stack::new(16 * MIN_SIZE).unwrap()).collect();
            assert!(next.iter().all(|stack| slot_of(stack) != old_slot));
            // Had it got in, this would run over its end.
            next.iter().for_each(|stack| fill(stack, 3));
        }
        // And of the same size.
        let old = Stack::new(MIN_SIZE).unwrap();
        release_pool();
        let new = Stack::new(MIN_SIZE).unwrap();
        let in_use = pool_stats().in_use;
        drop(old);
        assert_eq!(pool_stats().in_use, in_use);
        drop(new);
        assert_eq!(pool_stats().in_use, 0);
    })
    .join()
    .unwrap();
}

#[test]
fn descriptors_of_unmapped_regions_serve_again() {
    let cycle = || {
        std::thread::spawn(|| {
            let sizes = [MIN_SIZE, 2 * MIN_SIZE, 4 * MIN_SIZE];
            let stacks: Vec<_> = (0..60).map(|n| Stack::new(sizes[n % 3]).unwrap()).collect();
            drop(stacks);
        })
        .join()
        .unwrap();
    };
    cycle();
    let before = descriptors();
    (0..200).for_each(|_| cycle());
    // Other tests run at the same time and may add some; two hundred rounds would have added 1200.
    assert!(descriptors() < before + 200, "{} after {before}", descriptors());
}

#[test]
fn addresses_are_found_while_regions_come_and_go() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let looker = std::thread::spawn(|| {
        let mut address = 0x7000_0000_0000_usize;
        let mut found = 0_u64;
        while !STOP.load(Ordering::Relaxed) {
            // Wherever that may be: it must not crash, and what it finds must contain the address.
            address = address.wrapping_add(0x3_7001) & 0x7fff_ffff_ffff | 0x7000_0000_0000;
            if let Some(place) = locate(address) {
                found += 1;
                std::hint::black_box(place.usable);
            }
        }
        found
    });
    let churners: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for n in 0..60 {
                    std::thread::spawn(move || {
                        let stacks: Vec<_> =
                            (0..20).map(|_| Stack::new(MIN_SIZE << (n % 4)).unwrap()).collect();
                        for stack in &stacks {
                            let place = locate(base(stack)).unwrap();
                            assert_eq!(place.slot_start, slot_of(stack));
                        }
                    })
                    .join()
                    .unwrap();
                }
            })
        })
        .collect();
    churners.into_iter().for_each(|churner| churner.join().unwrap());
    STOP.store(true, Ordering::Relaxed);
    looker.join().unwrap();
}

#[test]
fn a_guard_is_made_for_every_stack() {
    let stack = Stack::new(MIN_SIZE).unwrap();
    assert!(guard_kind().is_some());
    // write(2) says EFAULT where a store would fault.
    // (One end is as good as the other.)
    let pipe = std::os::unix::net::UnixStream::pair().unwrap();
    let readable = |address: usize| {
        use std::os::fd::AsRawFd;
        let from: *const libc::c_void = ptr::with_exposed_provenance(address);
        // SAFETY: the kernel checks the address.
        let written = unsafe { libc::write(pipe.1.as_raw_fd(), from, 1) };
        written == 1
    };
    let start = slot_of(&stack);
    for offset in (0..GUARD).step_by(page_size()).chain([1, GUARD - 1]) {
        assert!(!readable(start + offset), "the guard is open at {offset}");
    }
    assert!(readable(start + GUARD) && readable(base(&stack)));
    // It stays when the stack is given back, trimmed and taken again.
    drop(stack);
    trim();
    let again = Stack::new(MIN_SIZE).unwrap();
    assert_eq!(slot_of(&again), start);
    assert!(!readable(start) && !readable(start + GUARD - 1) && readable(start + GUARD));
}
