//! What is told of code that cannot work, or only late: to the log, and without one to standard error, for whoever
//! is not told can only guess why the program hangs.

use std::fmt;

use crate::rt::{hooked, real};

/// It is told once each.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(super) enum Once {
    SharesToken,
    LongPark,
    SpinsOnLock,
    IgnoresErrors,
}

/// Tells it if that is the first time.
#[cold]
pub(super) fn once(what: Once, level: log::Level, text: fmt::Arguments<'_>) {
    static TOLD: [std::sync::Once; 4] = [const { std::sync::Once::new() }; 4];
    TOLD[what as usize].call_once(|| tell(level, text));
}

/// `text` is about the calling coroutine.
#[cold]
pub(super) fn tell(level: log::Level, text: fmt::Arguments<'_>) {
    let id = hooked::task_id();
    // It is off as long as nobody has installed a logger.
    if log::max_level() != log::LevelFilter::Off {
        return log::log!(target: "greenling::patch", level, "coroutine {id} {text}");
    }
    // In one piece and past std's stream, which another coroutine may have borrowed.
    let line = format!("greenling: {}: coroutine {id} {text}\n", level.as_str().to_lowercase());
    let saved = real::errno();
    // SAFETY: the text is that long. A standard error that takes none is not there to be told of it.
    unsafe { real::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    real::set_errno(saved);
}
