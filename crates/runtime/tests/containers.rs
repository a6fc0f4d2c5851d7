//! What libcontainer lacks, and what a container engine relies on, shown with real containers.

mod rig;

use rig::{Ended, Rig, exists, field, said};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

/// Everything is allowed but making directories.
fn no_mkdir() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 }]
    })
}

const STATUS: &str = "cat /proc/self/status; mkdir /tmp/x";

/// The default set of the rig: CHOWN 0, KILL 5, SETGID 6, SETUID 7, MKNOD 27.
const CAPS: &str = "00000000080000e1";

fn is_confined(status: &str, no_new_privs: &str) {
    assert_eq!(field(status, "Seccomp"), "2", "{status}");
    assert_eq!(field(status, "NoNewPrivs"), no_new_privs);
    assert_eq!(field(status, "CapBnd"), CAPS);
    // What exec(2) passes on of a Rust program's habits.
    assert_eq!(
        (field(status, "SigIgn").as_str(), field(status, "SigBlk").as_str()),
        ("0000000000000000", "0000000000000000")
    );
    assert!(
        status.contains("mkdir: can't create directory '/tmp/x': I/O error") || status.contains("Input/output error"),
        "{status}"
    );
}

#[test]
fn a_filter_is_loaded_with_and_without_no_new_privileges() {
    for (no_new_privs, shown) in [(json!(false), "0"), (json!(true), "1"), (Value::Null, "0")] {
        let rig = Rig::new(STATUS).with(|spec| {
            spec["process"]["noNewPrivileges"] = no_new_privs;
            spec["linux"]["seccomp"] = no_mkdir();
        });
        let ended = rig.run();
        is_confined(&ended.text, shown);
        assert_eq!(field(&ended.text, "CapEff"), CAPS);
        assert_eq!(ended.code, 1);
    }
}

#[test]
fn another_user_is_confined_too_and_has_no_capabilities() {
    let rig = Rig::new(STATUS).with(|spec| {
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [7, 8] });
        spec["linux"]["seccomp"] = no_mkdir();
    });
    let status = rig.run().text;
    is_confined(&status, "0");
    assert_eq!(field(&status, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Groups"), "7 8");
    assert_eq!(field(&status, "CapPrm"), "0000000000000000");
}

#[test]
fn an_exec_keeps_filter_limits_and_privileges() {
    let rig = Rig::new("sleep 1000").with(|spec| {
        spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }]);
        spec["linux"]["seccomp"] = no_mkdir();
    });
    let rig = rig.up();
    for uid in [0, 1000] {
        let output = rig.exec(&format!("{STATUS}; ulimit -n; ulimit -Hn; exit 9"), |process| {
            process["user"] = json!({ "uid": uid, "gid": uid });
        });
        assert_eq!(output.status.code(), Some(9));
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        is_confined(&text, "0");
        assert_eq!(field(&text, "CapEff"), if uid == 0 { CAPS } else { "0000000000000000" });
        assert!(text.contains("\n77\n88\n"), "{text}");
    }
    let more = rig.exec("cat /proc/self/status", |process| process["noNewPrivileges"] = true.into());
    assert_eq!(field(&said(more).unwrap(), "NoNewPrivs"), "1");
}

#[test]
fn an_exec_fails_rather_than_run_without_its_filter() {
    let rig = Rig::new("sleep 1000").with(|spec| spec["linux"]["seccomp"] = no_mkdir()).up();
    let file = rig.path("root/bundles").join(&rig.id).join("kept.json");
    let mut kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    kept["seccomp"]["defaultAction"] = "SCMP_ACT_BROKEN".into();
    fs::write(&file, kept.to_string()).unwrap();
    let message = rig.told(rig.exec("touch /tmp/ran", |_| {}));
    assert!(message.contains("SCMP_ACT_BROKEN"), "{message}");
    fs::remove_file(&file).unwrap();
    let message = rig.told(rig.exec("touch /tmp/ran", |_| {}));
    assert!(message.contains("does not exist"), "{message}");
}

#[test]
fn a_profile_is_compiled_for_the_first_container_only() {
    let cache = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    for _ in 0..2 {
        let rig = Rig::new("true").with(|spec| spec["linux"]["seccomp"] = no_mkdir());
        let status = rig.create_command().arg("--seccomp-cache").arg(cache.path()).status().unwrap();
        assert!(status.success(), "{}", rig.output());
        let files: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(files.len(), 1);
        made.push((files[0].file_name(), files[0].metadata().unwrap().modified().unwrap()));
    }
    assert_eq!(made[0], made[1]);
}

#[test]
fn masked_comparisons_have_the_mask_first() {
    // UTS alone is refused, UTS with IPC is not: (flags & 0x0c000000) == 0x04000000.
    let rig = Rig::new("unshare -u true || echo refused; unshare -ui true && echo allowed").with(|spec| {
        let test = json!({ "index": 0, "value": 0x0c00_0000, "valueTwo": 0x0400_0000, "op": "SCMP_CMP_MASKED_EQ" });
        let mut profile = no_mkdir();
        profile["syscalls"] = json!([{ "names": ["unshare"], "action": "SCMP_ACT_ERRNO", "args": [test] }]);
        spec["linux"]["seccomp"] = profile;
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
    });
    let text = rig.run().text;
    assert!(text.contains("Operation not permitted\nrefused\nallowed\n"), "{text}");
}

#[test]
fn a_new_network_has_its_loopback_up() {
    let ended = Rig::new("ip addr show lo").run();
    assert!(ended.text.contains("LOOPBACK,UP,LOWER_UP") && ended.text.contains("inet 127.0.0.1/8"), "{}", ended.text);
}

#[test]
fn a_terminal_is_born_with_its_size() {
    let rig = Rig::new("stty size; sleep 0.2").with(|spec| {
        spec["process"]["terminal"] = true.into();
        spec["process"]["consoleSize"] = json!({ "height": 33, "width": 99 });
    });
    let listener = std::os::unix::net::UnixListener::bind(rig.path("tty.sock")).unwrap();
    let output =
        rig.create_command().arg("--console-socket").arg(rig.path("tty.sock")).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let master = received(&listener);
    rig.ask(&["start"]);
    let mut text = [0; 64];
    let length = rustix::io::read(&master, &mut text).unwrap();
    assert_eq!(&text[..length], b"33 99\r\n");
}

fn received(listener: &std::os::unix::net::UnixListener) -> std::os::fd::OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    rustix::net::recvmsg(&stream, &mut [std::io::IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .unwrap();
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.expect("a descriptor")
}

#[test]
fn a_missing_program_is_told_at_create() {
    let named = |args: Value| Rig::new("").with(|spec| spec["process"]["args"] = args);
    let message = named(json!(["nope", "x"])).not_created();
    assert_eq!(message, "unable to start container process: exec: \"nope\": executable file not found in $PATH");
    let message = named(json!(["/nope"])).not_created();
    assert_eq!(message, "unable to start container process: exec: \"/nope\": stat /nope: no such file or directory");
    let message = named(json!(["/etc/passwd"])).not_created();
    assert_eq!(message, "unable to start container process: exec: \"/etc/passwd\": permission denied");
    let message = named(json!(["/etc"])).not_created();
    assert_eq!(message, "unable to start container process: exec: \"/etc\": is a directory");
}

#[test]
fn what_only_exec_finds_out_is_told_at_start() {
    let mut rig = Rig::new("").with(|spec| spec["process"]["args"] = json!(["/odd"]));
    fs::write(rig.rootfs().join("odd"), "\x7fELF is not all").unwrap();
    fs::set_permissions(rig.rootfs().join("odd"), PermissionsExt::from_mode(0o755)).unwrap();
    rig.create();
    assert_eq!(rig.refused(&["start"]), "unable to start container process: exec /odd: exec format error");
    assert_ne!(rig.wait(), 0);
    let message = rig.refused(&["start"]);
    assert!(message.ends_with("it is stopped, not created"), "{message}");
}

#[test]
fn an_exec_of_a_missing_program_says_so() {
    let rig = Rig::new("sleep 1000").up();
    let message = rig.told(rig.exec("", |process| process["args"] = json!(["nope"])));
    assert!(message.ends_with("exec: \"nope\": executable file not found in $PATH"), "{message}");
    let message = rig.told(rig.exec("", |process| process["cwd"] = "/not/there".into()));
    assert!(
        message.ends_with("chdir to cwd (\"/not/there\") set in config.json failed: no such file or directory"),
        "{message}"
    );
}

#[test]
fn programs_are_found_without_a_path() {
    let rig = Rig::new("").with(|spec| {
        spec["process"]["env"] = json!(["A=1", "A=2"]);
        spec["process"]["args"] = json!(["busybox", "env"]);
    });
    assert_eq!(rig.run(), Ended { code: 0, text: "A=1\nA=2\nHOME=/root\n".into() });
}

#[test]
fn capabilities_are_exactly_those_asked_for() {
    let rig = Rig::new("cat /proc/self/status").with(|spec| {
        let caps = json!(["CAP_CHOWN", "CAP_NET_RAW"]);
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        spec["process"]["capabilities"] = json!({ "bounding": caps, "permitted": caps, "effective": caps, "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"] });
    });
    let status = rig.run().text;
    assert_eq!(field(&status, "CapBnd"), "0000000000002001");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000002000", "{set}");
    }
    let none = Rig::new("cat /proc/self/status").with(|spec| {
        spec["process"].as_object_mut().unwrap().remove("capabilities");
    });
    assert_eq!(field(&none.run().text, "CapBnd"), "0000000000000000", "left out is none at all");
}

#[test]
fn what_the_host_cannot_give_is_named() {
    let without = |rig: &Rig, capability: u64| {
        let mut command = rig.create_command();
        // SAFETY: prctl is a bare system call with integers.
        unsafe {
            command.pre_exec(move || match libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        rig.told(command.stderr(Stdio::piped()).output().unwrap())
    };
    const SYS_RESOURCE: u64 = 24;
    const SYS_TIME: u64 = 25;
    let rig = Rig::new("true")
        .with(|spec| spec["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN", "CAP_SYS_TIME"]));
    let message = without(&rig, SYS_TIME);
    assert!(message.contains("the container asks for CAP_SYS_TIME, which this host's root does not have"), "{message}");
    let rig = Rig::new("true").with(|spec| {
        spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 1u64 << 40 }]);
    });
    let message = without(&rig, SYS_RESOURCE);
    assert!(message.contains("RLIMIT_NOFILE: the hard limit 1099511627776 is above this host's"), "{message}");
    let rig = Rig::new("true").with(|spec| spec["process"]["oomScoreAdj"] = (-999).into());
    let message = without(&rig, SYS_RESOURCE);
    assert!(message.contains("oomScoreAdj -999") && message.contains("CAP_SYS_RESOURCE"), "{message}");
}

#[test]
fn the_rest_of_the_configuration_holds() {
    let rig = Rig::new(
        "cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; hostname; pwd; stat -c %u:%g:%a .
         cat /proc/keys; touch /proc/sys/kernel/x 2>/dev/null || echo read-only; touch /ro 2>/dev/null || echo root read-only",
    );
    let rig = rig.with(|spec| {
        spec["root"]["readonly"] = true.into();
        spec["process"]["oomScoreAdj"] = 321.into();
        spec["process"]["cwd"] = "/a/new/place".into();
        spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        spec["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/not-there"]);
        spec["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    });
    assert_eq!(rig.run().text, "321\n1\nrig\n/a/new/place\n0:0:755\nread-only\nroot read-only\n");
}

#[test]
fn a_working_directory_in_a_volume_is_made() {
    let rig = Rig::new("pwd; stat -c %u .").with(|spec| {
        spec["process"]["cwd"] = "/tmp/in/volume".into();
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    assert_eq!(rig.run(), Ended { code: 0, text: "/tmp/in/volume\n0\n".into() });
}

#[test]
fn limits_are_set_and_changed() {
    let rig = Rig::new("sleep 1000").with(|spec| {
        spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        spec["linux"]["resources"]["pids"] = json!({ "limit": 33 });
        spec["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000 });
    });
    let rig = rig.up();
    assert_eq!(rig.limit("memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(rig.limit("pids.max", "pids.max"), "33");
    assert!(["50000", "50000 100000"].contains(&rig.limit("cpu.cfs_quota_us", "cpu.max").as_str()));
    let file = rig.path("resources.json");
    fs::write(&file, json!({ "memory": { "limit": 32 << 20 }, "pids": { "limit": 44 } }).to_string()).unwrap();
    rig.ask(&["update", "--resources", file.to_str().unwrap()]);
    assert_eq!(rig.limit("memory.limit_in_bytes", "memory.max"), (32 << 20).to_string());
    assert_eq!(rig.limit("pids.max", "pids.max"), "44");
    fs::write(&file, json!({ "devices": [{ "allow": true, "access": "rwm" }] }).to_string()).unwrap();
    assert!(rig.refused(&["update", "--resources", file.to_str().unwrap()]).contains("leave `devices` out"));
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    let script = "mknod /tmp/fuse c 10 229 && head -c 0 /tmp/fuse 2>/dev/null || echo denied; head -c 4 /dev/zero | stat -c %F /dev/null";
    let denied = Rig::new(script).run();
    assert_eq!(denied.text, "denied\ncharacter special file\n");
    let allowed = Rig::new(script).with(|spec| {
        spec["linux"]["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }]);
    });
    assert_eq!(allowed.run().text, "character special file\n", "else the first half shows nothing");
}

#[test]
fn states_follow_each_other() {
    let mut rig = Rig::new("sleep 1000").with(|spec| spec["annotations"] = json!({ "a": "b" }));
    let state = |rig: &Rig| serde_json::from_str::<Value>(&rig.ask(&["state"])).unwrap();
    let pid = rig.create();
    let created = state(&rig);
    assert_eq!((created["status"].as_str(), created["pid"].as_i64()), (Some("created"), Some(pid.into())));
    assert_eq!((created["id"].as_str(), created["annotations"]["a"].as_str()), (Some(rig.id.as_str()), Some("b")));
    assert_eq!(created["bundle"].as_str(), rig.path("bundle").to_str());
    assert!(rig.refused(&["pause"]).ends_with("it is created, not running"));
    rig.ask(&["start"]);
    assert_eq!(state(&rig)["status"], "running");
    assert!(rig.refused(&["start"]).ends_with("it is running, not created"));
    assert!(rig.refused(&["delete"]).ends_with("it is running"));
    rig.ask(&["pause"]);
    assert_eq!(state(&rig)["status"], "paused");
    rig.ask(&["resume"]);
    assert_eq!(state(&rig)["status"], "running");
    let pids: Vec<i32> = serde_json::from_str(&rig.ask(&["ps", "--format", "json"])).unwrap();
    assert_eq!(pids, [pid]);
    let bad = rig.runtime().arg("kill").arg(&rig.id).arg("SIGNOPE").output().unwrap();
    assert!(rig.told(bad).contains("\"SIGNOPE\" is not a signal"));
    assert!(rig.runtime().arg("kill").arg(&rig.id).arg("KILL").status().unwrap().success());
    assert_eq!(rig.wait(), 137);
    let stopped = state(&rig);
    assert_eq!((stopped["status"].as_str(), stopped["pid"].as_i64()), (Some("stopped"), Some(0)));
    assert!(rig.refused(&["kill"]).ends_with("is not running"));
    rig.ask(&["delete"]);
    assert!(rig.refused(&["state"]).ends_with("does not exist"));
    assert!(rig.refused(&["delete"]).ends_with("does not exist"));
    rig.ask(&["delete", "--force"]);
}

#[test]
fn delete_takes_what_outlived_the_first_process() {
    let mut rig = Rig::new("sleep 1000 & sleep 1000 & mkdir -p /cg; exit 3").with(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    rig.create();
    rig.ask(&["start"]);
    assert_eq!(rig.wait(), 3);
    let left: Vec<i32> = serde_json::from_str(&rig.ask(&["ps", "--format", "json"])).unwrap();
    assert_eq!(left.len(), 2);
    // A cgroup that somebody made in the container's.
    for dir in rig.cgroups() {
        fs::create_dir(dir.join("inner")).unwrap();
    }
    rig.ask(&["delete"]);
    assert!(rig.cgroups().is_empty());
    for pid in left {
        assert!(!exists(format!("/proc/{pid}/exe")), "{pid} lives");
    }
}

#[test]
fn a_frozen_container_can_be_deleted_by_force() {
    let mut rig = Rig::new("sleep 1000");
    rig.create();
    rig.ask(&["start"]);
    rig.ask(&["pause"]);
    rig.ask(&["delete", "--force"]);
    assert_eq!(rig.wait(), 137);
    assert!(rig.cgroups().is_empty());
}

#[test]
fn names_are_unique_and_bundles_are_read() {
    let mut rig = Rig::new("sleep 1000");
    rig.create();
    let message = rig.told(rig.create_command().stderr(Stdio::piped()).output().unwrap());
    assert!(message.contains("exists already"), "{message}");
    assert_eq!(serde_json::from_str::<Value>(&rig.ask(&["state"])).unwrap()["status"], "created", "unharmed");
    let empty = tempfile::tempdir().unwrap();
    let output = rig.runtime().arg("create").arg("--bundle").arg(empty.path()).arg("other").output().unwrap();
    assert!(rig.told(output).contains("config.json: No such file"));
    let output = rig.runtime().args(["state", "../x"]).output().unwrap();
    assert!(rig.told(output).contains("invalid container id \"../x\""));
}

#[test]
fn features_and_version_are_told() {
    let rig = Rig::new("");
    let features: Value =
        serde_json::from_str(&said(rig.runtime().arg("features").output().unwrap()).unwrap()).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    let version = said(rig.runtime().arg("--version").output().unwrap()).unwrap();
    assert!(version.starts_with("berth-runtime ") && version.contains("\nspec: 1."), "{version}");
}
