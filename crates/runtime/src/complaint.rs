use crate::cli::Format;
use rustix::fs::MemfdFlags;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Where messages go. libcontainer's tracing events are written with it too, in all the processes it forks: files are
/// opened once, and a line is one write.
#[derive(Clone)]
pub struct Log {
    file: Option<Arc<File>>,
    format: Format,
    level: Level,
    /// The error events alone, a line each, in memory that forked processes share. libcontainer's errors say where a step
    /// failed and its events why: the first of them completes the last word.
    trail: Option<Arc<File>>,
}

impl Log {
    /// Opens the file and starts listening. A file that cannot be opened is done without, after saying so.
    pub fn open(path: Option<&Path>, format: Format, debug: bool) -> Log {
        let file = path.and_then(|path| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.inspect_err(|error| eprintln!("berth-runtime: log file {}: {error}", path.display())).ok()
        });
        let trail = rustix::fs::memfd_create("trail", MemfdFlags::CLOEXEC).ok().map(|fd| Arc::new(File::from(fd)));
        let level = if debug { Level::DEBUG } else { Level::WARN };
        let log = Log { file: file.map(Arc::new), format, level, trail };
        // Fails only if somebody set one before, and nobody does.
        let _ = tracing::subscriber::set_global_default(log.clone());
        log
    }

    /// Says why the command failed: one line on standard error and the last line of the file.
    pub fn last_word(&self, error: &anyhow::Error) {
        let mut message = one_line(&format!("{error:#}"));
        let cause = one_line(&error.root_cause().to_string());
        if let Some(detail) =
            self.detail().filter(|detail| !detail.contains(&cause) && !message.contains(detail.as_str()))
        {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {detail}");
        }
        self.write("error", &message);
        eprintln!("{message}");
    }

    fn detail(&self) -> Option<String> {
        let mut text = vec![0; 4096];
        let length = self.trail.as_ref()?.read_at(&mut text, 0).ok()?;
        String::from_utf8_lossy(&text[..length]).lines().next().map(str::to_owned)
    }

    fn write(&self, level: &str, message: &str) {
        let Some(mut file) = self.file.as_deref() else { return };
        let time = now();
        let line = match self.format {
            Format::Json => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
            Format::Text => format!("time={time:?} level={level} msg={message:?}"),
        };
        // There is nobody left to tell that the log cannot be written.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let message = one_line(&words.all());
        let level = *event.metadata().level();
        if level == Level::ERROR
            && let Some(mut trail) = self.trail.as_deref()
        {
            let _ = trail.write_all(format!("{message}\n").as_bytes());
        }
        // The only error of a log is the last word: that is what callers look for.
        let level = if level == Level::ERROR { "warning" } else { level.as_str() };
        self.write(&level.to_ascii_lowercase(), &message);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event's message, and its fields as `name=value`.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn all(self) -> String {
        if self.message.is_empty() { self.fields.trim_start().to_owned() } else { self.message + &self.fields }
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// RFC 3339, UTC, seconds.
pub fn now() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // SAFETY: all-zero is a valid tm, and both pointers are to live objects.
    let time = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&(seconds as libc::time_t), &mut time);
        time
    };
    let (year, month) = (time.tm_year + 1900, time.tm_mon + 1);
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", time.tm_mday, time.tm_hour, time.tm_min, time.tm_sec)
}
