//! Linux capabilities: which a container gets, and which the engine cannot give.

use crate::container::spec::Security;
use crate::error::{Error, Result};

/// A set of capabilities, a bit each, as the kernel counts them (`linux/capability.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps(u64);

/// By number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has when nobody says otherwise: Docker's fourteen.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

impl Caps {
    /// None.
    pub const NONE: Caps = Caps(0);

    /// Every one up to this number, which the kernel tells in `/proc/sys/kernel/cap_last_cap`. Later ones than we have a
    /// name for are left out: no runtime could be told of them.
    pub fn up_to(last: u32) -> Caps {
        let count = (last + 1).min(NAMES.len() as u32);
        Caps((1 << count) - 1)
    }

    /// Docker's default set.
    pub fn default_set() -> Caps {
        DEFAULT.iter().filter_map(|name| Caps::named(name)).fold(Caps::NONE, Caps::with)
    }

    /// From a `Cap…:` line of `/proc/PID/status`.
    pub fn from_hex(text: &str) -> Option<Caps> {
        u64::from_str_radix(text.trim(), 16).ok().map(|bits| Caps(bits & Caps::up_to(63).0))
    }

    /// The one with this name; with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Option<Caps> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|known| *known == bare).map(|number| Caps(1 << number))
    }

    /// All of these are in it.
    pub fn contains(self, others: Caps) -> bool {
        self.0 & others.0 == others.0
    }

    /// The one with this name is in it.
    pub fn has(self, name: &str) -> bool {
        Caps::named(name).is_some_and(|one| self.contains(one))
    }

    /// Those and these.
    pub fn with(self, others: Caps) -> Caps {
        Caps(self.0 | others.0)
    }

    /// Without these.
    pub fn without(self, others: Caps) -> Caps {
        Caps(self.0 & !others.0)
    }

    /// In both.
    pub fn both(self, others: Caps) -> Caps {
        Caps(self.0 & others.0)
    }

    /// None is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// `CAP_CHOWN`, … in the kernel's order.
    pub fn names(self) -> Vec<String> {
        let member = |number: &usize| self.0 & (1 << number) != 0;
        (0..NAMES.len()).filter(member).map(|number| format!("CAP_{}", NAMES[number])).collect()
    }
}

/// What a container gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its bounding set, and what its root has.
    pub caps: Caps,
    /// Asked for, but the engine has not got it to give.
    pub missing: Caps,
}

/// The capabilities asked for, as far as the engine has them itself: `known` is what the kernel knows, `bounding` the
/// engine's own bounding set.
///
/// # Errors
/// [`Error::Invalid`] for a name that is no capability.
pub fn granted(security: &Security, known: Caps, bounding: Caps) -> Result<Granted> {
    let asked = asked(security, known)?;
    Ok(Granted { caps: asked.both(bounding), missing: asked.without(bounding) })
}

fn asked(security: &Security, known: Caps) -> Result<Caps> {
    let (add, add_all) = set("CapAdd", &security.cap_add)?;
    let (drop, drop_all) = set("CapDrop", &security.cap_drop)?;
    Ok(if security.privileged {
        known
    } else if add_all {
        known.without(drop)
    } else if drop_all {
        add
    } else {
        Caps::default_set().without(drop).with(add)
    })
}

/// The names as a set, and whether `ALL` was among them.
fn set(field: &str, names: &[String]) -> Result<(Caps, bool)> {
    let mut all = false;
    let mut caps = Caps::NONE;
    for name in names {
        if matches!(name.to_ascii_uppercase().as_str(), "ALL" | "CAP_ALL") {
            all = true;
            continue;
        }
        let unknown = || {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            Error::Invalid(format!("invalid {field}: unknown capability: \"CAP_{bare}\""))
        };
        caps = caps.with(Caps::named(name).ok_or_else(unknown)?);
    }
    Ok((caps, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &str, drop: &str, privileged: bool, want: &str) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let security = Security { cap_add: words(add), cap_drop: words(drop), privileged, ..Security::default() };
        let known = Caps::up_to(40);
        let bounding = known.without(Caps::named("SYS_RESOURCE").unwrap());
        let got = match granted(&security, known, bounding) {
            Ok(granted) => format!("{} missing [{}]", granted.caps.0.count_ones(), granted.missing.names().join(" ")),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want, "add {add:?} drop {drop:?} privileged {privileged}");
    }

    #[test]
    fn adding_and_dropping() {
        check("", "", false, "14 missing []");
        check("NET_ADMIN", "", false, "15 missing []");
        check("cap_net_admin", "", false, "15 missing []");
        check("", "NET_RAW MKNOD", false, "12 missing []");
        check("", "ALL", false, "0 missing []");
        check("CHOWN", "ALL", false, "1 missing []");
        check("ALL", "SYS_ADMIN", false, "39 missing [CAP_SYS_RESOURCE]");
        check("ALL", "ALL", false, "40 missing [CAP_SYS_RESOURCE]");
        check("", "", true, "40 missing [CAP_SYS_RESOURCE]");
        check("SYS_RESOURCE", "", false, "14 missing [CAP_SYS_RESOURCE]");
        check("FLY", "", false, "invalid CapAdd: unknown capability: \"CAP_FLY\"");
        check("", "cap_fly", false, "invalid CapDrop: unknown capability: \"CAP_FLY\"");
    }

    #[test]
    fn the_default_mask_is_dockers() {
        assert_eq!(Caps::default_set(), Caps::from_hex("00000000a80425fb").unwrap());
        assert_eq!(Caps::from_hex("zz"), None);
        assert_eq!(Caps::up_to(40).names().len(), 41);
        assert_eq!(Caps::up_to(60).names().len(), 41);
    }
}
