//! Settings under `/proc/sys/net` (Documentation/networking/ip-sysctl.rst). A file there belongs to the namespace of the
//! thread that opens it.

use crate::attr::{Attrs, Writer};
use crate::fault::Refused;
use crate::rtnetlink::Rtnetlink;
use plan::ids::IfName;
use plan::netstate::IpFamily;
use std::path::PathBuf;
use std::{fs, io};

/// `RTM_NEWNETCONF` and `RTM_DELNETCONF` (linux/rtnetlink.h), as notices.
pub(crate) const NETCONF: std::ops::RangeInclusive<u16> = NEW_NETCONF..=81;
const NEW_NETCONF: u16 = 80;
/// `RTM_GETNETCONF`
const GET_NETCONF: u16 = 82;
/// `NETCONFA_IFINDEX` (linux/netconf.h)
const IFINDEX: u16 = 1;
/// `NETCONFA_FORWARDING`
const FORWARDING: u16 = 2;
/// `NETCONFA_RP_FILTER`
const RP_FILTER: u16 = 3;
/// `NETCONFA_IFINDEX_ALL`
const ALL: i32 = -1;

/// Switch packets through this namespace.
///
/// For IPv6 this is `all.forwarding`, which makes the machine a router on all of its links: those whose `accept_ra`
/// is 1 stop listening to router advertisements (they need 2). Somebody whose uplink is configured that way must
/// be told before this is wished for.
pub(crate) fn forward(family: IpFamily) -> io::Result<()> {
    fs::write(forwarding(family), "1")
}

/// Make a new namespace forward nothing, whatever it inherited: Linux copies the first namespace's IPv4 settings into
/// each new one (`net.core.devconf_inherit_init_net`), and a sandbox shall be the same on every host.
pub(crate) fn forward_nothing() -> io::Result<()> {
    if fs::read_to_string(forwarding(IpFamily::V4))?.trim() != "0" {
        fs::write(forwarding(IpFamily::V4), "0")?;
    }
    Ok(())
}

fn forwarding(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "/proc/sys/net/ipv4/ip_forward",
        IpFamily::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

/// Are packets switched through the socket's namespace? Asked over netlink, so nobody has to go there.
pub(crate) fn forwards(rt: &mut Rtnetlink, family: IpFamily) -> Result<bool, Refused> {
    let family = match family {
        IpFamily::V4 => libc::AF_INET,
        IpFamily::V6 => libc::AF_INET6,
    };
    // struct netconfmsg: the family in one byte, padded.
    let mut body = Writer(vec![family as u8, 0, 0, 0]);
    body.bytes(IFINDEX, &ALL.to_ne_bytes());
    match rt.0.get(GET_NETCONF, &body.0) {
        Ok(answer) => Ok(Attrs(answer.body.get(4..).unwrap_or_default()).ne32(FORWARDING) == Some(1)),
        // A kernel without IPv6 does not forward it.
        Err(refused) if [libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&refused.errno) => Ok(false),
        Err(refused) => Err(refused),
    }
}

/// How all links of the socket's namespace look at the way back to a sender (`net.ipv4.conf.all.rp_filter`).
pub(crate) fn looks_back(rt: &mut Rtnetlink) -> Result<u8, Refused> {
    let mut body = Writer(vec![libc::AF_INET as u8, 0, 0, 0]);
    body.bytes(IFINDEX, &ALL.to_ne_bytes());
    let answer = rt.0.get(GET_NETCONF, &body.0)?;
    let value = Attrs(answer.body.get(4..).unwrap_or_default()).ne32(RP_FILTER);
    Ok(value.and_then(|value| value.try_into().ok()).unwrap_or_default())
}

/// Whether the inet rules see what bridges pass on, in the caller's namespace (br_netfilter). Without the module there is no such
/// setting.
pub(crate) fn sees_bridged(family: IpFamily) -> bool {
    let path = match family {
        IpFamily::V4 => "/proc/sys/net/bridge/bridge-nf-call-iptables",
        IpFamily::V6 => "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    };
    fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

/// What a notice says about the forwarding of a whole namespace; `None` if it is about something else.
pub(crate) fn noticed(kind: u16, body: &[u8]) -> Option<(IpFamily, bool)> {
    let attrs = Attrs(body.get(4..)?);
    let family = match i32::from(*body.first()?) {
        libc::AF_INET => IpFamily::V4,
        libc::AF_INET6 => IpFamily::V6,
        _ => return None,
    };
    let whole = kind == NEW_NETCONF && attrs.get(IFINDEX) == Some(&ALL.to_ne_bytes());
    whole.then(|| attrs.ne32(FORWARDING)).flatten().map(|on| (family, on == 1))
}

/// Let a bridge of ours use its link-local address at once. Its address is made of its own Ethernet address, which
/// nobody else has; and until it has one, the kernel asks for no neighbour on behalf of packets that it forwards
/// (ndisc_solicit), so for a second or two after the first container came, IPv6 would reach nobody.
pub(crate) fn no_duplicate_detection(link: &IfName) -> io::Result<()> {
    match fs::write(setting(link, "accept_dad"), "0") {
        // Without IPv6 there is nothing to wait for.
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Switch a link's IPv6 off or on.
pub(crate) fn no_ipv6(link: &IfName, off: bool) -> io::Result<()> {
    fs::write(setting(link, "disable_ipv6"), if off { "1" } else { "0" })
}

/// Set one of a link's settings: `net.ipv4.conf.IFNAME.log_martians`.
pub(crate) fn of_link(link: &IfName, key: &str, value: &str) -> io::Result<()> {
    let part = |part| if part == "IFNAME" { link.as_str() } else { part };
    let path: PathBuf = ["/proc/sys"].into_iter().chain(key.split('.').map(part)).collect();
    fs::write(&path, value).map_err(|err| io::Error::new(err.kind(), format!("{key}={value}: {err}")))
}

fn setting(link: &IfName, name: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", link.as_str(), name].iter().collect()
}
