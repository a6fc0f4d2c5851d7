//! The pages in `docs/rules`: each is written by a scenario here under `UPDATE=1`, and compared otherwise.

use crate::scenario::world;
use plan::nft::{Table, TableName};
use plan::text;
use plan::{firewall, guard, stub};
use std::path::Path;

fn doc(file: &str, title: &str, prose: &str, scenario: &str, sets: &[&str], chains: &[&str]) {
    doc_of((&TableName::inet(), firewall::table(&world(scenario))), file, title, prose, scenario, sets, chains);
}

fn doc_of(
    (name, table): (&TableName, Table),
    file: &str,
    title: &str,
    prose: &str,
    scenario: &str,
    sets: &[&str],
    chains: &[&str],
) {
    let mut page = format!("# {title}\n\n{prose}\n\n```text\n{scenario}\n```\n");
    if sets.is_empty() && chains.is_empty() {
        page.push_str(&format!("\n```text\n{}```\n", text::table(name, &table)));
    } else {
        page.push_str("\nThe elements:\n");
        for set in sets {
            page.push_str(&format!("\n```text\n{}```\n", text::set(set, &table.sets[*set])));
        }
        page.push_str("\nThe rules that look at them (they are always there):\n");
        for chain in chains {
            page.push_str(&format!("\n```text\n{}```\n", text::chain(chain, &table.chains[*chain])));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/rules/{file} is not what the rules are: run this test with UPDATE=1\n{page}");
}

const APP: &str = "net app 10.1.0.0/24 fd01::/64 bridge app0";

#[test]
fn base() {
    doc(
        "base.md",
        "The base rules",
        "This is the whole table with one network and no container. More networks, containers and ports add elements to\n\
         its sets and maps, and never a rule. Every policy is accept: what does not concern a bridge of berth's passes\n\
         untouched, and a drop of somebody else's table still drops.\n\n\
         - `early` drops packets from outside that claim to be meant for 127.0.0.1, before they could be translated to a\n  \
           port that is published there, and those that claim to come from there or from a container.\n\
         - `prerouting` and `output` send packets that are meant for the host itself to `published`, where the maps turn\n  \
           a published port into a container's address and port.\n\
         - `opening` sees the first packet of a TCP connection and the answer to it, and asks both ends for segments that\n  \
           fit the narrower of the ways to them: where ICMP is blocked, nobody would tell them.\n\
         - `relayed` sends what the kernel cannot forward to the engine's own port, and lets nobody else in there: IPv6 to a\n  \
           container that has only IPv4, and ::1.\n\
         - `forward` lets answers through, lets containers of one network talk, cuts internal networks off, and lets\n  \
           nothing else reach a container but what came by a published port.\n\
         - `direct` is for who has a route to containers' own addresses ([own-addresses.md](own-addresses.md)).\n\
         - `input` keeps isolated networks from the host.\n\
         - `postrouting` gives what leaves the host's address, and sends answers between containers of one network by way\n  \
           of the host where they used a published port.",
        APP,
        &[],
        &[],
    );
}

#[test]
fn bridged_container() {
    doc(
        "bridged-container.md",
        "A bridged container",
        "A container adds no element as long as it publishes no port: it is protected by its network's. It reaches other\n\
         places with the host's address, and containers of the same network directly; nobody outside reaches it.",
        &format!("{APP}; run web on app"),
        &["bridges", "siblings", "hairpin4", "hairpin6", "masquerade4", "masquerade6", "published4"],
        &["forward", "postrouting"],
    );
}

#[test]
fn published_port() {
    doc(
        "published-port.md",
        "Published ports",
        "A published port is one element of a map. A range whose numbers are the same inside is one element too; one\n\
         whose numbers differ is an element for each port, for a map's answer cannot count along.",
        &format!(
            "{APP}; run web on app publish 8080:80; run dns on app publish 127.0.0.1:5353:53/udp; run media on app publish 20000-20999:20000-20999/udp publish 9000-9002:80-82"
        ),
        &["published4", "published6", "published_at4", "ranges4", "ranges6"],
        &["prerouting", "output", "published", "forward"],
    );
}

#[test]
fn relayed_port() {
    doc(
        "relayed-port.md",
        "Published ports that the engine relays",
        "Between IPv6 and a container that has only IPv4 the kernel translates nothing, and what is for ::1 never leaves the\n\
         host. Such ports are elements of maps too, a range is one; their answer is the one port on which the engine listens.\n\
         The address stays, and connection tracking remembers the port.",
        "relay 61000; net app 10.1.0.0/24 bridge app0; net six 10.2.0.0/24 fd02::/64 bridge six0; run web on app publish 8080:80 publish [2001:db8::1]:8443:443; run media on app publish 20000-20999:20000-20999/udp; run both on six publish 9090:90",
        &["relay", "relayed6", "relayed_at6", "relayed_ranges6", "published6"],
        &["published", "relayed"],
    );
}

#[test]
fn internal_network() {
    doc(
        "internal-network.md",
        "An internal network",
        "Containers of an internal network reach each other and the host's own address on their bridge. Nothing of them\n\
         leaves, nothing comes in, and they publish no ports.",
        "net vault 10.2.0.0/24 bridge vault0 internal; run db on vault publish 5432:5432",
        &["bridges", "internal", "siblings", "masquerade4", "published4"],
        &["forward"],
    );
}

#[test]
fn by_containers_own_addresses() {
    doc(
        "own-addresses.md",
        "By containers' own addresses",
        "Whoever has a route to containers' own addresses comes as far as the mode of their network lets him, by families:\n\
         not at all (`nat`, as everywhere else in these pages), to all ports (`nat-unprotected`), or to those that are\n\
         published (`routed`, where packets leave as they are, too). From interfaces that a network trusts all ports are\n\
         reached. An `isolated` network is internal, its bridge has no address, and the host does not answer for its\n\
         others there. A network may also leave with an address that it was told.",
        "net plain 10.1.0.0/24 fd01::/64 bridge plain0 mode4 unprotected source 192.0.2.9; net wide 10.2.0.0/24 fd02::/64 bridge wide0 mode4 routed mode6 routed trusted eth1; net cell 10.3.0.0/24 bridge cell0 internal mode4 isolated; run web on wide publish 8080:80 publish 9000-9009:9000-9009/udp",
        &[
            "source4",
            "masquerade4",
            "masquerade6",
            "unprotected4",
            "routed4",
            "routed6",
            "opened4",
            "opened6",
            "trusted",
            "isolated4",
            "published4",
        ],
        &["forward", "direct", "input", "postrouting"],
    );
}

#[test]
fn apart() {
    doc(
        "apart.md",
        "A network whose containers do not reach each other",
        "With `--icc=false` the ports of the bridge are isolated, so that it passes no frame from one to another; and the\n\
         network is among `apart`, so that what would be routed between its containers meets the chain `links`, which lets\n\
         only pass what a link opens.",
        "net app 10.1.0.0/24 bridge app0 apart; run web on app; run two on app",
        &["bridges", "siblings", "apart"],
        &["forward", "links"],
    );
}

#[test]
fn link() {
    doc(
        "link.md",
        "A link on a network whose containers do not reach each other",
        "Each port that the target exposes is one element, which names both ends: it comes when the second of them comes,\n\
         follows when one gets another address, and goes when one goes. The two containers have routes to each other by way\n\
         of the host, for their bridge passes nothing between them. Answers need the same element, so that the target cannot\n\
         begin anything, from whatever port; and a link that is taken away ends what is under way.",
        &format!("{APP} apart; run db on app; run web on app; tie web db app 3306 53/udp"),
        &["apart", "links4", "links6"],
        &["forward", "links", "redirects"],
    );
}

#[test]
fn guard_of_the_bridges() {
    let scenario = format!("{APP}; run web on app");
    doc_of(
        (&TableName::bridge(), guard::table(&world(&scenario))),
        "guard.md",
        "Nobody sends as somebody else",
        "The second table looks at frames. `prerouting` sees each frame that a container sends before the bridge learns from\n\
         it; `guard` and the chain of its protocol let it pass if it names as its sender what the sets hold for its port.\n\
         What is none of the three protocols is dropped: nobody could say whose it is. So are frames with a VLAN tag, for a\n\
         receiver takes off one with the number 0, or two, and finds a packet in it that was not looked at.",
        &scenario,
        &[],
        &[],
    );
}

#[test]
fn resolver() {
    doc_of(
        (&stub::name(), stub::table()),
        "resolver.md",
        "The resolver in a sandbox",
        "This is the whole firewall of a container's own namespace, the same in each that is on a network. Containers ask\n\
         127.0.0.11, port 53; the engine's sockets listen there on another port, so that port 53 of every other address, and\n\
         of 0.0.0.0, stays the container's. The rules change one number in passing packets, and track no connection.",
        &format!("{APP}; run web on app"),
        &[],
        &[],
    );
}
