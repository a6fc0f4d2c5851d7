//! The host's namespace and its sandboxes: carries out operations.

use crate::fault::Refused;
use crate::link::{self, Kind, Pair, Station};
use crate::listeners::{Door, Doors};
use crate::nft::Nft;
use crate::rtnetlink::Rtnetlink;
use crate::spaces::{Space, Spaces};
use crate::{Fault, address, conntrack, route, sysctl};
use netlink_packet_route::RouteNetlinkMessage as Request;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use plan::apply::Kernel;
use plan::ids::{IfName, SandboxId};
use plan::netstate::{BridgePort, Errno, NetState, Ns, Op};
use plan::nft::Table;
use plan::stub;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the host's end of a pair may take to vanish after its sandbox was given up (here about 0.1 s), before it is
/// shown again: somebody holds the namespace.
const DYING: Duration = Duration::from_secs(5);

/// Hands and eyes for the namespace in which it was opened, and for the sandboxes that are pinned in its directory.
///
/// Every call blocks until the kernel is done. Meant for one thread of its own; it keeps two netlink sockets for each
/// sandbox at most, and a thread that visits the sandboxes.
pub struct Host {
    pub(crate) rt: Rtnetlink,
    pub(crate) nft: Nft,
    pub(crate) spaces: Spaces,
    pub(crate) dying: Dying,
    doors: Doors,
    /// What stands in each sandbox that has a resolver.
    pub(crate) stub: Table,
    /// Links that cannot speak IPv6 and were told not to: the setting itself does not exist for them.
    pub(crate) silent: BTreeSet<(Ns, IfName)>,
    /// Further settings of links, as they were set.
    pub(crate) sysctls: BTreeMap<(Ns, IfName), BTreeMap<String, String>>,
}

impl Host {
    /// Open the calling thread's network namespace, and the directory of pinned namespaces in it (`EXEC_ROOT/netns`),
    /// which is made if it is not there, and made a private mount of its own.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN and CAP_SYS_ADMIN in the namespace, or without nftables in the kernel.
    pub fn open(pins: &Path) -> Result<Host, Fault> {
        let rt = Rtnetlink::open().map_err(|source| Fault::Socket { family: "routes", source })?;
        let nft = Nft::open().map_err(|source| Fault::Socket { family: "nftables", source })?;
        Ok(Host {
            rt,
            nft,
            spaces: Spaces::open(pins)?,
            dying: Dying::default(),
            doors: Doors::Kept(BTreeMap::new()),
            stub: stub::table(),
            silent: BTreeSet::new(),
            sysctls: BTreeMap::new(),
        })
    }

    /// The file by which a sandbox's namespace is entered. See `spaces`: only from this mount namespace or a later
    /// copy of it.
    pub fn pin(&self, id: &SandboxId) -> PathBuf {
        self.spaces.pin(id)
    }

    /// A descriptor of a sandbox's namespace; `None` if there is none. It holds the namespace while it is open.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn namespace(&mut self, id: &SandboxId) -> Result<Option<std::os::fd::OwnedFd>, Errno> {
        let about = |refused: Refused| refused.about(Ns::Of(id.clone()));
        let Some(space) = self.spaces.get(id).map_err(about)? else { return Ok(None) };
        space.as_fd().try_clone_to_owned().map(Some).map_err(|err| about(err.into()))
    }

    /// Do something inside a sandbox's namespace, on a thread that comes back from there: open a listener, for one.
    /// Sockets opened there hold the namespace while they are open.
    ///
    /// # Errors
    /// `Missing` if there is no such sandbox; else what `job` failed with.
    pub fn inside<T: Send + 'static>(
        &mut self,
        id: &SandboxId,
        job: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Errno> {
        let done = self.spaces.inside(id, job).map_err(|refused| refused.about(Ns::Of(id.clone())))?;
        done.ok_or_else(|| Errno::Missing(Ns::Of(id.clone()).to_string()))
    }

    /// From now on the resolver's sockets in sandboxes go there, and so does the word that a sandbox goes. Until then they stay
    /// here.
    pub fn hand_listeners_to(&mut self, to: impl FnMut(Door) + Send + 'static) {
        self.doors = Doors::HandedOver(Box::new(to));
    }

    /// The port numbers of our sockets, by which `watch` tells our own doing from others'.
    pub(crate) fn ports(&self) -> [u32; 2] {
        [self.rt.0.port(), self.nft.socket.port()]
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::AddSpace(id) => self.spaces.add(id).map_err(|refused| refused.about(Ns::Of(id.clone()))),
            Op::DelSpace(id) => self.del_space(id),
            Op::AddBridge { name, mac, mtu, owner } => {
                let add = |host: &mut Host| link::add_bridge(&mut host.rt, name, *mac, *mtu, owner);
                self.make(name, add).map_err(|refused| refused.about(format!("link {name}")))?;
                self.silent.remove(&(Ns::Host, name.clone()));
                Ok(())
            }
            Op::AddVeth { .. } => self.add_veth(op),
            Op::AddVlan { name, of, id, mtu, owner } => {
                let of = self.index(of)?;
                let add = |host: &mut Host| link::add_vlan(&mut host.rt, name, of, *id, *mtu, owner);
                self.make(name, add).map_err(|refused| refused.about(format!("link {name}")))
            }
            Op::AddMacvlan { .. } => self.add_macvlan(op),
            Op::DelLink { ns, name } => self.with_link(ns, name, |rt, seen| link::delete(rt, seen.index)),
            Op::SetMaster { name, master } => {
                let master = master.as_ref().map(|master| self.bridge(master)).transpose()?.unwrap_or(0);
                let controller = LinkAttribute::Controller(master);
                self.with_link(&Ns::Host, name, |rt, seen| link::set(rt, seen.index, controller))
            }
            Op::SetPort { name, port } => self.with_link(&Ns::Host, name, |rt, seen| match seen.master {
                Some(_) => link::set_port(rt, seen.index, *port),
                None => Err(Refused::plain(libc::EINVAL)),
            }),
            Op::SetRouteLocalnet { name, on } => {
                self.with_link(&Ns::Host, name, |rt, seen| link::set_route_localnet(rt, seen.index, *on))
            }
            Op::SetMtu { ns, name, mtu } => self.set_mtu(ns, name, *mtu),
            Op::SetMac { ns, name, mac } => {
                let address = LinkAttribute::Address(mac.0.to_vec());
                self.with_link(ns, name, |rt, seen| link::set(rt, seen.index, address))
            }
            Op::SetUp { ns, name, up } => self.with_link(ns, name, |rt, seen| link::set_up(rt, seen.index, *up)),
            Op::SetNoIpv6 { ns, name, off } => self.set_no_ipv6(ns, name, *off),
            Op::SetSysctls { ns, name, sysctls } => self.set_sysctls(ns, name, sysctls),
            Op::AddAddr { ns, name, addr } => {
                let add = self.with_link_raw(ns, name, |rt, seen| address::add(rt, seen.index, *addr))?;
                add.map_err(|refused| refused.about(format!("address {addr} on {name}")))
            }
            Op::DelAddr { ns, name, addr } => {
                let gone = self.with_link_raw(ns, name, |rt, seen| address::delete(rt, seen.index, *addr))?;
                gone.map_err(|refused| match refused.errno {
                    libc::EADDRNOTAVAIL => Errno::Missing(format!("address {addr} on {name}")),
                    _ => refused.about(format!("address {addr} on {name}")),
                })
            }
            Op::AddRoute { ns, route } => {
                let add = |rt: &mut Rtnetlink, seen: &link::Seen| route::add(rt, seen.index, route.to, route.via);
                self.with_link_raw(ns, &route.dev, add)?.map_err(|refused| refused.about(route))
            }
            Op::DelRoute { ns, route } => {
                let delete = |rt: &mut Rtnetlink, seen: &link::Seen| route::delete(rt, seen.index, route.to, route.via);
                self.with_link_raw(ns, &route.dev, delete)?.map_err(|refused| refused.about(route))
            }
            Op::SetForwarding { ns, family } => {
                let family = *family;
                self.in_space(ns, move || sysctl::forward(family), || format!("{family:?} in {ns}"))
            }
            Op::ReplaceTable { ns, name, table } => self.nft_of(ns)?.replace(name, table),
            Op::SetResolver { id, on } => self.set_resolver(id, *on),
            Op::DelTable { ns, name } => self.nft_of(ns)?.delete(name),
            Op::ChangeElements { ns, table, changes } => self.nft_of(ns)?.change(table, changes),
            Op::ForgetFlows(flows) => conntrack::forget(&mut self.nft.socket, &mut self.rt, flows, |_| false)
                .map_err(|refused| refused.about("tracked flows")),
        }
    }

    fn del_space(&mut self, id: &SandboxId) -> Result<(), Errno> {
        let about = |refused: Refused| refused.about(Ns::Of(id.clone()));
        let ends = match self.spaces.get(id).map_err(about)? {
            Some(space) => outer_ends(&mut self.rt, space).map_err(about)?,
            None => Vec::new(),
        };
        self.delete_stations(id).map_err(about)?;
        // First, for its sockets hold the namespace.
        self.doors.take(Door::Closed(id.clone()));
        self.spaces.delete(id).map_err(about)?;
        self.sysctls.retain(|(ns, _), _| *ns != Ns::Of(id.clone()));
        self.dying.add(ends);
        Ok(())
    }

    /// The kernel takes its time with a namespace, and as long as a station is there nobody else of its parent can have its
    /// Ethernet address: not even the same container, started again.
    fn delete_stations(&mut self, id: &SandboxId) -> Result<(), Refused> {
        let Some(space) = self.spaces.get(id)? else { return Ok(()) };
        for seen in link::all(&mut space.rt)? {
            if matches!(seen.kind, Kind::Macvlan(_)) && seen.ours {
                match link::delete(&mut space.rt, seen.index) {
                    Err(refused) if refused.errno != libc::ENODEV => return Err(refused),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn add_macvlan(&mut self, op: &Op) -> Result<(), Errno> {
        let Op::AddMacvlan { parent, mode, inner, into, mac, mtu, owner } = op else { return Ok(()) };
        let about = |refused: Refused| refused.about(format!("link {inner} on {parent} in {}", Ns::Of(into.clone())));
        let missing = || Errno::Missing(Ns::Of(into.clone()).to_string());
        let index = self.index(parent)?;
        let space = self.spaces.get(into).map_err(about)?.ok_or_else(missing)?;
        let station = Station { parent: index, mode: *mode, inner, into: space.as_fd(), mac: *mac, mtu: *mtu };
        link::add_station(&mut self.rt, &station).map_err(about)?;
        link::finish(&mut space.rt, inner, None, owner).map_err(|refused| {
            // Nothing is left of a refused operation. Should this fail too, the next look shows the link.
            let _ = link::delete_named(&mut space.rt, inner);
            about(refused)
        })?;
        self.silent.remove(&(Ns::Of(into.clone()), inner.clone()));
        self.sysctls.remove(&(Ns::Of(into.clone()), inner.clone()));
        Ok(())
    }

    /// The index of an interface of the host's, whoever made it.
    fn index(&mut self, name: &IfName) -> Result<u32, Errno> {
        let seen = link::named(&mut self.rt, name).map_err(|refused| refused.about(format!("link {name}")))?;
        Ok(seen.index)
    }

    fn set_resolver(&mut self, id: &SandboxId, on: bool) -> Result<(), Errno> {
        let about = |refused: Refused| refused.about(format!("the resolver's sockets in {}", Ns::Of(id.clone())));
        let missing = || Errno::Missing(Ns::Of(id.clone()).to_string());
        if !on {
            self.doors.take(Door::Closed(id.clone()));
            let space = self.spaces.get(id).map_err(about)?.ok_or_else(missing)?;
            space.listens = false;
            return match self.nft_of(&Ns::Of(id.clone()))?.delete(&stub::name()) {
                Err(Errno::Missing(_)) | Ok(()) => Ok(()),
                Err(errno) => Err(errno),
            };
        }
        let opened = self.spaces.listen(id).map_err(about)?.ok_or_else(missing)?;
        if let Some(listeners) = opened {
            self.doors.take(Door::Opened(id.clone(), listeners));
        }
        let nft = self.spaces.nft(id).map_err(about)?.ok_or_else(missing)?;
        nft.replace(&stub::name(), &self.stub)
    }

    fn add_veth(&mut self, op: &Op) -> Result<(), Errno> {
        let Op::AddVeth { host, master, inner, into, mac, mtu, owner } = op else { return Ok(()) };
        let master = self.bridge(master)?;
        let about_space = || Ns::Of(into.clone());
        let made = self.make(host, |this| {
            let Some(space) = this.spaces.get(into)? else { return Ok(None) };
            let into = space.as_fd();
            link::add_pair(&mut this.rt, &Pair { host, master, inner, into, mac: *mac, mtu: *mtu })?;
            let port = BridgePort { groups: true, ..BridgePort::default() };
            let owned = link::finish_port(&mut this.rt, host, owner, port);
            let owned = owned.and_then(|()| link::finish(&mut space.rt, inner, None, owner));
            owned.map(Some).inspect_err(|_| {
                // Nothing is left of a refused operation. Should this fail too, the next look shows the pair.
                let _ = link::delete_named(&mut this.rt, host);
            })
        });
        match made {
            Ok(Some(())) => {
                self.silent.remove(&(Ns::Host, host.clone()));
                self.silent.remove(&(about_space(), inner.clone()));
                self.sysctls.remove(&(about_space(), inner.clone()));
                Ok(())
            }
            Ok(None) => Err(Errno::Missing(about_space().to_string())),
            Err(refused) => Err(refused.about(format!("link {host} or {inner} in {}", about_space()))),
        }
    }

    /// Make a link. If one of the same name is about to vanish with its sandbox, it is deleted first; so are all such links if
    /// their bridge is full, where they are ports until they are gone.
    fn make<T>(&mut self, name: &IfName, mut make: impl FnMut(&mut Host) -> Result<T, Refused>) -> Result<T, Refused> {
        let refused = match make(self) {
            Err(refused) if refused.errno == libc::EEXIST => refused,
            Err(refused) if refused.errno == libc::EXFULL && !self.dying.is_empty() => {
                for index in self.dying.0.keys() {
                    // It may be gone by itself meanwhile, which is as good.
                    let _ = link::delete(&mut self.rt, *index);
                }
                return make(self);
            }
            other => return other,
        };
        match link::named(&mut self.rt, name) {
            Ok(seen) if self.dying.contains(seen.index) => {
                // It may be gone by itself meanwhile, which is as good.
                let _ = link::delete(&mut self.rt, seen.index);
                make(self)
            }
            // It vanished between the two questions.
            Err(gone) if gone.errno == libc::ENODEV && !self.dying.is_empty() => make(self),
            _ => Err(refused),
        }
    }

    /// A bridge's index; anybody's, for a network may use one that was made by hand.
    fn bridge(&mut self, name: &IfName) -> Result<u32, Errno> {
        let missing = || Errno::Missing(format!("bridge {name}"));
        let seen = link::named(&mut self.rt, name).map_err(|refused| refused.about(format!("bridge {name}")))?;
        if seen.kind == Kind::Bridge { Ok(seen.index) } else { Err(missing()) }
    }

    fn rt_of(&mut self, ns: &Ns) -> Result<&mut Rtnetlink, Errno> {
        let missing = || Errno::Missing(ns.to_string());
        match ns {
            Ns::Host => Ok(&mut self.rt),
            Ns::Of(id) => {
                let space = self.spaces.get(id).map_err(|refused| refused.about(ns))?;
                Ok(&mut space.ok_or_else(missing)?.rt)
            }
        }
    }

    fn nft_of(&mut self, ns: &Ns) -> Result<&mut Nft, Errno> {
        match ns {
            Ns::Host => Ok(&mut self.nft),
            Ns::Of(id) => {
                let nft = self.spaces.nft(id).map_err(|refused| refused.about(ns))?;
                nft.ok_or_else(|| Errno::Missing(ns.to_string()))
            }
        }
    }

    /// Do something with a link of ours. A stranger's is not there, as far as these hands are concerned.
    fn with_link_raw<T>(
        &mut self,
        ns: &Ns,
        name: &IfName,
        act: impl FnOnce(&mut Rtnetlink, &link::Seen) -> Result<T, Refused>,
    ) -> Result<Result<T, Refused>, Errno> {
        let rt = self.rt_of(ns)?;
        let seen = link::named(rt, name).map_err(|refused| refused.about(format!("link {name}")))?;
        let here = seen.ours || (*ns != Ns::Host && seen.kind == Kind::Loopback);
        if !here || (*ns == Ns::Host && self.dying.contains(seen.index)) {
            return Err(Errno::Missing(format!("link {name} of ours in {ns}")));
        }
        Ok(act(self.rt_of(ns)?, &seen))
    }

    fn with_link(
        &mut self,
        ns: &Ns,
        name: &IfName,
        act: impl FnOnce(&mut Rtnetlink, &link::Seen) -> Result<(), Refused>,
    ) -> Result<(), Errno> {
        self.with_link_raw(ns, name, act)?.map_err(|refused| refused.about(format!("link {name}")))
    }

    /// A link loses its IPv6 settings when its MTU falls below 1280, and gets fresh ones when it rises again.
    fn set_mtu(&mut self, ns: &Ns, name: &IfName, mtu: u32) -> Result<(), Errno> {
        let mut off = self.silent.contains(&(ns.clone(), name.clone()));
        self.with_link(ns, name, |rt, seen| {
            off |= seen.no_ipv6;
            link::set(rt, seen.index, LinkAttribute::Mtu(mtu))
        })?;
        if off { self.set_no_ipv6(ns, name, true) } else { Ok(()) }
    }

    fn set_no_ipv6(&mut self, ns: &Ns, name: &IfName, off: bool) -> Result<(), Errno> {
        let mut speaks_ipv6 = true;
        self.with_link(ns, name, |_, seen| {
            speaks_ipv6 = seen.speaks_ipv6;
            Ok(())
        })?;
        if !speaks_ipv6 {
            // There is nothing to switch: the kernel has no IPv6, or none for an MTU below 1280 (RFC 8200 §5).
            let place = (ns.clone(), name.clone());
            if off {
                self.silent.insert(place)
            } else {
                self.silent.remove(&place)
            };
            return Ok(());
        }
        let link = name.clone();
        self.in_space(ns, move || sysctl::no_ipv6(&link, off), || format!("IPv6 of link {name}"))
    }

    fn set_sysctls(&mut self, ns: &Ns, name: &IfName, sysctls: &BTreeMap<String, String>) -> Result<(), Errno> {
        let (link, settings) = (name.clone(), sysctls.clone());
        let about = || format!("settings of link {name}");
        self.in_space(
            ns,
            move || settings.iter().try_for_each(|(key, value)| sysctl::of_link(&link, key, value)),
            about,
        )?;
        self.sysctls.insert((ns.clone(), name.clone()), sysctls.clone());
        Ok(())
    }

    fn in_space(
        &mut self,
        ns: &Ns,
        job: impl FnOnce() -> std::io::Result<()> + Send + 'static,
        what: impl FnOnce() -> String,
    ) -> Result<(), Errno> {
        let done = match ns {
            Ns::Host => job().map(Some).map_err(Refused::from),
            Ns::Of(id) => self.spaces.inside(id, job),
        };
        match done {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(Errno::Missing(ns.to_string())),
            Err(refused) => Err(refused.about(what())),
        }
    }
}

impl Kernel for Host {
    fn perform(&mut self, op: &Op) -> Result<(), Errno> {
        self.carry_out(op)
    }

    fn observe(&mut self) -> Result<NetState, Errno> {
        self.look().map_err(|refused| Errno::Kernel { errno: refused.errno, text: refused.text })
    }
}

/// The number by which the host's namespace knows another one.
pub(crate) fn number_of(rt: &mut Rtnetlink, space: &Space) -> Result<Option<i32>, Refused> {
    let mut message = NsidMessage::default();
    // A descriptor is never negative while it is open.
    message.attributes.push(NsidAttribute::Fd(space.as_fd().as_raw_fd() as u32));
    let Request::NewNsId(answer) = rt.get(&Request::GetNsId(message))? else {
        return Err(Refused::plain(libc::EPROTO));
    };
    let id = answer.attributes.iter().find_map(|a| if let NsidAttribute::Id(id) = a { Some(*id) } else { None });
    Ok(id.filter(|id| *id >= 0))
}

/// The indexes of the host's ends of a sandbox's pairs.
fn outer_ends(rt: &mut Rtnetlink, space: &mut Space) -> Result<Vec<u32>, Refused> {
    let inner: Vec<_> = link::all(&mut space.rt)?.into_iter().filter(|link| link.kind == Kind::Veth).collect();
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let mut ends = Vec::new();
    for end in inner {
        let Some(index) = end.peer else { continue };
        match link::with_index(rt, index) {
            Err(refused) if refused.errno == libc::ENODEV => {}
            outer => ends.push((outer?, end.index)),
        }
    }
    // Asked last, for a namespace gets its number when a link is shown whose other end is there.
    let number = number_of(rt, space)?;
    // Indexes are counted in each namespace, so only both sides together tell that this is the other end.
    ends.retain(|(outer, inner)| {
        outer.ours && number.is_some() && (outer.peer, outer.peer_space) == (Some(*inner), number)
    });
    Ok(ends.into_iter().map(|(outer, _)| outer.index).collect())
}

/// Host's ends of pairs whose sandbox was given up: the kernel takes them away when it gets to it. Until then they are
/// there, but neither ours nor in anybody's way. An index is never given twice.
#[derive(Default)]
pub(crate) struct Dying(HashMap<u32, Instant>);

impl Dying {
    fn add(&mut self, indexes: Vec<u32>) {
        let now = Instant::now();
        self.0.extend(indexes.into_iter().map(|index| (index, now)));
    }

    pub fn contains(&self, index: u32) -> bool {
        self.0.contains_key(&index)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are gone, and those that do not go.
    pub fn forget(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|index, since| is_there(*index) && since.elapsed() < DYING);
    }
}
