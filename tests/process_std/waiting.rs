//! Waiting for a child lets others run, and can be interrupted.

use std::cell::Cell;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenling::process::{Child, Command, Stdio};
use greenling::{sleep, spawn, timeout};

use crate::common::deadline;

const SHORT: Duration = Duration::from_millis(30);

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000");
    command
}

/// Whether the process is in the process table, as a zombie or alive.
fn exists(pid: u32) -> bool {
    // SAFETY: no pointers are passed; signal 0 does nothing.
    unsafe { libc::kill(pid as i32, 0) == 0 }
}

fn end(mut child: Child) {
    let pid = child.id();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(!exists(pid), "a zombie is left");
}

#[test]
fn others_run_while_one_waits() {
    deadline(30, || {
        let turns = Rc::new(Cell::new(0));
        let ticker = spawn({
            let turns = turns.clone();
            move || {
                loop {
                    sleep(Duration::from_millis(1));
                    turns.set(turns.get() + 1);
                }
            }
        });
        let mut child = Command::new("sleep").arg("0.2").spawn().unwrap();
        child.wait().unwrap();
        assert!(turns.get() > 5, "{}", turns.get());
        let before = turns.get();
        Command::new("sh").args(["-c", "sleep 0.2; echo x"]).output().unwrap();
        assert!(turns.get() > before + 5);
        ticker.kill();
    });
}

#[test]
fn a_wait_that_is_interrupted_leaves_the_child_to_be_waited_for() {
    deadline(30, || {
        let mut child = sleeper().spawn().unwrap();
        for _ in 0..3 {
            assert!(timeout(SHORT, || child.wait()).is_err());
            assert_eq!(child.try_wait().unwrap(), None);
        }
        let child = Rc::new(std::cell::RefCell::new(child));
        let waiter = spawn({
            let child = child.clone();
            move || child.borrow_mut().wait()
        });
        sleep(SHORT);
        waiter.kill();
        end(Rc::into_inner(child).unwrap().into_inner());
    });
}

#[test]
fn output_that_is_interrupted_ends_its_child() {
    deadline(30, || {
        let path = std::env::temp_dir().join(format!("greenling-pid-{}", std::process::id()));
        let script = format!("echo $$ > {}.new; mv {0}.new {0}; exec sleep 1000", path.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let status = |command: &mut Command| command.status().map(drop);
        let output = |command: &mut Command| command.output().map(drop);
        for run in [status, output] as [fn(&mut Command) -> _; 2] {
            let begun = Instant::now();
            let _ = std::fs::remove_file(&path);
            let waited = timeout(Duration::from_secs(1), || run(&mut command));
            assert!(waited.is_err() && begun.elapsed() < Duration::from_secs(20));
            let pid = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
            while exists(pid) {
                sleep(Duration::from_millis(1));
            }
        }
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_read_from_a_child_that_says_nothing_can_be_interrupted() {
    deadline(30, || {
        let mut child = sleeper().stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        assert!(timeout(SHORT, || out.read(&mut [0; 16])).is_err());
        child.kill().unwrap();
        assert_eq!(out.read(&mut [0; 16]).unwrap(), 0);
        child.wait().unwrap();
    });
}

#[test]
fn two_threads_wait_for_children_of_one_process() {
    deadline(30, || {
        let child = sleeper().spawn().unwrap();
        let mut child = std::thread::scope(|scope| {
            let moved = scope.spawn(move || {
                let mut child = child;
                assert!(timeout(SHORT, || child.wait()).is_err());
                child
            });
            assert!(Command::new("true").status().unwrap().success());
            moved.join().unwrap()
        });
        // Registered with the other thread's hub before.
        assert!(timeout(SHORT, || child.wait()).is_err());
        end(child);
    });
}
