//! What others made around our network: their chains that refuse what they do not know, and their routes and ports.

use crate::{bridge, name, open, up};
use kernel::Host;
use lab::Lab;
use plan::apply::Kernel;
use plan::around::{Pattern, Refusing, Tool};
use plan::firewall;
use plan::netstate::{Ns, Op};
use plan::nft::TableName;

fn pattern(pattern: &Pattern) -> String {
    format!("{}{}{}", if pattern.not { "!" } else { "" }, pattern.name, if pattern.prefix { "*" } else { "" })
}

fn shown(chain: &Refusing) -> String {
    let list = |patterns: &[Pattern]| patterns.iter().map(pattern).collect::<Vec<_>>().join(" ");
    let legacy = if chain.tool == Tool::Legacy { "legacy " } else { "" };
    let Refusing { family, table, chain, lets_in, lets_out, .. } = chain;
    format!("{legacy}{family} {table} {chain}, in [{}], out [{}]", list(lets_in), list(lets_out))
}

fn seen(host: &mut Host) -> Vec<String> {
    host.around().unwrap().refusing.iter().map(shown).collect()
}

/// Each line a command; a line without one of these is nft's.
fn run(lab: &Lab, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let known = words[0].starts_with("ip");
        lab.here().ok(&if known { words } else { vec!["nft", line] });
    }
}

#[test]
fn chains_that_refuse_are_seen_with_what_they_let_through() {
    lab::alone(|lab| {
        let mut host = open(lab);
        lab.uplink("192.0.2.1/24");
        host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table: firewall::skeleton() }).unwrap();
        assert_eq!(seen(&mut host), [""; 0], "our own table");
        let base = "add table inet t
            add chain inet t f { type filter hook forward priority 0; policy drop; }
            add chain inet t sub";
        for (lines, wanted) in [
            ("", "inet t f, in [], out []"),
            // What lets nothing through by a link's name.
            ("add rule inet t f ct state established,related accept", "inet t f, in [], out []"),
            ("add rule inet t f tcp dport 22 counter accept", "inet t f, in [], out []"),
            ("add rule inet t f iifname \"berth0\" drop", "inet t f, in [], out []"),
            ("add rule inet t f iifname \"berth0\" oifname \"berth0\" accept", "inet t f, in [], out []"),
            // What does.
            ("add rule inet t f iifname \"berth0\" counter accept", "inet t f, in [berth0], out []"),
            ("add rule inet t f iifname \"br-*\" log accept", "inet t f, in [br-*], out []"),
            ("add rule inet t f oif \"up0\" tcp dport 80 accept", "inet t f, in [], out [up0]"),
            ("add rule inet t f iifname \"berth0\" oifname != \"berth0\" accept", "inet t f, in [berth0], out []"),
            ("add rule inet t f oifname { \"a\", \"b\" } accept", "inet t f, in [], out [a b]"),
            ("add rule inet t f oifname != { \"a\", \"b\" } accept", "inet t f, in [], out []"),
            (
                "add rule inet t f ip saddr 10.0.0.0/8 jump sub
                add rule inet t sub oifname \"berth0\" accept",
                "inet t f, in [], out [berth0]",
            ),
            ("add rule inet t sub oifname \"berth0\" accept", "inet t f, in [], out []"),
            // Everything.
            ("add rule inet t f counter accept", ""),
            ("add rule inet t sub accept", "inet t f, in [], out []"),
            ("add table inet t { flags dormant; }", ""),
            ("add chain inet t f { policy accept; }", ""),
            (
                "add chain inet t f { policy accept; }
                add rule inet t f reject with icmpx admin-prohibited",
                "inet t f, in [], out []",
            ),
            (
                "add chain inet t f { policy accept; }
                add rule inet t f counter drop
                add rule inet t f accept",
                "inet t f, in [], out []",
            ),
            ("add chain inet t f { policy accept; }\nadd rule inet t f tcp dport 1 drop", ""),
        ] {
            run(lab, base);
            run(lab, lines);
            assert_eq!(seen(&mut host).join("\n"), wanted, "{lines}");
            run(lab, "delete table inet t");
        }
        run(lab, "add table ip6 s\nadd chain ip6 s f { type filter hook forward priority 9; policy drop; }");
        run(lab, "add table ip s\nadd chain ip s f { type filter hook input priority 9; policy drop; }");
        run(lab, "add table bridge s\nadd chain bridge s f { type filter hook forward priority 9; policy drop; }");
        assert_eq!(seen(&mut host), ["ip6 s f, in [], out []"]);
    })
}

#[test]
fn both_firewalls_of_iptables_are_seen() {
    lab::alone(|lab| {
        let mut host = open(lab);
        let rules = "T -P FORWARD DROP
            T -A FORWARD -m comment --comment hello -i berth0 -j ACCEPT
            T -A FORWARD -o br-+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            T -A FORWARD -i a -o b -j ACCEPT
            T -A FORWARD -s ADDR -j ACCEPT
            T -A FORWARD -p tcp -j ACCEPT
            T -N USER
            T -A FORWARD -j USER
            T -A USER ! -i up0 -j ACCEPT
            T -A FORWARD -p tcp -j REJECT";
        for (tool, addr) in [("iptables", "10.0.0.0/8"), ("ip6tables", "fd00::/8")] {
            for kind in ["nft", "legacy"] {
                let tool_of = format!("{tool}-{kind}");
                run(lab, &rules.replace("T ", &format!("{tool_of} ")).replace("ADDR", addr));
                let family = if tool == "iptables" { "ip" } else { "ip6" };
                let legacy = if kind == "legacy" { "legacy " } else { "" };
                let wanted = format!("{legacy}{family} filter FORWARD, in [berth0 !up0], out [br-*]");
                assert_eq!(seen(&mut host), [wanted], "{tool_of}");
                run(lab, &format!("{tool_of} -A FORWARD -m comment --comment all -j ACCEPT"));
                assert_eq!(seen(&mut host), [""; 0], "{tool_of}: everything may pass");
                run(lab, &format!("{tool_of} -P FORWARD ACCEPT\n{tool_of} -F FORWARD\n{tool_of} -A FORWARD -j DROP"));
                let wanted = format!("{legacy}{family} filter FORWARD, in [], out []");
                assert_eq!(seen(&mut host), [wanted], "{tool_of}: a last rule that refuses");
                run(lab, &format!("{tool_of} -F FORWARD"));
                assert_eq!(seen(&mut host), [""; 0], "{tool_of}");
            }
        }
    })
}

#[test]
fn others_routes_addresses_and_ports_are_seen_and_ours_are_not() {
    lab::alone(|lab| {
        let mut host = open(lab);
        lab.uplink("192.0.2.1/24");
        host.perform(&bridge("br0", 1500)).unwrap();
        host.perform(&up(Ns::Host, "br0", true)).unwrap();
        host.perform(&crate::addr(Ns::Host, "br0", "10.1.0.1/24")).unwrap();
        run(
            lab,
            "ip route add default via 192.0.2.9
            ip route add 10.1.0.0/25 via 192.0.2.9
            ip route add unreachable 10.9.0.0/16
            ip link add d0 type veth peer name d1
            ip link set d0 master br0
            ip link set d1 master br0
            ip addr add 10.1.0.9/32 dev up0",
        );
        let around = host.around().unwrap();
        let routes: Vec<_> = around.routes.iter().filter(|route| route.to.addr().is_ipv4()).collect();
        let routes: Vec<_> =
            routes.iter().map(|r| format!("{} {:?}", r.to, r.dev.as_ref().map(|d| d.as_str()))).collect();
        assert_eq!(routes, ["10.1.0.0/25 Some(\"up0\")", "10.9.0.0/16 None", "192.0.2.0/24 Some(\"up0\")"]);
        assert!(around.addrs.contains(&(name("up0"), "10.1.0.9/32".parse().unwrap())), "{:?}", around.addrs);
        assert!(around.addrs.iter().all(|(link, _)| *link != name("br0")));
        assert_eq!(around.ports.into_iter().collect::<Vec<_>>(), [(name("br0"), 2)]);
    })
}
