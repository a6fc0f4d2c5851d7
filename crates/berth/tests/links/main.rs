//! Links between containers: what a source is told, whom it reaches, and how that follows the target; through `berth` and
//! `docker`.

/// What the tests have in common.
mod asking;
/// Faults of links that other engines show, and that are not here.
mod defects;
/// What users know of links.
mod scenarios;
