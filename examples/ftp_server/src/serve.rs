//! Accepting clients, and ending.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use greenling::net::{TcpListener, TcpStream};
use greenling::thread;

use crate::Options;
use crate::control::Control;
use crate::disk::Disk;
use crate::listing::time_val;
use crate::session::Session;
use crate::users::Users;

const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// What all sessions share. All run on one thread, so cells will do.
pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) disk: Disk,
    pub(crate) users: Users,
    sessions: RefCell<HashMap<u64, Rc<Control>>>,
    next_id: Cell<u64>,
}

impl Server {
    pub(crate) fn new(options: Options, disk: Disk, users: Users) -> Server {
        let (sessions, next_id) = (RefCell::default(), Cell::new(0));
        Server { options, disk, users, sessions, next_id }
    }

    /// Serves clients until the listener fails for good, and returns that error.
    pub(crate) fn accept_all(self: &Rc<Server>, listener: &TcpListener) -> io::Error {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match listener.accept().and_then(|(stream, _)| self.admit(stream)) {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error) if is_the_clients(&error) => {}
                Err(error) if passes_with_time(&error) => {
                    eprintln!("ftp_server: {error}; accepting again in {backoff:?}");
                    thread::sleep(backoff);
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
                Err(error) => return error,
            }
        }
    }

    /// Gives the client a session in a coroutine of its own, or tells it that there are too many.
    fn admit(self: &Rc<Server>, stream: TcpStream) -> io::Result<()> {
        if self.sessions.borrow().len() as u64 >= self.options.max_clients {
            let address = stream.peer_addr()?.ip();
            self.log_line(address, "-", "turned away: too many users");
            // A few bytes into a fresh connection: this does not wait.
            (&stream).write_all(b"421 Too many users; try again later.\r\n")?;
            return stream.shutdown(Shutdown::Write);
        }
        let seat = Seat::take(self, Rc::new(Control::new(stream)?));
        thread::Builder::new().name("ftp session".into()).spawn(move || {
            let control = Rc::clone(&seat.control);
            // A client that breaks its connection concerns nobody else.
            let _ = Session::new(Rc::clone(&seat.server), control).run();
        })?;
        Ok(())
    }

    /// Lets each session end after what it is doing, for up to `grace`; says whether all have.
    pub(crate) fn end_sessions(&self, grace: impl Fn() -> Option<Duration>) -> bool {
        let controls: Vec<_> = self.sessions.borrow().values().cloned().collect();
        controls.iter().for_each(|control| control.hang_up());
        while !self.sessions.borrow().is_empty() {
            match grace() {
                // The last session's end unparks nobody, so look now and then.
                Some(left) => thread::park_timeout(left.min(Duration::from_millis(20))),
                None => return false,
            }
        }
        true
    }

    /// One line on standard error, if the user wants to see any.
    pub(crate) fn log(&self, control: &Control, user: &str, event: &str) {
        self.log_line(control.peer_ip(), user, event);
    }

    fn log_line(&self, address: IpAddr, user: &str, event: &str) {
        if self.options.log {
            let time = time_val(SystemTime::now());
            eprintln!("{time} {} {user:?} {event}", address.to_canonical());
        }
    }
}

/// One of the places; dropping it, however its coroutine ends, makes it free.
struct Seat {
    server: Rc<Server>,
    control: Rc<Control>,
    id: u64,
}

impl Seat {
    fn take(server: &Rc<Server>, control: Rc<Control>) -> Seat {
        let id = server.next_id.replace(server.next_id.get() + 1);
        server.sessions.borrow_mut().insert(id, Rc::clone(&control));
        Seat { server: Rc::clone(server), control, id }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.sessions.borrow_mut().remove(&self.id);
    }
}

/// The error was the client's, not ours: the next one may be accepted now.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    let kinds =
        [BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected];
    kinds.contains(&error.kind())
}

/// Descriptors or memory have run out. Trying again at once would only spin, for the connection
/// stays in the backlog.
fn passes_with_time(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN))
}
