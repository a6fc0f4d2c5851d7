use rustix::event::{PollFd, PollFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags};
use rustix::thread::UnshareFlags;
use shim::{Config, LISTENER_FD, ROOTFS_FD};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// What the loop needs: the bundle, its configuration, and the descriptors that wake it.
pub struct House {
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// `shim.json`.
    pub config: Config,
    /// Where the engine connects.
    pub listener: UnixListener,
    /// Says when children ended or the shim is asked to end.
    pub signals: Signals,
}

/// Leaves the engine's session, becomes the reaper of orphaned descendants, takes over the inherited descriptors and attaches
/// the root file system.
pub fn prepare(bundle: PathBuf) -> io::Result<House> {
    let bundle = bundle.canonicalize().map_err(|error| told(error, format!("bundle {}", bundle.display())))?;
    let file = bundle.join("shim.json");
    let config: Config = serde_json::from_slice(&std::fs::read(&file).map_err(|error| told(error, file.display()))?)
        .map_err(|error| told(error.into(), file.display()))?;

    let (listener, rootfs) = inherited(config.rootfs_mount)?;
    // A session leader already (started by hand under `setsid`) is as good.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Console sockets are named relative to it: a bundle's path may be longer than a socket's may (108 bytes, unix(7)).
    std::env::set_current_dir(&bundle)?;

    let listener = UnixListener::from(listener);
    let heard = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
    heard.map_err(|error| told(error, format!("descriptor {LISTENER_FD} must be the listening socket")))?;
    if let Some(rootfs) = rootfs {
        let attached = attach(rootfs, &bundle).and_then(|()| keep_one_pin(config.netns.as_deref(), &bundle));
        attached.map_err(|error| told(error, format!("root file system, descriptor {ROOTFS_FD}")))?;
    }
    let signals = Signals::block()?;
    be_quiet()?;
    Ok(House { bundle, config, listener, signals })
}

/// Takes what the engine gives as standard input and output to numbers that programs started from here do not inherit,
/// leaves `/dev/null` there, and closes what leaked from the engine. Standard error stays until all is prepared.
fn inherited(rootfs: bool) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    // SAFETY: close_range takes three integers. Nothing in this process holds a descriptor of that range yet.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } != 0 {
        return Err(told(io::Error::last_os_error(), "close_range (Linux 5.9 or newer is needed)"));
    }
    let away = |number: i32| {
        // SAFETY: standard descriptors are open all the life of a Rust program; this one is only borrowed for one call.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|errno| told(errno.into(), format!("descriptor {number}")))
    };
    let listener = away(LISTENER_FD)?;
    let rootfs = rootfs.then(|| away(ROOTFS_FD)).transpose()?;
    let null = null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((listener, rootfs))
}

/// Lets go of the standard error that the engine gave, which may be a terminal or a log that has to be closed one day.
fn be_quiet() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(null()?)?)
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// Puts the mount at `BUNDLE/rootfs` where only this process and its children see it: it goes away with them, whatever
/// happens to the engine. Mounts of the host still come in (slave), ours never get out.
fn attach(rootfs: OwnedFd, bundle: &std::path::Path) -> io::Result<()> {
    // SAFETY: this process has one thread, and no file system attributes are shared with another.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let target = bundle.join("rootfs");
    match std::fs::create_dir(&target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    rustix::mount::move_mount(rootfs.as_fd(), "", rustix::fs::CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Leaves of all pinned network namespaces only the container's own, in the mount namespace that [`attach`] made.
fn keep_one_pin(pin: Option<&std::path::Path>, bundle: &std::path::Path) -> io::Result<()> {
    let Some(pin) = pin else { return Ok(()) };
    let target = bundle.join("netns");
    std::fs::File::create(&target)?;
    rustix::mount::mount_bind(pin, &target)?;
    match pin.parent() {
        Some(pins) => Ok(rustix::mount::unmount(pins, rustix::mount::UnmountFlags::DETACH)?),
        None => Ok(()),
    }
}

/// A signal descriptor. The signals are blocked, not ignored: programs started from here get them back from the standard
/// library, which clears the mask of what it spawns.
pub struct Signals(OwnedFd);

/// What came through it.
pub struct Called {
    /// Some child ended.
    pub child: bool,
    /// The shim is asked to end its container (SIGTERM or SIGINT).
    pub end: bool,
}

impl Signals {
    fn block() -> io::Result<Signals> {
        // SAFETY: an all-zero sigset_t is a valid object for sigemptyset to fill; the calls get live pointers only.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            // SIGHUP is caught so that it does nothing: a vanished terminal is no reason to end a container.
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just made it, so it is open and ours alone.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes everything that is pending.
    pub fn take(&self) -> Called {
        let mut called = Called { child: false, end: false };
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        while let Ok(length) = rustix::io::read(&self.0, &mut info) {
            if length < info.len() {
                break;
            }
            // `ssi_signo` is the first field, in the machine's byte order.
            match i32::from_ne_bytes([info[0], info[1], info[2], info[3]]) {
                libc::SIGCHLD => called.child = true,
                libc::SIGTERM | libc::SIGINT => called.end = true,
                _ => {}
            }
        }
        called
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Whether a descriptor can be read without waiting.
pub fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

fn told(error: io::Error, about: impl std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{about}: {error}"))
}
