//! Rights and namespaces.

use crate::config::Config;
use crate::container::spec::{IpcMode, PidMode, Seccomp, Security};
use crate::error::{Error, Result};
use crate::oci::capabilities::Caps;
use api::{HostConfig, HostConfigCgroupnsModeEnum};
use serde_json::{Map, Value};

/// Capabilities, filters, hidden paths.
pub fn security(host: &HostConfig, config: &Config, warnings: &mut Vec<String>) -> Result<Security> {
    let mut security = Security {
        privileged: host.privileged.unwrap_or(false),
        cap_add: capabilities(host.cap_add.as_deref(), "CapAdd")?,
        cap_drop: capabilities(host.cap_drop.as_deref(), "CapDrop")?,
        no_new_privileges: config.no_new_privileges,
        seccomp: config.seccomp.clone(),
        read_only_root: host.readonly_rootfs.unwrap_or(false),
        masked_paths: host.masked_paths.clone(),
        read_only_paths: host.readonly_paths.clone(),
    };
    if security.privileged {
        security.seccomp = Seccomp::Unconfined;
    }
    for option in host.security_opt.iter().flatten() {
        apply(option, &mut security, warnings)?;
    }
    Ok(security)
}

fn apply(option: &str, security: &mut Security, warnings: &mut Vec<String>) -> Result<()> {
    // The colon is the old spelling.
    let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some((key, value)) => (key, value),
        None if option == "no-new-privileges" => ("no-new-privileges", "true"),
        None => return Err(Error::Invalid(format!("invalid --security-opt 1: {option:?}"))),
    };
    match key {
        "no-new-privileges" => {
            security.no_new_privileges = match value {
                "true" | "1" | "t" => true,
                "false" | "0" | "f" => false,
                _ => return Err(Error::Invalid(format!("invalid --security-opt 2: {option:?}"))),
            };
        }
        "seccomp" => {
            security.seccomp = match value {
                "unconfined" => Seccomp::Unconfined,
                "builtin" | "" => Seccomp::Default,
                profile => {
                    serde_json::from_str::<Map<String, Value>>(profile)
                        .map_err(|error| Error::Invalid(format!("Decoding seccomp profile failed: {error}")))?;
                    Seccomp::Profile(profile.to_owned())
                }
            };
        }
        "apparmor" if value == "unconfined" => {}
        "apparmor" => {
            return Err(Error::Absent(format!("--security-opt {option}: AppArmor profiles are not there yet")));
        }
        "label" if value == "disable" => {}
        "label" => warnings.push(format!("SELinux labels have no effect here: {option}")),
        // Docker's command turns it into empty lists of paths; other clients send it as it is.
        "systempaths" if value == "unconfined" => {
            security.masked_paths = Some(Vec::new());
            security.read_only_paths = Some(Vec::new());
        }
        "writable-cgroups" if matches!(value, "false" | "0") => {}
        "writable-cgroups" => {
            return Err(Error::Absent(format!("--security-opt {option}: writable cgroups are not there yet")));
        }
        _ => return Err(Error::Invalid(format!("invalid --security-opt 2: {option:?}"))),
    }
    Ok(())
}

/// Names without `CAP_`, upper case.
fn capabilities(names: Option<&[String]>, field: &str) -> Result<Vec<String>> {
    let mut bare = Vec::new();
    for name in names.unwrap_or_default() {
        let upper = name.trim().to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
        if short != "ALL" && Caps::named(&short).is_none() {
            return Err(Error::Invalid(format!("invalid {field}: unknown capability: \"CAP_{short}\"")));
        }
        bare.push(short);
    }
    Ok(bare)
}

/// `--pid`
pub fn pid(host: &HostConfig) -> Result<PidMode> {
    match host.pid_mode.as_deref().unwrap_or_default() {
        "" | "private" => Ok(PidMode::Private),
        "host" => Ok(PidMode::Host),
        mode => match mode.strip_prefix("container:") {
            Some(target) if !target.is_empty() => Ok(PidMode::Container(target.to_owned())),
            _ => Err(Error::Invalid(format!("invalid PID mode: {mode}"))),
        },
    }
}

/// `--ipc`
pub fn ipc(host: &HostConfig, config: &Config) -> Result<IpcMode> {
    match host.ipc_mode.as_deref().unwrap_or_default() {
        "" => Ok(config.ipc.clone()),
        "private" => Ok(IpcMode::Private),
        "shareable" => Ok(IpcMode::Shareable),
        "none" => Ok(IpcMode::NoShm),
        "host" => Ok(IpcMode::Host),
        mode => match mode.strip_prefix("container:") {
            Some(target) if !target.is_empty() => Ok(IpcMode::Container(target.to_owned())),
            _ => Err(Error::Invalid(format!("invalid IPC mode: {mode}"))),
        },
    }
}

/// `--uts`
pub fn uts_host(host: &HostConfig) -> Result<bool> {
    match host.uts_mode.as_deref().unwrap_or_default() {
        "" | "private" => Ok(false),
        "host" => Ok(true),
        mode => Err(Error::Invalid(format!("invalid UTS mode: {mode}"))),
    }
}

/// `--cgroupns`; a privileged container sees the host's tree unless it says otherwise.
pub fn cgroupns_host(host: &HostConfig, security: &Security, config: &Config) -> bool {
    match host.cgroupns_mode {
        Some(HostConfigCgroupnsModeEnum::HOST) => true,
        Some(HostConfigCgroupnsModeEnum::PRIVATE) => false,
        _ => security.privileged || config.cgroupns_host,
    }
}
