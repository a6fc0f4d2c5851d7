//! From the wire's words to ours: the body of `POST /containers/create` and the image's configuration become a [`Spec`].
//! Nothing beyond this module knows Docker's fields; every refusal is in the words that Docker's users know.

/// How health is checked.
mod health;
/// Memory, processors, devices, rlimits.
pub mod limits;
/// Links to other containers.
mod links;
/// What is mounted.
mod mounts;
/// Network, ports, names.
mod network;
/// A place on a network.
pub mod place;
/// What is run, and as whom.
mod process;
/// Rights and namespaces.
mod security;
/// Signals by name.
mod signals;

#[cfg(test)]
mod tests;

pub use network::{port, published};
pub use signals::signal;

use crate::config::Config;
use crate::config::options;
use crate::container::Container;
use crate::container::spec::{LogSpec, Restart, Spec};
use crate::error::{Error, Result};
use api::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use images::RunConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request to make a container, read but not yet understood.
pub struct Wish {
    /// As it came, for `inspect` to echo.
    pub asked: Value,
    /// The same, typed.
    pub body: ContainerCreateBody,
}

/// What a container's wish turned into.
pub struct Understood {
    /// The wish.
    pub spec: Spec,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What must be known besides the request itself.
pub struct Around<'a> {
    /// The image's configuration.
    pub image: &'a RunConfig,
    /// The engine's settings.
    pub config: &'a Config,
    /// How many processors the host has.
    pub cpus: usize,
    /// Finds another container, for `--volumes-from` and `--link`.
    pub find: &'a dyn Fn(&str) -> Result<Arc<Container>>,
}

impl Wish {
    /// Reads the body.
    ///
    /// # Errors
    /// None at all, not JSON, or a field of another type, which is named.
    pub fn read(bytes: &[u8]) -> Result<Wish> {
        let mut asked: Value = if bytes.is_empty() { Value::Null } else { super::ask::parse(bytes)? };
        if asked.is_null() {
            return Err(Error::Invalid("config cannot be empty in order to create a container".into()));
        }
        // Docker's lists of words may be a single word.
        for field in ["Cmd", "Entrypoint"] {
            if let Some(word) = asked.get(field).and_then(Value::as_str) {
                asked[field] = Value::from(vec![word.to_owned()]);
            }
        }
        check_words(&asked)?;
        let body = serde_path_to_error::deserialize(asked.clone()).map_err(|error| {
            let path = error.path().to_string();
            Error::Invalid(format!("invalid JSON: {path}: {}", error.into_inner()))
        })?;
        Ok(Wish { asked, body })
    }

    /// The image that it names.
    ///
    /// # Errors
    /// It names none.
    pub fn image(&self) -> Result<&str> {
        let image = self.body.image.as_deref().filter(|image| !image.is_empty());
        image.ok_or_else(|| Error::Invalid("no image specified: give the field Image".into()))
    }

    /// Understands it.
    ///
    /// # Errors
    /// Whatever contradicts itself, is out of range, or is not there yet.
    pub fn understand(&self, around: &Around) -> Result<Understood> {
        let mut warnings = Vec::new();
        let empty = HostConfig::default();
        let host = self.body.host_config.as_ref().unwrap_or(&empty);
        self.refuse_absent(host)?;
        let old_mac = self.asked.get("MacAddress").and_then(Value::as_str);
        let network = network::network(&self.body, host, old_mac, around, &mut warnings)?;
        let argv = process::argv(&self.body, around.image)?;
        let restart = restart(host.restart_policy.as_ref())?;
        let auto_remove = host.auto_remove.unwrap_or(false);
        if auto_remove && restart != Restart::No {
            return Err(Error::Invalid("can't create 'AutoRemove' container with restart policy".into()));
        }
        let shm_size = match host.shm_size.unwrap_or(0) {
            size if size < 0 => return Err(Error::Invalid("SHM size can not be less than 0".into())),
            0 => around.config.shm_size,
            size => size.unsigned_abs(),
        };
        let mounts = mounts::mounts(&self.body, host, around)?;
        let security = security::security(host, around.config, &mut warnings)?;
        let spec = Spec {
            image: self.image()?.to_owned(),
            entrypoint_len: argv.entrypoint_len,
            argv: argv.words,
            env: process::env(&self.body, around.image)?,
            workdir: process::workdir(&self.body, around.image)?,
            user: process::user(&self.body, around.image),
            group_add: host.group_add.clone().unwrap_or_default(),
            hostname: self.body.hostname.clone().filter(|name| !name.is_empty()),
            domainname: self.body.domainname.clone().unwrap_or_default(),
            tty: self.body.tty.unwrap_or(false),
            console_size: console_size(host),
            open_stdin: self.body.open_stdin.unwrap_or(false),
            stdin_once: self.body.stdin_once.unwrap_or(false),
            labels: process::labels(&self.body, around.image),
            stop_signal: process::stop_signal(&self.body, around.image)?,
            stop_timeout: self.body.stop_timeout,
            restart,
            auto_remove,
            health: health::health(&self.body, around.image, &mut warnings)?,
            network,
            mounts,
            resources: limits::resources(&limits::Asked::from(host), around.cpus, &mut warnings)?,
            ulimits: limits::ulimits(host, around.config)?,
            sysctls: host.sysctls.clone().unwrap_or_default().into_iter().collect(),
            oom_score_adj: limits::oom_score_adj(host)?,
            pid: security::pid(host)?,
            ipc: security::ipc(host, around.config)?,
            uts_host: security::uts_host(host)?,
            cgroupns_host: security::cgroupns_host(host, &security, around.config),
            shm_size,
            cgroup_parent: cgroup_parent(host)?,
            init: host.init.unwrap_or(around.config.init),
            log: log(host, around.config)?,
            runtime: host.runtime.clone().filter(|name| !name.is_empty()),
            annotations: host.annotations.clone().unwrap_or_default().into_iter().collect(),
            security,
        };
        Ok(Understood { spec, warnings })
    }

    /// What berth does not have. Going without silently would surprise.
    fn refuse_absent(&self, host: &HostConfig) -> Result<()> {
        let absent = |text: String| Err(Error::Absent(text));
        if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
            return absent("HostConfig.StorageOpt: a limit on a container's disk space is not there yet".into());
        }
        if let Some(requests) = host.device_requests.as_ref().filter(|requests| !requests.is_empty()) {
            let capabilities = requests.iter().flat_map(|r| r.capabilities.iter().flatten());
            let driver = requests[0].driver.clone().unwrap_or_default();
            let wanted: Vec<&Vec<String>> = capabilities.collect();
            return absent(format!("could not select device driver {driver:?} with capabilities: {wanted:?}"));
        }
        if let Some(mode) = host.userns_mode.as_deref().filter(|mode| !mode.is_empty() && *mode != "host") {
            return Err(Error::Invalid(format!("invalid USER mode: {mode}: berth has no user namespaces yet")));
        }
        if let Some(driver) = host.volume_driver.as_deref().filter(|driver| !driver.is_empty() && *driver != "local") {
            return Err(Error::NotFound(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        for (name, rates) in [
            ("BlkioDeviceReadBps", &host.blkio_device_read_bps),
            ("BlkioDeviceWriteBps", &host.blkio_device_write_bps),
            ("BlkioDeviceReadIOps", &host.blkio_device_read_iops),
            ("BlkioDeviceWriteIOps", &host.blkio_device_write_iops),
        ] {
            if rates.as_ref().is_some_and(|rates| !rates.is_empty()) {
                return absent(format!("HostConfig.{name}: limits on a disk's rate are not there yet"));
            }
        }
        if host.blkio_weight_device.as_ref().is_some_and(|weights| !weights.is_empty()) {
            return absent("HostConfig.BlkioWeightDevice: weights by device are not there yet".into());
        }
        Ok(())
    }
}

/// Fields that are words of a short list: the typed form would only say that the word is unknown.
fn check_words(asked: &Value) -> Result<()> {
    let Some(host) = asked.get("HostConfig") else { return Ok(()) };
    let word = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    if let Some(policy) = host.get("RestartPolicy") {
        let name = word(policy, "Name").unwrap_or_default();
        if !["", "no", "always", "on-failure", "unless-stopped"].contains(&name.as_str()) {
            return Err(Error::Invalid(format!(
                "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    }
    if let Some(mode) = word(host, "CgroupnsMode").filter(|mode| !["", "host", "private"].contains(&mode.as_str())) {
        return Err(Error::Invalid(format!("invalid cgroup namespace mode: {mode}")));
    }
    if let Some(isolation) = word(host, "Isolation").filter(|word| !["", "default"].contains(&word.as_str())) {
        return Err(Error::Invalid(format!("invalid isolation (\"{isolation}\"): linux only supports 'default'")));
    }
    for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
        let kind = word(mount, "Type").unwrap_or_default();
        if !["bind", "volume", "tmpfs", "npipe", "cluster", "image"].contains(&kind.as_str()) {
            return Err(Error::Invalid(format!(
                "invalid mount config for type \"{kind}\": mount type unknown: \"{kind}\""
            )));
        }
        let propagation = mount.get("BindOptions").and_then(|options| word(options, "Propagation"));
        if let Some(mode) = propagation.filter(|mode| !mode.is_empty() && !mounts::is_propagation(mode)) {
            return Err(Error::Invalid(format!(
                "invalid mount config for type \"bind\": invalid propagation mode: {mode}"
            )));
        }
    }
    Ok(())
}

/// `[lines, columns]`; zeros say that the client has no terminal.
fn console_size(host: &HostConfig) -> Option<(u16, u16)> {
    match host.console_size.as_deref() {
        Some([rows, cols]) if *rows > 0 && *cols > 0 => Some((u16::try_from(*rows).ok()?, u16::try_from(*cols).ok()?)),
        _ => None,
    }
}

/// `--restart`
///
/// # Errors
/// A count that does not go with the policy, in Docker's words.
pub fn restart(policy: Option<&RestartPolicy>) -> Result<Restart> {
    let Some(policy) = policy else { return Ok(Restart::No) };
    let count = policy.maximum_retry_count.unwrap_or(0);
    let name = policy.name.unwrap_or(RestartPolicyNameEnum::NO);
    if name == RestartPolicyNameEnum::ON_FAILURE {
        let most = u32::try_from(count);
        let negative = "invalid restart policy: maximum retry count cannot be negative";
        return most.map(Restart::OnFailure).map_err(|_| Error::Invalid(negative.into()));
    }
    if count != 0 {
        let mut text = "invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned();
        if count < 0 {
            text.push_str(" and cannot be negative");
        }
        return Err(Error::Invalid(text));
    }
    Ok(match name {
        RestartPolicyNameEnum::ALWAYS => Restart::Always,
        RestartPolicyNameEnum::UNLESS_STOPPED => Restart::UnlessStopped,
        _ => Restart::No,
    })
}

fn cgroup_parent(host: &HostConfig) -> Result<Option<String>> {
    let parent = host.cgroup_parent.clone().filter(|parent| !parent.is_empty());
    match &parent {
        Some(text) if text.split('/').any(|part| part == "..") || text.ends_with(".slice") => {
            Err(Error::Invalid(format!(
                "invalid CgroupParent {text}: it is a path from the root of the cgroup tree, without \"..\", and no systemd slice"
            )))
        }
        _ => Ok(parent),
    }
}

fn log(host: &HostConfig, config: &Config) -> Result<LogSpec> {
    let asked = host.log_config.as_ref();
    let driver = asked.and_then(|log| log.typ.as_deref()).filter(|driver| !driver.is_empty());
    let given: BTreeMap<String, String> =
        asked.and_then(|log| log.config.clone()).unwrap_or_default().into_iter().collect();
    match driver {
        None if given.is_empty() => Ok(config.log.clone()),
        driver => options::log_spec(driver.unwrap_or("json-file"), &given),
    }
}
