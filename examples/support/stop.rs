//! What ends a server: SIGINT and SIGTERM.

use std::io;
use std::time::Duration;

use greenling::server::Handle;
use greenling::{signal, thread};

/// Stops the server when a signal asks the process to end; a second signal leaves no grace.
pub(crate) fn stop_on_signal(server: Handle, grace: Duration) -> io::Result<()> {
    let signals = signal::termination()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            let again = server.is_stopping();
            server.stop(if again { Duration::ZERO } else { grace });
        }
    })?;
    Ok(())
}
