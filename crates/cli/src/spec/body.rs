//! The body of `POST /containers/create`. What the user did not ask for is left out, so the engine's defaults hold.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::flags::Device;
use super::networks::{Attachment, First};
use super::{devices, envs, limits, mounts, names, networks, ports};
use crate::flags::Flags;
use crate::literal::pair;

/// A container to be made.
#[derive(Debug)]
pub struct Spec {
    /// The name, if the user gave one.
    pub name: Option<String>,
    /// The image as typed.
    pub image: String,
    /// `--platform`
    pub platform: Option<String>,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Which streams `run` attaches to.
    pub streams: Streams,
    /// Whether the engine removes the container when it ends.
    pub auto_remove: bool,
    /// The body.
    pub body: Value,
}

/// Which of a container's streams somebody is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// What the body needs to know of the place where the command runs.
pub struct Place<'a> {
    /// Our environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Our working directory.
    pub dir: &'a Path,
    /// Height and width of our terminal.
    pub terminal: (u16, u16),
}

/// An object that keeps only what was asked for.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, key: &str, value: impl serde::Serialize) {
        let value = json!(value);
        let empty = match &value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Number(_) => false,
        };
        if !empty {
            self.0.insert(key.to_owned(), value);
        }
    }

    /// A text flag, sent under `key` if it was given.
    fn text(&mut self, key: &str, m: &ArgMatches, flag: &str) {
        self.put(key, m.get(flag));
    }

    /// A whole number, sent under `key` if it was given.
    fn number(&mut self, key: &str, m: &ArgMatches, flag: &str) {
        self.put(key, m.value::<i64>(flag));
    }

    /// A repeated flag of ready API values.
    fn list(&mut self, key: &str, m: &ArgMatches, flag: &str) {
        self.put(key, m.values::<Value>(flag));
    }
}

/// Reads the flags of `run` (`detach` as given) or `create` (`detach` false).
pub fn read(m: &ArgMatches, args: &[String], detach: bool, place: &Place<'_>) -> Result<Spec, String> {
    let (image, command) = args.split_first().ok_or("an image is required")?;
    let tty = m.on("tty");
    let streams = streams(m, detach);
    let open_stdin = m.on("interactive");

    let mut body = Object::default();
    body.text("Hostname", m, "hostname");
    body.text("Domainname", m, "domainname");
    body.text("User", m, "user");
    body.put("AttachStdin", streams.stdin);
    // Absent means attached to the engine, so a false has to be said.
    body.0.insert("AttachStdout".into(), json!(streams.stdout));
    body.0.insert("AttachStderr".into(), json!(streams.stderr));
    body.put("Tty", tty);
    body.put("OpenStdin", open_stdin);
    body.put("StdinOnce", open_stdin && streams.stdin);
    body.put("Env", envs::environment(&m.all("env-file"), &m.all("env"), place.env)?);
    body.put("Cmd", command);
    if let Some(entrypoint) = m.get("entrypoint") {
        // An empty text is an order too: it takes the image's entry point away.
        body.put("Entrypoint", [entrypoint]);
    }
    body.put("Image", image);
    body.text("WorkingDir", m, "workdir");
    body.put("Labels", envs::labels(&m.all("label-file"), &m.all("label"))?);
    body.text("StopSignal", m, "stop-signal");
    body.number("StopTimeout", m, "stop-timeout");
    body.put("Healthcheck", healthcheck(m)?);

    let (mut exposed, bindings) = ports::published(&m.all("publish"))?;
    exposed.extend(ports::exposed(&m.all("expose"))?);
    body.put("ExposedPorts", ports::exposed_json(&exposed));

    let wishes = wishes(m)?;
    let mut host = host_config(m, &wishes[0].target, place)?;
    host.put("PortBindings", ports::bindings_json(&bindings));
    let (volumes, binds) = volumes(m, place.dir)?;
    host.put("Binds", binds);
    body.put("Volumes", volumes);
    if tty {
        host.put("ConsoleSize", [place.terminal.0, place.terminal.1]);
    }
    body.put("HostConfig", host.0);
    body.put("NetworkingConfig", networks::json(&wishes));

    Ok(Spec {
        name: m.get("name").filter(|name| !name.is_empty()).map(str::to_owned),
        image: image.clone(),
        platform: m.get("platform").filter(|p| !p.is_empty()).map(str::to_owned),
        tty,
        streams,
        auto_remove: m.on("rm"),
        body: Value::Object(body.0),
    })
}

fn streams(m: &ArgMatches, detach: bool) -> Streams {
    let wanted = m.all("attach");
    let wants = |name: &str| wanted.iter().any(|stream| stream == name);
    if !wanted.is_empty() {
        return Streams { stdin: wants("stdin"), stdout: wants("stdout"), stderr: wants("stderr") };
    }
    Streams { stdin: m.on("interactive") && !detach, stdout: !detach, stderr: !detach }
}

fn wishes(m: &ArgMatches) -> Result<Vec<Attachment>, String> {
    let mac = m.get("mac-address").unwrap_or_default().trim().to_owned();
    if !mac.is_empty() {
        names::mac_address(&mac)?;
    }
    networks::joined(
        m.values("network"),
        First {
            aliases: m.all("network-alias"),
            ip: m.value("ip").unwrap_or_default(),
            ip6: m.value("ip6").unwrap_or_default(),
            mac,
            link_local: m.all("link-local-ip"),
            links: m.all("link"),
        },
    )
}

type Volumes = (BTreeMap<String, Value>, Vec<String>);

fn volumes(m: &ArgMatches, dir: &Path) -> Result<Volumes, String> {
    let (mut anonymous, mut binds) = (BTreeMap::new(), Vec::new());
    for text in m.all("volume") {
        match mounts::volume(&text, dir)? {
            mounts::Volume::Anonymous(path) => {
                anonymous.insert(path, json!({}));
            }
            mounts::Volume::Bind(bind) => binds.push(bind),
        }
    }
    Ok((anonymous, binds))
}

fn host_config(m: &ArgMatches, network: &str, place: &Place<'_>) -> Result<Object, String> {
    let mut host = Object::default();
    host.put("NetworkMode", network);
    host.put("AutoRemove", m.on("rm"));
    host.put("RestartPolicy", restart(m)?);
    host.put("PublishAllPorts", m.on("publish-all"));
    host.put("Dns", m.all("dns"));
    host.put("DnsSearch", m.all("dns-search"));
    host.put("DnsOptions", m.all("dns-option"));
    host.put("ExtraHosts", m.all("add-host"));
    host.put("Links", m.all("link"));

    let mut mounts: Vec<Value> = m.values("mount");
    if m.on("use-api-socket") {
        mounts.push(json!({
            "Type": "bind", "Source": crate::engine::DEFAULT_SOCKET, "Target": "/var/run/docker.sock"
        }));
    }
    host.put("Mounts", mounts);
    host.put("Tmpfs", mounts::tmpfs(&m.all("tmpfs")));
    host.put("VolumesFrom", m.all("volumes-from"));
    host.text("VolumeDriver", m, "volume-driver");
    host.put("ReadonlyRootfs", m.on("read-only"));
    host.put("StorageOpt", options(m, "storage-opt", "invalid storage option")?);
    host.number("ShmSize", m, "shm-size");

    resources(&mut host, m)?;
    isolation(&mut host, m)?;

    let log_options = options(m, "log-opt", "invalid logging option")?;
    let driver = m.get("log-driver").unwrap_or_default();
    if driver == "none" && !log_options.is_empty() {
        return Err("invalid logging opts for driver none".to_owned());
    }
    if !driver.is_empty() || !log_options.is_empty() {
        host.put("LogConfig", json!({"Type": driver, "Config": log_options}));
    }
    if let Some(file) = m.get("cidfile") {
        host.put("ContainerIDFile", place.dir.join(file).to_string_lossy());
    }
    Ok(host)
}

/// `NAME=VALUE` values of a flag as a map; a value without `=` is refused with `what`, except for log options.
fn options(m: &ArgMatches, flag: &str, what: &str) -> Result<BTreeMap<String, String>, String> {
    let values = m.all(flag);
    match values.iter().find(|value| !value.contains('=')) {
        Some(_) if flag == "storage-opt" => Err(what.to_owned()),
        _ => Ok(values.iter().map(|value| pair(value)).collect()),
    }
}

fn restart(m: &ArgMatches) -> Result<Value, String> {
    let Some(text) = m.get("restart").filter(|text| !text.is_empty()) else {
        return Ok(Value::Null);
    };
    let policy = limits::restart_policy(text)?;
    if m.on("rm") && policy["Name"] != "no" {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    Ok(policy)
}

/// The limits that `update` can also change.
pub fn shared_resources(m: &ArgMatches) -> Map<String, Value> {
    let mut host = Object::default();
    put_shared(&mut host, m);
    host.0
}

fn put_shared(host: &mut Object, m: &ArgMatches) {
    host.number("Memory", m, "memory");
    host.number("MemoryReservation", m, "memory-reservation");
    host.number("MemorySwap", m, "memory-swap");
    host.number("NanoCpus", m, "cpus");
    host.number("CpuShares", m, "cpu-shares");
    host.number("CpuPeriod", m, "cpu-period");
    host.number("CpuQuota", m, "cpu-quota");
    host.number("CpuRealtimePeriod", m, "cpu-rt-period");
    host.number("CpuRealtimeRuntime", m, "cpu-rt-runtime");
    host.text("CpusetCpus", m, "cpuset-cpus");
    host.text("CpusetMems", m, "cpuset-mems");
    host.number("PidsLimit", m, "pids-limit");
    host.put("BlkioWeight", m.value::<u16>("blkio-weight"));
}

fn resources(host: &mut Object, m: &ArgMatches) -> Result<(), String> {
    put_shared(host, m);
    if let Some(swappiness) = m.value::<i64>("memory-swappiness") {
        if !(-1..=100).contains(&swappiness) {
            return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
        }
        host.put("MemorySwappiness", swappiness);
    }
    host.number("CpuCount", m, "cpu-count");
    host.number("CpuPercent", m, "cpu-percent");
    host.list("Ulimits", m, "ulimit");
    host.put("OomKillDisable", m.on("oom-kill-disable"));
    host.number("OomScoreAdj", m, "oom-score-adj");
    host.list("BlkioWeightDevice", m, "blkio-weight-device");
    host.list("BlkioDeviceReadBps", m, "device-read-bps");
    host.list("BlkioDeviceWriteBps", m, "device-write-bps");
    host.list("BlkioDeviceReadIOps", m, "device-read-iops");
    host.list("BlkioDeviceWriteIOps", m, "device-write-iops");
    host.number("IOMaximumBandwidth", m, "io-maxbandwidth");
    host.put("IOMaximumIOps", m.value::<u64>("io-maxiops"));
    Ok(())
}

fn isolation(host: &mut Object, m: &ArgMatches) -> Result<(), String> {
    let is_mode = |flag: &str, what: &str, fits: &dyn Fn(&str) -> bool| match m.get(flag) {
        Some(mode) if !mode.is_empty() && !fits(mode) => Err(format!("--{flag}: invalid {what} mode")),
        _ => Ok(()),
    };
    is_mode("pid", "PID", &|mode| {
        mode == "host" || mode.strip_prefix("container:").is_some_and(|name| !name.is_empty())
    })?;
    is_mode("uts", "UTS", &|mode| mode == "host")?;
    is_mode("userns", "USER", &|mode| mode == "host")?;
    is_mode("cgroupns", "CGROUP", &|mode| matches!(mode, "host" | "private"))?;
    host.put("Privileged", m.on("privileged"));
    let capabilities = |flag: &str| m.all(flag).iter().map(|text| limits::capability(text)).collect::<Vec<_>>();
    host.put("CapAdd", capabilities("cap-add"));
    host.put("CapDrop", capabilities("cap-drop"));
    let security: Result<Vec<_>, _> = m.all("security-opt").iter().map(|text| limits::security_opt(text)).collect();
    let mut security = security?;
    for (option, place) in [("systempaths=unconfined", ["MaskedPaths", "ReadonlyPaths"])] {
        if let Some(at) = security.iter().position(|text| text == option) {
            security.remove(at);
            for key in place {
                host.0.insert(key.into(), json!([]));
            }
        }
    }
    host.put("SecurityOpt", security);
    host.put("Sysctls", m.values::<(String, String)>("sysctl").into_iter().collect::<BTreeMap<_, _>>());
    host.put("Annotations", m.values::<(String, String)>("annotation").into_iter().collect::<BTreeMap<_, _>>());
    host.put("GroupAdd", m.all("group-add"));
    let added: Result<Vec<Value>, String> =
        m.values::<Device>("device").iter().map(|device| devices::device(&device.0)).collect();
    host.put("Devices", added?);
    host.put("DeviceCgroupRules", m.all("device-cgroup-rule"));
    host.list("DeviceRequests", m, "gpus");
    host.text("CgroupParent", m, "cgroup-parent");
    host.text("CgroupnsMode", m, "cgroupns");
    host.text("IpcMode", m, "ipc");
    host.text("PidMode", m, "pid");
    host.text("UTSMode", m, "uts");
    host.text("UsernsMode", m, "userns");
    host.text("Isolation", m, "isolation");
    host.text("Runtime", m, "runtime");
    if let Some(init) = m.given_switch("init") {
        host.0.insert("Init".into(), json!(init));
    }
    Ok(())
}

fn healthcheck(m: &ArgMatches) -> Result<Map<String, Value>, String> {
    let times = [
        ("Interval", "health-interval"),
        ("Timeout", "health-timeout"),
        ("StartPeriod", "health-start-period"),
        ("StartInterval", "health-start-interval"),
    ];
    let mut check = Object::default();
    check.put("Test", m.get("health-cmd").filter(|c| !c.is_empty()).map(|command| ["CMD-SHELL", command]));
    check.number("Retries", m, "health-retries");
    for (key, flag) in times {
        check.number(key, m, flag);
    }
    if m.on("no-healthcheck") {
        if !check.0.is_empty() {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        check.put("Test", ["NONE"]);
        return Ok(check.0);
    }
    for (key, flag) in times.into_iter().chain([("Retries", "health-retries")]) {
        if check.0.get(key).and_then(Value::as_i64).is_some_and(|n| n < 0) {
            return Err(format!("--{flag} cannot be negative"));
        }
    }
    Ok(check.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(line: &str) -> Result<Value, String> {
        let words: Vec<String> = std::iter::once("create".to_owned())
            .chain(line.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('~', " ")))
            .collect();
        let command = crate::commands::leaf_command("create");
        let m = command.try_get_matches_from(words).map_err(|err| err.to_string())?;
        let args = m.all("args");
        let place = Place {
            env: &|name| (name == "HOME").then(|| "/root".to_owned()),
            dir: Path::new("/here"),
            terminal: (24, 80),
        };
        read(&m, &args, false, &place).map(|spec| spec.body)
    }

    /// What Docker's own client sent for the same words, without what it sends for every container.
    #[test]
    fn bodies_equal_dockers() {
        for (line, wanted) in [
            (
                "busybox true",
                json!({"Image": "busybox", "Cmd": ["true"], "AttachStdout": true, "AttachStderr": true,
                    "HostConfig": {"NetworkMode": "default"},
                    "NetworkingConfig": {"EndpointsConfig": {"default": {}}}}),
            ),
            (
                "-a stdout -a stdin -i --entrypoint= --no-healthcheck busybox",
                json!({"Image": "busybox", "AttachStdin": true, "AttachStdout": true, "AttachStderr": false,
                    "OpenStdin": true, "StdinOnce": true, "Entrypoint": [""], "Healthcheck": {"Test": ["NONE"]},
                    "HostConfig": {"NetworkMode": "default"},
                    "NetworkingConfig": {"EndpointsConfig": {"default": {}}}}),
            ),
            (
                "-p 80 -p 8080:80 -p 127.0.0.1::53/udp -P --expose 7 --dns 1.1.1.1 --dns-search a.b --dns-opt ndots:1 \
                 --add-host b=::1 --link x --link y:z --mac-address 92:d0:c6:0a:29:33 -h host --domainname dom busybox a -p",
                json!({"Hostname": "host", "Domainname": "dom", "AttachStdout": true, "AttachStderr": true,
                    "ExposedPorts": {"53/udp": {}, "7/tcp": {}, "80/tcp": {}}, "Cmd": ["a", "-p"], "Image": "busybox",
                    "HostConfig": {"NetworkMode": "default",
                        "PortBindings": {"53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
                            "80/tcp": [{"HostIp": "", "HostPort": ""}, {"HostIp": "", "HostPort": "8080"}]},
                        "PublishAllPorts": true, "Dns": ["1.1.1.1"], "DnsOptions": ["ndots:1"], "DnsSearch": ["a.b"],
                        "ExtraHosts": ["b:::1"], "Links": ["x", "y:z"]},
                    "NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": "92:d0:c6:0a:29:33"}}}}),
            ),
            (
                "-m 10m --memory-swap -1 --cpus 1.5 -c 10 --pids-limit 5 --ulimit nofile=1:2 --memory-swappiness 3 \
                 --oom-kill-disable --device /dev/zero:/dev/x:r --blkio-weight 100 busybox",
                json!({"Image": "busybox", "AttachStdout": true, "AttachStderr": true,
                    "HostConfig": {"NetworkMode": "default", "Memory": 10485760, "MemorySwap": -1,
                        "NanoCpus": 1500000000, "CpuShares": 10, "PidsLimit": 5, "MemorySwappiness": 3,
                        "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}], "OomKillDisable": true, "BlkioWeight": 100,
                        "Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]},
                    "NetworkingConfig": {"EndpointsConfig": {"default": {}}}}),
            ),
            (
                "-v /a:/b -v vol:/e -v /anon --tmpfs /x:size=1m --volumes-from q --read-only busybox",
                json!({"Image": "busybox", "AttachStdout": true, "AttachStderr": true, "Volumes": {"/anon": {}},
                    "HostConfig": {"NetworkMode": "default", "Binds": ["/a:/b", "vol:/e"], "VolumesFrom": ["q"],
                        "ReadonlyRootfs": true, "Tmpfs": {"/x": "size=1m"}},
                    "NetworkingConfig": {"EndpointsConfig": {"default": {}}}}),
            ),
            (
                "-e A=1 -e HOME -e NOSUCH -l a=b -l c --entrypoint /bin/sh -u 1:2 -w /w --init --privileged \
                 --cap-add NET_ADMIN --cap-drop ALL --security-opt no-new-privileges --sysctl net.a.b=1 --group-add 5 \
                 --restart on-failure:3 --stop-signal INT --stop-timeout 4 --ipc host --pid host --uts host --userns host \
                 --cgroupns private --cgroup-parent /x --runtime runc --log-driver json-file --log-opt a=b \
                 --storage-opt size=1 --isolation default --annotation z=y --health-cmd true~x --health-interval 2s \
                 --health-retries 3 --volume-driver local busybox",
                json!({"User": "1:2", "AttachStdout": true, "AttachStderr": true, "Env": ["A=1", "HOME=/root", "NOSUCH"],
                    "Healthcheck": {"Test": ["CMD-SHELL", "true x"], "Interval": 2000000000, "Retries": 3},
                    "Image": "busybox", "WorkingDir": "/w", "Entrypoint": ["/bin/sh"], "Labels": {"a": "b", "c": ""},
                    "StopSignal": "INT", "StopTimeout": 4,
                    "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"a": "b"}}, "NetworkMode": "default",
                        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "VolumeDriver": "local",
                        "Annotations": {"z": "y"}, "CapAdd": ["CAP_NET_ADMIN"], "CapDrop": ["ALL"],
                        "CgroupnsMode": "private", "GroupAdd": ["5"], "IpcMode": "host", "PidMode": "host",
                        "Privileged": true, "SecurityOpt": ["no-new-privileges"], "StorageOpt": {"size": "1"},
                        "UTSMode": "host", "UsernsMode": "host", "Sysctls": {"net.a.b": "1"}, "Runtime": "runc",
                        "Isolation": "default", "CgroupParent": "/x", "Init": true},
                    "NetworkingConfig": {"EndpointsConfig": {"default": {}}}}),
            ),
        ] {
            assert_eq!(body(line), Ok(wanted), "{line}");
        }
    }

    /// Whether `part` says nothing that `whole` does not say too.
    fn says_all(whole: &Value, part: &Value) -> Result<(), String> {
        match (whole, part) {
            (Value::Object(whole), Value::Object(part)) => part.iter().try_for_each(|(key, value)| {
                let found = whole.get(key).ok_or_else(|| format!("{key} is lost"))?;
                says_all(found, value).map_err(|why| format!("{key}: {why}"))
            }),
            (Value::Array(whole), Value::Array(part)) if whole.len() == part.len() => {
                whole.iter().zip(part).try_for_each(|(whole, part)| says_all(whole, part))
            }
            (whole, part) if whole == part => Ok(()),
            (whole, part) => Err(format!("{part} became {whole}")),
        }
    }

    #[test]
    fn the_engines_types_understand_every_field() {
        for line in [
            "-a stdout -i -t --entrypoint x -h h --domainname d -u u -w w -l a=b -e A=1 -p 1:2/udp -P --expose 7 \
             --stop-signal INT --stop-timeout 4 --health-cmd x --health-interval 2s --health-timeout 1s \
             --health-start-period 1s --health-start-interval 1s --health-retries 3 busybox a b",
            "--net name=foo,alias=a,ip=10.0.0.2,ip6=::2,mac-address=92:d0:c6:0a:29:33,link-local-ip=169.254.1.1,driver-opt=k=v,gw-priority=4 \
             --link x:y --dns 1.1.1.1 --dns-search a --dns-option b --add-host a:1.2.3.4 busybox",
            "-m 10m --memory-reservation 1g --memory-swap -1 --memory-swappiness 3 --cpus 1.5 -c 10 --cpu-period 5 \
             --cpu-quota 6 --cpu-rt-period 7 --cpu-rt-runtime 8 --cpuset-cpus 0 --cpuset-mems 0 --cpu-count 1 \
             --cpu-percent 2 --pids-limit 5 --ulimit nofile=1:2 --oom-kill-disable --oom-score-adj 5 --blkio-weight 100 \
             --blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:1 \
             --device-read-iops /dev/sda:5 --device-write-iops /dev/sda:5 --io-maxbandwidth 5 --io-maxiops 6 busybox",
            "-v /a:/b -v /anon --mount type=bind,src=/x,dst=/y,readonly,bind-propagation=rslave,bind-nonrecursive \
             --mount type=volume,src=v,dst=/t,volume-opt=a=b,volume-nocopy,volume-label=c=d,volume-driver=local,volume-subpath=s \
             --mount type=tmpfs,dst=/tmp,tmpfs-size=1m,tmpfs-mode=700 --tmpfs /run --volumes-from q --volume-driver local \
             --read-only --storage-opt size=1 --shm-size 64m --use-api-socket busybox",
            "--rm --privileged --cap-add A --cap-drop B --security-opt no-new-privileges \
             --security-opt systempaths=unconfined --sysctl net.a=1 --annotation a=b --group-add 5 --device /dev/null \
             --device-cgroup-rule c~1:3~mr --gpus all --cgroup-parent x --cgroupns host --ipc host --pid host --uts host \
             --userns host --isolation default --runtime r --init --log-driver json-file --log-opt a=b --cidfile f busybox",
        ] {
            let ours = body(line).expect(line);
            let read: api::ContainerCreateBody = serde_json::from_value(ours.clone()).expect(line);
            let back = serde_json::to_value(read).expect("a body");
            assert_eq!(says_all(&back, &ours), Ok(()), "{line}");
        }
    }

    #[test]
    fn refusals_that_need_no_engine() {
        for (line, wanted) in [
            ("--rm --restart always busybox", "conflicting options: cannot specify both --restart and --rm"),
            ("--memory-swappiness 500 busybox", "invalid value: 500. Valid memory swappiness range is 0-100"),
            ("--log-driver none --log-opt a=b busybox", "invalid logging opts for driver none"),
            ("--storage-opt x busybox", "invalid storage option"),
            ("--health-cmd x --no-healthcheck busybox", "--no-healthcheck conflicts with --health-* options"),
            ("--health-retries -1 busybox", "--health-retries cannot be negative"),
            ("--health-interval -1s busybox", "--health-interval cannot be negative"),
            ("--pid foo busybox", "--pid: invalid PID mode"),
            ("--uts foo busybox", "--uts: invalid UTS mode"),
            ("--cgroupns foo busybox", "--cgroupns: invalid CGROUP mode"),
            ("--mac-address zz busybox", "zz is not a valid mac address"),
            ("--network-alias x busybox", "network-scoped aliases are only supported for user-defined networks"),
            ("-v :/b busybox", "invalid spec: :/b: empty section between colons"),
            ("--device a:b:c:d busybox", "bad format for path: a:b:c:d"),
        ] {
            assert_eq!(body(line), Err(wanted.to_owned()), "{line}");
        }
    }
}
