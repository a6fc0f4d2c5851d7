use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes `command` run as process 2 of fresh network, mount and pid namespaces, and a user namespace unless the caller is
/// root. Process 1 is a reaper that ends with it, so nothing that was started inside outlives the command; and all of it
/// dies with the caller's thread. Mounts made inside do not spread.
///
/// `Command::spawn` then fails with the kernel's errno where namespaces may not be made: see [`available`].
pub fn isolate(command: &mut Command) {
    let user = rustix::process::geteuid();
    let maps = (!user.is_root()).then(|| Maps {
        user: format!("0 {} 1", user.as_raw()).into_bytes(),
        group: format!("0 {} 1", rustix::process::getegid().as_raw()).into_bytes(),
    });
    // SAFETY: between fork and exec `enter` only makes system calls and touches memory that was allocated before.
    unsafe { command.pre_exec(move || enter(maps.as_ref())) };
}

/// Whether this process may make the namespaces of a lab. The error is one line: what is missing and how to get it.
pub fn available() -> Result<(), String> {
    let mut trial = Command::new("/bin/true");
    trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    isolate(&mut trial);
    match trial.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("a trial process in fresh namespaces ended with {status}")),
        Err(err) => Err(advice(&err)),
    }
}

fn advice(err: &io::Error) -> String {
    let root = rustix::process::geteuid().is_root();
    let way_out = match err.raw_os_error() {
        Some(libc::ENOSPC) => "a limit of namespaces is reached: raise sysctl user.max_net_namespaces and its sisters",
        Some(libc::EINVAL | libc::ENOSYS) => {
            "this kernel lacks a kind of namespace: it needs CONFIG_NET_NS, CONFIG_PID_NS, CONFIG_USER_NS"
        }
        _ if root => {
            "root here lacks CAP_SYS_ADMIN or a filter forbids unshare: inside a container, start it with --privileged"
        }
        _ => {
            "run as root, or let ordinary users make namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
        }
    };
    format!("no namespaces can be made here ({err}); {way_out}")
}

struct Maps {
    user: Vec<u8>,
    group: Vec<u8>,
}

/// The child's side of [`isolate`]. Three processes come of it: this one stays in the outer pid namespace and passes the
/// status on, its child is process 1 and reaps, and its grandchild returns from here to be the command.
fn enter(maps: Option<&Maps>) -> io::Result<()> {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID;
    if maps.is_some() {
        flags |= libc::CLONE_NEWUSER;
    }
    // SAFETY: a plain system call without pointers; this process has one thread, being fresh from fork.
    check(unsafe { libc::unshare(flags) })?;
    if let Some(maps) = maps {
        write_once(c"/proc/self/setgroups", b"deny")?;
        write_once(c"/proc/self/uid_map", &maps.user)?;
        write_once(c"/proc/self/gid_map", &maps.group)?;
    }
    // After the change of credentials, which clears it.
    die_with_parent()?;
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the strings are constants that end in NUL; the kernel takes no data for a change of propagation.
    check(unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) })?;
    if let Some(init) = fork()? {
        pass_on(init);
    }
    die_with_parent()?;
    if let Some(command) = fork()? {
        pass_on(command);
    }
    Ok(())
}

/// Reaps until `child` ends, then ends with its status (128 + N after signal N) and never returns. In process 1 this also
/// reaps orphans, which would otherwise stay as zombies; its end kills what is left in the pid namespace.
fn pass_on(child: libc::pid_t) -> ! {
    // SAFETY: closes descriptors of this process only, of which nothing below makes use. One of them is the pipe on which
    // the parent waits for the exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live int.
        let ended = unsafe { libc::waitpid(-1, &mut status, 0) };
        if ended == child {
            let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            // SAFETY: ends this process, which is a fork and must not run the destructors of its parent.
            unsafe { libc::_exit(code) };
        }
        if ended < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            // SAFETY: as above. Cannot happen while `child` is unreaped; better an end than a loop.
            unsafe { libc::_exit(255) };
        }
    }
}

fn fork() -> io::Result<Option<libc::pid_t>> {
    // SAFETY: the callers run in a process of one thread and go on with system calls only.
    match check(unsafe { libc::fork() })? {
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

fn write_once(path: &CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends in NUL, the buffer's true length goes with it, and the descriptor is closed at the next exec.
    unsafe {
        let file = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
        let written = libc::write(file, text.as_ptr().cast(), text.len());
        if written == text.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A network namespace held by a descriptor.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

impl NetNs {
    /// A new one, pinned at `pin`, so that a person in a kept lab can enter it by `ip netns exec`.
    pub fn create(pin: &Path) -> io::Result<NetNs> {
        File::create(pin)?;
        in_thread(|| {
            // SAFETY: only this thread changes its namespace; it makes no assumption about its network before and ends after.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", pin)?;
            Ok(NetNs(File::open("/proc/thread-self/ns/net")?.into()))
        })
    }

    /// The one at a path: a pinned namespace or `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> io::Result<NetNs> {
        Ok(NetNs(File::open(path)?.into()))
    }

    /// Another handle of the same namespace.
    pub fn try_clone(&self) -> io::Result<NetNs> {
        Ok(NetNs(self.0.try_clone()?))
    }

    /// Moves the calling thread into this namespace.
    pub fn enter_thread(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// What `work` answers on a thread of its own inside this namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_thread(|| {
            self.enter_thread()?;
            Ok(work())
        })
    }

    /// Makes `command` run inside this namespace.
    pub fn isolate(&self, command: &mut Command) -> io::Result<()> {
        let own = self.try_clone()?;
        // SAFETY: between fork and exec the closure makes one system call on a descriptor that it owns.
        unsafe { command.pre_exec(move || own.enter_thread()) };
        Ok(())
    }
}

/// On a fresh thread, because a thread that has changed its namespace must not go back to other work.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Gives the namespaces that [`isolate`] made their own face: `/proc` and `/sys` of their own processes and links (the
/// host's cgroups stay where they are), an empty `/run`, and an empty file system at `dir`.
///
/// # Errors
/// What the kernel says, with the mount that it refused.
pub fn furnish(dir: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount, move_mount, open_tree};
    let none = MountFlags::empty();
    let told = |what: &'static str| {
        move |err: rustix::io::Errno| io::Error::new(io::Error::from(err).kind(), format!("mount {what}: {err}"))
    };
    mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .map_err(told("proc"))?;
    let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cgroups = open_tree(rustix::fs::CWD, "/sys/fs/cgroup", tree).map_err(told("of the cgroups' copy"))?;
    mount("sysfs", "/sys", "sysfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .map_err(told("sysfs"))?;
    move_mount(cgroups, "", rustix::fs::CWD, "/sys/fs/cgroup", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(told("cgroups"))?;
    mount("run", "/run", "tmpfs", none, Some(c"mode=755")).map_err(told("/run"))?;
    mount("lab", dir, "tmpfs", none, Some(c"mode=755")).map_err(told("the lab's directory"))?;
    std::fs::create_dir("/run/netns")?;
    std::fs::create_dir("/run/lock")
}
