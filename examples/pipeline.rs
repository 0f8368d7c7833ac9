//! The ten most frequent words of standard input that are longer than three letters, by a pipeline of threads with channels
//! in between.
//!
//! The same program as `pipeline_threads`, but for its imports; see docs/std-surface.md.
//!
//! Run with: cargo run --release --example pipeline < README.md

use std::collections::HashMap;

use greenling::io;
use greenling::sync::mpsc::{Receiver, SyncSender, sync_channel};
use greenling::thread::{self, JoinHandle};

/// How many items may wait between two stages: who is ahead waits for who is behind.
const BETWEEN: usize = 16;

/// A stage: takes from one channel, and gives what it makes of it to the next.
fn stage<A: Send + 'static, B: Send + 'static>(
    from: Receiver<A>,
    f: impl Fn(A, &SyncSender<B>) + Send + 'static,
) -> Receiver<B> {
    let (to, next) = sync_channel(BETWEEN);
    thread::spawn(move || {
        for item in from {
            f(item, &to);
        }
    });
    next
}

/// The lines of standard input.
fn read() -> (Receiver<String>, JoinHandle<io::Result<()>>) {
    let (to, lines) = sync_channel(BETWEEN);
    let reader = thread::spawn(move || {
        for line in io::stdin().lines() {
            if to.send(line?).is_err() {
                break;
            }
        }
        Ok(())
    });
    (lines, reader)
}

/// An error means that the next stage has gone; then this one has nothing to do but come to its end.
fn give<T>(item: T, to: &SyncSender<T>) {
    let _ = to.send(item);
}

fn main() -> io::Result<()> {
    let (lines, reader) = read();
    let words = stage(lines, |line: String, to| {
        line.split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .for_each(|word| give(word.to_owned(), to));
    });
    let words = stage(words, |word: String, to| give(word.to_lowercase(), to));
    let words = stage(words, |word: String, to| {
        if word.chars().count() > 3 {
            give(word, to);
        }
    });
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word).or_insert(0_u64) += 1;
    }
    reader.join().expect("the reader does not panic")?;
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(word, count), (other, more)| more.cmp(count).then(word.cmp(other)));
    for (word, count) in counts.into_iter().take(10) {
        println!("{count} {word}");
    }
    Ok(())
}
