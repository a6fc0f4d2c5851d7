//! Containers by the runtime's command line alone.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// One container: its bundle, and the runtime's root.
pub struct Rig {
    dir: tempfile::TempDir,
    pub id: String,
    pub spec: Value,
    pid: i32,
}

/// How a container ended, and what it printed (standard output and error together).
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    pub text: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Rig {
    /// A container that will run a shell script in a busybox root.
    pub fn new(script: &str) -> Rig {
        assert!(rustix::process::geteuid().is_root(), "these tests make containers: run them as root");
        // Containers are ours to reap when the runtime has left them.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("bundle/rootfs");
        for part in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(part)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("these tests need /bin/busybox (busybox-static)");
        let applets =
            "sh cat echo sleep grep ls mkdir id stty ip mknod unshare true pwd touch head rm hostname stat tail";
        for applet in applets.split(' ') {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
            .unwrap();
        let id = format!("r{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let spec = spec(&id, script);
        Rig { dir, id, spec, pid: 0 }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Rig {
        change(&mut self.spec);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path("bundle/rootfs")
    }

    /// The runtime, with its global flags.
    pub fn runtime(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-runtime"));
        command.arg("--root").arg(self.path("root")).arg("--log").arg(self.path("log")).args(["--log-format", "json"]);
        command
    }

    /// Runs a sub-command that is to succeed; its output.
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.runtime().args(args).arg(&self.id).output().unwrap();
        said(output).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// Runs a sub-command that is to fail; its one line, which is also the last of the log.
    pub fn refused(&self, args: &[&str]) -> String {
        self.told(self.runtime().args(args).arg(&self.id).output().unwrap())
    }

    /// The complaint in a failed run's output.
    pub fn told(&self, output: Output) -> String {
        let message = said(output).expect_err("it went well");
        let log = fs::read_to_string(self.path("log")).unwrap();
        let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!((last["level"].as_str(), last["msg"].as_str()), (Some("error"), Some(message.trim_end())));
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        assert!(last["time"].as_str().unwrap().ends_with('Z'));
        message.trim_end().to_owned()
    }

    /// `create`, with output to a file.
    pub fn create_command(&self) -> Command {
        fs::write(self.path("bundle/config.json"), self.spec.to_string()).unwrap();
        let out = fs::File::create(self.path("out")).unwrap();
        let mut command = self.runtime();
        command
            .arg("create")
            .arg("--bundle")
            .arg(self.path("bundle"))
            .arg("--pid-file")
            .arg(self.path("pid"))
            .arg(&self.id);
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        command
    }

    pub fn create(&mut self) -> i32 {
        let status = self.create_command().status().unwrap();
        assert!(status.success(), "create: {}", self.output());
        self.pid = fs::read_to_string(self.path("pid")).unwrap().parse().unwrap();
        self.pid
    }

    /// A `create` that is to fail; its complaint.
    pub fn not_created(&self) -> String {
        let message = self.told(self.create_command().stderr(Stdio::piped()).output().unwrap());
        let left: Vec<_> = ["bundles", "containers"]
            .iter()
            .flat_map(|part| fs::read_dir(self.path("root").join(part)))
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(self.cgroups().is_empty(), "{:?}", self.cgroups());
        message
    }

    pub fn up(mut self) -> Rig {
        self.create();
        self.ask(&["start"]);
        self
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap_or_default()
    }

    /// Waits for the first process.
    pub fn wait(&mut self) -> i32 {
        reaped(std::mem::take(&mut self.pid))
    }

    /// A whole life.
    pub fn run(mut self) -> Ended {
        self.create();
        self.ask(&["start"]);
        let code = self.wait();
        let text = self.output();
        self.ask(&["delete"]);
        assert!(self.cgroups().is_empty(), "{:?}", self.cgroups());
        Ended { code, text }
    }

    /// Runs a script by `exec` and waits for it. `change` sees its `process`.
    pub fn exec(&self, script: &str, change: impl FnOnce(&mut Value)) -> Output {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(["/bin/sh", "-c", script]);
        change(&mut process);
        fs::write(self.path("process.json"), process.to_string()).unwrap();
        let mut command = self.runtime();
        command.arg("exec").arg("--process").arg(self.path("process.json")).arg(&self.id).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The container's directories in the cgroup hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let below = format!("berth-test-{}/{}", std::process::id(), self.id);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        hierarchies
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|dir| dir.join(&below))
            .filter(|dir| dir.exists())
            .collect()
    }

    /// A file of the container's cgroup: by its name on v1 or on v2.
    pub fn limit(&self, v1: &str, v2: &str) -> String {
        let files = self.cgroups().into_iter().flat_map(|dir| [dir.join(v1), dir.join(v2)]);
        let file = files.into_iter().find(|file| file.exists()).expect("no such cgroup file");
        fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.runtime().args(["delete", "--force"]).arg(&self.id).output();
        if self.pid > 0 {
            reaped(self.pid);
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Fails while another test's container is in it; the last one removes it.
            let _ = fs::remove_dir(hierarchy.path().join(format!("berth-test-{}", std::process::id())));
        }
    }
}

/// The output of a successful run, or what a failed one said.
pub fn said(output: Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn reaped(pid: i32) -> i32 {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

/// A field of a `/proc/PID/status`, as printed by a container.
pub fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}

fn spec(id: &str, script: &str) -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "hostname": "rig",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": false
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }
        ],
        "linux": {
            "cgroupsPath": format!("/berth-test-{}/{id}", std::process::id()),
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" }, { "type": "network" }],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] }
        }
    })
}
