//! The variables by which a container finds what it is linked to: Docker's, for programs of images read them.

use crate::world::Proto;
use std::net::IpAddr;

/// How much of a target its sources are told (`--link-env` of the engine).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Name, ports, and every variable that the target was given, its secrets among them; as Docker did.
    #[default]
    Full,
    /// Name and ports.
    Ports,
    /// Nothing.
    Off,
}

/// The target of a link, as its source sees it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its address.
    pub addr: IpAddr,
    /// What it exposes.
    pub ports: &'a [(Proto, u16)],
    /// `NAME=value`, as it was given them.
    pub env: &'a [String],
}

/// The variables of one link: `NAME=value`. `source` is the name of the container that gets them.
pub fn variables(source: &str, alias: &str, target: &Target, told: Told) -> Vec<String> {
    if told == Told::Off {
        return Vec::new();
    }
    let prefix = alias.to_uppercase().replace('-', "_");
    let host = match target.addr {
        IpAddr::V4(addr) => addr.to_string(),
        IpAddr::V6(addr) => format!("[{addr}]"),
    };
    let url = |proto: Proto, port: u16| format!("{}://{host}:{port}", proto.name());
    let of_port = |proto: Proto, port: u16| format!("{prefix}_PORT_{port}_{}", proto.name().to_uppercase());
    let mut ports = target.ports.to_vec();
    // TCP before others, so that the first is the one that most programs mean.
    ports.sort_unstable_by_key(|(proto, port)| (*proto != Proto::Tcp, *port, *proto));
    let mut all = Vec::new();
    if let Some((proto, port)) = ports.first() {
        all.push(format!("{prefix}_PORT={}", url(*proto, *port)));
    }
    for (proto, first, last) in runs(&ports) {
        let name = of_port(proto, first);
        all.push(format!("{name}_START={}", url(proto, first)));
        all.push(format!("{name}_PORT_START={first}"));
        all.push(format!("{name}_END={}", url(proto, last)));
        all.push(format!("{name}_PORT_END={last}"));
    }
    for (proto, port) in ports {
        let name = of_port(proto, port);
        all.push(format!("{name}={}", url(proto, port)));
        all.push(format!("{name}_ADDR={}", target.addr));
        all.push(format!("{name}_PORT={port}"));
        all.push(format!("{name}_PROTO={}", proto.name()));
    }
    all.push(format!("{prefix}_NAME=/{source}/{alias}"));
    if told == Told::Full {
        let given = target.env.iter().filter_map(|variable| variable.split_once('='));
        let given = given.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
        all.extend(given.map(|(name, value)| format!("{prefix}_ENV_{name}={value}")));
    }
    all
}

/// Protocol, first and last of each run of at least two consecutive ports.
fn runs(ports: &[(Proto, u16)]) -> Vec<(Proto, u16, u16)> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let follow = |a: &(Proto, u16), b: &(Proto, u16)| a.0 == b.0 && a.1.checked_add(1) == Some(b.1);
    let ends = |run: &[(Proto, u16)]| Some((run.first()?.0, run.first()?.1, run.last()?.1));
    sorted.chunk_by(follow).filter(|run| run.len() > 1).filter_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Proto::{Tcp, Udp};

    fn shown(alias: &str, ports: &[(Proto, u16)], env: &[&str], told: Told) -> String {
        let env: Vec<String> = env.iter().map(|text| (*text).to_owned()).collect();
        let target = Target { addr: [192, 168, 0, 3].into(), ports, env: &env };
        let mut all = variables("reverent_snyder", alias, &target, told);
        all.sort();
        all.join("\n")
    }

    #[test]
    fn the_golden_block() {
        assert_eq!(
            shown("database", &[(Udp, 4444), (Tcp, 3333), (Tcp, 2222)], &[], Told::Full),
            "DATABASE_NAME=/reverent_snyder/database\n\
             DATABASE_PORT=tcp://192.168.0.3:2222\n\
             DATABASE_PORT_2222_TCP=tcp://192.168.0.3:2222\n\
             DATABASE_PORT_2222_TCP_ADDR=192.168.0.3\n\
             DATABASE_PORT_2222_TCP_PORT=2222\n\
             DATABASE_PORT_2222_TCP_PROTO=tcp\n\
             DATABASE_PORT_3333_TCP=tcp://192.168.0.3:3333\n\
             DATABASE_PORT_3333_TCP_ADDR=192.168.0.3\n\
             DATABASE_PORT_3333_TCP_PORT=3333\n\
             DATABASE_PORT_3333_TCP_PROTO=tcp\n\
             DATABASE_PORT_4444_UDP=udp://192.168.0.3:4444\n\
             DATABASE_PORT_4444_UDP_ADDR=192.168.0.3\n\
             DATABASE_PORT_4444_UDP_PORT=4444\n\
             DATABASE_PORT_4444_UDP_PROTO=udp"
        );
    }

    #[test]
    fn aliases_become_prefixes() {
        assert_eq!(shown("my-data.base", &[], &[], Told::Full), "MY_DATA.BASE_NAME=/reverent_snyder/my-data.base");
        // Without a port only the name is there.
        assert_eq!(shown("db", &[], &["A=1"], Told::Ports), "DB_NAME=/reverent_snyder/db");
        assert_eq!(shown("db", &[(Tcp, 80)], &["A=1"], Told::Off), "");
    }

    #[test]
    fn the_first_port_is_the_lowest_of_tcp() {
        let first = |ports: &[(Proto, u16)]| {
            let text = shown("db", ports, &[], Told::Ports);
            text.lines().find_map(|line| line.strip_prefix("DB_PORT=").map(str::to_owned)).unwrap()
        };
        assert_eq!(first(&[(Udp, 1), (Tcp, 53), (Tcp, 9)]), "tcp://192.168.0.3:9");
        assert_eq!(first(&[(Udp, 53)]), "udp://192.168.0.3:53");
    }

    #[test]
    fn consecutive_ports_are_a_run_of_one_protocol() {
        let text = shown("redis", &[(Tcp, 6380), (Udp, 6382), (Tcp, 6379), (Tcp, 6381), (Udp, 9)], &[], Told::Ports);
        let runs: Vec<&str> = text.lines().filter(|line| line.contains("_START") || line.contains("_END")).collect();
        assert_eq!(
            runs,
            [
                "REDIS_PORT_6379_TCP_END=tcp://192.168.0.3:6381",
                "REDIS_PORT_6379_TCP_PORT_END=6381",
                "REDIS_PORT_6379_TCP_PORT_START=6379",
                "REDIS_PORT_6379_TCP_START=tcp://192.168.0.3:6379",
            ]
        );
    }

    #[test]
    fn what_the_target_was_given_but_its_places() {
        let env = ["HOME=/root", "PATH=/bin", "MYSQL_ROOT_PASSWORD=a=b", "EMPTY=", "BARE"];
        assert_eq!(
            shown("db", &[], &env, Told::Full),
            "DB_ENV_EMPTY=\nDB_ENV_MYSQL_ROOT_PASSWORD=a=b\nDB_NAME=/reverent_snyder/db"
        );
    }

    #[test]
    fn ipv6_stands_in_brackets_where_a_port_follows() {
        let target = Target { addr: "fd00::2".parse().unwrap(), ports: &[(Tcp, 80)], env: &[] };
        let all = variables("a", "b", &target, Told::Full);
        assert!(all.contains(&"B_PORT=tcp://[fd00::2]:80".to_owned()), "{all:?}");
        assert!(all.contains(&"B_PORT_80_TCP_ADDR=fd00::2".to_owned()), "{all:?}");
    }
}
