//! Health, and how it is checked.

use crate::container::Container;
use crate::container::health::{Health, Outcome, Status};
use crate::time;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The word for a container that nothing checks, or that was never started.
const NONE: &str = "none";

/// `State.Health` of `inspect`.
pub fn state(health: &Health) -> Value {
    let outcome = |outcome: &Outcome| {
        json!({
            "Start": time::rfc3339(outcome.started),
            "End": time::rfc3339(outcome.ended),
            "ExitCode": outcome.exit_code,
            "Output": outcome.output,
        })
    };
    json!({
        "Status": health.status.word(),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(outcome).collect::<Vec<_>>(),
    })
}

/// What a line of `ps` says in parentheses.
pub fn remark(health: &Health) -> String {
    match health.status {
        Status::Starting => "health: starting".to_owned(),
        clear => clear.word().to_owned(),
    }
}

/// What the filter `health` compares.
pub fn word(container: &Container) -> &'static str {
    container.state.health.as_ref().map_or(NONE, |health| health.status.word())
}

/// The words of the filter.
pub const WORDS: &[&str] = &[NONE, "starting", "healthy", "unhealthy"];

/// `Health` of a line of `ps`, since API 1.52.
pub fn summary(container: &Container) -> Value {
    let streak = container.state.health.as_ref().map_or(0, |health| health.failing_streak);
    json!({ "Status": word(container), "FailingStreak": streak })
}

/// `Config.Healthcheck`: the image's and the request's in one; null if nobody said anything.
pub fn check(container: &Container) -> Value {
    let Some(check) = &container.spec.health else {
        return container.asked.get("Healthcheck").cloned().unwrap_or(Value::Null);
    };
    let kind = if check.shell_len > 0 { "CMD-SHELL" } else { "CMD" };
    let test: Vec<&str> =
        std::iter::once(kind).chain(check.argv[check.shell_len..].iter().map(String::as_str)).collect();
    let mut value = Map::from_iter([("Test".to_owned(), json!(test))]);
    let nanos = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let numbers = [
        ("Interval", check.interval.map(nanos)),
        ("Timeout", check.timeout.map(nanos)),
        ("StartPeriod", check.start_period.map(nanos)),
        ("StartInterval", check.start_interval.map(nanos)),
        ("Retries", check.retries.map(u64::from)),
    ];
    value.extend(numbers.into_iter().filter_map(|(field, number)| Some((field.to_owned(), number?.into()))));
    Value::Object(value)
}
