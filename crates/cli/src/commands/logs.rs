//! `logs`.

use std::io;

use clap::Arg;

use super::{Ask, row};
use crate::demux::Demux;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, switch, text};
use crate::wire::{Call, escape};
use crate::{human, literal, printer};

/// The flags of `logs`.
pub fn flags() -> Vec<Arg> {
    vec![
        switch("details", LONG, "Show the attributes that the log driver adds"),
        switch("follow", 'f', "Go on with what is written from now on"),
        text(
            "since",
            LONG,
            "string",
            "Show only what was written since this time (2013-01-02T13:23:37Z) or in this span (42m)",
        ),
        text("until", LONG, "string", "Show only what was written before this time or span"),
        text("tail", 'n', "string", "Show only this many lines of the end [all]"),
        switch("timestamps", 't', "Put the time before each line"),
    ]
}

/// A time or a span before now, as the API takes it: seconds and billionths since 1970.
pub fn moment(text: &str, now: i64) -> Result<String, String> {
    if let Ok(span) = literal::duration(text) {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        return Ok((now - seconds).to_string());
    }
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    match human::parse_instant(text) {
        Some((seconds, nanos)) => Ok(format!("{seconds}.{nanos:09}")),
        None => Err(format!("failed to parse value as time or duration: {}", literal::quoted(text))),
    }
}

/// Shows what a container wrote.
pub async fn logs(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (m, wire) = (ask.m, ask.wire);
    let name = escape(&ask.args[0]);
    let at = |flag: &str| match m.get(flag).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => moment(text, row::now())
            .map(Some)
            .map_err(|why| Failure::refused(format!("invalid value for \"{flag}\": {why}"))),
    };
    let (since, until) = (at("since")?, at("until")?);
    let container = wire.ask(Call::get(format!("/containers/{name}/json"))).await?;
    let call = Call::get(format!("/containers/{name}/logs"))
        .switch("stdout", true)
        .switch("stderr", true)
        .switch("follow", m.on("follow"))
        .switch("timestamps", m.on("timestamps"))
        .switch("details", m.on("details"))
        .query_if("since", since)
        .query_if("until", until)
        .query("tail", m.get("tail").unwrap_or("all"));
    let mut stream = wire.stream(call).await?;
    let tty = container["Config"]["Tty"] == true;
    let mut demux = Demux::default();
    while let Some(chunk) = stream.chunk().await? {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let shown = if tty { printer::bytes(&mut out, &chunk) } else { demux.take(&chunk, &mut out, &mut err) };
        match shown {
            Ok(()) => {}
            // `| head` has seen enough.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(err) => return Err(Failure::io("show the log")(err)),
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, wanted) in [
            ("5m", Ok("700")),
            ("1.5h", Ok("-4400")),
            ("2024-01-01T00:00:00", Ok("1704067200.000000000")),
            ("1700000000.5", Ok("1700000000.5")),
            ("foo", Err("failed to parse value as time or duration: \"foo\"")),
        ] {
            assert_eq!(moment(text, 1000), wanted.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
