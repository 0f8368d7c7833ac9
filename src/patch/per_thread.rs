//! Waiting that is tied to the thread, and what comes of it when several coroutines of one thread do so.
//!
//! | what | is per thread | two coroutines of one thread |
//! |---|---|---|
//! | std's thread::park | a word | a notice wakes both; one that another takes unseen is found out within 50 ms |
//! | std's mpsc, crossbeam-channel | that, and who wakes whom: never the own thread | hear of other threads only |
//! | parking_lot | the entry of its queue, and the word in it | damage the queue: the process ends |

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::time::Duration;

use super::notice::{self, Once};
use crate::rt::real;

thread_local! {
    /// The address of the thread's word; 0 before that is known.
    static PARKER: Cell<usize> = const { Cell::new(0) };
    static PROBING: Cell<bool> = const { Cell::new(false) };
}

/// Where the word lies, as seen from what a `Thread` points to; unknown is `isize::MAX`.
static OFFSET: AtomicIsize = AtomicIsize::new(isize::MAX);

/// The words of threads whose coroutines have waited by them; a small set, and hints only.
static PARKERS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

fn place(address: usize) -> &'static AtomicUsize {
    &PARKERS[(address >> 3) % PARKERS.len()]
}

/// What the calling thread's `Thread` points to. It is a number to compare with, and never followed.
fn handle() -> Option<usize> {
    let thread = std::thread::current();
    let is_pointer = size_of_val(&thread) == size_of::<usize>();
    // SAFETY: of that size, and without padding since it has the niche of a reference.
    is_pointer.then(|| unsafe { std::mem::transmute_copy(&thread) })
}

/// Finds out where the words are, by waiting for the calling thread's for no time. It cannot be found out
/// in the middle of thread::park, which looks at the word first.
pub(super) fn prepare() {
    if OFFSET.load(Ordering::Relaxed) != isize::MAX {
        return;
    }
    let probe = || {
        PROBING.set(true);
        std::thread::park_timeout(Duration::ZERO);
        !PROBING.replace(false)
    };
    // If there is a token, the first call takes it; it belongs back.
    if !probe() && probe() {
        std::thread::current().unpark();
    }
    if let Some(handle) = handle() {
        if PARKER.get() != 0 {
            OFFSET.store(PARKER.get().wrapping_sub(handle) as isize, Ordering::Relaxed);
        }
    }
}

/// The word of the calling thread's thread::park.
pub(super) fn parker() -> Option<usize> {
    if PARKER.get() == 0 {
        let offset = OFFSET.load(Ordering::Relaxed);
        if offset == isize::MAX {
            return None;
        }
        PARKER.set(handle()?.wrapping_add_signed(offset));
    }
    let address = PARKER.get();
    place(address).store(address, Ordering::SeqCst);
    Some(address)
}

/// Whether it is the wait of [`prepare`]'s own call.
pub(super) fn is_probing(address: usize) -> bool {
    let probing = PROBING.replace(false);
    if probing {
        PARKER.set(address);
        real::set_errno(libc::ETIMEDOUT);
    }
    probing
}

pub(super) fn is_parker_of_any(address: usize) -> bool {
    place(address).load(Ordering::SeqCst) == address
}

/// Whether the word lies in the calling thread's thread-local storage, as parking_lot's does.
pub(super) fn is_in_own_storage(address: usize) -> bool {
    struct Search {
        address: usize,
        found: bool,
    }
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        data: *mut libc::c_void,
    ) -> c_int {
        // SAFETY: dl_iterate_phdr hands out valid objects, and `data` is the search below.
        unsafe {
            let (info, search) = (&*info, &mut *data.cast::<Search>());
            let start = info.dlpi_tls_data as usize;
            for header in 0..usize::from(info.dlpi_phnum) {
                let header = &*info.dlpi_phdr.add(header);
                let offset = search.address.wrapping_sub(start);
                if header.p_type == libc::PT_TLS && start != 0 {
                    search.found |= offset < header.p_memsz as usize;
                }
            }
            c_int::from(search.found)
        }
    }
    let mut search = Search { address, found: false };
    let data: *mut Search = &mut search;
    // SAFETY: `look` has the right signature, and the search outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), data.cast()) };
    search.found
}

#[cold]
pub(super) fn complain() {
    let text = format_args!(
        "and another of the same thread wait by what the thread has only one of \
         (std::thread::park, std::sync::mpsc, crossbeam-channel): a wake-up may come late, and a channel wakes \
         nobody for a message from its own thread. Use greenling::thread::park, greenling::sync::mpsc, or std's locks"
    );
    notice::once(Once::SharesToken, log::Level::Error, text);
}

/// The coroutine waits by thread::park, and has done so for long.
#[cold]
pub(super) fn tell_of_long_wait(time: Duration) {
    let text = format_args!(
        "has been waiting by std::thread::park for {time:?}. If it waits for a channel \
         (std::sync::mpsc, crossbeam-channel), that wakes it for messages from other threads, and never \
         for those from coroutines of its own: use greenling::sync::mpsc"
    );
    notice::once(Once::LongPark, log::Level::Warn, text);
}

/// parking_lot has put the thread into its queue twice by now, and that queue has become a ring. Nothing may
/// unwind from here: so this ends the process, as the panic of a function that must not unwind.
#[cold]
pub(super) fn refuse() -> ! {
    panic!(
        "two coroutines of one thread wait for locks of parking_lot, whose queue has one entry for each thread: \
         it is damaged, and the process cannot go on. Use std's locks or greenling::sync"
    )
}
