//! The texts by which a container finds names: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.
//!
//! Values in, texts out; the layouts are Docker's (Engine 29), for scripts read these files.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A container's own `/etc/hosts`.
#[derive(Clone, Copy, Debug)]
pub struct Hosts<'a> {
    /// The container has IPv6 at all.
    pub ipv6: bool,
    /// `--add-host`, in order, repetitions kept.
    pub extra: &'a [(String, IpAddr)],
    /// The targets of legacy links.
    pub links: &'a [Link],
    /// Its own addresses: in the order in which its networks were joined, IPv4 before IPv6. None: no line of its own.
    pub own: &'a [IpAddr],
    /// Its hostname.
    pub hostname: &'a str,
    /// Its domain; empty is none.
    pub domainname: &'a str,
}

/// The target of a legacy link, as its source sees it.
#[derive(Clone, Debug)]
pub struct Link {
    /// The target's address.
    pub addr: IpAddr,
    /// What the source calls it.
    pub alias: String,
    /// The target's hostname.
    pub hostname: String,
    /// The target's name.
    pub name: String,
}

const EVERYBODYS: [(&str, &str); 6] = [
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
];

/// The text of `/etc/hosts`.
pub fn hosts(hosts: &Hosts) -> String {
    let mut text = String::new();
    for (addr, names) in EVERYBODYS.iter().filter(|(addr, _)| hosts.ipv6 || !addr.contains(':')) {
        line(&mut text, addr, names);
    }
    for (name, addr) in hosts.extra {
        line(&mut text, addr, name);
    }
    for link in hosts.links {
        line(&mut text, link.addr, link_names(&link.alias, &link.hostname, &link.name));
    }
    let own = own_names(hosts.hostname, hosts.domainname);
    for addr in hosts.own {
        line(&mut text, addr, &own);
    }
    text
}

/// What stands behind the address in a link's line. No line of `--add-host` looks like this: that has one name only.
pub fn link_names(alias: &str, hostname: &str, name: &str) -> String {
    if alias == name { format!("{alias} {hostname}") } else { format!("{alias} {hostname} {name}") }
}

fn own_names(hostname: &str, domainname: &str) -> String {
    match domainname {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    }
}

/// A `hosts` file with other lines for links, after their targets have come, gone, or changed their addresses. All else in
/// it stays as it is, for its container may have written there.
///
/// `known` is what stands behind the addresses in lines of links, as [`link_names`] says it: of all links that there are, and
/// of those that there were.
pub fn relinked(text: &str, known: &[String], links: &[Link], hostname: &str, domainname: &str) -> String {
    let mut new = String::new();
    for link in links {
        line(&mut new, link.addr, link_names(&link.alias, &link.hostname, &link.name));
    }
    let own = own_names(hostname, domainname);
    let mut result = String::new();
    let mut put = false;
    for old in text.split_inclusive('\n') {
        let names = old.trim_end_matches('\n').split_once('\t').map(|(_, names)| names);
        let is_links = names.is_some_and(|names| known.iter().any(|known| known == names));
        // In the place of the old ones; where there are none now, before the container's own lines.
        if !put && (is_links || names == Some(own.as_str())) {
            result.push_str(&new);
            put = true;
        }
        if !is_links {
            result.push_str(old);
        }
    }
    if !put {
        if !result.is_empty() && !result.ends_with('\n') {
            result.push('\n');
        }
        result.push_str(&new);
    }
    result
}

/// A `hosts` file after its container has come to a network, or has left one. All else in it stays as it is.
pub fn moved(text: &str, came: &[IpAddr], gone: &[IpAddr], hostname: &str, domainname: &str) -> String {
    let own = own_names(hostname, domainname);
    let of = |addr: &IpAddr| {
        let mut text = String::new();
        line(&mut text, addr, &own);
        text
    };
    let (came, gone): (Vec<String>, Vec<String>) = (came.iter().map(of).collect(), gone.iter().map(of).collect());
    let mut result: String = text.split_inclusive('\n').filter(|line| !gone.iter().any(|gone| gone == line)).collect();
    if !result.is_empty() && !result.ends_with('\n') {
        result.push('\n');
    }
    for line in came.iter().filter(|line| !result.lines().any(|old| old == line.trim_end())).collect::<Vec<_>>() {
        result.push_str(line);
    }
    result
}

/// `/etc/hosts` of an open container: the host's, and what was added.
pub fn hosts_of_open(host_file: &str, extra: &[(String, IpAddr)]) -> String {
    let mut text = host_file.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, addr) in extra {
        line(&mut text, addr, name);
    }
    text
}

fn line(text: &mut String, addr: impl fmt::Display, names: impl fmt::Display) {
    text.push_str(&format!("{addr}\t{names}\n"));
}

/// A hostname that breaks the kernel's or the DNS's rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid hostname format: {value:?}: {rule}")]
pub struct BadHostname {
    /// What was offered.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// Whether this can be a hostname: at most 64 bytes (`HOST_NAME_MAX`), labels of 1 to 63 letters, digits, `-` and `_`, none
/// at whose ends is a `-`.
///
/// # Errors
/// [`BadHostname`] with the rule that it breaks.
pub fn check_hostname(name: &str) -> Result<(), BadHostname> {
    let bad = |rule| Err(BadHostname { value: name.to_owned(), rule });
    if name.is_empty() || name.len() > 64 {
        return bad("1 to 64 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return bad("labels between the dots have 1 to 63 bytes");
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return bad("only letters, digits, `-`, `_` and `.`");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return bad("no label begins or ends with `-`");
        }
    }
    Ok(())
}

/// A name server as written in `resolv.conf`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its address.
    pub addr: IpAddr,
    /// The link of a link-local address (`fe80::1%eth0`).
    pub zone: Option<String>,
}

impl Server {
    /// On any link.
    pub fn at(addr: IpAddr) -> Server {
        Server { addr, zone: None }
    }
}

impl FromStr for Server {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Server, Self::Err> {
        match text.split_once('%') {
            Some((addr, zone)) => Ok(Server { addr: IpAddr::V6(addr.parse()?), zone: Some(zone.to_owned()) }),
            None => Ok(Server::at(text.parse()?)),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.addr),
            None => self.addr.fmt(f),
        }
    }
}

/// A `resolv.conf` as read (resolv.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver`, in order.
    pub servers: Vec<Server>,
    /// The last `search` or `domain`.
    pub search: Vec<String>,
    /// `options`, all lines together.
    pub options: Vec<String>,
    /// Lines with other directives, as they stand.
    pub other: Vec<String>,
    /// Name servers that are no addresses.
    pub invalid: Vec<String>,
}

impl ResolvConf {
    /// Reads the file's text. What cannot be understood is kept aside, never an error.
    pub fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let owned = || words[1..].iter().map(|word| (*word).to_owned());
            match words[..] {
                [] => {}
                [first, ..] if first.starts_with(['#', ';']) => {}
                ["nameserver", addr, ..] => match addr.parse() {
                    Ok(server) => conf.servers.push(server),
                    Err(_) => conf.invalid.push(addr.to_owned()),
                },
                ["domain" | "search", _, ..] => conf.search = owned().collect(),
                ["options", _, ..] => conf.options.extend(owned()),
                ["nameserver" | "domain" | "search" | "options"] => {}
                _ => conf.other.push(line.to_owned()),
            }
        }
        conf
    }

    /// The only server is the stub of systemd-resolved, whose true servers are in another file
    /// (`/run/systemd/resolve/resolv.conf`).
    pub fn is_resolved_stub(&self) -> bool {
        matches!(&self.servers[..], [Server { addr: IpAddr::V4(addr), .. }] if addr.octets() == [127, 0, 0, 53])
    }

    /// An option of this name, with a value or without, is set.
    fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.split(':').next() == Some(name))
    }
}

/// `--dns`, `--dns-search`, `--dns-option`; an empty list leaves what is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Name servers, used as they are.
    pub servers: Vec<IpAddr>,
    /// Search domains; `.` alone is none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Overrides {
    /// The container's, and the daemon's where it has none: each kind by itself, never mixed.
    pub fn over(&self, daemon: &Overrides) -> Overrides {
        fn first<T: Clone>(ours: &[T], theirs: &[T]) -> Vec<T> {
            if ours.is_empty() { theirs.to_vec() } else { ours.to_vec() }
        }
        Overrides {
            servers: first(&self.servers, &daemon.servers),
            search: first(&self.search, &daemon.search),
            options: first(&self.options, &daemon.options),
        }
    }
}

/// The servers that our resolver asks where a container has none of its own; public ones for a host that has none either.
/// `ipv6`: the host has IPv6.
pub fn servers_of_host(host: &ResolvConf, ipv6: bool) -> Vec<Server> {
    if host.servers.is_empty() { defaults(ipv6) } else { host.servers.clone() }
}

/// Who answers a container's questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// An open container: the host's servers, whatever they are.
    Host,
    /// A default network without a resolver of ours: the host's servers, as far as they can be reached from there.
    Upstreams {
        /// The container has IPv6.
        ipv6: bool,
    },
    /// A resolver of ours at this address.
    Resolver {
        /// Where it listens.
        at: IpAddr,
        /// The container has IPv6.
        ipv6: bool,
    },
}

/// A server that our resolver asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The server.
    pub server: Server,
    /// It is asked from the host's namespace; otherwise from the container's.
    pub from_host: bool,
}

/// A container's `resolv.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub text: String,
    /// Whom our resolver asks; empty where there is none.
    pub upstreams: Vec<Upstream>,
    /// The host had no server that could be used.
    pub used_defaults: bool,
}

/// Public servers, for a host without one that can be used.
const DEFAULT: [&str; 4] = ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

/// The container's `resolv.conf`, from the host's (`source` is its path, for a comment) and what was asked for.
pub fn resolv_conf(host: &ResolvConf, source: &str, overrides: &Overrides, answerer: Answerer) -> Written {
    let mut conf = host.clone();
    let mut overridden = Vec::new();
    if !overrides.servers.is_empty() {
        conf.servers = overrides.servers.iter().copied().map(Server::at).collect();
        overridden.push("nameservers");
    }
    if !overrides.search.is_empty() {
        conf.search = overrides.search.iter().filter(|domain| *domain != ".").cloned().collect();
        overridden.push("search");
    }
    if !overrides.options.is_empty() {
        conf.options = overrides.options.clone();
        overridden.push("options");
    }
    let own_servers = !overrides.servers.is_empty();
    let mut ndots = conf.has_option("ndots").then_some(if overrides.options.is_empty() { "host" } else { "override" });
    let mut used_defaults = false;
    let mut upstreams = Vec::new();
    let form = match answerer {
        Answerer::Host => "",
        Answerer::Upstreams { ipv6 } => {
            if !own_servers {
                conf.servers.retain(|server| !server.addr.is_loopback() && (ipv6 || server.addr.is_ipv4()));
                if conf.servers.is_empty() {
                    conf.servers = defaults(ipv6);
                    used_defaults = true;
                }
            }
            " (legacy)"
        }
        Answerer::Resolver { at, ipv6 } => {
            let from_host = !own_servers;
            upstreams = conf.servers.drain(..).map(|server| Upstream { server, from_host }).collect();
            if upstreams.is_empty() {
                upstreams = defaults(ipv6).into_iter().map(|server| Upstream { server, from_host: true }).collect();
                used_defaults = true;
            }
            conf.servers = vec![Server::at(at)];
            // A number that cannot be read would make libraries ignore ours too.
            conf.options.retain(|option| option.strip_prefix("ndots").is_none_or(good_ndots));
            if !conf.has_option("ndots") {
                conf.options.push("ndots:0".to_owned());
                ndots = Some("internal");
            }
            " (internal resolver)"
        }
    };

    let mut text = String::from("# Generated by berth.\n\n");
    for server in &conf.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (directive, words) in [("search", &conf.search), ("options", &conf.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{directive} {}\n", words.join(" ")));
        }
    }
    for line in &conf.other {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&format!("\n# Based on host file: '{source}'{form}\n"));
    if used_defaults {
        text.push_str("# Used default nameservers.\n");
    }
    if !upstreams.is_empty() {
        let shown = |upstream: &Upstream| match upstream.from_host {
            true => format!("host({})", upstream.server),
            false => upstream.server.to_string(),
        };
        text.push_str(&format!("# ExtServers: [{}]\n", upstreams.iter().map(shown).collect::<Vec<_>>().join(" ")));
    }
    if !conf.invalid.is_empty() {
        text.push_str(&format!("# Invalid nameservers: [{}]\n", conf.invalid.join(" ")));
    }
    text.push_str(&format!("# Overrides: [{}]\n", overridden.join(" ")));
    if let Some(from) = ndots {
        text.push_str(&format!("# Option ndots from: {from}\n"));
    }
    Written { text, upstreams, used_defaults }
}

/// These options ask for `ndots` of 1 or more.
pub fn wants_dots(options: &[String]) -> bool {
    let number = |option: &String| option.strip_prefix("ndots:")?.parse::<u32>().ok();
    options.iter().filter_map(number).next_back().is_some_and(|number| number > 0)
}

/// The rest of an option after `ndots`: another option's name, or a number.
fn good_ndots(rest: &str) -> bool {
    match rest.strip_prefix(':') {
        Some(number) => number.parse::<u32>().is_ok(),
        None => !rest.is_empty(),
    }
}

fn defaults(ipv6: bool) -> Vec<Server> {
    DEFAULT
        .iter()
        .filter_map(|text| text.parse().ok())
        .filter(|server: &Server| ipv6 || server.addr.is_ipv4())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(at: &str, alias: &str, hostname: &str, name: &str) -> Link {
        Link { addr: addr(at), alias: alias.into(), hostname: hostname.into(), name: name.into() }
    }

    #[test]
    fn the_golden_hosts_file() {
        let link = link("172.17.0.2", "db", "0f3c8a1b2c3d", "importantData");
        let text = hosts(&Hosts {
            ipv6: true,
            extra: &[("test".into(), addr("10.10.10.255"))],
            links: &[link],
            own: &[addr("172.17.0.3")],
            hostname: "foobar",
            domainname: "example.com",
        });
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n\
             10.10.10.255\ttest\n\
             172.17.0.2\tdb 0f3c8a1b2c3d importantData\n\
             172.17.0.3\tfoobar.example.com foobar\n"
        );
    }

    #[test]
    fn other_hosts_files() {
        let closed = Hosts { ipv6: false, extra: &[], links: &[], own: &[], hostname: "a", domainname: "" };
        assert_eq!(hosts(&closed), "127.0.0.1\tlocalhost\n");
        let twice = [("x".to_owned(), addr("10.0.0.1")), ("x".to_owned(), addr("10.0.0.1"))];
        let link = link("10.0.0.9", "db", "h", "db");
        let own = [addr("10.0.0.2"), addr("fd00::2")];
        assert_eq!(
            hosts(&Hosts { extra: &twice, links: &[link], own: &own, ..closed }),
            "127.0.0.1\tlocalhost\n10.0.0.1\tx\n10.0.0.1\tx\n10.0.0.9\tdb h\n10.0.0.2\ta\nfd00::2\ta\n"
        );
        assert_eq!(hosts_of_open("1.2.3.4 me", &twice[..1]), "1.2.3.4 me\n10.0.0.1\tx\n");
        assert_eq!(hosts_of_open("", &[]), "");
    }

    #[test]
    fn links_come_and_go_in_place() {
        let link = |addr: &str, alias: &str| link(addr, alias, "h", "mydb");
        let known = ["db h mydb".to_owned(), "log h mydb".to_owned(), "db h old".to_owned()];
        let check = |text: &str, links: &[Link], want: &str| {
            assert_eq!(relinked(text, &known, links, "me", ""), want, "{text:?}");
        };
        let (four, six) = (link("10.0.0.9", "db"), link("fd00::9", "db"));
        let before = "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n10.0.0.2\tdb h mydb\n10.0.0.3\tme\n";
        let after = "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n10.0.0.9\tdb h mydb\nfd00::9\tdb h mydb\n10.0.0.3\tme\n";
        // Both families, and what `--add-host` asked for stays.
        let both = [four.clone(), six];
        check(before, &both, after);
        check(after, &both, after);
        let gone = "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n10.0.0.3\tme\n";
        check(after, &[], gone);
        check(gone, &both, after);
        // In the order of the links, whichever came back first.
        let two = [four.clone(), link("10.0.0.8", "log")];
        let want = "10.0.0.9\tdb h mydb\n10.0.0.8\tlog h mydb\n10.0.0.3\tme\n";
        check("10.0.0.9\tlog h mydb\n10.0.0.3\tme\n", &two, want);
        // Another name of the target, and what the container wrote there.
        check("x\n1.2.3.4\tdb h old", &both[..1], "x\n10.0.0.9\tdb h mydb\n");
        check("# mine", &both[..1], "# mine\n10.0.0.9\tdb h mydb\n");
        check("", &[], "");
    }

    #[test]
    fn a_container_comes_and_goes() {
        let file = "127.0.0.1\tlocalhost\n172.17.0.2\tfoo.example foo\n1.2.3.4 mine";
        let came = moved(file, &[addr("10.1.0.2"), addr("fd01::2")], &[], "foo", "example");
        assert_eq!(came, format!("{file}\n10.1.0.2\tfoo.example foo\nfd01::2\tfoo.example foo\n"));
        assert_eq!(moved(&came, &[addr("10.1.0.2")], &[], "foo", "example"), came, "it is there already");
        assert_eq!(moved(&came, &[], &[addr("10.1.0.2"), addr("fd01::2")], "foo", "example"), format!("{file}\n"));
        // Another's line of that address stays.
        assert_eq!(moved("10.1.0.2\tother\n", &[], &[addr("10.1.0.2")], "foo", ""), "10.1.0.2\tother\n");
        assert_eq!(moved("", &[addr("10.1.0.2")], &[], "foo", ""), "10.1.0.2\tfoo\n");
    }

    #[test]
    fn hostnames() {
        for name in ["a", "a-b.c", "web_1", "0", &"x".repeat(63)] {
            assert_eq!(check_hostname(name), Ok(()), "{name}");
        }
        for name in ["", "a..b", ".a", "a.", "-a", "a-", "a b", "ü", &"x".repeat(64), &format!("{}.b", "x".repeat(63))]
        {
            let error = check_hostname(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid hostname format: {name:?}: ")), "{error}");
        }
    }

    /// The directives, then what `# ` lines say, without the fixed ones; each line behind a bar.
    fn written(host: &str, overrides: &Overrides, answerer: Answerer) -> String {
        let text = resolv_conf(&ResolvConf::parse(host), "/etc/resolv.conf", overrides, answerer).text;
        let fixed = |line: &&str| line.is_empty() || *line == "# Generated by berth." || line.starts_with("# Based on");
        text.lines().filter(|line| !fixed(line)).collect::<Vec<_>>().join("|")
    }

    fn check(host: &str, overrides: &Overrides, answerer: Answerer, want: &str) {
        assert_eq!(written(host, overrides, answerer), want, "{host:?} {answerer:?}");
    }

    const FOUR: Answerer = Answerer::Upstreams { ipv6: false };
    const BOTH: Answerer = Answerer::Upstreams { ipv6: true };

    #[test]
    fn default_networks() {
        let none = Overrides::default();
        check("nameserver 192.0.2.53", &none, FOUR, "nameserver 192.0.2.53|# Overrides: []");
        check(
            "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\nnameserver fd00::53",
            &none,
            FOUR,
            "nameserver 192.0.2.53|# Overrides: []",
        );
        check(
            "nameserver fe80::1%eth0\nnameserver fd00::53",
            &none,
            BOTH,
            "nameserver fe80::1%eth0|nameserver fd00::53|# Overrides: []",
        );
        let four = "nameserver 8.8.8.8|nameserver 8.8.4.4|# Used default nameservers.|# Overrides: []";
        check("nameserver 127.0.0.1", &none, FOUR, four);
        check("", &none, FOUR, four);
        check("nameserver fd00::53", &none, FOUR, four);
        check(
            "nameserver ::1",
            &none,
            BOTH,
            "nameserver 8.8.8.8|nameserver 8.8.4.4|nameserver 2001:4860:4860::8888|nameserver 2001:4860:4860::8844|\
             # Used default nameservers.|# Overrides: []",
        );
        check(
            "# c\n; c\nsearch a.example b.example\noptions edns0\ndomain last.example\nnameserver 192.0.2.53 # x\n\
             options ndots:2\nsortlist 10.0.0.0\nnameserver no.such\nnameserver\nsearch",
            &none,
            FOUR,
            "nameserver 192.0.2.53|search last.example|options edns0 ndots:2|sortlist 10.0.0.0|\
             # Invalid nameservers: [no.such]|# Overrides: []|# Option ndots from: host",
        );
    }

    #[test]
    fn what_was_asked_for() {
        let all = Overrides {
            servers: vec![addr("127.0.0.1"), addr("fd00::1")],
            search: vec!["x.example".into(), "y.example".into()],
            options: vec!["ndots:3".into()],
        };
        let host = "nameserver 192.0.2.53\nsearch host.example\noptions edns0";
        check(
            host,
            &all,
            FOUR,
            "nameserver 127.0.0.1|nameserver fd00::1|search x.example y.example|options ndots:3|\
             # Overrides: [nameservers search options]|# Option ndots from: override",
        );
        let no_search = Overrides { search: vec![".".into()], ..Overrides::default() };
        check(host, &no_search, FOUR, "nameserver 192.0.2.53|options edns0|# Overrides: [search]");
        check("nameserver ::1", &Overrides::default(), Answerer::Host, "nameserver ::1|# Overrides: []");
        assert_eq!(no_search.over(&all), Overrides { search: vec![".".into()], ..all.clone() });
    }

    #[test]
    fn with_a_resolver_of_ours() {
        let resolver = Answerer::Resolver { at: addr("127.0.0.11"), ipv6: false };
        let none = Overrides::default();
        // The golden block of the embedded resolver.
        check(
            "nameserver 192.0.2.53\nsearch corp.example\noptions edns0",
            &none,
            resolver,
            "nameserver 127.0.0.11|search corp.example|options edns0 ndots:0|# ExtServers: [host(192.0.2.53)]|\
             # Overrides: []|# Option ndots from: internal",
        );
        // A server on the host's loopback can be asked from there.
        check(
            "nameserver ::1\noptions ndots:x ndotsy",
            &none,
            resolver,
            "nameserver 127.0.0.11|options ndotsy ndots:0|# ExtServers: [host(::1)]|# Overrides: []|\
             # Option ndots from: internal",
        );
        let ours =
            Overrides { servers: vec![addr("192.0.2.1")], options: vec!["ndots:1".into()], ..Overrides::default() };
        check(
            "nameserver ::1",
            &ours,
            resolver,
            "nameserver 127.0.0.11|options ndots:1|# ExtServers: [192.0.2.1]|# Overrides: [nameservers options]|\
             # Option ndots from: override",
        );
        let written = resolv_conf(&ResolvConf::default(), "/etc/resolv.conf", &none, resolver);
        assert!(written.used_defaults);
        assert_eq!(written.upstreams.len(), 2);
    }

    #[test]
    fn the_stub_of_systemd_is_known() {
        assert!(ResolvConf::parse("nameserver 127.0.0.53\noptions edns0").is_resolved_stub());
        for text in ["", "nameserver 127.0.0.1", "nameserver 127.0.0.53\nnameserver 192.0.2.1"] {
            assert!(!ResolvConf::parse(text).is_resolved_stub(), "{text}");
        }
    }
}
