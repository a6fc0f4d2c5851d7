//! Everything mounted into a container.

use super::{Inputs, NetNs};
use crate::container::MountPoint;
use crate::container::spec::{IpcMode, MountSpec, PidMode, Spec};
use crate::error::{Doing, Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the small init is in the container: the place that Docker's users know.
pub const INIT: &str = "/sbin/docker-init";

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `mounts` in the order in which they are made, and `linux.rootfsPropagation` if one of them needs it.
pub struct Mounts {
    /// The mounts.
    pub list: Vec<Value>,
    /// How the root's mounts spread.
    pub root_propagation: Option<&'static str>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

struct Mount {
    target: String,
    kind: &'static str,
    source: String,
    options: Vec<String>,
}

/// # Errors
/// A refusal for tmpfs options that are none, for a shared mount of something that is not shared, and for an init that is
/// not installed.
pub fn mounts(input: &Inputs) -> Result<Mounts> {
    let spec = &input.container.spec;
    let mut warnings = Vec::new();
    let mut users = users(spec, &input.container.mounts)?;
    let targets: BTreeSet<String> = users.iter().map(|mount| mount.target.clone()).collect();
    for (target, source) in [
        ("/etc/resolv.conf", &input.resolv_conf),
        ("/etc/hostname", &input.hostname_file),
        ("/etc/hosts", &input.hosts),
    ] {
        if let Some(source) = source.as_ref().filter(|_| !targets.contains(target)) {
            users.push(bind(source, target, spec.security.read_only_root, "rprivate"));
        }
    }
    if let Some(shm) = shared_memory(input, &mut warnings).filter(|_| !targets.contains("/dev/shm")) {
        users.push(shm);
    }
    // A mount on `/a/b` has to come after one on `/a`, or it would be hidden; otherwise the user's order stays.
    users.sort_by_key(|mount| depth(&mount.target));

    let over_dev = targets.contains("/dev");
    let covered =
        |target: &str| users.iter().any(|mount| mount.target == target) || over_dev && target.starts_with("/dev/");
    let mut all: Vec<Mount> = own(spec).into_iter().filter(|mount| !covered(&mount.target)).collect();
    all.append(&mut users);
    if spec.init && spec.pid == PidMode::Private {
        all.push(init(input)?);
    }

    let mut root_propagation = None;
    for mount in &input.container.mounts {
        root_propagation = propagated(mount, root_propagation)?;
    }
    let list = all.into_iter().map(Mount::into_oci).collect();
    Ok(Mounts { list, root_propagation, warnings })
}

impl Mount {
    fn into_oci(self) -> Value {
        json!({ "destination": self.target, "type": self.kind, "source": self.source, "options": self.options })
    }
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|name| !name.is_empty()).count()
}

fn words(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What every container has.
fn own(spec: &Spec) -> Vec<Mount> {
    let mount = |target: &str, kind: &'static str, source: &str, options: &str| Mount {
        target: target.into(),
        kind,
        source: source.into(),
        options: words(options),
    };
    let sys = if spec.security.privileged { "rw,nosuid,noexec,nodev" } else { "ro,nosuid,noexec,nodev" };
    let mut all = vec![
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/sys", "sysfs", "sysfs", sys),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", sys),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ];
    if spec.ipc != IpcMode::NoShm {
        let options = format!("nosuid,noexec,nodev,mode=1777,size={}", spec.shm_size);
        all.push(mount("/dev/shm", "tmpfs", "shm", &options));
    }
    all
}

/// `/dev/shm` where it is somebody else's, or lies on the host for others to join.
fn shared_memory(input: &Inputs, warnings: &mut Vec<String>) -> Option<Mount> {
    let ipc = &input.container.spec.ipc;
    if let IpcMode::Container(other) = ipc
        && input.joined.shm.is_none()
    {
        warnings.push(format!("/dev/shm is not shared with the container {other}, only System V and queues are."));
    }
    let source = match ipc {
        IpcMode::Host => Path::new("/dev/shm"),
        IpcMode::NoShm => return None,
        IpcMode::Private | IpcMode::Shareable | IpcMode::Container(_) => input.joined.shm.as_deref()?,
    };
    Some(bind(source, "/dev/shm", false, "rprivate"))
}

fn users(spec: &Spec, points: &[MountPoint]) -> Result<Vec<Mount>> {
    let mut all: Vec<Mount> = Vec::new();
    for point in points {
        let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
        all.push(bind(&point.source, &point.target, point.read_only, propagation));
    }
    for mount in &spec.mounts {
        if let MountSpec::Tmpfs { target, options } = mount {
            all.push(Mount {
                target: clean(target),
                kind: "tmpfs",
                source: "tmpfs".into(),
                options: tmpfs_options(options)?,
            });
        }
    }
    Ok(all)
}

fn bind(source: &Path, target: &str, read_only: bool, propagation: &str) -> Mount {
    let mut options = vec!["rbind".to_owned()];
    if read_only {
        options.push("ro".into());
    }
    options.push(propagation.into());
    Mount { target: clean(target), kind: "bind", source: source.display().to_string(), options }
}

/// `/a//b/../c/` is `/a/c`.
pub fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Docker's defaults, under what the user says; of two words that contradict each other the later one counts.
fn tmpfs_options(text: &str) -> Result<Vec<String>> {
    const PAIRS: [(&str, &str); 9] = [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("sync", "async"),
        ("dirsync", "async"),
        ("noatime", "atime"),
        ("nodiratime", "diratime"),
        ("relatime", "norelatime"),
    ];
    const PLAIN: [&str; 2] = ["strictatime", "nostrictatime"];
    const VALUED: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
    const SPREAD: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
    let mut options: Vec<String> = words("noexec,nosuid,nodev");
    for word in words(text) {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        let partner = PAIRS.iter().find_map(|(a, b)| match () {
            () if *a == word => Some(*b),
            () if *b == word => Some(*a),
            () => None,
        });
        let valued = word.contains('=') && (VALUED.contains(&name) || name == "mpol");
        if partner.is_none() && !valued && !PLAIN.contains(&word.as_str()) && !SPREAD.contains(&word.as_str()) {
            return Err(Error::Invalid(format!("invalid tmpfs option [\"{word}\"]")));
        }
        options.retain(|other| {
            let same = other.split_once('=').map_or(other.as_str(), |(name, _)| name) == name;
            !same && Some(other.as_str()) != partner
        });
        options.push(word);
    }
    Ok(options)
}

fn init(input: &Inputs) -> Result<Mount> {
    let Some(source) = &input.host.init else {
        return Err(Error::Fault(
            "--init: there is no statically linked berth-init beside the berth executable; install it there, or go \
             without --init"
                .into(),
        ));
    };
    let options = words("bind,ro");
    Ok(Mount { target: INIT.into(), kind: "bind", source: source.display().to_string(), options })
}

/// A mount that others shall see needs a source that is shared, and a root that lets it through.
fn propagated(mount: &MountPoint, so_far: Option<&'static str>) -> Result<Option<&'static str>> {
    let (wanted, tags): (&str, &[&str]) = match mount.propagation.as_str() {
        "shared" | "rshared" => ("shared", &["shared:"]),
        "slave" | "rslave" => ("shared or slave", &["shared:", "master:"]),
        _ => return Ok(so_far),
    };
    let (at, optional) = mount_of(&mount.source)?;
    if !optional.split(' ').any(|word| tags.iter().any(|tag| word.starts_with(tag))) {
        return Err(Error::Invalid(format!(
            "path {} is mounted on {} but it is not a {wanted} mount",
            mount.source.display(),
            at.display()
        )));
    }
    Ok(Some(if wanted == "shared" { "shared" } else { so_far.unwrap_or("rslave") }))
}

/// The mount on which a path lies, and its optional fields (proc(5), `mountinfo`).
fn mount_of(path: &Path) -> Result<(PathBuf, String)> {
    let real = path.canonicalize().doing(format_args!("find {}", path.display()))?;
    let table = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(table).doing(format_args!("read {table}"))?;
    let lines = text.lines().filter_map(|line| {
        let before = line.split_once(" - ")?.0;
        let mut fields = before.splitn(7, ' ').skip(4);
        let at = PathBuf::from(fields.next()?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
        Some((at, fields.nth(1).unwrap_or("").to_owned()))
    });
    // The last of the longest: a later mount covers an earlier one on the same place.
    lines
        .filter(|(at, _)| real.starts_with(at))
        .max_by_key(|(at, _)| at.components().count())
        .ok_or_else(|| Error::Fault(format!("no mount holds {}", path.display())))
}

/// `linux.maskedPaths` and `linux.readonlyPaths`.
pub fn hidden(input: &Inputs) -> (Vec<String>, Vec<String>) {
    let security = &input.container.spec.security;
    if security.privileged {
        return (Vec::new(), Vec::new());
    }
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let masked = security.masked_paths.clone().unwrap_or_else(|| {
        let mut all = owned(&MASKED);
        all.extend(input.host.thermal.iter().cloned());
        all
    });
    (masked, security.read_only_paths.clone().unwrap_or_else(|| owned(&READ_ONLY)))
}

/// `linux.namespaces`.
pub fn namespaces(input: &Inputs) -> Vec<Value> {
    let spec = &input.container.spec;
    let new = |kind: &str| json!({ "type": kind });
    let at = |kind: &str, path: &Path| json!({ "type": kind, "path": path });
    let joined = |kind: &str, path: &Option<PathBuf>| path.as_deref().map_or_else(|| new(kind), |path| at(kind, path));
    let mut all = vec![new("mount")];
    if let NetNs::Path(path) = &input.netns {
        all.push(at("network", path));
    }
    if !spec.uts_host {
        all.push(joined("uts", &input.joined.uts));
    }
    if spec.pid != PidMode::Host {
        all.push(joined("pid", &input.joined.pid));
    }
    if spec.ipc != IpcMode::Host {
        all.push(joined("ipc", &input.joined.ipc));
    }
    // Docker's defaults: a view of its own on version 2, the host's otherwise.
    if !spec.cgroupns_host && input.host.cgroups.v2().is_some() {
        all.push(new("cgroup"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_words() {
        let check = |text: &str, want: &str| {
            let got = tmpfs_options(text).map_or_else(|error| error.to_string(), |options| options.join(","));
            assert_eq!(got, want, "{text}");
        };
        check("", "noexec,nosuid,nodev");
        check("size=64m,exec", "nosuid,nodev,size=64m,exec");
        check("size=1m,size=2m,mode=1770", "noexec,nosuid,nodev,size=2m,mode=1770");
        check("ro,rw", "noexec,nosuid,nodev,rw");
        check("nosuid", "noexec,nodev,nosuid");
        check("upperdir=/x", "invalid tmpfs option [\"upperdir=/x\"]");
        check("size", "invalid tmpfs option [\"size\"]");
        check("bogus", "invalid tmpfs option [\"bogus\"]");
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, want) in [("/a//b/../c/", "/a/c"), ("/", "/"), ("a/.", "/a"), ("/../../x", "/x")] {
            assert_eq!(clean(path), want);
        }
        assert_eq!((depth("/"), depth("/a/b")), (0, 2));
    }

    #[test]
    fn proc_is_a_mount_of_its_own() {
        assert_eq!(mount_of(Path::new("/proc/self/status")).unwrap().0, Path::new("/proc"));
    }
}
