//! Whether a container does what it is for: what is run to find out, and what came of it so far. The rules are Docker's;
//! `engine/health.rs` runs the checks.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// From the end of one check to the start of the next, if nobody said.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long a check may take, if nobody said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The interval while the container gets up, if nobody said.
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row that make it unhealthy, if nobody said.
const RETRIES: u32 = 3;
/// How many outcomes are remembered.
const REMEMBERED: usize = 5;

/// What is run, and how often. What nobody said is `None`, and has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// How many of `argv` are a shell that reads the rest (`CMD-SHELL`); 0: the program is run directly.
    pub shell_len: usize,
    /// From the end of one check to the start of the next.
    pub interval: Option<Duration>,
    /// How long a check may take until it is killed and has failed.
    pub timeout: Option<Duration>,
    /// How long after its start the container's failures do not count, until a check was good.
    pub start_period: Option<Duration>,
    /// The interval in that time.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
}

impl Check {
    /// How long a check may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    fn start_period(&self) -> Duration {
        self.start_period.unwrap_or_default()
    }
}

/// What the checks say of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// No check was good yet, and not enough have failed.
    Starting,
    /// The last check was good, or not enough have failed since.
    Healthy,
    /// Too many failed in a row; or the container does not run, which Docker calls so too.
    Unhealthy,
}

impl Status {
    /// The Engine API's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        }
    }
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it began.
    pub started: SystemTime,
    /// When it was over.
    pub ended: SystemTime,
    /// 0 is good; -1: it could not be run, or took too long.
    pub exit_code: i32,
    /// The beginning of what it printed, or why there is nothing.
    pub output: String,
}

/// A container's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In a word.
    pub status: Status,
    /// How many checks have failed since the last good one.
    pub failing_streak: u32,
    /// The last outcomes, oldest first; those of the run before may be among them.
    pub log: Vec<Outcome>,
}

impl Health {
    /// Of a container that starts; what the checks said of its last run is kept.
    pub fn starting(before: Option<&Health>) -> Health {
        let log = before.map(|before| before.log.clone()).unwrap_or_default();
        Health { status: Status::Starting, failing_streak: 0, log }
    }

    /// Nobody checks any more: the container has ended, or is frozen.
    pub fn unchecked(&mut self) {
        self.status = Status::Unhealthy;
    }

    /// Takes in what a check of a container said that runs since `up`.
    pub fn take(&mut self, check: &Check, outcome: Outcome, up: SystemTime) {
        if outcome.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if self.status != Status::Starting || since(up, outcome.started) >= check.start_period() {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries.unwrap_or(RETRIES) {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push(outcome);
        if self.log.len() > REMEMBERED {
            self.log.remove(0);
        }
    }

    /// How long from `now` until the next check of a container that runs since `up`.
    pub fn rest(&self, check: &Check, up: SystemTime, now: SystemTime) -> Duration {
        // The last check of this run, or the start.
        let from = self.log.last().map_or(up, |last| last.ended.max(up));
        let gets_up = self.status == Status::Starting && since(up, from) < check.start_period();
        let interval = match gets_up {
            true => check.start_interval.unwrap_or(START_INTERVAL),
            false => check.interval.unwrap_or(INTERVAL),
        };
        // A clock that was set back must not put the check off for longer.
        interval.saturating_sub(since(from, now)).min(interval)
    }
}

fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    /// Plays checks that begin at these seconds of a run and end with these codes; the statuses and streaks after each.
    fn played(check: &Check, checks: &[(u64, i32)]) -> String {
        let mut health = Health::starting(None);
        let mut said = Vec::new();
        for (second, code) in checks {
            let outcome = Outcome {
                started: at(second * 1000),
                ended: at(second * 1000 + 1),
                exit_code: *code,
                output: String::new(),
            };
            health.take(check, outcome, at(0));
            said.push(format!("{} {}", health.status.word(), health.failing_streak));
        }
        said.join(", ")
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy() {
        let check = Check { retries: Some(2), ..Check::default() };
        assert_eq!(
            played(&check, &[(1, 1), (2, 0), (3, 1), (4, 0), (5, 1), (6, -1), (7, 1), (8, 0)]),
            "starting 1, healthy 0, healthy 1, healthy 0, healthy 1, unhealthy 2, unhealthy 3, healthy 0"
        );
        assert_eq!(
            played(&Check::default(), &[(1, 1), (2, 1), (3, 1)]),
            "starting 1, starting 2, unhealthy 3",
            "three if nobody said"
        );
    }

    #[test]
    fn failures_do_not_count_while_it_gets_up() {
        let check = Check { retries: Some(1), start_period: seconds(10), ..Check::default() };
        assert_eq!(played(&check, &[(1, 1), (9, 1), (10, 1)]), "starting 0, starting 0, unhealthy 1");
        assert_eq!(played(&check, &[(1, 0), (2, 1)]), "healthy 0, unhealthy 1", "it was up already");
    }

    #[test]
    fn the_last_five_outcomes_are_remembered_over_a_restart() {
        let mut health = Health::starting(None);
        for second in 0..7 {
            let outcome = Outcome { started: at(second), ended: at(second), exit_code: 0, output: second.to_string() };
            health.take(&Check::default(), outcome, at(0));
        }
        health.unchecked();
        let again = Health::starting(Some(&health));
        assert_eq!((again.status, again.failing_streak), (Status::Starting, 0));
        assert_eq!(again.log.iter().map(|o| o.output.as_str()).collect::<Vec<_>>(), ["2", "3", "4", "5", "6"]);
    }

    #[test]
    fn the_next_check_comes_an_interval_after_the_last_has_ended() {
        let check =
            Check { interval: seconds(30), start_period: seconds(20), start_interval: seconds(2), ..Check::default() };
        let mut health = Health::starting(None);
        let rest = |health: &Health, now: u64| health.rest(&check, at(100_000), at(now)).as_millis();
        assert_eq!(rest(&health, 100_000), 2000, "the first, while it gets up");
        assert_eq!(rest(&health, 101_500), 500);
        assert_eq!(rest(&health, 150_000), 0, "the engine was away");
        assert_eq!(rest(&health, 1_000), 2000, "the clock was set back");
        let outcome = |second: u64, exit_code| Outcome {
            started: at(second * 1000),
            ended: at(second * 1000 + 500),
            exit_code,
            output: String::new(),
        };
        health.take(&check, outcome(102, 1), at(100_000));
        assert_eq!(rest(&health, 102_500), 2000);
        health.take(&check, outcome(121, 1), at(100_000));
        assert_eq!(rest(&health, 121_500), 30_000, "the time to get up is over");
        let mut health = Health::starting(None);
        health.take(&check, outcome(102, 0), at(100_000));
        assert_eq!(rest(&health, 102_500), 30_000, "it is up");
        let old = Health::starting(Some(&health));
        assert_eq!(old.rest(&check, at(200_000), at(200_000)).as_millis(), 2000, "the run before does not count");
        assert_eq!(Health::starting(None).rest(&Check::default(), at(0), at(0)), Duration::from_secs(30));
    }
}
