//! Log drivers: where output goes, how much of it is kept, what is added to it; through `berth` and `docker`.

use lab::Engine;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs a container to its end, with these flags.
#[track_caller]
fn ran(engine: &Engine, name: &str, flags: &[&str], script: &str) {
    let mut words = vec!["run", "--name", name];
    words.extend(flags);
    words.extend(["busybox", "sh", "-c", script]);
    let out = engine.berth(&words);
    assert_eq!(out.code, 0, "{out:?}");
}

fn dir(engine: &Engine, name: &str) -> PathBuf {
    let id = engine.ok(&["inspect", "-f", "{{.Id}}", name]);
    engine.data_root().join("containers").join(id.trim())
}

fn log_files(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|name| Some(name.split_once("-json.")?.1.to_owned())).collect();
    names.retain(|name| name != "log.packing");
    names.sort();
    names
}

/// Three hundred numbered lines of a hundred bytes: 30 KB, or some 50 KB of a log.
const MANY: &str = "for i in $(seq 100 399); do printf 'line %s %0100d\\n' $i 0; done";

#[test]
fn drivers_are_told_apart_and_all_but_none_can_be_read() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--log-opt", "max-size=5m"]);
        engine.load_busybox();
        ran(&engine, "plain", &[], "echo plain");
        ran(&engine, "local", &["--log-driver", "local", "--log-opt", "max-file=2"], "echo local; echo bad >&2");
        ran(&engine, "none", &["--log-driver", "none"], "echo none");
        assert_eq!(engine.both(&["logs", "local"]), "local\n");
        assert_eq!(engine.both(&["logs", "plain"]), "plain\n");
        let refused = engine.berth(&["logs", "none"]);
        assert!(refused.stderr.contains("configured logging driver does not support reading"), "{refused:?}");
        let shown = |name: &str| {
            engine.both(&[
                "inspect",
                "-f",
                "{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}} {{.LogPath}}",
                name,
            ])
        };
        assert!(shown("plain").starts_with(r#"json-file {"max-size":"5m"} /"#), "{}", shown("plain"));
        // A driver of one's own choice has the engine's options no longer.
        assert_eq!(shown("local").trim(), r#"local {"max-file":"2"}"#);
        assert_eq!(shown("none").trim(), "none {}");
        assert!(
            engine
                .both(&["info", "-f", "{{.LoggingDriver}} {{.Plugins.Log}}"])
                .contains("json-file [json-file local none]")
        );
        for (flags, why) in [
            (["--log-driver", "local", "--log-opt", "labels=a"], "unknown log opt 'labels' for log driver local"),
            (
                ["--log-driver", "json-file", "--log-opt", "compress=true"],
                "compress cannot be true when max-file is less than 2",
            ),
            (["--log-driver", "syslog", "--log-opt", "tag=a"], "no log driver named 'syslog' is registered"),
            (["--log-driver", "json-file", "--log-opt", "tag={{.Colour}}"], "braces take one of {{.ID}}"),
        ] {
            let out = engine.berth(&[&["create"], &flags[..], &["busybox"]].concat());
            assert!(out.code != 0 && out.stderr.contains(why), "{flags:?}: {out:?}");
        }
        engine.ok(&["rm", "plain", "local", "none"]);
    });
}

#[test]
fn what_the_user_names_comes_with_every_line() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let flags = [
            "--log-opt",
            "labels=tier,absent",
            "--log-opt",
            "env=COLOUR",
            "--log-opt",
            "tag={{.ImageName}}/{{.Name}}",
            "--label",
            "tier=front end",
            "--env",
            "COLOUR=red",
        ];
        ran(&engine, "c1", &flags, "echo one; echo two");
        assert_eq!(
            engine.both(&["logs", "--details", "--tail", "1", "c1"]),
            "COLOUR=red,tag=busybox%2Fc1,tier=front+end two\n"
        );
        assert_eq!(engine.both(&["logs", "c1"]), "one\ntwo\n");
        let path = engine.ok(&["inspect", "-f", "{{.LogPath}}", "c1"]);
        let text = std::fs::read_to_string(path.trim()).unwrap();
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["attrs"], serde_json::json!({"COLOUR": "red", "tag": "busybox/c1", "tier": "front end"}));
        engine.ok(&["rm", "c1"]);
    });
}

#[test]
fn elder_files_are_compressed_and_read_as_before() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let flags = ["--log-opt", "max-size=10k", "--log-opt", "max-file=10", "--log-opt", "compress=true"];
        engine.ok(&[
            &["run", "-d", "--name", "c1"],
            &flags[..],
            &["busybox", "sh", "-c", &format!("{MANY}; sleep 1000")],
        ]
        .concat());
        let want: String = (100..400).map(|n| format!("line {n} {:0100}\n", 0)).collect();
        lab::wait_for("all lines", Duration::from_secs(20), || (engine.ok(&["logs", "c1"]) == want).then_some(()));
        let dir = dir(&engine, "c1");
        lab::wait_for("compressed files", Duration::from_secs(20), || {
            let files = log_files(&dir);
            (files == ["log", "log.1.gz", "log.2.gz", "log.3.gz", "log.4.gz", "log.5.gz"]).then_some(())
        });
        assert_eq!(engine.both(&["logs", "c1"]), want);
        let tail = engine.both(&["logs", "--tail", "200", "c1"]);
        assert_eq!(tail, want.lines().skip(100).map(|line| format!("{line}\n")).collect::<String>());
        engine.ok(&["rm", "-f", "c1"]);
        // The driver that keeps little unless told otherwise compresses unless told otherwise.
        ran(&engine, "local", &["--log-driver", "local", "--log-opt", "max-size=10k", "--log-opt", "max-file=2"], MANY);
        let dir = self::dir(&engine, "local");
        lab::wait_for("two files", Duration::from_secs(20), || (log_files(&dir) == ["log", "log.1.gz"]).then_some(()));
        let kept = engine.both(&["logs", "local"]);
        assert!(want.ends_with(&kept) && kept.len() > 5_000, "{kept}");
        engine.ok(&["rm", "local"]);
    });
}
