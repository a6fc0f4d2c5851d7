use super::{Shared, reset};
use plan::world::Proto;
use rustix::net::{Shutdown, shutdown, sockopt};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop::consume_budget;
use tracing::{debug, warn};

/// How long a container may take to accept; the host's own network answers at once or not at all.
const CONNECT: Duration = Duration::from_secs(10);
/// After a time without descriptors, some may be there again.
const PAUSE: Duration = Duration::from_millis(100);
/// Who is silent for so long is asked whether he is still there (tcp(7), `TCP_KEEPIDLE`).
const SILENCE: Duration = Duration::from_secs(60);
/// What is read at once.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// One buffer for all connections of a thread: one that waits holds none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Accepts and relays. As many at once as there is room for; others wait in the kernel.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok(permit) = shared.connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    relay(&shared, &client).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Of one connection that is gone already, or for want of descriptors.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn relay(shared: &Shared, client: &TcpStream) {
    let found = whom(shared, client).ok().and_then(|to| Some((to, shared.target(Proto::Tcp, to)?)));
    // Nobody publishes it, or no longer.
    let Some((to, target)) = found else { return reset(client) };
    let server = match tokio::time::timeout(CONNECT, TcpStream::connect(target)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => {
            debug!(%to, %target, %error, "the container does not accept");
            return reset(client);
        }
        Err(_) => return reset(client),
    };
    for end in [client, &server] {
        prepare(end);
    }
    let both = async { tokio::try_join!(pass(client, &server), pass(&server, client)).map(drop) };
    let ended = tokio::select! {
        ended = both => ended,
        () = shared.withdrawn(Proto::Tcp, to, target) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if let Err(error) = ended {
        debug!(%to, %target, %error, "a relayed connection broke");
        reset(client);
        reset(&server);
    }
}

/// Whom a connection was for.
fn whom(shared: &Shared, client: &TcpStream) -> io::Result<SocketAddr> {
    let here = client.local_addr()?;
    Ok(if shared.sent_here(here) { sockopt::ipv6_original_dst(client)?.into() } else { here })
}

/// A relay holds nothing back, and finds out about ends that have vanished.
fn prepare(end: &TcpStream) {
    // The connection works without either.
    let _ = end.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(end, true);
    let _ = sockopt::set_tcp_keepidle(end, SILENCE);
}

/// One direction, to its end; the other one may go on after that.
async fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        // The other direction, and other connections, have their turn.
        consume_budget().await;
        from.readable().await?;
        match step(from, to) {
            Ok(Step::Passed) => {}
            Ok(Step::Left(rest)) => write_all(to, &rest).await?,
            Ok(Step::End) => return Ok(shutdown(to.as_fd(), Shutdown::Write)?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

enum Step {
    /// All that was read is written.
    Passed,
    /// The other end is slow: this is still to be written, before more is read.
    Left(Vec<u8>),
    /// No more will come.
    End,
}

fn step(from: &TcpStream, to: &TcpStream) -> io::Result<Step> {
    SCRATCH.with_borrow_mut(|scratch| {
        let count = from.try_read(scratch)?;
        if count == 0 {
            return Ok(Step::End);
        }
        let written = match to.try_write(&scratch[..count]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok(if written == count { Step::Passed } else { Step::Left(scratch[written..count].to_vec()) })
    })
}

async fn write_all(to: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
