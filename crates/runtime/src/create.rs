use crate::cli::CreateArgs;
use crate::house::House;
use crate::launch::{First, Launch};
use crate::spec::Config;
use crate::{cgroup, complaint, devices, limits, seccomp, spec};
use anyhow::{Context, bail};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

/// Makes the container; its first process waits for [`start`].
pub fn create(house: &House, args: &CreateArgs, cache: &Path) -> anyhow::Result<()> {
    if house.exists() {
        bail!("container with id {} exists already: delete it first", house.id);
    }
    let config = spec::load(&args.bundle, &house.id, complaint::now())?;
    house.make()?;
    build(house, args, cache, &config).inspect_err(|_| {
        // libcontainer has cleared up what it made; the rest is ours. The first error is the one to tell.
        let _ = cgroup::dirs(&config.kept.cgroup).and_then(|dirs| cgroup::remove(&dirs));
        let _ = house.clear();
    })
}

fn build(house: &House, args: &CreateArgs, cache: &Path, config: &Config) -> anyhow::Result<()> {
    // A profile left in the configuration is libcontainer's: it has a listener.
    let ours = config.kept.seccomp.as_ref().filter(|profile| !seccomp::notifies(profile));
    let filter = ours.map(|profile| seccomp::filter(profile, cache)).transpose()?;
    let fifo = fifo(house).context("exec.fifo")?;
    let first = First { loopback: config.new_network, fifo };
    let launch = Launch::of(&config.process, filter, Some(first))?;
    let file = house.ours().join("config.json");
    std::fs::write(&file, config.adapted.to_string()).with_context(|| format!("{}", file.display()))?;
    house.keep(&config.kept)?;
    let cwd = config.process["cwd"].as_str().unwrap_or("/");
    make_cwd(&config.kept.rootfs, cwd, config.root_ids)
        .with_context(|| format!("making the working directory {cwd}"))?;
    limits::set_oom_score(&config.process)?;
    let console = args.console_socket.as_ref().map(std::path::absolute).transpose()?;
    ContainerBuilder::new(house.id.clone(), SyscallType::default())
        .with_root_path(house.theirs())?
        .with_pid_file(args.pid_file.as_ref())?
        .with_console_socket(console)
        .with_preserved_fds(args.preserve_fds)
        .with_executor(launch)
        .validate_id()?
        .as_init(house.ours())
        .with_systemd(false)
        .build()
        .map_err(|error| told(&error.into()))?;
    // There is no `devices` controller on v2. The program has not run yet, and its devices are made.
    if let Some(dir) = cgroup::unified(&config.kept.cgroup)
        && let Err(error) = devices::restrict(&dir, &config.devices)
    {
        let _ = crate::manage::delete(house, true);
        return Err(error);
    }
    Ok(())
}

/// An error of libcontainer in runc's words: what went wrong in the container's process without the way it came here.
/// What is left of the processes that did not make it is reaped, for the caller may not do that.
pub fn told(error: &anyhow::Error) -> anyhow::Error {
    reap();
    let text = format!("{error:#}");
    let marks = ["exec process failed with error error in executing process : ", "exec process failed with error "];
    for mark in marks {
        // The chain repeats the innermost message, once for each link.
        if let Some((_, cause)) = text.rsplit_once(mark) {
            return anyhow::anyhow!("{}", cause.trim_end_matches('\0')).context("unable to start container process");
        }
    }
    anyhow::anyhow!("{text}")
}

/// Waits for children that are ending, for a moment.
fn reap() {
    let since = std::time::Instant::now();
    while since.elapsed() < std::time::Duration::from_secs(1) {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(std::time::Duration::from_micros(200)),
            Err(_) => return,
        }
    }
}

/// Opened for both directions, so that opening does not wait; only the first process keeps it when this one is gone.
fn fifo(house: &House) -> anyhow::Result<Rc<std::os::fd::OwnedFd>> {
    let path = house.fifo();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    Ok(Rc::new(rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))
}

/// Makes the working directory in the root file system while that can still be written, without ever leaving it: links in it
/// are the image's, and may lead anywhere. What lies in a volume is made later, in the container.
fn make_cwd(rootfs: &Path, cwd: &str, (uid, gid): (u32, u32)) -> anyhow::Result<()> {
    let root = rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &str| {
        rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), inside)
    };
    let mut path = String::from("/");
    let mut parent = open("/")?;
    for part in cwd.split('/').filter(|part| !part.is_empty() && *part != ".") {
        path.push_str(part);
        parent = match open(&path) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) => rustix::fs::chownat(
                        &parent,
                        part,
                        Some(Uid::from_raw(uid)),
                        Some(Gid::from_raw(gid)),
                        AtFlags::SYMLINK_NOFOLLOW,
                    )?,
                    // A dangling link, or a read-only file system: the container's own attempt will tell.
                    Err(_) => return Ok(()),
                }
                open(&path)?
            }
            Err(_) => return Ok(()),
            Ok(dir) => dir,
        };
        path.push('/');
    }
    Ok(())
}

/// Lets the first process run its program, and reports when it cannot.
pub fn start(house: &House) -> anyhow::Result<()> {
    let mut container = house.container()?;
    let status = container.status();
    if !status.can_start() {
        bail!("cannot start container {}: it is {}, not created", house.id, status.to_string().to_lowercase());
    }
    // Without waiting: there may be no writer any more.
    let fifo = rustix::fs::open(house.fifo(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let fifo = fifo.context("exec.fifo")?;
    rustix::io::ioctl_fionbio(&fifo, false)?;
    container.start().map_err(|error| told(&error.into()))?;
    // The end comes when exec(2) closes the other side, or when the process ends.
    let mut words = String::new();
    File::from(fifo).read_to_string(&mut words).context("exec.fifo")?;
    if words.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{words}").context("unable to start container process")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_never_leaves_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("up")).unwrap();
        let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        for cwd in ["/a/b/c", "/out/x", "/up/up/y", "/"] {
            make_cwd(&root, cwd, ids).unwrap();
        }
        assert!(root.join("a/b/c").is_dir() && root.join("y").is_dir());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!dir.path().join("y").exists());
    }
}
