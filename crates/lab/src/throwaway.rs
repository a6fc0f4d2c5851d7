use crate::{cgroups, namespaces};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Names the directory of the lab that a process is in.
const DIR: &str = "BERTH_LAB_DIR";
/// Names the parent of all cgroups of the lab that a process is in.
const CGROUP: &str = "BERTH_LAB_CGROUP";
/// What all directories and cgroups of labs are called: this, the maker's pid, a dash and a number.
const PREFIX: &str = "berth-lab-";
/// In the lab's directory, written by who has entered.
const MARK: &str = "entered";

/// A directory and a cgroup name for one lab. Both are removed when it is dropped.
#[derive(Debug)]
pub struct Throwaway {
    dir: PathBuf,
    cgroup: String,
}

/// How a process in a lab came to its end.
#[derive(Debug)]
pub struct Ended {
    /// Its status; `None` if it was killed because the time was over.
    pub status: Option<ExitStatus>,
    /// Its standard output and error as they came, unless they were inherited.
    pub said: String,
    /// Whether it ever came to [`entered`].
    pub entered: bool,
}

impl Throwaway {
    /// Makes the directory, in the system's place for temporary files.
    pub fn new() -> io::Result<Throwaway> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        match std::fs::remove_dir_all(&dir) {
            // A leftover of a process that had our pid before and was killed.
            Ok(()) => cgroups::remove(&format!("/{name}"))?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
        std::fs::create_dir(&dir)?;
        Ok(Throwaway { dir, cgroup: format!("/{name}") })
    }

    /// The directory, as it is outside; a process inside sees an empty file system there.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Runs `command` in fresh namespaces with its output gathered, and kills it with all that it started after `limit`.
    ///
    /// # Errors
    /// Of making the namespaces, mostly; [`namespaces::available`] puts it in words.
    pub fn run(&self, mut command: Command, limit: Duration) -> io::Result<Ended> {
        let (mut reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        self.prepare(&mut command);
        let mut child = command.spawn()?;
        // Ours are copies of the pipe's writing end; the reader must not wait for us.
        drop(command);
        let (said, all_said) = mpsc::channel();
        let listener = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = reader.read_to_end(&mut text);
            // Nobody listens any more only if this function has panicked.
            let _ = said.send(());
            text
        });
        // The pipe closes when the last process inside is gone.
        let in_time = all_said.recv_timeout(limit).is_ok();
        if !in_time {
            child.kill()?;
        }
        let status = child.wait()?;
        let text = listener.join().unwrap_or_default();
        Ok(Ended {
            status: in_time.then_some(status),
            said: String::from_utf8_lossy(&text).into_owned(),
            entered: self.was_entered(),
        })
    }

    /// Runs `command` in fresh namespaces on the caller's own standard streams, without a time limit.
    ///
    /// # Errors
    /// As [`Throwaway::run`].
    pub fn run_in_sight(&self, mut command: Command) -> io::Result<Ended> {
        self.prepare(&mut command);
        let status = command.status()?;
        Ok(Ended { status: Some(status), said: String::new(), entered: self.was_entered() })
    }

    fn prepare(&self, command: &mut Command) {
        command.env(DIR, &self.dir).env("TMPDIR", &self.dir).env(CGROUP, &self.cgroup);
        namespaces::isolate(command);
    }

    fn was_entered(&self) -> bool {
        self.dir.join(MARK).exists()
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let removed = cgroups::remove(&self.cgroup).and_then(|()| std::fs::remove_dir_all(&self.dir));
        if let Err(err) = removed {
            eprintln!("lab: left behind: {err}; `cargo xtask clean-labs` tries again");
        }
    }
}

/// Says that the process inside has come as far as its lab, and gives its directory and the name of its cgroup; `None`
/// outside of any lab.
pub(crate) fn entered() -> io::Result<Option<(PathBuf, String)>> {
    let (Some(dir), Ok(cgroup)) = (std::env::var_os(DIR), std::env::var(CGROUP)) else { return Ok(None) };
    let dir = PathBuf::from(dir);
    std::fs::write(dir.join(MARK), "")?;
    Ok(Some((dir, cgroup)))
}

/// Removes directories and cgroups of labs whose maker was killed before it could. Answers what was removed.
///
/// # Errors
/// The first that could not be removed.
pub fn clean() -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for root in cgroups::hierarchies() {
        for name in orphans(&root) {
            cgroups::remove(&format!("/{name}"))?;
            removed.push(root.join(name));
        }
    }
    let temp = std::env::temp_dir();
    for name in orphans(&temp) {
        std::fs::remove_dir_all(temp.join(&name))?;
        removed.push(temp.join(name));
    }
    Ok(removed)
}

/// Names in `place` of labs whose maker lives no more.
fn orphans(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            let maker = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split_once('-'))
                .and_then(|(pid, _)| pid.parse::<u32>().ok());
            maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        })
        .collect()
}
