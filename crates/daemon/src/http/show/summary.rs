//! A line of `ps`.

use super::network;
use crate::container::{Container, Phase};
use crate::engine::Places;
use crate::http::version::Version;
use crate::time;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// An entry of `GET /containers/json`.
pub fn summary(
    container: &Container,
    places: &Places,
    sizes: Option<(u64, u64)>,
    now: SystemTime,
    version: Version,
) -> Value {
    let mode = container.asked.pointer("/HostConfig/NetworkMode").and_then(Value::as_str).unwrap_or_default();
    let mut value = json!({
        "Id": container.id.as_str(),
        "Names": [format!("/{}", container.name)],
        "Image": container.spec.image,
        "ImageID": container.image_id,
        "Command": command(&container.spec.argv),
        "Created": time::unix(container.created),
        "Ports": network::port_list(container, places),
        "Labels": container.spec.labels,
        "State": container.state.phase.word(),
        "Status": status(container, now),
        "HostConfig": { "NetworkMode": if mode.is_empty() { "default" } else { mode } },
        "NetworkSettings": { "Networks": network::networks(container, places) },
        "Mounts": container.mounts.iter().map(super::mount).collect::<Vec<_>>(),
    });
    if version >= (1, 52) {
        value["Health"] = super::health::summary(container);
    }
    if let Some((own, all)) = sizes {
        value["SizeRw"] = own.into();
        value["SizeRootFs"] = all.into();
    }
    value
}

fn command(argv: &[String]) -> String {
    let quoted = argv.iter().enumerate().map(|(n, word)| match word.contains(' ') {
        true if n > 0 => format!("'{word}'"),
        _ => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// `Up 5 minutes`, `Exited (1) 2 hours ago` …
pub fn status(container: &Container, now: SystemTime) -> String {
    let state = &container.state;
    let since = |at: Option<SystemTime>| ago(at.and_then(|at| now.duration_since(at).ok()).unwrap_or_default());
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => match &state.health {
            Some(health) => format!("Up {} ({})", since(state.started), super::health::remark(health)),
            None => format!("Up {}", since(state.started)),
        },
        Phase::Paused => format!("Up {} (Paused)", since(state.started)),
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished)),
        // A start that failed leaves it as it was made.
        Phase::Exited if state.finished.is_none() => "Created".to_owned(),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished)),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
    }
}

/// A length of time as Docker says it.
fn ago(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours) = (seconds / 60, (length.as_secs_f64() / 3600.0 + 0.5) as u64);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (s @ ..60, ..) => format!("{s} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, m @ ..60, _) => format!("{m} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., h @ ..48) => format!("{h} hours"),
        (.., h) if h < 24 * 7 * 2 => format!("{} days", h / 24),
        (.., h) if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
        (.., h) if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
        (.., h) => format!("{} years", h / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_dockers() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (3 * 365 * 86_400, "3 years"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), want, "{seconds}");
        }
    }

    #[test]
    fn words_with_blanks_are_quoted() {
        let argv = ["sh", "-c", "echo a b"].map(str::to_owned);
        assert_eq!(command(&argv), "sh -c 'echo a b'");
    }
}
