//! Accepting clients, and ending.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use greenling::net::TcpStream;
use greenling::server::{Handle, StreamServer};
use greenling::thread;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Options;
use crate::control::Control;
use crate::disk::Disk;
use crate::listing::time_val;
use crate::session::Session;
use crate::users::Users;

/// Clients beyond the limit that may be in the middle of being told so. More wait in the backlog.
const TURNED_AWAY_AT_ONCE: usize = 32;

/// What all sessions share. All run on one thread, so cells will do.
pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) disk: Disk,
    pub(crate) users: Users,
    sessions: RefCell<HashMap<u64, Rc<Control>>>,
    next_id: Cell<u64>,
    ending: Cell<bool>,
}

impl Server {
    pub(crate) fn new(options: Options, disk: Disk, users: Users) -> Server {
        let (sessions, next_id) = (RefCell::default(), Cell::new(0));
        Server { options, disk, users, sessions, next_id, ending: Cell::new(false) }
    }

    /// Serves clients until `stop_on_signal` ends it, or the listener fails for good.
    pub(crate) fn serve(self: Rc<Server>) -> io::Result<()> {
        let (addr, clients) = (self.options.addr.clone(), self.options.max_clients as usize);
        let grace = Duration::from_secs(self.options.grace);
        let server = Rc::clone(&self);
        let streams = StreamServer::bind(addr, move |stream, _| server.admit(stream))?
            // Those beyond the limit are let in too, to be told that there are too many.
            .max_clients(clients + TURNED_AWAY_AT_ONCE);
        let handle = streams.handle();
        stop_on_signal(handle.clone(), grace)?;
        thread::spawn(move || {
            handle.wait_stopping();
            self.end_sessions();
        });
        println!("listening on {}", streams.local_addr()?);
        io::stdout().flush()?;
        streams.serve_forever()
    }

    /// Serves a client, or tells it that there are too many.
    fn admit(self: &Rc<Server>, stream: TcpStream) -> io::Result<()> {
        if self.sessions.borrow().len() as u64 >= self.options.max_clients {
            self.log_line(stream.peer_addr()?.ip(), "-", "turned away: too many users");
            stream.set_write_timeout(Some(Duration::from_secs(5)))?;
            (&stream).write_all(b"421 Too many users; try again later.\r\n")?;
            return stream.shutdown(Shutdown::Write);
        }
        let seat = Seat::take(self, Rc::new(Control::new(stream)?));
        let control = Rc::clone(&seat.control);
        if self.ending.get() {
            control.hang_up();
        }
        // A client that breaks its connection concerns nobody else.
        let _ = Session::new(Rc::clone(self), control).run();
        Ok(())
    }

    /// Lets each session end after what it is doing. Those that take longer than the grace are killed
    /// where they wait, and what they were uploading is removed.
    fn end_sessions(&self) {
        self.ending.set(true);
        self.sessions.borrow().values().for_each(|control| control.hang_up());
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

/// Stops the server when a signal asks the process to end; a second one ends the grace. Signals arrive on
/// a thread of their own, and a server's handle is for any thread.
fn stop_on_signal(server: Handle, grace: Duration) -> io::Result<()> {
    // A file that grows beyond RLIMIT_FSIZE is an error to report, not a reason to die.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            server.stop(if server.is_stopping() { Duration::ZERO } else { grace });
        }
    })?;
    Ok(())
}
