//! `std::sync`, cooperative.

pub mod mpsc;
