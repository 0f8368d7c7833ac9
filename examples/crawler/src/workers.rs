//! The one place that knows whether workers are coroutines or threads.

use std::io;
use std::sync::Arc;

/// Room for TLS and for parsers in builds without optimization. It costs nothing until it is used.
const STACK: usize = 1 << 20;

/// What runs the blocking code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// Coroutines of the calling thread. All blocking calls of all libraries are cooperative.
    Coroutines,
    Threads,
}

impl Workers {
    /// To be called first in `main`.
    pub(crate) fn prepare(self) {
        if self == Workers::Coroutines {
            greenling::patch::all();
        }
    }

    /// Runs `work` in `count` workers, and returns when all have ended.
    pub(crate) fn run(self, count: usize, work: Arc<dyn Fn() + Send + Sync>) -> io::Result<()> {
        match self {
            Workers::Coroutines => {
                let mut handles = Vec::with_capacity(count);
                for _ in 0..count {
                    let work = work.clone();
                    let builder = greenling::thread::Builder::new().stack_size(STACK);
                    handles.push(builder.spawn(move || work())?);
                }
                greenling::join_all(handles).into_iter().try_for_each(check)
            }
            Workers::Threads => {
                let mut handles = Vec::with_capacity(count);
                for _ in 0..count {
                    let work = work.clone();
                    let builder = std::thread::Builder::new().stack_size(STACK);
                    handles.push(builder.spawn(move || work())?);
                }
                handles.into_iter().map(std::thread::JoinHandle::join).try_for_each(check)
            }
        }
    }

    /// Runs `work` beside everything else.
    pub(crate) fn spawn(self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match self {
            Workers::Coroutines => {
                greenling::thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
            }
            Workers::Threads => std::thread::Builder::new().stack_size(STACK).spawn(work).map(drop),
        }
    }
}

fn check(result: std::thread::Result<()>) -> io::Result<()> {
    result.map_err(|_| io::Error::other("a worker has panicked; its message is above"))
}
