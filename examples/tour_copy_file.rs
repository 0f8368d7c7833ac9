//! A file is copied in halves, both at once, each by a coroutine with positioned reads and writes.
//!
//! Run with: cargo run --release --example tour_copy_file
//! or with:  cargo run --release --example tour_copy_file -- FROM TO

use std::io;
use std::path::{Path, PathBuf};

use greenling::fs::{self, File};
use greenling::os::unix::fs::FileExt;
use greenling::scope;

/// Copies what lies between two positions.
fn copy_range(from: &File, to: &File, begin: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = begin;
    while at < end {
        let want = buffer.len().min((end - at) as usize);
        let got = from.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into()); // somebody has cut it meanwhile
        }
        to.write_all_at(&buffer[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

fn copy_in_halves(from: &Path, to: &Path) -> io::Result<u64> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    let len = from.metadata()?.len();
    let middle = len / 2;
    scope(|s| {
        let first = s.spawn(|| copy_range(&from, &to, 0, middle));
        let second = s.spawn(|| copy_range(&from, &to, middle, len));
        first.join().expect("it does not panic")?;
        second.join().expect("it does not panic")
    })?;
    to.sync_all()?;
    Ok(len)
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    if let (Some(from), Some(to)) = (arguments.next(), arguments.next()) {
        println!("{} bytes", copy_in_halves(&from, &to)?);
        return Ok(());
    }
    // Without arguments: one of its own.
    let dir = std::env::temp_dir().join(format!("greenling-tour-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let (from, to) = (dir.join("from"), dir.join("to"));
    let contents: Vec<u8> = (0..1_000_001u32).map(|n| (n % 253) as u8).collect();
    fs::write(&from, &contents)?;
    let copied = copy_in_halves(&from, &to);
    let same = fs::read(&to).is_ok_and(|copy| copy == contents);
    fs::remove_dir_all(&dir)?;
    println!("{} bytes, the same: {same}", copied?);
    Ok(())
}
