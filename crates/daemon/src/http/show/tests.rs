use super::*;
use crate::container::spec::{PlaceSpec, Publish, Restart};
use crate::container::{Kept, State};
use plan::ids::{IfName, Mac};
use plan::world::{Endpoint, Network, PortBinding, Proto, Subnet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn container(phase: Phase) -> Container {
    let mut spec = crate::oci::example();
    spec.image = "busybox".into();
    spec.argv = vec!["httpd".into(), "-f".into()];
    spec.entrypoint_len = 1;
    spec.env = vec!["PATH=/bin".into()];
    spec.network.exposed = [(80, Proto::Tcp), (9, Proto::Udp)].into();
    spec.network.places = vec![crate::container::spec::PlaceSpec::on("bridge")];
    spec.network.published =
        vec![Publish { proto: Proto::Tcp, host_ip: None, host_ports: Some((8080, 8080)), inner: 80 }];
    Container {
        id: "ab".repeat(32).parse().unwrap(),
        name: "web".into(),
        created: at(1),
        spec: spec.into(),
        asked: Arc::new(json!({
            "Image": "busybox",
            "HostConfig": { "NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
                "Dns": null, "CapAdd": ["NET_ADMIN"], "Sysctls": {"net.a": "1"}, "NotAField": 5 },
        })),
        image_id: format!("sha256:{}", "cd".repeat(32)),
        mounts: vec![],
        state: State { phase, pid: 42, started: Some(at(2)), ..State::default() },
        kept: Kept::default(),
        restart_count: 0,
        stopped_by_user: false,
    }
}

fn places() -> Places {
    let network = Network {
        joint: Default::default(),
        id: "11".repeat(32).parse().unwrap(),
        name: "bridge".into(),
        bridge: IfName::try_from("berth0".to_owned()).unwrap(),
        foreign_bridge: false,
        mac: Mac([2, 0x42, 172, 17, 0, 1]),
        v4: Some(Subnet::new("172.17.0.0/16".parse().unwrap(), "172.17.0.1".parse().unwrap())),
        v6: None,
        mtu: 1500,
        icc: true,
        masquerade: true,
        internal: false,
        host_ip: None,
        unnumbered: false,
        trusted: Default::default(),
        prefix: None,
        about: Default::default(),
    };
    let binding = |host_ip: &str, host_port, inner_port, count| PortBinding {
        proto: Proto::Tcp,
        host_ip: host_ip.parse().unwrap(),
        host_port,
        inner_port,
        count,
    };
    let endpoint = Endpoint {
        id: "22".repeat(32).parse().unwrap(),
        network: network.id.clone(),
        sandbox: "33".repeat(32).parse().unwrap(),
        container_name: "web".into(),
        inner: IfName::inner(0),
        host: IfName::try_from("veth2222222".to_owned()).unwrap(),
        mac: Mac([2, 0x42, 172, 17, 0, 2]),
        addr4: Some("172.17.0.2".parse().unwrap()),
        addr6: None,
        gateway: true,
        gateway4: false,
        gateway6: false,
        priority: 0,
        names: vec![],
        opened: Default::default(),
        link_local: Default::default(),
        sysctls: Default::default(),
        ports: vec![binding("0.0.0.0", 8080, 80, 1), binding("::", 8080, 80, 1), binding("127.0.0.1", 7000, 7000, 2)],
    };
    Places {
        sandbox: Some(endpoint.sandbox.clone()),
        sandbox_key: "/run/berth/netns/33".into(),
        endpoints: vec![(endpoint, network)],
    }
}

fn around(places: Places) -> Around {
    Around {
        links: Vec::new(),
        dependencies: Vec::new(),
        places,
        state_dir: "/var/lib/berth/containers/ab".into(),
        default_runtime: "berth-runtime".into(),
        layers: vec!["/l/1".into(), "/l/2".into()],
        sizes: None,
        cgroup_parent: "berth".into(),
        host_name: "host".into(),
    }
}

fn shown(phase: Phase, places: Places, version: Version) -> Value {
    inspect(&container(phase), &around(places), version)
}

#[test]
fn the_network_settings_have_dockers_fields_and_no_others() {
    let new = shown(Phase::Running, places(), (1, 52))["NetworkSettings"].clone();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&new), ["Networks", "Ports", "SandboxID", "SandboxKey"]);
    let bridge = &new["Networks"]["bridge"];
    let want = [
        "Aliases",
        "DNSNames",
        "DriverOpts",
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "GwPriority",
        "IPAMConfig",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "Links",
        "MacAddress",
        "NetworkID",
    ];
    assert_eq!(keys(bridge), want);
    assert_eq!(
        (&bridge["IPAddress"], &bridge["Gateway"], &bridge["IPPrefixLen"]),
        (&json!("172.17.0.2"), &json!("172.17.0.1"), &json!(16))
    );
    assert_eq!(bridge["MacAddress"], "02:42:ac:11:00:02");
    let old = shown(Phase::Running, places(), (1, 51))["NetworkSettings"].clone();
    let mut want = vec![
        "Bridge",
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "HairpinMode",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "LinkLocalIPv6Address",
        "LinkLocalIPv6PrefixLen",
        "MacAddress",
        "Networks",
        "Ports",
        "SandboxID",
        "SandboxKey",
        "SecondaryIPAddresses",
        "SecondaryIPv6Addresses",
    ];
    want.sort_unstable();
    assert_eq!(keys(&old), want);
    assert_eq!(old["IPAddress"], "172.17.0.2");
}

#[test]
fn ports_are_listed_one_by_one() {
    let running = shown(Phase::Running, places(), (1, 53))["NetworkSettings"]["Ports"].clone();
    let want = json!({
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "9/udp": null,
        "7000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "7000"}],
        "7001/tcp": [{"HostIp": "127.0.0.1", "HostPort": "7001"}],
    });
    assert_eq!(running, want);
    let stopped = shown(Phase::Exited, Places::default(), (1, 53));
    assert_eq!(stopped["NetworkSettings"]["Ports"], json!({}));
    let line = summary::summary(&container(Phase::Running), &places(), None, at(10), (1, 52));
    let want = json!([
        {"PrivatePort": 9, "Type": "udp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 7000, "PublicPort": 7000, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 7001, "PublicPort": 7001, "Type": "tcp"},
    ]);
    assert_eq!(line["Ports"], want);
    let line = summary::summary(&container(Phase::Exited), &Places::default(), None, at(10), (1, 51));
    assert_eq!(line["Ports"], json!([]));
}

#[test]
fn a_container_that_does_not_run_shows_its_network_with_empty_fields() {
    let value = shown(Phase::Exited, Places::default(), (1, 44));
    let bridge = &value["NetworkSettings"]["Networks"]["bridge"];
    assert_eq!(
        (&bridge["IPAddress"], &bridge["EndpointID"], &bridge["IPPrefixLen"]),
        (&json!(""), &json!(""), &json!(0))
    );
    assert_eq!(
        (&value["NetworkSettings"]["SandboxID"], &value["NetworkSettings"]["SandboxKey"]),
        (&json!(""), &json!(""))
    );
    let networks = |mode| {
        let mut container = container(Phase::Running);
        container.spec_mut().network.mode = mode;
        network::networks(&container, &Places::default())
    };
    assert_eq!(networks(NetworkMode::Joined("x".into())), json!({}));
    assert_eq!(networks(NetworkMode::Open)["host"]["NetworkID"], network::fixed_id("host"));
    assert_eq!(networks(NetworkMode::Closed)["none"]["IPAddress"], "");
    assert_ne!(network::fixed_id("host"), network::fixed_id("none"));
    assert_eq!(network::fixed_id("host").len(), 64);
}

#[test]
fn old_clients_look_for_the_short_id_among_the_aliases() {
    let mut container = container(Phase::Exited);
    container.spec_mut().network.mode = NetworkMode::Named("app".into());
    let place = PlaceSpec { aliases: vec!["db".into()], ..PlaceSpec::on("app") };
    container.spec_mut().network.places = vec![place, PlaceSpec::on("bridge")];
    let short = container.id.short().to_string();
    let aliases = |version| {
        let networks = inspect(&container, &around(Places::default()), version)["NetworkSettings"]["Networks"].clone();
        [networks["app"]["Aliases"].clone(), networks["bridge"]["Aliases"].clone()]
    };
    assert_eq!(aliases((1, 44)), [json!(["db", short]), Value::Null]);
    assert_eq!(aliases((1, 45)), [json!(["db"]), Value::Null]);
}

#[test]
fn the_host_configuration_is_what_was_asked_over_dockers_defaults() {
    let value = shown(Phase::Running, places(), (1, 53));
    let host = &value["HostConfig"];
    for (field, want) in [
        ("NetworkMode", json!("bridge")),
        ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("PortBindings", json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]})),
        ("Dns", json!([])),
        ("Binds", Value::Null),
        ("CapAdd", json!(["NET_ADMIN"])),
        ("CapDrop", Value::Null),
        ("Sysctls", json!({"net.a": "1"})),
        ("Runtime", json!("berth-runtime")),
        ("IpcMode", json!("private")),
        ("LogConfig", json!({"Type": "none", "Config": {}})),
        ("PidsLimit", Value::Null),
        ("Memory", json!(0)),
        ("ConsoleSize", json!([0, 0])),
    ] {
        assert_eq!(host[field], want, "{field}");
    }
    assert!(host.get("NotAField").is_none() && host.get("Tmpfs").is_none() && host.get("Mounts").is_none());
    assert!(host["MaskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    // Every field is one that Docker's own clients know, of the type they know.
    let typed: api::HostConfig = serde_json::from_value(host.clone()).unwrap();
    assert_eq!(typed.cap_add, Some(vec!["NET_ADMIN".to_owned()]));
}

#[test]
fn what_was_changed_since_is_shown() {
    let mut container = container(Phase::Running);
    container.spec_mut().restart = Restart::OnFailure(3);
    container.spec_mut().resources.memory = Some(64 << 20);
    let host = inspect(&container, &around(places()), (1, 53))["HostConfig"].clone();
    assert_eq!(host["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(64 << 20), &json!(128 << 20)));
}

#[test]
fn the_whole_answer_is_read_by_typed_clients() {
    for phase in [Phase::Created, Phase::Running, Phase::Exited] {
        let value = shown(phase, if phase == Phase::Running { places() } else { Places::default() }, (1, 53));
        let typed: api::ContainerInspectResponse = serde_json::from_value(value).unwrap();
        assert_eq!(typed.name.as_deref(), Some("/web"));
        assert_eq!(typed.args, Some(vec!["-f".to_owned()]));
        let line = summary::summary(&container(phase), &places(), Some((1, 2)), at(10), (1, 52));
        let typed: api::ContainerSummary = serde_json::from_value(line).unwrap();
        assert_eq!((typed.size_rw, typed.command.as_deref()), (Some(1), Some("httpd -f")));
    }
}

#[test]
fn the_configuration_is_merged_with_the_images() {
    let config = shown(Phase::Created, Places::default(), (1, 53))["Config"].clone();
    for (field, want) in [
        ("Hostname", json!("abababababab")),
        ("Entrypoint", json!(["httpd"])),
        ("Cmd", json!(["-f"])),
        ("Env", json!(["PATH=/bin"])),
        ("ExposedPorts", json!({"80/tcp": {}, "9/udp": {}})),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("OnBuild", Value::Null),
    ] {
        assert_eq!(config[field], want, "{field}");
    }
    assert!(config.get("StopSignal").is_none());
}

#[test]
fn states_read_as_in_ps() {
    let status = |phase, change: fn(&mut State)| {
        let mut container = container(phase);
        change(&mut container.state);
        summary::status(&container, at(302))
    };
    assert_eq!(status(Phase::Created, |_| ()), "Created");
    assert_eq!(status(Phase::Running, |_| ()), "Up 5 minutes");
    assert_eq!(status(Phase::Paused, |_| ()), "Up 5 minutes (Paused)");
    let ended = |state: &mut State| {
        state.exit_code = 3;
        state.finished = Some(at(300));
    };
    assert_eq!(status(Phase::Exited, ended), "Exited (3) 2 seconds ago");
    assert_eq!(status(Phase::Restarting, ended), "Restarting (3) 2 seconds ago");
    let state = shown(Phase::Paused, places(), (1, 53))["State"].clone();
    assert_eq!((&state["Running"], &state["Paused"], &state["Status"]), (&json!(true), &json!(true), &json!("paused")));
    assert_eq!(
        (&state["StartedAt"], &state["FinishedAt"]),
        (&json!("1970-01-01T00:00:02Z"), &json!(crate::time::NEVER))
    );
}

#[test]
fn health_is_shown_where_docker_shows_it() {
    use crate::container::health::{Check, Health, Outcome, Status};
    let mut container = container(Phase::Running);
    assert!(state(&container).get("Health").is_none());
    assert_eq!(health::check(&container), Value::Null);
    assert_eq!(health::summary(&container), json!({"Status": "none", "FailingStreak": 0}));
    container.asked = Arc::new(json!({"Healthcheck": {"Test": ["NONE"]}}));
    assert_eq!(health::check(&container), json!({"Test": ["NONE"]}));
    container.spec_mut().health = Some(Check {
        argv: vec!["/bin/sh".into(), "-c".into(), "test -e /up".into()],
        shell_len: 2,
        interval: Some(Duration::from_secs(2)),
        retries: Some(4),
        ..Check::default()
    });
    assert_eq!(
        health::check(&container),
        json!({"Test": ["CMD-SHELL", "test -e /up"], "Interval": 2_000_000_000_u64, "Retries": 4})
    );
    assert_eq!(summary::status(&container, at(62)), "Up About a minute", "it was started before it had a check");
    container.state.health = Some(Health::starting(None));
    assert_eq!(summary::status(&container, at(62)), "Up About a minute (health: starting)");
    let outcome = Outcome { started: at(3), ended: at(4), exit_code: 1, output: "no\n".into() };
    container.state.health = Some(Health { status: Status::Unhealthy, failing_streak: 5, log: vec![outcome] });
    assert_eq!(summary::status(&container, at(62)), "Up About a minute (unhealthy)");
    assert_eq!(
        state(&container)["Health"],
        json!({"Status": "unhealthy", "FailingStreak": 5, "Log": [
            {"Start": "1970-01-01T00:00:03Z", "End": "1970-01-01T00:00:04Z", "ExitCode": 1, "Output": "no\n"}]})
    );
    let line = |version| summary::summary(&container, &places(), None, at(10), version);
    assert_eq!(line((1, 52))["Health"], json!({"Status": "unhealthy", "FailingStreak": 5}));
    assert!(line((1, 51)).get("Health").is_none());
}
