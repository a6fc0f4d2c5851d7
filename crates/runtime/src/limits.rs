use anyhow::{Context, bail};
use caps::{CapSet, Capability};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::str::FromStr;

/// The five capability sets of a process, as the OCI configuration names them. A set that is left out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// What may ever be had.
    pub bounding: BTreeSet<u8>,
    /// What is in force.
    pub effective: BTreeSet<u8>,
    /// What may be put in force.
    pub permitted: BTreeSet<u8>,
    /// What files may give on.
    pub inheritable: BTreeSet<u8>,
    /// What survives exec without files.
    pub ambient: BTreeSet<u8>,
}

impl Privileges {
    /// Reads `process.capabilities`. Without it all sets are empty.
    pub fn of(process: &Value) -> anyhow::Result<Privileges> {
        let set = |name: &str| -> anyhow::Result<BTreeSet<u8>> {
            let names = process["capabilities"][name].as_array().map_or(&[][..], Vec::as_slice);
            names
                .iter()
                .map(|cap| {
                    let name = cap.as_str().unwrap_or_default().to_ascii_uppercase();
                    let known = Capability::from_str(&name);
                    Ok(known.map_err(|_| anyhow::anyhow!("process.capabilities: unknown capability {cap}"))?.index())
                })
                .collect()
        };
        Ok(Privileges {
            bounding: set("bounding")?,
            effective: set("effective")?,
            permitted: set("permitted")?,
            inheritable: set("inheritable")?,
            ambient: set("ambient")?,
        })
    }

    /// Refuses what this process could not give, before half a container is made.
    pub fn check(&self) -> anyhow::Result<()> {
        let ours = caps::read(None, CapSet::Bounding).context("reading the own capability bounding set")?;
        let ours: BTreeSet<u8> = ours.iter().map(Capability::index).collect();
        let asked = self.bounding.union(&self.permitted).copied().collect::<BTreeSet<u8>>();
        let missing: Vec<String> = asked.difference(&ours).map(|cap| name(*cap)).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            bail!(
                "the container asks for {missing}, which this host's root does not have itself (capability bounding set): leave it out"
            );
        }
        Ok(())
    }
}

fn name(cap: u8) -> String {
    caps::all()
        .into_iter()
        .find(|known| known.index() == cap)
        .map_or_else(|| format!("capability {cap}"), |known| known.to_string())
}

/// Refuses hard limits that could not be raised.
pub fn check_rlimits(process: &Value) -> anyhow::Result<()> {
    for rlimit in process["rlimits"].as_array().into_iter().flatten() {
        let kind = rlimit["type"].as_str().unwrap_or_default();
        let (Some(resource), Some(hard)) = (resource(kind), rlimit["hard"].as_u64()) else { continue };
        let (soft, ours) = (rlimit["soft"].as_u64().unwrap_or(0), getrlimit(resource).maximum.unwrap_or(u64::MAX));
        if soft > hard {
            bail!("{kind}: the soft limit {soft} is above the hard limit {hard}");
        }
        if hard > ours && !may(Capability::CAP_SYS_RESOURCE) {
            bail!(
                "{kind}: the hard limit {hard} is above this host's {ours}, and raising it needs CAP_SYS_RESOURCE, which this host's root does not have"
            );
        }
    }
    Ok(())
}

fn resource(kind: &str) -> Option<Resource> {
    Some(match kind {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

fn may(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Sets `process.oomScoreAdj` on this process: what it forks inherits it. libcontainer would do the same and fail with less
/// of an explanation.
pub fn set_oom_score(process: &Value) -> anyhow::Result<()> {
    let Some(score) = process["oomScoreAdj"].as_i64() else { return Ok(()) };
    fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES) => anyhow::anyhow!(
            "oomScoreAdj {score} is below what this process has, and lowering it needs CAP_SYS_RESOURCE, which this host's root does not have"
        ),
        _ => anyhow::anyhow!("oomScoreAdj {score}: {error} (it must lie between -1000 and 1000)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sets_left_out_are_empty_and_unknown_names_are_told() {
        let some = Privileges::of(&json!({ "capabilities": { "bounding": ["CAP_CHOWN", "cap_kill"] } })).unwrap();
        assert_eq!(some.bounding, BTreeSet::from([0, 5]));
        assert_eq!(some, Privileges { bounding: some.bounding.clone(), ..Privileges::default() });
        assert_eq!(Privileges::of(&json!({})).unwrap(), Privileges::default());
        let error = Privileges::of(&json!({ "capabilities": { "ambient": ["CAP_FLY"] } })).unwrap_err().to_string();
        assert_eq!(error, "process.capabilities: unknown capability \"CAP_FLY\"");
    }

    #[test]
    fn a_soft_limit_above_its_hard_one_is_refused() {
        let process = json!({ "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 20, "hard": 10 }] });
        let error = check_rlimits(&process).unwrap_err().to_string();
        assert_eq!(error, "RLIMIT_NOFILE: the soft limit 20 is above the hard limit 10");
    }
}
