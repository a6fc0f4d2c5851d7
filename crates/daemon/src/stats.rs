//! What a container consumes: counters of its control group (version 1 or 2) and of its network interfaces, in the form of
//! the Engine API's `stats`.

use crate::oci::cgroup::{Kind, Paths};
use crate::time;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

/// The kernel's `USER_HZ`: what `/proc/stat` and `cpuacct.stat` count in. It is 100 on every architecture that berth runs on.
const USER_HZ: u64 = 100;
const NANOS_A_TICK: u64 = 1_000_000_000 / USER_HZ;

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When; `None`: the container did not run.
    pub at: Option<SystemTime>,
    cpu: Cpu,
    memory: Memory,
    pids: (u64, u64),
    io: Io,
    networks: BTreeMap<String, [u64; 8]>,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cpu {
    total: u64,
    user: u64,
    kernel: u64,
    per_cpu: Vec<u64>,
    periods: u64,
    throttled_periods: u64,
    throttled: u64,
    system: u64,
    online: u64,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Memory {
    usage: u64,
    max_usage: Option<u64>,
    failures: u64,
    limit: u64,
    stats: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Io {
    bytes: Vec<Value>,
    operations: Vec<Value>,
}

/// Reads them all. `pid` is a process in the container's network namespace; `None` counts no network (an open container's
/// is the host's).
pub fn sample(paths: &Paths, pid: Option<i32>) -> Sample {
    let reader = Reader { paths };
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let (system, online) = host_cpu(&stat);
    let v2 = paths.kind == Kind::V2;
    let cpu = if v2 { reader.cpu_v2() } else { reader.cpu_v1() };
    let mut memory = if v2 { reader.memory_v2() } else { reader.memory_v1() };
    let host = host_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    memory.limit = if memory.limit == 0 { host } else { memory.limit.min(host) };
    let devices = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()).unwrap_or_default();
    Sample {
        at: Some(SystemTime::now()),
        cpu: Cpu { system, online, ..cpu },
        memory,
        pids: (reader.number("pids", "pids.current"), reader.number("pids", "pids.max")),
        io: if v2 { io_v2(&reader.text("io", "io.stat")) } else { reader.io_v1() },
        networks: interfaces(&devices),
    }
}

struct Reader<'a> {
    paths: &'a Paths,
}

impl Reader<'_> {
    fn text(&self, controller: &str, file: &str) -> String {
        self.paths.file(controller, file).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// 0 where the file is missing or says `max`.
    fn number(&self, controller: &str, file: &str) -> u64 {
        self.text(controller, file).trim().parse().unwrap_or(0)
    }

    fn table(&self, controller: &str, file: &str) -> BTreeMap<String, u64> {
        table(&self.text(controller, file))
    }

    fn cpu_v1(&self) -> Cpu {
        let stat = self.table("cpuacct", "cpuacct.stat");
        let throttling = self.table("cpu", "cpu.stat");
        let of = |table: &BTreeMap<String, u64>, key: &str| table.get(key).copied().unwrap_or(0);
        let per_cpu = self.text("cpuacct", "cpuacct.usage_percpu");
        Cpu {
            total: self.number("cpuacct", "cpuacct.usage"),
            user: of(&stat, "user") * NANOS_A_TICK,
            kernel: of(&stat, "system") * NANOS_A_TICK,
            per_cpu: per_cpu.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
            periods: of(&throttling, "nr_periods"),
            throttled_periods: of(&throttling, "nr_throttled"),
            throttled: of(&throttling, "throttled_time"),
            ..Cpu::default()
        }
    }

    fn cpu_v2(&self) -> Cpu {
        let stat = self.table("cpu", "cpu.stat");
        let micros = |key: &str| stat.get(key).copied().unwrap_or(0) * 1000;
        Cpu {
            total: micros("usage_usec"),
            user: micros("user_usec"),
            kernel: micros("system_usec"),
            periods: stat.get("nr_periods").copied().unwrap_or(0),
            throttled_periods: stat.get("nr_throttled").copied().unwrap_or(0),
            throttled: micros("throttled_usec"),
            ..Cpu::default()
        }
    }

    fn memory_v1(&self) -> Memory {
        Memory {
            usage: self.number("memory", "memory.usage_in_bytes"),
            max_usage: Some(self.number("memory", "memory.max_usage_in_bytes")),
            failures: self.number("memory", "memory.failcnt"),
            limit: self.number("memory", "memory.limit_in_bytes"),
            stats: self.table("memory", "memory.stat"),
        }
    }

    fn memory_v2(&self) -> Memory {
        let events = self.table("memory", "memory.events");
        Memory {
            usage: self.number("memory", "memory.current"),
            max_usage: None,
            failures: events.get("oom").copied().unwrap_or(0),
            limit: self.number("memory", "memory.max"),
            stats: self.table("memory", "memory.stat"),
        }
    }

    fn io_v1(&self) -> Io {
        Io {
            bytes: io_v1(&self.text("blkio", "blkio.throttle.io_service_bytes_recursive")),
            operations: io_v1(&self.text("blkio", "blkio.throttle.io_serviced_recursive")),
        }
    }
}

/// Lines of a name and a number.
fn table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?)))
        .collect()
}

/// Nanoseconds of all processors together, and how many there are.
fn host_cpu(stat: &str) -> (u64, u64) {
    let mut ticks = 0;
    let mut online = 0;
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            // user nice system idle iowait irq softirq steal; guests are counted in user already.
            Some("cpu") => ticks = words.take(8).filter_map(|word| word.parse::<u64>().ok()).sum(),
            Some(word) if word.starts_with("cpu") => online += 1,
            _ => {}
        }
    }
    (ticks * NANOS_A_TICK, online)
}

/// Bytes.
pub fn host_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// `8:0 Read 4096`
fn io_v1(text: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, op, value] = words[..] else { continue };
        if let (Some((major, minor)), Ok(value)) = (device.split_once(':'), value.parse::<u64>()) {
            entries.extend(entry(major, minor, op, value));
        }
    }
    entries
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`
fn io_v2(text: &str) -> Io {
    let mut io = Io::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for word in words {
            let Some((key, Ok(value))) = word.split_once('=').map(|(k, v)| (k, v.parse::<u64>())) else { continue };
            match key {
                "rbytes" => io.bytes.extend(entry(major, minor, "read", value)),
                "wbytes" => io.bytes.extend(entry(major, minor, "write", value)),
                "rios" => io.operations.extend(entry(major, minor, "read", value)),
                "wios" => io.operations.extend(entry(major, minor, "write", value)),
                _ => {}
            }
        }
    }
    io
}

fn entry(major: &str, minor: &str, op: &str, value: u64) -> Option<Value> {
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    Some(json!({ "major": major, "minor": minor, "op": op, "value": value }))
}

/// `/proc/PID/net/dev`: of each interface but `lo`, bytes, packets, errors and drops, received and sent.
fn interfaces(text: &str) -> BTreeMap<String, [u64; 8]> {
    let mut found = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let n: Vec<u64> = counters.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if n.len() >= 12 && name.trim() != "lo" {
            found.insert(name.trim().to_owned(), [n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11]]);
        }
    }
    found
}

impl Sample {
    fn cpu_json(&self) -> Value {
        let cpu = &self.cpu;
        let mut usage = json!({
            "total_usage": cpu.total,
            "usage_in_kernelmode": cpu.kernel,
            "usage_in_usermode": cpu.user,
        });
        if !cpu.per_cpu.is_empty() {
            usage["percpu_usage"] = json!(cpu.per_cpu);
        }
        let mut value = json!({
            "cpu_usage": usage,
            "throttling_data": {
                "periods": cpu.periods,
                "throttled_periods": cpu.throttled_periods,
                "throttled_time": cpu.throttled,
            },
        });
        if cpu.system > 0 {
            value["system_cpu_usage"] = cpu.system.into();
            value["online_cpus"] = cpu.online.into();
        }
        value
    }

    fn memory_json(&self) -> Value {
        let memory = &self.memory;
        if self.at.is_none() {
            return json!({});
        }
        let mut value = json!({ "usage": memory.usage, "stats": memory.stats, "limit": memory.limit });
        if let Some(most) = memory.max_usage {
            value["max_usage"] = most.into();
        }
        if memory.failures > 0 {
            value["failcnt"] = memory.failures.into();
        }
        value
    }
}

/// The Engine API's form of a sample and the one before it.
pub fn wire(name: &str, id: &str, before: &Sample, now: &Sample) -> Value {
    let list = |list: &[Value]| if list.is_empty() { Value::Null } else { Value::Array(list.to_vec()) };
    let mut value = json!({
        "name": format!("/{name}"),
        "id": id,
        "read": time::rfc3339_or_never(now.at),
        "preread": time::rfc3339_or_never(before.at),
        "pids_stats": if now.at.is_some() { json!({ "current": now.pids.0, "limit": now.pids.1 }) } else { json!({}) },
        "blkio_stats": {
            "io_service_bytes_recursive": list(&now.io.bytes),
            "io_serviced_recursive": list(&now.io.operations),
            "io_queue_recursive": null,
            "io_service_time_recursive": null,
            "io_wait_time_recursive": null,
            "io_merged_recursive": null,
            "io_time_recursive": null,
            "sectors_recursive": null,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": now.cpu_json(),
        "precpu_stats": before.cpu_json(),
        "memory_stats": now.memory_json(),
        "os_type": "linux",
    });
    if !now.networks.is_empty() {
        let networks = now.networks.iter().map(|(name, n)| {
            let counters = json!({
                "rx_bytes": n[0], "rx_packets": n[1], "rx_errors": n[2], "rx_dropped": n[3],
                "tx_bytes": n[4], "tx_packets": n[5], "tx_errors": n[6], "tx_dropped": n[7],
            });
            (name.clone(), counters)
        });
        value["networks"] = Value::Object(networks.collect::<Map<_, _>>());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_files_are_read() {
        let stat = "cpu  10 0 20 30 5 0 1 2 99 0\ncpu0 5 0\ncpu1 5 0\nintr 5\n";
        assert_eq!(host_cpu(stat), (68 * NANOS_A_TICK, 2));
        assert_eq!(host_memory("MemTotal:       4022 kB\nMemFree: 1 kB\n"), 4022 * 1024);
        let dev = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo:  5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n";
        assert_eq!(interfaces(dev), BTreeMap::from([("eth0".to_owned(), [1000, 10, 1, 2, 2000, 20, 3, 4])]));
    }

    #[test]
    fn both_forms_of_io_counters_are_read() {
        let v1 = io_v1("8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n");
        assert_eq!(v1.len(), 3);
        assert_eq!(v1[0], json!({"major": 8, "minor": 0, "op": "Read", "value": 4096}));
        let v2 = io_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
        assert_eq!((v2.bytes.len(), v2.operations.len()), (2, 2));
        assert_eq!(v2.operations[1], json!({"major": 8, "minor": 0, "op": "write", "value": 4}));
    }

    #[test]
    fn the_wire_form_is_dockers() {
        let mut now = Sample { at: Some(SystemTime::UNIX_EPOCH), ..Sample::default() };
        now.cpu = Cpu { total: 5, system: 100, online: 2, ..Cpu::default() };
        now.memory = Memory { usage: 7, limit: 9, ..Memory::default() };
        now.networks.insert("eth0".into(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let value = wire("web", "ab", &Sample::default(), &now);
        assert_eq!(value["preread"], time::NEVER);
        assert_eq!(value["cpu_stats"]["online_cpus"], 2);
        assert!(value["precpu_stats"].get("system_cpu_usage").is_none());
        assert_eq!(value["networks"]["eth0"]["tx_dropped"], 8);
        assert_eq!(value["memory_stats"]["limit"], 9);
        let stopped = wire("web", "ab", &Sample::default(), &Sample::default());
        assert_eq!((&stopped["read"], &stopped["memory_stats"]), (&json!(time::NEVER), &json!({})));
        assert!(stopped.get("networks").is_none());
    }

    /// Our own group stands for a container's: every host has counters of it.
    #[test]
    fn counters_of_a_real_group_are_there() {
        let tree = crate::oci::cgroup::Tree::detect().unwrap();
        let sample = sample(&tree.paths("/"), Some(std::process::id() as i32));
        assert!(sample.cpu.system > 0 && sample.cpu.online > 0);
        assert!(sample.memory.limit > 0);
    }
}
