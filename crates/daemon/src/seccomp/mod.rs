//! The filter of system calls (`linux.seccomp` of the OCI runtime specification): the default one, or the user's in
//! Docker's profile format.
//!
//! In reading order:

/// The default filter's rules.
mod default;
/// Docker's profile format.
mod format;

use crate::container::spec::{Seccomp, Security};
use crate::error::{Error, Result};
use crate::oci::HostRights;
use crate::oci::capabilities::Caps;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

const EPERM: u32 = 1;

/// What happens on a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Action {
    #[default]
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    LessThan,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    EqualTo,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    GreaterThan,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A condition on an argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Op,
}

/// When a rule counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<(u32, u32)>,
}

/// Some calls, and what happens on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    names: Vec<Cow<'static, str>>,
    action: Action,
    errno: Option<u32>,
    args: Vec<Arg>,
    /// All of these must hold.
    includes: Filter,
    /// None of these may hold.
    excludes: Filter,
}

/// A whole profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Profile {
    default_action: Action,
    default_errno: Option<u32>,
    architectures: Vec<String>,
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    rules: Vec<Rule>,
}

/// The filter for a container with these rights and this bounding set; `None` is no filter.
///
/// # Errors
/// [`Error::Invalid`], `Decoding seccomp profile failed: …`, for a profile of the user's that cannot be read.
pub fn filter(security: &Security, caps: Caps, host: &HostRights) -> Result<Option<Value>> {
    // As Docker: a privileged container is never filtered by the default, but a profile of the user's counts.
    let profile = match &security.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if security.privileged || !host.seccomp => return Ok(None),
        Seccomp::Default => default_profile(),
        Seccomp::Profile(_) if !host.seccomp => {
            return Err(Error::Invalid(
                "seccomp is not enabled in your kernel, cannot run a custom seccomp profile".into(),
            ));
        }
        Seccomp::Profile(text) => format::parse(text, arch())?,
    };
    Ok(Some(profile.to_oci(caps, host.kernel, arch())))
}

fn default_profile() -> Profile {
    Profile {
        default_action: Action::Errno,
        default_errno: Some(EPERM),
        architectures: architectures(arch()).iter().map(|name| (*name).to_owned()).collect(),
        rules: default::rules(),
        ..Profile::default()
    }
}

/// The processor, by the name that Docker's profiles have for it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The native instruction set and those that the same kernel also serves.
fn architectures(arch: &str) -> &'static [&'static str] {
    match arch {
        "amd64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "arm64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "loong64" => &["SCMP_ARCH_LOONGARCH64"],
        // An empty list is the native one.
        _ => &[],
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    fn has_arch(&self, arch: &str) -> bool {
        self.arches.iter().any(|other| other == arch)
    }

    /// As a condition to be met: every capability, one of the processors, the kernel.
    fn holds(&self, caps: Caps, kernel: (u32, u32), arch: &str) -> bool {
        (self.arches.is_empty() || self.has_arch(arch))
            && self.caps.iter().all(|cap| caps.has(cap))
            && self.min_kernel.is_none_or(|least| kernel >= least)
    }

    /// As a reason to leave out: any capability, any of the processors, or the kernel.
    fn strikes(&self, caps: Caps, kernel: (u32, u32), arch: &str) -> bool {
        self.has_arch(arch)
            || self.caps.iter().any(|cap| caps.has(cap))
            || self.min_kernel.is_some_and(|least| kernel >= least)
    }
}

impl Profile {
    fn to_oci(&self, caps: Caps, kernel: (u32, u32), arch: &str) -> Value {
        let counts = |rule: &&Rule| {
            rule.includes.holds(caps, kernel, arch)
                && (rule.excludes.is_empty() || !rule.excludes.strikes(caps, kernel, arch))
        };
        let syscalls: Vec<Value> = self.rules.iter().filter(counts).map(Rule::to_oci).collect();
        let mut all = json!({ "defaultAction": self.default_action, "syscalls": syscalls });
        if let Some(errno) = self.default_errno {
            all["defaultErrnoRet"] = json!(errno);
        }
        if !self.architectures.is_empty() {
            all["architectures"] = json!(self.architectures);
        }
        if !self.flags.is_empty() {
            all["flags"] = json!(self.flags);
        }
        if let Some(path) = &self.listener_path {
            all["listenerPath"] = json!(path);
        }
        if let Some(metadata) = &self.listener_metadata {
            all["listenerMetadata"] = json!(metadata);
        }
        all
    }
}

impl Rule {
    fn to_oci(&self) -> Value {
        let mut all = json!({ "names": self.names, "action": self.action });
        if let Some(errno) = self.errno {
            all["errnoRet"] = json!(errno);
        }
        if !self.args.is_empty() {
            all["args"] = json!(self.args);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the default filter does with a call, as `allow`, `allow if …`, `errno N` or `default`.
    fn verdict(call: &str, caps: Caps) -> String {
        let filter = default_profile().to_oci(caps, (6, 1), "amd64");
        let rules = filter["syscalls"].as_array().unwrap().iter();
        let hits: Vec<String> = rules
            .filter(|rule| rule["names"].as_array().unwrap().iter().any(|name| name == call))
            .map(|rule| match (rule["action"].as_str().unwrap(), rule.get("args"), rule.get("errnoRet")) {
                ("SCMP_ACT_ALLOW", None, None) => "allow".to_owned(),
                ("SCMP_ACT_ALLOW", Some(args), None) => {
                    format!("allow if {} {}", args[0]["op"].as_str().unwrap(), args[0]["value"])
                }
                (_, None, Some(errno)) => format!("errno {errno}"),
                other => panic!("{other:?}"),
            })
            .collect();
        if hits.is_empty() { "default".into() } else { hits.join(", ") }
    }

    #[test]
    fn the_default_filter() {
        let usual = Caps::default_set();
        let admin = usual.with(Caps::named("SYS_ADMIN").unwrap());
        for (call, caps, want) in [
            ("read", usual, "allow"),
            ("chroot", usual, "allow"),
            ("ptrace", usual, "allow"),
            ("arch_prctl", usual, "allow"),
            ("swapcontext", usual, "default"),
            ("unshare", usual, "default"),
            ("unshare", admin, "allow"),
            ("mount", usual, "default"),
            ("mount", admin, "allow"),
            ("keyctl", admin, "default"),
            ("io_uring_setup", admin, "default"),
            ("userfaultfd", admin, "default"),
            ("bpf", usual, "default"),
            ("bpf", usual.with(Caps::named("BPF").unwrap()), "allow"),
            ("clone3", usual, "errno 38"),
            ("clone3", admin, "allow"),
            ("clone", usual, "allow if SCMP_CMP_MASKED_EQ 2114060288"),
            ("clone", admin, "allow"),
            ("socket", admin, "allow if SCMP_CMP_LT 38, allow if SCMP_CMP_EQ 39, allow if SCMP_CMP_GT 40"),
        ] {
            assert_eq!(verdict(call, caps), want, "{call}");
        }
    }

    #[test]
    fn no_call_stands_twice_without_a_condition() {
        let filter = default_profile().to_oci(Caps::up_to(40), (6, 1), "amd64");
        let always = filter["syscalls"][0]["names"].as_array().unwrap();
        let mut names: Vec<&str> = always.iter().filter_map(Value::as_str).collect();
        let count = names.len();
        assert!(count > 350, "{count}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn who_is_filtered() {
        let host = HostRights::able();
        let is_filtered = |privileged, seccomp| {
            let security = Security { privileged, seccomp, ..Security::default() };
            filter(&security, Caps::default_set(), &host).unwrap().is_some()
        };
        let profile = || Seccomp::Profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.into());
        assert!(is_filtered(false, Seccomp::Default));
        assert!(!is_filtered(true, Seccomp::Default));
        assert!(!is_filtered(false, Seccomp::Unconfined));
        assert!(is_filtered(true, profile()));
    }
}
