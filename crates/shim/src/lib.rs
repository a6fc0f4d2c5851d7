//! What the engine and a shim say to each other.
//!
//! The engine prepares a *bundle* directory (`config.json` of the OCI runtime specification and `shim.json`, a [`Config`]),
//! binds `shim.sock` in it, and starts `berth-shim BUNDLE` with the listening socket as standard input ([`LISTENER_FD`]) and,
//! if the root file system is an overlay, a detached mount (`fsmount(2)`) of it as standard output ([`ROOTFS_FD`]): so the
//! engine needs no code between fork and exec. The shim moves both away and puts `/dev/null` in their places, and attaches
//! the mount in a mount namespace of its own, so that the mount lives exactly as long as the shim and the container.
//!
//! Each connection carries one [`Request`] as a line of JSON; the shim answers with lines of [`Reply`]. After the
//! [`Reply::Ok`] to an [`Request::Attach`] the connection is a byte stream, see there.
//! Nothing here is Docker's but the frame header of [`frame_header`] (Engine API, "Attach to a container", stream format).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The descriptor on which a shim finds its listening unix socket.
pub const LISTENER_FD: i32 = 0;
/// The descriptor on which a shim finds the detached mount of the root file system, when [`Config::rootfs_mount`] is set.
pub const ROOTFS_FD: i32 = 1;

/// `shim.json`: all that a shim must know besides the OCI bundle itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The container's id: the name under which the runtime knows it.
    pub id: String,
    /// The OCI runtime to drive by its standard command line.
    pub runtime: PathBuf,
    /// Arguments before the sub-command, for instance `--root DIR`.
    pub runtime_args: Vec<String>,
    /// Attach [`ROOTFS_FD`] at `BUNDLE/rootfs` in a mount namespace of the shim's own.
    pub rootfs_mount: bool,
    /// A pinned network namespace to be found at `BUNDLE/netns`. The mount with all the pins, which the shim's mount namespace
    /// copies, is then let go there: a thousand containers must not hold a thousand copies of a thousand pins.
    /// Only together with [`Config::rootfs_mount`].
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The container's standard streams are one pseudo terminal.
    pub tty: bool,
    /// The container's standard input stays open for attached clients; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Standard input is closed for good when the first client that attached it goes away.
    pub stdin_once: bool,
    /// Where output is logged; `None` logs nothing.
    pub log: Option<LogConfig>,
}

/// A log in Docker's `json-file` form: a line a write, `{"log":…,"stream":…,"time":…}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The file; older ones are `PATH.1`, `PATH.2` ….
    pub path: PathBuf,
    /// Rotate when the file would grow over this many bytes.
    pub max_size: Option<u64>,
    /// How many files to keep in all; 1 truncates.
    pub max_files: u32,
    /// Compress files that were rotated away, to `PATH.1.gz` and so on.
    #[serde(default)]
    pub compress: bool,
    /// What each entry says besides (`attrs`); left out when there is nothing.
    #[serde(default)]
    pub attrs: std::collections::BTreeMap<String, String>,
}

/// One request a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Request {
    /// Answered with [`Reply::Pid`] once `runtime create` has succeeded (namespaces and mounts are made, the program has
    /// not run), or with [`Reply::Error`]; after an error the shim has cleaned up and exits.
    Created,
    /// `runtime start`. Answered with [`Reply::Ok`] or [`Reply::Error`].
    Start,
    /// Answered with [`Reply::Exit`] when the container's first process has ended, its output is logged and
    /// `runtime delete` is done; any number of clients may wait. The shim exits soon after, so a refused or closed
    /// connection means: look for `exit.json`; without it the shim died.
    Wait,
    /// Send a signal to the container's first process. Answered with [`Reply::Ok`], also when it has just ended.
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// Send a signal to the process of an exec. Answered with [`Reply::Ok`], also when it has just ended, or with
    /// [`Reply::Error`] when no such exec runs.
    KillExec {
        /// The exec's name.
        exec: String,
        /// The signal's number.
        signal: i32,
    },
    /// Become a stream. After [`Reply::Ok`] the shim sends the output from now on (frames, see [`frame_header`]; raw bytes
    /// with a terminal) and closes when there will be no more. What the client sends is standard input, when asked for.
    /// Its half-close (`shutdown(SHUT_WR)`) or going away is the end of its input: an exec's standard input is closed then,
    /// the container's if it is [`Config::stdin_once`], a terminal never (as Docker has it). An attach may come before the exec it names is started:
    /// nothing of its output is lost then.
    Attach {
        /// The exec's id; `None` is the container itself.
        exec: Option<String>,
        /// Forward what the client sends.
        stdin: bool,
        /// Send standard output.
        stdout: bool,
        /// Send standard error.
        stderr: bool,
    },
    /// Set the size of the terminal. Answered with [`Reply::Ok`] or [`Reply::Error`].
    Resize {
        /// The exec's id; `None` is the container itself.
        exec: Option<String>,
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Run one more process in the container. Answered with [`Reply::Pid`] or [`Reply::Error`] once it runs, and on the
    /// same connection with [`Reply::Exit`] when it has ended and its output is sent.
    Exec {
        /// The engine's name for it.
        exec: String,
        /// `process` of the OCI runtime specification.
        process: serde_json::Value,
        /// Its standard streams are one pseudo terminal.
        tty: bool,
        /// Its standard input is fed by attached clients; otherwise it is `/dev/null`.
        stdin: bool,
    },
}

/// A line of the shim's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// Done.
    Ok,
    /// A process exists.
    Pid {
        /// As seen from the shim's (and engine's) pid namespace.
        pid: i32,
    },
    /// A process has ended.
    Exit(Exit),
    /// It did not work.
    Error {
        /// What the runtime or the shim said, one line, without the runtime's log prefix.
        message: String,
    },
}

/// How a process ended. Also the content of `BUNDLE/exit.json`, written (by rename) before any [`Request::Wait`] is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, or 128 + the signal's number.
    pub code: i32,
    /// When, in nanoseconds since the Unix epoch.
    pub at: u64,
    /// The kernel's out-of-memory killer ended a process of the container.
    pub oom_killed: bool,
}

/// The header of one frame of multiplexed output: stream (1 stdout, 2 stderr), three zero bytes, length in big endian.
pub fn frame_header(stream: u8, length: u32) -> [u8; 8] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}
