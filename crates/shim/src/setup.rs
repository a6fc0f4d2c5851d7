use rustix::event::{PollFd, PollFlags};
use rustix::io::FdFlags;
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

    keep_only_ours(config.rootfs_mount)?;
    // A session leader already (started by hand under `setsid`) is as good.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::env::set_current_dir("/")?;

    // SAFETY: the engine gives the listening socket as this descriptor, and nothing else here owns it.
    let listener = unsafe { UnixListener::from_raw_fd(LISTENER_FD) };
    listener
        .set_nonblocking(true)
        .map_err(|error| told(error, format!("listening socket, descriptor {LISTENER_FD}")))?;
    if config.rootfs_mount {
        // SAFETY: the engine gives the detached mount as this descriptor when the configuration says so; nothing else owns it.
        let rootfs = unsafe { OwnedFd::from_raw_fd(ROOTFS_FD) };
        attach(rootfs, &bundle).map_err(|error| told(error, format!("root file system, descriptor {ROOTFS_FD}")))?;
    }
    Ok(House { bundle, config, listener, signals: Signals::block()? })
}

/// Closes what leaked from the engine, and keeps the rest from leaking into the runtime.
fn keep_only_ours(rootfs: bool) -> io::Result<()> {
    let first_strange = if rootfs { ROOTFS_FD + 1 } else { LISTENER_FD + 1 };
    // SAFETY: close_range takes three integers. Nothing in this process has opened a descriptor of that range yet.
    if unsafe { libc::syscall(libc::SYS_close_range, first_strange, libc::c_uint::MAX, 0) } != 0 {
        return Err(told(io::Error::last_os_error(), "close_range (Linux 5.9 or newer is needed)"));
    }
    for number in LISTENER_FD..first_strange {
        // SAFETY: the descriptor is only borrowed for this one call, which fails with EBADF if it is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)
            .map_err(|errno| told(errno.into(), format!("descriptor {number}")))?;
    }
    Ok(())
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
