//! Tests.
use super::*;
#[test]
fn zz_sizes() {
    eprintln!(
        "task {} local {} exit {} coroutine {}",
        size_of::<task::Task>(),
        size_of::<task::Local>(),
        size_of::<WaitQueue<task::Exit>>(),
        size_of::<coroutine::Coroutine<(), (), ()>>()
    );
    eprintln!("stream {}", size_of::<crate::net::TcpStream>());
}
