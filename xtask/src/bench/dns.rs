//! How many questions the resolver answers, and how soon, beside a bare UDP echo on the same path, and beside the resolvers of
//! Docker and Podman where those are installed.

use super::Bench;
use super::contenders::{self, BERTH, Docker, Podman, succeed};
use super::table::shown;
use crate::packages;
use anyhow::{Context, Result, ensure};
use lab::{Engine, Host, Lab};
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// `cargo xtask bench dns`
pub const BENCH: Bench = Bench {
    name: "dns",
    about: "questions that the resolver answers, and how soon, beside others, under a flood and when a server dies (ROUNDS: seconds of each load)",
    rounds: 4,
    needs: packages::BENCH_DNS,
    run,
};

/// How many containers ask at once at most.
const MANY: usize = 50;
/// How many questions are asked one after the other for the times.
const ONE_BY_ONE: usize = 4000;
/// Where the bare echo listens in a container.
const ECHO: &str = "127.0.0.11:5300";

/// A resolver under test, with the containers that ask it.
struct Contender {
    name: String,
    /// All on one network, `c0` the first.
    places: Vec<Host>,
    /// Where it listens in them.
    server: String,
    clock: Clock,
}

/// Who asks so, of how many containers.
struct Kind<'a> {
    what: &'static str,
    /// The questions of a place, for dnsperf.
    file: &'a dyn Fn(usize) -> Result<PathBuf>,
    /// The n-th question of a place.
    name: &'a (dyn Fn(usize, usize) -> String + Sync),
}

fn run(lab: &Lab, seconds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24");
    let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24");
    let first = Responder::on(&outside, "192.0.2.53:53")?;
    lab.resolv_conf("nameserver 192.0.2.53\n");
    let mut report = format!(
        "# Names: questions a second, time to the answer, processor time\n\n\
         Rates: dnsperf for {seconds} s, 100 questions on their way from one container, 4 from each of {MANY}. Processor time: of who\n\
         answers, the kernel's work for it included. Times: {ONE_BY_ONE} questions, one after the other from each container that asks.\n\n\
         | resolver | what | containers | questions/s | lost | processor time each | median | p99 |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let mut floods = String::from(
        "\n## One container asks as fast as it can, another now and then\n\n\
         The other's times for a name of the network: alone, and while the first asks for names of the network, and for names that its\n\
         resolver must ask others for, 1000 questions on their way.\n\n\
         | resolver | alone | p99 | names of the network | p99 | forwarded, cold | p99 | unanswered |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let names = Names { dir: lab.dir().to_owned() };
    let engine = lab.engine(&[]);
    engine.load_busybox();
    let berth = berth(lab, &engine)?;
    {
        let echo = Echo::in_(&berth.places[0])?;
        let places = vec![berth.places[0].clone()];
        let clock = Clock::Thread(echo.clock.clone());
        let bare = Contender { name: "bare UDP echo".into(), places, server: ECHO.into(), clock };
        let own = names.of_network();
        let kind = Kind { what: "–", file: &own, name: &|_, _| "c0".into() };
        row(&mut report, &bare, &kind, 1, seconds)?;
    }
    measure(&mut report, &mut floods, &berth, &names, seconds)?;
    let archive = lab::busybox::archive(&crate::cargo::target_dir()?)?;
    match (contenders::found("dockerd"), contenders::found("docker")) {
        (Some(daemon), Some(_)) => {
            println!("docker …");
            let docker = Docker::started(lab, &daemon, &archive)?;
            measure(&mut report, &mut floods, &of_docker(lab, &docker)?, &names, seconds)?;
        }
        _ => println!("no dockerd on the search path: nothing beside it"),
    }
    match contenders::found("podman") {
        Some(program) => {
            println!("podman …");
            let podman = Podman::prepared(lab, program, &archive)?;
            measure(&mut report, &mut floods, &of_podman(lab, &podman)?, &names, seconds)?;
        }
        None => println!("no podman on the search path: nothing beside it"),
    }
    report += &floods;
    let places = &berth.places;

    writeln!(report, "\n## One of two name servers dies under load\n")?;
    writeln!(
        report,
        "Four askers in one container, each with one question on its way, all of them new; the first server dies after a second of three.\n"
    )?;
    writeln!(
        report,
        "| how | questions | unanswered | longest before | longest from then on |\n| --- | --- | --- | --- | --- |"
    )?;
    lab.resolv_conf("nameserver 192.0.2.53\nnameserver 192.0.2.54\n");
    let _second = Responder::on(&outside, "192.0.2.54:53")?;
    std::thread::sleep(Duration::from_millis(500));
    let mut first = Some(first);
    for (how, silent) in [("it is silent", true), ("it is gone", false)] {
        let server = first.take().map_or_else(|| Responder::on(&outside, "192.0.2.53:53"), Ok)?;
        // Until it is known to be back.
        std::thread::sleep(Duration::from_secs(3));
        let killed = killed_under_load(&places[0], server, silent)?;
        let longest = |times: &[Duration]| times.iter().max().copied().map_or("–".to_owned(), shown);
        writeln!(
            report,
            "| {how} | {} | {} | {} | {} |",
            killed.before.len() + killed.after.len() + killed.unanswered,
            killed.unanswered,
            longest(&killed.before),
            longest(&killed.after)
        )?;
    }
    Ok(report)
}

fn berth(lab: &Lab, engine: &Engine) -> Result<Contender> {
    engine.ok(&["network", "create", "names"]);
    let mut places = Vec::new();
    for nth in 0..MANY {
        let name = format!("c{nth}");
        engine.sleeper(&name, &["--network", "names"]);
        places.push(lab.container(engine, &name));
    }
    let clock = Clock::of_resolver(engine)?;
    Ok(Contender { name: BERTH.into(), places, server: lab::RESOLVER.into(), clock })
}

fn of_docker(lab: &Lab, docker: &Docker) -> Result<Contender> {
    let quiet = |words: &[&str]| succeed(docker.command(words).stdout(std::process::Stdio::null()));
    quiet(&["network", "create", "names"])?;
    let mut places = Vec::new();
    for nth in 0..MANY {
        let name = format!("c{nth}");
        quiet(&["run", "-d", "--name", &name, "--network", "names", "busybox", "sleep", "10000"])?;
        let pid = said(docker.command(&["inspect", "-f", "{{.State.Pid}}", &name]))?;
        places.push(lab.inside_path(&PathBuf::from(format!("/proc/{pid}/ns/net"))));
    }
    let version = said(docker.command(&["version", "-f", "{{.Server.Version}}"]))?;
    let clock = Clock::Process(docker.pid);
    Ok(Contender { name: format!("docker {version}"), places, server: lab::RESOLVER.into(), clock })
}

fn of_podman(lab: &Lab, podman: &Podman) -> Result<Contender> {
    let command = |words: &[&str]| {
        let mut command = podman.command();
        command.args(words);
        command
    };
    let quiet = |words: &[&str]| succeed(command(words).stdout(std::process::Stdio::null()));
    quiet(&["network", "create", "names"])?;
    let run = ["run", "-d", "--pull", "never", "--cgroup-parent", lab.cgroup(), "--network", "names", "--name"];
    let mut places = Vec::new();
    for nth in 0..MANY {
        let name = format!("c{nth}");
        quiet(&[&run[..], &[&name, "localhost/busybox", "sleep", "10000"]].concat())?;
        let pid = said(command(&["inspect", "-f", "{{.State.Pid}}", &name]))?;
        places.push(lab.inside_path(&PathBuf::from(format!("/proc/{pid}/ns/net"))));
    }
    let gateway = said(command(&["inspect", "-f", "{{.NetworkSettings.Networks.names.Gateway}}", "c0"]))?;
    let mut pids = Vec::new();
    for process in std::fs::read_dir("/proc")?.flatten() {
        let comm = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let pid = process.file_name().to_string_lossy().parse::<u32>();
        pids.extend(pid.ok().filter(|_| comm.trim() == "aardvark-dns"));
    }
    let [pid] = pids[..] else { anyhow::bail!("{} processes are called aardvark-dns", pids.len()) };
    let version = said(command(&["version", "-f", "{{.Client.Version}}"]))?;
    let name = format!("podman {version} (aardvark-dns)");
    Ok(Contender { name, places, server: format!("{gateway}:53"), clock: Clock::Process(pid) })
}

/// What a command prints.
fn said(mut command: std::process::Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Everything about one resolver.
fn measure(report: &mut String, floods: &mut String, contender: &Contender, names: &Names, seconds: u32) -> Result<()> {
    let network = names.of_network();
    let kept = |_: usize| names.file("kept", (0..1000).map(|n| format!("k{n}.example A")));
    let cold =
        |place: usize| names.file(&format!("cold{place}"), (0..5000).map(|n| format!("c{n}.of{place}.example A")));
    let kinds = [
        Kind { what: "name of the network", file: &network, name: &|place, _| format!("c{}", (place + 1) % MANY) },
        Kind { what: "forwarded, kept", file: &kept, name: &|_, n| format!("k{}.example", n % 1000) },
        Kind { what: "forwarded, cold", file: &cold, name: &|place, n| format!("t{n}.of{place}.example") },
    ];
    for kind in &kinds {
        for count in [1, MANY] {
            row(report, contender, kind, count, seconds)?;
        }
    }
    // The last container's, while the first asks.
    let (loud, quiet) = (&contender.places[0], &contender.places[MANY - 1..]);
    let times = || one_by_one(quiet, &contender.server, &|_, _| "c0".into());
    let mut line = format!("| {}", contender.name);
    let mut unanswered = 0;
    for file in [None, Some(network(0)?), Some(cold(0)?)] {
        let asking = file.map(|file| flood(loud, &contender.server, &file)).transpose()?;
        std::thread::sleep(Duration::from_millis(500));
        let times = times()?;
        drop(asking);
        unanswered += times.unanswered;
        write!(line, " | {} | {}", times.at(50), times.at(99))?;
    }
    writeln!(floods, "{line} | {unanswered} |")?;
    Ok(())
}

/// Lets dnsperf ask until what is answered here is dropped.
fn flood(place: &Host, server: &str, file: &Path) -> Result<lab::Running> {
    let (addr, port) = server.split_once(':').context("an address with a port")?;
    let file = file.to_str().context("a path that is text")?;
    Ok(place.spawn(&["dnsperf", "-s", addr, "-p", port, "-d", file, "-l", "60", "-q", "1000"]))
}

fn row(report: &mut String, contender: &Contender, kind: &Kind, count: usize, seconds: u32) -> Result<()> {
    println!("{}: {}, {count} …", contender.name, kind.what);
    let places = &contender.places[..count];
    let load = load(places, &contender.server, kind.file, &contender.clock, seconds)?;
    let times = one_by_one(places, &contender.server, kind.name)?;
    let lost = load.lost + times.unanswered as u64;
    let (name, what) = (&contender.name, kind.what);
    let (each, median, p99) = (micros(load.each), times.at(50), times.at(99));
    writeln!(report, "| {name} | {what} | {count} | {:.0} | {lost} | {each} | {median} | {p99} |", load.rate)?;
    Ok(())
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

/// Files of questions for dnsperf.
struct Names {
    dir: PathBuf,
}

impl Names {
    /// Questions for names of containers.
    fn of_network(&self) -> impl Fn(usize) -> Result<PathBuf> {
        |_| self.file("network", (0..MANY).map(|n| format!("c{n} A")))
    }

    fn file(&self, name: &str, questions: impl Iterator<Item = String>) -> Result<PathBuf> {
        let path = self.dir.join(format!("questions-{name}"));
        let text = questions.fold(String::new(), |text, question| text + &question + "\n");
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

struct Load {
    /// Questions a second, all askers together.
    rate: f64,
    lost: u64,
    /// Processor time of the answering thread.
    each: Duration,
}

/// Lets dnsperf ask from each of these places at once.
fn load(
    places: &[Host],
    server: &str,
    file: &dyn Fn(usize) -> Result<PathBuf>,
    clock: &Clock,
    seconds: u32,
) -> Result<Load> {
    let seconds = seconds.to_string();
    let (addr, port) = server.split_once(':').context("an address with a port")?;
    let waiting = if places.len() == 1 { "100" } else { "4" };
    let files = (0..places.len()).map(file).collect::<Result<Vec<_>>>()?;
    let before = clock.read()?;
    let mut running = Vec::new();
    for (place, file) in places.iter().zip(&files) {
        let file = file.to_str().context("a path that is text")?;
        running.push(place.spawn(&["dnsperf", "-s", addr, "-p", port, "-d", file, "-l", &seconds, "-q", waiting]));
    }
    let mut load = Load { rate: 0.0, lost: 0, each: Duration::ZERO };
    let mut completed = 0;
    for mut one in running {
        let out = one.wait(Duration::from_secs(60));
        ensure!(out.code == 0, "dnsperf: {out:?}");
        let value = |label: &str| {
            let line = out.stdout.lines().find_map(|line| line.trim().strip_prefix(label));
            line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no `{label}` in {out:?}"))
        };
        load.rate += value("Queries per second:")?.parse::<f64>()?;
        load.lost += value("Queries lost:")?.parse::<u64>()?;
        completed += value("Queries completed:")?.parse::<u32>()?;
        ensure!(server == ECHO || out.stdout.contains("NOERROR"), "dnsperf got no good answers: {out:?}");
    }
    load.each = clock.read()?.saturating_sub(before) / completed.max(1);
    Ok(load)
}

/// The times of questions, sorted.
#[derive(Default)]
struct Times {
    answered: Vec<Duration>,
    unanswered: usize,
}

impl Times {
    /// In words, so many of a hundred were as quick.
    fn at(&self, of_hundred: usize) -> String {
        self.answered.get(self.answered.len() * of_hundred / 100).map_or("–".to_owned(), |time| micros(*time))
    }
}

/// Asks one after the other from each of these places at once, all together so many questions.
fn one_by_one(places: &[Host], server: &str, name: &(dyn Fn(usize, usize) -> String + Sync)) -> Result<Times> {
    let server: SocketAddr = server.parse()?;
    let ask = |nth: usize| -> std::io::Result<Times> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut times = Times::default();
        for n in 0..ONE_BY_ONE / places.len() {
            let question = lab::dns::question(&name(nth, n), n as u16, None);
            let asked = Instant::now();
            socket.send(&question)?;
            let mut answer = [0; 1500];
            // What comes late is not the answer to the next question.
            let got = loop {
                match socket.recv(&mut answer) {
                    Ok(_) if answer[..2] == question[..2] => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
            if got { times.answered.push(asked.elapsed()) } else { times.unanswered += 1 }
        }
        Ok(times)
    };
    let parts = std::thread::scope(|scope| {
        let ask = &ask;
        let askers: Vec<_> =
            places.iter().enumerate().map(|(nth, place)| scope.spawn(move || place.enter(|| ask(nth)))).collect();
        askers.into_iter().map(|asker| asker.join()).collect::<Vec<_>>()
    });
    let mut all = Times::default();
    for part in parts {
        let part = part.map_err(|_| anyhow::anyhow!("an asker panicked"))?.context("asking one after the other")?;
        all.answered.extend(part.answered);
        all.unanswered += part.unanswered;
    }
    all.answered.sort_unstable();
    Ok(all)
}

/// The processor time of who answers.
enum Clock {
    /// One thread: its `schedstat`.
    Thread(PathBuf),
    /// A process with all its threads.
    Process(u32),
}

impl Clock {
    fn of_resolver(engine: &Engine) -> Result<Clock> {
        let pid = engine.pid().context("the engine runs")?;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm"))?.trim() == "resolver" {
                return Ok(Clock::Thread(task.join("schedstat")));
            }
        }
        anyhow::bail!("the engine has no thread called `resolver`")
    }

    fn read(&self) -> Result<Duration> {
        match self {
            Clock::Thread(file) => thread_time(file),
            // A thread that ends takes its time along; while they answer, these do not.
            Clock::Process(pid) => std::fs::read_dir(format!("/proc/{pid}/task"))?
                .map(|task| thread_time(&task?.path().join("schedstat")))
                .sum(),
        }
    }
}

/// Nanoseconds on a processor are the first number (Documentation/scheduler/sched-stats).
fn thread_time(file: &Path) -> Result<Duration> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    nanos.map(Duration::from_nanos).with_context(|| format!("{} holds no time: {text}", file.display()))
}

/// Gives back each datagram as if it were its answer.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    clock: PathBuf,
}

impl Echo {
    fn in_(place: &Host) -> Result<Echo> {
        let socket = place.enter(|| UdpSocket::bind(ECHO))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, (tell, told)) = (stop.clone(), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            // Fails only if nobody wants to know.
            let _ = tell.send(rustix::thread::gettid());
            let mut buffer = [0; 4096];
            while !stopping.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
                buffer[2] |= 0x80;
                // An asker that is gone needs no answer.
                let _ = socket.send_to(&buffer[..count], from);
            }
        });
        let tid = told.recv()?.as_raw_nonzero();
        Ok(Echo { stop, thread: Some(thread), clock: format!("/proc/self/task/{tid}/schedstat").into() })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A name server that has one address for every name, to be kept only if the name begins with `k`.
struct Responder {
    stop: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn on(place: &Host, addr: &str) -> Result<Responder> {
        let addr: SocketAddr = addr.parse()?;
        let socket = place.enter(|| UdpSocket::bind(addr))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (stop, silent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stopping, silenced) = (stop.clone(), silent.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopping.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut buffer[..2048]) else { continue };
                if count < 17 || silenced.load(Ordering::Relaxed) {
                    continue;
                }
                buffer[2..4].copy_from_slice(&[0x81, 0x80]);
                buffer[7] = 1;
                let ttl = if buffer[13] == b'k' { 44 } else { 0 };
                let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, ttl, 0, 4, 192, 0, 2, 80];
                let record = if ttl == 0 { [&record[..6], &[0; 4], &record[10..]].concat() } else { record.to_vec() };
                buffer[count..count + record.len()].copy_from_slice(&record);
                let _ = socket.send_to(&buffer[..count + record.len()], from);
            }
        });
        Ok(Responder { stop, silent, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Default)]
struct Killed {
    before: Vec<Duration>,
    after: Vec<Duration>,
    unanswered: usize,
}

fn killed_under_load(place: &Host, server: Responder, silent: bool) -> Result<Killed> {
    let next = AtomicU32::new(0);
    let started = Instant::now();
    let dies = Duration::from_secs(1);
    let ask = || -> std::io::Result<Killed> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("127.0.0.11:53")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut killed = Killed::default();
        while started.elapsed() < 3 * dies {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let question = lab::dns::question(&format!("n{nth}.{silent}.example"), nth as u16, None);
            let (asked, since) = (Instant::now(), started.elapsed());
            socket.send(&question)?;
            match socket.recv(&mut [0; 1500]) {
                // What was on its way when it died counts as after.
                Ok(_) if since + asked.elapsed() < dies => killed.before.push(asked.elapsed()),
                Ok(_) => killed.after.push(asked.elapsed()),
                Err(_) => killed.unanswered += 1,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(killed)
    };
    let parts = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(|| place.enter(ask))).collect();
        std::thread::sleep(dies.saturating_sub(started.elapsed()));
        if silent {
            server.silent.store(true, Ordering::Relaxed)
        } else {
            server.stop.store(true, Ordering::Relaxed)
        }
        askers
            .into_iter()
            .map(|asker| asker.join().map_err(|_| anyhow::anyhow!("an asker panicked")))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut all = Killed::default();
    for part in parts {
        let part = part?;
        all.before.extend(part.before);
        all.after.extend(part.after);
        all.unanswered += part.unanswered;
    }
    Ok(all)
}
