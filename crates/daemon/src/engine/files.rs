//! The files by which a container knows names: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`. They lie in its state
//! directory and are mounted into it, so that a user's edits live as long as the container runs.

use super::Engine;
use crate::container::Container;
use crate::container::spec::{HostAddr, NetworkMode};
use crate::error::{Error, Result};
use crate::rewrite::rewrite;
use plan::names;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where they are.
pub(super) struct NameFiles {
    pub hosts: Option<PathBuf>,
    pub hostname: Option<PathBuf>,
    pub resolv: Option<PathBuf>,
    /// The host name of the UTS namespace.
    pub own_name: String,
}

impl Engine {
    /// Writes a container's name files, or names those of the container whose sandbox it joins.
    pub(super) fn name_files(&self, container: &Container, joined_to: Option<&Container>) -> Result<NameFiles> {
        if let Some(target) = joined_to {
            let dir = self.state_dir(&target.id);
            return Ok(NameFiles {
                hosts: Some(dir.join("hosts")),
                hostname: Some(dir.join("hostname")),
                resolv: Some(dir.join("resolv.conf")),
                own_name: self.host_name_of(target),
            });
        }
        let dir = self.state_dir(&container.id);
        let spec = &container.spec.network;
        let open = spec.mode == NetworkMode::Open;
        let own_name = self.host_name_of(container);
        let endpoints = self.place_of_kept(container);
        let extra = self.extra_hosts(container)?;
        let hosts = if open {
            let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            names::hosts_of_open(&host, &extra)
        } else {
            let own: Vec<IpAddr> = endpoints.iter().flat_map(|(endpoint, _)| endpoint.addrs()).collect();
            names::hosts(&names::Hosts {
                ipv6: Path::new("/proc/sys/net/ipv6").exists(),
                extra: &extra,
                links: &self.link_lines(container),
                own: &own,
                hostname: &own_name,
                domainname: &container.spec.domainname,
            })
        };
        let wished = names::Overrides {
            servers: spec.dns.clone(),
            search: spec.dns_search.clone(),
            options: spec.dns_options.clone(),
        };
        let daemons = names::Overrides {
            servers: self.config.dns.clone(),
            search: self.config.dns_search.clone(),
            options: self.config.dns_options.clone(),
        };
        let answerer = if open {
            names::Answerer::Host
        } else {
            names::Answerer::Upstreams { ipv6: endpoints.iter().any(|(endpoint, _)| endpoint.addr6.is_some()) }
        };
        let (source, host) = host_resolv_conf();
        let resolv = names::resolv_conf(&host, source, &wished.over(&daemons), answerer).text;
        rewrite(&dir.join("hosts"), &hosts)?;
        rewrite(&dir.join("hostname"), &format!("{own_name}\n"))?;
        rewrite(&dir.join("resolv.conf"), &resolv)?;
        Ok(NameFiles {
            hosts: Some(dir.join("hosts")),
            hostname: Some(dir.join("hostname")),
            resolv: Some(dir.join("resolv.conf")),
            own_name,
        })
    }

    /// The host name that a container has: its own, the host's for an open one, the target's for a joined one.
    pub(super) fn host_name_of(&self, container: &Container) -> String {
        match (&container.spec.hostname, &container.spec.network.mode) {
            (Some(name), _) => name.clone(),
            (None, NetworkMode::Open) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            (None, NetworkMode::Joined(target)) => match self.snapshot(target) {
                Ok(target) if target.id != container.id => self.host_name_of(&target),
                _ => container.id.short().to_string(),
            },
            (None, _) => container.id.short().to_string(),
        }
    }

    fn place_of_kept(&self, container: &Container) -> Vec<(plan::world::Endpoint, plan::world::Network)> {
        container.kept.sandbox.as_ref().map_or_else(Vec::new, |sandbox| self.net.places(sandbox))
    }

    fn extra_hosts(&self, container: &Container) -> Result<Vec<(String, IpAddr)>> {
        let mut extra = Vec::new();
        for (name, addr) in &container.spec.network.extra_hosts {
            match addr {
                HostAddr::Addr(addr) => extra.push((name.clone(), *addr)),
                HostAddr::HostGateway if !self.config.host_gateway.is_empty() => {
                    extra.extend(self.config.host_gateway.iter().map(|addr| (name.clone(), *addr)));
                }
                HostAddr::HostGateway => {
                    let world = self.net.world();
                    let bridge = world.network_named(super::DEFAULT_NETWORK);
                    let v4 = bridge.and_then(|n| n.v4.as_ref()).map(|subnet| IpAddr::V4(subnet.gateway));
                    let v6 = bridge.and_then(|n| n.v6.as_ref()).map(|subnet| IpAddr::V6(subnet.gateway));
                    let before = extra.len();
                    extra.extend(v4.into_iter().chain(v6).map(|addr| (name.clone(), addr)));
                    if extra.len() == before {
                        return Err(Error::Invalid("unable to derive the IP value for host-gateway".into()));
                    }
                }
            }
        }
        Ok(extra)
    }
}

/// The host's resolver file and its path; where that only names the stub of systemd-resolved, the file with the real
/// servers.
fn host_resolv_conf() -> (&'static str, names::ResolvConf) {
    let read = |path| names::ResolvConf::parse(&std::fs::read_to_string(path).unwrap_or_default());
    let (usual, resolved) = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf");
    let host = read(usual);
    if host.is_resolved_stub() && Path::new(resolved).exists() { (resolved, read(resolved)) } else { (usual, host) }
}
