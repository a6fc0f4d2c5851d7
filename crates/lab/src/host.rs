use crate::command::{LIMIT, Output, Running, run, succeed};
use crate::dns::{self, Manner, NameServer};
use crate::namespaces::NetNs;
use crate::probe;
use crate::server::{Answer, Server};
use crate::sweep::{Ask, sweep};
use crate::wire::Wire;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A network namespace as a place from which to ask and to answer: a host of the lab, the lab itself, or a container.
/// Only the network is the place's own; files and processes are the lab's.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    ns: Arc<NetNs>,
    dir: PathBuf,
}

impl Host {
    pub(crate) fn new(name: &str, ns: NetNs, dir: &Path) -> Host {
        Host { name: name.to_owned(), ns: Arc::new(ns), dir: dir.to_owned() }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `work` answers on a thread of its own inside the namespace. Sockets made there belong to it for good.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.ns.within(work).unwrap_or_else(|err| panic!("entering `{}`: {err}", self.name))
    }

    /// Runs a command to its end, whatever that is.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        run(&mut self.command(words), &[], LIMIT)
    }

    /// Runs a command that must succeed; answers what it printed.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        succeed(&mut self.command(words), &self.name)
    }

    /// Starts a command in the background.
    #[track_caller]
    pub fn spawn(&self, words: &[&str]) -> Running {
        Running::start(&mut self.command(words), &self.dir)
    }

    /// `ip route add WORDS`, for instance `10.1.0.0/24 via 192.0.2.1`.
    #[track_caller]
    pub fn route(&self, words: &str) {
        let family = if words.contains(':') { "-6" } else { "-4" };
        let all: Vec<&str> = ["ip", family, "route", "add"].into_iter().chain(words.split_whitespace()).collect();
        self.ok(&all);
    }

    /// Answers each TCP connection with `TEXT PEER\n`, where PEER is the address that it came from, and closes it.
    /// Port 0 takes a free one: see [`Server::addr`].
    #[track_caller]
    pub fn serve_tcp(&self, addr: &str, text: &str) -> Server {
        self.serve(addr, Server::tcp, Answer::Text(text.to_owned()))
    }

    /// Gives back on each TCP connection what comes in, until its end.
    #[track_caller]
    pub fn serve_echo(&self, addr: &str) -> Server {
        self.serve(addr, Server::tcp, Answer::Echo)
    }

    /// Answers each datagram with `TEXT PEER\n`.
    #[track_caller]
    pub fn serve_udp(&self, addr: &str, text: &str) -> Server {
        self.serve(addr, Server::udp, Answer::Text(text.to_owned()))
    }

    #[track_caller]
    fn serve(&self, addr: &str, start: fn(SocketAddr, Answer) -> io::Result<Server>, answer: Answer) -> Server {
        let addr = socket_addr(addr);
        self.enter(|| start(addr, answer)).unwrap_or_else(|err| panic!("serving on {addr} of `{}`: {err}", self.name))
    }

    /// Answers questions of the DNS from a table: see [`NameServer::set`].
    #[track_caller]
    pub fn serve_dns(&self, addr: &str, table: &str) -> NameServer {
        let addr = socket_addr(addr);
        self.enter(|| NameServer::start(addr, table))
            .unwrap_or_else(|err| panic!("a name server on {addr} of `{}`: {err}", self.name))
    }

    /// Asks a name server `NAME TYPE`, as in `web.example AAAA` (two seconds at most); a missing type is A.
    #[track_caller]
    pub fn dns(&self, server: &str, what: &str) -> io::Result<dns::Reply> {
        self.dns_as(server, what, Manner::default())
    }

    /// [`Host::dns`] in another manner.
    #[track_caller]
    pub fn dns_as(&self, server: &str, what: &str, manner: Manner) -> io::Result<dns::Reply> {
        let server = socket_addr(server);
        self.enter(|| dns::ask(server, what, manner, probe::PATIENCE))
    }

    /// All that a TCP server says until it closes, or why there was no connection (two seconds at most).
    #[track_caller]
    pub fn tcp(&self, addr: &str) -> io::Result<String> {
        let addr = socket_addr(addr);
        self.enter(|| probe::tcp(addr, probe::PATIENCE))
    }

    /// An open TCP connection, for a test that must see it live on. Reads and writes time out after two seconds.
    #[track_caller]
    pub fn connect(&self, addr: &str) -> io::Result<TcpStream> {
        let addr = socket_addr(addr);
        self.enter(|| probe::connect(addr, probe::PATIENCE))
    }

    /// What comes back for one datagram `ask` (two seconds at most).
    #[track_caller]
    pub fn udp(&self, addr: &str, ask: &str) -> io::Result<String> {
        let addr = socket_addr(addr);
        self.enter(|| probe::udp(addr, ask, probe::PATIENCE))
    }

    /// Whether an address answers an echo request: two are sent, a second's patience each.
    #[track_caller]
    pub fn ping(&self, addr: &str) -> bool {
        (0..2).any(|_| self.try_ping(addr, Duration::from_secs(1)).is_ok())
    }

    /// Sends one echo request; answers the time to its reply, or why there was none.
    #[track_caller]
    pub fn try_ping(&self, addr: &str, patience: Duration) -> io::Result<Duration> {
        let addr: IpAddr = addr.parse().unwrap_or_else(|_| panic!("`{addr}` is no address"));
        self.enter(|| probe::ping(addr, patience))
    }

    /// An interface of this place, to send and hear whole frames on.
    #[track_caller]
    pub fn wire(&self, link: &str) -> Wire {
        self.enter(|| Wire::open(link)).unwrap_or_else(|err| panic!("`{link}` of `{}`: {err}", self.name))
    }

    /// Asks many questions at once: what came back for each, `None` if nothing did in that time.
    #[track_caller]
    pub fn sweep(&self, asks: &[Ask], patience: Duration) -> Vec<Option<String>> {
        self.enter(|| sweep(asks, patience)).unwrap_or_else(|err| panic!("a sweep from `{}`: {err}", self.name))
    }

    /// A command that will run in this namespace.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Command {
        let (program, args) = words.split_first().expect("a command has a first word");
        let mut command = Command::new(program);
        command.args(args);
        self.ns.isolate(&mut command).unwrap_or_else(|err| panic!("entering `{}`: {err}", self.name));
        command
    }
}

#[track_caller]
fn socket_addr(addr: &str) -> SocketAddr {
    addr.parse().unwrap_or_else(|_| panic!("`{addr}` is no address and port"))
}
