//! What is told of code that cannot work, or only late, so that nobody has to guess why the program hangs.

#![forbid(unsafe_code)]

use std::fmt;

use crate::rt::hooked;

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
    log::log!(target: "greenling::patch", level, "coroutine {} {text}", hooked::task_id());
}
