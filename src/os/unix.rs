//! What Unix systems have: `std::os::unix`.

pub mod fs;
pub mod process;
