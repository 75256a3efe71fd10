//! How long computations tell how far they are.

/// Called with the units done and their total, now and then, from the thread that computes.
pub type Watch<'a> = dyn FnMut(u64, u64) + 'a;

/// For computations that nobody watches.
pub fn unwatched(_done: u64, _total: u64) {}
