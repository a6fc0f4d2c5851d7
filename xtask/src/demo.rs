use crate::{cargo, in_a_lab, need_namespaces, packages};
use anyhow::{Context, Result, bail};
use lab::{Engine, Lab, Output};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// What the demo is called when it runs itself again in its lab.
pub const INSIDE: &str = "demo-inside";

/// Where the host outside listens.
const OUTSIDE: &str = "192.0.2.2";
/// The address of the engine's host on the segment between the two.
const UPLINK: &str = "192.0.2.1";

/// Installs, builds, and starts the show in a network of its own.
pub fn outside() -> Result<ExitCode> {
    need_namespaces()?;
    packages::need(&[packages::BUILD, packages::RUN])?;
    let release = cargo::target_dir()?.join("release/berth").exists();
    if release {
        println!("Building berth, in release mode since there is a release build already.");
    } else {
        println!("Building berth, in debug mode, which is faster to build; the first time takes some minutes.");
    }
    let programs = cargo::build_engine(release, &[])?;
    let image = lab::busybox::archive(&cargo::target_dir()?).context("an image of busybox")?;
    let code = in_a_lab(INSIDE, &[], &programs)?;
    if code == ExitCode::SUCCESS {
        let berth = programs.join("berth");
        let berth = berth.strip_prefix(std::env::current_dir()?).unwrap_or(&berth).display().to_string();
        println!("That was a network of its own, gone by now; yours is untouched. On this very host, as root:\n");
        println!("  {berth} load -i {}", image.display());
        println!("  {berth} run --rm busybox ip addr");
        println!("  {berth} run -it --rm busybox\n");
        println!("The first of them starts an engine in the background; `{berth} daemon` runs one in the foreground.");
    }
    Ok(code)
}

/// The show itself, in fresh namespaces. Succeeds only if every step did what it should.
pub fn inside() -> Result<ExitCode> {
    let lab = Lab::inside()?;
    lab.uplink(&format!("{UPLINK}/24"));
    let host = lab.host("outside", &format!("{OUTSIDE}/24"));
    let server = host.serve_tcp(&format!("{OUTSIDE}:7000"), "the outside host answers; it sees");
    let show = Show::on(lab.engine(&[]));
    let image = lab::busybox::archive(&cargo::target_dir()?)?;

    show.title("An image, from Debian's static busybox");
    let image = image.display().to_string();
    show.run(&["load", "-i", &image], 0, &["busybox:latest"])?;

    show.title("A closed container: loopback and nothing else");
    let links = show.run(&["run", "--rm", "--net", "none", "busybox", "ip", "addr"], 0, &["lo:", "127.0.0.1/8"])?;
    if links.contains("eth0") {
        bail!("a closed container has an eth0");
    }
    show.run(
        &["run", "--rm", "--net", "none", "busybox", "ping", "-w", "2", "8.8.8.8"],
        1,
        &["Network is unreachable"],
    )?;

    show.title("A bridged container: an address of its own, and the world behind NAT");
    show.run(&["run", "--rm", "busybox", "ip", "addr"], 0, &["lo:", "eth0@if", "inet "])?;
    show.run(&["run", "--rm", "busybox", "nc", OUTSIDE, "7000"], 0, &["the outside host answers"])?;
    let peer = server.peers().last().map(|peer| peer.ip().to_string());
    show.say(&format!("(The host outside, {OUTSIDE}, saw the address {}.)", peer.as_deref().unwrap_or("of nobody")));
    if peer.as_deref() != Some(UPLINK) {
        bail!("the host outside should have seen the engine's host, {UPLINK}");
    }

    show.title("A joined container: two containers, one network");
    show.run(&["run", "-d", "--name", "brady", "--net", "none", "busybox", "nc", "-l", "127.0.0.1:3333"], 0, &[])?;
    // Netcat needs a moment to open its port, and a person a moment to type.
    lab::wait_for("brady to listen", Duration::from_secs(10), || {
        let seen = show.engine.berth(&["run", "--rm", "--net", "container:brady", "busybox", "netstat", "-ltn"]);
        seen.stdout.contains(":3333").then_some(())
    });
    show.run(&["run", "--rm", "--net", "container:brady", "busybox", "netstat", "-al"], 0, &[":3333", "LISTEN"])?;
    show.run(&["rm", "-f", "brady"], 0, &["brady"])?;

    show.title("An open container: the host's own network, bridge and all");
    show.run(&["run", "--rm", "--net", "host", "busybox", "ip", "addr"], 0, &["berth0", "up0", UPLINK])?;

    show.title("Nothing is left");
    let left = show.run(&["ps", "-aq"], 0, &[])?;
    if !left.trim().is_empty() {
        bail!("containers are left: {left}");
    }
    show.engine.stop();
    show.say("");
    Ok(ExitCode::SUCCESS)
}

/// Commands as a user would type them, with what they really say.
struct Show {
    engine: Engine,
    colour: bool,
}

impl Show {
    fn on(engine: Engine) -> Show {
        Show { engine, colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn title(&self, text: &str) {
        let (on, off) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{on}{text}{off}");
    }

    fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Shows a command and its output. Fails unless it ends with `code` and says all of `expected`; answers what it said.
    fn run(&self, words: &[&str], code: i32, expected: &[&str]) -> Result<String> {
        let (on, off) = if self.colour { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
        println!("{on}$ berth {}{off}", words.join(" "));
        let Output { code: ended, stdout, stderr } = self.engine.berth(words);
        let said = stdout + &stderr;
        print!("{said}");
        let missing: Vec<_> = expected.iter().filter(|text| !said.contains(**text)).collect();
        if ended != code || !missing.is_empty() {
            eprintln!("--- the engine's log\n{}---", self.engine.log());
            bail!(
                "`berth {}` ended with {ended} where {code} is right; missing in what it said: {missing:?}",
                words.join(" ")
            );
        }
        Ok(said)
    }
}
