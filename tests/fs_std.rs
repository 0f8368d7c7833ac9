//! Files behave as std's do, and working on them lets others run.

#![allow(clippy::duplicate_mod, reason = "the cases are compiled for std's files and for ours")]

#[path = "common/child.rs"]
mod child;
mod common;

#[path = "fs_std/full.rs"]
mod full;
#[path = "fs_std/own.rs"]
mod own;
#[path = "fs_std/with_greenling.rs"]
mod with_greenling;
#[path = "fs_std/with_std.rs"]
mod with_std;

/// A directory of its own, which is removed in the end.
pub(crate) struct Dir(pub(crate) std::path::PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("greenling-fs-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
