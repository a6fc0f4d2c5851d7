//! Tests and benchmarks only: private namespaces, hosts, segments, probes.
//!
//! ```no_run
//! #[test]
//! fn a_friend_answers() {
//!     lab::alone(|lab| {
//!         lab.uplink("192.0.2.1/24");
//!         let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
//!         let server = friend.serve_tcp("0.0.0.0:80", "hello");
//!         assert_eq!(lab.here().tcp("192.0.2.2:80").unwrap(), "hello 192.0.2.1\n");
//!         assert_eq!(server.peers().len(), 1);
//!     })
//! }
//! ```
//!
//! A test that calls [`alone`] runs a second time, in a process of its own inside fresh network, mount and pid namespaces
//! (and a user namespace, for an ordinary user); the first run only waits for the second and repeats its verdict.
//! Being test tools, these functions panic where a test could only unwrap; the text says what was tried and what came back.
//!
//! Environment: `LAB_KEEP=1` keeps a failed lab alive and says how to enter it; `BERTH_SKIP_LABS=1` skips labs, counted,
//! where namespaces cannot be made; `BERTH_BIN_DIR` names the directory of `berth` and its helpers.

/// Runs the calling test again, alone in fresh namespaces.
mod alone;
/// What most tests ask of an engine by its commands.
mod asking;
/// `busybox:latest` as an archive of `docker save`, made from Debian's static busybox.
pub mod busybox;
/// Control groups on version 1, 2 and hybrid hosts.
pub mod cgroups;
/// Commands and what they said.
mod command;
/// A name server of one table, and questions to others.
pub mod dns;
/// A `berth daemon` with directories of its own, and the clients that talk to it.
mod engine;
/// The least that a container's network can cost: its messages to the kernel made by hand.
pub mod floor;
/// Frames as no well-behaved host sends them.
pub mod frame;
/// A network namespace as a place from which to ask and to answer.
mod host;
/// Just enough HTTP/1.1 over a unix socket to look at the engine's answers unadorned.
pub mod http;
/// Load on a path, for benchmarks.
pub mod load;
/// Making and entering namespaces.
pub mod namespaces;
/// One question over the network, and what came back.
pub mod probe;
/// A text of all that an engine could leave behind.
pub mod residue;
/// Something that answers, and remembers who asked.
mod server;
/// Many questions at once.
mod sweep;
/// A process in throw-away namespaces, with its directory and its cgroups, and their removal.
pub mod throwaway;
/// The lab itself: its hosts and the segments that join them.
mod topology;
/// An interface taken hold of below every protocol.
mod wire;

pub use alone::{alone, alone_for};
pub use asking::RESOLVER;
pub use command::{Output, Running, run};
pub use engine::{Engine, binaries, has_docker};
pub use host::Host;
pub use server::Server;
pub use sweep::Ask;
pub use topology::Lab;
pub use wire::Wire;

use std::time::{Duration, Instant};

/// Asks `question` again and again until it has an answer. Panics after `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(command::pause(started));
    }
}
