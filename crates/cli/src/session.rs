//! Being attached: our input to the container, its output to us, signals and the size of the terminal along.

use std::io::{self, Read};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::demux::Demux;
use crate::detach::{Seen, Watch};
use crate::failure::Failure;
use crate::spec::body::Streams;
use crate::terminal::{self, Raw};
use crate::wire::{Call, Hijacked, Wire};

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The container's output ended.
    Output,
    /// The user typed the detach keys.
    Detached,
    /// A signal that is not forwarded ended it; the number is the signal's.
    Signalled(i32),
}

/// What a session is attached to, for signals and sizes.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A container.
    Container(&'a str),
    /// A process beside a container's first one.
    Exec(&'a str),
}

impl Target<'_> {
    fn resize(self) -> Call {
        let path = match self {
            Self::Container(id) => format!("/containers/{id}/resize"),
            Self::Exec(id) => format!("/exec/{id}/resize"),
        };
        let (height, width) = terminal::size();
        Call::post(path).query("h", height.to_string()).query("w", width.to_string())
    }
}

/// The signals that a user or a supervisor sends to us and means for the container.
const FORWARDED: [(&str, SignalKind); 7] = [
    ("HUP", SignalKind::hangup()),
    ("INT", SignalKind::interrupt()),
    ("QUIT", SignalKind::quit()),
    ("TERM", SignalKind::terminate()),
    ("USR1", SignalKind::user_defined1()),
    ("USR2", SignalKind::user_defined2()),
    ("ALRM", SignalKind::alarm()),
];

/// Signals we listen to. Make it before the container starts, so that none falls between.
pub struct Signals {
    heard: Vec<(&'static str, SignalKind, Signal)>,
    resized: Option<Signal>,
}

impl Signals {
    /// Listens to what shall be forwarded, or, in raw mode without forwarding, to what would end us and leave the
    /// terminal raw.
    pub fn listen(forward: bool, tty: bool) -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(Failure::io("listen to signals"));
        let mut heard = Vec::new();
        if forward {
            for (name, kind) in FORWARDED {
                heard.push((name, kind, catch(kind)?));
            }
        } else if tty {
            for (name, kind) in [FORWARDED[0], FORWARDED[1], FORWARDED[2], FORWARDED[3]] {
                heard.push((name, kind, catch(kind)?));
            }
        }
        let resized = if tty { Some(catch(SignalKind::window_change())?) } else { None };
        Ok(Self { heard, resized })
    }

    async fn next(&mut self) -> (&'static str, SignalKind) {
        let any = self.heard.iter_mut().map(|(name, kind, signal)| {
            Box::pin(async move {
                if signal.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                (*name, *kind)
            })
        });
        if any.len() == 0 {
            return std::future::pending().await;
        }
        futures_util::future::select_all(any).await.0
    }
}

/// An attached connection.
pub struct Session<'a> {
    /// The engine, for signals and sizes.
    pub wire: &'a Wire,
    /// What we are attached to.
    pub target: Target<'a>,
    /// The connection.
    pub connection: Hijacked,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// The streams attached to.
    pub streams: Streams,
    /// Whether signals go to the container.
    pub forward: bool,
    /// The detach keys; none if the input is no terminal.
    pub keys: Vec<u8>,
    /// The signals heard.
    pub signals: Signals,
}

impl Session<'_> {
    /// Carries data both ways until the output ends, or until there is another reason to stop; then waits for
    /// `after` (the exit code, say) with signals still being forwarded.
    pub async fn carry<T>(self, after: impl Future<Output = T>) -> Result<(Ended, Option<T>), Failure> {
        let Self { wire, target, connection, tty, streams, forward, keys, mut signals } = self;
        let _raw = if tty && streams.stdin && terminal::is_input() {
            Some(Raw::enter().map_err(Failure::io("set the terminal to raw mode"))?)
        } else {
            None
        };
        let Hijacked { stream, early } = connection;
        let (reader, writer) = stream.into_split();
        let mut resized = signals.resized.take();
        if tty && terminal::is_output() {
            resize(wire, target).await;
        }
        let output = async {
            let ended = output(reader, &early, tty).await;
            (ended, after.await)
        };
        let input = input(writer, streams.stdin, keys);
        let signals = async {
            loop {
                let (name, kind) = signals.next().await;
                let Target::Container(id) = target else {
                    return kind.as_raw_value();
                };
                if !forward {
                    return kind.as_raw_value();
                }
                // A container that has just ended takes no signal; its exit code comes anyway.
                let _ = wire.ask(Call::post(format!("/containers/{id}/kill")).query("signal", name)).await;
            }
        };
        let sizes = async {
            let Some(resized) = &mut resized else {
                return std::future::pending::<()>().await;
            };
            while resized.recv().await.is_some() {
                resize(wire, target).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            (ended, after) = output => ended.map(|()| (Ended::Output, Some(after))),
            () = input => Ok((Ended::Detached, None)),
            number = signals => Ok((Ended::Signalled(number), None)),
            () = sizes => Ok((Ended::Output, None)),
        }
    }
}

async fn resize(wire: &Wire, target: Target<'_>) {
    if terminal::size().0 == 0 {
        // A terminal that does not know its size: the container's keeps the one it has.
        return;
    }
    // A container that has ended has no size; and a wrong size is no reason to end a session.
    let _ = wire.ask(target.resize()).await;
}

async fn output(mut reader: OwnedReadHalf, early: &[u8], tty: bool) -> Result<(), Failure> {
    let mut demux = Demux::default();
    let mut show = |data: &[u8]| -> Result<bool, Failure> {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let written = if tty { crate::printer::bytes(&mut out, data) } else { demux.take(data, &mut out, &mut err) };
        match written {
            Ok(()) => Ok(true),
            // Nobody reads on: what the container still says is said to nobody, and its exit code still counts.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(err) => Err(Failure::io("show the container's output")(err)),
        }
    };
    let mut heard = show(early)?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) if heard => heard = show(&buffer[..count])?,
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(err) => return Err(Failure::io("read the container's output")(err)),
        }
    }
}

/// Passes our input on, and its end. Comes back only when the detach keys were typed.
async fn input(mut writer: OwnedWriteHalf, attached: bool, keys: Vec<u8>) {
    if !attached {
        // The writer lives on: closing it would look like a client that went away.
        return std::future::pending().await;
    }
    let mut from = standard_input();
    let mut watch = Watch::new(keys);
    while let Some(data) = from.recv().await {
        match watch.take(&data) {
            Seen::Pass(data) => {
                if writer.write_all(&data).await.is_err() {
                    return std::future::pending().await;
                }
            }
            Seen::Detach(data) => {
                let _ = writer.write_all(&data).await;
                return;
            }
        }
    }
    // Half a close: the container sees the end of its input and may still answer.
    let _ = writer.shutdown().await;
    std::future::pending().await
}

/// Standard input, read by a thread of its own: a blocking read cannot be given up, and must not hold up our end.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}
