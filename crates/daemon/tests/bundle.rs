//! Bundles under an OCI runtime: what a container then finds is what was asked for.
//!
//! Needs root, busybox-static and runc, as the engine's other tests do; `BERTH_TEST_RUNTIME` puts another runtime in its
//! place. Everything lies below a temporary directory and a control group `/berth-test-PID-N`.

use daemon::container::spec::*;
use daemon::container::{Container, Kept, MountPoint, State};
use daemon::oci::{self, HostRights, Inputs, Joined, NetNs};
use daemon::users;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\nstaff:x:50:app\napp:x:1001:\n";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A container to be, and a place for it.
struct Bench {
    dir: tempfile::TempDir,
    id: String,
    cgroup: String,
    host: HostRights,
    container: Container,
    netns: NetNs,
}

impl Bench {
    fn new(script: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        for name in ["bin", "etc", "root", "home/app", "srv"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is needed");
        let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(root.join("etc/group"), GROUP).unwrap();
        let id = format!("berth-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = format!("/{id}/{id}");
        let host = HostRights::detect().unwrap();
        host.cgroups.make(&format!("/{id}")).unwrap();
        let container = container(vec!["sh".into(), "-c".into(), script.into()]);
        Bench { dir, id, cgroup, host, container, netns: NetNs::Host }
    }

    fn spec(&mut self) -> &mut Spec {
        self.container.spec_mut()
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    fn user(&self) -> users::Resolved {
        let root = std::fs::File::open(self.root()).unwrap();
        users::resolve(root.as_fd(), &self.container.spec.user, &self.container.spec.group_add).unwrap()
    }

    /// Writes the bundle; the warnings.
    fn write(&self) -> Vec<String> {
        let files = ["hosts", "hostname", "resolv.conf"].map(|name| self.dir.path().join(name));
        for file in &files {
            std::fs::write(file, format!("the engine's {}\n", file.file_name().unwrap().display())).unwrap();
        }
        let [hosts, hostname_file, resolv_conf] = files.map(Some);
        let input = Inputs {
            container: &self.container,
            netns: self.netns.clone(),
            hosts,
            hostname_file,
            resolv_conf,
            user: &self.user(),
            cgroup_path: &self.cgroup,
            joined: Joined::default(),
            host: &self.host,
            rootfs: "rootfs",
            hostname: "web",
            link_env: &["DB_PORT=tcp://10.0.0.1:1".to_owned()],
        };
        let (config, warnings) = oci::bundle(&input).unwrap();
        std::fs::write(self.dir.path().join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        warnings
    }

    fn runtime(&self) -> Command {
        let runtime = std::env::var_os("BERTH_TEST_RUNTIME").unwrap_or_else(|| "runc".into());
        let mut command = Command::new(runtime);
        command.arg("--root").arg(self.dir.path().join("state"));
        command
    }

    /// Creates and starts; the container's first process writes to files, for a runtime hands its own streams on.
    fn start(&self) {
        self.write();
        let out = std::fs::File::create(self.dir.path().join("out")).unwrap();
        let status = self
            .runtime()
            .args(["create", "--bundle"])
            .arg(self.dir.path())
            .arg("--pid-file")
            .arg(self.dir.path().join("pid"))
            .arg(&self.id)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .expect("an OCI runtime is needed: runc, or what BERTH_TEST_RUNTIME names");
        assert!(status.success(), "create: {}", self.output());
        let status = self.runtime().args(["start", &self.id]).status().unwrap();
        assert!(status.success(), "start: {}", self.output());
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out")).unwrap()
    }

    fn pid(&self) -> i32 {
        std::fs::read_to_string(self.dir.path().join("pid")).unwrap().trim().parse().unwrap()
    }

    /// Runs it to its end; what it wrote.
    fn run(&self) -> String {
        self.start();
        let gone = || {
            // Whoever reaps it is somebody else, perhaps nobody: a zombie is at its end, too.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        until(gone, || format!("the container does not end: {}", self.output()));
        self.output()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.runtime().args(["delete", "--force", &self.id]).stderr(Stdio::null()).status();
        let group = self.host.cgroups.paths(&format!("/{}", self.id));
        let end = Instant::now() + Duration::from_secs(5);
        while group.remove().is_ok_and(|busy| !busy.is_empty()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn until(mut done: impl FnMut() -> bool, why: impl Fn() -> String) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{}", why());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn container(argv: Vec<String>) -> Container {
    let spec = Spec {
        image: "busybox".into(),
        argv,
        entrypoint_len: 0,
        env: vec!["A=b".into()],
        workdir: "/srv".into(),
        user: String::new(),
        group_add: vec![],
        hostname: None,
        domainname: String::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        labels: Default::default(),
        stop_signal: 15,
        stop_timeout: None,
        restart: Restart::No,
        auto_remove: false,
        health: None,
        network: NetworkSpec::default(),
        mounts: vec![],
        security: Security::default(),
        resources: Resources::default(),
        ulimits: Default::default(),
        sysctls: Default::default(),
        oom_score_adj: 0,
        pid: PidMode::Private,
        ipc: IpcMode::Private,
        uts_host: false,
        cgroupns_host: false,
        console_size: None,
        shm_size: 64 << 20,
        cgroup_parent: None,
        init: false,
        log: LogSpec::Nowhere,
        runtime: None,
        annotations: Default::default(),
    };
    Container {
        id: "0123456789abcdef".repeat(4).parse().unwrap(),
        name: "web".into(),
        created: SystemTime::now(),
        spec: spec.into(),
        asked: serde_json::Value::Null.into(),
        image_id: String::new(),
        mounts: vec![],
        state: State::default(),
        kept: Kept::default(),
        restart_count: 0,
        stopped_by_user: false,
    }
}

fn mount(source: PathBuf, target: &str, read_only: bool) -> MountPoint {
    let target = target.to_owned();
    MountPoint {
        volume: None,
        anonymous: false,
        source,
        target,
        read_only,
        propagation: "rprivate".into(),
        mode: String::new(),
    }
}

/// Of `/proc/self/status`.
const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status | tr -s '\\t ' ' '";

#[test]
fn rights_of_root() {
    let bench = Bench::new(STATUS);
    assert_eq!(bench.write(), Vec::<String>::new());
    let usual = "00000000a80425fb";
    assert_eq!(
        bench.run(),
        format!(
            "Groups: 0 \nCapInh: 0000000000000000\nCapPrm: {usual}\nCapEff: {usual}\nCapBnd: {usual}\n\
             CapAmb: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2\n"
        )
    );
}

#[test]
fn rights_of_somebody() {
    let mut bench = Bench::new(&format!("{STATUS}; id; echo $HOME; pwd"));
    let spec = bench.spec();
    spec.user = "app".into();
    spec.group_add = vec!["77".into()];
    spec.security.cap_drop = vec!["ALL".into()];
    spec.security.cap_add = vec!["chown".into()];
    spec.security.no_new_privileges = true;
    assert_eq!(
        bench.run(),
        "Groups: 50 77 1001 \nCapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
         CapBnd: 0000000000000001\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n\
         uid=1000(app) gid=1001(app) groups=50(staff),77,1001(app)\n/home/app\n/srv\n"
    );
}

#[test]
fn privileged() {
    let mut bench = Bench::new(&format!(
        "{STATUS}; grep -E ' /sys ' /proc/mounts | cut -d' ' -f4; ls -d /dev/full /dev/loop-control"
    ));
    bench.spec().security.privileged = true;
    let warnings = bench.write();
    let missing = bench.host.known.without(bench.host.bounding);
    assert_eq!(warnings.is_empty(), missing.is_empty(), "{warnings:?}");
    for name in missing.names() {
        assert!(warnings[0].contains(&name), "{warnings:?} does not name {name}");
    }
    let bounding = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = bounding.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let text = bench.run();
    for line in
        [format!("CapEff: {bounding}"), format!("CapBnd: {bounding}"), "Seccomp: 0".into(), "NoNewPrivs: 0".into()]
    {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains("\nrw,nosuid,nodev,noexec"), "/sys is writable: {text}");
    for device in ["/dev/full", "/dev/loop-control"].iter().filter(|device| Path::new(device).exists()) {
        assert!(text.contains(&format!("\n{device}\n")), "{text}");
    }
}

/// Builds a static program.
fn fixture(source: &str, program: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(source);
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
        .args([program, &source])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn an_init_comes_first() {
    let mut bench = Bench::new("exit 0");
    bench.spec().init = true;
    let init = bench.dir.path().join("berth-init");
    fixture("arguments.rs", &init);
    bench.host.init = Some(init);
    assert_eq!(bench.run(), "1: /sbin/docker-init -- sh -c exit 0\n");

    // In somebody else's pid namespace there is a first process already.
    let mut bench = Bench::new("echo no init");
    bench.spec().init = true;
    bench.spec().pid = PidMode::Host;
    bench.host.init = None;
    assert_eq!(bench.run(), "no init\n");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_filter_is_in_force() {
    let probe = |bench: &Bench| fixture("syscalls.rs", &bench.root().join("bin/probe"));
    let bench = Bench::new("probe; unshare -U true; echo unshare $?");
    probe(&bench);
    assert_eq!(
        bench.run(),
        "getpid: done\nkeyctl: errno 1\nclone3: errno 38\nmount: errno 1\nunshare: errno 1\nbpf: errno 1\n\
         io_uring_setup: errno 1\nsocket of AF_ALG: errno 1\nsocket of AF_VSOCK: errno 1\nsocket of AF_INET: done\n\
         personality: done\nunshare: unshare(0x10000000): Operation not permitted\nunshare 1\n"
    );

    // A profile of the user's: getpid alone is refused, in its own way.
    let mut bench = Bench::new("probe > /out; head -n 2 /out");
    probe(&bench);
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "includes": {"minKernel": "4.8"}},
        {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9, "excludes": {"caps": ["CAP_CHOWN"]}}]}"#;
    bench.spec().security.seccomp = Seccomp::Profile(profile.into());
    assert_eq!(bench.run(), "getpid: errno 7\nkeyctl: errno 95\n");
}

#[test]
fn environment_and_names() {
    let mut bench = Bench::new(
        "env | grep -v -E '^(PWD|SHLVL|OLDPWD)=' | sort; hostname; cat /etc/hosts /etc/hostname /etc/resolv.conf; echo $$",
    );
    bench.spec().env = vec!["A=1".into(), "PATH=/bin".into(), "A=2".into(), "HOSTNAME=mine".into()];
    assert_eq!(
        bench.run(),
        "A=2\nDB_PORT=tcp://10.0.0.1:1\nHOME=/root\nHOSTNAME=mine\nPATH=/bin\nweb\nthe engine's hosts\n\
         the engine's hostname\nthe engine's resolv.conf\n1\n"
    );
}

#[test]
fn hidden_and_read_only_places() {
    let script = "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
                  echo 1 > /proc/sys/kernel/panic || echo refused; touch /sys/x || echo refused; touch /dev/x && echo made; \
                  ls /proc/1/root/ >/dev/null && echo own; test -w /proc/sysrq-trigger || echo not writable";
    let text = Bench::new(script).run();
    let refused = text.matches("refused").count();
    let words: Vec<&str> = text.lines().filter(|line| !line.contains(':') && *line != "refused").collect();
    assert_eq!((words, refused), (vec!["0", "0", "made", "own", "not writable"], 2), "{text}");

    let mut bench = Bench::new("wc -c < /proc/timer_list; wc -c < /etc/passwd");
    bench.spec().security.masked_paths = Some(vec!["/etc/passwd".into()]);
    let text = bench.run();
    let sizes: Vec<&str> = text.lines().collect();
    assert!(sizes[0] != "0" && sizes[1] == "0", "{text}");
}

#[test]
fn a_read_only_root_with_places_to_write() {
    let script = "touch /srv/x || echo refused; touch /etc/hosts || echo refused; touch /tmp/x && echo made; \
                  touch /data/x && echo made; touch /dev/shm/x && echo made; \
                  grep -E ' (/tmp|/dev/shm) ' /proc/mounts | cut -d' ' -f2-4 | sort";
    let mut bench = Bench::new(script);
    let volume = bench.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    bench.container.mounts = vec![mount(volume.clone(), "/data", false)];
    let spec = bench.spec();
    spec.security.read_only_root = true;
    spec.shm_size = 1 << 20;
    spec.mounts = vec![MountSpec::Tmpfs { target: "/tmp".into(), options: "size=64k,mode=1770,exec".into() }];
    let text = bench.run();
    assert_eq!(text.matches("refused").count(), 2, "{text}");
    assert_eq!(text.matches("made").count(), 3, "{text}");
    assert!(volume.join("x").exists());
    assert!(text.contains("/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k"), "{text}");
    assert!(text.contains("/tmp tmpfs rw,nosuid,nodev,relatime,size=64k,mode=1770"), "{text}");
}

#[test]
fn mounts_are_made_from_the_top_down() {
    let mut bench = Bench::new("cat /a/f /a/b/f; touch /a/b/x || echo refused; cat /etc/hosts");
    let place = |name: &str| {
        let path = bench.dir.path().join(name);
        std::fs::create_dir_all(path.join("b")).unwrap();
        std::fs::write(path.join("f"), format!("{name}\n")).unwrap();
        path
    };
    let (outer, inner) = (place("outer"), place("inner"));
    let own_hosts = inner.join("f");
    bench.container.mounts =
        vec![mount(inner, "/a/b", true), mount(outer, "/a/", false), mount(own_hosts, "/etc/hosts", false)];
    let text = bench.run();
    assert_eq!(
        text.lines().filter(|line| !line.contains(':')).collect::<Vec<_>>(),
        ["outer", "inner", "refused", "inner"],
        "{text}"
    );
}

#[test]
fn devices_by_permission_only() {
    if !Path::new("/dev/fuse").exists() {
        panic!("this test needs a device that containers do not have by default: /dev/fuse (modprobe fuse)");
    }
    // 10:229 is fuse.
    let script = "mknod /tmp-node c 10 229 && (: < /tmp-node) && echo opened; : < /dev/null && echo null; ls /dev/mine";
    let text = Bench::new(script).run();
    assert!(!text.contains("opened") && text.contains("not permitted") && text.contains("\nnull\n"), "{text}");
    let mut bench = Bench::new(script);
    let device = |host: &str| Device { host: host.into(), inner: "/dev/mine".into(), access: "rwm".into() };
    bench.spec().resources.devices = vec![device("/dev/fuse")];
    assert_eq!(bench.run(), "opened\nnull\n/dev/mine\n");
    let mut bench = Bench::new(script);
    bench.spec().resources.device_rules = vec!["c 10:* rwm".into()];
    let text = bench.run();
    assert!(text.starts_with("opened\nnull\n"), "{text}");
}

#[test]
fn limits_and_one_more_process() {
    let mut bench = Bench::new("ulimit -n; cat /proc/self/oom_score_adj; sleep 60");
    let spec = bench.spec();
    // Both limits are the same: the Go runtime in runc 1.1.5 raises its own soft limit to the hard one, and an exec sometimes
    // keeps that. That soft and hard are told apart is judged with berth's own runtime (`--ulimit` in berth's tests).
    spec.ulimits.insert("nofile".into(), (256, 256));
    spec.oom_score_adj = 100;
    spec.resources = Resources {
        memory: Some(64 << 20),
        nano_cpus: Some(500_000_000),
        cpu_shares: Some(512),
        pids: Some(40),
        cpuset_cpus: "0".into(),
        ..Resources::default()
    };
    bench.start();
    until(|| bench.output().lines().count() == 2, || bench.output());
    assert_eq!(bench.output(), "256\n100\n");

    let paths = bench.host.cgroups.paths(&bench.cgroup);
    let file = |controller: &str, name: &str| {
        let path = paths.file(controller, name).unwrap_or_else(|| panic!("no tree of {controller}"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    };
    match bench.host.cgroups.v2() {
        // A tree without controllers, such as version 2 beside version 1 has, keeps no limits, and the engine says so.
        Some(_) if !bench.host.limits.memory => assert!(!bench.write().is_empty()),
        Some(_) => {
            assert_eq!(file("memory", "memory.max"), "67108864");
            assert_eq!(file("cpu", "cpu.max"), "50000 100000");
            assert_eq!(file("pids", "pids.max"), "40");
        }
        None => {
            assert_eq!(file("memory", "memory.limit_in_bytes"), "67108864");
            if bench.host.limits.swap {
                assert_eq!(file("memory", "memory.memsw.limit_in_bytes"), "134217728");
            }
            assert_eq!(file("cpu", "cpu.cfs_quota_us"), "50000");
            assert_eq!(file("cpu", "cpu.shares"), "512");
            assert_eq!(file("pids", "pids.max"), "40");
            assert_eq!(file("cpuset", "cpuset.cpus"), "0");
        }
    }
    assert!(paths.pids().unwrap().contains(&bench.pid()), "{:?}", paths.pids());

    let exec = |user: &str, privileged: bool, script: &str| -> Output {
        let root = std::fs::File::open(bench.root()).unwrap();
        let process = oci::Program {
            spec: &bench.container.spec,
            user: &users::resolve(root.as_fd(), user, &[]).unwrap(),
            argv: vec!["sh".into(), "-c".into(), script.into()],
            env: &["A=c".to_owned(), "X=y".to_owned()],
            link_env: &[],
            hostname: "web",
            workdir: (user == "app").then_some("/home/app"),
            tty: false,
            privileged,
            host: &bench.host,
        };
        let file = bench.dir.path().join("process.json");
        std::fs::write(&file, serde_json::to_vec(&process.to_oci().unwrap()).unwrap()).unwrap();
        bench.runtime().args(["exec", "--process"]).arg(&file).arg(&bench.id).stdin(Stdio::null()).output().unwrap()
    };
    let text = |output: Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let script = "id -u; pwd; echo $A $X $HOSTNAME $HOME; ulimit -n; grep -E '^(CapEff|Seccomp:|NoNewPrivs)' /proc/self/status | tr -s '\\t' ' '";
    assert_eq!(
        text(exec("app", false, script)),
        "1000\n/home/app\nc y web /home/app\n256\nCapEff: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2\n"
    );
    assert_eq!(
        text(exec("", false, script)),
        "0\n/srv\nc y web /root\n256\nCapEff: 00000000a80425fb\nNoNewPrivs: 0\nSeccomp: 2\n"
    );
    let bounding = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = bounding.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let privileged = text(exec("", true, script));
    assert!(privileged.contains(&format!("CapEff: {bounding}\n")), "{privileged}");
    assert_eq!(exec("", false, "exit 7").status.code(), Some(7));
}

/// A network namespace of nobody's, while the process lives.
struct Namespace(Child);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kernel_parameters_of_its_own_network() {
    let child = Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let path = PathBuf::from(format!("/proc/{}/ns/net", child.id()));
    let namespace = Namespace(child);
    until(|| std::fs::read_link(&path).is_ok_and(|other| other != own), || "no namespace".into());
    let script = "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/core/somaxconn \
                  kernel/msgmax kernel/domainname; readlink /proc/self/ns/net";
    let mut bench = Bench::new(script);
    bench.netns = NetNs::Path(path.clone());
    let spec = bench.spec();
    spec.domainname = "example.com".into();
    spec.sysctls.insert("net.core.somaxconn".into(), "77".into());
    spec.sysctls.insert("kernel.msgmax".into(), "4242".into());
    let inside = std::fs::read_link(&path).unwrap();
    assert_eq!(bench.run(), format!("0\n0\t2147483647\n77\n4242\nexample.com\n{}\n", inside.display()));
    drop(namespace);
}

#[test]
fn shared_namespaces_of_the_host() {
    let script = "for kind in pid ipc uts net; do readlink /proc/self/ns/$kind; done; test -e /dev/shm && echo shm";
    let mut bench = Bench::new(script);
    let spec = bench.spec();
    (spec.pid, spec.ipc, spec.uts_host) = (PidMode::Host, IpcMode::Host, true);
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let all = ["pid", "ipc", "uts", "net"].map(own).join("\n");
    assert_eq!(bench.run(), format!("{all}\nshm\n"));
}
