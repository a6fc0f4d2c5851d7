//! `--add-host`, `--dns`, `--dns-search`, `--link`, `--mac-address`, `--ip`: one reader a flag.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::literal::quoted;

/// `NAME:IP`, `NAME=IP` or `NAME:host-gateway`, as `NAME:IP`; an IPv6 address may stand in brackets.
pub fn add_host(text: &str) -> Result<String, String> {
    let refused = || format!("bad format for add-host: {}", quoted(text));
    let (name, address) = match text.find('=').or_else(|| text.find(':')) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => return Err(refused()),
    };
    if name.is_empty() {
        return Err(refused());
    }
    if address == "host-gateway" {
        return Ok(format!("{name}:{address}"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<IpAddr>() {
        Ok(_) => Ok(format!("{name}:{bare}")),
        Err(_) => Err(format!("invalid IP address in add-host: {}", quoted(address))),
    }
}

/// The address of a resolver.
pub fn resolver(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A search domain; `.` alone means none.
pub fn search_domain(text: &str) -> Result<String, String> {
    let domain = text.trim();
    let refused = || Err(format!("{text} is not a valid domain"));
    if domain == "." {
        return Ok(domain.to_owned());
    }
    if domain.len() > 255 || !domain.bytes().any(|b| b.is_ascii_alphabetic()) {
        return refused();
    }
    let ok_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if domain.split('.').all(ok_label) { Ok(domain.to_owned()) } else { refused() }
}

/// `CONTAINER` or `CONTAINER:ALIAS`, and words behind commas that the engine reads; kept as written.
pub fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    let names = text.split(',').next().unwrap_or_default();
    if names.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// An Ethernet address in one of its usual forms: six octets separated by `:` or `-`, or three groups by `.`.
pub fn mac_address(text: &str) -> Result<(), String> {
    let hex = |part: &str, width: usize| part.len() == width && part.bytes().all(|b| b.is_ascii_hexdigit());
    let octets = |by: char| {
        let parts: Vec<&str> = text.split(by).collect();
        parts.len() == 6 && parts.iter().all(|part| hex(part, 2))
    };
    let groups = text.split('.').count() == 3 && text.split('.').all(|part| hex(part, 4));
    if octets(':') || octets('-') || groups { Ok(()) } else { Err(format!("{text} is not a valid mac address")) }
}

/// An IPv4 address.
pub fn ipv4(text: &str) -> Result<String, String> {
    match text.trim().parse::<Ipv4Addr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => Err(format!("invalid IPv4 address: {text}")),
    }
}

/// An IPv6 address.
pub fn ipv6(text: &str) -> Result<String, String> {
    match text.trim().parse::<Ipv6Addr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => Err(format!("invalid IPv6 address: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one reader over pairs of a text and what it shall answer, be it the value or the refusal.
    fn check(read: fn(&str) -> Result<String, String>, cases: &[(&str, &str)]) {
        for (text, wanted) in cases {
            let got = read(text).unwrap_or_else(|why| why);
            assert_eq!(&got, wanted, "{text:?}");
        }
    }

    #[test]
    fn hosts() {
        check(
            add_host,
            &[
                ("a:1.2.3.4", "a:1.2.3.4"),
                ("b=::1", "b:::1"),
                ("b:::1", "b:::1"),
                ("c:[::2]", "c:::2"),
                ("d:host-gateway", "d:host-gateway"),
                ("test", "bad format for add-host: \"test\""),
                (":1.2.3.4", "bad format for add-host: \":1.2.3.4\""),
                ("test:foo", "invalid IP address in add-host: \"foo\""),
            ],
        );
    }

    #[test]
    fn resolvers_and_domains() {
        check(
            resolver,
            &[("1.1.1.1", "1.1.1.1"), ("::1", "::1"), ("foo", "IP address is not correctly formatted: foo")],
        );
        check(
            search_domain,
            &[
                ("dev.mycompany", "dev.mycompany"),
                (".", "."),
                ("a_b", "a_b"),
                ("a/b", "a/b is not a valid domain"),
                ("-x", "-x is not a valid domain"),
                ("a..b", "a..b is not a valid domain"),
            ],
        );
    }

    #[test]
    fn links() {
        check(
            link,
            &[
                ("db", "db"),
                ("db:alias", "db:alias"),
                ("db:alias,wait=tcp:3306,timeout=5s", "db:alias,wait=tcp:3306,timeout=5s"),
                ("a:b:c", "bad format for links: a:b:c"),
                ("a:b:c,wait=tcp:80", "bad format for links: a:b:c,wait=tcp:80"),
                ("", "empty string specified for links"),
            ],
        );
    }

    #[test]
    fn addresses() {
        check(
            ipv4,
            &[("10.0.0.1", "10.0.0.1"), ("foo", "invalid IPv4 address: foo"), ("::1", "invalid IPv4 address: ::1")],
        );
        check(ipv6, &[("2001:db8::1", "2001:db8::1"), ("1.2.3.4", "invalid IPv6 address: 1.2.3.4")]);
        assert!(mac_address("92:d0:c6:0a:29:33").is_ok());
        assert!(mac_address("92d0.c60a.2933").is_ok());
        assert_eq!(mac_address("zz"), Err("zz is not a valid mac address".to_owned()));
    }
}
