use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// `VETH_INFO_PEER` of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;

/// Where the far end of a veth pair is born.
#[derive(Clone, Copy, Debug)]
pub enum Far {
    /// In the network namespace of this process.
    Pid(u32),
    /// In the network namespace behind this open descriptor.
    Fd(i32),
}

/// A routing netlink socket of the calling thread's network namespace (rtnetlink(7)).
#[derive(Debug)]
pub struct Route(OwnedFd);

impl Route {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Route> {
        // Protocol 0 is NETLINK_ROUTE.
        let flags = SocketFlags::CLOEXEC;
        Ok(Route(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?))
    }

    /// Makes a veth pair: `name` here, up, in the bridge of this [`index`] if one is given; `eth0` in `far`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_veth(&self, name: &str, bridge: Option<u32>, far: Far) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.message(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, |m| {
            m.link(0, true);
            m.text(libc::IFLA_IFNAME, name);
            if let Some(bridge) = bridge {
                m.number(libc::IFLA_MASTER, bridge);
            }
            m.nest(libc::IFLA_LINKINFO, |m| {
                m.text(libc::IFLA_INFO_KIND, "veth");
                m.nest(libc::IFLA_INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        m.link(0, false);
                        m.text(libc::IFLA_IFNAME, "eth0");
                        match far {
                            Far::Pid(pid) => m.number(libc::IFLA_NET_NS_PID, pid),
                            Far::Fd(fd) => m.number(libc::IFLA_NET_NS_FD, fd.cast_unsigned()),
                        }
                    });
                });
            });
            Ok(())
        })?;
        self.perform(batch)
    }

    /// Sets `lo` up and, given an address and a router, `eth0` with both: one batch.
    ///
    /// # Errors
    /// The kernel's.
    pub fn configure(&self, eth0: Option<(Ipv4Addr, u8, Ipv4Addr)>) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.message(libc::RTM_NEWLINK, 0, |m| {
            m.link(index("lo")?, true);
            Ok(())
        })?;
        if let Some((address, prefix, router)) = eth0 {
            let eth0 = index("eth0")?;
            batch.message(libc::RTM_NEWLINK, 0, |m| {
                m.link(eth0, true);
                Ok(())
            })?;
            batch.message(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, |m| {
                // struct ifaddrmsg: family, prefix length, flags, scope, index.
                m.0.extend_from_slice(&[libc::AF_INET as u8, prefix, 0, 0]);
                m.0.extend_from_slice(&eth0.to_ne_bytes());
                m.attribute(libc::IFA_LOCAL, &address.octets());
                m.attribute(libc::IFA_ADDRESS, &address.octets());
                Ok(())
            })?;
            batch.message(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, |m| {
                // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
                let (table, protocol, kind) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RTN_UNICAST);
                m.0.extend_from_slice(&[libc::AF_INET as u8, 0, 0, 0, table, protocol, libc::RT_SCOPE_UNIVERSE, kind]);
                m.0.extend_from_slice(&0u32.to_ne_bytes());
                m.attribute(libc::RTA_GATEWAY, &router.octets());
                m.number(libc::RTA_OIF, eth0);
                Ok(())
            })?;
        }
        self.perform(batch)
    }

    /// Sends all messages at once; the kernel has carried them out when this returns.
    fn perform(&self, mut batch: Batch) -> io::Result<()> {
        batch.ask_for_an_answer();
        rustix::net::send(&self.0, &batch.bytes, SendFlags::empty())?;
        let mut buffer = [0; 16384];
        loop {
            let (count, _) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..count];
            // struct nlmsghdr: length, type, flags, sequence, port; of an answer, an errno follows.
            while rest.len() >= 20 {
                let word = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
                let (length, sequence, errno) = (word(0) as usize, word(8), word(16).cast_signed());
                if errno != 0 {
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                if sequence == batch.count {
                    return Ok(());
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// The number of an interface in the calling thread's network namespace.
///
/// # Errors
/// `ENODEV` if there is none of this name.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a string that ends in NUL and lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Messages that are sent together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    count: u32,
    last: usize,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: i32, fill: impl FnOnce(&mut Body) -> io::Result<()>) -> io::Result<()> {
        let mut body = Body(Vec::new());
        fill(&mut body)?;
        self.count += 1;
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&(16 + body.0.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&body.0);
        Ok(())
    }

    /// Of the last message only: faults of the others are answered anyway, and one answer wakes us once.
    fn ask_for_an_answer(&mut self) {
        self.bytes[self.last + 6] |= libc::NLM_F_ACK as u8;
    }
}

/// What follows a message's header; always a multiple of four bytes long.
struct Body(Vec<u8>);

impl Body {
    /// A `struct ifinfomsg`: family, type, index, flags, changed flags.
    fn link(&mut self, index: u32, up: bool) {
        let flags = if up { libc::IFF_UP as u32 } else { 0 };
        self.0.extend_from_slice(&[0; 4]);
        for word in [index, flags, flags] {
            self.0.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat());
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body)) {
        let mut inner = Body(Vec::new());
        fill(&mut inner);
        self.attribute(kind, &inner.0);
    }
}

/// How long the bare network of one container takes, `rounds` times: a namespace, a veth pair from `bridge` in the calling
/// thread's namespace into it, loopback, address and route. No engine can be faster without having prepared something.
///
/// # Errors
/// The kernel's.
pub fn network(bridge: &str, rounds: u32) -> io::Result<Vec<Duration>> {
    let host = Route::open()?;
    let bridge = index(bridge)?;
    (0..rounds)
        .map(|round| {
            let once = || {
                let started = Instant::now();
                // SAFETY: only this thread changes its namespace; it does nothing else and ends after.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
                let own = File::open("/proc/thread-self/ns/net")?;
                host.add_veth(&format!("flo{round}"), Some(bridge), Far::Fd(own.as_raw_fd()))?;
                Route::open()?.configure(Some(addresses()))?;
                Ok(started.elapsed())
            };
            std::thread::scope(|scope| match scope.spawn(once).join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
        .collect()
}

/// The address, prefix length and router that the floor gives its containers. They all get the same, for none of them says
/// a word.
pub fn addresses() -> (Ipv4Addr, u8, Ipv4Addr) {
    (Ipv4Addr::new(10, 255, 0, 2), 24, Ipv4Addr::new(10, 255, 0, 1))
}
