//! How a container's health is checked: the request over the image.

use crate::container::health::Check;
use crate::error::{Error, Result};
use api::ContainerCreateBody;
use images::{Healthcheck, RunConfig};
use std::time::Duration;

/// No shorter time is one, but for zero, which says nothing.
const SHORTEST: i64 = 1_000_000;

/// The check, if there is one. What the request leaves open, the image says.
pub fn health(body: &ContainerCreateBody, image: &RunConfig, warnings: &mut Vec<String>) -> Result<Option<Check>> {
    let mut merged = image.healthcheck.clone().unwrap_or_default();
    if let Some(asked) = &body.healthcheck {
        let said = |over: Option<i64>, under: i64| over.filter(|value| *value != 0).unwrap_or(under);
        merged = Healthcheck {
            test: asked.test.clone().filter(|test| !test.is_empty()).unwrap_or(merged.test),
            interval: said(asked.interval, merged.interval),
            timeout: said(asked.timeout, merged.timeout),
            start_period: said(asked.start_period, merged.start_period),
            start_interval: said(asked.start_interval, merged.start_interval),
            retries: said(asked.retries, merged.retries),
        };
    }
    let times = [
        ("Interval", merged.interval),
        ("Timeout", merged.timeout),
        ("StartPeriod", merged.start_period),
        ("StartInterval", merged.start_interval),
    ];
    for (name, nanos) in times {
        if nanos != 0 && nanos < SHORTEST {
            return Err(Error::Invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    let [interval, timeout, start_period, start_interval] =
        times.map(|(_, nanos)| u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos));
    let retries = u32::try_from(merged.retries)
        .map_err(|_| Error::Invalid("Retries in Healthcheck cannot be negative".into()))?;
    let Some((argv, shell_len)) = program(&merged.test, body.shell.as_ref().or(image.shell.as_ref()), warnings)? else {
        return Ok(None);
    };
    let retries = Some(retries).filter(|retries| *retries > 0);
    Ok(Some(Check { argv, shell_len, interval, timeout, start_period, start_interval, retries }))
}

/// What is run, and how many words of it are a shell.
fn program(
    test: &[String],
    shell: Option<&Vec<String>>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Vec<String>, usize)>> {
    let Some((kind, words)) = test.split_first() else { return Ok(None) };
    let shell = match kind.as_str() {
        "NONE" => return Ok(None),
        "CMD" => Vec::new(),
        "CMD-SHELL" => {
            shell.filter(|shell| !shell.is_empty()).cloned().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
        }
        other => {
            warnings.push(format!("Unknown healthcheck type '{other}' (expected 'CMD'): the container has no check"));
            return Ok(None);
        }
    };
    if words.is_empty() {
        return Err(Error::Invalid(format!("Test in Healthcheck has no command after {kind}")));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Error::Invalid("Test in Healthcheck has a NUL byte".into()));
    }
    let shell_len = shell.len();
    Ok(Some((shell.into_iter().chain(words.iter().cloned()).collect(), shell_len)))
}
