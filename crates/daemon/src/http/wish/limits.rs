//! Memory, processors, processes, devices: checked as Docker checks them.

use crate::config::{Config, options};
use crate::container::spec::{Device, Resources};
use crate::error::{Error, Result};
use api::{ContainerUpdateBody, HostConfig};
use std::collections::BTreeMap;

/// Docker's least memory limit.
const MEMORY_MIN: i64 = 6 << 20;

/// The limits of a request to make or to change a container: both have the same fields.
#[derive(Default)]
pub struct Asked {
    memory: Option<i64>,
    memory_swap: Option<i64>,
    memory_reservation: Option<i64>,
    memory_swappiness: Option<i64>,
    oom_kill_disable: bool,
    nano_cpus: Option<i64>,
    cpu_shares: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_period: Option<i64>,
    cpu_rt_runtime: Option<i64>,
    cpu_rt_period: Option<i64>,
    cpuset_cpus: String,
    cpuset_mems: String,
    pids: Option<i64>,
    blkio_weight: Option<u16>,
    devices: Vec<api::DeviceMapping>,
    device_rules: Vec<String>,
}

macro_rules! asked_from {
    ($wire:ty) => {
        impl From<&$wire> for Asked {
            fn from(wire: &$wire) -> Asked {
                // Docker's zero is "not said".
                let said = |value: Option<i64>| value.filter(|value| *value != 0);
                Asked {
                    memory: said(wire.memory),
                    memory_swap: said(wire.memory_swap),
                    memory_reservation: said(wire.memory_reservation),
                    memory_swappiness: wire.memory_swappiness.filter(|value| *value != -1),
                    oom_kill_disable: wire.oom_kill_disable.unwrap_or(false),
                    nano_cpus: said(wire.nano_cpus),
                    cpu_shares: said(wire.cpu_shares),
                    cpu_quota: said(wire.cpu_quota),
                    cpu_period: said(wire.cpu_period),
                    cpu_rt_runtime: said(wire.cpu_realtime_runtime),
                    cpu_rt_period: said(wire.cpu_realtime_period),
                    cpuset_cpus: wire.cpuset_cpus.clone().unwrap_or_default(),
                    cpuset_mems: wire.cpuset_mems.clone().unwrap_or_default(),
                    pids: said(wire.pids_limit),
                    blkio_weight: wire.blkio_weight.filter(|weight| *weight != 0),
                    devices: wire.devices.clone().unwrap_or_default(),
                    device_rules: wire.device_cgroup_rules.clone().unwrap_or_default(),
                }
            }
        }
    };
}

impl Asked {
    /// These over what a container has: what is not said stays.
    pub fn over(&self, have: &Resources) -> Asked {
        let number = |new: Option<i64>, old: Option<u64>| new.or_else(|| old.and_then(|old| i64::try_from(old).ok()));
        let text = |new: &str, old: &str| if new.is_empty() { old.to_owned() } else { new.to_owned() };
        Asked {
            memory: self.memory.or(have.memory),
            memory_swap: self.memory_swap.or(have.memory_swap),
            memory_reservation: self.memory_reservation.or(have.memory_reservation),
            memory_swappiness: number(self.memory_swappiness, have.memory_swappiness),
            oom_kill_disable: self.oom_kill_disable,
            nano_cpus: self.nano_cpus.or(have.nano_cpus),
            cpu_shares: number(self.cpu_shares, have.cpu_shares),
            cpu_quota: self.cpu_quota.or(have.cpu_quota),
            cpu_period: number(self.cpu_period, have.cpu_period),
            cpu_rt_runtime: self.cpu_rt_runtime.or(have.cpu_rt_runtime),
            cpu_rt_period: number(self.cpu_rt_period, have.cpu_rt_period),
            cpuset_cpus: text(&self.cpuset_cpus, &have.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems, &have.cpuset_mems),
            pids: self.pids.or(have.pids),
            blkio_weight: self.blkio_weight.or(have.blkio_weight),
            devices: Vec::new(),
            device_rules: Vec::new(),
        }
    }
}

asked_from!(HostConfig);
asked_from!(ContainerUpdateBody);

/// Checked limits. `cpus` is how many processors the host has.
///
/// # Errors
/// Out of range or contradictory, in Docker's words.
pub fn resources(asked: &Asked, cpus: usize, warnings: &mut Vec<String>) -> Result<Resources> {
    memory(asked, warnings)?;
    cpu(asked, cpus)?;
    if let Some(weight) = asked.blkio_weight.filter(|weight| !(10..=1000).contains(weight)) {
        return Err(Error::Invalid(format!("Range of blkio weight is from 10 to 1000, not {weight}")));
    }
    if let Some(pids) = asked.pids.filter(|pids| *pids < -1) {
        return Err(Error::Invalid(format!("Invalid value {pids} for the pids limit: it is above 0, or -1 for none")));
    }
    let positive = |value: Option<i64>, what: &str| match value {
        None => Ok(None),
        Some(value) => u64::try_from(value)
            .map(Some)
            .map_err(|_| Error::Invalid(format!("invalid {what} ({value}): value must be a positive integer"))),
    };
    Ok(Resources {
        memory: asked.memory,
        memory_swap: asked.memory_swap,
        memory_reservation: asked.memory_reservation,
        memory_swappiness: positive(asked.memory_swappiness, "memory swappiness")?,
        oom_kill_disable: asked.oom_kill_disable,
        nano_cpus: asked.nano_cpus,
        cpu_shares: positive(asked.cpu_shares, "CPU shares")?,
        cpu_quota: asked.cpu_quota,
        cpu_period: positive(asked.cpu_period, "CPU period")?,
        cpu_rt_runtime: asked.cpu_rt_runtime,
        cpu_rt_period: positive(asked.cpu_rt_period, "CPU real-time period")?,
        cpuset_cpus: asked.cpuset_cpus.clone(),
        cpuset_mems: asked.cpuset_mems.clone(),
        pids: asked.pids,
        blkio_weight: asked.blkio_weight,
        devices: asked.devices.iter().map(device).collect::<Result<_>>()?,
        device_rules: asked.device_rules.clone(),
    })
}

fn memory(asked: &Asked, warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |text: &str| Err(Error::Invalid(text.into()));
    let (memory, swap) = (asked.memory, asked.memory_swap);
    if memory.is_some_and(|memory| memory < MEMORY_MIN) {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    match (memory, swap) {
        (None, Some(swap)) if swap > 0 => {
            return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        (Some(memory), Some(swap)) if swap > 0 && swap < memory => {
            return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
        }
        (_, Some(swap)) if swap < -1 => {
            return Err(Error::Invalid(format!("Invalid value {swap} for the memoryswap limit: -1 is without limit")));
        }
        _ => {}
    }
    if let Some(value) = asked.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
        return Err(Error::Invalid(format!("Invalid value: {value}, valid memory swappiness range is 0-100")));
    }
    if let Some(reservation) = asked.memory_reservation {
        if reservation < MEMORY_MIN {
            return refuse("Minimum memory reservation allowed is 6MB");
        }
        if memory.is_some_and(|memory| memory < reservation) {
            return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
        }
    }
    if asked.oom_kill_disable && memory.is_none() {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running \
             out of resources."
                .into(),
        );
    }
    Ok(())
}

fn cpu(asked: &Asked, cpus: usize) -> Result<()> {
    let refuse = |text: &str| Err(Error::Invalid(text.into()));
    if let Some(nano) = asked.nano_cpus {
        if asked.cpu_period.is_some() {
            return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if asked.cpu_quota.is_some() {
            return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        let most = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        if !(0..=most).contains(&nano) {
            return Err(Error::Invalid(format!(
                "Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )));
        }
    }
    if asked.cpu_period.is_some_and(|period| !(1000..=1_000_000).contains(&period)) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if asked.cpu_quota.is_some_and(|quota| (1..1000).contains(&quota)) {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if let (Some(runtime), Some(period)) = (asked.cpu_rt_runtime, asked.cpu_rt_period)
        && runtime > period
    {
        return refuse("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    for (text, what) in [(&asked.cpuset_cpus, "cpus"), (&asked.cpuset_mems, "mems")] {
        let invalid = || Error::Invalid(format!("Invalid value {text} for cpuset {what}"));
        let highest = highest(text).ok_or_else(invalid)?;
        if what == "cpus" && highest.is_some_and(|highest| highest >= cpus) {
            return Err(Error::Invalid(format!(
                "Requested CPUs are not available - requested {text}, available: 0-{}",
                cpus.saturating_sub(1)
            )));
        }
    }
    Ok(())
}

/// The highest number of a set such as `0-2,4`; `None`: it is no set.
fn highest(set: &str) -> Option<Option<usize>> {
    if set.is_empty() {
        return Some(None);
    }
    let mut highest = 0;
    for part in set.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if from > to || to > 8191 {
            return None;
        }
        highest = highest.max(to);
    }
    Some(Some(highest))
}

fn device(wire: &api::DeviceMapping) -> Result<Device> {
    let host = wire.path_on_host.clone().unwrap_or_default();
    let inner = wire.path_in_container.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| host.clone());
    let access = wire.cgroup_permissions.clone().filter(|access| !access.is_empty()).unwrap_or_else(|| "rwm".into());
    if !host.starts_with('/') || !inner.starts_with('/') {
        return Err(Error::Invalid(format!("invalid device {host:?}:{inner:?}: both are absolute paths")));
    }
    Ok(Device { host: host.into(), inner, access })
}

/// The engine's default rlimits under the request's.
pub fn ulimits(host: &HostConfig, config: &Config) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut limits = config.ulimits.clone();
    for limit in host.ulimits.iter().flatten() {
        let name = limit.name.clone().unwrap_or_default();
        let (soft, hard) = (limit.soft.unwrap_or(0), limit.hard.unwrap_or(0));
        let checked = options::ulimit(&name, soft, hard)?;
        limits.insert(name, checked);
    }
    Ok(limits)
}

/// -1000 to 1000.
pub fn oom_score_adj(host: &HostConfig) -> Result<i32> {
    let score = host.oom_score_adj.unwrap_or(0);
    let fits = i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score));
    fits.ok_or_else(|| Error::Invalid(format!("Invalid value {score}, range for oom score adj is [-1000, 1000]")))
}
