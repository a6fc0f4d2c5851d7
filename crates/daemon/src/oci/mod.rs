//! From a container as asked for to what an OCI runtime reads (OCI runtime specification 1.0.2), following what Docker
//! puts there; the same words work for runc and for libcontainer.
//!
//! In reading order:

/// Linux capabilities: which a container gets, and which the engine cannot give.
pub mod capabilities;
/// The host's control groups, and one container's place in them.
pub mod cgroup;
/// Device nodes in a container, and which the control group lets it use.
mod devices;
/// Limits of processes and of the control group, as far as this host can keep them.
mod limits;
/// Everything mounted into a container, and its namespaces.
mod mounts;
/// The container's program, and one more in it.
mod process;
/// What the engine may do on this host, and what the host can do.
pub mod rights;
/// Kernel parameters of a container's namespaces.
mod sysctls;

pub use limits::resources;
pub use mounts::clean;
pub use process::Program;
pub use rights::HostRights;

use crate::container::Container;
use crate::container::spec::{PidMode, Spec};
use crate::error::Result;
use crate::{seccomp, users};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where the container's network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetNs {
    /// The host's own.
    Host,
    /// A pinned network namespace.
    Path(PathBuf),
}

/// What is shared with another container (`/proc/PID/ns/…`), where the container asks for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Its processes.
    pub pid: Option<PathBuf>,
    /// Its System V objects and message queues.
    pub ipc: Option<PathBuf>,
    /// Its names.
    pub uts: Option<PathBuf>,
    /// A directory of the host's that becomes `/dev/shm`: another container's, or the own one where others may join.
    pub shm: Option<PathBuf>,
}

/// All that a bundle is made of.
pub struct Inputs<'a> {
    /// The container; its mounts are resolved.
    pub container: &'a Container,
    /// Its network.
    pub netns: NetNs,
    /// The engine's file for `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// … for `/etc/hostname`.
    pub hostname_file: Option<PathBuf>,
    /// … for `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// Who it runs as.
    pub user: &'a users::Resolved,
    /// Its control group: absolute, the same below every tree.
    pub cgroup_path: &'a str,
    /// What is shared with another container.
    pub joined: Joined,
    /// What the engine may do.
    pub host: &'a HostRights,
    /// Its root file system, relative to the bundle or absolute.
    pub rootfs: &'a str,
    /// Its hostname.
    pub hostname: &'a str,
    /// The variables of legacy links.
    pub link_env: &'a [String],
}

/// `config.json`, and a warning line for each thing asked for that this host cannot do.
///
/// # Errors
/// A refusal for what is asked for and cannot be; a fault where the host cannot be read.
pub fn bundle(input: &Inputs) -> Result<(Value, Vec<String>)> {
    let spec = &input.container.spec;
    let mut warnings = concessions(spec, input.host)?;
    let mut argv = spec.argv.clone();
    if spec.init && spec.pid == PidMode::Private {
        argv.splice(0..0, [mounts::INIT.to_owned(), "--".to_owned()]);
    }
    let program = Program {
        spec,
        user: input.user,
        argv,
        env: &[],
        link_env: input.link_env,
        hostname: input.hostname,
        workdir: None,
        tty: spec.tty,
        privileged: false,
        host: input.host,
    };
    let (nodes, rules) = devices::devices(spec)?;
    let mut resources = limits::resources(&spec.resources, input.host).0;
    resources["devices"] = Value::Array(rules);
    let (masked, read_only) = mounts::hidden(input);
    let mut linux = json!({
        "namespaces": mounts::namespaces(input),
        "cgroupsPath": input.cgroup_path,
        "resources": resources,
        "devices": nodes,
        "sysctl": sysctls::sysctls(spec, &input.netns, input.host)?,
        "maskedPaths": masked,
        "readonlyPaths": read_only,
    });
    let mounted = mounts::mounts(input)?;
    warnings.extend(mounted.warnings);
    if let Some(propagation) = mounted.root_propagation {
        linux["rootfsPropagation"] = json!(propagation);
    }
    if let Some(filter) = filter(spec, input.host)? {
        linux["seccomp"] = filter;
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": program.to_oci()?,
        "root": { "path": input.rootfs, "readonly": spec.security.read_only_root },
        "mounts": mounted.list,
        "linux": linux,
    });
    if !spec.uts_host && input.joined.uts.is_none() {
        config["hostname"] = json!(input.hostname);
    }
    if !spec.annotations.is_empty() {
        config["annotations"] = json!(spec.annotations);
    }
    Ok((config, warnings))
}

/// A warning line for each thing asked for that this host cannot do. What is not said here is done as asked, or refused:
/// so this is also the check of a new container's rights, limits, devices and filter.
///
/// # Errors
/// A refusal for what cannot be at all.
pub fn concessions(spec: &Spec, host: &HostRights) -> Result<Vec<String>> {
    let missing = capabilities::granted(&spec.security, host.known, host.bounding)?.missing;
    let mut warnings = Vec::new();
    if !missing.is_empty() {
        warnings.push(format!("The engine itself lacks {}; the container does without.", missing.names().join(", ")));
    }
    warnings.extend(limits::rlimits(spec, host)?.1);
    warnings.extend(limits::oom_score_adj(spec, host).1);
    warnings.extend(limits::resources(&spec.resources, host).1);
    devices::devices(spec)?;
    filter(spec, host)?;
    Ok(warnings)
}

fn filter(spec: &Spec, host: &HostRights) -> Result<Option<Value>> {
    let caps = capabilities::granted(&spec.security, host.known, host.bounding)?.caps;
    seccomp::filter(&spec.security, caps, host)
}

/// A container of which nothing special was asked.
#[cfg(test)]
pub(crate) fn example() -> Spec {
    use crate::container::spec::*;
    Spec {
        image: "busybox".into(),
        argv: vec!["true".into()],
        entrypoint_len: 0,
        env: vec![],
        workdir: "/".into(),
        user: String::new(),
        group_add: vec![],
        hostname: None,
        domainname: String::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        labels: Default::default(),
        stop_signal: 15,
        stop_timeout: None,
        restart: Restart::No,
        auto_remove: false,
        health: None,
        network: NetworkSpec::default(),
        mounts: vec![],
        security: Security::default(),
        resources: Resources::default(),
        ulimits: Default::default(),
        sysctls: Default::default(),
        oom_score_adj: 0,
        pid: PidMode::Private,
        ipc: IpcMode::Private,
        uts_host: false,
        cgroupns_host: false,
        console_size: None,
        shm_size: 64 << 20,
        cgroup_parent: None,
        init: false,
        log: LogSpec::Nowhere,
        runtime: None,
        annotations: Default::default(),
    }
}
