//! The files by which a container knows names: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`. They lie in its state
//! directory and are mounted into it, so that a user's edits live as long as the container runs.

use super::Engine;
use crate::container::Container;
use crate::container::spec::{HostAddr, NetworkMode};
use crate::error::{Error, Result};
use crate::rewrite::rewrite;
use plan::names;
use sha2::{Digest, Sha256};
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
                ipv6: has_ipv6(),
                extra: &extra,
                links: &self.link_lines(container),
                own: &own,
                hostname: &own_name,
                domainname: &container.spec.domainname,
            })
        };
        rewrite(&dir.join("hosts"), &hosts)?;
        rewrite(&dir.join("hostname"), &format!("{own_name}\n"))?;
        self.write_resolv_conf(container)?;
        Ok(NameFiles {
            hosts: Some(dir.join("hosts")),
            hostname: Some(dir.join("hostname")),
            resolv: Some(dir.join("resolv.conf")),
            own_name,
        })
    }

    /// `--dns` and its sisters, the daemon's where the container has none.
    pub(super) fn overrides(&self, container: &Container) -> names::Overrides {
        let spec = &container.spec.network;
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
        wished.over(&daemons)
    }

    /// Writes a container's `resolv.conf` as the host's is now. One that a user has edited stays as it is.
    pub(super) fn write_resolv_conf(&self, container: &Container) -> Result<()> {
        let answerer = if container.spec.network.mode == NetworkMode::Open {
            names::Answerer::Host
        } else if self.place_of_kept(container).is_empty() {
            names::Answerer::Upstreams { ipv6: false }
        } else {
            names::Answerer::Resolver { at: plan::stub::ADDR.into(), ipv6: has_ipv6() }
        };
        let (source, host) = host_resolv_conf();
        let text = names::resolv_conf(&host, source, &self.overrides(container), answerer).text;
        // A start and a change of the host's may come at the same time.
        let _writing = self.host_names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let dir = self.state_dir(&container.id);
        write_unless_edited(&dir.join("resolv.conf"), &dir.join("resolv.conf.hash"), &text)
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

    pub(super) fn extra_hosts(&self, container: &Container) -> Result<Vec<(String, IpAddr)>> {
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
pub(super) fn host_resolv_conf() -> (&'static str, names::ResolvConf) {
    let read = |path| names::ResolvConf::parse(&std::fs::read_to_string(path).unwrap_or_default());
    let (usual, resolved) = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf");
    let host = read(usual);
    if host.is_resolved_stub() && Path::new(resolved).exists() { (resolved, read(resolved)) } else { (usual, host) }
}

/// The host has IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Writes a file unless its text is another than the one that was last written here. What that was lies beside it, as a hash;
/// before the text changes, both the old one's and the new one's, so that a crash looks like nobody's edit.
fn write_unless_edited(file: &Path, hashes: &Path, text: &str) -> Result<()> {
    let hash = |text: &[u8]| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let new = hash(text.as_bytes());
    match std::fs::read(file) {
        Ok(now) if now == text.as_bytes() => return Ok(()),
        Ok(now) => {
            let now = hash(&now);
            let ours = std::fs::read_to_string(hashes).unwrap_or_default();
            if !ours.lines().any(|line| line == now) {
                return Ok(());
            }
            rewrite(hashes, &format!("{now}\n{new}\n"))?;
            rewrite(file, text)?;
        }
        Err(_) => {
            rewrite(hashes, &format!("{new}\n"))?;
            return rewrite(file, text);
        }
    }
    rewrite(hashes, &format!("{new}\n"))
}
