use super::*;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

fn rules(rules: Value) -> Vec<Value> {
    rules.as_array().unwrap().clone()
}

/// A fresh child of a cgroup2 hierarchy, removed in the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Cgroup {
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().map(Path::new);
        let mount = mount.into_iter().find(|mount| mount.join("cgroup.controllers").exists());
        let dir = mount
            .expect("this test needs a cgroup2 hierarchy")
            .join(format!("berth-test-{name}-{}", std::process::id()));
        fs::create_dir(&dir).expect("this test makes a cgroup: run it as root");
        Cgroup(dir)
    }

    /// Makes a node of character device 10:229 and opens it, as a process of the cgroup. True if that went well.
    fn opens_fuse(&self) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let (procs, node) = (self.0.join("cgroup.procs"), dir.path().join("node"));
        let mut probe = Command::new("/bin/sh");
        probe.args(["-c", "mknod \"$0\" c 10 229 && exec 3<>\"$0\""]).arg(&node).stderr(std::process::Stdio::null());
        let procs = std::ffi::CString::new(procs.to_str().unwrap()).unwrap();
        let enter = move || {
            // SAFETY: open, write and close are async-signal-safe and get live pointers.
            unsafe {
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                match libc::write(fd, c"0".as_ptr().cast(), 1) {
                    1 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            }
        };
        // SAFETY: the closure makes only async-signal-safe calls and allocates nothing.
        unsafe { probe.pre_exec(enter) };
        probe.status().unwrap().success()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    let cgroup = Cgroup::new("deny");
    assert!(cgroup.opens_fuse(), "without a filter it works, else this test shows nothing");
    restrict(&cgroup.0, &rules(json!([{ "allow": false, "access": "rwm" }]))).unwrap();
    assert!(!cgroup.opens_fuse());
}

#[test]
fn a_device_that_is_allowed_can_be_opened() {
    let cgroup = Cgroup::new("allow");
    let allowed = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }
    ]);
    restrict(&cgroup.0, &rules(allowed)).unwrap();
    assert!(cgroup.opens_fuse());
    let all = Cgroup::new("all");
    restrict(&all.0, &rules(json!([{ "allow": true, "access": "rwm" }]))).unwrap();
    assert!(all.opens_fuse());
    let denied_again = Cgroup::new("again");
    let write = json!({ "allow": false, "type": "c", "major": 10, "minor": 229, "access": "w" });
    restrict(&denied_again.0, &rules(json!([{ "allow": true, "access": "rwm" }, write]))).unwrap();
    assert!(!denied_again.opens_fuse(), "opening for both is forbidden where one is");
}

#[test]
fn without_a_rule_for_all_everything_else_is_denied() {
    let parsed: Vec<Rule> = always().iter().map(|rule| parse(rule).unwrap()).collect();
    assert!(!effective(&parsed).0);
    let all = parse(&json!({ "allow": true })).unwrap();
    assert_eq!(effective(&[parsed[0], all, parsed[1]]), (true, &[parsed[1]][..]));
}

#[test]
fn nonsense_in_a_rule_is_refused() {
    let told = |rule: Value| parse(&rule).unwrap_err().to_string();
    assert!(told(json!({ "type": "x" })).contains("\"x\""));
    assert!(told(json!({ "access": "rx" })).contains("\"rx\""));
    assert!(told(json!({ "major": -5 })).contains("-5"));
    assert_eq!(parse(&json!({ "major": -1, "type": "c" })).unwrap().major, None);
}
