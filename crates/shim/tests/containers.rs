//! What a shim promises, shown with real containers under runc.

mod rig;

use rig::{Rig, error, exit, pid, until};
use serde_json::json;
use shim::{Reply, Request};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn output_is_logged_and_the_exit_code_kept() {
    let mut rig = Rig::new("echo out; echo err >&2; printf rest; exit 7").up();
    let wait = rig.ask(&Request::Wait);
    assert!(rig.created() > 0);
    rig.start();
    let mut wait = wait;
    let exit = exit(wait.reply());
    assert_eq!((exit.code, exit.oom_killed), (7, false));
    assert_eq!(rig.logged("stdout"), "out\nrest");
    assert_eq!(rig.logged("stderr"), "err\n");
    assert_eq!(rig.kept(), exit);
    drop(wait);
    rig.over();
}

#[test]
fn an_attach_before_the_start_misses_nothing() {
    let rig = Rig::new("echo early; echo bad >&2").up();
    let mut all = rig.attach(None, false);
    let mut only_errors = rig.ask(&Request::Attach { exec: None, stdin: false, stdout: false, stderr: true });
    assert_eq!(only_errors.reply(), Reply::Ok);
    rig.created();
    rig.start();
    assert_eq!(all.frames(), ("early\n".into(), "bad\n".into()));
    assert_eq!(only_errors.frames(), (String::new(), "bad\n".into()));
    assert_eq!(rig.exit().code, 0);
}

#[test]
fn a_signal_ends_it_with_128_and_the_number() {
    let rig = Rig::new("sleep 1000").up();
    rig.created();
    rig.start();
    assert_eq!(rig.ask(&Request::Kill { signal: libc::SIGKILL }).reply(), Reply::Ok);
    assert_eq!(rig.exit().code, 128 + 9);
}

#[test]
fn a_signal_reaches_the_programs_handler() {
    let rig = Rig::new("trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.05; done").up();
    let mut attached = rig.attach(None, false);
    rig.created();
    rig.start();
    assert_eq!(attached.frame().unwrap().1, b"ready\n");
    assert_eq!(rig.ask(&Request::Kill { signal: libc::SIGUSR1 }).reply(), Reply::Ok);
    assert_eq!(rig.exit().code, 3);
    assert_eq!(attached.frames().0, "caught\n");
}

#[test]
fn a_half_close_is_the_end_of_input() {
    let rig = Rig::new("cat; echo end").stdin(true).up();
    let mut attached = rig.attach(None, true);
    attached.write(b"before the start ");
    rig.created();
    rig.start();
    attached.write(b"and after\n");
    attached.half_close();
    assert_eq!(attached.frames().0, "before the start and after\nend\n");
    assert_eq!(rig.exit().code, 0);
}

#[test]
fn a_client_that_vanishes_ends_the_input_only_once() {
    let rig = Rig::new("cat; echo end").stdin(true).up();
    rig.created();
    rig.start();
    let mut attached = rig.attach(None, true);
    attached.write(b"last words\n");
    drop(attached);
    assert_eq!(rig.exit().code, 0);
    assert_eq!(rig.logged("stdout"), "last words\nend\n");
}

#[test]
fn input_stays_open_for_the_next_client_without_stdin_once() {
    let rig = Rig::new("read one; read two; echo $one $two").stdin(false).up();
    rig.created();
    rig.start();
    let mut first = rig.attach(None, true);
    first.write(b"first\n");
    first.half_close();
    drop(first);
    let mut second = rig.attach(None, true);
    second.write(b"second\n");
    assert_eq!(second.frames().0, "first second\n");
    assert_eq!(rig.exit().code, 0);
}

#[test]
fn a_terminal_has_the_size_asked_for() {
    let rig = Rig::new("stty size; read line; stty size; echo got $line").tty().stdin(true).up();
    let mut attached = rig.attach(None, true);
    let size = |rows, cols| Request::Resize { exec: None, rows, cols };
    assert_eq!(rig.ask(&size(33, 101)).reply(), Reply::Ok, "before the terminal is there");
    rig.created();
    rig.start();
    attached.read_until("33 101\r\n");
    assert_eq!(rig.ask(&size(44, 102)).reply(), Reply::Ok);
    // The end of this client's input is not the terminal's.
    attached.write(b"hello\n");
    attached.half_close();
    let rest = attached.read_until("got hello\r\n");
    assert!(rest.contains("44 102\r\n"), "{rest:?}");
    assert_eq!(rig.exit().code, 0);
    assert!(rig.logged("stdout").starts_with("33 101\r\n"));
}

#[test]
fn execs_run_beside_each_other() {
    let rig = Rig::new("sleep 1000").up();
    rig.created();
    let mut early = rig.exec("early", "true", false, false);
    assert_eq!(error(early.reply()), "the container is not running");
    rig.start();
    let mut streams: Vec<_> = (0..4).map(|n| rig.attach(Some(&format!("x{n}")), true)).collect();
    let mut execs: Vec<_> =
        (0..4).map(|n| rig.exec(&format!("x{n}"), &format!("cat; echo no {n} >&2; exit {n}"), false, true)).collect();
    for (n, (stream, exec)) in streams.iter_mut().zip(&mut execs).enumerate() {
        assert!(pid(exec.reply()) > 0);
        stream.write(format!("input {n}\n").as_bytes());
        stream.half_close();
        assert_eq!(stream.frames(), (format!("input {n}\n"), format!("no {n}\n")));
        assert_eq!(exit(exec.reply()).code, n as i32);
    }
    assert!(rig.log().is_empty(), "an exec's output is not the container's");
    let left: Vec<_> = fs::read_dir(rig.bundle()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('e')), "{left:?}");
}

#[test]
fn a_signal_to_an_exec_reaches_it_alone() {
    let rig = Rig::new("sleep 1000").up();
    rig.created();
    rig.start();
    let none = error(rig.ask(&Request::KillExec { exec: "e".into(), signal: 9 }).reply());
    assert_eq!(none, "no exec e runs in this container");
    let mut exec = rig.exec("e", "sleep 1000", false, false);
    assert!(pid(exec.reply()) > 0);
    assert_eq!(rig.ask(&Request::KillExec { exec: "e".into(), signal: 15 }).reply(), Reply::Ok);
    assert_eq!(exit(exec.reply()).code, 128 + 15);
    assert_eq!(rig.ask(&Request::Kill { signal: 9 }).reply(), Reply::Ok);
    assert_eq!(rig.exit().code, 128 + 9);
}

#[test]
fn an_exec_may_have_a_terminal_and_end_before_it_is_known() {
    let rig = Rig::new("sleep 1000").up();
    rig.created();
    rig.start();
    let mut stream = rig.attach(Some("t"), false);
    let mut exec = rig.exec("t", "test -t 0 && test -t 1 && test -t 2 && echo is a tty", true, false);
    assert!(pid(exec.reply()) > 0);
    assert_eq!(String::from_utf8(stream.rest()).unwrap(), "is a tty\r\n");
    assert_eq!(exit(exec.reply()).code, 0);
    for _ in 0..5 {
        let mut exec = rig.exec("short", "exit 5", false, false);
        assert!(pid(exec.reply()) > 0);
        assert_eq!(exit(exec.reply()).code, 5);
    }
}

#[test]
fn an_exec_that_cannot_start_says_why() {
    let rig = Rig::new("sleep 1000").up();
    rig.created();
    rig.start();
    let mut stream = rig.attach(Some("bad"), false);
    let process =
        json!({ "args": ["no-such-command"], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } });
    let mut exec = rig.ask(&Request::Exec { exec: "bad".into(), process, tty: false, stdin: false });
    let message = error(exec.reply());
    assert!(message.contains("executable file not found in $PATH") && !message.contains('\n'), "{message}");
    assert!(stream.rest().is_empty(), "the runtime's complaint is not output");
}

#[test]
fn a_container_that_cannot_be_created_says_why_and_leaves_nothing() {
    let mut rig = Rig::new("").spec(|spec| spec["process"]["args"] = json!(["no-such-command"])).up();
    let mut attached = rig.attach(None, false);
    let message = error(rig.ask(&Request::Created).reply());
    assert!(message.contains("executable file not found in $PATH") && !message.contains('\n'), "{message}");
    assert!(attached.rest().is_empty());
    rig.over();
    assert!(!rig.bundle().join("exit.json").exists());
    let left = Command::new("find").arg(&rig.config.runtime_args[1]).args(["-name", &rig.config.id]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "in the runtime's directory");
}

#[test]
fn a_missing_runtime_is_named() {
    let mut rig = Rig::new("true");
    rig.config.runtime = "/nowhere/runtime".into();
    let mut rig = rig.up();
    let message = error(rig.ask(&Request::Created).reply());
    assert!(message.starts_with("cannot run the OCI runtime /nowhere/runtime: No such file"), "{message}");
    rig.over();
}

#[test]
fn much_output_reaches_a_slow_client_whole() {
    const SIZE: usize = 10_000_000;
    let rig = Rig::new(&format!("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c {SIZE}")).up();
    let mut slow = rig.attach(None, false);
    rig.created();
    rig.start();
    let mut have = Vec::new();
    while let Some((stream, bytes)) = slow.frame() {
        assert_eq!(stream, 1);
        have.extend(bytes);
        if have.len() % 7 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let want: Vec<u8> = b"0123456789abcdefghijklmnopqrstuvwxyz\n".iter().copied().cycle().take(SIZE).collect();
    assert!(have == want, "{} of {SIZE} bytes", have.len());
    assert_eq!(rig.exit().code, 0);
    assert!(rig.logged("stdout").into_bytes() == want, "the log is whole too");
}

#[test]
fn a_client_that_does_not_read_slows_the_program_and_its_going_frees_it() {
    let rig = Rig::new("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo done >&2").up();
    let stuck = rig.attach(None, false);
    rig.created();
    rig.start();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(rig.logged("stderr"), "", "the program waits for its slow reader");
    drop(stuck);
    assert_eq!(rig.exit().code, 0);
    assert_eq!(rig.logged("stdout").len(), 3_000_001);
    assert_eq!(rig.logged("stderr"), "done\n");
}

#[test]
fn what_outlives_the_first_process_does_not_hold_its_end_up() {
    // With the host's pid namespace the child lives on and holds the pipe.
    let rig = Rig::new("sleep 300 & echo bye")
        .spec(|spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        })
        .up();
    rig.created();
    let since = Instant::now();
    rig.start();
    assert_eq!(rig.exit().code, 0);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(rig.logged("stdout"), "bye\n");
}

#[test]
fn the_root_can_be_a_mount_that_only_the_shim_has() {
    let rig = Rig::new("echo in; id -u").up_with_mount();
    rig.created();
    assert_eq!(fs::read_dir(rig.bundle().join("rootfs")).unwrap().count(), 0, "invisible outside");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(rig.bundle().to_str().unwrap()));
    rig.start();
    assert_eq!(rig.exit().code, 0);
    assert_eq!(rig.logged("stdout"), "in\n0\n");
}

#[test]
fn the_shim_survives_its_parent() {
    let rig = Rig::new("read line; echo $line; exit 4").stdin(true);
    let (listener, shim) = rig.ready();
    let mut parent = Command::new("/bin/sh");
    // A shell gives its background jobs /dev/null as standard input if not told otherwise.
    parent.args(["-c", "exec 3<&0; \"$0\" \"$1\" <&3 & wait"]).arg(shim.get_program()).args(shim.get_args());
    let mut parent = parent.process_group(0).stdin(OwnedFd::from(listener)).stdout(Stdio::null()).spawn().unwrap();
    rig.created();
    rig.start();
    // SAFETY: kill takes two integers; the group is the child's own and not reaped yet.
    assert_eq!(unsafe { libc::kill(-(parent.id() as i32), libc::SIGKILL) }, 0);
    parent.wait().unwrap();
    let mut attached = rig.attach(None, true);
    attached.write(b"still here\n");
    assert_eq!(attached.frames().0, "still here\n");
    until("exit.json", || rig.bundle().join("exit.json").exists());
    assert_eq!(rig.kept().code, 4);
}

#[test]
fn sigterm_ends_the_container_and_the_shim() {
    let mut rig = Rig::new("trap '' TERM; sleep 1000").up();
    let init = rig.created();
    rig.start();
    let mut wait = rig.ask(&Request::Wait);
    // SAFETY: kill takes two integers, and the shim is our child, not reaped yet.
    unsafe { libc::kill(rig.shim.as_ref().unwrap().id() as i32, libc::SIGTERM) };
    assert_eq!(exit(wait.reply()).code, 137);
    drop(wait);
    rig.over();
    assert!(!std::path::Path::new(&format!("/proc/{init}")).exists());
}

#[test]
fn a_container_never_started_stays_parked() {
    let rig = Rig::new("echo ran; sleep 1").up();
    let init = rig.created();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(rig.created(), init, "asked again, by a new engine");
    assert_eq!(rig.logged("stdout"), "");
    rig.start();
    assert_eq!(error(rig.ask(&Request::Start).reply()), "the container is running already");
    assert_eq!(rig.exit().code, 0);
}

#[test]
fn the_out_of_memory_killer_is_noticed() {
    let rig = Rig::new("x=y; while :; do x=$x$x; done")
        .spec(|spec| spec["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 }))
        .up();
    rig.created();
    rig.start();
    let exit = rig.exit();
    assert_eq!((exit.code, exit.oom_killed), (137, true));
}

#[test]
fn nonsense_is_refused_and_hurts_nobody() {
    let rig = Rig::new("echo fine").up();
    let mut bad = rig.connect();
    bad.write(b"{\"op\":\"levitate\"}\n");
    let message = error(bad.reply());
    assert!(message.contains("levitate"), "{message}");
    drop(rig.connect());
    let size = Request::Resize { exec: None, rows: 1, cols: 1 };
    assert!(error(rig.ask(&size).reply()).contains("no terminal"));
    rig.created();
    rig.start();
    assert_eq!(rig.exit().code, 0);
}
