//! Places at which a test can let the engine die, as by `kill -9`.
//!
//! Debug builds count them when `BERTH_CRASH_AT=N` is set and abort at the N-th; release builds have none of this. A test
//! loops over N until a run survives, so that a new place is tested as soon as it is written.

/// A place between two steps that a crash could come between.
#[cfg(debug_assertions)]
pub fn point(place: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static AT: OnceLock<Option<usize>> = OnceLock::new();
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let at = AT.get_or_init(|| std::env::var("BERTH_CRASH_AT").ok()?.parse().ok());
    let Some(at) = at else { return };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *at {
        tracing::error!(place, at, "crashing as asked by BERTH_CRASH_AT");
        std::process::abort();
    }
}

/// A place between two steps that a crash could come between.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_place: &str) {}
