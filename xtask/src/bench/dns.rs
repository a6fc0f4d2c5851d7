//! How many questions the resolver answers, and how soon, beside a bare UDP echo on the same path.

use super::Bench;
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
    about: "questions that the resolver answers, and how soon, also when a server dies (ROUNDS: seconds of each load)",
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

fn run(lab: &Lab, seconds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24");
    let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24");
    let first = Responder::on(&outside, "192.0.2.53:53")?;
    lab.resolv_conf("nameserver 192.0.2.53\n");
    let engine = lab.engine(&[]);
    engine.load_busybox();
    let mut places = Vec::new();
    for nth in 0..MANY {
        let name = format!("c{nth}");
        engine.ok(&["run", "-d", "--name", &name, "-h", "own", "busybox", "sleep", "10000"]);
        let key = engine.ok(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", &name]);
        places.push(lab.inside_path(Path::new(key.trim())));
    }
    let resolver = Clock::of_resolver(&engine)?;

    let mut report = format!(
        "# Names: questions a second, time to the answer, processor time\n\n\
         Rates: dnsperf for {seconds} s, 100 questions on their way from one container, 4 from each of {MANY}. Processor time: of the\n\
         thread that answers, the kernel's work for it included. Times: {ONE_BY_ONE} questions one after the other from one container.\n\n\
         | what | containers | questions/s | lost | processor time each | median | p99 |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let echo = Echo::in_(&places[0])?;
    let names = Names { dir: lab.dir().to_owned() };
    let own = |_: usize| names.file("own", ["own A".to_owned()].into_iter());
    let kept = |_: usize| names.file("kept", (0..1000).map(|n| format!("k{n}.example A")));
    let cold =
        |place: usize| names.file(&format!("cold{place}"), (0..5000).map(|n| format!("c{n}.of{place}.example A")));
    let row = |report: &mut String,
               what: &str,
               places: &[Host],
               server: &str,
               file: &dyn Fn(usize) -> Result<PathBuf>,
               clock: &Clock,
               name: Option<&dyn Fn(usize) -> String>|
     -> Result<()> {
        println!("{what}, {} …", places.len());
        let load = load(places, server, file, clock, seconds)?;
        let times = name.map(|name| one_by_one(&places[0], server, name)).transpose()?;
        let time = |at: usize| times.as_ref().map_or("–".to_owned(), |times| micros(times[times.len() * at / 100]));
        writeln!(
            report,
            "| {what} | {} | {:.0} | {} | {} | {} | {} |",
            places.len(),
            load.rate,
            load.lost,
            micros(load.each),
            time(50),
            time(99)
        )?;
        Ok(())
    };
    let (one, all) = (&places[..1], &places[..]);
    row(&mut report, "bare UDP echo", one, ECHO, &own, &echo.clock, Some(&|_| "own".into()))?;
    for (what, file, name) in [
        ("own name", &own as &dyn Fn(usize) -> Result<PathBuf>, &(|_| "own".into()) as &dyn Fn(usize) -> String),
        ("forwarded, kept", &kept, &|n| format!("k{}.example", n % 1000)),
        ("forwarded, cold", &cold, &|n| format!("t{n}.example")),
    ] {
        row(&mut report, what, one, "127.0.0.11:53", file, &resolver, Some(name))?;
        row(&mut report, what, all, "127.0.0.11:53", file, &resolver, None)?;
    }
    drop(echo);

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

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

/// Files of questions for dnsperf.
struct Names {
    dir: PathBuf,
}

impl Names {
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

/// The times of questions that are asked one after the other, sorted.
fn one_by_one(place: &Host, server: &str, name: &dyn Fn(usize) -> String) -> Result<Vec<Duration>> {
    let server: SocketAddr = server.parse()?;
    let questions: Vec<Vec<u8>> = (0..ONE_BY_ONE).map(|n| lab::dns::question(&name(n), n as u16, None)).collect();
    let times = place.enter(|| -> std::io::Result<Vec<Duration>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut times = Vec::with_capacity(questions.len());
        for question in &questions {
            let asked = Instant::now();
            socket.send(question)?;
            socket.recv(&mut [0; 1500])?;
            times.push(asked.elapsed());
        }
        times.sort_unstable();
        Ok(times)
    });
    times.context("asking one after the other")
}

/// The processor time of one thread.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn of_resolver(engine: &Engine) -> Result<Clock> {
        let pid = engine.pid().context("the engine runs")?;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm"))?.trim() == "resolver" {
                return Ok(Clock { file: task.join("schedstat") });
            }
        }
        anyhow::bail!("the engine has no thread called `resolver`")
    }

    /// Nanoseconds on a processor are the first number (Documentation/scheduler/sched-stats).
    fn read(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
        nanos.map(Duration::from_nanos).with_context(|| format!("{} holds no time: {text}", self.file.display()))
    }
}

/// Gives back each datagram as if it were its answer.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    clock: Clock,
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
        Ok(Echo {
            stop,
            thread: Some(thread),
            clock: Clock { file: format!("/proc/self/task/{tid}/schedstat").into() },
        })
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
