//! Talking to shims: one socket in each container's bundle, one request a connection (the `shim` crate's protocol).
//!
//! A shim outlives the engine. So nothing here is remembered: whoever knows the bundle's directory can speak to it.

use crate::error::{Doing, Error, Result};
use shim::{Config, Exit, Reply, Request};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

/// The file a shim writes when its container has ended.
pub const EXIT_FILE: &str = "exit.json";
const SOCKET: &str = "shim.sock";
const CONFIG: &str = "shim.json";
/// No answer of a shim is longer: a process's error is one line.
const ANSWER_MAX: usize = 64 * 1024;
/// How long a shim may take to end its container.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Starts a shim on a bundle whose `config.json` is written. `rootfs` is the detached mount of its root. The runtime of
/// tokio reaps the shim when it ends; what it has to say about the container comes over its socket.
///
/// # Errors
/// The bundle cannot be written, or the program cannot be run.
pub fn spawn(program: &Path, bundle: &Path, config: &Config, rootfs: Option<OwnedFd>) -> Result<()> {
    let file = bundle.join(CONFIG);
    let text = serde_json::to_vec(config).doing("encode the shim's configuration")?;
    std::fs::write(&file, text).doing(format_args!("write {}", file.display()))?;
    let socket = bundle.join(SOCKET);
    // A start that a crash cut short may have left one.
    let _ = std::fs::remove_file(&socket);
    let listener = bind(&socket)?;
    Command::new(program)
        .arg(bundle)
        .stdin(OwnedFd::from(listener))
        .stdout(rootfs.map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
        .doing(format_args!("run {}", program.display()))
}

/// Binds a unix socket whose path may be longer than `sun_path` (108 bytes, unix(7)): through the directory's descriptor.
fn bind(socket: &Path) -> Result<UnixListener> {
    let (_held, short) = short_path(socket)?;
    UnixListener::bind(short).doing(format_args!("listen on {}", socket.display()))
}

/// A path below 108 bytes for a socket, and what must be held while it is used.
fn short_path(socket: &Path) -> Result<(Option<OwnedFd>, PathBuf)> {
    use std::os::fd::AsRawFd;
    if socket.as_os_str().len() < 100 {
        return Ok((None, socket.to_path_buf()));
    }
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(Error::Fault(format!("{} is no path of a socket", socket.display())));
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty()).doing(format_args!("open {}", dir.display()))?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((Some(dir), short))
}

/// A shim, known by its bundle.
#[derive(Clone, Debug)]
pub struct Shim {
    bundle: PathBuf,
}

impl Shim {
    /// The shim of a bundle, whether or not it lives.
    pub fn of(bundle: &Path) -> Shim {
        Shim { bundle: bundle.to_path_buf() }
    }

    async fn ask(&self, request: &Request) -> std::io::Result<UnixStream> {
        let (_held, path) = short_path(&self.bundle.join(SOCKET)).map_err(std::io::Error::other)?;
        let mut stream = UnixStream::connect(path).await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        Ok(stream)
    }

    /// Asks and reads one line of answer; `None`: the shim is gone.
    async fn reply(&self, request: &Request) -> Option<Reply> {
        let mut stream = self.ask(request).await.ok()?;
        read_reply(&mut stream).await
    }

    async fn expect(&self, doing: &str, request: &Request) -> Result<Reply> {
        match self.reply(request).await {
            Some(Reply::Error { message }) => Err(Error::Fault(message)),
            Some(reply) => Ok(reply),
            None => Err(Error::Fault(format!("{doing}: the container's shim is gone"))),
        }
    }

    /// Waits until the container is created (or was before): its first process's pid.
    ///
    /// # Errors
    /// What the runtime said; the shim has cleaned up and ends.
    pub async fn created(&self) -> Result<i32> {
        match self.expect("create", &Request::Created).await? {
            Reply::Pid { pid } => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs the program.
    ///
    /// # Errors
    /// What the runtime said.
    pub async fn start(&self) -> Result<()> {
        self.expect("start", &Request::Start).await.map(drop)
    }

    /// How it ended, once it has; `None`: the shim died without saying so.
    pub async fn wait(&self) -> Option<Exit> {
        match self.reply(&Request::Wait).await {
            Some(Reply::Exit(exit)) => Some(exit),
            _ => self.exit_file(),
        }
    }

    /// What the shim wrote down when the container ended.
    pub fn exit_file(&self) -> Option<Exit> {
        serde_json::from_slice(&std::fs::read(self.bundle.join(EXIT_FILE)).ok()?).ok()
    }

    /// Somebody listens.
    pub async fn lives(&self) -> bool {
        let Ok((_held, path)) = short_path(&self.bundle.join(SOCKET)) else { return false };
        UnixStream::connect(path).await.is_ok()
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// The shim is gone, or the kernel refused.
    pub async fn kill(&self, signal: i32) -> Result<()> {
        self.expect("kill", &Request::Kill { signal }).await.map(drop)
    }

    /// Sends a signal to the process of an exec.
    ///
    /// # Errors
    /// No such exec runs, or the shim is gone.
    pub async fn kill_exec(&self, exec: &str, signal: i32) -> Result<()> {
        self.expect("kill", &Request::KillExec { exec: exec.to_owned(), signal }).await.map(drop)
    }

    /// Ends a container that is being created or parked, and waits for its shim to clear up, for a moment: a shim that does
    /// not answer is left to whoever clears what a crash left.
    pub async fn end(&self) {
        let ended = async {
            // A kill reaches nobody before there is a process.
            if self.created().await.is_ok() && self.kill(9).await.is_ok() {
                self.wait().await;
            }
        };
        if self.lives().await && tokio::time::timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!(bundle = %self.bundle.display(), "a shim does not answer");
        }
    }

    /// Opens the container's (or an exec's) streams.
    ///
    /// # Errors
    /// The shim is gone, or knows no such exec.
    pub async fn attach(&self, exec: Option<String>, stdin: bool, stdout: bool, stderr: bool) -> Result<UnixStream> {
        let request = Request::Attach { exec, stdin, stdout, stderr };
        let mut stream = self.ask(&request).await.doing("attach: the container's shim is gone")?;
        match read_reply(&mut stream).await {
            Some(Reply::Ok) => Ok(stream),
            Some(Reply::Error { message }) => Err(Error::Fault(message)),
            Some(other) => Err(unexpected(&other)),
            None => Err(Error::Fault("attach: the container's shim is gone".into())),
        }
    }

    /// Sets the size of a terminal.
    ///
    /// # Errors
    /// There is no terminal, or the shim is gone.
    pub async fn resize(&self, exec: Option<String>, rows: u16, cols: u16) -> Result<()> {
        self.expect("resize", &Request::Resize { exec, rows, cols }).await.map(drop)
    }

    /// Runs one more process; its pid, and the connection on which its end will be told.
    ///
    /// # Errors
    /// What the runtime said.
    pub async fn exec(
        &self,
        exec: String,
        process: serde_json::Value,
        tty: bool,
        stdin: bool,
    ) -> Result<(i32, ExecEnd)> {
        let request = Request::Exec { exec, process, tty, stdin };
        let mut stream = self.ask(&request).await.doing("exec: the container's shim is gone")?;
        match read_reply(&mut stream).await {
            Some(Reply::Pid { pid }) => Ok((pid, ExecEnd(stream))),
            Some(Reply::Error { message }) => Err(Error::Fault(message)),
            Some(other) => Err(unexpected(&other)),
            None => Err(Error::Fault("exec: the container's shim is gone".into())),
        }
    }
}

/// Where a shim will say that an exec has ended.
pub struct ExecEnd(UnixStream);

impl ExecEnd {
    /// The exit code; `None`: the shim died before.
    pub async fn wait(&mut self) -> Option<i32> {
        match read_reply(&mut self.0).await {
            Some(Reply::Exit(exit)) => Some(exit.code),
            _ => None,
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Fault(format!("a shim answered out of turn: {reply:?}"))
}

/// One line, byte by byte: what follows it on the connection belongs to somebody else.
async fn read_reply(stream: &mut UnixStream) -> Option<Reply> {
    let mut line = Vec::with_capacity(128);
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return serde_json::from_slice(&line).ok(),
            Ok(byte) if line.len() < ANSWER_MAX => line.push(byte),
            Ok(_) | Err(_) => return None,
        }
    }
}
