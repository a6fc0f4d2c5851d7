//! Links (rtnetlink(7), linux/if_link.h): making, changing and reading them.

use crate::attr::{NESTED, Writer};
use crate::fault::Refused;
use crate::rtnetlink::Rtnetlink;
use crate::socket::{CREATE, EXCL};
use crate::{marks, sysctl};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage as Request;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoMacVlan,
    InfoPortData, InfoPortKind, InfoVeth, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode,
};
use plan::ids::{IfName, Mac};
use plan::netstate::BridgePort;
use plan::nft::Owner;
use plan::world::MacvlanMode;
use std::os::fd::{AsRawFd, BorrowedFd};

/// linux/if_link.h
const IFLA_INET_CONF: u16 = 1;
/// `IPV4_DEVCONF_PROMOTE_SECONDARIES` (linux/ip.h)
const PROMOTE_SECONDARIES: u16 = 20;
/// `IPV4_DEVCONF_ROUTE_LOCALNET`
const ROUTE_LOCALNET: u16 = 26;
/// 01:80:c2:00:00:00 to 0f, a bit each, but for 01 (`BR_GROUPFWD_MACPAUSE`, net/bridge/br_private.h): every bridge drops those.
const ALL_GROUPS: u16 = 0xfffd;

/// A link as the kernel shows it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub index: u32,
    pub name: IfName,
    pub kind: Kind,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// The bridge's index.
    pub master: Option<u32>,
    /// How the bridge treats it.
    pub port: BridgePort,
    /// `net.ipv4.conf.IF.route_localnet`
    pub route_localnet: bool,
    /// `net.ipv4.conf.IF.rp_filter`
    pub rp_filter: u8,
    /// The index of the other end, or of the interface that it is on, in that one's own namespace.
    pub peer: Option<u32>,
    /// That namespace, if it is another one.
    pub peer_space: Option<i32>,
    /// `net.ipv6.conf.IF.disable_ipv6`
    pub no_ipv6: bool,
    /// The kernel keeps IPv6 settings for it.
    pub speaks_ipv6: bool,
    /// By group or by alias.
    pub ours: bool,
    /// As the alias says.
    pub owner: Option<Owner>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Loopback,
    Bridge,
    Veth,
    /// With its number.
    Vlan(u16),
    /// With its mode, where it is one of those that are made here.
    Macvlan(Option<MacvlanMode>),
    Other,
}

/// A pair to be made.
pub(crate) struct Pair<'a> {
    pub host: &'a IfName,
    /// The bridge's index.
    pub master: u32,
    pub inner: &'a IfName,
    pub into: BorrowedFd<'a>,
    pub mac: Mac,
    pub mtu: u32,
}

/// Only in the namespace of the calling thread: its settings under `/proc` are made as well.
pub(crate) fn add_bridge(rt: &mut Rtnetlink, name: &IfName, mac: Mac, mtu: u32, owner: &Owner) -> Result<(), Refused> {
    // A bridge follows the smallest MTU of its ports until somebody sets its own (br_mtu_auto_adjust), and setting what
    // it has already does not count as setting. So it is born with another, and gets its own in the second message.
    let born_with = if mtu > 1280 { mtu - 1 } else { mtu + 1 };
    // Without a querier snooping changes nothing; and with it, a container that plays the querier decides which groups its
    // neighbours hear, those of neighbour discovery among them.
    let info = vec![InfoBridge::StpState(BridgeStpState::Disabled), InfoBridge::MulticastSnooping(false)];
    let info = LinkInfo::Data(InfoData::Bridge(info));
    let message = message(vec![
        LinkAttribute::IfName(name.as_str().into()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(born_with),
        LinkAttribute::Group(marks::LINK_GROUP),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), info]),
    ]);
    rt.request(&Request::NewLink(message), CREATE | EXCL)?;
    let finished =
        finish(rt, name, Some(mtu), owner).and_then(|()| sysctl::no_duplicate_detection(name).map_err(Refused::from));
    finished.inspect_err(|_| {
        // Nothing is left of a refused operation. Should this fail too, the next look shows the bridge.
        let _ = delete_named(rt, name);
    })
}

/// One message makes both ends, each where it belongs: moving a link between namespaces costs a grace period.
/// The inner end must not be up in it (`ENOTCONN`).
pub(crate) fn add_pair(rt: &mut Rtnetlink, pair: &Pair<'_>) -> Result<(), Refused> {
    let peer = message(vec![
        LinkAttribute::IfName(pair.inner.as_str().into()),
        LinkAttribute::Address(pair.mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Group(marks::LINK_GROUP),
        LinkAttribute::NetNsFd(pair.into.as_raw_fd()),
    ]);
    let mut host = message(vec![
        LinkAttribute::IfName(pair.host.as_str().into()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Group(marks::LINK_GROUP),
        LinkAttribute::Controller(pair.master),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    rt.request(&Request::NewLink(host), CREATE | EXCL)
}

/// A VLAN of the interface with the index `of`.
pub(crate) fn add_vlan(
    rt: &mut Rtnetlink,
    name: &IfName,
    of: u32,
    id: u16,
    mtu: u32,
    owner: &Owner,
) -> Result<(), Refused> {
    let info = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)]))];
    let message = message(vec![
        LinkAttribute::IfName(name.as_str().into()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Group(marks::LINK_GROUP),
        LinkAttribute::Link(of),
        LinkAttribute::LinkInfo(info),
    ]);
    rt.request(&Request::NewLink(message), CREATE | EXCL)?;
    finish(rt, name, None, owner).inspect_err(|_| {
        // Nothing is left of a refused operation. Should this fail too, the next look shows the link.
        let _ = delete_named(rt, name);
    })
}

/// A station on the segment of an interface.
pub(crate) struct Station<'a> {
    /// The interface's index in the namespace that is asked.
    pub parent: u32,
    pub mode: MacvlanMode,
    pub inner: &'a IfName,
    pub into: BorrowedFd<'a>,
    pub mac: Mac,
    pub mtu: u32,
}

/// It is born where it belongs.
pub(crate) fn add_station(rt: &mut Rtnetlink, station: &Station<'_>) -> Result<(), Refused> {
    let mode = match station.mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
    };
    let info =
        vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]))];
    let attributes = vec![
        LinkAttribute::IfName(station.inner.as_str().into()),
        LinkAttribute::Address(station.mac.0.to_vec()),
        LinkAttribute::Mtu(station.mtu),
        LinkAttribute::Group(marks::LINK_GROUP),
        LinkAttribute::Link(station.parent),
        LinkAttribute::NetNsFd(station.into.as_raw_fd()),
        LinkAttribute::LinkInfo(info),
    ];
    rt.request(&Request::NewLink(message(attributes)), CREATE | EXCL)
}

/// What cannot be said in the message that makes a link: its owner, that an IPv4 address which is deleted does not
/// take the others of its subnet along (`promote_secondaries`), and what it might have inherited from the first namespace
/// (`route_localnet`).
pub(crate) fn finish(rt: &mut Rtnetlink, name: &IfName, mtu: Option<u32>, owner: &Owner) -> Result<(), Refused> {
    let mut attributes = finishing(name, owner);
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    rt.request(&Request::SetLink(message(attributes)), 0)
}

/// [`finish`] for the host's end of a pair, and how the bridge is to treat it.
pub(crate) fn finish_port(rt: &mut Rtnetlink, name: &IfName, owner: &Owner, port: BridgePort) -> Result<(), Refused> {
    let mut attributes = finishing(name, owner);
    attributes.push(port_settings(port));
    rt.request(&Request::NewLink(message(attributes)), 0)
}

fn finishing(name: &IfName, owner: &Owner) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfName(name.as_str().into()),
        LinkAttribute::IfAlias(marks::alias(owner)),
        ipv4_settings(&[(PROMOTE_SECONDARIES, true), (ROUTE_LOCALNET, false)]),
    ]
}

fn ipv4_settings(settings: &[(u16, bool)]) -> LinkAttribute {
    let mut inet = Writer::default();
    inet.nest(IFLA_INET_CONF, |conf| {
        for (setting, on) in settings {
            conf.bytes(*setting, &u32::from(*on).to_ne_bytes());
        }
    });
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Other(DefaultNla::new(libc::AF_INET as u16 | NESTED, inet.0))])
}

/// Let packets of 127.0.0.0/8 pass a link, or not.
pub(crate) fn set_route_localnet(rt: &mut Rtnetlink, index: u32, on: bool) -> Result<(), Refused> {
    set(rt, index, ipv4_settings(&[(ROUTE_LOCALNET, on)]))
}

/// Change how its bridge treats a port. Only a message that could also make a link carries this (`rtnl_changelink`).
pub(crate) fn set_port(rt: &mut Rtnetlink, index: u32, port: BridgePort) -> Result<(), Refused> {
    let mut message = message(vec![port_settings(port)]);
    message.header.index = index;
    rt.request(&Request::NewLink(message), 0)
}

fn port_settings(port: BridgePort) -> LinkAttribute {
    let settings = vec![
        InfoBridgePort::Isolated(port.isolated),
        InfoBridgePort::HairpinMode(port.hairpin),
        InfoBridgePort::GroupFwdMask(if port.groups { ALL_GROUPS } else { 0 }),
    ];
    LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(settings)),
    ])
}

/// Change something of a link that is known by its index.
pub(crate) fn set(rt: &mut Rtnetlink, index: u32, attribute: LinkAttribute) -> Result<(), Refused> {
    let mut message = message(vec![attribute]);
    message.header.index = index;
    rt.request(&Request::SetLink(message), 0)
}

pub(crate) fn set_up(rt: &mut Rtnetlink, index: u32, up: bool) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    message.header.change_mask = LinkFlags::Up;
    rt.request(&Request::SetLink(message), 0)
}

pub(crate) fn delete(rt: &mut Rtnetlink, index: u32) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    rt.request(&Request::DelLink(message), 0)
}

pub(crate) fn delete_named(rt: &mut Rtnetlink, name: &IfName) -> Result<(), Refused> {
    rt.request(&Request::DelLink(message(vec![LinkAttribute::IfName(name.as_str().into())])), 0)
}

pub(crate) fn named(rt: &mut Rtnetlink, name: &IfName) -> Result<Seen, Refused> {
    let attributes = vec![LinkAttribute::IfName(name.as_str().into()), without_counters()];
    one(rt, message(attributes))
}

pub(crate) fn with_index(rt: &mut Rtnetlink, index: u32) -> Result<Seen, Refused> {
    let mut message = message(vec![without_counters()]);
    message.header.index = index;
    one(rt, message)
}

fn one(rt: &mut Rtnetlink, message: LinkMessage) -> Result<Seen, Refused> {
    match rt.get(&Request::GetLink(message))? {
        Request::NewLink(link) => Seen::of(&link).ok_or_else(|| Refused::plain(libc::ENODEV)),
        _ => Err(Refused::plain(libc::EPROTO)),
    }
}

/// All links, strangers' too.
pub(crate) fn all(rt: &mut Rtnetlink) -> Result<Vec<Seen>, Refused> {
    let messages = rt.dump(&Request::GetLink(message(vec![without_counters()])))?;
    let links = messages.iter().filter_map(|message| match message {
        Request::NewLink(link) => Seen::of(link),
        _ => None,
    });
    Ok(links.collect())
}

fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

/// Counters are the larger part of an answer, and nobody here reads them.
fn without_counters() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

impl Seen {
    /// `None` for a link whose name is none to us.
    pub fn of(message: &LinkMessage) -> Option<Seen> {
        let mut name = None;
        let mut seen = Seen {
            index: message.header.index,
            name: IfName::loopback(),
            kind: Kind::Other,
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            port: BridgePort::default(),
            route_localnet: false,
            rp_filter: 0,
            peer: None,
            peer_space: None,
            no_ipv6: false,
            speaks_ipv6: false,
            ours: false,
            owner: None,
        };
        if message.header.flags.contains(LinkFlags::Loopback) {
            seen.kind = Kind::Loopback;
        }
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = text.parse().ok(),
                LinkAttribute::Address(bytes) => seen.mac = bytes.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => seen.mtu = *mtu,
                LinkAttribute::Controller(index) => seen.master = Some(*index),
                LinkAttribute::Link(index) => seen.peer = Some(*index),
                LinkAttribute::LinkNetNsId(id) => seen.peer_space = Some(*id),
                LinkAttribute::Group(group) => seen.ours |= *group == marks::LINK_GROUP,
                LinkAttribute::IfAlias(alias) => {
                    seen.owner = marks::owner(alias);
                    seen.ours |= alias.starts_with(marks::ALIAS);
                }
                LinkAttribute::LinkInfo(infos) => {
                    seen.kind = kind(infos).unwrap_or(seen.kind);
                    seen.port = port(infos);
                }
                LinkAttribute::AfSpecUnspec(families) => {
                    (seen.speaks_ipv6, seen.no_ipv6) = ipv6(families);
                    (seen.route_localnet, seen.rp_filter) = ipv4(families);
                }
                _ => {}
            }
        }
        seen.name = name?;
        Some(seen)
    }
}

fn kind(infos: &[LinkInfo]) -> Option<Kind> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Bridge) => Some(Kind::Bridge),
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        LinkInfo::Kind(InfoKind::Vlan) => Some(vlan(infos).map_or(Kind::Other, Kind::Vlan)),
        LinkInfo::Kind(InfoKind::MacVlan) => Some(Kind::Macvlan(mode(infos))),
        LinkInfo::Kind(_) => Some(Kind::Other),
        _ => None,
    })
}

fn vlan(infos: &[LinkInfo]) -> Option<u16> {
    let settings = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(settings)) => Some(settings),
        _ => None,
    });
    settings?.iter().find_map(|setting| if let InfoVlan::Id(id) = setting { Some(*id) } else { None })
}

fn mode(infos: &[LinkInfo]) -> Option<MacvlanMode> {
    let settings = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::MacVlan(settings)) => Some(settings),
        _ => None,
    });
    settings?.iter().find_map(|setting| match setting {
        InfoMacVlan::Mode(MacVlanMode::Bridge) => Some(MacvlanMode::Bridge),
        InfoMacVlan::Mode(MacVlanMode::Private) => Some(MacvlanMode::Private),
        InfoMacVlan::Mode(MacVlanMode::Vepa) => Some(MacvlanMode::Vepa),
        _ => None,
    })
}

fn port(infos: &[LinkInfo]) -> BridgePort {
    let mut port = BridgePort::default();
    for info in infos {
        let LinkInfo::PortData(InfoPortData::BridgePort(settings)) = info else { continue };
        for setting in settings {
            match setting {
                InfoBridgePort::Isolated(on) => port.isolated = *on,
                InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
                InfoBridgePort::GroupFwdMask(mask) => port.groups = *mask == ALL_GROUPS,
                _ => {}
            }
        }
    }
    port
}

/// `route_localnet` and `rp_filter` of a link's settings of IPv4.
fn ipv4(families: &[AfSpecUnspec]) -> (bool, u8) {
    let inet = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet(attributes) => Some(attributes),
        _ => None,
    });
    let mut settings = inet.into_iter().flatten();
    let settings = settings.find_map(|a| if let AfSpecInet::DevConf(conf) = a { Some(conf) } else { None });
    settings.map_or((false, 0), |conf| (conf.route_localnet != 0, u8::try_from(conf.rp_filter).unwrap_or_default()))
}

/// Whether the link has IPv6 settings at all, and `disable_ipv6` of them: they come along with the link, so nobody has
/// to go where it is.
fn ipv6(families: &[AfSpecUnspec]) -> (bool, bool) {
    let inet6 = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(attributes) => Some(attributes),
        _ => None,
    });
    let mut settings = inet6.into_iter().flatten();
    match settings.find_map(|a| if let AfSpecInet6::DevConf(conf) = a { Some(conf) } else { None }) {
        Some(conf) => (true, conf.disable_ipv6 != 0),
        None => (false, false),
    }
}
