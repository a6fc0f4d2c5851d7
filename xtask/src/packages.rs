use anyhow::{Context, Result, bail};
use std::process::Command;

/// A Debian package that a recipe needs.
pub struct Package {
    name: &'static str,
    why: &'static str,
}

/// To build.
pub const BUILD: &[Package] = &[
    Package { name: "gcc", why: "links, and compiles the C parts of TLS and zstd" },
    Package { name: "libc6-dev", why: "what gcc links against" },
    Package { name: "libseccomp-dev", why: "compiles seccomp profiles; linked by berth and berth-runtime" },
    Package { name: "pkg-config", why: "finds libseccomp" },
];

/// To see containers run.
pub const RUN: &[Package] = &[
    Package { name: "busybox-static", why: "all that is in the image busybox:latest" },
    Package { name: "iproute2", why: "joins the hosts of a lab" },
];

/// To judge the engine.
pub const TEST: &[Package] = &[
    Package { name: "iptables", why: "another firewall that drops, in both of its forms" },
    Package { name: "nftables", why: "lists the firewall as its users would" },
    Package { name: "docker-registry", why: "a registry to push to and pull from" },
    Package { name: "tcpdump", why: "watches a container's network from another container" },
    Package { name: "runc", why: "another OCI runtime for the shim to drive" },
    Package { name: "docker-compose", why: "another client, which makes projects of several containers" },
    Package { name: "skopeo", why: "another tool that reads and writes archives of images" },
];

/// To load the resolver.
pub const BENCH_DNS: &[Package] = &[Package { name: "dnsperf", why: "asks as fast as it is answered" }];

/// Sees to it that all packages are there: installs what is missing if root asks on Debian, and otherwise fails with the
/// command that would.
pub fn need(groups: &[&[Package]]) -> Result<()> {
    let all = || groups.iter().copied().flatten();
    let Some(installed) = installed()? else {
        let names: Vec<_> = all().map(|package| package.name).collect();
        println!(
            "xtask: this is no Debian; going on in the hope that the like of these packages is there: {}",
            names.join(" ")
        );
        return Ok(());
    };
    let missing: Vec<&Package> = all().filter(|package| !installed.iter().any(|name| name == package.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("xtask: package {} is missing: {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !rustix::process::geteuid().is_root() {
        bail!("install what is missing: sudo apt-get install --no-install-recommends {}", names.join(" "));
    }
    apt(&["update", "-q"])?;
    apt(&[&["install", "-q", "-y", "--no-install-recommends"][..], &names].concat())
}

/// The packages that dpkg knows as installed; `None` where there is no dpkg.
fn installed() -> Result<Option<Vec<String>>> {
    let output = match Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Package}\n"]).output() {
        Ok(output) => output,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err).context("dpkg-query"),
    };
    let list = String::from_utf8_lossy(&output.stdout);
    Ok(Some(list.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect()))
}

fn apt(words: &[&str]) -> Result<()> {
    println!("xtask: apt-get {}", words.join(" "));
    let status =
        Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive").status().context("apt-get")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", words.join(" "));
    }
    Ok(())
}
