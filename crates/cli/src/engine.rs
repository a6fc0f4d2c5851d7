//! Where the engine listens, and starting it when nobody does.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use crate::failure::Failure;
use crate::printer;

/// The engine's socket when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/berth/berth.sock";
/// Where an engine that we started writes its log.
const LOG: &str = "/run/berth/engine.log";
/// How long a started engine may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long another engine may take whose start made ours end.
const GRACE: Duration = Duration::from_secs(1);
/// Tells `berth daemon` that it was started in the background and has to leave the terminal's session.
pub const BACKGROUND: &str = "BERTH_BACKGROUND";

/// The address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The path of the socket.
    pub path: PathBuf,
    /// Whether the user named it. We start an engine only at the address that nobody named.
    pub named: bool,
}

impl Address {
    /// The address from `-H`, else from `BERTH_HOST`, else the default.
    pub fn choose(flags: &[String], variable: Option<&str>) -> Result<Self, Failure> {
        let text = match flags {
            [] => variable.unwrap_or_default().trim(),
            [one] => one.trim(),
            _ => {
                return Err(Failure::Exit { text: "berth: specify only one -H".to_owned(), code: 1 });
            }
        };
        if text.is_empty() {
            return Ok(Self { path: DEFAULT_SOCKET.into(), named: false });
        }
        match text.split_once("://") {
            Some(("unix", path)) => {
                Ok(Self { path: if path.is_empty() { DEFAULT_SOCKET } else { path }.into(), named: true })
            }
            Some((scheme @ ("tcp" | "http" | "https" | "ssh" | "npipe" | "fd"), _)) => Err(Failure::refused(format!(
                "berth: the host '{text}' cannot be used: {scheme}:// is not supported yet; name a socket of this machine as unix:///PATH"
            ))),
            _ => Err(Failure::refused(format!("berth: unable to parse the host '{text}': write it as unix:///PATH"))),
        }
    }

    /// The address as the user would write it after `-H`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Connects; where nobody named an engine and none listens, starts one first.
    pub async fn connect(&self) -> Result<UnixStream, Failure> {
        match UnixStream::connect(&self.path).await {
            Ok(stream) => Ok(stream),
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Err(Failure::Forbidden { host: self.host() }),
            Err(source) if self.named => Err(Failure::Unreachable { host: self.host(), source }),
            Err(_) => self.start().await,
        }
    }

    async fn start(&self) -> Result<UnixStream, Failure> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::refused(format!(
                "no engine listens on {}, and starting one needs root: run this command as root, or name a running engine with -H or BERTH_HOST",
                self.host()
            )));
        }
        let log = Path::new(LOG);
        let mut child = spawn(log)?;
        printer::complain(&format!(
            "berth: starting the engine in the background (its log is {}; 'berth daemon' runs it in the foreground)",
            log.display()
        ));
        let started = Instant::now();
        let mut over: Option<String> = None;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.path).await {
                return Ok(stream);
            }
            // Another command may have been first to start it: then ours ends, and theirs answers soon.
            if let (None, Ok(Some(status))) = (&over, child.try_wait()) {
                over = Some(format!("ended with {status}"));
            }
            let patience = if over.is_some() { GRACE } else { PATIENCE };
            if started.elapsed() >= patience {
                let how = over.unwrap_or_else(|| format!("does not answer after {} s", PATIENCE.as_secs()));
                return Err(Failure::refused(format!(
                    "the engine {how}; the last lines of {}:\n{}",
                    log.display(),
                    tail(log, 10)
                )));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn spawn(log: &Path) -> Result<Child, Failure> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).map_err(Failure::io(format!("make the run directory {}", dir.display())))?;
    }
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Failure::io(format!("open the engine's log {}", log.display())))?;
    let again = out.try_clone().map_err(Failure::io(format!("open {} twice", log.display())))?;
    let program = env::current_exe().map_err(Failure::io("find the berth program"))?;
    Command::new(&program)
        .arg("daemon")
        .env(BACKGROUND, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(again)
        .spawn()
        .map_err(Failure::io(format!("start {} daemon", program.display())))
}

/// The last lines of a file; of a large one only the end is read as far as it is needed.
fn tail(file: &Path, count: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Leaves the terminal's session if we were started as the engine in the background, so that closing the terminal
/// does not end it. Call it first thing in `berth daemon`.
pub fn leave_the_terminal_if_in_background() {
    if env::var_os(BACKGROUND).is_some() {
        // It fails only for a leader of a process group, which then is a session's child of its own accord.
        let _ = rustix::process::setsid();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let text = |flags: &[&str], variable: Option<&str>| {
            let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
            match Address::choose(&flags, variable) {
                Ok(address) => format!("{}{}", address.host(), if address.named { " named" } else { "" }),
                Err(why) => why.to_string(),
            }
        };
        for (flags, variable, wanted) in [
            (&[][..], None, "unix:///run/berth/berth.sock"),
            (&[], Some(""), "unix:///run/berth/berth.sock"),
            (&[], Some("unix:///x"), "unix:///x named"),
            (&["unix:///y"], Some("unix:///x"), "unix:///y named"),
            (&["a", "b"], None, "berth: specify only one -H"),
            (
                &["tcp://1.2.3.4"],
                None,
                "berth: the host 'tcp://1.2.3.4' cannot be used: tcp:// is not supported yet; name a socket of this machine as unix:///PATH",
            ),
            (&["/x"], None, "berth: unable to parse the host '/x': write it as unix:///PATH"),
        ] {
            assert_eq!(text(flags, variable), wanted);
        }
    }

    #[test]
    fn the_end_of_a_log() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), "a\nb\nc\n").expect("write");
        assert_eq!(tail(file.path(), 2), "b\nc");
        assert_eq!(tail(Path::new("/nonexistent"), 2), "");
    }
}
