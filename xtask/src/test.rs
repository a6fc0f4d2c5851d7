use crate::tally::Tally;
use crate::{cargo, need_namespaces, packages};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode};

/// Labs are heavy: each makes namespaces, and many of them start an engine.
const THREADS: &str = "--test-threads=3";

/// Installs, builds, checks and tests everything. The last line counts the tests.
pub fn all() -> Result<ExitCode> {
    let skip_labs = std::env::var_os("BERTH_SKIP_LABS").is_some_and(|value| value == "1");
    if let Err(err) = need_namespaces() {
        if !skip_labs {
            return Err(err.context("tests need labs (BERTH_SKIP_LABS=1 does without)"));
        }
        println!("xtask: labs will be skipped: {err}");
    }
    packages::need(&[packages::BUILD, packages::RUN, packages::TEST])?;

    let mut failed = Vec::new();
    let mut tally = Tally::default();
    // Before anything else: tests look for the programs beside themselves.
    if !step("build", &mut cargo::command(&["build", "--workspace", "--all-targets"]), &mut tally)? {
        anyhow::bail!("the build failed; nothing was tested");
    }
    cargo::build_init(false)?;
    let mut check = |name: &'static str, words: &[&str]| -> Result<()> {
        if !step(name, &mut cargo::command(words), &mut tally)? {
            failed.push(name);
        }
        Ok(())
    };
    check("fmt", &["fmt", "--all", "--check"])?;
    check("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let skipped = cargo::target_dir()?.join("lab-skipped");
    if let Err(err) = std::fs::remove_file(&skipped)
        && err.kind() != std::io::ErrorKind::NotFound
    {
        return Err(err).with_context(|| skipped.display().to_string());
    }
    if cargo::has("nextest") {
        check("tests", &["nextest", "run", "--workspace", "--no-fail-fast", THREADS])?;
    } else {
        check("tests", &["test", "--workspace", "--all-targets", "--no-fail-fast", "--", THREADS])?;
    }
    check("doc tests", &["test", "--workspace", "--doc", "--no-fail-fast"])?;
    if cargo::has("deny") {
        check("deny", &["deny", "check"])?;
    } else {
        println!("xtask: cargo-deny is not installed: licences and advisories are not checked");
    }
    let labs = std::fs::read_to_string(&skipped).unwrap_or_default().lines().count();
    if labs > 0 {
        println!("xtask: {labs} labs were skipped for want of namespaces");
        tally.really_skipped(labs as u64);
    }
    if !failed.is_empty() {
        println!("xtask: failed: {}", failed.join(", "));
    }
    println!("{tally}");
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a command, shows what it says and counts the tests in it. Answers whether it succeeded.
fn step(name: &str, command: &mut Command, tally: &mut Tally) -> Result<bool> {
    println!("xtask: {name}");
    let (reader, writer) = std::io::pipe()?;
    command.stdin(std::process::Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    command.env("CARGO_TERM_COLOR", "never");
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    // The command holds copies of the writing end, for which the reader would wait.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        tally.read(&line);
    }
    Ok(child.wait()?.success())
}
