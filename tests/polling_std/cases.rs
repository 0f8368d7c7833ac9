// Included twice, with `net`, `os`, `process`, `sync` and `thread` of std and of greenling.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use super::common::deadline;

/// Time enough for the loops to have begun.
const LATER: Duration = Duration::from_millis(5);

#[test]
fn a_loop_that_only_sends_sees_the_receiver_go() {
    deadline(60, || {
        let (sender, receiver) = sync::mpsc::channel();
        let once = thread::spawn(move || receiver.recv().unwrap());
        while sender.send(7).is_ok() {}
        assert_eq!(once.join().unwrap(), 7);
    });
}

#[test]
fn a_loop_of_two_senders_sees_the_receiver_go() {
    deadline(60, || {
        let (sender, receiver) = sync::mpsc::channel();
        let other = sender.clone();
        let once = thread::spawn(move || receiver.recv().unwrap());
        while sender.send(1).is_ok() && other.send(2).is_ok() {}
        assert_eq!(once.join().unwrap(), 1);
    });
}

#[test]
fn a_loop_of_try_send_sees_room() {
    deadline(60, || {
        let (sender, receiver) = sync::mpsc::sync_channel(1);
        sender.send(1).unwrap();
        let taken = thread::spawn(move || (receiver.recv(), receiver.recv()));
        while sender.try_send(2).is_err() {}
        assert_eq!(taken.join().unwrap(), (Ok(1), Ok(2)));
    });
}

#[test]
fn a_loop_of_try_recv_sees_the_message() {
    deadline(60, || {
        let (sender, receiver) = sync::mpsc::channel();
        let sends = thread::spawn(move || {
            thread::sleep(LATER);
            sender.send("late").unwrap();
        });
        let message = loop {
            if let Ok(message) = receiver.try_recv() {
                break message;
            }
        };
        assert_eq!(message, "late");
        sends.join().unwrap();
    });
}

#[test]
fn a_loop_of_try_iter_sees_all_messages() {
    deadline(60, || {
        let (questions, asked) = sync::mpsc::channel();
        let (answers, answered) = sync::mpsc::channel();
        let asks = thread::spawn(move || {
            let mut sum = 0;
            while sum < 10 {
                sum += answered.try_iter().sum::<i32>();
                questions.send(()).unwrap();
            }
            sum
        });
        for () in asked {
            if answers.send(1).is_err() {
                break;
            }
        }
        assert!(asks.join().unwrap() >= 10);
    });
}

#[test]
fn loops_of_try_lock_see_the_lock_released() {
    deadline(60, || {
        let mutex = Arc::new(sync::Mutex::new(0));
        let rwlock = Arc::new(sync::RwLock::new(0));
        let (held, is_held) = sync::mpsc::channel();
        let holds = {
            let (mutex, rwlock) = (mutex.clone(), rwlock.clone());
            thread::spawn(move || {
                let mut inside = mutex.lock().unwrap();
                let mut written = rwlock.write().unwrap();
                held.send(()).unwrap();
                thread::sleep(LATER);
                (*inside, *written) = (1, 2);
            })
        };
        is_held.recv().unwrap();
        let inside = loop {
            if let Ok(inside) = mutex.try_lock() {
                break *inside;
            }
        };
        let read = loop {
            if let Ok(read) = rwlock.try_read() {
                break *read;
            }
        };
        assert_eq!((inside, read), (1, 2));
        holds.join().unwrap();

        let (held, is_held) = sync::mpsc::channel();
        let reads = {
            let rwlock = rwlock.clone();
            thread::spawn(move || {
                let _read = rwlock.read().unwrap();
                held.send(()).unwrap();
                thread::sleep(LATER);
            })
        };
        is_held.recv().unwrap();
        while rwlock.try_write().is_err() {}
        reads.join().unwrap();
    });
}

#[test]
fn loops_see_what_is_done_once() {
    deadline(60, || {
        static DONE: sync::Once = sync::Once::new();
        static VALUE: sync::OnceLock<u32> = sync::OnceLock::new();
        let does = thread::spawn(|| {
            thread::sleep(LATER);
            DONE.call_once(|| ());
            thread::sleep(LATER);
            VALUE.set(5).unwrap();
        });
        while !DONE.is_completed() {}
        let value = loop {
            if let Some(value) = VALUE.get() {
                break *value;
            }
        };
        assert_eq!(value, 5);
        does.join().unwrap();
    });
}

#[test]
fn a_loop_of_is_finished_sees_the_end() {
    deadline(60, || {
        let sleeps = thread::spawn(|| thread::sleep(LATER));
        while !sleeps.is_finished() {}
        sleeps.join().unwrap();
        let ended = thread::scope(|scope| {
            let sleeps = scope.spawn(|| thread::sleep(LATER));
            while !sleeps.is_finished() {}
            sleeps.is_finished()
        });
        assert!(ended);
    });
}

#[test]
fn a_loop_of_try_wait_lets_others_feed_the_child() {
    deadline(60, || {
        let mut command = process::Command::new("head");
        command.args(["-c", "1"]).stdin(process::Stdio::piped()).stdout(process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeds = thread::spawn(move || {
            thread::sleep(LATER);
            stdin.write_all(b"x").unwrap();
        });
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
        };
        assert!(status.success());
        feeds.join().unwrap();
    });
}

#[test]
fn loops_over_nonblocking_sockets_see_the_other_side() {
    deadline(60, || {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let connects = thread::spawn(move || {
            thread::sleep(LATER);
            let mut stream = net::TcpStream::connect(addr).unwrap();
            thread::sleep(LATER);
            stream.write_all(b"hello").unwrap();
        });
        let mut stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        };
        stream.set_nonblocking(true).unwrap();
        let mut text = String::new();
        loop {
            match stream.read_to_string(&mut text) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(text, "hello");
        connects.join().unwrap();

        let (a, b) = os::unix::net::UnixDatagram::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let sends = thread::spawn(move || {
            thread::sleep(LATER);
            b.send(b"late").unwrap();
        });
        let mut buffer = [0; 8];
        let received = loop {
            match a.recv(&mut buffer) {
                Ok(received) => break received,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        };
        assert_eq!(&buffer[..received], b"late");
        sends.join().unwrap();
    });
}
