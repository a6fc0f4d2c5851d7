//! A container under a shim, without an engine: the bundle, the socket, and the few things a test asks for.

use serde_json::{Value, json};
use shim::{Config, Exit, LogConfig, Reply, Request};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One container.
pub struct Rig {
    dir: tempfile::TempDir,
    pub config: Config,
    spec: Value,
    pub shim: Option<Child>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Rig {
    /// A container that will run a shell script in a busybox root.
    pub fn new(script: &str) -> Rig {
        assert!(rustix::process::geteuid().is_root(), "these tests make containers: run them as root");
        let runtime = std::env::var_os("BERTH_TEST_RUNTIME").map(PathBuf::from).unwrap_or_else(|| {
            let places = ["/usr/bin/runc", "/usr/sbin/runc"].map(PathBuf::from);
            let found = places.into_iter().find(|path| path.exists());
            found.expect("these tests drive runc (apt-get install runc) or the runtime that BERTH_TEST_RUNTIME names")
        });
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("b");
        let id = format!("c{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        root(&bundle.join("rootfs"));
        let spec = spec(&id, script);
        let log = LogConfig {
            path: dir.path().join("c.log"),
            max_size: None,
            max_files: 1,
            compress: false,
            attrs: Default::default(),
        };
        let config = Config {
            id,
            runtime,
            runtime_args: vec!["--root".into(), dir.path().join("runc").display().to_string()],
            rootfs_mount: false,
            netns: None,
            tty: false,
            stdin: false,
            stdin_once: false,
            log: Some(log),
        };
        Rig { dir, config, spec, shim: None }
    }

    pub fn spec(mut self, change: impl FnOnce(&mut Value)) -> Rig {
        change(&mut self.spec);
        self
    }

    pub fn tty(mut self) -> Rig {
        self.config.tty = true;
        self.spec["process"]["terminal"] = true.into();
        self
    }

    pub fn stdin(mut self, once: bool) -> Rig {
        self.config.stdin = true;
        self.config.stdin_once = once;
        self
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.path().join("b")
    }

    /// The listening socket and the command that starts the shim on it.
    pub fn ready(&self) -> (UnixListener, Command) {
        let bundle = self.bundle();
        fs::write(bundle.join("config.json"), self.spec.to_string()).unwrap();
        fs::write(bundle.join("shim.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
        let listener = UnixListener::bind(bundle.join("shim.sock")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-shim"));
        command.arg(&bundle);
        (listener, command)
    }

    /// Starts the shim.
    pub fn up(mut self) -> Rig {
        let (listener, mut command) = self.ready();
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null());
        self.shim = Some(command.spawn().unwrap());
        self
    }

    /// Starts the shim with the root file system as a detached mount; `BUNDLE/rootfs` is empty.
    pub fn up_with_mount(mut self) -> Rig {
        self.config.rootfs_mount = true;
        let image = self.dir.path().join("image");
        fs::rename(self.bundle().join("rootfs"), &image).unwrap();
        let (listener, mut command) = self.ready();
        let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(rustix::fs::CWD, &image, flags).unwrap();
        command.stdin(OwnedFd::from(listener)).stdout(mount);
        self.shim = Some(command.spawn().unwrap());
        self
    }

    pub fn connect(&self) -> Connection {
        let stream = UnixStream::connect(self.bundle().join("shim.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Connection(BufReader::new(stream))
    }

    pub fn ask(&self, request: &Request) -> Connection {
        let mut connection = self.connect();
        connection.say(request);
        connection
    }

    pub fn created(&self) -> i32 {
        pid(self.ask(&Request::Created).reply())
    }

    pub fn start(&self) {
        assert_eq!(self.ask(&Request::Start).reply(), Reply::Ok);
    }

    pub fn attach(&self, exec: Option<&str>, stdin: bool) -> Connection {
        let mut connection =
            self.ask(&Request::Attach { exec: exec.map(str::to_owned), stdin, stdout: true, stderr: true });
        assert_eq!(connection.reply(), Reply::Ok);
        connection
    }

    pub fn exec(&self, name: &str, script: &str, tty: bool, stdin: bool) -> Connection {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(["/bin/sh", "-c", script]);
        self.ask(&Request::Exec { exec: name.into(), process, tty, stdin })
    }

    /// Waits for the end. A shim that is over has left what it knew in a file.
    pub fn exit(&self) -> Exit {
        match UnixStream::connect(self.bundle().join("shim.sock")) {
            Ok(_) => exit(self.ask(&Request::Wait).reply()),
            Err(_) => self.kept(),
        }
    }

    pub fn kept(&self) -> Exit {
        serde_json::from_slice(&fs::read(self.bundle().join("exit.json")).unwrap()).unwrap()
    }

    /// The log as (stream, text), entries in order.
    pub fn log(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.dir.path().join("c.log")).unwrap();
        text.lines()
            .map(|line| {
                let entry: Value = serde_json::from_str(line).unwrap();
                (entry["stream"].as_str().unwrap().into(), entry["log"].as_str().unwrap().into())
            })
            .collect()
    }

    pub fn logged(&self, stream: &str) -> String {
        self.log().into_iter().filter(|(of, _)| of == stream).map(|(_, text)| text).collect()
    }

    /// Waits for the shim to be over.
    pub fn over(&mut self) {
        let mut shim = self.shim.take().unwrap();
        until("the shim to exit", || shim.try_wait().unwrap().is_some());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut shim) = self.shim.take() {
            // SIGTERM: it ends its container and cleans up.
            // SAFETY: kill takes two integers, and the child is not reaped yet.
            unsafe { libc::kill(shim.id() as i32, libc::SIGTERM) };
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(10) && matches!(shim.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = shim.kill();
            let _ = shim.wait();
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let parent = hierarchy.path().join(format!("berth-test-{}", std::process::id()));
            let _ = fs::remove_dir(parent.join(&self.config.id));
            // Fails while another test's container is in it; the last one removes it.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// One connection to the shim.
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    pub fn say(&mut self, request: &Request) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.write(&line);
    }

    pub fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the shim closed the connection without an answer");
        serde_json::from_str(&line).unwrap()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub fn half_close(&mut self) {
        self.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Everything until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Frames until the end: standard output and standard error.
    pub fn frames(&mut self) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((stream, bytes)) = self.frame() {
            if stream == 2 { &mut err } else { &mut out }.extend(bytes);
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 8];
        if self.0.fill_buf().unwrap().is_empty() {
            return None;
        }
        self.0.read_exact(&mut header).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize];
        self.0.read_exact(&mut bytes).unwrap();
        assert!(matches!(header[0], 1 | 2) && header[1..4] == [0, 0, 0], "{header:?}");
        Some((header[0], bytes))
    }

    /// Reads until the text has come.
    pub fn read_until(&mut self, text: &str) -> String {
        let mut have = String::new();
        while !have.contains(text) {
            let chunk = self.0.fill_buf().unwrap();
            assert!(!chunk.is_empty(), "the stream ended before {text:?}; had {have:?}");
            have.push_str(&String::from_utf8_lossy(chunk));
            let length = chunk.len();
            self.0.consume(length);
        }
        have
    }
}

pub fn pid(reply: Reply) -> i32 {
    match reply {
        Reply::Pid { pid } => pid,
        other => panic!("no pid but {other:?}"),
    }
}

pub fn exit(reply: Reply) -> Exit {
    match reply {
        Reply::Exit(exit) => exit,
        other => panic!("no exit but {other:?}"),
    }
}

pub fn error(reply: Reply) -> String {
    match reply {
        Reply::Error { message } => message,
        other => panic!("no error but {other:?}"),
    }
}

pub fn until(what: &str, mut come: impl FnMut() -> bool) {
    let since = Instant::now();
    while !come() {
        assert!(since.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn root(rootfs: &Path) {
    for dir in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir(rootfs.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("these tests need /bin/busybox (busybox-static)");
    for applet in
        ["sh", "cat", "echo", "sleep", "stty", "dd", "tr", "head", "yes", "kill", "seq", "mount", "id", "true"]
    {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
}

fn spec(id: &str, script: &str) -> Value {
    let caps = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "hostname": "rig",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }
        ],
        "linux": {
            "cgroupsPath": format!("/berth-test-{}/{id}", std::process::id()),
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" }],
            "resources": { "devices": [{ "allow": true, "access": "rwm" }] }
        }
    })
}
