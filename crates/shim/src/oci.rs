use serde_json::Value;
use shim::Config;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A run of the OCI runtime under way.
pub struct Job {
    /// The runtime's own process.
    pub pid: i32,
    /// What it does.
    pub task: Task,
    log: PathBuf,
    /// Where this run's lines begin in the log.
    from: u64,
}

/// What a run of the runtime is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// `create`.
    Create,
    /// `start`.
    Start,
    /// `delete --force`.
    Delete,
    /// `exec` for the process with this name.
    Exec(String),
}

/// A command line of the runtime, without the part that depends on the task.
pub fn command(config: &Config, log: &Path) -> Command {
    let mut command = Command::new(&config.runtime);
    // An engine under systemd's socket activation has these; in a container they would promise descriptors.
    command.env_remove("LISTEN_FDS").env_remove("LISTEN_PID").env_remove("LISTEN_FDNAMES");
    command.args(&config.runtime_args).arg("--log").arg(log).args(["--log-format", "json"]);
    command
}

/// Starts it. `errors` is where its complaints go when it has no pipe of a container to write to.
pub fn start(mut command: Command, task: Task, log: PathBuf, errors: Option<&Path>) -> io::Result<Job> {
    let from = fs::metadata(&log).map_or(0, |meta| meta.len());
    if let Some(errors) = errors {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(errors)?);
    }
    let program = Path::new(command.get_program()).display().to_string();
    let child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run the OCI runtime {program}: {error}")))?;
    // The child is reaped by the loop, together with everybody else's orphans.
    Ok(Job { pid: child.id() as i32, task, log, from })
}

impl Job {
    /// Why it failed: the last error of its log, else the last line of what it wrote to its standard error.
    pub fn complaint(&self, stderr: impl FnOnce() -> Vec<u8>, status: i32) -> String {
        let mut text = String::new();
        let logged = File::open(&self.log)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.from))?;
                file.take(1 << 20).read_to_string(&mut text)
            })
            .ok()
            .and_then(|_| last_error(&text));
        logged
            .or_else(|| last_line(&stderr()))
            .unwrap_or_else(|| format!("the OCI runtime failed without a word (exit status {status})"))
    }
}

/// The last message of level error or fatal in a log of JSON lines, as runc, crun and youki write it.
fn last_error(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let entry: Value = serde_json::from_str(line).ok()?;
        let level = entry.get("level")?.as_str()?;
        let message = entry.get("msg").or_else(|| entry.get("message"))?.as_str()?;
        matches!(level.to_ascii_lowercase().as_str(), "error" | "fatal" | "panic").then(|| one_line(message))
    })
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(one_line)
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A pid that the runtime wrote.
pub fn pid_in(file: &Path) -> io::Result<i32> {
    let text = fs::read_to_string(file)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("{} holds {text:?}, not a pid", file.display()));
    text.trim().parse().ok().filter(|pid| *pid > 0).ok_or_else(bad)
}

/// Adds an option with a value.
pub fn option(command: &mut Command, name: &str, value: impl AsRef<OsStr>) {
    command.arg(name).arg(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_last_error_is_the_message() {
        let log = "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}\n{\"level\":\"error\",\"msg\":\"first\"}\nnoise\n\
                   {\"level\":\"error\",\"msg\":\"exec: \\\"x\\\":\\n executable file not found in $PATH\"}\n{\"level\":\"info\",\"msg\":\"bye\"}\n";
        assert_eq!(last_error(log).unwrap(), "exec: \"x\":; executable file not found in $PATH");
        assert_eq!(last_error("{\"level\":\"info\",\"msg\":\"bye\"}\n"), None);
        assert_eq!(last_line(b"a\nb: no\n\n").unwrap(), "b: no");
    }
}
