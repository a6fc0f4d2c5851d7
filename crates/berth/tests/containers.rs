//! What a container is: its process, user, environment, files, limits and rights; through `berth` and `docker`.

use lab::{Engine, Lab, residue};
use std::time::Duration;

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

/// What the `docker` command says, where there is one.
fn docker(engine: &Engine, words: &[&str]) -> Option<lab::Output> {
    lab::has_docker().then(|| engine.docker(words))
}

/// `berth` and, where there is one, `docker`: each says the words; code and standard output must be these.
#[track_caller]
fn says(engine: &Engine, words: &[&str], code: i32, stdout: &str) {
    let out = engine.berth(words);
    assert_eq!((out.code, out.stdout.as_str()), (code, stdout), "berth {words:?}: {}", out.stderr);
    if let Some(out) = docker(engine, words) {
        assert_eq!((out.code, out.stdout.as_str()), (code, stdout), "docker {words:?}: {}", out.stderr);
    }
}

#[test]
fn exit_codes_are_dockers() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let before = residue::listing(&engine);
        says(&engine, &["run", "--rm", "busybox", "true"], 0, "");
        says(&engine, &["run", "--rm", "busybox", "sh", "-c", "exit 7"], 7, "");
        says(&engine, &["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, "");
        says(&engine, &["run", "--rm", "busybox", "nosuchcommand"], 127, "");
        says(&engine, &["run", "--rm", "busybox", "/etc/passwd"], 126, "");
        says(&engine, &["run", "--rm", "--nosuchflag", "busybox", "true"], 125, "");
        says(&engine, &["run", "--rm", "--cpus", "-1", "busybox", "true"], 125, "");
        engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
        says(&engine, &["exec", "c1", "sh", "-c", "exit 9"], 9, "");
        for (command, code, why) in
            [("nosuchcommand", 127, "executable file not found in $PATH"), ("/etc/passwd", 126, "permission denied")]
        {
            for out in
                [engine.berth(&["exec", "c1", command])].into_iter().chain(docker(&engine, &["exec", "c1", command]))
            {
                // The engine tells it on the stream that the client opened for the command's output.
                assert_eq!(out.code, code, "{out:?}");
                assert!(out.stdout.contains(why), "{out:?}");
            }
        }
        says(&engine, &["exec", "nosuchcontainer", "true"], 1, "");
        engine.ok(&["rm", "-f", "c1"]);
        residue::assert_same(&engine, &before);
    });
}

#[test]
fn streams_environment_user_and_directory_are_as_asked() {
    lab::alone(|lab| {
        let engine = engine(lab);
        says(&engine, &["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"], 0, "out\n");
        let fed = engine.berth_fed(&["run", "--rm", "-i", "busybox", "cat"], b"through\n");
        assert_eq!(fed.stdout, "through\n", "{fed:?}");
        says(&engine, &["run", "--rm", "-e", "A=1", "-e", "B=2", "busybox", "sh", "-c", "echo $A$B"], 0, "12\n");
        says(&engine, &["run", "--rm", "-w", "/made/here", "busybox", "pwd"], 0, "/made/here\n");
        says(&engine, &["run", "--rm", "--hostname", "barker", "busybox", "hostname"], 0, "barker\n");
        says(&engine, &["run", "--rm", "-u", "app", "busybox", "id", "-u"], 0, "1000\n");
        says(&engine, &["run", "--rm", "-u", "1234:4321", "busybox", "sh", "-c", "id -u; id -g"], 0, "1234\n4321\n");
        says(&engine, &["run", "--rm", "-u", "app", "busybox", "sh", "-c", "echo $HOME"], 0, "/home/app\n");
        says(&engine, &["run", "--rm", "--entrypoint", "echo", "busybox", "instead"], 0, "instead\n");
        says(&engine, &["run", "--rm", "--group-add", "777", "busybox", "sh", "-c", "id -G | grep -c 777"], 0, "1\n");
        let out = engine.berth(&["run", "--rm", "-u", "nobodyknows", "busybox", "true"]);
        assert_eq!(out.code, 125, "{out:?}");
        assert!(out.stderr.contains("unable to find user nobodyknows"), "{out:?}");
        let id = engine.ok(&["run", "-d", "busybox", "sh", "-c", "echo $HOSTNAME; cat /etc/hostname"]);
        engine.ok(&["wait", id.trim()]);
        let short = &id[..12];
        assert_eq!(engine.ok(&["logs", short]), format!("{short}\n{short}\n"));
        engine.ok(&["rm", short]);
    });
}

#[test]
fn files_volumes_and_memory_are_mounted() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let host = lab.dir().join("shared");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("note"), "from the host\n").unwrap();
        let bind = format!("{}:/mnt", host.display());
        let read_only = format!("{}:/mnt:ro", host.display());
        says(&engine, &["run", "--rm", "-v", &bind, "busybox", "cat", "/mnt/note"], 0, "from the host\n");
        says(&engine, &["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo back > /mnt/answer"], 0, "");
        assert_eq!(std::fs::read_to_string(host.join("answer")).unwrap(), "back\n");
        says(&engine, &["run", "--rm", "-v", &read_only, "busybox", "touch", "/mnt/x"], 1, "");
        says(&engine, &["run", "--rm", "-v", "keep:/data", "busybox", "sh", "-c", "echo kept > /data/f"], 0, "");
        says(&engine, &["run", "--rm", "-v", "keep:/data", "busybox", "cat", "/data/f"], 0, "kept\n");
        assert_eq!(engine.ok(&["volume", "ls", "-q"]), "keep\n");
        says(
            &engine,
            &["run", "--rm", "--tmpfs", "/t:size=1m", "busybox", "sh", "-c", "mount | grep -c ' /t type tmpfs'"],
            0,
            "1\n",
        );
        says(&engine, &["run", "--rm", "--read-only", "busybox", "touch", "/x"], 1, "");
        says(&engine, &["run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "touch", "/t/x"], 0, "");
        says(
            &engine,
            &[
                "run",
                "--rm",
                "--shm-size",
                "8m",
                "busybox",
                "sh",
                "-c",
                "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
            ],
            0,
            "8192\n",
        );
        engine.ok(&["run", "-d", "--name", "anon", "-v", "/data", "busybox", "sleep", "1000"]);
        assert_eq!(engine.ok(&["volume", "ls", "-q"]).lines().count(), 2);
        engine.ok(&["rm", "-f", "-v", "anon"]);
        assert_eq!(engine.ok(&["volume", "ls", "-q"]), "keep\n");
        engine.ok(&["volume", "rm", "keep"]);
        // The writable layer is the container's own, and stays with it.
        engine.ok(&["run", "--name", "own", "busybox", "sh", "-c", "echo mine > /mine; rm /etc/group"]);
        let diff = engine.ok(&["diff", "own"]);
        assert!(diff.contains("A /mine") && diff.contains("D /etc/group"), "{diff}");
        engine.ok(&["rm", "own"]);
        says(&engine, &["run", "--rm", "busybox", "ls", "/mine"], 1, "");
    });
}

#[test]
fn an_init_is_process_one_and_reaps() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let out = engine.berth(&["run", "--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"]);
        assert_eq!(out.code, 0, "{out:?} (`cargo xtask test` builds the static init that this needs)");
        assert!(out.stdout.starts_with("/sbin/docker-init -- sh -c"), "{out:?}");
        says(&engine, &["run", "--rm", "--init", "busybox", "sh", "-c", "exit 5"], 5, "");
        engine.ok(&["run", "-d", "--name", "c1", "--init", "busybox", "sleep", "1000"]);
        // The subshell ends at once, and its child becomes the init's.
        engine.ok(&["exec", "c1", "sh", "-c", "(sleep 0.1 &) ; true"]);
        lab::wait_for("the reaping of orphans", Duration::from_secs(5), || {
            let states = engine.ok(&["exec", "c1", "sh", "-c", "cat /proc/[0-9]*/stat"]);
            (!states.contains(" Z ")).then_some(())
        });
        engine.ok(&["rm", "-f", "c1"]);
    });
}

#[test]
fn rights_are_dockers_by_default_and_change_as_asked() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let status = |flags: &[&str], line: &str| {
            let mut words = vec!["run", "--rm"];
            words.extend(flags);
            words.extend(["busybox", "grep", line, "/proc/self/status"]);
            engine.ok(&words).split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        // The fourteen of Docker's default.
        assert_eq!(status(&[], "CapEff"), "00000000a80425fb");
        assert_eq!(status(&["-u", "app"], "CapEff"), "0000000000000000");
        assert_eq!(status(&["-u", "app"], "CapBnd"), "00000000a80425fb");
        assert_eq!(status(&["--cap-drop", "ALL"], "CapBnd"), "0000000000000000");
        assert_eq!(status(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], "CapEff"), "0000000000001000");
        assert_eq!(status(&[], "Seccomp:"), "2");
        assert_eq!(status(&["--security-opt", "seccomp=unconfined"], "Seccomp:"), "0");
        assert_eq!(status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
        assert_eq!(status(&[], "NoNewPrivs"), "0");
        assert_eq!(status(&["--privileged"], "Seccomp:"), "0");
        let refused = engine.berth(&["run", "--rm", "busybox", "ip", "link", "set", "eth0", "down"]);
        assert!(refused.stderr.contains("Operation not permitted"), "{refused:?}");
        engine.ok(&["run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "ip", "link", "set", "eth0", "mtu", "1400"]);
        let mount = engine.berth(&["run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/mnt"]);
        assert_ne!(mount.code, 0, "{mount:?}");
        let masked = engine.ok(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "cat /proc/kcore | wc -c; touch /proc/sys/kernel/x 2>&1 || echo refused",
        ]);
        assert!(masked.starts_with("0\n") && masked.contains("refused"), "{masked}");
        // An exec is no way around.
        engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
        let exec = engine.ok(&["exec", "c1", "grep", "-E", "CapEff|Seccomp:|NoNewPrivs", "/proc/self/status"]);
        let words: Vec<&str> = exec.split_whitespace().collect();
        assert_eq!(words, ["CapEff:", "00000000a80425fb", "NoNewPrivs:", "0", "Seccomp:", "2"]);
        engine.ok(&["rm", "-f", "c1"]);
    });
}

#[test]
fn limits_hold() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let out = engine.berth(&[
            "run",
            "--name",
            "hungry",
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; tail /dev/zero",
        ]);
        assert_eq!(out.code, 137, "{out:?}");
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.OOMKilled}}", "hungry"]).trim(), "true");
        engine.ok(&["rm", "hungry"]);
        let out = engine.berth(&[
            "run",
            "--rm",
            "--pids-limit",
            "5",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait",
        ]);
        assert!(
            out.stderr.contains("can't fork") || out.stderr.contains("Resource temporarily unavailable"),
            "{out:?}"
        );
        says(
            &engine,
            &["run", "--rm", "--ulimit", "nofile=123:456", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"],
            0,
            "123\n456\n",
        );
        says(
            &engine,
            &["run", "--rm", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "cat", "/proc/sys/net/ipv4/ip_forward"],
            0,
            "1\n",
        );
        engine.ok(&["run", "-d", "--name", "c1", "--cpus", "0.5", "-m", "64m", "busybox", "sleep", "1000"]);
        let stats = engine.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "c1"]);
        assert!(stats.starts_with("c1 ") && stats.contains("64MiB") && stats.trim().ends_with(" 1"), "{stats}");
        engine.ok(&["update", "-m", "80m", "--memory-swap", "80m", "c1"]);
        assert_eq!(engine.ok(&["inspect", "-f", "{{.HostConfig.Memory}}", "c1"]).trim(), (80 << 20).to_string());
        let stats = engine.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "c1"]);
        assert!(stats.contains("80MiB"), "{stats}");
        engine.ok(&["rm", "-f", "c1"]);
    });
}

#[test]
fn a_life_from_create_to_rm() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let before = residue::listing(&engine);
        engine.ok(&[
            "create",
            "--name",
            "c1",
            "--stop-timeout",
            "1",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done",
        ]);
        let status = || engine.ok(&["inspect", "-f", "{{.State.Status}}", "c1"]).trim().to_owned();
        assert_eq!(status(), "created");
        assert_eq!(engine.ok(&["start", "c1"]), "c1\n");
        assert_eq!(status(), "running");
        assert!(engine.ok(&["ps"]).contains(" c1"), "ps does not show it");
        engine.ok(&["pause", "c1"]);
        assert_eq!(status(), "paused");
        assert!(engine.ok(&["ps"]).contains("(Paused)"));
        engine.ok(&["unpause", "c1"]);
        lab::wait_for("its first words", Duration::from_secs(5), || {
            (engine.ok(&["logs", "c1"]) == "up\n").then_some(())
        });
        engine.ok(&["rename", "c1", "d1"]);
        engine.ok(&["rename", "d1", "c1"]);
        let top = engine.ok(&["top", "c1"]);
        assert!(top.contains("PID") && top.contains("sleep"), "{top}");
        assert_eq!(engine.ok(&["stop", "-t", "5", "c1"]), "c1\n");
        assert_eq!(status(), "exited");
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.ExitCode}}", "c1"]).trim(), "3");
        engine.ok(&["restart", "c1"]);
        assert_eq!(status(), "running");
        let refused = engine.berth(&["rm", "c1"]);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("container is running"), "{refused:?}");
        engine.ok(&["kill", "-s", "KILL", "c1"]);
        assert_eq!(status(), "exited");
        assert_eq!(engine.ok(&["wait", "c1"]).trim(), "137");
        // Clients send whole seconds: what happened in the running one is after "now".
        std::thread::sleep(Duration::from_millis(1100));
        let events = engine.ok(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--filter",
            "container=c1",
            "--format",
            "{{.Action}}",
        ]);
        for action in ["create", "start", "pause", "unpause", "rename", "kill", "die", "stop", "restart"] {
            assert!(events.lines().any(|line| line == action), "no {action} in {events}");
        }
        assert_eq!(engine.ok(&["rm", "c1"]), "c1\n");
        residue::assert_same(&engine, &before);
    });
}

#[test]
fn logs_are_kept_and_followed() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&[
            "run",
            "-d",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3; do echo line $i; done; echo bad >&2; sleep 0.3; echo last",
        ]);
        let mut follow = engine.spawn(&["logs", "-f", "c1"]);
        let followed = follow.wait(Duration::from_secs(10));
        assert_eq!(followed.stdout, "line 1\nline 2\nline 3\nlast\n", "{followed:?}");
        assert_eq!(followed.stderr, "bad\n", "{followed:?}");
        says(&engine, &["logs", "--tail", "1", "c1"], 0, "last\n");
        let stamped = engine.ok(&["logs", "-t", "--tail", "1", "c1"]);
        let (stamp, text) = stamped.split_once(' ').unwrap();
        assert_eq!(text, "last\n");
        assert!(stamp.starts_with("20") && stamp.ends_with('Z'), "{stamp}");
        assert_eq!(engine.ok(&["logs", "--since", stamp, "c1"]), "last\n");
        engine.ok(&["rm", "c1"]);
    });
}

#[test]
fn images_are_saved_loaded_tagged_committed_and_removed() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let listing = engine.ok(&["images"]);
        assert!(listing.contains("busybox") && listing.contains("latest"), "{listing}");
        engine.ok(&["tag", "busybox", "mine:1"]);
        let file = lab.dir().join("mine.tar");
        engine.ok(&["save", "-o", file.to_str().unwrap(), "mine:1"]);
        let refused = engine.berth(&["rmi", "nosuch"]);
        assert!(refused.stderr.contains("No such image: nosuch"), "{refused:?}");
        assert_eq!(engine.ok(&["rmi", "mine:1"]).trim(), "Untagged: mine:1");
        let loaded = engine.ok(&["load", "-i", file.to_str().unwrap()]);
        assert_eq!(loaded.trim(), "Loaded image: mine:1");
        engine.ok(&["run", "--name", "c1", "busybox", "sh", "-c", "echo new > /new"]);
        engine.ok(&["commit", "--change", "CMD [\"cat\", \"/new\"]", "c1", "made:1"]);
        says(&engine, &["run", "--rm", "made:1"], 0, "new\n");
        let tar = lab.dir().join("root.tar");
        engine.ok(&["export", "-o", tar.to_str().unwrap(), "c1"]);
        engine.ok(&["import", "--change", "CMD [\"cat\", \"/new\"]", tar.to_str().unwrap(), "flat:1"]);
        says(&engine, &["run", "--rm", "flat:1"], 0, "new\n");
        let history = engine.ok(&["history", "made:1"]);
        assert!(history.lines().count() >= 3, "{history}");
        engine.ok(&["rmi", "mine:1"]);
        let used = engine.berth(&["rmi", "busybox"]);
        assert_ne!(used.code, 0, "an image in use was removed: {used:?}");
        assert!(used.stderr.contains("conflict"), "{used:?}");
        engine.ok(&["rm", "c1"]);
        engine.ok(&["rmi", "flat:1", "made:1"]);
    });
}

#[test]
fn a_terminal_is_a_terminal() {
    lab::alone(|lab| {
        let engine = engine(lab);
        // `script` gives the client a terminal of its own.
        let program = engine.berth_command(&["run", "--rm", "-it", "busybox", "sh", "-c", "tty; stty size"]);
        let line: Vec<String> = std::iter::once(program.get_program())
            .chain(program.get_args())
            .map(|w| format!("'{}'", w.to_string_lossy()))
            .collect();
        let shell = format!("export BERTH_HOST={}; stty rows 33 cols 77; {}", engine.host(), line.join(" "));
        let out = lab.here().run(&["script", "-qec", &shell, "/dev/null"]);
        assert!(out.stdout.contains("/dev/pts/0"), "{out:?}");
        assert!(out.stdout.contains("33 77"), "{out:?}");
        // Without a terminal of its own, the client says so and starts nothing.
        let out = engine.berth(&["run", "--rm", "-it", "busybox", "true"]);
        assert!(out.stderr.contains("the input device is not a TTY"), "{out:?}");
    });
}
