//! What Unix systems have: `std::os::unix`.

pub mod process;
