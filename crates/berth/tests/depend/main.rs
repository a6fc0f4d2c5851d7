//! What links promise besides names: a source that waits for its target, that is told when it goes, and that goes with it;
//! through `berth` and `docker`.

/// What the tests have in common.
mod asking;
/// The same on networks of the user's, where a link is to a name.
mod elsewhere;
/// Starts that wait.
mod waiting;
/// Links that are watched, and sources that go with their targets.
mod watching;
