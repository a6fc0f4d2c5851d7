//! Which address and which subnet are free.

use crate::ids::ContainerId;
use crate::world::{Rest, Subnet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long a freed address rests before anybody else gets it, in seconds.
pub const REST_SECS: u64 = 60;

/// An address as a number, so that both families share one arithmetic.
pub trait Number: Copy + Ord + Into<IpAddr> {
    /// Of an address.
    const BITS: u8;
    /// The last address of a subnet is its broadcast address.
    const BROADCAST: bool;
    /// As a number.
    fn number(self) -> u128;
    /// Of a number; higher bits than the family has are lost.
    fn of(number: u128) -> Self;
}

impl Number for Ipv4Addr {
    const BITS: u8 = 32;
    const BROADCAST: bool = true;
    fn number(self) -> u128 {
        self.to_bits().into()
    }
    fn of(number: u128) -> Self {
        // Only numbers that came from IPv4 addresses arrive here.
        Ipv4Addr::from_bits(number as u32)
    }
}

impl Number for Ipv6Addr {
    const BITS: u8 = 128;
    const BROADCAST: bool = false;
    fn number(self) -> u128 {
        self.to_bits()
    }
    fn of(number: u128) -> Self {
        Ipv6Addr::from_bits(number)
    }
}

/// A block of addresses of one family.
pub trait Block: Copy {
    /// Its addresses.
    type Addr: Number;
    /// The first.
    fn first(&self) -> Self::Addr;
    /// The last.
    fn last(&self) -> Self::Addr;
    /// Length of the prefix, in bits.
    fn prefix(&self) -> u8;

    /// Is the address one of it?
    fn holds(&self, addr: Self::Addr) -> bool {
        self.first() <= addr && addr <= self.last()
    }

    /// Addresses that nobody may have: the subnet's own (RFC 4291 2.6.1 for IPv6) and IPv4's broadcast; none where
    /// there are but two or fewer (RFC 3021, RFC 6164).
    fn unusable(&self, addr: Self::Addr) -> bool {
        let roomy = self.prefix() + 1 < Self::Addr::BITS;
        roomy && (addr == self.first() || (Self::Addr::BROADCAST && addr == self.last()))
    }
}

impl Block for Ipv4Net {
    type Addr = Ipv4Addr;
    fn first(&self) -> Ipv4Addr {
        self.network()
    }
    fn last(&self) -> Ipv4Addr {
        self.broadcast()
    }
    fn prefix(&self) -> u8 {
        self.prefix_len()
    }
}

impl Block for Ipv6Net {
    type Addr = Ipv6Addr;
    fn first(&self) -> Ipv6Addr {
        self.network()
    }
    fn last(&self) -> Ipv6Addr {
        self.broadcast()
    }
    fn prefix(&self) -> u8 {
        self.prefix_len()
    }
}

/// How far a subnet is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Addresses that are given out, reserved, a gateway's, or nobody's to have.
    pub used: u128,
    /// Addresses of the range that can still be chosen.
    pub free: u128,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The container.
    pub container: &'a ContainerId,
    /// Seconds of the caller's clock.
    pub now: u64,
}

impl<N: Block> Subnet<N, N::Addr> {
    /// Is the address one that an endpoint could ever have? Not the subnet's own, the broadcast, a gateway or reserved.
    pub fn assignable(&self, addr: N::Addr) -> bool {
        self.net.holds(addr)
            && !self.net.unusable(addr)
            && addr != self.gateway
            && self.default_gateway != Some(addr)
            && !self.reserved.values().any(|reserved| *reserved == addr)
    }

    /// The address for a new endpoint: the one that rests for the same container, else the lowest that is free and
    /// rested, else the one that has rested longest. `None`: all are taken.
    pub fn next_free(
        &self,
        taken: &dyn Fn(N::Addr) -> bool,
        resting: &BTreeMap<IpAddr, Rest>,
        asker: Asker<'_>,
    ) -> Option<N::Addr> {
        let free = |addr: N::Addr| self.range.holds(addr) && self.assignable(addr) && !taken(addr);
        let (first, last) = (self.range.first().number(), self.range.last().number());
        // Each address that is passed over is a taken, a resting or one of few fixed ones, so this ends soon.
        let mut rested = (first..=last).map(N::Addr::of).filter(|addr| free(*addr));
        let own = |addr: &N::Addr| {
            let rest = resting.get(&(*addr).into());
            rest.is_some_and(|rest| &rest.container == asker.container)
        };
        let sleeping = || {
            let of_family = |addr: &IpAddr| self.number_of(*addr);
            resting
                .iter()
                .filter_map(move |(addr, rest)| Some((of_family(addr)?, rest)))
                .filter(|(addr, _)| free(*addr))
        };
        let given_back = sleeping().map(|(addr, _)| addr).find(own);
        given_back
            .or_else(|| rested.find(|addr| !resting.get(&(*addr).into()).is_some_and(|rest| rest.at(asker.now))))
            .or_else(|| sleeping().min_by_key(|(addr, rest)| (rest.since, *addr)).map(|(addr, _)| addr))
    }

    /// How many of its addresses nobody else can have, when these are given out.
    pub fn usage(&self, given: impl IntoIterator<Item = N::Addr>) -> Usage {
        let ends = [self.net.first(), self.net.last()].into_iter().filter(|addr| self.net.unusable(*addr));
        let fixed = ends.chain([self.gateway]).chain(self.default_gateway).chain(self.reserved.values().copied());
        let used: BTreeSet<N::Addr> = fixed.chain(given).filter(|addr| self.net.holds(*addr)).collect();
        let (first, last) = (self.range.first().number(), self.range.last().number());
        let taken = used.iter().filter(|addr| self.range.holds(**addr)).count() as u128;
        // Only of all of IPv6 there is one more than can be counted.
        Usage { used: used.len() as u128, free: (last - first).saturating_add(1) - taken }
    }

    fn number_of(&self, addr: IpAddr) -> Option<N::Addr> {
        match (addr, N::Addr::BITS) {
            (IpAddr::V4(v4), 32) => Some(N::Addr::of(v4.number())),
            (IpAddr::V6(v6), 128) => Some(N::Addr::of(v6.number())),
            _ => None,
        }
    }
}

impl Rest {
    /// Does it still rest at that time?
    pub fn at(&self, now: u64) -> bool {
        now < self.since.saturating_add(REST_SECS)
    }
}

/// A block from which subnets are cut (`--default-address-pool base=…,size=…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All of it.
    pub base: IpNet,
    /// Prefix length of each subnet.
    pub size: u8,
}

/// Docker's default pools: 172.17 to 172.31 as /16, then 192.168.0.0/16 as /20.
pub fn default_pools() -> Vec<Pool> {
    let sixteen = |second: u8| Ipv4Net::new_assert(Ipv4Addr::new(172, second, 0, 0), 16);
    let class_c = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16);
    let big = (17..=31).map(|second| Pool { base: sixteen(second).into(), size: 16 });
    big.chain([Pool { base: class_c.into(), size: 20 }]).collect()
}

/// The unique local block of a host (RFC 4193: `fd`, a 40-bit global id), cut into subnets of 64 bits.
pub fn unique_local(global_id: [u8; 5]) -> Pool {
    let [a, b, c, d, e] = global_id;
    let base = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    Pool { base: Ipv6Net::new_assert(base, 48).into(), size: 64 }
}

/// The first subnet of the pools that overlaps nothing of what is taken. A default route takes nothing.
pub fn free_subnet(pools: &[Pool], v6: bool, taken: &[IpNet]) -> Option<IpNet> {
    let fits = |pool: &&Pool| matches!(pool.base, IpNet::V6(_)) == v6;
    pools.iter().filter(fits).find_map(|pool| pool.first_clear(taken))
}

/// Do two blocks share an address?
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

impl Pool {
    fn first_clear(&self, taken: &[IpNet]) -> Option<IpNet> {
        let (bits, base) = (self.base.max_prefix_len(), self.base.trunc());
        if self.size < base.prefix_len() || self.size > bits {
            return None;
        }
        let in_way: Vec<(u128, u128)> =
            taken.iter().filter(|net| net.prefix_len() > 0 && overlap(net, &base)).map(ends).collect();
        let (mut at, last) = ends(&base);
        let host_bits = u32::from(bits - self.size);
        let width = 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        loop {
            let end = at | width;
            let Some((_, past)) = in_way.iter().find(|(from, to)| *from <= end && at <= *to) else {
                return self.subnet(at);
            };
            // On to the first subnet behind what is in the way.
            at = (past.max(&end) | width).checked_add(1)?;
            if at > last {
                return None;
            }
        }
    }

    fn subnet(&self, at: u128) -> Option<IpNet> {
        let addr: IpAddr = match self.base {
            IpNet::V4(_) => Ipv4Addr::of(at).into(),
            IpNet::V6(_) => Ipv6Addr::of(at).into(),
        };
        IpNet::new(addr, self.size).ok()
    }
}

fn ends(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (net.first().number(), net.last().number()),
        IpNet::V6(net) => (net.first().number(), net.last().number()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn subnet(net: &str, range: &str, gateway: &str) -> Subnet<Ipv4Net, Ipv4Addr> {
        let (net, range) = (net.parse().unwrap(), range.parse().unwrap());
        Subnet { range, ..Subnet::new(net, gateway.parse().unwrap()) }
    }

    fn who(digit: &str) -> ContainerId {
        digit.repeat(64).parse().unwrap()
    }

    fn all(subnet: &Subnet<Ipv4Net, Ipv4Addr>) -> Vec<String> {
        let (mut taken, container) = (BTreeSet::new(), who("a"));
        let asker = Asker { container: &container, now: 0 };
        while let Some(addr) = subnet.next_free(&|addr| taken.contains(&addr), &BTreeMap::new(), asker) {
            taken.insert(addr);
        }
        taken.into_iter().map(|addr| addr.to_string()).collect()
    }

    #[test]
    fn every_usable_address_is_given_once() {
        assert_eq!(all(&subnet("10.0.0.0/29", "10.0.0.0/29", "10.0.0.1")).join(" "), {
            "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"
        });
        assert_eq!(all(&subnet("10.0.0.0/31", "10.0.0.0/31", "10.0.0.0")), ["10.0.0.1"], "point to point");
        assert!(all(&subnet("10.0.0.1/32", "10.0.0.1/32", "10.0.0.1")).is_empty());
        let fixed = all(&subnet("192.168.0.128/25", "192.168.0.192/26", "192.168.0.129"));
        assert_eq!((fixed.len(), fixed[0].as_str(), fixed[62].as_str()), (63, "192.168.0.192", "192.168.0.254"));
        let mut odd = subnet("10.0.0.0/29", "10.0.0.0/29", "10.0.0.4");
        odd.reserved.insert("router".into(), "10.0.0.2".parse().unwrap());
        odd.default_gateway = Some("10.0.0.6".parse().unwrap());
        assert_eq!(all(&odd), ["10.0.0.1", "10.0.0.3", "10.0.0.5"]);
    }

    #[test]
    fn a_freed_address_rests_except_for_its_container() {
        let subnet = subnet("10.0.0.0/29", "10.0.0.0/29", "10.0.0.1");
        let rest = |addr: &str, since, digit| (addr.parse().unwrap(), Rest { since, container: who(digit) });
        let resting = BTreeMap::from([rest("10.0.0.2", 100, "a"), rest("10.0.0.3", 90, "b"), rest("fd00::9", 1, "a")]);
        let (a, c) = (who("a"), who("c"));
        let next = |taken: &[&str], container, now| {
            let taken: BTreeSet<Ipv4Addr> = taken.iter().map(|addr| addr.parse().unwrap()).collect();
            let taken = |addr| taken.contains(&addr);
            subnet.next_free(&taken, &resting, Asker { container, now }).map(|addr| addr.to_string())
        };
        assert_eq!(next(&[], &a, 101).unwrap(), "10.0.0.2", "its own at once");
        assert_eq!(next(&["10.0.0.2"], &a, 101).unwrap(), "10.0.0.4", "not if somebody has it");
        assert_eq!(next(&[], &c, 101).unwrap(), "10.0.0.4");
        assert_eq!(next(&[], &c, 150).unwrap(), "10.0.0.3", "after a minute it is as good as others");
        let rest_taken = ["10.0.0.4", "10.0.0.5", "10.0.0.6"];
        assert_eq!(next(&rest_taken, &c, 101).unwrap(), "10.0.0.3", "nothing else left: the longest at rest");
    }

    #[test]
    fn ipv6_starts_after_the_subnets_own_address() {
        let net: Ipv6Net = "fd00::/64".parse().unwrap();
        let gateway = "fd00::1".parse().unwrap();
        let subnet = Subnet::new(net, gateway);
        let container = who("a");
        let asker = Asker { container: &container, now: 0 };
        let next = subnet.next_free(&|_| false, &BTreeMap::new(), asker).unwrap();
        assert_eq!(next.to_string(), "fd00::2");
    }

    fn free(taken: &[&str]) -> Option<String> {
        let taken: Vec<IpNet> = taken.iter().map(|net| net.parse().unwrap()).collect();
        free_subnet(&default_pools(), false, &taken).map(|net| net.to_string())
    }

    #[test]
    fn subnets_are_chosen_clear_of_what_is_there() {
        assert_eq!(free(&["0.0.0.0/0"]).unwrap(), "172.17.0.0/16");
        assert_eq!(free(&["172.17.5.0/24", "172.18.0.0/15"]).unwrap(), "172.20.0.0/16");
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/20", "192.168.17.1/32"]).unwrap(), "192.168.32.0/20");
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), None);
        let mut taken = Vec::new();
        while let Some(net) = free_subnet(&default_pools(), false, &taken) {
            taken.push(net);
        }
        assert_eq!(taken.len(), 31);
    }

    #[test]
    fn the_unique_local_block_is_cut_in_64s() {
        let pools = [unique_local([1, 2, 3, 4, 5])];
        let first = free_subnet(&pools, true, &[]).unwrap();
        assert_eq!(first.to_string(), "fd01:203:405::/64");
        assert_eq!(free_subnet(&pools, true, &[first]).unwrap().to_string(), "fd01:203:405:1::/64");
        assert_eq!(free_subnet(&pools, false, &[]), None);
        let whole = [Pool { base: "::/0".parse().unwrap(), size: 0 }];
        assert_eq!(free_subnet(&whole, true, &["fd00::/8".parse().unwrap()]), None);
    }
}
