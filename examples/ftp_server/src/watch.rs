//! Listening to the client while a transfer runs.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use greenling::thread::{self, JoinHandle};

use crate::control::{Control, Input};
use crate::data::Break;
use crate::line::Line;

/// How many commands may come while a transfer runs. They are done after it.
const MOST_AHEAD: usize = 16;

/// A transfer that is running.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) breaking: Break,
    bytes: Cell<u64>,
    seen: RefCell<Seen>,
    control: Rc<Control>,
}

/// What the client said meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Commands to be done afterwards.
    pub(crate) lines: Vec<Line>,
    pub(crate) aborted: bool,
    /// The control connection has ended.
    pub(crate) client_gone: bool,
    quit: bool,
}

impl Transfer {
    pub(crate) fn count(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether the transfer was broken off, or will be as soon as the watcher runs, because the client
    /// has gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.breaking.is_broken() || (!self.seen.borrow().quit && self.control.has_ended())
    }
}

/// A coroutine that reads the control connection while another one transfers.
pub(crate) struct Watch {
    transfer: Rc<Transfer>,
    watcher: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(control: &Rc<Control>) -> io::Result<Watch> {
        let transfer = Rc::new(Transfer {
            breaking: Break::default(),
            bytes: Cell::new(0),
            seen: RefCell::default(),
            control: Rc::clone(control),
        });
        let watcher = thread::Builder::new().name("ftp watcher".into()).spawn({
            let (control, transfer) = (Rc::clone(control), Rc::clone(&transfer));
            move || watch(&control, &transfer)
        })?;
        Ok(Watch { transfer, watcher })
    }

    pub(crate) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// Ends the watcher. It is killed where it waits for the client, and there it holds no input.
    pub(crate) fn stop(self) -> Seen {
        let transfer = Rc::clone(&self.transfer);
        drop(self);
        transfer.seen.take()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // On every way out: a session that ends by unwinding must not leave it behind.
        self.watcher.kill();
    }
}

fn watch(control: &Control, transfer: &Transfer) {
    loop {
        // The transfer has time limits of its own.
        let line = match control.read_line(None) {
            Input::Line(line) => line,
            Input::HungUp => return,
            Input::End | Input::TimedOut => {
                transfer.seen.borrow_mut().client_gone = true;
                return transfer.breaking.break_off();
            }
        };
        match &line {
            Line::Command(command) if command.eq_ignore_ascii_case(b"ABOR") => {
                transfer.seen.borrow_mut().aborted = true;
                return transfer.breaking.break_off();
            }
            Line::Command(command) if command.eq_ignore_ascii_case(b"STAT") => {
                let bytes = transfer.bytes();
                let text = format!("A transfer is in progress: {bytes} bytes so far.");
                if control.reply(211, text).is_err() {
                    return transfer.breaking.break_off();
                }
                continue;
            }
            _ => {}
        }
        let quit = matches!(&line, Line::Command(line) if line.eq_ignore_ascii_case(b"QUIT"));
        let mut seen = transfer.seen.borrow_mut();
        seen.lines.push(line);
        seen.quit |= quit;
        if quit || seen.lines.len() >= MOST_AHEAD {
            // QUIT lets the transfer end first (RFC 959, 4.1.1), even if the connection closes.
            return;
        }
    }
}
