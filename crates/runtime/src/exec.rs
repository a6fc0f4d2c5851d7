use crate::cli::ExecArgs;
use crate::house::House;
use crate::launch::Launch;
use crate::{create, limits, seccomp, spec};
use anyhow::{Context, bail};
use libcontainer::container::ContainerStatus;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// Runs one more process. Detached it is left to the caller's subreaper; else its exit code is the answer.
pub fn exec(house: &House, args: &ExecArgs, cache: &Path) -> anyhow::Result<ExitCode> {
    let kept = house.kept()?;
    let status = house.container()?.status();
    if status != ContainerStatus::Running {
        bail!("cannot exec in container {}: it is {}, not running", house.id, status.to_string().to_lowercase());
    }
    if kept.user_namespace {
        // libcontainer 0.7 leaves the user namespace out when it joins the others: the process would be the host's root.
        bail!(
            "exec in a container with a user namespace of its own is not supported by this runtime: use another with --runtime"
        );
    }
    let text = std::fs::read(&args.process).with_context(|| format!("--process {}", args.process.display()))?;
    let process: Value =
        serde_json::from_slice(&text).with_context(|| format!("--process {}", args.process.display()))?;
    if process["args"].as_array().is_none_or(|args| args.is_empty()) {
        bail!("--process {}: args must name a program", args.process.display());
    }
    // The container's own filter: an exec is no way around it.
    let filter = match &kept.seccomp {
        Some(profile) if seccomp::notifies(profile) => {
            bail!(
                "exec in a container whose seccomp profile has a listener is not supported by this runtime: use another with --runtime"
            )
        }
        Some(profile) => Some(seccomp::filter(profile, cache)?),
        None => None,
    };
    let launch = Launch::of(&process, filter, None)?;
    limits::set_oom_score(&process)?;
    let file = house.ours().join(format!("exec-{}.json", std::process::id()));
    std::fs::write(&file, spec::adapt_process(&process)?.to_string()).with_context(|| format!("{}", file.display()))?;
    let pid = build(house, args, &file, launch);
    let _ = std::fs::remove_file(&file);
    let pid = pid?;
    if args.detach { Ok(ExitCode::SUCCESS) } else { wait(pid) }
}

fn build(house: &House, args: &ExecArgs, process: &Path, launch: Launch) -> anyhow::Result<Pid> {
    let console = args.console_socket.as_ref().map(std::path::absolute).transpose()?;
    let pid = ContainerBuilder::new(house.id.clone(), SyscallType::default())
        .with_root_path(house.theirs())?
        .with_pid_file(args.pid_file.as_ref())?
        .with_console_socket(console)
        .with_preserved_fds(args.preserve_fds)
        .with_executor(launch)
        .validate_id()?
        .as_tenant()
        .with_process(Some(process))
        .with_detach(args.detach)
        .build()
        .map_err(|error| create::told(&error.into()).context("exec failed"))?;
    Pid::from_raw(pid.as_raw()).context("libcontainer told no pid")
}

fn wait(pid: Pid) -> anyhow::Result<ExitCode> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(code(status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting for the process"),
        }
    }
}

fn code(status: WaitStatus) -> ExitCode {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(code as u8)
}
