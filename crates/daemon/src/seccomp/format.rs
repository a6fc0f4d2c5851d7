//! Docker's profile format: the OCI runtime specification's, with rules that count only for some capabilities, processors
//! and kernels.

use super::{Action, Arg, Filter, Profile, Rule};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    #[serde(alias = "arch")]
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Reads a profile for this processor.
///
/// # Errors
/// [`Error::Invalid`] with `Decoding seccomp profile failed: …`.
pub fn parse(text: &str, arch: &str) -> Result<Profile> {
    let failed = |why: &dyn std::fmt::Display| Error::Invalid(format!("Decoding seccomp profile failed: {why}"));
    let file: File = serde_json::from_str(text).map_err(|error| failed(&error))?;
    let given = file.architectures.filter(|list| !list.is_empty());
    let map = file.arch_map.filter(|list| !list.is_empty());
    let architectures = match (given, map) {
        (Some(_), Some(_)) => {
            return Err(failed(
                &"both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
            ));
        }
        (Some(list), None) => list,
        (None, Some(map)) => mapped(map, arch),
        (None, None) => Vec::new(),
    };
    let mut rules = Vec::new();
    for call in file.syscalls.unwrap_or_default() {
        let names = match (call.name.filter(|name| !name.is_empty()), call.names.filter(|list| !list.is_empty())) {
            (Some(_), Some(_)) => {
                return Err(failed(
                    &"both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
                ));
            }
            (Some(name), None) => vec![name],
            (None, Some(names)) => names,
            (None, None) => return Err(failed(&"a rule without 'names'")),
        };
        rules.push(Rule {
            names: names.into_iter().map(Cow::Owned).collect(),
            action: call.action,
            errno: call.errno_ret,
            args: call.args.unwrap_or_default(),
            includes: condition(call.includes).map_err(|why| failed(&why))?,
            excludes: condition(call.excludes).map_err(|why| failed(&why))?,
        });
    }
    Ok(Profile {
        default_action: file.default_action,
        default_errno: file.default_errno_ret,
        architectures,
        flags: file.flags.unwrap_or_default(),
        listener_path: file.listener_path,
        listener_metadata: file.listener_metadata,
        rules,
    })
}

/// The line of the map that is about this processor.
fn mapped(map: Vec<ArchMap>, arch: &str) -> Vec<String> {
    let native = super::architectures(arch).first().copied().unwrap_or("");
    let line = map.into_iter().find(|line| line.architecture == native);
    line.map(|line| std::iter::once(line.architecture).chain(line.sub_architectures.unwrap_or_default()).collect())
        .unwrap_or_default()
}

fn condition(given: Option<Condition>) -> std::result::Result<Filter, String> {
    let given = given.unwrap_or_default();
    let version = |text: String| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let min_kernel =
        match given.min_kernel.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(version(text.clone()).ok_or_else(|| {
                format!("invalid kernel version {text:?}: expected \"<kernel>.<major>\", as in \"4.8\"")
            })?),
        };
    Ok(Filter { caps: given.caps.unwrap_or_default(), arches: given.arches.unwrap_or_default(), min_kernel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::capabilities::Caps;
    use serde_json::json;

    #[test]
    fn a_profile_is_read() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "archMap": [
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
            ],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
                {"name": "mount", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"names": ["old"], "action": "SCMP_ACT_LOG", "excludes": {"minKernel": "4.8"}},
                {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
                 "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
            ]}"#;
        let profile = parse(text, "amd64").unwrap();
        assert_eq!(
            profile.to_oci(Caps::default_set(), (5, 10), "amd64"),
            json!({
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [
                    {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                     "args": [{"index": 0, "value": 2114060288u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
                    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
                ]
            })
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "EOF while parsing"),
            ("{}", "missing field `defaultAction`"),
            (r#"{"defaultAction":"SCMP_ACT_FLY"}"#, "unknown variant `SCMP_ACT_FLY`"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["A"],"archMap":[{"architecture":"B"}]}"#,
                "both 'architectures' and 'archMap' are specified",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
                "both 'name' and 'names' are specified",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}"#,
                "a rule without 'names'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4"}}]}"#,
                "invalid kernel version \"4\"",
            ),
        ] {
            let error = parse(text, "amd64").unwrap_err().to_string();
            assert!(error.starts_with("Decoding seccomp profile failed: ") && error.contains(why), "{error}");
        }
    }
}
