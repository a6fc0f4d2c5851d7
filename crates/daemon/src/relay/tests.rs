//! Published ports of this machine's 127.0.0.1 that lead to a "container" at 127.0.0.9, without a firewall.

use super::*;
use plan::ids::Mac;
use plan::world::{Endpoint, PortBinding};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const PATIENCE: Duration = Duration::from_secs(10);

/// A relay that serves one published port on every address, and the port.
struct Rig {
    runtime: tokio::runtime::Runtime,
    relay: Relay,
    world: Arc<RwLock<World>>,
    at: SocketAddr,
    listening: Option<Listening>,
}

impl Rig {
    fn new(proto: Proto, inner: u16) -> Rig {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket: OwnedFd = match proto {
            Proto::Tcp => TcpListener::bind("127.0.0.1:0").unwrap().into(),
            _ => UdpSocket::bind("0.0.0.0:0").unwrap().into(),
        };
        let bound: SocketAddr = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port()));
        let world = Arc::new(RwLock::new(World::default()));
        let relay = {
            let _entered = runtime.enter();
            Relay::new(world.clone())
        };
        let listening = Some(relay.listen(proto, socket).unwrap());
        let rig = Rig { runtime, relay, world, at, listening };
        rig.publish(proto, Some(inner));
        rig
    }

    /// From now on the port leads to this one inside, or to none.
    fn publish(&self, proto: Proto, inner: Option<u16>) {
        let digits = |digit: &str| digit.repeat(64);
        let host_ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let port = |inner_port| PortBinding { proto, host_ip, host_port: self.at.port(), inner_port, count: 1 };
        let endpoint = Endpoint {
            id: digits("a").parse().unwrap(),
            network: digits("b").parse().unwrap(),
            sandbox: digits("c").parse().unwrap(),
            container_name: "web".into(),
            inner: "eth0".parse().unwrap(),
            host: "vetha".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addr4: Some(INSIDE),
            addr6: None,
            gateway: true,
            gateway4: false,
            gateway6: false,
            priority: 0,
            names: Vec::new(),
            opened: Default::default(),
            link_local: Default::default(),
            sysctls: Default::default(),
            ports: inner.map(port).into_iter().collect(),
        };
        self.world.write().unwrap().endpoints.insert(endpoint.id.clone(), endpoint);
        self.relay.ports_went();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(self.at).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }
}

fn container_tcp() -> (TcpListener, u16) {
    let inside = TcpListener::bind((INSIDE, 0)).unwrap();
    let port = inside.local_addr().unwrap().port();
    (inside, port)
}

fn container_udp() -> (UdpSocket, u16) {
    let inside = UdpSocket::bind((INSIDE, 0)).unwrap();
    inside.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = inside.local_addr().unwrap().port();
    (inside, port)
}

#[test]
fn each_direction_ends_by_itself() {
    let (inside, port) = container_tcp();
    let rig = Rig::new(Proto::Tcp, port);
    let mut client = rig.connect();
    let (mut server, _) = inside.accept().unwrap();
    // More than all buffers hold, towards an end that does not read yet.
    let sent: Vec<u8> = (0..16_000_000u32).map(|n| n as u8).collect();
    let mut from = client.try_clone().unwrap();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            from.write_all(&sent).unwrap();
            from.shutdown(std::net::Shutdown::Write).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    writer.join().unwrap();
    server.write_all(b"after the end of the question").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "after the end of the question");
}

#[test]
fn who_is_not_there_is_not_answered_for() {
    let (inside, port) = container_tcp();
    drop(inside);
    let rig = Rig::new(Proto::Tcp, port);
    let refused = rig.connect().read(&mut [0]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
    rig.publish(Proto::Tcp, None);
    let refused = rig.connect().read(&mut [0]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_is_passed_on_and_others_live() {
    let (inside, port) = container_tcp();
    let rig = Rig::new(Proto::Tcp, port);
    let (mut one, mut two) = (rig.connect(), rig.connect());
    let (first, second) = (inside.accept().unwrap().0, inside.accept().unwrap().0);
    // They may have been accepted in any order.
    one.write_all(b"1").unwrap();
    let mut servers = [first, second];
    for server in &mut servers {
        server.set_nonblocking(false).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    let with_one = servers.iter_mut().position(|server| server.read(&mut [0]).is_ok()).unwrap();
    servers[1 - with_one].set_read_timeout(Some(PATIENCE)).unwrap();
    servers[with_one].set_read_timeout(Some(PATIENCE)).unwrap();
    sockopt::set_socket_linger(&one, Some(Duration::ZERO)).unwrap();
    drop(one);
    let broken = servers[with_one].read(&mut [0]).unwrap_err();
    assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
    two.write_all(b"2").unwrap();
    assert_eq!(servers[1 - with_one].read(&mut [0]).unwrap(), 1);
    sockopt::set_socket_linger(&servers[1 - with_one], Some(Duration::ZERO)).unwrap();
    drop(servers);
    assert_eq!(two.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_port_that_goes_cuts_its_connections() {
    let (inside, port) = container_tcp();
    let mut rig = Rig::new(Proto::Tcp, port);
    let mut client = rig.connect();
    let (mut server, _) = inside.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    // Something else changed.
    rig.relay.ports_went();
    client.write_all(b"?").unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 1);
    rig.publish(Proto::Tcp, None);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    // The socket goes with its guard, as soon as its task is dropped.
    drop(rig.listening.take());
    let closed = || TcpStream::connect(rig.at).is_err();
    assert!((0..100).any(|_| closed() || {
        std::thread::sleep(Duration::from_millis(20));
        false
    }));
}

#[test]
fn datagrams_go_there_and_back_by_sessions() {
    let (inside, port) = container_udp();
    let mut rig = Rig::new(Proto::Udp, port);
    let (one, two) = (rig.client(), rig.client());
    let mut buffer = [0; 16];
    let mut ask = |client: &UdpSocket, text: &str| {
        client.send(text.as_bytes()).unwrap();
        let (count, from) = inside.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], text.as_bytes());
        inside.send_to(text.to_uppercase().as_bytes(), from).unwrap();
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], text.to_uppercase().as_bytes());
        from
    };
    let first = ask(&one, "one");
    let second = ask(&two, "two");
    assert_ne!(first, second, "two clients are two sessions");
    assert_eq!(ask(&one, "again"), first);
    // An address of the host's other than the first answers as itself.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.connect((Ipv4Addr::new(127, 0, 0, 7), rig.at.port())).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(&other, "other");
    // It leads elsewhere, and then nowhere.
    let (elsewhere, new_port) = container_udp();
    rig.publish(Proto::Udp, Some(new_port));
    let mut got = [0; 16];
    let arrives = (0..100).any(|_| {
        one.send(b"new").unwrap();
        elsewhere.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        elsewhere.recv(&mut got).is_ok()
    });
    assert!(arrives);
    rig.publish(Proto::Udp, None);
    std::thread::sleep(Duration::from_millis(100));
    while elsewhere.recv(&mut got).is_ok() {}
    one.send(b"nobody").unwrap();
    assert!(elsewhere.recv(&mut got).is_err());
    drop(rig.listening.take());
}

#[test]
fn what_is_not_relayed_says_so() {
    let rig = Rig::new(Proto::Udp, 9);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = rig.relay.listen(Proto::Sctp, socket.into()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    drop(rig.runtime);
}
