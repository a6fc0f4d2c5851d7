//! The last steps of a process before it becomes its program, in the container and in its final user.
//!
//! libcontainer drops privileges before an [`Executor`] is asked, which is too late for a seccomp filter without
//! no_new_privs, and it loads no filter at all for an exec. So it is told of neither capabilities nor seccomp (see
//! [`crate::spec`]), and both are done here, in runc's order: without no_new_privs the filter first (that takes
//! CAP_SYS_ADMIN), then the privileges; with it the privileges first and the filter as the last thing before exec(2).
//! Whatever fails here ends the process: it never runs with more than it should have.

use crate::limits::Privileges;
use crate::lookup;
use crate::seccomp::Filter;
use anyhow::{Context, bail};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::termios::Winsize;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// What a process is to have.
#[derive(Clone)]
pub struct Launch {
    privileges: Privileges,
    filter: Option<Filter>,
    no_new_privs: bool,
    cwd: PathBuf,
    size: Option<Winsize>,
    /// For a container's first process.
    first: Option<First>,
    /// Found out on the way.
    program: RefCell<String>,
    home: RefCell<Option<String>>,
}

/// What only the first process does.
#[derive(Clone)]
pub struct First {
    /// Its network namespace is new: bring the loopback up.
    pub loopback: bool,
    /// Where it says why it could not run its program. Closed by exec(2), which is the good news.
    pub fifo: Rc<OwnedFd>,
}

impl Launch {
    /// Reads the OCI `process`, refusing what could not be given.
    pub fn of(process: &Value, filter: Option<Filter>, first: Option<First>) -> anyhow::Result<Launch> {
        let privileges = Privileges::of(process)?;
        privileges.check()?;
        crate::limits::check_rlimits(process)?;
        let side = |name: &str| {
            process["consoleSize"][name].as_u64().and_then(|size| u16::try_from(size).ok()).filter(|size| *size > 0)
        };
        let size = match (side("height"), side("width")) {
            (Some(ws_row), Some(ws_col)) if process["terminal"] == true => {
                Some(Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })
            }
            _ => None,
        };
        let cwd = process["cwd"].as_str().filter(|cwd| !cwd.is_empty()).unwrap_or("/");
        if !cwd.starts_with('/') {
            bail!("process.cwd {cwd:?} is not an absolute path");
        }
        Ok(Launch {
            privileges,
            filter,
            no_new_privs: process["noNewPrivileges"] == true,
            cwd: cwd.into(),
            size,
            first,
            program: RefCell::default(),
            home: RefCell::default(),
        })
    }

    fn prepare(&self, spec: &Spec) -> anyhow::Result<()> {
        if let Some(first) = &self.first {
            if first.loopback {
                raise_loopback().context("bringing the loopback interface up")?;
            }
            make_dirs(&self.cwd).with_context(|| format!("making the working directory {}", self.cwd.display()))?;
        }
        if let Some(size) = self.size {
            rustix::termios::tcsetwinsize(rustix::stdio::stdin(), size).context("setting the size of the terminal")?;
        }
        self.enter_cwd()?;
        if !self.no_new_privs {
            self.load_filter()?;
        }
        drop_privileges(&self.privileges).context("dropping privileges")?;
        let process = spec.process().as_ref().context("process is missing")?;
        let name = process.args().as_ref().and_then(|args| args.first()).context("process.args is empty")?;
        self.program.replace(lookup::program(name, process.env().as_deref().unwrap_or(&[]))?);
        Ok(())
    }

    fn enter_cwd(&self) -> anyhow::Result<()> {
        let failed = |errno: Errno| {
            anyhow::anyhow!("chdir to cwd ({:?}) set in config.json failed: {}", self.cwd, lookup::words(errno))
        };
        rustix::process::chdir(&self.cwd).map_err(failed)?;
        // A descriptor of the host left open could lead out through /proc/self/fd; the kernel then has no path from our root.
        let here = rustix::process::getcwd(Vec::new()).map_err(failed)?;
        if !here.as_bytes().starts_with(b"/") {
            bail!("the working directory {:?} lies outside of the container", self.cwd);
        }
        Ok(())
    }

    fn load_filter(&self) -> anyhow::Result<()> {
        self.filter.as_ref().map_or(Ok(()), |filter| filter.load().context("loading the seccomp filter"))
    }

    /// Becomes the program; returns only why not.
    fn become_program(&self, spec: &Spec) -> anyhow::Error {
        let run = || -> anyhow::Result<()> {
            let process = spec.process().as_ref().context("process is missing")?;
            let strings = |list: &Option<Vec<String>>| {
                let strings = list.iter().flatten().map(|text| CString::new(text.as_str()));
                strings.collect::<Result<Vec<_>, _>>().context("a NUL byte in an argument or in the environment")
            };
            let (args, mut env) = (strings(process.args())?, strings(process.env())?);
            let named = |entry: &CString| entry.to_bytes().starts_with(b"HOME=") && entry.to_bytes().len() > 5;
            if let Some(home) = self.home.borrow().as_deref().filter(|_| !env.iter().any(named)) {
                env.push(CString::new(format!("HOME={home}"))?);
            }
            let program = CString::new(self.program.borrow().as_str())?;
            let pointers =
                |list: &[CString]| list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
            let (args, env) = (pointers(&args), pointers(&env));
            default_signals();
            if self.no_new_privs {
                self.load_filter()?;
            }
            // SAFETY: all strings and both arrays live until the call returns, and the arrays end with a null pointer.
            unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
            bail!("exec {}: {}", self.program.borrow(), lookup::words(errno))
        };
        match run() {
            Err(error) => error,
            Ok(()) => anyhow::anyhow!("exec returned"),
        }
    }
}

impl Executor for Launch {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.prepare(spec).map_err(|error| ExecutorValidationError::ArgValidationError(format!("{error:#}")))
    }

    /// The environment is given to exec(2) as it stands in the configuration; here only the home directory is learnt.
    fn setup_envs(&self, env: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        self.home.replace(env.get("HOME").cloned());
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let message = format!("{:#}", self.become_program(spec));
        if let Some(first) = &self.first {
            // If `start` is not listening any more, nobody is.
            let _ = rustix::io::write(&*first.fifo, message.as_bytes());
        }
        Err(ExecutorError::Other(message))
    }
}

/// Gives every signal its default action and unblocks all: exec(2) passes on what is ignored or blocked, and Rust programs
/// ignore SIGPIPE, by which `yes | head` would never end.
fn default_signals() {
    // The kernel's struct sigaction: zero is SIG_DFL without flags. Its own call, for the C library keeps two signals to itself.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads the live array; no handler is installed. KILL and STOP are refused, which is no loss.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &default, std::ptr::null_mut::<u64>(), size_of::<u64>())
        };
    }
    // SAFETY: an all-zero sigset_t is a valid object for sigemptyset to fill; the pointers are to that live object.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Sets all five sets, and checks that they are what they should be.
fn drop_privileges(wanted: &Privileges) -> anyhow::Result<()> {
    let bits = |set: &BTreeSet<u8>| set.iter().fold(0u64, |bits, cap| bits | 1 << cap);
    let prctl = |operation: i32, second: u64, third: u64| {
        // SAFETY: the operations used below take integers only.
        unsafe { libc::prctl(operation, second, third, 0, 0) }
    };
    let failed = |what: &str, cap: u8| {
        let error = std::io::Error::last_os_error();
        anyhow::anyhow!("{what} capability {cap}: {error}")
    };
    for cap in 0..64u8 {
        match prctl(libc::PR_CAPBSET_READ, cap.into(), 0) {
            1 if !wanted.bounding.contains(&cap) && prctl(libc::PR_CAPBSET_DROP, cap.into(), 0) != 0 => {
                return Err(failed("dropping from the bounding set", cap));
            }
            0 if wanted.bounding.contains(&cap) => bail!("capability {cap} is not in the bounding set"),
            // Beyond the kernel's last one.
            -1 => break,
            _ => {}
        }
    }
    let set = |set: &BTreeSet<u8>| CapabilitySet::from_bits_retain(bits(set));
    let sets = CapabilitySets {
        effective: set(&wanted.effective),
        permitted: set(&wanted.permitted),
        inheritable: set(&wanted.inheritable),
    };
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0);
    rustix::thread::set_capabilities(None, sets).context("capset")?;
    for cap in &wanted.ambient {
        if prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, (*cap).into()) != 0 {
            return Err(failed("raising ambient", *cap));
        }
    }
    let now = rustix::thread::capabilities(None)?;
    if (now.effective, now.permitted, now.inheritable) != (sets.effective, sets.permitted, sets.inheritable) {
        bail!("the kernel left {now:?} where {sets:?} was asked for");
    }
    Ok(())
}

/// Sets IFF_UP on `lo` of this network namespace (netdevice(7)).
fn raise_loopback() -> std::io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is valid; the ioctls read and write that live object only.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16;
        match libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// Makes the missing directories of a path, as root's.
fn make_dirs(path: &Path) -> std::io::Result<()> {
    let mut here = PathBuf::new();
    for part in path.components() {
        here.push(part);
        match rustix::fs::mkdirat(CWD, &here, Mode::from_raw_mode(0o755)) {
            Ok(()) => rustix::fs::chownat(CWD, &here, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)?,
            // Where one of a path's directories exists already, the file system may be read-only.
            Err(_) if here.is_dir() => {}
            Err(_) if part == Component::RootDir => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
