//! From flags to a running engine, and to its end.

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::http;
use clap::ArgMatches;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Threads for requests; the network has its own, and slow work of the disk goes to tokio's blocking threads.
const WORKERS: usize = 2;

/// Runs the engine until it is told to end (SIGTERM, SIGINT). Containers live on with their shims, and so do their
/// connections and published ports; the next engine takes them over.
pub fn run(matches: &ArgMatches) -> ExitCode {
    match Config::read(matches).and_then(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be open yet, and a person waits for this line.
            eprintln!("failed to start daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> Result<()> {
    if config.validate {
        println!("configuration OK");
        return Ok(());
    }
    config.start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("engine")
        .enable_all()
        .build()
        .doing("start the runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<()> {
    for dir in [&config.data_root, &config.exec_root] {
        std::fs::create_dir_all(dir).doing(format_args!("make {}", dir.display()))?;
    }
    let _pid_file = PidFile::take(&config.pidfile)?;
    // Listening comes first: clients that come early wait instead of being refused.
    let listeners = http::listen(&config)?;
    // First: what lives already needs its descriptors again.
    raise_file_limit();
    let engine = Engine::open(config).await?;
    let mut terminate = signal(SignalKind::terminate()).doing("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).doing("listen for SIGINT")?;
    let ended = tokio::select! {
        ended = http::serve(engine.clone(), listeners) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    info!("ending; containers live on");
    engine.close();
    ended
}

/// A sandbox costs a few descriptors; the soft limit that services start with is for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(errno) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%errno, "the limit of open files stays as it is");
    }
}

/// Says which engine has these directories; gone with the engine.
struct PidFile {
    file: File,
    path: std::path::PathBuf,
}

impl PidFile {
    fn take(path: &Path) -> Result<PidFile> {
        use rustix::fs::{FlockOperation, flock};
        let doing = || format!("write {}", path.display());
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).doing(doing())?;
        }
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path).doing(doing())?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = std::fs::read_to_string(path).unwrap_or_default();
            return Err(Error::Fault(format!(
                "process {} is an engine with the same pid file {}; stop it, or choose another --pidfile, --data-root and \
                 --exec-root",
                holder.trim(),
                path.display()
            )));
        }
        file.set_len(0).doing(doing())?;
        writeln!(file, "{}", std::process::id()).doing(doing())?;
        Ok(PidFile { file, path: path.to_path_buf() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.sync_all();
    }
}
