//! The lab judged by its own means: what it promises its users, and that it leaves nothing.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

#[test]
fn two_hosts_ping_each_other() {
    lab::alone(|lab| {
        let one = lab.host("one", "192.0.2.1/24 2001:db8::1/64");
        let two = lab.host("two", "192.0.2.2/24 2001:db8::2/64");
        let far = lab.host_on("elsewhere", "far", "192.0.2.3/24");
        assert!(one.ping("192.0.2.2") && two.ping("192.0.2.1"));
        assert!(one.ping("2001:db8::2") && two.ping("2001:db8::1"));
        assert!(far.ping("192.0.2.3") && !one.ping("192.0.2.3"), "another segment is another wire");
        let err = one.try_ping("8.8.8.8", Duration::from_secs(1)).unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::NetworkUnreachable);
    })
}

#[test]
fn probes_tell_answers_from_refusals_and_silence() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
        let tcp = friend.serve_tcp("[::]:0", "hello");
        let udp = friend.serve_udp("0.0.0.0:53", "datagram");
        let port = tcp.addr().port();
        assert_eq!(lab.here().tcp(&format!("192.0.2.2:{port}")).unwrap(), "hello 192.0.2.1\n");
        assert_eq!(lab.here().tcp(&format!("[2001:db8::2]:{port}")).unwrap(), "hello 2001:db8::1\n");
        let peers: Vec<String> = tcp.peers().iter().map(|peer| peer.ip().to_string()).collect();
        assert_eq!(peers, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(lab.here().udp("192.0.2.2:53", "?").unwrap(), "datagram 192.0.2.1\n");
        assert_eq!(udp.peers().len(), 1);
        drop(tcp);
        assert_eq!(
            lab.here().tcp(&format!("192.0.2.2:{port}")).unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        assert_eq!(lab.here().udp("192.0.2.2:54", "?").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        // Known to ARP and then silent.
        friend.ok(&[
            "nft",
            "add table inet wall; add chain inet wall in { type filter hook input priority 0; policy drop; }",
        ]);
        assert_eq!(lab.here().tcp("192.0.2.2:80").unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    })
}

#[test]
fn a_connection_lives_on_and_a_route_leads_further() {
    lab::alone(|lab| {
        use std::io::{Read, Write};
        lab.uplink("192.0.2.1/24");
        lab.uplink_on("back", "up1", "198.51.100.1/24");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let friend = lab.host("friend", "192.0.2.2/24");
        let behind = lab.host_on("back", "behind", "198.51.100.2/24");
        friend.route("198.51.100.0/24 via 192.0.2.1");
        behind.route("default via 198.51.100.1");
        let _echo = behind.serve_echo("198.51.100.2:7");
        let mut stream = friend.connect("198.51.100.2:7").unwrap();
        for text in [b"one", b"two"] {
            stream.write_all(text).unwrap();
            let mut back = [0; 3];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, text);
        }
        let through = lab.inside_path(std::path::Path::new("/run/netns/friend"));
        assert!(through.ping("198.51.100.2"));
        let mut sleeper = friend.spawn(&["sleep", "60"]);
        assert!(lab.inside_pid(sleeper.pid()).ping("198.51.100.2"));
        assert_eq!(sleeper.kill().code, 137);
    })
}

#[test]
fn commands_are_fed_and_heard_and_given_up() {
    lab::alone(|lab| {
        let host = lab.host("host", "");
        let output = host.run(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
        let big = "x".repeat(300_000);
        assert_eq!(lab::run(&mut Command::new("cat"), big.as_bytes(), Duration::from_secs(10)).stdout, big);
        let slow = std::panic::catch_unwind(|| {
            lab::run(Command::new("sh").args(["-c", "echo begun; exec sleep 60"]), &[], Duration::from_millis(300))
        });
        let said = slow.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains("killed, it took over 300ms\nstdout: begun"), "{said}");
        let mut cat = host.spawn(&["cat"]);
        cat.say("hello\n");
        cat.end_input();
        assert_eq!(cat.wait(Duration::from_secs(5)).stdout, "hello\n");
    })
}

#[test]
fn a_lab_has_its_own_links_processes_and_places() {
    lab::alone(|lab| {
        assert_eq!(names("/sys/class/net"), BTreeSet::from(["lo".to_owned()]));
        assert!(names("/proc").contains("1") && names("/proc").len() < 200);
        assert_eq!(std::fs::read_dir("/run/netns").unwrap().count(), 0);
        assert_eq!(std::env::temp_dir(), lab.dir());
        assert_eq!(lab.here().ok(&["ip", "-4", "-o", "addr", "show", "lo"]).matches("127.0.0.1/8").count(), 1);
        assert!(!lab::cgroups::hierarchies().is_empty(), "the host's cgroups stay in view");
        // An orphan is reaped, not left as a zombie.
        let orphan = lab.here().ok(&["sh", "-c", "sleep 0.05 >/dev/null 2>&1 & echo $!"]);
        let gone = format!("/proc/{}", orphan.trim());
        lab::wait_for("the orphan's end", Duration::from_secs(5), || {
            (!std::path::Path::new(&gone).exists()).then_some(())
        });
    })
}

/// Runs one of the tests of [`misbehaving`] as a harness would, from outside of any lab.
fn seen_from_outside(test: &str, env: &[(&str, &str)]) -> lab::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("misbehaving::{test}"), "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    lab::run(command.envs(env.iter().copied()), &[], Duration::from_secs(60))
}

#[test]
fn a_failing_lab_fails_its_test_and_leaves_nothing() {
    let links = names("/sys/class/net");
    let output = seen_from_outside("leaves_all_it_can", &[]);
    assert_eq!(output.code, 101, "{output:?}");
    assert!(output.stdout.contains("on purpose"), "what was said inside is repeated: {output:?}");
    assert!(output.stderr.contains("`misbehaving::leaves_all_it_can` failed in its lab"), "{output:?}");
    let cgroup = output.stdout.lines().find_map(|line| line.strip_prefix("cgroup ")).unwrap();
    let dir = output.stdout.lines().find_map(|line| line.strip_prefix("dir ")).unwrap();
    let daemon = output.stdout.lines().find_map(|line| line.strip_prefix("daemon ")).unwrap();
    assert!(cgroup.starts_with("/berth-lab-") && dir.contains("berth-lab-"));
    assert_eq!(lab::cgroups::named(cgroup), Vec::<std::path::PathBuf>::new());
    assert!(!std::path::Path::new(dir).exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir), "{mounts}");
    assert!(!commands().contains(daemon), "`{daemon}` still runs");
    // Others may come and go on the machine; what the test made has names of its own.
    let new: Vec<String> =
        names("/sys/class/net").difference(&links).filter(|name| name.starts_with("leak")).cloned().collect();
    assert_eq!(new, Vec::<String>::new());
}

#[test]
fn a_lab_has_a_time_limit() {
    let started = std::time::Instant::now();
    let output = seen_from_outside("never_ends", &[]);
    assert_eq!(output.code, 101, "{output:?}");
    assert!(output.stdout.contains("the time limit of 500ms is over in `misbehaving::never_ends`"), "{output:?}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn alone_in_a_helper_is_refused_not_passed_over() {
    let output = seen_from_outside("calls_alone_through_a_helper", &[]);
    assert_eq!(output.code, 101, "{output:?}");
    assert!(output.stderr.contains("call lab::alone in the test function itself"), "{output:?}");
}

#[test]
fn a_lab_in_a_lab_is_refused() {
    let output = seen_from_outside("leaves_all_it_can", &[("BERTH_LAB_TEST", "another")]);
    assert_eq!(output.code, 101, "{output:?}");
    assert!(output.stderr.contains("inside the lab of `another`"), "{output:?}");
}

#[test]
fn without_namespaces_a_lab_fails_in_one_line_or_is_counted_as_skipped() {
    // A user namespace in which the limit of network namespaces is none.
    let dir = lab::throwaway::Throwaway::new().unwrap();
    let count = dir.path().join("skipped");
    let inside = |env: &[(&str, &str)]| {
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"",
            "sh",
        ]);
        command.arg(std::env::current_exe().unwrap()).args(["two_hosts_ping_each_other", "--exact", "--nocapture"]);
        command.env_remove("BERTH_SKIP_LABS").env("BERTH_LAB_SKIPPED", &count).envs(env.iter().copied());
        lab::run(&mut command, &[], Duration::from_secs(20))
    };
    let failed = inside(&[]);
    assert_eq!(failed.code, 101, "{failed:?}");
    assert!(failed.stderr.contains("no namespaces can be made here"), "{failed:?}");
    assert!(failed.stderr.contains("user.max_net_namespaces"), "{failed:?}");
    assert!(!count.exists(), "a failure is not counted as skipped");
    let skipped = inside(&[("BERTH_SKIP_LABS", "1")]);
    assert_eq!(skipped.code, 0, "{skipped:?}");
    assert!(skipped.stdout.contains("skipped: no namespaces can be made here"), "{skipped:?}");
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "two_hosts_ping_each_other\n");
}

/// Labs that end badly, on purpose.
mod misbehaving {
    use std::process::Command;
    use std::time::Duration;

    #[test]
    #[ignore = "fails on purpose; another test runs it"]
    fn leaves_all_it_can() {
        lab::alone(|lab| {
            println!("\ncgroup {}\ndir {}", lab.cgroup(), lab.dir().display());
            let argument = format!("9{}", lab.outer_pid());
            println!("daemon sleep {argument}");
            lab.uplink("192.0.2.1/24");
            lab.here().ok(&["ip", "link", "add", "leak0", "type", "bridge"]);
            lab.host("leak", "192.0.2.9/24").ok(&["ip", "link", "add", "leak1", "type", "bridge"]);
            let daemon = lab.here().ok(&["sh", "-c", &format!("setsid sleep {argument} >/dev/null 2>&1 & echo $!")]);
            // An ordinary user, who is mapped here, owns no cgroup.
            if std::fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().nth(1) == Some("0") {
                for root in lab::cgroups::hierarchies() {
                    let deep = root.join(lab.cgroup().trim_start_matches('/')).join("deep/er");
                    std::fs::create_dir_all(&deep).unwrap();
                    // A cpuset takes nobody before it has processors; the others do.
                    let _ = std::fs::write(deep.join("cgroup.procs"), daemon.trim());
                }
                assert!(!lab::cgroups::named(lab.cgroup()).is_empty());
            }
            let deep = lab.dir().join("deep");
            std::fs::create_dir(&deep).unwrap();
            lab.here().ok(&["mount", "-t", "tmpfs", "leak", deep.to_str().unwrap()]);
            panic!("on purpose");
        })
    }

    #[test]
    #[ignore = "never ends, on purpose; another test runs it"]
    fn never_ends() {
        lab::alone_for(Duration::from_millis(500), |lab| {
            // The limit counts for what was started inside as well.
            lab::run(Command::new("sleep").arg("1000").current_dir(lab.dir()), &[], Duration::from_secs(1000));
        })
    }

    #[test]
    #[ignore = "fails on purpose; another test runs it"]
    fn calls_alone_through_a_helper() {
        helper();
    }

    fn helper() {
        lab::alone(|_| ());
    }
}

/// The command lines of all processes, a line each.
fn commands() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.fold(String::new(), |all, process| {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        all + &String::from_utf8_lossy(&words).replace('\0', " ") + "\n"
    })
}

fn names(dir: &str) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_floor_program_starts_its_containers() {
    lab::alone(|lab| {
        lab.here().ok(&["ip", "link", "add", "br0", "up", "type", "bridge"]);
        for words in [&["none"][..], &["host"], &["bridge", "br0"]] {
            let output = lab::run(Command::new(env!("CARGO_BIN_EXE_floor")).args(words), &[], Duration::from_secs(20));
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{words:?}");
        }
        let missing = lab::run(
            Command::new(env!("CARGO_BIN_EXE_floor")).args(["bridge", "nosuch"]),
            &[],
            Duration::from_secs(20),
        );
        assert_eq!(missing.code, 1);
        let times = lab::floor::network("br0", 5).unwrap();
        assert!(times.len() == 5 && times.iter().all(|time| *time < Duration::from_secs(5)), "{times:?}");
        println!("{times:?}");
    })
}

#[test]
fn the_floor_makes_a_network_that_carries_packets() {
    lab::alone(|lab| {
        lab.here().ok(&["ip", "link", "add", "br0", "up", "type", "bridge"]);
        lab.here().ok(&["ip", "addr", "add", "10.255.0.1/24", "dev", "br0"]);
        let inner = lab.host("inner", "");
        inner.ok(&["ip", "link", "del", "eth0"]);
        let pin = std::fs::File::open("/run/netns/inner").unwrap();
        let far = lab::floor::Far::Fd(std::os::fd::AsRawFd::as_raw_fd(&pin));
        let bridge = lab::floor::index("br0").unwrap();
        lab::floor::Route::open().unwrap().add_veth("flo", Some(bridge), far).unwrap();
        inner.enter(|| lab::floor::Route::open().unwrap().configure(Some(lab::floor::addresses())).unwrap());
        assert!(lab.here().ping("10.255.0.2"));
        assert!(inner.ok(&["ip", "route"]).contains("default via 10.255.0.1 dev eth0"));
    })
}
