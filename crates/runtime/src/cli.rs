use crate::{create, exec, house::House, manage};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// The default OCI runtime of berth.
#[derive(Parser)]
#[command(name = "berth-runtime", version, long_version = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0"))]
pub struct Cli {
    /// Where the state of containers is kept
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/berth/runtime")]
    root: PathBuf,
    /// Where messages go, besides standard error
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The form of that file
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: Format,
    /// Say every step
    #[arg(long, global = true)]
    pub debug: bool,
    /// Accepted for compatibility; cgroups are always managed directly
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true")]
    systemd_cgroup: Option<bool>,
    /// Where compiled seccomp profiles are kept [default: ROOT/seccomp]
    #[arg(long, global = true, value_name = "DIR")]
    seccomp_cache: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

/// The form of a log file.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `time="…" level=… msg="…"`
    Text,
    /// An object a line: level, msg, time
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// Make a container; its program waits for `start`
    Create(CreateArgs),
    /// Run the program of a created container
    Start { id: String },
    /// Print the state of a container
    State { id: String },
    /// Send a signal to a container
    Kill {
        /// To all its processes, not just the first
        #[arg(long, short)]
        all: bool,
        id: String,
        /// A name or a number
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove what is left of a container
    Delete {
        /// Kill it first if it runs, and do not mind if it does not exist
        #[arg(long, short)]
        force: bool,
        id: String,
    },
    /// Run one more process in a container
    Exec(ExecArgs),
    /// Freeze all processes of a container
    Pause { id: String },
    /// Thaw them
    Resume { id: String },
    /// Change the limits of a container
    Update {
        /// `linux.resources` of the OCI configuration, as JSON; `-` is standard input
        #[arg(long, short, value_name = "FILE")]
        resources: PathBuf,
        id: String,
    },
    /// List the processes of a container
    Ps {
        /// The form of the list
        #[arg(long, short, value_enum, default_value = "table")]
        format: List,
        id: String,
    },
    /// Print what this runtime can do
    Features,
}

/// The form of a list of processes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum List {
    /// A pid a line under a heading
    Table,
    /// A JSON array of pids
    Json,
}

/// `create`.
#[derive(Args)]
pub struct CreateArgs {
    /// The bundle directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A unix socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Where to write the pid of the container's first process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// How many descriptors after the standard ones the program inherits
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: i32,
    /// Its name
    pub id: String,
}

/// `exec`.
#[derive(Args)]
pub struct ExecArgs {
    /// `process` of the OCI configuration, as JSON
    #[arg(long, short, value_name = "FILE")]
    pub process: PathBuf,
    /// Where to write the pid of the process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// A unix socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(long, short)]
    pub detach: bool,
    /// How many descriptors after the standard ones the program inherits
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: i32,
    /// The container's name
    pub id: String,
}

impl Cli {
    /// Does what was asked. The exit code is an exec'ed process's own, when it is waited for.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        if self.systemd_cgroup == Some(true) {
            anyhow::bail!(
                "--systemd-cgroup is not supported: this runtime manages cgroups directly; leave the flag out"
            );
        }
        let cache = self.seccomp_cache.clone().unwrap_or_else(|| self.root.join("seccomp"));
        let house = |id: &str| House::of(&self.root, id);
        match &self.action {
            Action::Create(args) => create::create(&house(&args.id)?, args, &cache)?,
            Action::Start { id } => create::start(&house(id)?)?,
            Action::State { id } => manage::state(&house(id)?)?,
            Action::Kill { all, id, signal } => manage::kill(&house(id)?, signal, *all)?,
            Action::Delete { force, id } => manage::delete(&house(id)?, *force)?,
            Action::Exec(args) => return exec::exec(&house(&args.id)?, args, &cache),
            Action::Pause { id } => manage::pause(&house(id)?)?,
            Action::Resume { id } => manage::resume(&house(id)?)?,
            Action::Update { resources, id } => manage::update(&house(id)?, resources)?,
            Action::Ps { format, id } => manage::ps(&house(id)?, *format)?,
            Action::Features => manage::features()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
