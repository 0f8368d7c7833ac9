//! Random programs on one hub, one step at a time: two channels, coroutines that send to them, receive from
//! them or select from both, kills, time limits, ends that are dropped. After each step the model says exactly
//! who has finished, and with what.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use greenling::error::Killed;
use greenling::select::Select;
use greenling::sync::mpsc::{
    Receiver, RecvTimeoutError, SendError, Sender, SyncSender, TryRecvError, TrySendError, channel,
    sync_channel,
};
use greenling::{JoinHandle, spawn, timeout, yield_now};

use super::with_seeds;
use crate::common::deadline;

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Sent,
    /// From which channel, and what.
    Got(usize, u32),
    Disconnected(usize),
    /// The message came back.
    Back(u32),
    Full(u32),
    Empty,
    Timeout,
    Killed,
}

type Ends = BTreeMap<usize, End>;

/// A channel, without any concurrency.
struct Model {
    number: usize,
    bound: usize,
    messages: VecDeque<u32>,
    senders: VecDeque<(usize, u32)>,
    has_sender: bool,
    has_receiver: bool,
}

impl Model {
    fn is_closed(&self) -> bool {
        !self.has_receiver || (!self.has_sender && self.senders.is_empty())
    }

    fn take(&mut self, ends: &mut Ends) -> Option<u32> {
        let offered = self.senders.pop_front().map(|(who, message)| {
            ends.insert(who, End::Sent);
            message
        });
        self.messages.extend(offered);
        self.messages.pop_front()
    }
}

/// Two channels, and those who wait for a message: from which ones.
struct Models {
    channels: [Model; 2],
    receivers: VecDeque<(usize, Vec<usize>)>,
    ends: Ends,
}

impl Models {
    fn send(&mut self, who: usize, to: usize, message: u32, if_full: Option<End>) {
        let channel = &mut self.channels[to];
        let end = if !channel.has_receiver {
            End::Back(message)
        } else if let Some(place) = self.receivers.iter().position(|(_, from)| from.contains(&to)) {
            let (receiver, _) = self.receivers.remove(place).unwrap();
            self.ends.insert(receiver, End::Got(to, message));
            End::Sent
        } else if channel.messages.len() < channel.bound {
            channel.messages.push_back(message);
            End::Sent
        } else if let Some(end) = if_full {
            end
        } else {
            channel.senders.push_back((who, message));
            return;
        };
        self.ends.insert(who, end);
    }

    fn is_ready(&self, from: usize) -> bool {
        let channel = &self.channels[from];
        !channel.messages.is_empty() || !channel.senders.is_empty() || channel.is_closed()
    }

    /// At most one of `from` is ready: which of several is taken is not said.
    fn receive(&mut self, who: usize, from: Vec<usize>, if_empty: Option<End>) {
        let ready = from.iter().copied().find(|&channel| self.is_ready(channel));
        let end = match (ready, if_empty) {
            (Some(number), _) => match self.channels[number].take(&mut self.ends) {
                Some(message) => End::Got(number, message),
                None => End::Disconnected(number),
            },
            (None, Some(end)) => end,
            (None, None) => return self.receivers.push_back((who, from)),
        };
        self.ends.insert(who, end);
        self.after_sender_left();
    }

    fn kill(&mut self, who: usize) {
        self.receivers.retain(|(receiver, _)| *receiver != who);
        for channel in &mut self.channels {
            channel.senders.retain(|(sender, _)| *sender != who);
        }
        self.ends.insert(who, End::Killed);
        self.after_sender_left();
    }

    /// Ends the waits for channels that have no sender any more.
    fn after_sender_left(&mut self) {
        for channel in &self.channels {
            if channel.has_receiver && channel.is_closed() && channel.messages.is_empty() {
                let number = channel.number;
                self.receivers.retain(|(who, from)| {
                    let ended = from.contains(&number);
                    if ended {
                        self.ends.insert(*who, End::Disconnected(number));
                    }
                    !ended
                });
            }
        }
    }

    fn drop_receiver(&mut self, number: usize) {
        let channel = &mut self.channels[number];
        channel.has_receiver = false;
        channel.messages.clear();
        for (who, message) in channel.senders.drain(..) {
            self.ends.insert(who, End::Back(message));
        }
    }

    fn waiting(&self) -> Vec<usize> {
        let senders = self.channels.iter().flat_map(|channel| &channel.senders);
        let receivers = self.receivers.iter().map(|(who, _)| *who);
        let mut all: Vec<usize> = receivers.chain(senders.map(|(who, _)| *who)).collect();
        all.sort_unstable();
        all
    }
}

#[derive(Clone)]
enum AnySender {
    Unbounded(Sender<u32>),
    Bounded(SyncSender<u32>),
}

impl AnySender {
    fn send(&self, message: u32) -> Result<(), SendError<u32>> {
        match self {
            AnySender::Unbounded(sender) => sender.send(message),
            AnySender::Bounded(sender) => sender.send(message),
        }
    }

    fn try_send(&self, message: u32) -> Result<(), TrySendError<u32>> {
        match self {
            AnySender::Unbounded(sender) => sender
                .send(message)
                .map_err(|SendError(message)| TrySendError::Disconnected(message)),
            AnySender::Bounded(sender) => sender.try_send(message),
        }
    }
}

/// The channels under test and the coroutines that use them.
struct World {
    senders: [Option<AnySender>; 2],
    receivers: [Option<Rc<Receiver<u32>>>; 2],
    running: BTreeMap<usize, JoinHandle<()>>,
    ended: Rc<RefCell<Ends>>,
}

impl World {
    fn start(&mut self, who: usize, operation: impl FnOnce() -> End + 'static) {
        let ended = self.ended.clone();
        let handle = spawn(move || {
            let end = operation();
            ended.borrow_mut().insert(who, end);
        });
        self.running.insert(who, handle);
    }

    /// Lets everything happen that can, and says who has finished.
    fn settle(&mut self) -> Ends {
        for _ in 0..5 {
            yield_now();
        }
        let is_finished =
            |(who, handle): (&usize, &JoinHandle<()>)| handle.is_finished().then_some(*who);
        let finished: Vec<usize> = self.running.iter().filter_map(is_finished).collect();
        let mut ended = self.ended.take();
        for who in finished {
            if let Err(payload) = self.running.remove(&who).unwrap().join() {
                assert!(payload.is::<Killed>(), "a panic in {who}");
                assert_eq!(ended.insert(who, End::Killed), None);
            }
        }
        ended
    }

    fn wait_for(&self, who: usize) {
        while !self.running[&who].is_finished() {
            greenling::sleep(Duration::from_micros(1));
        }
    }

    fn send(&mut self, step: usize, to: usize, how: u8) {
        let Some(sender) = self.senders[to].clone() else { return };
        let message = step as u32;
        self.start(step, move || match how {
            0 => match sender.try_send(message) {
                Ok(()) => End::Sent,
                Err(TrySendError::Full(message)) => End::Full(message),
                Err(TrySendError::Disconnected(message)) => End::Back(message),
            },
            1 => match timeout(Duration::ZERO, || sender.send(message)) {
                Ok(Ok(())) => End::Sent,
                Ok(Err(SendError(message))) => End::Back(message),
                Err(_) => End::Timeout,
            },
            _ => match sender.send(message) {
                Ok(()) => End::Sent,
                Err(SendError(message)) => End::Back(message),
            },
        });
    }

    fn receive(&mut self, step: usize, from: usize, how: u8) {
        let Some(receiver) = self.receivers[from].clone() else { return };
        let got = move |got: Option<u32>| match got {
            Some(message) => End::Got(from, message),
            None => End::Disconnected(from),
        };
        self.start(step, move || match how {
            0 => match receiver.try_recv() {
                Err(TryRecvError::Empty) => End::Empty,
                result => got(result.ok()),
            },
            1 => match receiver.recv_timeout(Duration::ZERO) {
                Err(RecvTimeoutError::Timeout) => End::Timeout,
                result => got(result.ok()),
            },
            2 => match timeout(Duration::ZERO, || receiver.recv()) {
                Err(_) => End::Timeout,
                Ok(result) => got(result.ok()),
            },
            _ => got(receiver.recv().ok()),
        });
    }

    fn select(&mut self, step: usize, waits: bool) {
        let [Some(a), Some(b)] = self.receivers.clone() else { return };
        self.start(step, move || {
            let arm = |from: usize| {
                move |got: Result<u32, _>| match got {
                    Ok(message) => End::Got(from, message),
                    Err(_) => End::Disconnected(from),
                }
            };
            let select = Select::new().on(&*a, arm(0)).on(&*b, arm(1));
            if waits { select.wait() } else { select.try_wait().unwrap_or(End::Empty) }
        });
    }
}

fn run_program(steps: usize, mut rng: Rng) {
    let mut channels = Vec::new();
    let (mut senders, mut receivers) = ([None, None], [None, None]);
    for number in 0..2 {
        let bound = rng.choice([0, 1, 2, 5, usize::MAX]).unwrap();
        let (sender, receiver) = if bound == usize::MAX {
            let (sender, receiver) = channel();
            (AnySender::Unbounded(sender), receiver)
        } else {
            let (sender, receiver) = sync_channel(bound);
            (AnySender::Bounded(sender), receiver)
        };
        senders[number] = Some(sender);
        receivers[number] = Some(Rc::new(receiver));
        let (messages, waiting) = (VecDeque::new(), VecDeque::new());
        channels.push(Model {
            number,
            bound,
            messages,
            senders: waiting,
            has_sender: true,
            has_receiver: true,
        });
    }
    let channels = channels.try_into().ok().unwrap();
    let mut models = Models { channels, receivers: VecDeque::new(), ends: Ends::new() };
    let mut world = World { senders, receivers, running: BTreeMap::new(), ended: Rc::default() };
    // Sending and receiving prevail in turn, so that both kinds of waiters pile up.
    let mut sends = 50;
    for step in 0..steps {
        if step % 40 == 0 {
            sends = rng.u32(20..80);
        }
        let number = rng.usize(..2);
        let how = rng.u8(..10);
        match rng.u32(..1000) {
            n if n < 2 => {
                world.senders[number] = None;
                models.channels[number].has_sender = false;
                models.after_sender_left();
            }
            n if n < 4 => {
                let is_waited_for = models.receivers.iter().any(|(_, from)| from.contains(&number));
                if !is_waited_for {
                    world.receivers[number] = None;
                    models.drop_receiver(number);
                }
            }
            n if n < 120 => {
                if let Some(&who) = rng.choice(&models.waiting()) {
                    world.running[&who].kill();
                    models.kill(who);
                }
            }
            n if n % 100 < sends => {
                if world.senders[number].is_some() {
                    world.send(step, number, how);
                    let if_full = match how {
                        0 => Some(End::Full(step as u32)),
                        1 => Some(End::Timeout),
                        _ => None,
                    };
                    models.send(step, number, step as u32, if_full);
                    if how == 1 {
                        world.wait_for(step);
                    }
                }
            }
            n if n % 3 == 0 => {
                let both = world.receivers.iter().all(Option::is_some);
                if both && !(models.is_ready(0) && models.is_ready(1)) {
                    world.select(step, how > 1);
                    let if_empty = (how <= 1).then_some(End::Empty);
                    models.receive(step, vec![0, 1], if_empty);
                }
            }
            _ => {
                if world.receivers[number].is_some() {
                    world.receive(step, number, how);
                    let if_empty = match how {
                        0 => Some(End::Empty),
                        1 | 2 => Some(End::Timeout),
                        _ => None,
                    };
                    models.receive(step, vec![number], if_empty);
                    if how == 1 || how == 2 {
                        world.wait_for(step);
                    }
                }
            }
        }
        assert_eq!(world.settle(), std::mem::take(&mut models.ends), "in step {step}");
        assert!(world.running.keys().copied().eq(models.waiting()), "in step {step}");
    }
    // Kill the rest; what is in the channels must be what the model says.
    for who in models.waiting() {
        world.running[&who].kill();
        models.kill(who);
        assert_eq!(world.settle(), std::mem::take(&mut models.ends));
    }
    for number in 0..2 {
        if let Some(receiver) = &world.receivers[number] {
            assert!(receiver.try_iter().eq(models.channels[number].messages.iter().copied()));
        }
    }
}

#[test]
fn channels_do_what_the_model_says() {
    deadline(120, || with_seeds(150, |rng| run_program(400, rng)));
}
