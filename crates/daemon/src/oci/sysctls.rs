//! Kernel parameters of a container's namespaces.

use super::{HostRights, NetNs};
use crate::container::spec::{IpcMode, NetworkMode, Spec};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// `linux.sysctl`: Docker's defaults, under what the user asks for.
///
/// # Errors
/// [`Error::Invalid`] for one that would change the host's.
pub fn sysctls(spec: &Spec, netns: &NetNs, host: &HostRights) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    // Someone who shares a namespace does not set what belongs to its owner.
    let shares = matches!(spec.network.mode, NetworkMode::Joined(_));
    if matches!(netns, NetNs::Path(_)) && !shares {
        if host.ping_group_range {
            all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
        if host.unprivileged_port_start {
            all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        }
    }
    // runc 1.1 knows no `domainname`; this has the same effect.
    if !spec.domainname.is_empty() && !spec.uts_host {
        all.insert("kernel.domainname".to_owned(), spec.domainname.clone());
    }
    for (name, value) in &spec.sysctls {
        let name = allowed(name, spec, netns)?;
        if !(shares && name.starts_with("net.")) {
            all.insert(name, value.clone());
        }
    }
    Ok(all)
}

/// The name with dots, if it is one of a namespace of the container's own.
fn allowed(name: &str, spec: &Spec, netns: &NetNs) -> Result<String> {
    let dotted = name.replace('/', ".");
    let refuse = |why: &str| Err(Error::Invalid(format!("sysctl \"{name}\" {why}")));
    if dotted.split('.').any(str::is_empty) {
        return refuse("is not a parameter's name");
    }
    if dotted.starts_with("net.") {
        return match netns {
            NetNs::Host => refuse("can't be set since Network Namespace set to host"),
            NetNs::Path(_) => Ok(dotted),
        };
    }
    let ipc = matches!(
        dotted.as_str(),
        "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
    ) || dotted.starts_with("fs.mqueue.");
    if ipc {
        return match spec.ipc {
            IpcMode::Host => refuse("can't be set since IPC Namespace set to host"),
            _ => Ok(dotted),
        };
    }
    if dotted == "kernel.domainname" {
        return if spec.uts_host { refuse("can't be set since UTS Namespace set to host") } else { Ok(dotted) };
    }
    refuse("is not in a separate kernel namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(netns: &NetNs, sysctls: &[(&str, &str)], tweak: impl Fn(&mut Spec), want: &str) {
        let mut spec = crate::oci::example();
        spec.sysctls = sysctls.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        tweak(&mut spec);
        let got = match super::sysctls(&spec, netns, &HostRights::able()) {
            Ok(all) => all.iter().map(|(a, b)| format!("{a}={b}")).collect::<Vec<_>>().join("; "),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn defaults_and_refusals() {
        let own = NetNs::Path("/run/x".into());
        let both = "net.ipv4.ip_unprivileged_port_start=0; net.ipv4.ping_group_range=0 2147483647";
        check(&own, &[], |_| {}, both);
        check(&NetNs::Host, &[], |_| {}, "");
        let net = ("net.core.somaxconn", "1");
        check(&own, &[net], |spec| spec.network.mode = NetworkMode::Joined("x".into()), "");
        check(
            &own,
            &[("net.ipv4.ip_unprivileged_port_start", "1024")],
            |_| {},
            "net.ipv4.ip_unprivileged_port_start=1024; net.ipv4.ping_group_range=0 2147483647",
        );
        check(&NetNs::Host, &[("kernel.msgmax", "1")], |_| {}, "kernel.msgmax=1");
        check(&NetNs::Host, &[], |spec| spec.domainname = "example.com".into(), "kernel.domainname=example.com");
        check(
            &NetNs::Host,
            &[("net.core.somaxconn", "1")],
            |_| {},
            "sysctl \"net.core.somaxconn\" can't be set since Network Namespace set to host",
        );
        check(
            &own,
            &[("fs.mqueue.msg_max", "1")],
            |spec| spec.ipc = IpcMode::Host,
            "sysctl \"fs.mqueue.msg_max\" can't be set since IPC Namespace set to host",
        );
        check(
            &own,
            &[("vm.swappiness", "1")],
            |_| {},
            "sysctl \"vm.swappiness\" is not in a separate kernel namespace",
        );
        check(&own, &[("net..x", "1")], |_| {}, "sysctl \"net..x\" is not a parameter's name");
    }
}
