//! Frames as no well-behaved host sends them. Nothing here checks that they make sense.

use crate::probe::checksum;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// `ETH_P_*` of linux/if_ether.h.
pub mod kind {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A customer's VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// A provider's VLAN tag (IEEE 802.1ad).
    pub const PROVIDER_VLAN: u16 = 0x88a8;
}

/// `02:42:ac:11:00:02` as bytes.
#[track_caller]
pub fn mac(text: &str) -> Mac {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_else(|| panic!("`{text}` is no Ethernet address"))
}

/// A whole frame: `kind` is the EtherType, or the length in a frame of IEEE 802.3.
pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// What stands between a VLAN tag's own EtherType and the rest: the tag of VLAN `id`, and the EtherType of what follows.
pub fn tag(id: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &kind.to_be_bytes(), payload].concat()
}

/// An ARP message (RFC 826) for IPv4 on Ethernet: operation 1 asks, 2 answers.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let (from, to) = (sender.1.octets(), target.1.octets());
    [&head[..], &operation.to_be_bytes(), &sender.0, &from, &target.0, &to].concat()
}

/// An IPv4 packet (RFC 791) without options.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = ((20 + payload.len()) as u16).to_be_bytes();
    let head = [0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0];
    with_checksum([&head[..], &from.octets(), &to.octets(), payload].concat())
}

/// An IPv4 packet with the checksum that its header should have.
pub fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let length = usize::from(packet[0] & 0xf) * 4;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..length]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet
}

/// A datagram (RFC 768) without a checksum, which IPv4 allows.
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// An ICMP message (RFC 792).
pub fn icmp(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], body].concat();
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// An IPv6 packet (RFC 8200) with the hop limit of neighbour discovery, 255.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, length[0], length[1], next, 255][..], &from.octets(), &to.octets(), payload].concat()
}

/// An ICMPv6 message (RFC 4443).
pub fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    with_sum6(from, to, ICMPV6, [&[kind, 0, 0, 0], body].concat(), 2)
}

/// A datagram with the checksum that IPv6 wants of it.
pub fn udp6(from: Ipv6Addr, to: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    with_sum6(from, to, UDP, udp(ports.0, ports.1, payload), 6)
}

/// The checksum of what IPv6 carries covers the addresses too (RFC 8200 §8.1); `at` is its place.
fn with_sum6(from: Ipv6Addr, to: Ipv6Addr, next: u8, mut message: Vec<u8>, at: usize) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, next], &message].concat();
    message[at..at + 2].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    message
}

/// `IPPROTO_ICMP`
pub const ICMP: u8 = 1;
/// `IPPROTO_TCP`
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`
pub const UDP: u8 = 17;
/// `IPPROTO_ICMPV6`
pub const ICMPV6: u8 = 58;

/// An IPv6 packet that holds one ICMPv6 message.
pub fn icmp6_packet(from: Ipv6Addr, to: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    ipv6(from, to, ICMPV6, &icmp6(from, to, kind, body))
}

/// The option of neighbour discovery that tells an Ethernet address (RFC 4861 §4.6.1): kind 1 is the source's, 2 the target's.
pub fn nd_ethernet(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}
