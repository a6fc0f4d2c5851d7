use super::*;
use crate::container::MountPoint;
use crate::container::spec::{HostAddr, IpcMode, MountSpec, NetworkMode, PlaceSpec, Seccomp};
use plan::world::Proto;
use serde_json::json;

fn config() -> Config {
    let matches = crate::config::command().get_matches_from(["daemon", "--config-file", "/dev/null"]);
    Config::read(&matches).unwrap()
}

fn image() -> RunConfig {
    serde_json::from_value(json!({
        "Env": ["PATH=/bin", "LANG=C"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}, "9000-9002/udp": {}},
        "Labels": {"a": "image", "b": "image"}, "User": "www", "WorkingDir": "/srv"
    }))
    .unwrap()
}

fn understood_of(body: Value, image: &RunConfig) -> Result<Understood> {
    let config = config();
    let find = |name: &str| match name {
        "other" => Ok(Arc::new(other())),
        _ => Err(Error::NotFound(format!("No such container: {name}"))),
    };
    Wish::read(&serde_json::to_vec(&body).unwrap())?.understand(&Around {
        image,
        config: &config,
        cpus: 2,
        find: &find,
    })
}

fn other() -> Container {
    let point = |volume: Option<&str>, target: &str| MountPoint {
        volume: volume.map(str::to_owned),
        anonymous: false,
        source: "/src".into(),
        target: target.into(),
        read_only: false,
        propagation: if volume.is_some() { String::new() } else { "rprivate".into() },
        mode: String::new(),
    };
    Container {
        id: "ab".repeat(32).parse().unwrap(),
        name: "other".into(),
        created: std::time::SystemTime::UNIX_EPOCH,
        spec: understood_of(json!({"Image": "i"}), &image()).unwrap().spec.into(),
        asked: Value::Null.into(),
        image_id: String::new(),
        mounts: vec![point(Some("vol"), "/v"), point(None, "/b")],
        state: Default::default(),
        kept: Default::default(),
        restart_count: 0,
        stopped_by_user: false,
    }
}

/// A body with an image, and these fields.
fn with(fields: Value) -> Value {
    let mut body = json!({"Image": "busybox"});
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn host(fields: Value) -> Value {
    with(json!({ "HostConfig": fields }))
}

fn spec(fields: Value) -> Spec {
    understood_of(with(fields), &image()).unwrap().spec
}

fn host_spec(fields: Value) -> Spec {
    understood_of(host(fields), &image()).unwrap().spec
}

#[test]
fn an_image_alone_is_a_container() {
    let spec = spec(json!({}));
    assert_eq!((spec.argv, spec.entrypoint_len), (vec!["sh".to_owned()], 0));
    assert_eq!(spec.env, ["PATH=/bin", "LANG=C"]);
    assert_eq!((spec.user.as_str(), spec.workdir.as_str(), spec.stop_signal), ("www", "/srv", 15));
    assert_eq!(spec.network.mode, NetworkMode::Bridged);
    assert_eq!(spec.network.exposed.len(), 4);
    assert_eq!((spec.shm_size, spec.ipc, spec.restart), (64 << 20, IpcMode::Private, Restart::No));
    assert_eq!(spec.log, LogSpec::JsonFile { max_size: None, max_files: 1, options: Default::default() });
}

#[test]
fn the_command_follows_dockers_rules() {
    let argv = |body: Value, image: Value| {
        let image: RunConfig = serde_json::from_value(image).unwrap();
        match understood_of(with(body), &image) {
            Ok(understood) => format!("{} {}", understood.spec.argv.join(" "), understood.spec.entrypoint_len),
            Err(error) => error.to_string(),
        }
    };
    let both = json!({"Entrypoint": ["ep"], "Cmd": ["cmd"]});
    assert_eq!(argv(json!({}), both.clone()), "ep cmd 1");
    assert_eq!(argv(json!({"Cmd": ["x", "y"]}), both.clone()), "ep x y 1");
    assert_eq!(argv(json!({"Entrypoint": ["e"]}), both.clone()), "e 1");
    assert_eq!(argv(json!({"Entrypoint": ["e"], "Cmd": ["c"]}), both.clone()), "e c 1");
    assert_eq!(argv(json!({"Entrypoint": [""], "Cmd": ["c"]}), both.clone()), "c 0");
    assert_eq!(argv(json!({"Entrypoint": [""]}), both.clone()), "no command specified");
    assert_eq!(argv(json!({"Entrypoint": []}), both.clone()), "cmd 0");
    assert_eq!(argv(json!({"Entrypoint": null, "Cmd": null}), both), "ep cmd 1");
    assert_eq!(argv(json!({"Cmd": "one word"}), json!({})), "one word 0");
    assert_eq!(argv(json!({}), json!({})), "no command specified");
}

#[test]
fn variables_replace_and_remove_by_name() {
    let spec = spec(json!({"Env": ["LANG=de", "NEW=1", "PATH", "EMPTY="]}));
    assert_eq!(spec.env, ["LANG=de", "NEW=1", "EMPTY="]);
}

#[test]
fn labels_of_the_request_win() {
    let spec = spec(json!({"Labels": {"b": "mine"}}));
    assert_eq!((spec.labels["a"].as_str(), spec.labels["b"].as_str()), ("image", "mine"));
}

#[test]
fn a_real_clients_body_is_read_with_its_nulls() {
    let text = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,
        "Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["true"],"Image":"busybox","Volumes":{},
        "WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},"ExposedPorts":{"80/tcp":{}},"HostConfig":{"Binds":null,"ContainerIDFile":"",
        "LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},
        "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,
        "ConsoleSize":[24,80],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],
        "ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"",
        "Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"",
        "ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,
        "BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],
        "BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,
        "CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,
        "MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,
        "Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,
        "ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,
        "Aliases":null,"MacAddress":"","DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"",
        "IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}"#;
    let understood = understood_of(serde_json::from_str(text).unwrap(), &image()).unwrap();
    assert!(understood.warnings.is_empty(), "{:?}", understood.warnings);
    let spec = understood.spec;
    assert_eq!(spec.resources, Default::default());
    assert_eq!(spec.network.published.len(), 1);
    let port = &spec.network.published[0];
    assert_eq!((port.host_ports, port.inner, port.proto, port.host_ip), (Some((8080, 8080)), 80, Proto::Tcp, None));
}

#[test]
fn the_network_is_one_of_the_kinds() {
    let mode = |mode: &str| host_spec(json!({ "NetworkMode": mode })).network.mode;
    assert_eq!(mode("none"), NetworkMode::Closed);
    assert_eq!(mode("host"), NetworkMode::Open);
    assert_eq!(mode("default"), NetworkMode::Bridged);
    assert_eq!(mode("container:web"), NetworkMode::Joined("web".into()));
    assert_eq!(mode("app"), NetworkMode::Named("app".into()));
    assert_eq!(spec(json!({"NetworkDisabled": true})).network.mode, NetworkMode::Closed);
}

#[test]
fn ports_and_names_are_read() {
    let network = host_spec(json!({
        "PortBindings": {"53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}], "80/tcp": [{"HostPort": ""}, {"HostPort": "0"}],
            "90/tcp": [{"HostIp": "::1", "HostPort": "8000-8010"}], "70/tcp": null},
        "ExtraHosts": ["a:10.0.0.1", "b=::1", "c:[fd00::1]", "d:host-gateway", "a:10.0.0.2"],
        "Dns": ["192.0.2.1"], "PublishAllPorts": true
    }))
    .network;
    let shown: Vec<String> = network
        .published
        .iter()
        .map(|p| format!("{:?} {:?} {} {}", p.host_ip, p.host_ports, p.inner, p.proto.name()))
        .collect();
    let want = [
        "Some(127.0.0.1) Some((53, 53)) 53 udp",
        "None None 80 tcp",
        "None None 80 tcp",
        "Some(::1) Some((8000, 8010)) 90 tcp",
    ];
    assert_eq!(shown, want);
    assert!(network.publish_all && network.exposed.contains(&(70, Proto::Tcp)));
    assert_eq!(network.extra_hosts.len(), 5);
    assert_eq!(network.extra_hosts[2].1, HostAddr::Addr("fd00::1".parse().unwrap()));
    assert_eq!(network.extra_hosts[3].1, HostAddr::HostGateway);
}

#[test]
fn published_ports_of_an_open_container_are_dropped_with_a_warning() {
    let body = host(json!({"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}));
    let understood = understood_of(body, &image()).unwrap();
    assert!(understood.spec.network.published.is_empty());
    assert_eq!(understood.warnings, ["Published ports are discarded when using host network mode"]);
}

#[test]
fn links_are_to_containers_and_the_first_of_an_alias_counts() {
    let links = |links: Value| {
        let Understood { spec, warnings } =
            understood_of(with(json!({"HostConfig": {"Links": links}})), &image()).unwrap();
        let shown: Vec<String> =
            spec.network.links.iter().map(|link| format!("{} {}", link.name, link.alias)).collect();
        (shown.join(", "), warnings)
    };
    let name = other().name;
    assert_eq!(links(json!(["other:db", "other"])), (format!("{name} db, {name} other"), vec![]));
    // As `inspect` shows it; and the same again is no news.
    assert_eq!(links(json!(["/other:/src/db", "other:db"])), (format!("{name} db"), vec![]));
    // On a network of the user's they are names, of whoever has them in the end.
    let named = |own: Value| {
        let config = json!({"NetworkMode": "app", "Links": ["/other:/src/db"]});
        let settings = json!({"EndpointsConfig": {"app": {"Links": own}, "back": {}}});
        let body = with(json!({"HostConfig": config, "NetworkingConfig": settings}));
        let spec = understood_of(body, &image()).unwrap().spec.network;
        assert!(spec.links.is_empty() && spec.places[1].links.is_empty());
        spec.places[0].links.iter().map(|link| format!("{} {}", link.target, link.alias)).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(named(json!(null)), "other db");
    // The place's own come first.
    let both = named(json!(["nobody", "a".repeat(64) + ":b"]));
    assert_eq!(both, format!("nobody nobody, {} b, other db", "a".repeat(12)));
    let closed = with(json!({"HostConfig": {"NetworkMode": "none", "Links": ["other:db"]}}));
    let Understood { spec, warnings } = understood_of(closed, &image()).unwrap();
    assert!(spec.network.links.is_empty());
    assert_eq!(warnings, ["Links have no effect on a container without a network (--network none)"]);
}

#[test]
fn links_on_other_networks_are_names_for_names() {
    let links = |host: Value, endpoints: Value| {
        let body = with(json!({"HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}));
        let Understood { spec, warnings } = understood_of(body, &image()).unwrap();
        assert!(spec.network.links.is_empty());
        let place = |place: &PlaceSpec| {
            let links = place.links.iter().map(|link| format!(" {}:{}", link.target, link.alias));
            format!("{}{}", place.network, links.collect::<String>())
        };
        (spec.network.places.iter().map(place).collect::<Vec<_>>().join(", "), warnings)
    };
    // The target need not be there. The docker command says it twice.
    let app = json!({"NetworkMode": "app", "Links": ["nobody:db", "web"]});
    let twice = json!({"app": {"Links": ["nobody:db", "web", "/nobody:/src/db"]}});
    assert_eq!(links(app.clone(), twice), ("app nobody:db web:web".into(), vec![]));
    assert_eq!(links(app, json!({})), ("app nobody:db web:web".into(), vec![]));
    let id = "ab".repeat(32);
    let second = json!({"app": {}, "back": {"Links": [format!("{id}:x")]}});
    assert_eq!(links(json!({"NetworkMode": "app"}), second), ("app, back abababababab:x".into(), vec![]));
    let (shown, warnings) = links(json!({"NetworkMode": "app", "Links": ["a:db", "b:db"]}), json!({}));
    assert_eq!(shown, "app a:db b:db");
    assert_eq!(warnings, ["The links to a and to b have one alias, db: it stands for a, which was named first"]);
}

#[test]
fn mounts_come_in_five_spellings() {
    let body = with(json!({
        "Volumes": {"/anon": {}, "/b": {}},
        "HostConfig": {
            "Binds": ["/src:/b:ro,rslave", "named:/n:nocopy", "/bare"],
            "Mounts": [
                {"Type": "bind", "Source": "/s", "Target": "/m", "ReadOnly": true, "BindOptions": {"Propagation": "rshared"}},
                {"Type": "volume", "Source": "vol2", "Target": "/w/", "VolumeOptions": {"NoCopy": true}},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 448}}
            ],
            "Tmpfs": {"/run": "size=1m,noexec"},
            "VolumesFrom": ["other:ro"]
        }
    }));
    let mounts = understood_of(body, &image()).unwrap().spec.mounts;
    let at = |place: &str| {
        mounts.iter().find(|mount| matches!(mount, MountSpec::Bind { target, .. } | MountSpec::Volume { target, .. } | MountSpec::Tmpfs { target, .. } if target == place)).unwrap()
    };
    assert_eq!(mounts.len(), 9, "{mounts:#?}");
    let MountSpec::Bind { read_only: true, propagation: Some(word), create: true, .. } = at("/b") else { panic!() };
    assert_eq!(word, "rslave");
    assert!(matches!(at("/n"), MountSpec::Volume { name: Some(name), no_copy: true, .. } if name == "named"));
    assert!(matches!(at("/bare"), MountSpec::Volume { name: None, .. }));
    assert!(matches!(at("/anon"), MountSpec::Volume { name: None, .. }));
    assert!(matches!(at("/m"), MountSpec::Bind { create: false, read_only: true, .. }));
    assert!(matches!(at("/w"), MountSpec::Volume { no_copy: true, .. }));
    assert!(matches!(at("/t"), MountSpec::Tmpfs { options, .. } if options == "size=4096,mode=700"));
    assert!(matches!(at("/v"), MountSpec::Volume { name: Some(name), read_only: true, .. } if name == "vol"));
}

#[test]
fn rights_are_read() {
    let spec = host_spec(
        json!({"CapAdd": ["net_admin", "CAP_SYS_TIME", "ALL"], "CapDrop": ["CHOWN"], "ReadonlyRootfs": true,
        "SecurityOpt": ["no-new-privileges", "seccomp=unconfined", "label:disable"], "MaskedPaths": [], "UTSMode": "host",
        "PidMode": "container:web", "IpcMode": "none", "CgroupnsMode": "host"}),
    );
    assert_eq!(spec.security.cap_add, ["NET_ADMIN", "SYS_TIME", "ALL"]);
    assert!(spec.security.no_new_privileges && spec.security.read_only_root && spec.uts_host && spec.cgroupns_host);
    assert_eq!((spec.security.seccomp, spec.security.masked_paths), (Seccomp::Unconfined, Some(vec![])));
    let privileged = host_spec(json!({"Privileged": true}));
    assert!(privileged.cgroupns_host && privileged.security.seccomp == Seccomp::Unconfined);
}

#[test]
fn a_health_check_is_the_requests_over_the_images() {
    let image: RunConfig = serde_json::from_value(json!({"Cmd": ["sh"], "Shell": ["/bin/ash", "-ec"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 2_000_000_000_u64, "Retries": 5}}))
    .unwrap();
    let check = |asked: Value, image: &RunConfig| {
        let understood = understood_of(with(json!({ "Healthcheck": asked })), image).unwrap();
        let text = understood.spec.health.map(|check| {
            let times = [check.interval, check.timeout, check.start_period, check.start_interval];
            let times = times.map(|time| time.map_or("-".to_owned(), crate::time::go_duration)).join(" ");
            format!("{:?} {} {times} {:?}", check.argv, check.shell_len, check.retries)
        });
        [text.unwrap_or_else(|| "none".to_owned()), understood.warnings.join("")].join("")
    };
    let of_image = r#"["/bin/ash", "-ec", "true"] 2 2s - - - Some(5)"#;
    for (asked, want) in [
        (Value::Null, of_image),
        (json!({}), of_image),
        (json!({"Timeout": 3_000_000, "Interval": 1_000_000}), r#"["/bin/ash", "-ec", "true"] 2 1ms 3ms - - Some(5)"#),
        (
            json!({"Test": ["CMD", "a", "b"], "StartPeriod": 1_000_000, "StartInterval": 2_000_000, "Retries": 1}),
            r#"["a", "b"] 0 2s - 1ms 2ms Some(1)"#,
        ),
        (json!({"Test": ["NONE"]}), "none"),
        (json!({"Test": ["PING"]}), "noneUnknown healthcheck type 'PING' (expected 'CMD'): the container has no check"),
    ] {
        assert_eq!(check(asked.clone(), &image), want, "{asked}");
    }
    let plain = self::image();
    assert_eq!(check(Value::Null, &plain), "none");
    assert_eq!(check(json!({"Interval": 1_000_000}), &plain), "none");
    assert_eq!(check(json!({"Test": ["CMD-SHELL", "x"]}), &plain), r#"["/bin/sh", "-c", "x"] 2 - - - - None"#);
}

/// What is wrong, with which status, in which words.
#[test]
fn wrong_wishes_are_refused_in_dockers_words() {
    let container = |fields: Value| {
        let mut all = json!({"NetworkMode": "container:web"});
        for (key, value) in fields.as_object().unwrap() {
            all[key] = value.clone();
        }
        host(all)
    };
    let mount = |fields: Value| host(json!({ "Mounts": [fields] }));
    let endpoint = |mode: &str, settings: Value| {
        let key = if mode == "default" { "bridge" } else { mode };
        with(json!({"HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": {key: settings}}}))
    };
    let cases: Vec<(Value, u16, &str)> = vec![
        (json!(null), 400, "config cannot be empty in order to create a container"),
        (json!({}), 400, "no image specified: give the field Image"),
        (with(json!({"Env": "A=1"})), 400, "invalid JSON: Env: invalid type: string \"A=1\", expected a sequence"),
        (with(json!({"Tty": "yes"})), 400, "invalid JSON: Tty: invalid type: string \"yes\", expected a boolean"),
        (
            host(json!({"Memory": "1g"})),
            400,
            "invalid JSON: HostConfig.Memory: invalid type: string \"1g\", expected i64",
        ),
        (
            host(json!({"Ulimits": [{"Name": "nofile", "Soft": "1"}]})),
            400,
            "invalid JSON: HostConfig.Ulimits[0].Soft: ",
        ),
        (with(json!({"Env": ["=x"]})), 400, "invalid environment variable: =x"),
        (with(json!({"Cmd": ["a\0b"]})), 400, "it has a NUL byte"),
        (
            with(json!({"WorkingDir": "srv"})),
            400,
            "the working directory 'srv' is invalid, it needs to be an absolute path",
        ),
        (with(json!({"StopSignal": "SIGNOPE"})), 400, "invalid signal: SIGNOPE"),
        (with(json!({"Healthcheck": {"Interval": 5}})), 400, "Interval in Healthcheck cannot be less than 1ms"),
        (with(json!({"Healthcheck": {"StartInterval": -1}})), 400, "StartInterval in Healthcheck cannot be less than"),
        (with(json!({"Healthcheck": {"Retries": -1}})), 400, "Retries in Healthcheck cannot be negative"),
        (with(json!({"Healthcheck": {"Test": ["CMD"]}})), 400, "Test in Healthcheck has no command after CMD"),
        (with(json!({"ExposedPorts": {"http/tcp": {}}})), 400, "invalid port specification: \"http/tcp\""),
        (with(json!({"ExposedPorts": {"80/icmp": {}}})), 400, "invalid proto: icmp"),
        (with(json!({"Volumes": {"data": {}}})), 400, "invalid mount path: 'data' mount path must be absolute"),
        (
            with(json!({"Hostname": "h", "HostConfig": {"UTSMode": "host"}})),
            400,
            "conflicting options: hostname and the UTS mode",
        ),
        (
            with(json!({"Hostname": "h", "HostConfig": {"NetworkMode": "container:x"}})),
            400,
            "conflicting options: hostname and the network mode",
        ),
        (
            with(json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "container:x"}})),
            400,
            "conflicting options: port exposing and the container type network mode",
        ),
        (container(json!({"Dns": ["192.0.2.1"]})), 400, "conflicting options: dns and the network mode"),
        (
            container(json!({"ExtraHosts": ["a:192.0.2.1"]})),
            400,
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            container(json!({"PublishAllPorts": true})),
            400,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            container(json!({"PortBindings": {"80/tcp": []}})),
            400,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            container(json!({"Links": ["a:b"]})),
            400,
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            host(json!({"NetworkMode": "host", "Links": ["a:b"]})),
            400,
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
        (
            host(json!({"NetworkMode": "container:"})),
            400,
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (
            host(json!({"NetworkMode": "container"})),
            400,
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (host(json!({"Links": ["a:b"]})), 400, "could not get container for a: No such container: a"),
        (host(json!({"Links": [""]})), 400, "empty string specified for links"),
        (host(json!({"Links": ["a:b:c"]})), 400, "bad format for links: a:b:c"),
        (host(json!({"Links": [":b"]})), 400, "bad format for links: :b"),
        (host(json!({"Links": ["other:"]})), 400, "bad format for links: other:"),
        (
            host(json!({"Links": ["other:a\tb"]})),
            400,
            "an alias has letters, digits, `_`, `.` and `-`, and \"a\\tb\" has others",
        ),
        (host(json!({"NetworkMode": "app", "Links": ["a:b:c"]})), 400, "bad format for links: a:b:c"),
        (
            json!({"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"app": {"Links": [":b"]}}}}),
            400,
            "bad format for links: :b",
        ),
        (
            json!({"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Links": ["other:b"]}}}}),
            400,
            "links are only supported for user-defined networks; those of the default one are in HostConfig.Links",
        ),
        (host(json!({"PortBindings": {"0/tcp": [{}]}})), 400, "invalid port specification: \"0/tcp\""),
        (host(json!({"PortBindings": {"70000/tcp": [{}]}})), 400, "invalid port specification: \"70000/tcp\""),
        (host(json!({"PortBindings": {"80-82/tcp": [{}]}})), 400, "invalid port specification: \"80-82/tcp\""),
        (
            host(json!({"PortBindings": {"80/tcp": [{"HostPort": "http"}]}})),
            400,
            "invalid port specification: \"http\"",
        ),
        (
            host(json!({"PortBindings": {"80/tcp": [{"HostPort": "90-80"}]}})),
            400,
            "invalid port specification: \"90-80\"",
        ),
        (host(json!({"PortBindings": {"80/tcp": [{"HostIp": "1.2.3.999"}]}})), 400, "invalid IP address: 1.2.3.999"),
        (host(json!({"Dns": ["foo"]})), 400, "invalid IP address: foo"),
        (host(json!({"ExtraHosts": ["test"]})), 400, "bad format for add-host: \"test\""),
        (host(json!({"ExtraHosts": ["test:foo"]})), 400, "invalid IP address in add-host: \"foo\""),
        (
            endpoint("default", json!({"IPAMConfig": {"IPv4Address": "172.17.0.9"}})),
            400,
            "invalid config for network bridge: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only",
        ),
        (
            endpoint("default", json!({"Aliases": ["db"]})),
            400,
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            endpoint("default", json!({"Aliases": ["db"], "IPAMConfig": {"IPv6Address": "fd00::9"}})),
            400,
            "\n* user-specified IP",
        ),
        (
            endpoint("app", json!({"IPAMConfig": {"IPv4Address": "nine"}})),
            400,
            "invalid config for network app: invalid endpoint settings:\ninvalid IPv4 address: nine",
        ),
        (endpoint("default", json!({"MacAddress": "zz"})), 400, "zz is not a valid mac address"),
        (with(json!({"MacAddress": "01:00:5e:00:00:01"})), 400, "01:00:5e:00:00:01 is not a valid mac address"),
        (
            with(
                json!({"HostConfig": {"NetworkMode": "none"}, "NetworkingConfig": {"EndpointsConfig": {"none": {}, "app": {}}}}),
            ),
            400,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        (
            with(json!({"HostConfig": {"NetworkMode": "host"}, "NetworkingConfig": {"EndpointsConfig": {"app": {}}}})),
            400,
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (
            with(
                json!({"HostConfig": {"NetworkMode": "app"}, "NetworkingConfig": {"EndpointsConfig": {"app": {}, "host": {}}}}),
            ),
            400,
            "cannot connect container to host network - container must be created in host network mode",
        ),
        (
            host(json!({"RestartPolicy": {"Name": "sometimes"}})),
            400,
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            host(json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}})),
            400,
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            host(json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}})),
            400,
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        (
            host(json!({"RestartPolicy": {"Name": "always"}, "AutoRemove": true})),
            400,
            "can't create 'AutoRemove' container with restart policy",
        ),
        (host(json!({"ShmSize": -1})), 400, "SHM size can not be less than 0"),
        (host(json!({"OomScoreAdj": 1001})), 400, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (host(json!({"Memory": 4096})), 400, "Minimum memory limit allowed is 6MB"),
        (
            host(json!({"MemorySwap": 99999999})),
            400,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            host(json!({"Memory": 99999999, "MemorySwap": 9999999})),
            400,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (host(json!({"MemorySwappiness": 101})), 400, "Invalid value: 101, valid memory swappiness range is 0-100"),
        (host(json!({"MemoryReservation": 5})), 400, "Minimum memory reservation allowed is 6MB"),
        (
            host(json!({"Memory": 9999999, "MemoryReservation": 99999999})),
            400,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            host(json!({"NanoCpus": 1, "CpuPeriod": 1000})),
            400,
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            host(json!({"NanoCpus": 1, "CpuQuota": 1000})),
            400,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            host(json!({"NanoCpus": 3000000000_i64})),
            400,
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            host(json!({"CpuPeriod": 999})),
            400,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (host(json!({"CpuQuota": 999})), 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (
            host(json!({"CpuRealtimeRuntime": 2, "CpuRealtimePeriod": 1})),
            400,
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ),
        (host(json!({"CpuShares": -1})), 400, "invalid CPU shares (-1): value must be a positive integer"),
        (host(json!({"CpusetCpus": "0-"})), 400, "Invalid value 0- for cpuset cpus"),
        (host(json!({"CpusetCpus": "0,7"})), 400, "Requested CPUs are not available - requested 0,7, available: 0-1"),
        (host(json!({"CpusetMems": "x"})), 400, "Invalid value x for cpuset mems"),
        (host(json!({"PidsLimit": -2})), 400, "Invalid value -2 for the pids limit"),
        (host(json!({"BlkioWeight": 9})), 400, "Range of blkio weight is from 10 to 1000"),
        (host(json!({"Ulimits": [{"Name": "shoes", "Soft": 1, "Hard": 1}]})), 400, "invalid ulimit type: shoes"),
        (
            host(json!({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]})),
            400,
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (host(json!({"Devices": [{"PathOnHost": "dev/null"}]})), 400, "both are absolute paths"),
        (
            host(json!({"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]})),
            501,
            "could not select device driver \"\" with capabilities: [[\"gpu\"]]",
        ),
        (host(json!({"CapAdd": ["SYS_ADMIN", "FLY"]})), 400, "invalid CapAdd: unknown capability: \"CAP_FLY\""),
        (host(json!({"CapDrop": ["CAP_FLY"]})), 400, "invalid CapDrop: unknown capability: \"CAP_FLY\""),
        (host(json!({"SecurityOpt": ["nonsense"]})), 400, "invalid --security-opt 1: \"nonsense\""),
        (host(json!({"SecurityOpt": ["colour=red"]})), 400, "invalid --security-opt 2: \"colour=red\""),
        (
            host(json!({"SecurityOpt": ["no-new-privileges=maybe"]})),
            400,
            "invalid --security-opt 2: \"no-new-privileges=maybe\"",
        ),
        (host(json!({"SecurityOpt": ["seccomp=/etc/p.json"]})), 400, "Decoding seccomp profile failed: "),
        (host(json!({"SecurityOpt": ["apparmor=mine"]})), 501, "--security-opt apparmor=mine"),
        (host(json!({"PidMode": "container:"})), 400, "invalid PID mode: container:"),
        (host(json!({"IpcMode": "shared"})), 400, "invalid IPC mode: shared"),
        (host(json!({"UTSMode": "own"})), 400, "invalid UTS mode: own"),
        (host(json!({"CgroupnsMode": "shared"})), 400, "invalid cgroup namespace mode: shared"),
        (host(json!({"UsernsMode": "auto"})), 400, "invalid USER mode: auto"),
        (host(json!({"Isolation": "hyperv"})), 400, "invalid isolation (\"hyperv\")"),
        (host(json!({"CgroupParent": "../up"})), 400, "invalid CgroupParent ../up"),
        (host(json!({"StorageOpt": {"size": "10G"}})), 501, "HostConfig.StorageOpt"),
        (host(json!({"BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1}]})), 501, "HostConfig.BlkioDeviceReadBps"),
        (host(json!({"VolumeDriver": "nfs"})), 404, "error looking up volume plugin nfs: plugin \"nfs\" not found"),
        (host(json!({"LogConfig": {"Type": "syslog"}})), 400, "logger: no log driver named 'syslog' is registered"),
        (
            host(json!({"LogConfig": {"Type": "json-file", "Config": {"max-file": "0"}}})),
            400,
            "max-file cannot be less than 1",
        ),
        (host(json!({"Binds": [""]})), 400, "invalid volume specification: ''"),
        (host(json!({"Binds": [":/x"]})), 400, "invalid volume specification: ':/x'"),
        (host(json!({"Binds": ["/a:/b:ro:z"]})), 400, "invalid volume specification: '/a:/b:ro:z'"),
        (host(json!({"Binds": ["/a:/b:shiny"]})), 400, "invalid mode: shiny"),
        (host(json!({"Binds": ["/a:/b:ro,rw"]})), 400, "invalid mode: ro,rw"),
        (host(json!({"Binds": ["/a:/b:nocopy"]})), 400, "invalid mode: nocopy"),
        (
            host(json!({"Binds": ["/tmp:tmp"]})),
            400,
            "invalid volume specification: '/tmp:tmp': invalid mount config for type \"bind\": invalid mount path: 'tmp' mount path must be absolute",
        ),
        (host(json!({"Binds": ["/tmp:/"]})), 400, "invalid specification: destination can't be '/'"),
        (
            mount(json!({"Type": "magic", "Target": "/x"})),
            400,
            "invalid mount config for type \"magic\": mount type unknown: \"magic\"",
        ),
        (
            mount(json!({"Type": "bind", "Target": "/x"})),
            400,
            "invalid mount config for type \"bind\": field Source must not be empty",
        ),
        (
            mount(json!({"Type": "volume", "Source": "v"})),
            400,
            "invalid mount config for type \"volume\": field Target must not be empty",
        ),
        (
            mount(json!({"Type": "bind", "Source": "s", "Target": "/x"})),
            400,
            "invalid mount path: 's' mount path must be absolute",
        ),
        (
            mount(json!({"Type": "tmpfs", "Source": "s", "Target": "/x"})),
            400,
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        (
            mount(json!({"Type": "volume", "Target": "/x", "BindOptions": {}})),
            400,
            "field BindOptions must not be specified",
        ),
        (
            mount(json!({"Type": "bind", "Source": "/s", "Target": "/x", "BindOptions": {"Propagation": "sideways"}})),
            400,
            "invalid propagation mode: sideways",
        ),
        (mount(json!({"Type": "npipe", "Target": "/x"})), 501, "type \"npipe\" is not there yet"),
        (host(json!({"Tmpfs": {"/t": "shiny"}})), 400, "invalid tmpfs option [\"shiny\"]"),
        (host(json!({"Tmpfs": {"t": ""}})), 400, "invalid mount path: 't' mount path must be absolute"),
        (host(json!({"VolumesFrom": ["nosuch"]})), 404, "No such container: nosuch"),
        (host(json!({"VolumesFrom": ["other:shiny"]})), 400, "invalid mode: shiny"),
    ];
    for (body, status, text) in cases {
        match understood_of(body.clone(), &image()) {
            Ok(_) => panic!("accepted: {body}"),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains(text), "{body}\n  said: {said}\n  not:  {text}");
                assert_eq!(error.status(), status, "{body}: {said}");
            }
        }
    }
}
