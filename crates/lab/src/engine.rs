use crate::command::{LIMIT, Output, Running, run, shown, succeed};
use crate::{Lab, http, wait_for};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an engine may take to its first answer or to its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The programs that an engine consists of.
const PROGRAMS: [&str; 3] = ["berth", "berth-shim", "berth-runtime"];

/// The directory of `berth`, `berth-shim` and `berth-runtime`: `BERTH_BIN_DIR`, else where cargo put them beside the running
/// executable. Panics, naming what is missing, if they are not all there.
#[track_caller]
pub fn binaries() -> PathBuf {
    let dir = match std::env::var_os("BERTH_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let own = std::env::current_exe().expect("a process knows its executable");
            // A test lies in `deps` of the profile's directory, a command in that directory itself.
            let dir = own.parent().expect("an executable lies in a directory");
            if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
        }
    };
    for program in PROGRAMS {
        let path = dir.join(program);
        assert!(path.exists(), "{} is missing: build it first, by `cargo build` in the workspace", path.display());
    }
    dir
}

/// The directory that cargo builds into, by the tag that it leaves there.
pub(crate) fn target_dir() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its executable");
    let tagged = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    tagged.map_or_else(std::env::temp_dir, Path::to_owned)
}

/// Whether there is a `docker` command here to judge the engine with.
pub fn has_docker() -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("docker").exists()))
}

/// The logs of all engines of a lab.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<PathBuf>>>);

impl Logs {
    fn add(&self, path: &Path) {
        self.0.lock().expect("no holder of this lock panics").push(path.to_owned());
    }

    /// On standard error, for whom looks at a failed lab.
    pub(crate) fn print(&self) {
        for path in self.0.lock().expect("no holder of this lock panics").iter() {
            eprintln!("--- {}\n{}---", path.display(), read(path));
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A `berth daemon` with directories, a socket and cgroups of its own. Dropping it kills it; if the test is failing, its
/// log is printed.
#[derive(Debug)]
pub struct Engine {
    programs: PathBuf,
    dir: PathBuf,
    cgroup: String,
    flags: Vec<String>,
    daemon: Mutex<Option<Child>>,
}

impl Engine {
    #[track_caller]
    pub(crate) fn start(lab: &Lab, name: &str, programs: &Path, flags: &[&str]) -> Engine {
        let dir = lab.dir().join(name);
        std::fs::create_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
        let engine = Engine {
            programs: programs.to_owned(),
            dir,
            cgroup: lab.cgroup().to_owned(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            daemon: Mutex::new(None),
        };
        lab.logs().add(&engine.log_path());
        engine.start_again();
        engine
    }

    /// Starts it after [`Engine::kill9`] or [`Engine::stop`], with the flags and directories of before. Waits until it
    /// answers; panics, with its log, if it ends or is silent for 20 seconds.
    #[track_caller]
    pub fn start_again(&self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.unwrap_or_else(|err| panic!("{}: {err}", self.log_path().display()));
        let twin = log.try_clone().unwrap_or_else(|err| panic!("a second handle of the log: {err}"));
        let mut command = self.daemon_command();
        command.stdin(Stdio::null()).stdout(log).stderr(twin);
        let mut daemon = self.daemon();
        assert!(daemon.is_none(), "the engine runs already");
        let mut child = command.spawn().unwrap_or_else(|err| panic!("{}: {err}", shown(&command)));
        wait_for("the engine's answer to a ping", PATIENCE, || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("`{}` ended with {status}\n{}", shown(&command), self.log());
            }
            http::request(&self.socket(), "GET", "/_ping", &[], b"")
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        });
        *daemon = Some(child);
    }

    /// The command that starts it.
    pub fn daemon_command(&self) -> Command {
        let mut command = Command::new(self.programs.join("berth"));
        command.arg("daemon").arg("-H").arg(self.host());
        command.arg("--data-root").arg(self.data_root()).arg("--exec-root").arg(self.exec_root());
        command.arg("--pidfile").arg(self.dir.join("berth.pid")).arg("--cgroup-parent").arg(&self.cgroup);
        command.args(&self.flags);
        command
    }

    /// Its socket as clients name it: `unix://…`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("berth.sock")
    }

    /// Its state directory, `--data-root`.
    pub fn data_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Its run directory, `--exec-root`.
    pub fn exec_root(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The parent of its containers' cgroups.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Its process; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.daemon().as_ref().map(Child::id)
    }

    /// All that it has logged, over all its lives.
    pub fn log(&self) -> String {
        read(&self.log_path())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Ends it at once, without a chance to tidy up.
    pub fn kill9(&self) {
        if let Some(mut child) = self.daemon().take() {
            // Both fail only if it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it by SIGTERM. Panics, with its log, if it does not end within 20 seconds.
    #[track_caller]
    pub fn stop(&self) {
        let Some(mut child) = self.daemon().take() else { return };
        if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
            // Fails only if it has ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        wait_for("the engine's end after SIGTERM", PATIENCE, || child.try_wait().ok().flatten());
    }

    /// Everything of it that dies with a machine dies, as far as this engine is concerned: itself, the processes of these pids,
    /// its firewall, these interfaces of the lab's own namespace, and its run directory. [`Engine::start_again`] is the next boot.
    #[track_caller]
    pub fn crash_machine(&self, pids: &[&str], interfaces: &[&str]) {
        if self.pid().is_some() {
            self.kill9();
        }
        let run = |words: &[&str]| {
            let out = Command::new(words[0]).args(&words[1..]).output();
            let out = out.unwrap_or_else(|err| panic!("{words:?}: {err}"));
            assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        };
        for pid in pids {
            run(&["kill", "-9", pid]);
        }
        // Keepers end with what they keep, and have files open in the run directory until then.
        wait_for("the keepers' ends", PATIENCE, || {
            let alive = pids.iter().any(|pid| Path::new(&format!("/proc/{pid}/root")).exists());
            (!alive).then(|| std::thread::sleep(std::time::Duration::from_millis(200)))
        });
        let pins = self.exec_root().join("netns");
        for pin in std::fs::read_dir(&pins).into_iter().flatten().flatten() {
            run(&["umount", "-l", &pin.path().display().to_string()]);
        }
        run(&["umount", "-l", &pins.display().to_string()]);
        std::fs::remove_dir_all(self.exec_root()).unwrap_or_else(|err| panic!("the run directory: {err}"));
        for family in ["inet", "bridge"] {
            run(&["nft", "delete", "table", family, "berth"]);
        }
        for interface in interfaces {
            run(&["ip", "link", "del", interface]);
        }
    }

    /// Runs `berth` with these words against this engine.
    #[track_caller]
    pub fn berth(&self, words: &[&str]) -> Output {
        run(&mut self.berth_command(words), &[], LIMIT)
    }

    /// [`Engine::berth`] with a standard input.
    #[track_caller]
    pub fn berth_fed(&self, words: &[&str], input: &[u8]) -> Output {
        run(&mut self.berth_command(words), input, LIMIT)
    }

    /// Runs `berth`, which must succeed; answers what it printed.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        succeed(&mut self.berth_command(words), "engine")
    }

    /// Starts `berth` in the background.
    #[track_caller]
    pub fn spawn(&self, words: &[&str]) -> Running {
        Running::start(&mut self.berth_command(words), &self.dir)
    }

    /// A `berth` command that finds this engine.
    pub fn berth_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("berth"));
        command.args(words).env("BERTH_HOST", self.host()).env_remove("DOCKER_HOST");
        command
    }

    /// Runs the `docker` command with these words against this engine; see [`has_docker`].
    #[track_caller]
    pub fn docker(&self, words: &[&str]) -> Output {
        run(&mut self.docker_command(words), &[], LIMIT)
    }

    /// Runs `docker`, which must succeed; answers what it printed.
    #[track_caller]
    pub fn docker_ok(&self, words: &[&str]) -> String {
        succeed(&mut self.docker_command(words), "engine")
    }

    /// A `docker` command that finds this engine and knows no configuration of the user's.
    pub fn docker_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(words).env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.dir.join("docker-config"));
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION");
        command
    }

    /// One request of the raw API: the status and the body. A body that is not empty is sent as JSON.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let answer = self.http_as(method, path, "application/json", body.as_bytes());
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// One request of the raw API with a body of another type.
    #[track_caller]
    pub fn http_as(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> http::Answer {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("Content-Type", content_type)] };
        http::request(&self.socket(), method, path, headers, body)
            .unwrap_or_else(|err| panic!("{method} {path}: {err}\n{}", self.log()))
    }

    /// A GET that must succeed, its body read as JSON.
    #[track_caller]
    pub fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.http("GET", path, "");
        assert!(status == 200, "GET {path}: {status} {body}");
        serde_json::from_str(&body).unwrap_or_else(|err| panic!("GET {path}: {err} in {body}"))
    }

    /// A connection to its socket, for requests that become streams.
    #[track_caller]
    pub fn dial(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap_or_else(|err| panic!("{}: {err}", self.host()))
    }

    /// Loads `busybox:latest`, see [`crate::busybox::archive`].
    #[track_caller]
    pub fn load_busybox(&self) {
        let archive =
            crate::busybox::archive(&target_dir()).unwrap_or_else(|err| panic!("an archive of busybox: {err}"));
        self.ok(&["load", "-i", &archive.display().to_string()]);
    }

    fn daemon(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        // A panic while starting has failed the test already; what follows must still be able to end the process.
        self.daemon.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the engine's log\n{}---", self.log());
        }
        self.kill9();
    }
}
