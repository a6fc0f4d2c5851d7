//! Links between containers: what a source is told, whom it reaches, and how that follows the target; through `berth` and
//! `docker`.

/// What the tests have in common.
mod asking;
/// Faults of links that other engines show, and that are not here.
mod defects;
/// Links on networks of the user's.
mod networks;
/// What users know of links.
mod scenarios;
