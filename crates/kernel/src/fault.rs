use plan::netstate::Errno;
use std::io;
use std::path::PathBuf;

/// What did not work when the hands were made ready. All of it is the host's or our doing, none the caller's.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The directory of pinned namespaces.
    #[error("the directory {path} of pinned network namespaces: {doing}", path = .path.display())]
    Pins {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// A netlink socket could not be opened: CAP_NET_ADMIN in the namespace is needed, and a kernel with the family.
    #[error("open a netlink socket for {family}")]
    Socket {
        /// `routes` or `nftables`.
        family: &'static str,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// A file under `/proc` could not be read.
    #[error("read {path}")]
    Proc {
        /// The file.
        path: String,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to show something.
    #[error("read the host's {what}")]
    Kernel {
        /// What should have been seen.
        what: &'static str,
        /// Its answer.
        #[source]
        source: Errno,
    },
}

/// The kernel's answer to a request: a number, and its own words where it has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub errno: i32,
    pub text: String,
}

impl Refused {
    /// The number with its usual text.
    pub fn plain(errno: i32) -> Refused {
        let text = io::Error::from_raw_os_error(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default().to_owned();
        Refused { errno, text }
    }

    /// Which of the refusals that a planner can foresee is it, said of `what`?
    pub fn about(self, what: impl ToString) -> Errno {
        match self.errno {
            libc::ENOENT | libc::ENODEV | libc::ESRCH => Errno::Missing(what.to_string()),
            libc::EEXIST => Errno::Exists(what.to_string()),
            libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTUNREACH => Errno::Unreachable(what.to_string()),
            errno => Errno::Kernel { errno, text: self.text },
        }
    }
}

impl From<io::Error> for Refused {
    fn from(err: io::Error) -> Refused {
        match err.raw_os_error() {
            Some(errno) => Refused::plain(errno),
            None => Refused { errno: libc::EIO, text: err.to_string() },
        }
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(err: rustix::io::Errno) -> Refused {
        Refused::plain(err.raw_os_error())
    }
}
