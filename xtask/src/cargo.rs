use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages that a running engine consists of.
const ENGINE: [&str; 6] = ["-p", "berth", "-p", "shim", "-p", "runtime"];

/// A cargo command in the workspace, by the cargo that runs this recipe.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(workspace());
    command
}

/// Whether cargo knows this subcommand here.
pub fn has(subcommand: &str) -> bool {
    command(&[subcommand, "--version"]).output().is_ok_and(|output| output.status.success())
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// Where cargo builds: the directory above the profile's, in which this program lies.
pub fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let target = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    Ok(target.with_context(|| format!("{} lies in no target directory", own.display()))?.to_owned())
}

/// Builds the engine's programs, and `more` packages; answers their directory.
pub fn build_engine(release: bool, more: &[&str]) -> Result<PathBuf> {
    let mut words = vec!["build"];
    words.extend(ENGINE);
    words.extend(more);
    if release {
        words.push("--release");
    }
    let status = command(&words).status().context("cargo build")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", words.join(" "));
    }
    build_init(release)?;
    Ok(target_dir()?.join(if release { "release" } else { "debug" }))
}

/// Builds the small init for `--init`, linked statically since it runs in any container, under a name of its own beside the
/// engine's programs: cargo itself would put a dynamic one in its place at the next build.
pub fn build_init(release: bool) -> Result<()> {
    let mut words = vec!["rustc", "--quiet", "--package", "init", "--bin", "berth-init"];
    if release {
        words.push("--release");
    }
    let apart = target_dir()?.join("static");
    let apart = apart.to_str().context("the target directory's path is no text")?.to_owned();
    words.extend(["--target-dir", &apart, "--", "-C", "target-feature=+crt-static"]);
    let status = command(&words).status().context("cargo rustc")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", words.join(" "));
    }
    let profile = if release { "release" } else { "debug" };
    let from = target_dir()?.join("static").join(profile).join("berth-init");
    let to = target_dir()?.join(profile).join("berth-init-static");
    std::fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
