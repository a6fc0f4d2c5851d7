use crate::command::run;
use crate::engine::{Engine, Logs, binaries};
use crate::host::Host;
use crate::namespaces::{self, NetNs};
use crate::throwaway;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// The segment that hosts are on unless they say otherwise.
const LAN: &str = "lan";
/// The namespace that holds every segment's bridge, so that none of them is in the way of an engine.
const SWITCH: &str = "switch";

/// A private world: the network namespace that the test runs in, hosts beside it, and segments that join them.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    cgroup: String,
    outer_pid: u32,
    wiring: Mutex<Wiring>,
    logs: Logs,
}

#[derive(Debug, Default)]
struct Wiring {
    switch: Option<NetNs>,
    segments: BTreeSet<String>,
    ports: u32,
    engines: u32,
}

impl Lab {
    /// The lab that this process was started in by a [`throwaway::Throwaway`]: mounts, loopback and sysctls are set here.
    ///
    /// # Errors
    /// When there is none, or when the kernel refuses a part of it.
    pub fn inside() -> io::Result<Lab> {
        let (dir, cgroup) =
            throwaway::entered()?.ok_or_else(|| io::Error::other("this process was not started in a lab"))?;
        // Still the outer /proc.
        let outer_pid = std::fs::read_link("/proc/self")?.to_string_lossy().parse().map_err(io::Error::other)?;
        namespaces::furnish(&dir)?;
        let lab = Lab { dir, cgroup, outer_pid, wiring: Mutex::default(), logs: Logs::default() };
        default_sysctls()?;
        ip(None, "link set lo up\n");
        Ok(lab)
    }

    /// A directory of the lab's own, in memory, gone with it. Also the `TMPDIR` of all that runs inside.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The parent of all cgroups of this lab, for instance `/berth-lab-1234-1`; removed with all below it at the end.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The pid by which the machine outside knows the lab's process.
    pub fn outer_pid(&self) -> u32 {
        self.outer_pid
    }

    /// A host on the segment `lan`, a network namespace with an interface `eth0`. `addresses` are one or more of either
    /// family with their prefix lengths, separated by spaces: `192.0.2.2/24 2001:db8::2/64`.
    #[track_caller]
    pub fn host(&self, name: &str, addresses: &str) -> Host {
        self.host_on(LAN, name, addresses)
    }

    /// A host on a segment of another name, which is made if there is none yet.
    #[track_caller]
    pub fn host_on(&self, segment: &str, name: &str, addresses: &str) -> Host {
        assert!(name != SWITCH, "`{SWITCH}` is the lab's own namespace: name the host otherwise");
        let pin = Path::new("/run/netns").join(name);
        assert!(!pin.exists(), "there is a host `{name}` already");
        let ns = NetNs::create(&pin).unwrap_or_else(|err| panic!("a namespace for host `{name}`: {err}"));
        self.plug(segment, "eth0", &pin);
        ip(Some(&ns), &format!("link set lo up\n{}", configure("eth0", addresses)));
        Host::new(name, ns, &self.dir)
    }

    /// Gives the lab's own namespace, the engine's host, the interface `up0` on the segment `lan`, with these addresses.
    #[track_caller]
    pub fn uplink(&self, addresses: &str) {
        self.uplink_on(LAN, "up0", addresses);
    }

    /// Gives the lab's own namespace an interface on a segment, with these addresses.
    #[track_caller]
    pub fn uplink_on(&self, segment: &str, interface: &str, addresses: &str) {
        self.plug(segment, interface, Path::new(&format!("/proc/{}/ns/net", std::process::id())));
        ip(None, &configure(interface, addresses));
    }

    /// The lab's own namespace as a place to probe from.
    #[track_caller]
    pub fn here(&self) -> Host {
        self.inside_path(Path::new("/proc/self/ns/net"))
    }

    /// A container's network by its pinned namespace.
    #[track_caller]
    pub fn inside_path(&self, path: &Path) -> Host {
        let ns = NetNs::open(path).unwrap_or_else(|err| panic!("the namespace at {}: {err}", path.display()));
        Host::new(&path.display().to_string(), ns, &self.dir)
    }

    /// The network of a process, by its pid in the lab's pid namespace.
    #[track_caller]
    pub fn inside_pid(&self, pid: u32) -> Host {
        self.inside_path(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// Gives the lab an `/etc/resolv.conf` of its own, with this text; or writes that one anew, in place.
    #[track_caller]
    pub fn resolv_conf(&self, text: &str) {
        let file = self.dir.join("resolv.conf");
        let first = !file.exists();
        std::fs::write(&file, text).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        if first {
            rustix::mount::mount_bind(&file, "/etc/resolv.conf")
                .unwrap_or_else(|err| panic!("/etc/resolv.conf: {err}"));
        }
    }

    /// A started engine with directories and cgroups of its own in this lab, and these flags more. Waits until it answers.
    #[track_caller]
    pub fn engine(&self, flags: &[&str]) -> Engine {
        self.engine_of(&binaries(), flags)
    }

    /// [`Lab::engine`], of the build in another directory.
    #[track_caller]
    pub fn engine_of(&self, programs: &Path, flags: &[&str]) -> Engine {
        let nth = {
            let mut wiring = self.wiring();
            wiring.engines += 1;
            wiring.engines
        };
        let name = if nth == 1 { "engine".to_owned() } else { format!("engine{nth}") };
        Engine::start(self, &name, programs, flags)
    }

    pub(crate) fn logs(&self) -> Logs {
        self.logs.clone()
    }

    /// A cable from the segment to a new interface in the namespace at `far`. Born there: moving one would take longer.
    #[track_caller]
    fn plug(&self, segment: &str, interface: &str, far: &Path) {
        let mut wiring = self.wiring();
        let mut batch = String::new();
        if !wiring.segments.contains(segment) {
            // Without snooping or learning delays, as a plain switch would behave.
            batch += &format!("link add {segment} up type bridge forward_delay 0 mcast_snooping 0\n");
            wiring.segments.insert(segment.to_owned());
        }
        wiring.ports += 1;
        let port = format!("port{}", wiring.ports);
        batch += &format!("link add {port} type veth peer name {interface} netns {}\n", far.display());
        batch += &format!("link set {port} master {segment} up\n");
        let switch = wiring.switch.get_or_insert_with(|| {
            NetNs::create(&Path::new("/run/netns").join(SWITCH))
                .unwrap_or_else(|err| panic!("a namespace for the segments: {err}"))
        });
        ip(Some(switch), &batch);
    }

    fn wiring(&self) -> std::sync::MutexGuard<'_, Wiring> {
        // A panic while wiring has failed the test already; its other threads need not fail over the lock.
        self.wiring.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A batch that gives an interface its addresses and sets it up. `nodad`, for a test has no second to wait for IPv6.
fn configure(interface: &str, addresses: &str) -> String {
    let mut batch = format!("link set {interface} up\n");
    for address in addresses.split_whitespace() {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        batch += &format!("addr add {address} dev {interface}{nodad}\n");
    }
    batch
}

/// `ip -batch`, in a namespace or here. Panics with the batch and what `ip` said of it.
#[track_caller]
fn ip(ns: Option<&NetNs>, batch: &str) {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]);
    if let Some(ns) = ns {
        ns.isolate(&mut command).unwrap_or_else(|err| panic!("entering a namespace: {err}"));
    }
    let output = run(&mut command, batch.as_bytes(), Duration::from_secs(20));
    assert!(output.code == 0, "ip -batch (Debian package iproute2) failed on:\n{batch}{}", output.stderr);
}

/// A new network namespace begins with the IPv4 settings of the machine's first one; labs begin with the kernel's.
fn default_sysctls() -> io::Result<()> {
    let v4 = Path::new("/proc/sys/net/ipv4");
    // Resets the settings of all interfaces to those of a host, see ip-sysctl in the kernel's documentation: `1` first,
    // for writing the value that is there resets nothing.
    std::fs::write(v4.join("ip_forward"), "1")?;
    std::fs::write(v4.join("ip_forward"), "0")?;
    for (name, value) in
        [("rp_filter", "0"), ("route_localnet", "0"), ("arp_ignore", "0"), ("proxy_arp", "0"), ("accept_local", "0")]
    {
        for scope in ["all", "default", "lo"] {
            std::fs::write(v4.join("conf").join(scope).join(name), value)?;
        }
    }
    Ok(())
}
