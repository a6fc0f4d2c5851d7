//! What the engine may do on this host, and what the host can do: so that a container is given what can be had, with a
//! word about the rest, instead of failing in the runtime.

use super::capabilities::Caps;
use super::cgroup::Tree;
use crate::error::{Doing, Error, Result};
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The engine's rights and the host's abilities, found out once.
#[derive(Clone, Debug)]
pub struct HostRights {
    /// Every capability that the kernel knows.
    pub known: Caps,
    /// The engine's own bounding set: it can give no more.
    pub bounding: Caps,
    /// The engine may raise hard limits and lower the OOM score (`CAP_SYS_RESOURCE`).
    pub sys_resource: bool,
    /// Hard limits by lower-case name (`nofile`); `u64::MAX` is none.
    pub hard_limits: BTreeMap<&'static str, u64>,
    /// The engine's own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// The control groups.
    pub cgroups: Tree,
    /// Which limits the control groups can keep.
    pub limits: Limits,
    /// Version and patch level of the kernel: `(6, 18)`.
    pub kernel: (u32, u32),
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// `net.ipv4.ping_group_range` exists.
    pub ping_group_range: bool,
    /// `net.ipv4.ip_unprivileged_port_start` exists.
    pub unprivileged_port_start: bool,
    /// Directories of sysfs that tell of the processors' heat, to be masked: they are one a processor.
    pub thermal: Vec<String>,
    /// The small init beside the engine's executable, if it is there and can run in any container.
    pub init: Option<PathBuf>,
}

/// Which limits the control groups of this host can keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// How eagerly it is swapped out.
    pub swappiness: bool,
    /// Waiting instead of being killed.
    pub oom_kill_disable: bool,
    /// Relative weight of the processor.
    pub cpu_shares: bool,
    /// Processor time a period.
    pub cpu_quota: bool,
    /// Real-time processor time.
    pub cpu_realtime: bool,
    /// Which processors and memory nodes.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Weight of disk access.
    pub blkio_weight: bool,
}

/// `RLIMIT_*` by Docker's name.
pub const RLIMITS: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

impl HostRights {
    /// Looks at this process and this host.
    ///
    /// # Errors
    /// [`Error::Fault`] when `/proc` or the control groups cannot be read.
    pub fn detect() -> Result<HostRights> {
        let status = read("/proc/self/status")?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let caps = |name: &str| {
            line(name)
                .and_then(Caps::from_hex)
                .ok_or_else(|| Error::Fault(format!("/proc/self/status has no valid {name} line")))
        };
        let last = read("/proc/sys/kernel/cap_last_cap")?.trim().parse().unwrap_or(40);
        let cgroups = Tree::detect()?;
        let sysctl = |name: &str| Path::new("/proc/sys").join(name).exists();
        Ok(HostRights {
            known: Caps::up_to(last),
            bounding: caps("CapBnd:")?,
            sys_resource: caps("CapEff:")?.has("SYS_RESOURCE"),
            hard_limits: RLIMITS
                .iter()
                .map(|(name, resource)| (*name, getrlimit(*resource).maximum.unwrap_or(u64::MAX)))
                .collect(),
            oom_score_adj: read("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0),
            limits: limits(&cgroups),
            cgroups,
            kernel: kernel(rustix::system::uname().release().to_str().unwrap_or("")),
            seccomp: line("Seccomp:").is_some(),
            ping_group_range: sysctl("net/ipv4/ping_group_range"),
            unprivileged_port_start: sysctl("net/ipv4/ip_unprivileged_port_start"),
            thermal: thermal(),
            init: init(),
        })
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).doing(format_args!("read {path}"))
}

/// `6.18.2-foo` is `(6, 18)`.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn thermal() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect();
    found.sort();
    found
}

fn init() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    // The second name is where the project's own recipes put it, for cargo overwrites the first with a dynamic build.
    ["berth-init", "berth-init-static"].into_iter().map(|name| me.with_file_name(name)).find(|path| {
        let mut head = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
        read.is_ok() && needs_no_libraries(&head)
    })
}

/// Whether a program (the first bytes of its ELF file, elf(5)) runs where there are no libraries: it names no interpreter.
fn needs_no_libraries(head: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let half = |at: usize| head.get(at..at + 2).map(|b| usize::from(u16::from_ne_bytes([b[0], b[1]])));
    let word = |at: usize| head.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    // The class is 64 bits; the table of segments begins at the number at 32, of which the low half is enough.
    if !head.starts_with(b"\x7fELF\x02") {
        return false;
    }
    let low = if cfg!(target_endian = "little") { 32 } else { 36 };
    let (Some(table), Some(size), Some(count)) = (word(low), half(54), half(56)) else { return false };
    let kind = |number: usize| word(table as usize + number * size);
    // A table that does not lie in the head is no linker's work.
    (0..count).all(|number| kind(number).is_some_and(|kind| kind != INTERPRETER))
}

fn limits(tree: &Tree) -> Limits {
    if let Some(root) = tree.v2() {
        // The root group has no limit files of its own: its list of controllers tells.
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
        return Limits {
            memory: has("memory"),
            swap: has("memory") && Path::new("/proc/swaps").exists(),
            swappiness: false,
            oom_kill_disable: false,
            cpu_shares: has("cpu"),
            cpu_quota: has("cpu"),
            cpu_realtime: false,
            cpuset: has("cpuset"),
            pids: has("pids"),
            blkio_weight: has("io"),
        };
    }
    let file = |controller: &str, name: &str| tree.v1(controller).is_some_and(|root| root.join(name).exists());
    Limits {
        memory: file("memory", "memory.limit_in_bytes"),
        swap: file("memory", "memory.memsw.limit_in_bytes"),
        swappiness: file("memory", "memory.swappiness"),
        oom_kill_disable: file("memory", "memory.oom_control"),
        cpu_shares: file("cpu", "cpu.shares"),
        cpu_quota: file("cpu", "cpu.cfs_quota_us"),
        cpu_realtime: file("cpu", "cpu.rt_runtime_us"),
        cpuset: file("cpuset", "cpuset.cpus"),
        // The root group of `pids` has no limit.
        pids: tree.v1("pids").is_some(),
        blkio_weight: file("blkio", "blkio.weight") || file("blkio", "blkio.bfq.weight"),
    }
}

#[cfg(test)]
impl HostRights {
    /// A host with every ability, for tests of what is asked of it.
    pub fn able() -> HostRights {
        HostRights {
            known: Caps::up_to(40),
            bounding: Caps::up_to(40),
            sys_resource: true,
            hard_limits: RLIMITS.iter().map(|(name, _)| (*name, u64::MAX)).collect(),
            oom_score_adj: 0,
            cgroups: Tree::of_mountinfo("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"),
            limits: Limits {
                memory: true,
                swap: true,
                swappiness: true,
                oom_kill_disable: true,
                cpu_shares: true,
                cpu_quota: true,
                cpu_realtime: true,
                cpuset: true,
                pids: true,
                blkio_weight: true,
            },
            kernel: (6, 18),
            seccomp: true,
            ping_group_range: true,
            unprivileged_port_start: true,
            thermal: Vec::new(),
            init: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases() {
        assert_eq!(kernel("6.18.2-amd64"), (6, 18));
        assert_eq!(kernel("5.4"), (5, 4));
        assert_eq!(kernel("7"), (7, 0));
        assert_eq!(kernel(""), (0, 0));
    }

    #[test]
    fn static_programs() {
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is needed");
        assert!(needs_no_libraries(&busybox[..4096]));
        let dynamic = std::fs::read("/proc/self/exe").unwrap();
        assert!(!needs_no_libraries(&dynamic[..4096]));
        assert!(!needs_no_libraries(b"#!/bin/sh\n"));
        assert!(!needs_no_libraries(&busybox[..40]));
    }

    #[test]
    fn this_host_is_detected() {
        let host = HostRights::detect().unwrap();
        assert!(host.known.contains(host.bounding));
        assert!(host.kernel >= (4, 0), "{:?}", host.kernel);
        assert!(host.hard_limits["nofile"] > 0);
        assert!(host.seccomp);
    }
}
