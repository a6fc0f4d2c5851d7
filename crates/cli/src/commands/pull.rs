//! `pull` and `push`, and the progress that they, `load` and `import` show.

use std::collections::BTreeMap;

use clap::Arg;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::{Ask, row::text as at};
use crate::credentials;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, switch, text};
use crate::printer;
use crate::reference::{Reference, Version};
use crate::terminal;
use crate::wire::{Call, Values, Wire};

/// The flags of `pull`.
pub fn pull_flags() -> Vec<Arg> {
    vec![
        switch("all-tags", 'a', "Download every tagged image of the repository"),
        switch("disable-content-trust", LONG, "Accepted; images are verified by their digests"),
        text("platform", LONG, "string", "Choose the platform of a multi-platform image (os[/arch[/variant]])"),
        switch("quiet", 'q', "Do not show the progress"),
    ]
}

/// The flags of `push`.
pub fn push_flags() -> Vec<Arg> {
    vec![
        switch("all-tags", 'a', "Upload every tag of the repository"),
        switch("disable-content-trust", LONG, "Accepted; images are identified by their digests"),
        text("platform", LONG, "string", "Upload only this platform of a multi-platform image"),
        switch("quiet", 'q', "Do not show the progress"),
    ]
}

fn with_credentials(call: Call, registry: &str) -> Call {
    match credentials::header(registry) {
        Some(header) => call.header("X-Registry-Auth", header),
        None => call,
    }
}

fn pull_call(name: &Reference, platform: Option<&str>) -> Call {
    let call = Call::post("/images/create")
        .query("fromImage", name.name())
        .query_if("tag", Some(name.version_text()).filter(|version| !version.is_empty()))
        .query_if("platform", platform.filter(|platform| !platform.is_empty()));
    with_credentials(call, &name.registry)
}

/// Downloads an image.
pub async fn pull(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let name = Reference::parse(&ask.args[0]).map_err(Failure::Refused)?;
    let quiet = m.on("quiet");
    let name = if m.on("all-tags") {
        if name.version.is_some() {
            return Err(Failure::refused("tag can't be used with --all-tags/-a"));
        }
        name
    } else {
        if name.version.is_none() && !quiet {
            printer::line("Using default tag: latest");
        }
        name.or_latest()
    };
    let stream = ask.wire.stream(pull_call(&name, m.get("platform"))).await?;
    progress(stream.values(), quiet, Where::Out).await?;
    printer::line(&name.full());
    Ok(0)
}

/// Downloads the image that a container needs; its progress goes to standard error, for standard output is the
/// container's.
pub async fn for_run(wire: &Wire, image: &str, platform: Option<&str>, quiet: bool) -> Result<(), Failure> {
    let name = Reference::parse(image).map_err(Failure::Refused)?.or_latest();
    let stream = wire.stream(pull_call(&name, platform)).await?;
    progress(stream.values(), quiet, Where::Err).await?;
    Ok(())
}

/// Uploads an image.
pub async fn push(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let name = Reference::parse(&ask.args[0]).map_err(Failure::Refused)?;
    let name = match (&name.version, m.on("all-tags")) {
        (Some(_), true) => return Err(Failure::refused("tag can't be used with --all-tags/-a")),
        (Some(Version::Digest(_)), _) => return Err(Failure::refused("cannot push a digest reference")),
        (None, true) => name,
        (None, false) => {
            if !m.on("quiet") {
                printer::line("Using default tag: latest");
            }
            name.or_latest()
        }
        (Some(Version::Tag(_)), false) => name,
    };
    let call = Call::post(format!("/images/{}/push", name.name()))
        .query_if("tag", Some(name.version_text()).filter(|version| !version.is_empty()));
    // The API insists on the header, also where there are no credentials: then it is the empty object in base64.
    let header = credentials::header(&name.registry).unwrap_or_else(|| "e30=".to_owned());
    let stream = ask.wire.stream(call.header("X-Registry-Auth", header)).await?;
    progress(stream.values(), m.on("quiet"), Where::Out).await?;
    if m.on("quiet") {
        printer::line(&name.full());
    }
    Ok(0)
}

/// Where progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Where {
    fn line(self, text: &str) {
        match self {
            Self::Out => printer::line(text),
            Self::Err => printer::complain(text),
        }
    }
}

/// Shows the messages of a pull, push, load or import: bars on a terminal, plain lines elsewhere.
///
/// # Errors
/// The error that the engine reports in the middle of its messages.
pub async fn progress(mut messages: Values, quiet: bool, to: Where) -> Result<(), Failure> {
    let mut bars = (!quiet && terminal::is_output()).then(|| Bars::new(to));
    while let Some(message) = messages.next().await? {
        if let Some(error) = refusal(&message) {
            if let Some(bars) = &bars {
                bars.close();
            }
            return Err(Failure::refused(error));
        }
        if quiet {
            continue;
        }
        let (id, status) = (at(&message, "id"), at(&message, "status"));
        let stream = at(&message, "stream");
        match &mut bars {
            _ if !stream.is_empty() => {
                let text = stream.trim_end_matches('\n');
                match &bars {
                    Some(bars) => bars.say(text),
                    None => to.line(text),
                }
            }
            _ if status.is_empty() => {}
            Some(bars) => bars.show(id, status, &message["progressDetail"]),
            // Elsewhere than on a terminal, only what is final for a layer is worth a line.
            None if message["progressDetail"]["total"].is_number() => {}
            None if id.is_empty() => to.line(status),
            None => to.line(&format!("{id}: {status}")),
        }
    }
    if let Some(bars) = &bars {
        bars.close();
    }
    Ok(())
}

/// The error in a message of progress.
fn refusal(message: &Value) -> Option<String> {
    let detail = at(&message["errorDetail"], "message");
    let text = if detail.is_empty() { at(message, "error") } else { detail };
    (!text.is_empty()).then(|| text.to_owned())
}

struct Bars {
    all: MultiProgress,
    by_id: BTreeMap<String, ProgressBar>,
    bar: ProgressStyle,
    words: ProgressStyle,
}

impl Bars {
    fn new(to: Where) -> Self {
        let target = match to {
            Where::Out => ProgressDrawTarget::stdout(),
            Where::Err => ProgressDrawTarget::stderr(),
        };
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            by_id: BTreeMap::new(),
            bar: style("{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes}"),
            words: style("{prefix}: {msg}"),
        }
    }

    fn say(&self, text: &str) {
        // A terminal that takes no more text takes no bars either; the work itself goes on.
        let _ = self.all.println(text);
    }

    fn show(&mut self, id: &str, status: &str, detail: &Value) {
        if id.is_empty() {
            self.say(status);
            return;
        }
        let all = &self.all;
        let words = &self.words;
        let bar = self.by_id.entry(id.to_owned()).or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
            bar.set_style(words.clone());
            bar.set_prefix(id.to_owned());
            bar.set_message(status.to_owned());
            all.add(bar)
        });
        match (detail["current"].as_u64(), detail["total"].as_u64()) {
            (Some(current), Some(total)) if total > 0 => {
                bar.set_style(self.bar.clone());
                bar.set_length(total);
                bar.set_position(current);
            }
            _ => bar.set_style(self.words.clone()),
        }
        bar.set_message(status.to_owned());
    }

    fn close(&self) {
        for bar in self.by_id.values() {
            bar.abandon();
        }
    }
}
