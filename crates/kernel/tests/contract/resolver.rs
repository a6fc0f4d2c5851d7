use crate::{Both, id, inside, open, same, up};
use kernel::{Door, Listeners};
use plan::apply::Kernel;
use plan::ids::SandboxId;
use plan::netstate::{NetState, Op, Resolver};
use plan::stub;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

fn listen(on: bool) -> Op {
    Op::SetResolver { id: id('a'), on }
}

/// A host with the sandbox `a`, whose loopback is up, and what it tells the resolver.
fn ready(lab: &lab::Lab) -> (Both, Receiver<Door>) {
    let mut both = Both::new(lab);
    let (to, doors) = channel();
    both.real.hand_listeners_to(move |door| to.send(door).unwrap());
    both.ok(Op::AddSpace(id('a')));
    both.ok(up(inside('a'), "lo", true));
    (both, doors)
}

fn opened(doors: &Receiver<Door>) -> (SandboxId, Listeners) {
    match doors.try_recv() {
        Ok(Door::Opened(id, listeners)) => (id, listeners),
        other => panic!("nothing was opened: {other:?}"),
    }
}

fn resolver(state: &NetState) -> Resolver {
    state.spaces[&inside('a')].resolver
}

#[test]
fn it_comes_goes_and_is_mended() {
    lab::alone(|lab| {
        let (mut both, doors) = ready(lab);
        both.ok(listen(true));
        let (of, first) = opened(&doors);
        assert_eq!(of, id('a'));
        // Once more: nothing is opened a second time.
        both.ok(listen(true));
        assert!(doors.try_recv().is_err());
        let sandbox = lab.inside_path(&both.real.pin(&id('a')));
        for damage in [
            &["nft", "flush", "ruleset"][..],
            &["nft", "add", "rule", "inet", "berth", "output", "drop"],
            &["nft", "delete", "table", "inet", "berth"],
        ] {
            sandbox.ok(damage);
            assert_eq!(resolver(&both.real.observe().unwrap()), Resolver::Broken, "{damage:?}");
            both.ok(listen(true));
        }
        // Other hands: the table is there, and the sockets went with the first ones.
        drop(first);
        both.real = open(lab);
        assert_eq!(resolver(&both.real.observe().unwrap()), Resolver::Broken);
        both.ok(listen(true));
        both.ok(listen(false));
        assert_eq!(sandbox.ok(&["nft", "list", "ruleset"]), "");
        assert_eq!(sandbox.ok(&["ss", "-Hlntu"]), "");
        both.ok(listen(false));
        assert!(both.refused(Op::SetResolver { id: id('b'), on: true }).starts_with("no such sandbox"));
        both.ok(listen(true));
        both.ok(Op::DelSpace(id('a')));
    })
}

#[test]
fn a_sandbox_that_goes_closes_its_door_first() {
    lab::alone(|lab| {
        let (mut both, doors) = ready(lab);
        both.ok(listen(true));
        let (_, listeners) = opened(&doors);
        both.ok(Op::DelSpace(id('a')));
        assert!(matches!(doors.try_recv(), Ok(Door::Closed(of)) if of == id('a')));
        drop(listeners);
        // Whoever holds the port keeps the sandbox from having a resolver, and hears why.
        both.ok(Op::AddSpace(id('a')));
        both.ok(up(inside('a'), "lo", true));
        let sandbox = lab.inside_path(&both.real.pin(&id('a')));
        let thief = sandbox.enter(|| UdpSocket::bind(("0.0.0.0", stub::PORT)).unwrap());
        let refusal = both.real.perform(&listen(true)).unwrap_err().to_string();
        assert!(refusal.contains("Address already in use"), "{refusal}");
        same(&both.real.observe().unwrap(), both.fake.state(), "a refusal");
        drop(thief);
        both.ok(listen(true));
    })
}

/// What `who` says of itself when asked at this address over each protocol.
fn ask(sandbox: &lab::Host, addr: &str) -> [String; 2] {
    let addr: SocketAddr = addr.parse().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    sandbox.enter(|| {
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        udp.connect(addr).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        // Long enough to matter for checksums.
        udp.send(&[7; 3001]).unwrap();
        let mut buffer = [0; 64];
        let count = udp.recv(&mut buffer).unwrap();
        let mut tcp = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        tcp.write_all(b"?").unwrap();
        let mut said = Vec::new();
        tcp.read_to_end(&mut said).unwrap();
        [text(&buffer[..count]), text(&said)]
    })
}

/// Answers two questions, one of each protocol.
fn answer(udp: UdpSocket, tcp: TcpListener, who: &'static str) -> std::thread::JoinHandle<()> {
    udp.set_nonblocking(false).unwrap();
    tcp.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let (count, from) = udp.recv_from(&mut [0; 4000]).unwrap();
        udp.send_to(format!("{who} {count}").as_bytes(), from).unwrap();
        let mut stream = tcp.accept().unwrap().0;
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(who.as_bytes()).unwrap();
    })
}

#[test]
fn port_53_is_the_resolvers_at_one_address_and_the_containers_at_all_others() {
    lab::alone(|lab| {
        let (mut both, doors) = ready(lab);
        both.ok(listen(true));
        let (_, listeners) = opened(&doors);
        let sandbox = lab.inside_path(&both.real.pin(&id('a')));
        let own = sandbox.enter(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
        let threads = [answer(listeners.udp, listeners.tcp, "resolver"), answer(own.0, own.1, "container")];
        assert_eq!(ask(&sandbox, "127.0.0.11:53"), ["resolver 3001", "resolver"]);
        assert_eq!(ask(&sandbox, "127.0.0.1:53"), ["container 3001", "container"]);
        for thread in threads {
            thread.join().unwrap();
        }
        // Nothing of it is tracked.
        let hooks = sandbox.ok(&["nft", "list", "ruleset"]);
        assert!(!hooks.contains("ct "), "{hooks}");
        assert_eq!(sandbox.ok(&["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).trim(), "0");
    })
}

#[test]
fn nft_reads_the_table_as_it_is() {
    lab::alone(|lab| {
        let (mut both, _doors) = ready(lab);
        both.ok(listen(true));
        let file = lab.dir().join("table.nft");
        std::fs::write(&file, format!("flush ruleset\n{}", plan::text::table(&stub::name(), &stub::table()))).unwrap();
        lab.inside_path(&both.real.pin(&id('a'))).ok(&["nft", "-f", file.to_str().unwrap()]);
        assert_eq!(resolver(&both.real.observe().unwrap()), Resolver::Ready);
    })
}
