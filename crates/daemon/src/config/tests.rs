use super::*;
use crate::container::spec::{LogSpec, Seccomp};

/// The configuration of flags (split at blanks) and a file's text; or the refusal.
fn config(flags: &str, file: &str) -> std::result::Result<Config, String> {
    let args = std::iter::once("daemon").chain(flags.split_whitespace());
    let matches = command().try_get_matches_from(args).map_err(|error| error.to_string())?;
    let source = Path::new("/etc/berth/daemon.json");
    let read = || Config::of(values::of_flags(&matches)?, values::of_file(file, source)?, source);
    read().map_err(|error| error.to_string())
}

fn refused(flags: &str, file: &str) -> String {
    match config(flags, file) {
        Ok(_) => panic!("accepted: {flags} {file}"),
        Err(text) => text,
    }
}

#[test]
fn nothing_told_is_the_defaults() {
    let config = config("", "").unwrap();
    assert_eq!(config.sockets, [PathBuf::from("/run/berth/berth.sock")]);
    assert_eq!(config.data_root, PathBuf::from("/var/lib/berth"));
    assert_eq!(config.exec_root, PathBuf::from("/run/berth"));
    assert_eq!(config.pidfile, PathBuf::from("/run/berth/berth.pid"));
    assert_eq!(config.log, LogSpec::JsonFile { max_size: None, max_files: 1, options: Default::default() });
    assert_eq!(config.shm_size, 64 << 20);
    assert_eq!(config.default_runtime, OWN_RUNTIME);
    assert!(config.warnings.is_empty() && !config.init);
    let wish = config.default_network().unwrap().unwrap();
    assert_eq!((wish.bridge.unwrap().as_str(), wish.mtu, wish.ipv4, wish.ipv6), ("berth0", None, true, false));
    assert!(wish.subnets.is_empty() && wish.icc && wish.masquerade && wish.foreign.is_none());
}

#[test]
fn flags_and_file_say_the_same_in_their_own_ways() {
    let flags = "-H unix:///a.sock -H unix:///b.sock --data-root /d --exec-root /e -p /p.pid -l warn --log-format json -G staff \
        --cgroup-parent /pods --add-runtime runc=/usr/sbin/runc --default-runtime runc --insecure-registry reg:5000 \
        --label a=b --ip 192.0.2.1 --bip 10.9.0.1/24 --fixed-cidr 10.9.0.128/25 \
        --default-gateway 10.9.0.2 --mtu 1400 --default-address-pool base=10.20.0.0/16,size=24 --ip-masq=false \
        --host-gateway-ip 192.0.2.9 --dns 192.0.2.53 --dns-search corp.example --dns-opt ndots:2 --init --default-shm-size 1m \
        --default-ulimit nofile=10:20 --log-opt max-size=1k --log-opt max-file=2 --seccomp-profile unconfined \
        --no-new-privileges --ipv6 --bip6 fd00:1::1/64";
    let file = r#"{"hosts":["unix:///a.sock","unix:///b.sock"],"data-root":"/d","exec-root":"/e","pidfile":"/p.pid",
        "log-level":"warn","log-format":"json","group":"staff","cgroup-parent":"/pods",
        "runtimes":{"runc":{"path":"/usr/sbin/runc"}},"default-runtime":"runc","insecure-registries":["reg:5000"],
        "labels":["a=b"],"ip":"192.0.2.1","bip":"10.9.0.1/24",
        "fixed-cidr":"10.9.0.128/25","default-gateway":"10.9.0.2","mtu":1400,
        "default-address-pools":[{"base":"10.20.0.0/16","size":24}],"ip-masq":false,"host-gateway-ips":["192.0.2.9"],
        "dns":["192.0.2.53"],"dns-search":["corp.example"],"dns-opts":["ndots:2"],"init":true,"default-shm-size":"1m",
        "default-ulimits":{"nofile":{"Name":"nofile","Soft":10,"Hard":20}},"log-opts":{"max-size":"1k","max-file":"2"},
        "seccomp-profile":"unconfined","no-new-privileges":true,"ipv6":true,
        "bip6":"fd00:1::1/64"}"#;
    let (by_flags, by_file) = (config(flags, "").unwrap(), config("", file).unwrap());
    assert_eq!(format!("{by_flags:?}"), format!("{by_file:?}"));
    assert_eq!(by_file.ulimits["nofile"], (10, 20));
    assert_eq!(by_file.seccomp, Seccomp::Unconfined);
    assert!(matches!(by_file.log, LogSpec::JsonFile { max_size: Some(1000), max_files: 2, .. }));
    let wish = by_file.default_network().unwrap().unwrap();
    assert_eq!(wish.subnets.len(), 2);
    assert_eq!(wish.subnets[0].gateway, Some("10.9.0.1".parse().unwrap()));
    assert_eq!(wish.subnets[0].range, Some("10.9.0.128/25".parse().unwrap()));
    assert!(wish.ipv6 && !wish.masquerade);
}

#[test]
fn every_wrong_value_is_named() {
    let cases: &[(&str, &str, &str)] = &[
        ("--mtu -5", "", "invalid default MTU: -5"),
        ("--mtu big", "", "invalid argument \"big\" for \"--mtu\" flag: it is not a whole number"),
        ("--icc=maybe", "", "invalid argument \"maybe\" for \"--icc\" flag: it is neither true nor false"),
        (
            "-b br1 --bip 10.0.0.1/24",
            "",
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ),
        ("--icc=false --iptables=false", "", "You specified --iptables=false with --icc=false."),
        ("--icc=false --ip6tables=false --ipv6", "", "You specified --ip6tables=false with --icc=false."),
        (
            "--bip 192.168.0.128",
            "",
            "parse bip failed: invalid CIDR address: 192.168.0.128: did you mean 192.168.0.129/25?",
        ),
        ("--bip 192.168.0.128/25", "", "failed to allocate gateway (192.168.0.128): Address already in use"),
        ("--bip fd00::1/64", "", "--bip fd00::1/64: it is not an IPv4 address and prefix"),
        ("--bip 10.0.0.1/24 --fixed-cidr 10.1.0.0/24", "", "10.1.0.0/24"),
        ("--fixed-cidr 10.0.0", "", "parse fixed-cidr failed: invalid CIDR address: 10.0.0"),
        ("--default-gateway fd00::1", "", "--default-gateway fd00::1: it is not an IPv4 address"),
        ("--ip here", "", "ParseAddr(\"here\"): unable to parse IP"),
        ("--dns foo", "", "ParseAddr(\"foo\"): unable to parse IP"),
        ("--label plain", "", "bad attribute format: plain"),
        ("--label a=1 --label a=2", "", "conflict labels for a=1 and a=2"),
        ("--log-level loud", "", "invalid logging level: loud"),
        ("--log-format xml", "", "invalid log format: xml"),
        ("--log-driver syslog", "", "logger: no log driver named 'syslog' is registered"),
        ("--log-opt colour=red", "", "unknown log opt 'colour' for json-file log driver"),
        (
            "--log-opt max-size",
            "",
            "invalid argument \"max-size\" for \"--log-opt\" flag: it is not of the form KEY=VALUE",
        ),
        ("--default-runtime runsc", "", "specified default runtime 'runsc' does not exist"),
        ("--add-runtime berth-runtime=/x", "", "runtime name 'berth-runtime' is reserved"),
        ("--add-runtime runc=sbin/runc", "", "\"sbin/runc\" is not an absolute path"),
        ("--default-ulimit shoes=1", "", "invalid ulimit type: shoes"),
        ("--default-ulimit nofile=9:1", "", "ulimit soft limit must be less than or equal to hard limit: 9 > 1"),
        ("--default-shm-size 0", "", "invalid size: '0'"),
        ("--default-ipc-mode host", "", "IPC mode \"host\" is not supported"),
        ("--default-cgroupns-mode shared", "", "default cgroup namespace mode (shared) is invalid"),
        ("--default-address-pool base=10.0.0.0/16", "", "base (CIDR) and size (bits) are both needed"),
        ("--default-address-pool base=10.0.0.0/16,size=8", "", "base=10.0.0.0/16,size=8"),
        ("--default-address-pool 10.0.0.0/16", "", "it is not of the form base=CIDR,size=BITS"),
        ("--insecure-registry http://reg", "", "insecure registry http://reg should not contain '://'"),
        ("--exec-opt native.cgroupdriver=cgroups", "", "native.cgroupdriver option cgroups is not supported"),
        ("--seccomp-profile /nowhere.json", "", "opening seccomp profile (/nowhere.json) failed"),
        (
            "--firewall-backend ebtables",
            "",
            "invalid firewall-backend: allowed values are \"iptables\" and \"nftables\"",
        ),
        ("--bridge a-name-that-is-too-long", "", "a-name-that-is-too-long"),
        ("--cgroup-parent ../x", "", "--cgroup-parent ../x"),
        ("--host nonsense", "", "it is not unix://PATH"),
        ("--no-such-flag", "", "unexpected argument '--no-such-flag'"),
        ("-mtu 1200", "", "unexpected argument '-m'"),
        ("", "{", "daemon.json: EOF while parsing an object at line 1 column 1"),
        ("", "{\n \"mtu\": 1,\n}", "at line 3 column 1"),
        ("", "[]", "expected a map at line 1"),
        ("", r#"{"mtuu":1,"zzz":2}"#, "the following directives don't match any configuration option: mtuu, zzz"),
        ("", r#"{"config-file":"x"}"#, "the following directives don't match any configuration option: config-file"),
        ("", r#"{"mtu":"1500"}"#, "mtu: \"1500\" is not a whole number"),
        ("", r#"{"icc":"yes"}"#, "icc: \"yes\" is not true or false"),
        ("", r#"{"dns":"192.0.2.1"}"#, "dns: \"192.0.2.1\" is not a list of texts"),
        ("", r#"{"default-address-pools":{}}"#, "default-address-pools: {} is not a list of objects"),
        ("", r#"{"runtimes":{"x":{}}}"#, "runtimes: x: path is missing"),
        (
            "--debug --dns 192.0.2.1",
            r#"{"debug":false,"dns":["192.0.2.2"]}"#,
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, \
             from file: false), dns: (from flag: [\"192.0.2.1\"], from file: [\"192.0.2.2\"])",
        ),
    ];
    for (flags, file, text) in cases {
        let said = refused(flags, file);
        assert!(said.contains(text), "{flags} {file}\n  said: {said}\n  not:  {text}");
    }
}

#[test]
fn what_is_dangerous_to_go_without_is_refused_with_a_sentence() {
    for flags in [
        "--userns-remap default",
        "--tlsverify",
        "--tls --tlscert c",
        "-H tcp://0.0.0.0:2375",
        "-H fd://",
        "--authorization-plugin x",
        "--selinux-enabled",
        "--metrics-addr 127.0.0.1:9",
        "--http-proxy http://p",
        "--rootless",
        "--firewall-backend iptables",
        "--exec-opt native.cgroupdriver=systemd",
    ] {
        let args = std::iter::once("daemon").chain(flags.split_whitespace());
        let matches = command().try_get_matches_from(args).unwrap();
        let values = values::of_flags(&matches).unwrap();
        let refused = Config::of(values, Values::new(), Path::new("f")).expect_err(flags);
        assert!(matches!(refused, Error::Absent(_)), "{flags}: {refused:?}");
    }
    assert!(config("--tlsverify=false --selinux-enabled=false", "").unwrap().warnings.is_empty());
    let said = refused("", r#"{"proxies":{"http-proxy":"http://p"}}"#);
    assert!(said.starts_with("\"proxies\": "), "{said}");
}

#[test]
fn what_has_no_meaning_here_is_one_line_of_warning() {
    let config = config(
        "--containerd /c.sock --storage-driver overlay2 --userland-proxy=false --live-restore",
        r#"{"features":{"buildkit":true},"experimental":false}"#,
    )
    .unwrap();
    assert_eq!(config.warnings.len(), 6, "{:?}", config.warnings);
    assert!(config.warnings.contains(&"--containerd has no effect: berth needs no containerd".to_owned()));
    assert!(config.warnings.iter().all(|warning| !warning.contains('\n')));
}

#[test]
fn the_table_has_each_name_once_and_help_for_each_flag() {
    let mut names = std::collections::BTreeSet::new();
    for row in table::ROWS {
        assert!(names.insert(row.name()), "{} twice", row.name());
        assert!(row.flag.is_empty() == row.help.is_empty(), "{}", row.name());
        assert!(!row.key.is_empty() || ["config-file", "rootless", "validate"].contains(&row.flag), "{}", row.flag);
    }
    command().debug_assert();
}

#[test]
fn a_recorded_bridge_is_kept_only_if_it_is_what_the_settings_say() {
    use plan::decide::{Facts, network};
    use plan::world::{Fact, World};
    let recorded = |flags: &str| {
        let mut wish = config(flags, "").unwrap().default_network().unwrap().unwrap();
        wish.foreign = wish.foreign.map(|_| vec!["10.77.0.1/24".parse().unwrap()]);
        let mut facts = Facts::default();
        facts.links.extend(wish.foreign.is_some().then(|| wish.bridge.clone()).flatten());
        match network(&World::default(), &facts, &wish).unwrap().remove(0) {
            Fact::Network(network) => network,
            other => panic!("{other:?}"),
        }
    };
    let cases = [
        ("", "", true),
        ("", "--mtu 1400", false),
        ("--mtu 1400", "--mtu 1400", true),
        ("--bip 10.9.0.1/24", "", true),
        ("", "--bip 10.9.0.1/24", false),
        ("--bip 10.9.0.1/24", "--bip 10.9.0.2/24", false),
        ("--bip 10.9.0.1/24 --fixed-cidr 10.9.0.128/25", "--bip 10.9.0.1/24", false),
        ("--bip 10.9.0.1/24 --fixed-cidr 10.9.0.128/25", "--bip 10.9.0.1/24 --fixed-cidr 10.9.0.128/25", true),
        ("--ip-masq=false", "", false),
        ("", "--ipv6", false),
        ("--ipv6", "--ipv6", true),
        ("", "--bridge none", false),
        ("--bridge mine", "--bridge mine", true),
        ("--bridge mine", "", false),
    ];
    for (had, told, same) in cases {
        assert_eq!(config(told, "").unwrap().describes(&recorded(had), None), same, "had {had:?}, told {told:?}");
    }
    assert!(config("--bridge none", "").unwrap().default_network().unwrap().is_none());
}
