use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a server says.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This, a space, the asker's address and a line's end.
    Text(String),
    /// What it was told.
    Echo,
}

/// Something that answers until it is dropped, and remembers who asked.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    stopping: Arc<AtomicBool>,
    /// Closes the listening socket of a TCP server, which wakes its thread.
    listener: Option<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves TCP in the network namespace of the calling thread.
    pub(crate) fn tcp(addr: SocketAddr, answer: Answer) -> io::Result<Server> {
        let listener = TcpListener::bind(addr)?;
        let mut server = Server::named(listener.local_addr()?);
        server.listener = Some(listener.try_clone()?);
        let peers = server.peers.clone();
        let stopping = server.stopping.clone();
        server.thread = Some(std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                remember(&peers, peer);
                let (answer, stopping) = (answer.clone(), stopping.clone());
                // A client that goes away mid-way is the test's affair, not the server's.
                std::thread::spawn(move || converse(stream, peer, &answer, &stopping));
            }
        }));
        Ok(server)
    }

    /// Serves UDP in the network namespace of the calling thread.
    pub(crate) fn udp(addr: SocketAddr, answer: Answer) -> io::Result<Server> {
        let socket = UdpSocket::bind(addr)?;
        // To look at `stopping` now and then: unlike a listener, a datagram socket cannot be woken from outside.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut server = Server::named(socket.local_addr()?);
        let peers = server.peers.clone();
        let stopping = server.stopping.clone();
        server.thread = Some(std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !stopping.load(Ordering::Relaxed) {
                let Ok((count, peer)) = socket.recv_from(&mut buffer) else { continue };
                remember(&peers, peer);
                // An answer that cannot be sent is one that the test does not get.
                let _ = match &answer {
                    Answer::Text(text) => socket.send_to(greeting(text, peer).as_bytes(), peer),
                    Answer::Echo => socket.send_to(&buffer[..count], peer),
                };
            }
        }));
        Ok(server)
    }

    fn named(addr: SocketAddr) -> Server {
        Server { addr, peers: Arc::default(), stopping: Arc::default(), listener: None, thread: None }
    }

    /// Where it listens, with the port that it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Who has asked so far, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().expect("no holder of this lock panics").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            // Fails only if it is shut down already.
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Read);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse(mut stream: TcpStream, peer: SocketAddr, answer: &Answer, stopping: &AtomicBool) -> io::Result<()> {
    match answer {
        Answer::Text(text) => {
            stream.write_all(greeting(text, peer).as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            // Until the client closes too: closing first, over unread input, would reset the connection.
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            io::copy(&mut stream, &mut io::sink()).map(drop)
        }
        Answer::Echo => {
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            let mut chunk = [0; 65536];
            while !stopping.load(Ordering::Relaxed) {
                match stream.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(count) => stream.write_all(&chunk[..count])?,
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                    Err(err) => return Err(err),
                }
            }
            Ok(())
        }
    }
}

fn greeting(text: &str, peer: SocketAddr) -> String {
    format!("{text} {}\n", peer.ip().to_canonical())
}

fn remember(peers: &Mutex<Vec<SocketAddr>>, peer: SocketAddr) {
    peers.lock().expect("no holder of this lock panics").push(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
}
