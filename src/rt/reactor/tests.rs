//! The reactor by itself: waiters are numbers, descriptors are pipes and socket pairs, and nobody is woken but
//! in the list that `poll` fills.

use super::*;

/// Lists of waiters make no system calls.
mod waiters {
    use super::*;

    fn drain(waiters: &mut Waiters<usize>) -> Vec<usize> {
        let mut out = vec![99];
        let count = waiters.drain(&mut out);
        assert_eq!(out.remove(0), 99, "it appends");
        assert_eq!(count, out.len());
        out
    }

    #[test]
    fn they_come_out_in_their_order() {
        let mut waiters = Waiters::NONE;
        assert!(waiters.is_empty());
        assert_eq!(drain(&mut waiters), []);
        for count in [1, 2, 3, 10, 2, 1] {
            (0..count).for_each(|n| waiters.push(n));
            assert!(!waiters.is_empty());
            assert!(drain(&mut waiters).into_iter().eq(0..count));
            assert!(waiters.is_empty());
        }
    }

    #[test]
    fn any_of_them_may_leave() {
        for count in 1..6 {
            for leaves in 0..count {
                let mut waiters = Waiters::NONE;
                (0..count).for_each(|n| waiters.push(n));
                assert!(waiters.remove(leaves));
                assert!(!waiters.remove(leaves), "it has left already");
                assert!(!waiters.remove(count), "it was never there");
                waiters.push(7);
                let rest = (0..count).filter(|n| *n != leaves).chain([7]);
                assert!(drain(&mut waiters).into_iter().eq(rest));
            }
        }
    }

    #[test]
    fn they_are_what_a_plain_list_would_be() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut waiters = Waiters::NONE;
        let mut model: Vec<usize> = Vec::new();
        for step in 0..if cfg!(miri) { 300 } else { 100_000 } {
            match rng.u32(0..8) {
                0..4 => {
                    waiters.push(step);
                    model.push(step);
                }
                4..7 => {
                    let leaves = if model.is_empty() || rng.u32(0..5) == 0 {
                        step
                    } else {
                        model[rng.usize(..model.len())]
                    };
                    let at = model.iter().position(|waiter| *waiter == leaves);
                    assert_eq!(waiters.remove(leaves), at.is_some());
                    at.map(|at| model.remove(at));
                }
                _ => assert_eq!(drain(&mut waiters), std::mem::take(&mut model)),
            }
            assert_eq!(waiters.is_empty(), model.is_empty());
        }
    }
}

#[test]
fn tags_tell_numbers_and_their_successive_owners_apart() {
    assert_ne!(tag(3, 1), tag(3, 2));
    assert_ne!(tag(3, 1), tag(4, 1));
    assert_eq!(tag(3, 1) as u32, 3);
    for (fd, id) in [(0, 1), (i32::MAX, 1), (1024, u64::from(u32::MAX) - 1)] {
        assert_ne!(tag(fd, id), WAKE_TAG);
    }
}

#[cfg(not(miri))]
mod with_epoll {
    use super::*;
    use crate::rt::sys;
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::net::Shutdown;
    use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use Direction::{Read as In, Write as Out};

    /// A reactor with what it needs, and the next identity of a source.
    struct Bench {
        reactor: Reactor<usize>,
        wake: OwnedFd,
        next_id: SourceId,
    }

    impl Bench {
        fn new() -> Bench {
            let mut reactor = Reactor::new();
            assert!(!reactor.started());
            let wake = sys::eventfd().unwrap();
            reactor.start(Arc::new(Epoll::new().unwrap()), wake.as_raw_fd()).unwrap();
            assert!(reactor.started());
            Bench { reactor, wake, next_id: 1 }
        }

        fn id(&mut self) -> SourceId {
            self.next_id += 1;
            self.next_id
        }

        /// Who is ready now.
        fn poll(&mut self) -> Vec<usize> {
            let mut ready = Vec::new();
            self.reactor.poll(Some(0), &mut ready);
            ready
        }

        #[track_caller]
        fn wait(&mut self, fd: &impl AsRawFd, id: SourceId, direction: Direction, waiter: usize) {
            let enlisted = self.reactor.wait(fd.as_raw_fd(), id, direction, waiter);
            assert_eq!(enlisted.unwrap(), Enlisted::Waiting);
        }

        fn may_be_ready(&mut self, fd: &impl AsRawFd, id: SourceId, direction: Direction) -> bool {
            self.reactor.may_be_ready(fd.as_raw_fd(), id, direction)
        }
    }

    /// A connected pair that does not block.
    fn sockets() -> (UnixStream, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        (a, b)
    }

    fn pipe() -> (File, File) {
        let mut fds = [0; 2];
        // SAFETY: the kernel writes two descriptors.
        assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the kernel has just given them to us.
        let (reader, writer) = unsafe { (File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1])) };
        use std::os::fd::AsFd;
        sys::set_nonblocking(reader.as_fd(), true).unwrap();
        sys::set_nonblocking(writer.as_fd(), true).unwrap();
        (reader, writer)
    }

    fn fill(writer: &mut impl Write) {
        while writer.write(&[0; 65_536]).is_ok() {}
    }

    #[test]
    fn whoever_waits_is_handed_out_when_there_is_something_to_read() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        assert!(bench.may_be_ready(&a, id, In), "nothing is known before the first wait");
        bench.wait(&a, id, In, 5);
        assert_eq!(bench.reactor.waiting(), 1);
        assert!(!bench.may_be_ready(&a, id, In));
        assert_eq!(bench.poll(), []);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [5]);
        assert_eq!(bench.reactor.waiting(), 0);
        assert!(bench.may_be_ready(&a, id, In));
        assert_eq!(bench.poll(), [], "once for each wait");
    }

    #[test]
    fn both_directions_are_watched_by_one_registration() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (mut a, mut b) = sockets();
        fill(&mut a);
        bench.wait(&a, id, In, 1);
        assert!(bench.may_be_ready(&a, id, Out), "nobody has tried that side");
        bench.wait(&a, id, Out, 2);
        assert_eq!(bench.poll(), []);
        // The peer makes room.
        while b.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {}
        assert_eq!(bench.poll(), [2]);
        assert!(bench.may_be_ready(&a, id, Out) && !bench.may_be_ready(&a, id, In));
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [1]);
    }

    #[test]
    fn an_event_that_nobody_waits_for_is_remembered() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        bench.wait(&a, id, In, 1);
        bench.reactor.cancel(a.as_raw_fd(), In, 1);
        assert_eq!(bench.reactor.waiting(), 0);
        assert!(!bench.may_be_ready(&a, id, In));
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), []);
        assert!(bench.may_be_ready(&a, id, In));
    }

    #[test]
    fn an_event_between_the_attempt_and_the_wait_is_not_lost() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        bench.wait(&a, id, In, 1);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [1]);
        // It reads all, finds nothing more, and something comes before it waits.
        (&a).read_exact(&mut [0]).unwrap();
        assert_eq!((&a).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        b.write_all(b"y").unwrap();
        bench.wait(&a, id, In, 2);
        assert_eq!(bench.poll(), [2]);
        // The same before the first registration.
        let id = bench.id();
        let (c, mut d) = sockets();
        assert_eq!((&c).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        d.write_all(b"z").unwrap();
        bench.wait(&c, id, In, 3);
        assert_eq!(bench.poll(), [3]);
    }

    #[test]
    fn after_a_short_read_there_is_nothing_to_try() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        bench.wait(&a, id, In, 1);
        b.write_all(b"abc").unwrap();
        assert_eq!(bench.poll(), [1]);
        assert_eq!((&a).read(&mut [0; 8]).unwrap(), 3);
        bench.reactor.short_read(a.as_raw_fd(), id);
        assert!(!bench.may_be_ready(&a, id, In));
        assert!(bench.may_be_ready(&a, id, Out), "the other side is not concerned");
        // Until something comes.
        b.write_all(b"d").unwrap();
        assert!(!bench.may_be_ready(&a, id, In), "nobody has asked epoll yet");
        bench.wait(&a, id, In, 2);
        assert_eq!(bench.poll(), [2]);
        assert!(bench.may_be_ready(&a, id, In));
    }

    #[test]
    fn what_comes_after_a_short_read_raises_a_new_edge() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        bench.wait(&a, id, In, 1);
        for round in 0..50 {
            b.write_all(b"abc").unwrap();
            assert_eq!(bench.poll(), [1], "round {round}");
            assert_eq!((&a).read(&mut [0; 8]).unwrap(), 3);
            // Between the read and the note, and between the note and the wait.
            if round % 2 == 0 {
                b.write_all(b"d").unwrap();
            }
            bench.reactor.short_read(a.as_raw_fd(), id);
            if round % 4 == 1 {
                b.write_all(b"d").unwrap();
            }
            bench.wait(&a, id, In, 1);
            if round % 2 == 0 || round % 4 == 1 {
                assert_eq!(bench.poll(), [1], "round {round}");
                assert_eq!((&a).read(&mut [0; 8]).unwrap(), 1);
                bench.reactor.short_read(a.as_raw_fd(), id);
                bench.wait(&a, id, In, 1);
            }
            assert_eq!(bench.poll(), [], "round {round}");
        }
    }

    #[test]
    fn a_short_read_of_an_unregistered_source_is_no_news() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, _b) = sockets();
        bench.reactor.short_read(a.as_raw_fd(), id);
        bench.reactor.short_read(-1, id);
        bench.reactor.short_read(i32::MAX, id);
        assert!(bench.may_be_ready(&a, id, In));
    }

    /// A hang-up behind data is part of the edge that announced the data, and raises no second one.
    #[test]
    fn a_hang_up_survives_a_short_read() {
        let hang_ups: [fn(UnixStream); 2] = [drop, |b| {
            b.shutdown(Shutdown::Write).unwrap();
            std::mem::forget(b);
        }];
        for hang_up in hang_ups {
            let mut bench = Bench::new();
            let id = bench.id();
            let (a, mut b) = sockets();
            bench.wait(&a, id, In, 1);
            b.write_all(b"abc").unwrap();
            hang_up(b);
            assert_eq!(bench.poll(), [1]);
            assert_eq!((&a).read(&mut [0; 8]).unwrap(), 3);
            bench.reactor.short_read(a.as_raw_fd(), id);
            assert!(bench.may_be_ready(&a, id, In), "the end of the stream is still to be read");
            assert_eq!((&a).read(&mut [0; 8]).unwrap(), 0);
            bench.reactor.short_read(a.as_raw_fd(), id);
            assert!(bench.may_be_ready(&a, id, In), "and again");
        }
    }

    #[test]
    fn a_half_close_does_not_make_the_other_side_ready() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (mut a, b) = sockets();
        fill(&mut a);
        bench.wait(&a, id, Out, 1);
        bench.wait(&a, id, In, 2);
        b.shutdown(Shutdown::Write).unwrap();
        assert_eq!(bench.poll(), [2]);
        assert!(!bench.may_be_ready(&a, id, Out));
        assert_eq!(bench.reactor.waiting(), 1);
    }

    #[test]
    fn a_hang_up_wakes_both_sides() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (mut a, b) = sockets();
        fill(&mut a);
        bench.wait(&a, id, Out, 1);
        bench.wait(&a, id, In, 2);
        drop(b);
        let mut ready = bench.poll();
        ready.sort_unstable();
        assert_eq!(ready, [1, 2]);
        assert!(bench.may_be_ready(&a, id, Out) && bench.may_be_ready(&a, id, In));
    }

    #[test]
    fn an_eagain_ends_what_is_sticky() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, b) = sockets();
        bench.wait(&a, id, In, 1);
        b.shutdown(Shutdown::Write).unwrap();
        assert_eq!(bench.poll(), [1]);
        assert!(bench.may_be_ready(&a, id, In));
        // Whoever waits all the same has tried: a second edge is needed.
        bench.wait(&a, id, In, 2);
        assert!(!bench.may_be_ready(&a, id, In));
        drop(b);
        assert_eq!(bench.poll(), [2]);
    }

    #[test]
    fn a_pipes_ends_hang_up_as_well() {
        let mut bench = Bench::new();
        let (read_id, write_id) = (bench.id(), bench.id());
        let (mut reader, mut writer) = pipe();
        bench.wait(&reader, read_id, In, 1);
        writer.write_all(b"abc").unwrap();
        assert_eq!(bench.poll(), [1]);
        drop(writer);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 3);
        bench.wait(&reader, read_id, In, 2);
        assert_eq!(bench.poll(), [2]);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);

        let (reader, mut writer) = pipe();
        fill(&mut writer);
        bench.wait(&writer, write_id, Out, 3);
        assert_eq!(bench.poll(), []);
        drop(reader);
        assert_eq!(bench.poll(), [3]);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn all_who_wait_for_one_side_are_handed_out_in_their_order() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        for waiter in [3, 1, 2] {
            bench.wait(&a, id, In, waiter);
        }
        bench.wait(&a, id, Out, 9); // ready at once: nobody has filled it
        assert_eq!(bench.reactor.waiting(), 4);
        assert_eq!(bench.poll(), [9]);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [3, 1, 2]);
        assert_eq!(bench.reactor.waiting(), 0);
    }

    #[test]
    fn whoever_gives_up_is_not_handed_out() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        for waiter in [1, 2, 3] {
            bench.wait(&a, id, In, waiter);
        }
        bench.reactor.cancel(a.as_raw_fd(), In, 2);
        bench.reactor.cancel(a.as_raw_fd(), In, 2);
        bench.reactor.cancel(a.as_raw_fd(), Out, 1); // the wrong side
        bench.reactor.cancel(-1, In, 1);
        bench.reactor.cancel(i32::MAX, In, 1);
        assert_eq!(bench.reactor.waiting(), 2);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [1, 3]);
        bench.reactor.cancel(a.as_raw_fd(), In, 1);
        assert_eq!(bench.reactor.waiting(), 0);
    }

    /// Gives `file` the number of `at`, which is closed.
    fn moved_to(file: impl Into<OwnedFd>, at: RawFd) -> OwnedFd {
        let file = file.into();
        // SAFETY: the number belonged to a descriptor that its owner has given up, and has no other owner.
        unsafe {
            assert_eq!(libc::dup2(file.as_raw_fd(), at), at);
            OwnedFd::from_raw_fd(at)
        }
    }

    #[test]
    fn the_next_source_with_the_same_number_begins_anew() {
        let mut bench = Bench::new();
        let (old, new) = (bench.id(), bench.id());
        let (a, mut b) = sockets();
        let number = a.as_raw_fd();
        bench.wait(&a, old, In, 1);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [1]);
        (&a).read_exact(&mut [0]).unwrap();
        bench.reactor.short_read(number, old);
        // Closed without a word; the kernel forgets the registration.
        let _ = a.into_raw_fd();
        let (c, mut d) = sockets();
        let c = UnixStream::from(moved_to(c, number));
        assert_eq!(c.as_raw_fd(), number);
        assert!(bench.may_be_ready(&c, new, In), "what is known is known of the old one");
        bench.reactor.short_read(number, new);
        assert!(bench.may_be_ready(&c, new, In));
        bench.wait(&c, new, In, 2);
        assert_eq!(bench.poll(), []);
        d.write_all(b"y").unwrap();
        assert_eq!(bench.poll(), [2]);
        // And nothing that is said of the old one changes anything.
        bench.reactor.short_read(number, old);
        assert!(bench.may_be_ready(&c, new, In));
        bench.reactor.forget(number, old);
        bench.wait(&c, new, In, 3);
        d.write_all(b"z").unwrap();
        assert_eq!(bench.poll(), [3]);
    }

    /// A late event of the old source, which a duplicate of its descriptor keeps registered.
    #[test]
    fn an_event_of_an_earlier_source_means_nothing_to_the_next() {
        let mut bench = Bench::new();
        let (old, new) = (bench.id(), bench.id());
        let (a, mut b) = sockets();
        let number = a.as_raw_fd();
        let _duplicate = a.try_clone().unwrap();
        bench.wait(&a, old, In, 1);
        bench.reactor.cancel(number, In, 1);
        let _ = a.into_raw_fd();
        let (c, mut d) = sockets();
        let c = UnixStream::from(moved_to(c, number));
        bench.wait(&c, new, In, 2);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [], "that was the old one's");
        assert!(!bench.may_be_ready(&c, new, In));
        d.write_all(b"y").unwrap();
        assert_eq!(bench.poll(), [2]);
    }

    /// Two sources that share a descriptor number take the registration from each other; nobody is stranded.
    #[test]
    fn two_sources_of_one_descriptor_both_get_their_events() {
        let mut bench = Bench::new();
        let (first, second) = (bench.id(), bench.id());
        let (a, mut b) = sockets();
        bench.wait(&a, first, In, 1);
        bench.wait(&a, second, In, 2);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [1, 2]);
        // The first one reads, and waits again.
        (&a).read_exact(&mut [0]).unwrap();
        bench.wait(&a, first, In, 1);
        b.write_all(b"y").unwrap();
        assert_eq!(bench.poll(), [1]);
    }

    /// The registration of a number is for whoever waits: another source that shares it and goes must leave it.
    #[test]
    fn a_source_that_goes_leaves_the_waiters_of_another() {
        let mut bench = Bench::new();
        let (first, second) = (bench.id(), bench.id());
        let (a, mut b) = sockets();
        bench.wait(&a, first, In, 1);
        bench.wait(&a, second, In, 2);
        bench.reactor.cancel(a.as_raw_fd(), In, 2);
        bench.reactor.forget(a.as_raw_fd(), second);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), [1]);
    }

    #[test]
    fn a_forgotten_source_is_registered_anew_when_it_waits() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        bench.wait(&a, id, In, 1);
        bench.reactor.cancel(a.as_raw_fd(), In, 1);
        bench.reactor.forget(a.as_raw_fd(), id);
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), []);
        assert!(bench.may_be_ready(&a, id, In));
        bench.wait(&a, id, In, 2);
        assert_eq!(bench.poll(), [2]);
        bench.reactor.forget(-1, id);
        bench.reactor.forget(i32::MAX, id);
    }

    #[test]
    fn a_close_hands_out_everybody() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (mut a, mut b) = sockets();
        fill(&mut a);
        for waiter in [1, 2] {
            bench.wait(&a, id, In, waiter);
        }
        bench.wait(&a, id, Out, 3);
        let mut ready = vec![0];
        bench.reactor.close(a.as_raw_fd(), &mut ready);
        assert_eq!(ready, [0, 1, 2, 3]);
        assert_eq!(bench.reactor.waiting(), 0);
        // Nothing is watched any more, and a second close finds nobody.
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), []);
        bench.reactor.close(a.as_raw_fd(), &mut ready);
        bench.reactor.close(-1, &mut ready);
        bench.reactor.close(i32::MAX, &mut ready);
        assert_eq!(ready.len(), 4);
        // The same source may go on (its descriptor was not closed after all).
        assert!(bench.may_be_ready(&a, id, In));
        bench.wait(&a, id, In, 4);
        assert_eq!(bench.poll(), [4]);
    }

    #[test]
    fn a_file_that_is_always_ready_is_not_waited_for() {
        let mut bench = Bench::new();
        let id = bench.id();
        for path in ["/dev/zero", "/proc/self/exe"] {
            let file = std::fs::File::open(path).unwrap();
            for direction in [In, Out] {
                let enlisted = bench.reactor.wait(file.as_raw_fd(), id, direction, 1).unwrap();
                assert_eq!(enlisted, Enlisted::AlwaysReady, "{path}");
            }
            assert!(bench.may_be_ready(&file, id, In));
        }
        assert_eq!(bench.reactor.waiting(), 0);
    }

    #[test]
    fn what_cannot_be_watched_is_an_error() {
        let mut bench = Bench::new();
        let id = bench.id();
        for number in [-1, -100, 1_000_000] {
            let error = bench.reactor.wait(number, id, In, 1).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
        assert_eq!(bench.reactor.waiting(), 0);
        assert_eq!(bench.poll(), []);
    }

    #[test]
    fn urgent_data_survives_a_short_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut bench = Bench::new();
        let id = bench.id();
        bench.wait(&stream, id, In, 1);
        peer.write_all(b"abc").unwrap();
        // SAFETY: one byte.
        let sent = unsafe { libc::send(peer.as_raw_fd(), c"!".as_ptr().cast(), 1, libc::MSG_OOB) };
        assert_eq!(sent, 1);
        peer.write_all(b"def").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(bench.poll(), [1]);
        // A read stops at the mark, though there is more behind it.
        assert_eq!((&stream).read(&mut [0; 64]).unwrap(), 3);
        bench.reactor.short_read(stream.as_raw_fd(), id);
        assert!(bench.may_be_ready(&stream, id, In));
        assert_eq!((&stream).read(&mut [0; 64]).unwrap(), 3);
    }

    #[test]
    fn poll_waits_as_long_as_it_may() {
        let mut bench = Bench::new();
        let began = Instant::now();
        let mut ready = Vec::new();
        assert_eq!(bench.reactor.poll(Some(20_000_000), &mut ready), 0);
        assert!(began.elapsed() >= Duration::from_millis(20));
        // It is interrupted by the eventfd, each time anew, though nobody reads the counter.
        for _ in 0..3 {
            sys::eventfd_signal(bench.wake.as_raw_fd());
            assert_eq!(bench.reactor.poll(None, &mut ready), 1);
            assert_eq!(bench.reactor.poll(Some(0), &mut ready), 0);
        }
        assert_eq!(ready, []);
    }

    #[test]
    fn more_than_a_batch_comes_out_in_several_polls() {
        let mut bench = Bench::new();
        // Fewer where the limit on descriptors is low.
        let pairs: Vec<_> = (0..BATCH + 200).map_while(|_| UnixStream::pair().ok()).collect();
        for (n, (a, _)) in pairs.iter().enumerate() {
            let id = bench.id();
            bench.wait(a, id, In, n);
        }
        pairs.iter().for_each(|(_, b)| {
            let mut b = b;
            b.write_all(b"x").unwrap();
        });
        let mut ready = Vec::new();
        while ready.len() < pairs.len() {
            let found = bench.reactor.poll(Some(0), &mut ready);
            assert!(found > 0 && found <= BATCH);
        }
        ready.sort_unstable();
        assert!(ready.into_iter().eq(0..pairs.len()));
        assert_eq!(bench.reactor.waiting(), 0);
    }

    #[test]
    fn an_instance_that_has_served_before_serves_again() {
        let epoll = Arc::new(Epoll::new().unwrap());
        let wake = sys::eventfd().unwrap();
        let (a, mut b) = sockets();
        for round in 1..4 {
            let mut reactor: Reactor<usize> = Reactor::new();
            reactor.start(epoll.clone(), wake.as_raw_fd()).unwrap();
            // The socket is still registered, for a source that is gone.
            reactor.wait(a.as_raw_fd(), round, In, 1).unwrap();
            b.write_all(b"x").unwrap();
            let mut ready = Vec::new();
            reactor.poll(Some(0), &mut ready);
            assert_eq!(ready, [1]);
            (&a).read_exact(&mut [0]).unwrap();
            sys::eventfd_signal(wake.as_raw_fd());
            assert!(reactor.poll(None, &mut ready) >= 1);
        }
    }

    #[test]
    fn after_a_reset_it_knows_of_nothing() {
        let mut bench = Bench::new();
        let id = bench.id();
        let (a, mut b) = sockets();
        bench.wait(&a, id, In, 1);
        bench.reactor.reset();
        assert_eq!((bench.reactor.waiting(), bench.reactor.started()), (0, false));
        assert!(bench.may_be_ready(&a, id, In));
        b.write_all(b"x").unwrap();
        assert_eq!(bench.poll(), []);
        bench.reactor.start(Arc::new(Epoll::new().unwrap()), bench.wake.as_raw_fd()).unwrap();
        bench.wait(&a, id, In, 2);
        assert_eq!(bench.poll(), [2]);
    }
}
