//! What the engine is told at its start: `berth daemon`'s flags and `daemon.json`.

/// The settings of the default bridge.
mod bridge;
/// Options that containers have too.
pub mod options;
/// Everything that can be told, and what becomes of it.
pub mod table;
/// Flags and file as one set of values.
mod values;

#[cfg(test)]
mod tests;

pub use bridge::{Bridge, Device};
pub use values::command;

use crate::container::spec::{IpcMode, LogSpec, Seccomp};
use crate::error::{Doing, Error, Result};
use clap::ArgMatches;
use plan::ipam::Pool;
use plan::world::Means;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use values::Values;

/// The name under which berth's own OCI runtime is known.
pub const OWN_RUNTIME: &str = "berth-runtime";
const CONFIG_FILE: &str = "/etc/berth/daemon.json";

/// All of it, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The unix sockets to listen on.
    pub sockets: Vec<PathBuf>,
    /// The group that may use them, a name or number; `None`: root.
    pub group: Option<String>,
    /// State directory.
    pub data_root: PathBuf,
    /// Run directory.
    pub exec_root: PathBuf,
    /// Where the process id is written.
    pub pidfile: PathBuf,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: &'static str,
    /// The engine's own log is JSON.
    pub log_json: bool,
    /// … and has no colours.
    pub log_raw: bool,
    /// Only check, then end.
    pub validate: bool,
    /// What was accepted and has no effect, a line each.
    pub warnings: Vec<String>,
    /// `KEY=VALUE` of this engine.
    pub labels: Vec<String>,
    /// Below which cgroup containers' are made.
    pub cgroup_parent: String,
    /// The OCI runtime of containers that name none.
    pub default_runtime: String,
    /// Other OCI runtimes by name.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Registries that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// The default bridge.
    pub bridge: Bridge,
    /// What the engine may use of the host: its firewall, its forwarding.
    pub means: Means,
    /// From which blocks networks get their subnets; empty: Docker's.
    pub pools: Vec<Pool>,
    /// DNS servers of containers that name none; empty: the host's.
    pub dns: Vec<IpAddr>,
    /// Search domains likewise.
    pub dns_search: Vec<String>,
    /// Options likewise.
    pub dns_options: Vec<String>,
    /// What `host-gateway` stands for; empty: the default bridge's address.
    pub host_gateway: Vec<IpAddr>,
    /// What the sources of links are told of their targets by variables.
    pub link_env: plan::variables::Told,
    /// Containers get a small init unless they say otherwise.
    pub init: bool,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Limits of containers that name none, as in `Spec`.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Where output goes of containers that do not say.
    pub log: LogSpec,
    /// System call filter of containers that do not say.
    pub seccomp: Seccomp,
    /// Containers cannot gain rights unless they say otherwise.
    pub no_new_privileges: bool,
    /// `--ipc` of containers that do not say.
    pub ipc: IpcMode,
    /// `--cgroupns host` for containers that do not say.
    pub cgroupns_host: bool,
}

impl Config {
    /// Reads the flags and the file that they name, or the usual one if it is there.
    ///
    /// # Errors
    /// A value that is wrong, conflicts with another, or asks for what berth has not.
    pub fn read(matches: &ArgMatches) -> Result<Config> {
        let flags = values::of_flags(matches)?;
        let named = flags.get("config-file").and_then(Value::as_str).map(PathBuf::from);
        let file = named.clone().unwrap_or_else(|| CONFIG_FILE.into());
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => String::new(),
            Err(error) => {
                return Err(Error::Invalid(format!(
                    "unable to configure the berth daemon with file {}: {error}",
                    file.display()
                )));
            }
        };
        Config::of(flags, values::of_file(&text, &file)?, &file)
    }

    fn of(flags: Values, file: Values, source: &Path) -> Result<Config> {
        let mut values = values::merged(flags, file, source)?;
        let warnings = values::fated(&mut values)?;
        Config::checked(&Told(&values), warnings)
    }

    fn checked(told: &Told, warnings: Vec<String>) -> Result<Config> {
        told.one_of("firewall-backend", "nftables", &["nftables", "iptables"], |_| {
            "invalid firewall-backend: allowed values are \"iptables\" and \"nftables\"".into()
        })?;
        if told.text("firewall-backend") == Some("iptables") {
            return Err(Error::Absent("--firewall-backend: berth's firewall is nftables; leave the flag out".into()));
        }
        let level = told.one_of(
            "log-level",
            if told.switch("debug", false) { "debug" } else { "info" },
            &["trace", "debug", "info", "warn", "error", "fatal", "panic"],
            |level| format!("invalid logging level: {level}"),
        )?;
        let ipc = told.one_of("default-ipc-mode", "private", &["private", "shareable"], |mode| {
            format!("IPC mode {mode:?} is not supported as default value; use \"private\" or \"shareable\"")
        })?;
        let cgroupns = told.one_of("default-cgroupns-mode", "private", &["private", "host"], |mode| {
            format!("default cgroup namespace mode ({mode}) is invalid. Use \"host\" or \"private\"")
        })?;
        let format = told.one_of("log-format", "text", &["text", "json"], |f| format!("invalid log format: {f}"))?;
        let link_env = told.one_of("link-env", "full", &["full", "ports", "off"], |word| {
            format!("invalid link-env: {word:?}: use \"full\", \"ports\" or \"off\"")
        })?;
        let (default_runtime, runtimes) = runtimes(told)?;
        exec_opts(told)?;
        let bridge = Bridge::of(told)?;
        let pidfile = told.text("pidfile").filter(|file| !file.is_empty());
        let exec_root = told.directory("exec-root", "/run/berth")?;
        Ok(Config {
            sockets: sockets(told)?,
            group: told.text("group").filter(|group| !group.is_empty()).map(str::to_owned),
            data_root: told.directory("data-root", "/var/lib/berth")?,
            pidfile: pidfile.map_or_else(|| exec_root.join("berth.pid"), PathBuf::from),
            exec_root,
            log_level: if matches!(level, "fatal" | "panic") { "error" } else { level },
            log_json: format == "json",
            log_raw: told.switch("raw-logs", false),
            validate: told.switch("validate", false),
            warnings,
            labels: labels(told.list("labels"))?,
            cgroup_parent: cgroup_parent(told)?,
            default_runtime,
            runtimes,
            insecure_registries: insecure(told.list("insecure-registries"))?,
            bridge,
            means: bridge::means(told),
            pools: bridge::pools(told)?,
            dns: told.list("dns").iter().map(|text| address(text)).collect::<Result<_>>()?,
            dns_search: told.list("dns-search"),
            dns_options: told.list("dns-opts"),
            host_gateway: told.list("host-gateway-ips").iter().map(|text| address(text)).collect::<Result<_>>()?,
            link_env: match link_env {
                "off" => plan::variables::Told::Off,
                "ports" => plan::variables::Told::Ports,
                _ => plan::variables::Told::Full,
            },
            init: told.switch("init", false),
            shm_size: shm_size(told)?,
            ulimits: ulimits(told)?,
            log: log(told)?,
            seccomp: seccomp(told.text("seccomp-profile").unwrap_or("builtin"))?,
            no_new_privileges: told.switch("no-new-privileges", false),
            ipc: if ipc == "shareable" { IpcMode::Shareable } else { IpcMode::Private },
            cgroupns_host: cgroupns == "host",
        })
    }
}

impl Config {
    /// Opens the engine's own log on standard error, and says there what has no effect.
    ///
    /// # Errors
    /// Another log was opened before.
    pub fn start_logging(&self) -> Result<()> {
        use tracing_subscriber::filter::LevelFilter;
        let level: LevelFilter = self.log_level.parse().doing("read the log level")?;
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
        let coloured = !self.log_raw && std::io::IsTerminal::is_terminal(&std::io::stderr());
        let opened =
            if self.log_json { log.json().flatten_event(true).try_init() } else { log.with_ansi(coloured).try_init() };
        opened.map_err(|error| Error::Fault(format!("open the log: {error}")))?;
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

/// What was told, by the table's names; the shapes are right.
struct Told<'a>(&'a Values);

impl Told<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    fn switch(&self, name: &str, default: bool) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| !text.is_empty())
    }

    fn one_of(
        &self,
        name: &str,
        default: &'static str,
        known: &[&'static str],
        refusal: impl FnOnce(&str) -> String,
    ) -> Result<&'static str> {
        match self.text(name) {
            None | Some("") => Ok(default),
            Some(text) => known.iter().copied().find(|word| *word == text).ok_or_else(|| Error::Invalid(refusal(text))),
        }
    }

    fn directory(&self, name: &str, default: &str) -> Result<PathBuf> {
        let text = self.text(name).unwrap_or(default);
        if text.is_empty() {
            return Err(Error::Invalid(format!("--{name} is empty: name a directory, or leave it out for {default}")));
        }
        std::path::absolute(text).doing(format_args!("find the directory {text}"))
    }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::Invalid(format!("ParseAddr({text:?}): unable to parse IP")))
}

fn sockets(told: &Told) -> Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for host in told.list("hosts") {
        let socket = match host.split_once("://") {
            Some(("unix", "")) => "/run/berth/berth.sock",
            Some(("unix", path)) => path,
            Some(("tcp" | "fd" | "npipe" | "http" | "https", _)) => {
                return Err(Error::Absent(format!(
                    "-H {host}: berth listens on unix sockets only; give -H unix://PATH, and reach it from afar through ssh"
                )));
            }
            None if host.starts_with('/') => &host,
            _ => {
                return Err(Error::Invalid(format!(
                    "invalid argument {host:?} for \"-H, --host\" flag: invalid bind address format: it is not unix://PATH"
                )));
            }
        };
        sockets.push(std::path::absolute(socket).doing(format_args!("find the socket {socket}"))?);
    }
    if sockets.is_empty() {
        sockets.push("/run/berth/berth.sock".into());
    }
    Ok(sockets)
}

fn labels(labels: Vec<String>) -> Result<Vec<String>> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for label in &labels {
        let Some((key, _)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Error::Invalid(format!("bad attribute format: {label}")));
        };
        if let Some(other) = seen.insert(key.to_owned(), label).filter(|other| other != label) {
            return Err(Error::Invalid(format!("conflict labels for {other} and {label}")));
        }
    }
    Ok(labels)
}

fn cgroup_parent(told: &Told) -> Result<String> {
    let parent = told.text("cgroup-parent").filter(|parent| !parent.is_empty()).unwrap_or("berth");
    if parent.split('/').any(|part| part == "..") || parent.ends_with(".slice") {
        return Err(Error::Invalid(format!(
            "--cgroup-parent {parent}: it is a path from the root of the cgroup tree, without \"..\", and no systemd slice"
        )));
    }
    Ok(parent.to_owned())
}

fn runtimes(told: &Told) -> Result<(String, BTreeMap<String, PathBuf>)> {
    let mut runtimes = BTreeMap::new();
    for (name, told) in told.0.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
        if name == OWN_RUNTIME {
            return Err(Error::Invalid(format!("runtime name '{name}' is reserved")));
        }
        let known = |key: &str| matches!(key, "path" | "runtimeArgs");
        if let Some(key) = told.as_object().and_then(|told| told.keys().find(|key| !known(key))) {
            return Err(Error::Absent(format!(
                "runtimes: {name}: {key}: berth drives runtimes by their command line only"
            )));
        }
        if told.get("runtimeArgs").and_then(Value::as_array).is_some_and(|args| !args.is_empty()) {
            return Err(Error::Absent(format!(
                "runtimes: {name}: runtimeArgs: berth passes a runtime no arguments of yours yet"
            )));
        }
        match told.get("path").and_then(Value::as_str) {
            Some(path) if path.starts_with('/') => runtimes.insert(name.clone(), PathBuf::from(path)),
            Some(path) => return Err(Error::Invalid(format!("runtimes: {name}: {path:?} is not an absolute path"))),
            None => return Err(Error::Invalid(format!("runtimes: {name}: path is missing"))),
        };
    }
    let default = told.text("default-runtime").filter(|name| !name.is_empty()).unwrap_or(OWN_RUNTIME);
    if default != OWN_RUNTIME && !runtimes.contains_key(default) {
        return Err(Error::Invalid(format!("specified default runtime '{default}' does not exist")));
    }
    Ok((default.to_owned(), runtimes))
}

fn exec_opts(told: &Told) -> Result<()> {
    for opt in told.list("exec-opts") {
        match opt.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => {}
            Some(("native.cgroupdriver", "systemd")) => {
                return Err(Error::Absent("--exec-opt native.cgroupdriver=systemd: berth makes cgroups itself".into()));
            }
            Some(("native.cgroupdriver", other)) => {
                return Err(Error::Invalid(format!(
                    "native.cgroupdriver option {other} is not supported: use \"cgroupfs\""
                )));
            }
            Some((key, _)) => return Err(Error::Invalid(format!("invalid option key: {key}"))),
            None => return Err(Error::Invalid(format!("invalid key/value pair format: {opt}"))),
        }
    }
    Ok(())
}

fn insecure(registries: Vec<String>) -> Result<Vec<String>> {
    for registry in &registries {
        if registry.contains("://") {
            return Err(Error::Invalid(format!("insecure registry {registry} should not contain '://'")));
        }
        let host = registry.rsplit_once(':').map_or(registry.as_str(), |(host, _)| host);
        if registry.is_empty() || host.starts_with('-') || registry.contains([' ', '?', '#']) {
            return Err(Error::Invalid(format!(
                "insecure registry {registry:?} is not valid: it is HOST[:PORT] or CIDR"
            )));
        }
    }
    Ok(registries)
}

fn shm_size(told: &Told) -> Result<u64> {
    match told.0.get("default-shm-size") {
        None => Ok(64 << 20),
        Some(Value::String(text)) => options::bytes_of(text, 1024.0)
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| Error::Invalid(format!("invalid size: '{text}'"))),
        Some(number) => {
            number.as_u64().ok_or_else(|| Error::Invalid(format!("default-shm-size: {number} is no number of bytes")))
        }
    }
}

fn ulimits(told: &Told) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut limits = BTreeMap::new();
    for (name, limit) in told.0.get("default-ulimits").and_then(Value::as_object).into_iter().flatten() {
        let number = |key: &str| limit.get(key).and_then(Value::as_i64);
        let (Some(soft), Some(hard)) = (number("Soft"), number("Hard")) else {
            return Err(Error::Invalid(format!(
                "default-ulimits: {name}: Soft and Hard are whole numbers, both needed"
            )));
        };
        limits.insert(name.clone(), options::ulimit(name, soft, hard)?);
    }
    Ok(limits)
}

fn log(told: &Told) -> Result<LogSpec> {
    let options = told.0.get("log-opts").and_then(Value::as_object).into_iter().flatten();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let options: BTreeMap<String, String> = options.map(|(key, value)| (key.clone(), plain(value))).collect();
    let driver = told.text("log-driver").filter(|driver| !driver.is_empty()).unwrap_or("json-file");
    options::log_spec(driver, &options)
}

fn seccomp(profile: &str) -> Result<Seccomp> {
    match profile {
        "" | "builtin" => Ok(Seccomp::Default),
        "unconfined" => Ok(Seccomp::Unconfined),
        file => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Error::Invalid(format!("opening seccomp profile ({file}) failed: {error}")))?;
            let parsed = serde_json::from_str::<serde_json::Map<String, Value>>(&text);
            parsed.map_err(|error| Error::Invalid(format!("Decoding seccomp profile ({file}) failed: {error}")))?;
            Ok(Seccomp::Profile(text))
        }
    }
}
