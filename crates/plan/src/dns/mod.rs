//! The DNS as far as the engine's resolver speaks it (RFC 1035). Values in, values out: bytes and clocks come from outside.
//!
//! In reading order:

/// Messages: reading a question, writing an answer, looking through somebody else's.
pub mod wire;

/// Who knows which name, and what of it may be asked elsewhere.
pub mod book;

/// Answers that are kept until they are too old.
pub mod cache;

/// Whom to ask, when to ask somebody else, and whose answer counts.
pub mod race;
