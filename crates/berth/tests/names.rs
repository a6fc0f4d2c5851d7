//! Names: what containers find in their files and what the resolver answers them; through `berth` and `docker`.

use lab::dns::NameServer;
use lab::{Engine, Host, Lab};

/// The engine's host has one name server, outside, with this table.
fn world(lab: &Lab, flags: &[&str], table: &str) -> (Engine, NameServer) {
    lab.uplink("192.0.2.1/24 2001:db8::1/64");
    let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24 2001:db8::53/64");
    outside.route("172.16.0.0/12 via 192.0.2.1");
    let server = outside.serve_dns("192.0.2.53:53", table);
    lab.resolv_conf("nameserver 192.0.2.53\n");
    let engine = lab.engine(flags);
    engine.load_busybox();
    (engine, server)
}

#[test]
fn smoke() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, &[], "docker.com A 192.0.2.80");
        eprintln!(
            "{}",
            engine.ok(&["run", "--rm", "--hostname", "barker", "busybox", "cat", "/etc/resolv.conf", "/etc/hosts"])
        );
        let out = engine.berth(&["run", "--rm", "--hostname", "barker", "busybox", "nslookup", "barker"]);
        eprintln!("{out:?}");
        let out = engine.berth(&["run", "--rm", "--add-host", "test:10.10.10.255", "busybox", "nslookup", "test"]);
        eprintln!("{out:?}");
        let out = engine.berth(&["run", "--rm", "busybox", "nslookup", "docker.com"]);
        eprintln!("{out:?}");
        eprintln!("{:?}\n{}", server.asked(), engine.log());
    })
}
