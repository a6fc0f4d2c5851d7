//! Limits: of the processes (rlimits, OOM score) and of the control group, as far as this host can keep them.

use super::rights::{HostRights, RLIMITS};
use crate::container::spec::{Resources, Spec};
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// `RLIMIT_*` for the runtime, and what could not be had.
///
/// # Errors
/// [`Error::Invalid`] for a limit that there is not, and for a soft one over the hard one.
pub fn rlimits(spec: &Spec, host: &HostRights) -> Result<(Vec<Value>, Vec<String>)> {
    let mut limits = Vec::new();
    let mut warnings = Vec::new();
    for (name, (soft, hard)) in &spec.ulimits {
        if !RLIMITS.iter().any(|(known, _)| known == name) {
            return Err(Error::Invalid(format!("invalid ulimit type: {name}")));
        }
        if soft > hard {
            return Err(Error::Invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )));
        }
        let ours = host.hard_limits.get(name.as_str()).copied().unwrap_or(u64::MAX);
        let (mut soft, mut hard) = (*soft, *hard);
        if hard > ours && !host.sys_resource {
            warnings.push(format!(
                "The engine may not raise its own hard limit {name}={ours} (it lacks CAP_SYS_RESOURCE); \
                 the container gets that instead of {hard}."
            ));
            hard = ours;
            soft = soft.min(ours);
        }
        limits.push(json!({ "type": format!("RLIMIT_{}", name.to_ascii_uppercase()), "soft": soft, "hard": hard }));
    }
    Ok((limits, warnings))
}

/// `oom_score_adj` that can be set, and a word if it is not the one asked for.
pub fn oom_score_adj(spec: &Spec, host: &HostRights) -> (i32, Option<String>) {
    let asked = spec.oom_score_adj;
    if host.sys_resource || asked >= host.oom_score_adj {
        return (asked, None);
    }
    let ours = host.oom_score_adj;
    // Nobody who left it alone wants to hear of it.
    let warning = (asked != 0).then(|| {
        format!(
            "The engine may not lower the OOM score below its own {ours} (it lacks CAP_SYS_RESOURCE); \
             the container gets that instead of {asked}."
        )
    });
    (ours, warning)
}

/// `linux.resources` without devices, and what this host cannot keep.
pub fn resources(asked: &Resources, host: &HostRights) -> (Value, Vec<String>) {
    let can = &host.limits;
    let mut discarded = Discarded(Vec::new());
    let memory = discarded.unless(can.memory, asked.memory.filter(|bytes| *bytes > 0), "memory limit", "memory");
    let reservation = discarded.unless(
        can.memory,
        asked.memory_reservation.filter(|bytes| *bytes > 0),
        "memory soft limit",
        "memory reservation",
    );
    // Docker's rule: who limits memory and says nothing of swap gets as much swap again.
    let swap = match (memory, asked.memory_swap) {
        (Some(limit), None | Some(0)) => can.swap.then(|| limit.saturating_mul(2)),
        (Some(_), Some(total)) => discarded.unless(can.swap, Some(total), "swap limit", "swap limit"),
        (None, _) => None,
    };
    if memory.is_some() && !can.swap && asked.memory_swap.unwrap_or(0) == 0 {
        discarded.0.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. \
             Memory limited without swap."
                .into(),
        );
    }
    let swappiness =
        discarded.unless(can.swappiness, asked.memory_swappiness, "memory swappiness", "memory swappiness");
    let no_kill = asked.oom_kill_disable.then_some(true);
    let no_kill = discarded.unless(can.oom_kill_disable, no_kill, "OomKillDisable", "OomKillDisable");

    let shares = discarded.unless(can.cpu_shares, asked.cpu_shares.filter(|n| *n > 0), "CPU shares", "shares");
    let (quota, period) = match asked.nano_cpus.filter(|nano| *nano > 0) {
        Some(nano) => (Some(nano / 10_000), Some(100_000)),
        None => (asked.cpu_quota.filter(|n| *n != 0), asked.cpu_period.filter(|n| *n > 0)),
    };
    let quota = discarded.unless(can.cpu_quota, quota, "CPU CFS quota", "quota");
    let period = discarded.unless(can.cpu_quota, period, "CPU CFS period", "period");
    let rt_runtime =
        discarded.unless(can.cpu_realtime, asked.cpu_rt_runtime.filter(|n| *n != 0), "CPU real-time runtime", "it");
    let rt_period =
        discarded.unless(can.cpu_realtime, asked.cpu_rt_period.filter(|n| *n > 0), "CPU real-time period", "it");
    let named = |list: &String| (!list.is_empty()).then(|| list.clone());
    let cpus = discarded.unless(can.cpuset, named(&asked.cpuset_cpus), "cpuset", "cpuset");
    let mems = discarded.unless(can.cpuset, named(&asked.cpuset_mems), "cpuset", "cpuset");
    let pids = discarded.unless(can.pids, asked.pids.filter(|n| *n > 0), "PIDs limit", "PIDs limit");
    let weight =
        discarded.unless(can.blkio_weight, asked.blkio_weight.filter(|n| *n > 0), "Block I/O weight", "weight");

    let mut resources = json!({});
    put(&mut resources, "memory", "limit", memory);
    put(&mut resources, "memory", "reservation", reservation);
    put(&mut resources, "memory", "swap", swap);
    put(&mut resources, "memory", "swappiness", swappiness);
    put(&mut resources, "memory", "disableOOMKiller", no_kill);
    put(&mut resources, "cpu", "shares", shares);
    put(&mut resources, "cpu", "quota", quota);
    put(&mut resources, "cpu", "period", period);
    put(&mut resources, "cpu", "realtimeRuntime", rt_runtime);
    put(&mut resources, "cpu", "realtimePeriod", rt_period);
    put(&mut resources, "cpu", "cpus", cpus);
    put(&mut resources, "cpu", "mems", mems);
    put(&mut resources, "pids", "limit", pids);
    put(&mut resources, "blockIO", "weight", weight);
    (resources, discarded.0)
}

/// Only what is asked for is written: a runtime may take a written null or zero for a wish.
fn put<T: serde::Serialize>(resources: &mut Value, group: &str, name: &str, value: Option<T>) {
    if let Some(value) = value {
        resources[group][name] = json!(value);
    }
}

struct Discarded(Vec<String>);

impl Discarded {
    /// The value if the host can keep it; otherwise none, and a word if there was one.
    fn unless<T>(&mut self, can: bool, value: Option<T>, ability: &str, what: &str) -> Option<T> {
        if can || value.is_none() {
            return value;
        }
        let text = format!(
            "Your kernel does not support {ability} or the cgroup is not mounted. {}{} discarded.",
            what[..1].to_ascii_uppercase(),
            &what[1..]
        );
        if !self.0.contains(&text) {
            self.0.push(text);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poor() -> HostRights {
        let mut host = HostRights::able();
        host.limits = Default::default();
        host.sys_resource = false;
        host.hard_limits.insert("nofile", 20000);
        host
    }

    #[test]
    fn limits_that_can_be_kept() {
        let asked = Resources {
            memory: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            pids: Some(100),
            cpu_shares: Some(512),
            cpuset_cpus: "0".into(),
            ..Resources::default()
        };
        let (value, warnings) = resources(&asked, &HostRights::able());
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(
            value,
            json!({
                "memory": { "limit": 67108864, "swap": 134217728 },
                "cpu": { "shares": 512, "quota": 150000, "period": 100000, "cpus": "0" },
                "pids": { "limit": 100 },
            })
        );
        let (value, _) =
            resources(&Resources { memory: Some(1 << 20), memory_swap: Some(-1), ..asked }, &HostRights::able());
        assert_eq!(value["memory"], json!({ "limit": 1048576, "swap": -1 }));
    }

    #[test]
    fn nothing_asked_nothing_written() {
        let asked = Resources { pids: Some(-1), memory: Some(0), ..Resources::default() };
        assert_eq!(resources(&asked, &HostRights::able()), (json!({}), vec![]));
        assert_eq!(resources(&asked, &poor()), (json!({}), vec![]));
    }

    #[test]
    fn what_the_host_lacks_is_said_and_left_out() {
        let asked = Resources { memory: Some(1 << 20), blkio_weight: Some(300), ..Resources::default() };
        let (value, warnings) = resources(&asked, &poor());
        assert_eq!(value, json!({}));
        assert_eq!(
            warnings,
            [
                "Your kernel does not support memory limit or the cgroup is not mounted. Memory discarded.",
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
            ]
        );
        let mut host = HostRights::able();
        host.limits.swap = false;
        let (value, warnings) = resources(&asked, &host);
        assert_eq!(value["memory"], json!({ "limit": 1048576 }));
        assert!(warnings[0].ends_with("Memory limited without swap."), "{warnings:?}");
    }

    #[test]
    fn rlimits_are_clamped_aloud() {
        let mut spec = crate::oci::example();
        spec.ulimits.insert("nofile".into(), (30000, 40000));
        spec.ulimits.insert("core".into(), (0, 0));
        let (limits, warnings) = rlimits(&spec, &poor()).unwrap();
        assert_eq!(
            limits,
            [
                json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}),
                json!({"type": "RLIMIT_NOFILE", "soft": 20000, "hard": 20000})
            ]
        );
        assert_eq!(warnings.len(), 1);
        assert!(rlimits(&spec, &HostRights::able()).unwrap().1.is_empty());
        spec.ulimits.insert("shoes".into(), (1, 1));
        assert_eq!(rlimits(&spec, &poor()).unwrap_err().to_string(), "invalid ulimit type: shoes");
    }

    #[test]
    fn the_oom_score_is_clamped_aloud() {
        let mut spec = crate::oci::example();
        let mut host = poor();
        assert_eq!(oom_score_adj(&spec, &host), (0, None));
        host.oom_score_adj = 100;
        assert_eq!(oom_score_adj(&spec, &host), (100, None));
        spec.oom_score_adj = -500;
        assert_eq!(oom_score_adj(&spec, &host).0, 100);
        assert!(oom_score_adj(&spec, &host).1.unwrap().contains("-500"));
        host.sys_resource = true;
        assert_eq!(oom_score_adj(&spec, &host), (-500, None));
    }
}
