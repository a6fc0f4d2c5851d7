use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code, or 128 + N after signal N, as a shell has it.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Runs a command to its end. Panics, with what it has said, if it cannot be started or takes longer than `limit`; then it
/// is killed.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    match try_run(command, input, limit) {
        Ok(output) => output,
        Err(err) => panic!("{}: {err}", shown(command)),
    }
}

/// How long a command on a host or to an engine may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command that must succeed; answers what it printed. Panics with `place` and all that it said.
#[track_caller]
pub(crate) fn succeed(command: &mut Command, place: &str) -> String {
    let output = run(command, &[], LIMIT);
    let Output { code, stdout, stderr } = &output;
    assert!(*code == 0, "{place}: `{}` ended with {code}\n{stdout}{stderr}", shown(command));
    output.stdout
}

fn try_run(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Output> {
    let started = Instant::now();
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = Gathering::of(child.stdout.take());
    let stderr = Gathering::of(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A thread, for the command may talk before it listens. One that ends without listening is its own affair.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            let (out, err) = (stdout.so_far(), stderr.so_far());
            return Err(io::Error::other(format!("killed, it took over {limit:?}\nstdout: {out}\nstderr: {err}")));
        }
        std::thread::sleep(pause(started));
    };
    Ok(Output { code: code(status), stdout: stdout.settled(), stderr: stderr.settled() })
}

/// How long to wait before looking again: short at first, for most things are quick; long later, to leave the processor to
/// them.
pub(crate) fn pause(started: Instant) -> Duration {
    (started.elapsed() / 8).clamp(Duration::from_micros(200), Duration::from_millis(20))
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The command as it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// One stream of a command, read as it comes.
struct Gathering {
    text: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Gathering {
    fn of(stream: Option<impl Read + Send + 'static>) -> Gathering {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = text.clone();
        let reader = std::thread::spawn(move || {
            let Some(mut stream) = stream else { return };
            let mut chunk = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                into.lock().expect("no holder of this lock panics").extend_from_slice(&chunk[..count]);
            }
        });
        Gathering { text, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no holder of this lock panics")).into_owned()
    }

    /// After the command's end: all that it said. Something that it left in the background may hold the stream open; that is
    /// waited for only a moment.
    fn settled(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(1);
        while !self.reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.so_far()
    }
}

/// A command in the background, its output in files. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Starts `command` with an open standard input, and files for its output in `dir`.
    #[track_caller]
    pub fn start(command: &mut Command, dir: &Path) -> Running {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (dir.join(format!("running{nth}.out")), dir.join(format!("running{nth}.err")));
        let file = |path: &Path| std::fs::File::create(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        command.stdin(Stdio::piped()).stdout(file(&stdout)).stderr(file(&stderr));
        let child = command.spawn().unwrap_or_else(|err| panic!("{}: {err}", shown(command)));
        Running { child, shown: shown(command), stdout, stderr }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("the input is open until `end_input`");
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|err| panic!("telling `{}`: {err}", self.shown));
    }

    /// Closes its standard input.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Sends it a signal, by number.
    pub fn signal(&self, signal: i32) {
        let (Some(pid), Some(signal)) =
            (rustix::process::Pid::from_raw(self.child.id() as i32), rustix::process::Signal::from_named_raw(signal))
        else {
            panic!("{signal} is no signal");
        };
        // One that has just ended needs no signal any more.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits for its end. Panics after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Output {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) =
                self.child.try_wait().unwrap_or_else(|err| panic!("waiting for `{}`: {err}", self.shown))
            {
                return Output { code: code(status), stdout: self.stdout(), stderr: self.stderr() };
            }
            assert!(
                Instant::now() < deadline,
                "`{}` has not ended in {limit:?}\nstdout: {}\nstderr: {}",
                self.shown,
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it and says what it has left.
    pub fn kill(&mut self) -> Output {
        // Both fail only if it has been waited for.
        let _ = self.child.kill();
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
