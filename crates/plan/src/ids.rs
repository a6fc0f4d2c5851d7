//! Names that are valid once they are built.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A value that breaks the rule of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {kind}: {rule}")]
pub struct BadName {
    /// What was offered.
    pub value: String,
    /// What it should have been.
    pub kind: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// The first twelve hexadecimal digits of an id: what people see, and what labels in the kernel carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short([u8; 12]);

impl Short {
    /// The digits.
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits get in, so this is always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Short {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        match <[u8; 12]>::try_from(s.as_bytes()) {
            Ok(digits) if digits.iter().all(lower_hex) => Ok(Short(digits)),
            _ => Err(BadName { value: s.into(), kind: "short id", rule: "twelve lower-case hexadecimal digits" }),
        }
    }
}

fn lower_hex(b: &u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(b)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The first twelve.
            pub fn short(&self) -> Short {
                let mut digits = [b'0'; 12];
                digits.copy_from_slice(&self.0.as_bytes()[..12]);
                Short(digits)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(s: String) -> Result<Self, BadName> {
                if s.len() == 64 && s.as_bytes().iter().all(lower_hex) {
                    Ok($name(s))
                } else {
                    Err(BadName { value: s, kind: $kind, rule: "64 lower-case hexadecimal digits" })
                }
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                s.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.short())
            }
        }
    };
}

id!(
    /// A network's id, as users see it in `network ls`.
    NetworkId,
    "network id"
);
id!(
    /// An endpoint: one sandbox's place on one network.
    EndpointId,
    "endpoint id"
);
id!(
    /// A sandbox: a pinned network namespace of ours.
    SandboxId,
    "sandbox id"
);
id!(
    /// A container.
    ContainerId,
    "container id"
);

/// The name of a network interface (`IFNAMSIZ` of the kernel less its zero byte: 15 bytes).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// As the kernel spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `lo`, which every namespace is born with.
    pub fn loopback() -> IfName {
        IfName("lo".into())
    }

    /// `eth0`, `eth1` …: the container's end of its n-th endpoint.
    pub fn inner(n: u16) -> IfName {
        IfName(format!("eth{n}"))
    }

    /// The host's end of an endpoint's veth pair: `veth` and seven digits of the endpoint's id, as Docker names it.
    pub fn host_end(endpoint: &EndpointId) -> IfName {
        IfName(format!("veth{}", &endpoint.as_str()[..7]))
    }

    /// The interface that leads nowhere of a network without a bridge: `dm-` and the short id, as Docker names it.
    pub fn nowhere_of(network: &NetworkId) -> IfName {
        IfName(format!("dm-{}", network.short()))
    }

    /// The bridge of a user-defined network: `br-` and the short id.
    pub fn bridge_of(network: &NetworkId) -> IfName {
        IfName(format!("br-{}", network.short()))
    }
}

impl TryFrom<String> for IfName {
    type Error = BadName;
    fn try_from(s: String) -> Result<Self, BadName> {
        let fits = (1..=15).contains(&s.len()) && s != "." && s != "..";
        if fits && !s.contains(['/', ':', '\0']) && !s.contains(char::is_whitespace) {
            Ok(IfName(s))
        } else {
            let rule = "1 to 15 bytes without blanks, `/` and `:`, and neither `.` nor `..`";
            Err(BadName { value: s, kind: "interface name", rule })
        }
    }
}

impl FromStr for IfName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        s.to_owned().try_into()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> String {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `02:42` and the four bytes of the address: locally administered, and the same as long as the address is.
    pub fn of_addr4(addr: std::net::Ipv4Addr) -> Mac {
        let [a, b, c, d] = addr.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// A locally administered unicast address out of the first digits of a hexadecimal id.
    pub fn of_id(id: &str) -> Mac {
        let mut mac = [0x02, 0x42, 0, 0, 0, 0];
        for (byte, at) in mac[2..].iter_mut().zip((0..).step_by(2)) {
            *byte = id.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or(0);
        }
        Mac(mac)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Mac {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let bad = || BadName {
            value: s.into(),
            kind: "MAC address",
            rule: "six pairs of hexadecimal digits with `:` between",
        };
        let mut mac = [0u8; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Mac(mac)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = BadName;
    fn try_from(s: String) -> Result<Self, BadName> {
        s.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernels_rule() {
        for good in ["lo", "berth0", "veth0123456", "fifteen-bytes-x", "ünter"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-xx", "tab\tbed"] {
            let refused = bad.parse::<IfName>().unwrap_err().to_string();
            assert!(refused.contains(&format!("{bad:?}")), "{refused}");
        }
    }

    #[test]
    fn macs_are_read_and_printed() {
        assert_eq!(Mac::of_addr4("192.168.0.2".parse().unwrap()).to_string(), "02:42:c0:a8:00:02");
        assert_eq!("02:42:c0:a8:00:02".parse::<Mac>().unwrap(), Mac([2, 0x42, 0xc0, 0xa8, 0, 2]));
        for bad in ["zz", "02:42:c0:a8:00", "02:42:c0:a8:00:02:03", "2:42:c0:a8:0:2", "02:42:c0:a8:00:0g"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_have_64_digits_and_a_short_form() {
        let id: NetworkId = "0123456789abcdef".repeat(4).parse().unwrap();
        assert_eq!(id.short().as_str(), "0123456789ab");
        assert_eq!(IfName::bridge_of(&id).as_str(), "br-0123456789ab");
        assert!("0123".parse::<NetworkId>().is_err());
        assert!("X".repeat(64).parse::<NetworkId>().is_err());
    }
}
