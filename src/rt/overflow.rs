//! The report of a stack overflow.
//!
//! A coroutine that runs into its guard raises SIGSEGV. The handler here runs on the thread's
//! alternate signal stack, and claims the fault only if both the address lies in a guard of ours
//! and the stack pointer is on the stack above it. It then writes one line and aborts. Every other
//! fault goes to whoever had the handler before: std's own overflow report, a crash reporter, or
//! the default action.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{io, ptr};

use super::stack;

/// The handlers that were there before ours, for SIGSEGV and SIGBUS; leaked boxes.
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] =
    [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Size of the alternate stack for threads that come without one.
const ALT_STACK: usize = 64 * 1024;

/// Installs the handler, once for the process, and gives the calling thread an alternate signal
/// stack if it has none. Rust's own threads have one.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            let _ = install_for(signal, previous);
        }
    });
    ensure_alt_stack();
}

fn install_for(signal: libc::c_int, previous: &AtomicPtr<libc::sigaction>) -> io::Result<()> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only asks; the kernel fills `old`.
    if unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the successful call. It is stored before ours goes in, so that the
    // handler never finds it missing.
    previous.store(Box::into_raw(Box::new(unsafe { old.assume_init() })), Ordering::Release);

    // SAFETY: all zeroes is a valid `sigaction` (no flags, empty mask, SIG_DFL).
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `on_fault` has the signature that SA_SIGINFO asks for and is async-signal-safe.
    if unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives the calling thread an alternate signal stack if it has none.
pub(crate) fn ensure_alt_stack() {
    let mut current = MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: only asks; the kernel fills `current`.
    let asked = unsafe { libc::sigaltstack(ptr::null(), current.as_mut_ptr()) };
    // SAFETY: filled if the call succeeded, and not looked at otherwise.
    if asked != 0 || unsafe { current.assume_init() }.ss_flags & libc::SS_DISABLE == 0 {
        return;
    }
    // SAFETY: a new anonymous mapping touches nothing of ours.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            ALT_STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return; // an overflow will then kill the process without a report, as it would in C
    }
    let alternate = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: ALT_STACK };
    // SAFETY: the memory is ours, and stays mapped until `remove_alt_stack`.
    if unsafe { libc::sigaltstack(&alternate, ptr::null_mut()) } == 0 {
        OWN_ALT_STACK.set(memory);
    }
}

thread_local! {
    /// The alternate stack that we have given to this thread, if we have.
    static OWN_ALT_STACK: Cell<*mut libc::c_void> = const { Cell::new(ptr::null_mut()) };
}

/// Takes back what `ensure_alt_stack` has given, at the end of the thread.
pub(crate) fn remove_alt_stack() {
    let memory = OWN_ALT_STACK.replace(ptr::null_mut());
    if memory.is_null() {
        return;
    }
    let disable =
        libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: ALT_STACK };
    let mut previous = MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: both point to valid memory. We are not running on the alternate stack.
    if unsafe { libc::sigaltstack(&disable, previous.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: filled by the successful call.
    let previous = unsafe { previous.assume_init() };
    if previous.ss_sp == memory {
        // SAFETY: our own mapping, which the kernel has just been told to forget.
        unsafe { libc::munmap(memory, ALT_STACK) };
    } else {
        // Somebody has put another in its place, which stays.
        // SAFETY: what the kernel has just given us is valid.
        unsafe { libc::sigaltstack(&previous, ptr::null_mut()) };
    }
}

/// The stack pointer at the moment of the fault.
fn stack_pointer(context: *const libc::ucontext_t) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel hands a valid context to a SA_SIGINFO handler.
    unsafe {
        (*context).uc_mcontext.gregs[libc::REG_RSP as usize] as usize
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        (*context).uc_mcontext.sp as usize
    }
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands a valid siginfo to a SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(place) = stack::locate(address) {
        let sp = stack_pointer(context.cast());
        // A wild pointer into some other stack's guard is no overflow. C code with a frame larger
        // than the guard's rest has its stack pointer a little below the slot.
        let own_stack = sp >= place.slot_start.saturating_sub(1 << 20) && sp <= place.slot_end;
        if place.in_guard && own_stack {
            report(&place);
            // SAFETY: abort is async-signal-safe.
            unsafe { libc::abort() };
        }
    }
    pass_on(signal, info, context);
}

fn report(place: &stack::Place) {
    // SAFETY: the coroutine that owns the name is the one that has just faulted, so it is alive;
    // the header is at the far end of its stack.
    let (kind, id, name) = unsafe { (*place.header).label() };
    let mut line = Line { bytes: [0; 512], len: 0 };
    // Formatting into a fixed buffer allocates nothing. A line that is too long is cut.
    let _ = write!(line, "\ngreenling: {kind} ");
    let _ = match name {
        Some(name) => {
            line.push(b"'");
            line.push(&name[..name.len().min(100)]);
            line.push(b"'");
            Ok(())
        }
        None => write!(line, "<unnamed> #{id}"),
    };
    let _ = writeln!(
        line,
        " has overflowed its stack of {} bytes; give it more with thread::Builder::stack_size, or \
         all of them with hub::Config::stack_size",
        place.usable,
    );
    // SAFETY: write(2) is async-signal-safe and the buffer is valid.
    unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.len) };
}

/// A line of text in a fixed buffer.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        let room = self.bytes.len() - self.len;
        let text = &text[..text.len().min(room)];
        self.bytes[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Does what would have happened without our handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let which = usize::from(signal == libc::SIGBUS);
    let previous = PREVIOUS[which].load(Ordering::Acquire);
    // SAFETY: `install_for` stored a leaked box before our handler went in.
    let previous = unsafe { &*previous };
    // SAFETY: the kernel's siginfo. A positive code is a fault, anything else somebody's kill(2).
    let sent = unsafe { (*info).si_code } <= 0;
    match previous.sa_sigaction {
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // Back to the default, and return: the instruction faults again and the kernel does
            // what it would have done. (A fault cannot be ignored; the kernel kills then, too.)
            // SAFETY: all zeroes is a valid `sigaction`: SIG_DFL, no flags, empty mask.
            let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
            // SAFETY: sigaction is async-signal-safe and the action is valid.
            unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
            // A signal that was sent does not come again by itself, as a fault does.
            if sent {
                // SAFETY: raise is async-signal-safe.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: SA_SIGINFO says that the address is a handler of this type.
            let handler: Handler = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO the address is a handler of this type.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
