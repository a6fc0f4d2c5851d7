use crate::setup;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How much standard input waits for a program that does not read, before clients have to wait.
const INPUT: usize = 64 * 1024;

/// The shim's side of one process's standard streams.
pub struct Streams {
    /// They are one pseudo terminal.
    pub tty: bool,
    /// Standard output, or the terminal's master.
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
    /// Standard input, if it is a pipe.
    input: Option<OwnedFd>,
    /// Clients may write.
    fed: bool,
    waiting: Vec<u8>,
    written: usize,
    ended: bool,
    console: Console,
    size: Option<Winsize>,
    /// The runtime has done its part, so what comes now is the program's.
    pub open: bool,
}

/// The way of a terminal's master to the shim: OCI runtimes send it over a unix socket.
enum Console {
    None,
    Expected(UnixListener, PathBuf),
    Coming(UnixStream, PathBuf),
}

/// One read.
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// There will be no more.
    End,
}

impl Streams {
    /// Pipes, connected to a command that passes them on to the program.
    pub fn pipes(stdin: bool, command: &mut Command) -> io::Result<Streams> {
        let (out, out_theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (err, err_theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        command.stdout(out_theirs).stderr(err_theirs);
        let input = if stdin {
            let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            command.stdin(theirs);
            rustix::io::ioctl_fionbio(&ours, true)?;
            Some(ours)
        } else {
            command.stdin(Stdio::null());
            None
        };
        // Only our ends: a program expects its own to block.
        rustix::io::ioctl_fionbio(&out, true)?;
        rustix::io::ioctl_fionbio(&err, true)?;
        Ok(Streams { out: Some(out), err: Some(err), input, ..Streams::empty(false, stdin) })
    }

    /// A pseudo terminal that will come over the socket `path`.
    pub fn terminal(stdin: bool, path: PathBuf) -> io::Result<Streams> {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Streams { console: Console::Expected(listener, path), ..Streams::empty(true, stdin) })
    }

    fn empty(tty: bool, fed: bool) -> Streams {
        Streams {
            tty,
            out: None,
            err: None,
            input: None,
            fed,
            waiting: Vec::new(),
            written: 0,
            ended: false,
            console: Console::None,
            size: None,
            open: false,
        }
    }

    /// The descriptor to wait for while the terminal is on its way.
    pub fn console(&self) -> Option<i32> {
        match &self.console {
            Console::Expected(listener, _) => Some(listener.as_raw_fd()),
            Console::Coming(stream, _) => Some(stream.as_raw_fd()),
            Console::None => None,
        }
    }

    /// Goes on with receiving the terminal, as far as that is possible without waiting.
    pub fn receive_console(&mut self) -> io::Result<()> {
        if let Console::Expected(listener, path) = &self.console {
            match listener.accept() {
                Ok((stream, _)) => self.console = Console::Coming(stream, path.clone()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Console::Coming(stream, path) = &self.console else { return Ok(()) };
        if !setup::readable(stream.as_fd()) {
            return Ok(());
        }
        let master = received(stream)?;
        let _ = std::fs::remove_file(path);
        self.console = Console::None;
        if let Some(master) = master {
            rustix::io::ioctl_fionbio(&master, true)?;
            if let Some(size) = self.size {
                let _ = rustix::termios::tcsetwinsize(&master, size);
            }
            self.out = Some(master);
        }
        Ok(())
    }

    /// Sets the terminal's size, now or when it comes.
    pub fn resize(&mut self, rows: u16, cols: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        self.size = Some(size);
        match &self.out {
            Some(master) => Ok(rustix::termios::tcsetwinsize(master, size)?),
            None => Ok(()),
        }
    }

    /// The descriptor of an output stream (1 or 2), if it is open and the program may have written to it.
    pub fn source(&self, stream: u8) -> Option<BorrowedFd<'_>> {
        let fd = if stream == 2 { &self.err } else { &self.out };
        fd.as_ref().filter(|_| self.open).map(|fd| fd.as_fd())
    }

    /// Reads a stream; closes it at its end.
    pub fn read(&mut self, stream: u8, buffer: &mut [u8]) -> Got {
        let Some(fd) = self.source(stream) else { return Got::End };
        match rustix::io::read(fd, buffer) {
            Ok(length) if length > 0 => Got::Bytes(length),
            Err(Errno::AGAIN | Errno::INTR) => Got::Nothing,
            // A terminal's end is EIO: its last slave descriptor is closed.
            _ => {
                self.close(stream);
                Got::End
            }
        }
    }

    /// Gives up on a stream.
    pub fn close(&mut self, stream: u8) {
        if stream == 2 {
            self.err = None;
        } else {
            self.out = None;
        }
    }

    /// Nothing more will come out of it.
    pub fn silent(&self) -> bool {
        self.out.is_none() && self.err.is_none()
    }

    /// The descriptor to write input to, while there is some to write.
    pub fn thirsty(&self) -> Option<i32> {
        let fd = if self.tty { &self.out } else { &self.input };
        fd.as_ref().filter(|_| !self.waiting.is_empty() || (self.ended && !self.tty)).map(|fd| fd.as_raw_fd())
    }

    /// How much input a client may bring now: `None` if it would be thrown away.
    pub fn room(&self) -> Option<usize> {
        let alive = if self.tty { self.out.is_some() || !self.open } else { self.input.is_some() };
        (self.fed && alive && !self.ended).then(|| INPUT.saturating_sub(self.waiting.len() - self.written))
    }

    /// Takes input from a client.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.room().is_some() {
            self.waiting.drain(..std::mem::take(&mut self.written));
            self.waiting.extend_from_slice(bytes);
        }
    }

    /// No more input will come. A terminal stays open: its end of input is a character, and the program's to see.
    pub fn end_input(&mut self) {
        if !self.tty {
            self.ended = true;
        }
    }

    /// Writes what waits, as far as the program takes it.
    pub fn pour(&mut self) {
        let fd = if self.tty { &self.out } else { &self.input };
        let Some(fd) = fd else {
            self.waiting = Vec::new();
            self.written = 0;
            return;
        };
        while self.written < self.waiting.len() {
            match rustix::io::write(fd, &self.waiting[self.written..]) {
                Ok(length) => self.written += length,
                Err(Errno::AGAIN | Errno::INTR) => return,
                // The program closed its input; what is left has no reader.
                Err(_) => {
                    self.written = self.waiting.len();
                    self.ended = true;
                }
            }
        }
        // Given back, so that an idle shim is small.
        self.waiting = Vec::new();
        self.written = 0;
        if self.ended {
            self.input = None;
        }
    }

    /// What the runtime itself wrote to the program's standard error, when the program never ran.
    pub fn last_words(&mut self) -> Vec<u8> {
        let mut words = vec![0; 64 * 1024];
        let length = self.err.as_ref().and_then(|fd| rustix::io::read(fd, &mut words).ok()).unwrap_or(0);
        words.truncate(length);
        words
    }
}

/// The first descriptor in a message of a connected socket, if there is one.
fn received(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    rustix::net::recvmsg(stream, &mut [io::IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    Ok(ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}
