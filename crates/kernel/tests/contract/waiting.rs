use kernel::waiting::listeners;
use plan::listener::Listener;
use plan::world::Proto;
use std::net::SocketAddr;

/// Sockets that accept are seen in the namespace where they are, by both families; others are not.
#[test]
fn listening_sockets_are_seen_where_they_are() {
    lab::alone(|lab| {
        let host = lab.host("host", "192.0.2.2/24 2001:db8::2/64");
        let at = |one: &Listener| SocketAddr::new(one.addr, one.port);
        let seen = || {
            let mut seen: Vec<SocketAddr> = host.enter(|| listeners(&[Proto::Tcp]).unwrap()).iter().map(at).collect();
            seen.sort();
            seen.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(seen(), [""; 0]);
        let four = host.serve_echo("192.0.2.2:80");
        let both = host.serve_echo("[::]:81");
        let _elsewhere = lab.here().serve_echo("0.0.0.0:82");
        let (_datagrams, _flow) = (host.serve_udp("0.0.0.0:83", "no"), host.connect("192.0.2.2:80").unwrap());
        assert_eq!(seen(), ["192.0.2.2:80", "[::]:81"]);
        let all = host.enter(|| listeners(&[Proto::Tcp]).unwrap());
        let takes = |to: &str| all.iter().any(|one| one.hears(Proto::Tcp, to.parse().unwrap(), false));
        assert!(takes("192.0.2.2:80") && takes("192.0.2.2:81") && takes("[2001:db8::2]:81"));
        assert!(!takes("[2001:db8::2]:80") && !takes("192.0.2.2:82") && !takes("192.0.2.2:83"));
        drop((four, both));
        lab::wait_for("the end of them", std::time::Duration::from_secs(5), || seen().is_empty().then_some(()));
    })
}
