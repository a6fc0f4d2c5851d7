//! Links between containers: what a source is told, whom it reaches, and how that follows the target; through `berth` and
//! `docker`.
//!
//! Where what is known of links is shown. `both`: the commands that it is about are given by each of the two clients; `berth`:
//! what is shown does not come by the client's words.
//!
//! | scenario or row | by | test |
//! | --- | --- | --- |
//! | S51–S53, S55, S57; S59–S66 (the text's three `ch5_ff` runs and its `env` block) | both | `scenarios::a_link_tells_its_source_where_the_target_is` |
//! | S54, S56, S67, S68; A11.23–A11.25 | both | `scenarios::a_link_opens_exactly_what_the_target_exposes` |
//! | S58; A11.14, A11.15, A11.22, A11.26 | both | `scenarios::links_are_shown_renamed_and_removed` |
//! | S69; A11.27 | berth | `defects::a_targets_start_is_known_at_once`, `defects::a_target_with_another_address…` |
//! | S70, on networks; A11.21 | both | `networks` |
//! | S70, on the default bridge | both | `names.rs`: `a_link_is_found_by_name` |
//! | A11.1, A11.9 | both | `scenarios::a_link_tells_its_source_where_the_target_is` |
//! | A11.2, A11.4–A11.8, A11.10–A11.13 | both | `scenarios::variables_of_targets_and_their_owners`; `plan`'s `variables` |
//! | A11.16–A11.20, refusals of A11.22 | both | `scenarios::what_cannot_be_linked_is_refused` |
//! | A11.28 (a), (b), (h) | berth | `defects::a_target_with_another_address_is_followed_and_a_stranger_gets_nothing` |
//! | A11.28 (c) | berth | `defects::the_targets_port_is_no_way_back` |
//! | A11.28 (d) | both | `defects::exec_works_while_a_target_is_stopped` |
//! | A11.28 (e); the engine's end under a transfer | berth | `defects::links_outlive_the_engine` |
//! | A11.28 (f), (g) | berth | `defects::nothing_is_left_of_a_link` |
//! | the target's end under a transfer | berth | `defects::a_transfer_ends_with_its_target_and_begins_anew` |
//!
//! A11.3 is a warning of Docker's that links will go; here they stay, and nothing is said.

/// What the tests have in common.
mod asking;
/// Faults of links that other engines show, and that are not here.
mod defects;
/// Links on networks of the user's.
mod networks;
/// What users know of links.
mod scenarios;
