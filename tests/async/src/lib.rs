//! See `tests/tokio.rs`.
