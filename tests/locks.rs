//! What the locks promise beyond std: kills and time limits in the middle of waits, fairness, semaphores, recursive
//! locks, and all of it between coroutines, hubs and plain threads.

mod common;

#[path = "locks/fairness.rs"]
mod fairness;
#[path = "locks/killing.rs"]
mod killing;
#[path = "locks/newer.rs"]
mod newer;
#[path = "locks/poison.rs"]
mod poison;
#[path = "locks/races.rs"]
mod races;
#[path = "locks/reentrant.rs"]
mod reentrant;
#[path = "locks/semaphore.rs"]
mod semaphore;
#[path = "locks/traits.rs"]
mod traits;
