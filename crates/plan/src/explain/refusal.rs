//! What stops a packet, in words.

use super::packet::Service;
use super::rules::Cause;
use crate::ids::IfName;
use crate::listener::Listener;
use crate::netstate::IpFamily;
use std::fmt;
use std::net::IpAddr;

/// What stopped it. Namespaces are called as people know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No route leads there.
    NoRoute {
        /// Whose routes.
        at: String,
        /// Where to.
        to: IpAddr,
    },
    /// A route says no.
    RouteRefuses {
        /// Whose.
        at: String,
        /// Where to.
        to: IpAddr,
    },
    /// There is no address to send from.
    NoSource {
        /// Whose.
        at: String,
        /// Where to.
        to: IpAddr,
    },
    /// A link that leads there is not there, or is down.
    LinkDown {
        /// Whose.
        at: String,
        /// Which.
        link: IfName,
    },
    /// IPv6 is off on a link.
    NoIpv6 {
        /// Whose.
        at: String,
        /// Which.
        link: IfName,
    },
    /// Nobody on the link has the address.
    NoNeighbour {
        /// The link, or the bridge.
        link: IfName,
        /// Who is looked for.
        addr: IpAddr,
    },
    /// A bridge keeps its ports apart.
    Apart {
        /// The bridge.
        bridge: IfName,
        /// Whom it was for.
        to: String,
    },
    /// The bridge does not send a frame back to where it came from.
    NoHairpin {
        /// The bridge.
        bridge: IfName,
    },
    /// A rule of ours.
    Rule(Cause),
    /// A rule of ours that tells the sender (`tcp reset`).
    Reset(Cause),
    /// Somebody else's chain.
    Stranger {
        /// `inet filter forward`
        chain: String,
        /// The rule that decided, or that none did and the policy is to drop.
        rule: String,
        /// By the older firewall, whose rules only `iptables-legacy` shows.
        legacy: bool,
    },
    /// Packets of that family are not switched through.
    NotForwarding {
        /// Where.
        at: String,
        /// Which.
        family: IpFamily,
    },
    /// The way back to the sender leads elsewhere (`rp_filter`).
    WayBack {
        /// Where.
        at: String,
        /// The link that it came in by.
        link: IfName,
        /// The sender.
        from: IpAddr,
    },
    /// An address that must not be seen there: of 127.0.0.0/8 or ::1, or the receiver's own as the sender's.
    Martian {
        /// Where.
        at: String,
        /// The link.
        link: IfName,
        /// The address.
        addr: IpAddr,
    },
    /// Nobody listens.
    NobodyListens {
        /// Where.
        at: String,
        /// What was asked.
        service: Service,
        /// At which address it was asked.
        addr: IpAddr,
        /// Who has the port at another address.
        elsewhere: Vec<Listener>,
    },
    /// The answer comes from another address than was asked, or goes to another.
    AnswerAstray {
        /// Where it came from.
        from: (IpAddr, u16),
        /// Who was asked.
        asked: (IpAddr, u16),
    },
    /// It goes round in circles.
    Circle,
}

/// Whose doing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// The networks are meant to be so.
    Design,
    /// Somebody else's firewall or setting.
    Others,
    /// The program at the far end.
    Program,
}

impl Refusal {
    /// Whose doing it is, if what is ours is as it should be.
    pub fn doing(&self) -> Doing {
        match self {
            Refusal::Stranger { .. } | Refusal::WayBack { .. } => Doing::Others,
            Refusal::NobodyListens { .. } => Doing::Program,
            _ => Doing::Design,
        }
    }

    /// The rule of ours that stopped it.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Refusal::Rule(cause) | Refusal::Reset(cause) => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpFamily::V4 => "IPv4",
            IpFamily::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoRoute { at, to } => write!(f, "{at} has no route to {to}"),
            Refusal::RouteRefuses { at, to } => write!(f, "a route of {at} refuses {to}"),
            Refusal::NoSource { at, to } => write!(f, "{at} has no address to reach {to} from"),
            Refusal::LinkDown { at, link } => write!(f, "the link {link} of {at} is down or not there"),
            Refusal::NoIpv6 { at, link } => write!(f, "IPv6 is off on {link} of {at}"),
            Refusal::NoNeighbour { link, addr } => write!(f, "nobody on {link} has the address {addr}"),
            Refusal::Apart { bridge, to } => {
                write!(f, "the bridge {bridge} keeps its containers apart, and passes nothing on to {to}")
            }
            Refusal::NoHairpin { bridge } => {
                write!(f, "the bridge {bridge} does not send a frame back to where it came from")
            }
            Refusal::Rule(cause) => write!(f, "dropped by the rule {cause}"),
            Refusal::Reset(cause) => write!(f, "reset by the rule {cause}"),
            Refusal::Stranger { chain, rule, legacy } => {
                let legacy = if *legacy { " of iptables-legacy" } else { "" };
                write!(f, "dropped by another firewall: chain {chain}{legacy}, {rule}")
            }
            Refusal::NotForwarding { at, family } => write!(f, "{at} does not forward {family}"),
            Refusal::WayBack { at, link, from } => {
                write!(f, "{at} takes nothing from {from} on {link}, for the way back is another (rp_filter)")
            }
            Refusal::Martian { at, link, addr } => write!(f, "{at} lets no packet with {addr} pass {link}"),
            Refusal::NobodyListens { at, service, addr, elsewhere } => {
                write!(f, "nothing in {at} listens on port {service} of {addr}")?;
                for one in elsewhere {
                    let place = match one {
                        one if one.by_lo => "only for itself, by lo",
                        one if one.only_v6 => "IPv6 only",
                        _ => "only there",
                    };
                    write!(f, "; on {}:{}, {place}", bracketed(one.addr), one.port)?;
                }
                Ok(())
            }
            Refusal::AnswerAstray { from, asked } => {
                let (from, asked) = (shown(*from), shown(*asked));
                write!(f, "the answer comes from {from}, and {asked} was asked")
            }
            Refusal::Circle => f.write_str("the packet goes round in circles"),
        }
    }
}

fn bracketed(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => addr.to_string(),
        IpAddr::V6(addr) => format!("[{addr}]"),
    }
}

fn shown((addr, port): (IpAddr, u16)) -> String {
    if port == 0 { addr.to_string() } else { format!("{}:{port}", bracketed(addr)) }
}
