//! Reading containers' logs: Docker's `json-file` form, the file itself and its rotated elders (`PATH.1` is younger than
//! `PATH.2`), from any line on, and further as they grow.

use crate::error::{Doing, Result};
use crate::time;
use bytes::Bytes;
use rustix::fs::inotify;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// What each entry says besides its line.
mod extra;
/// One file of a log.
mod part;

pub use extra::{attributes, check_tag};
use part::Part;

/// How much is read from a file at a time, and about how much is answered at a time.
const BLOCK: usize = 64 * 1024;
/// How many answers may wait for a slow client.
const QUEUE: usize = 4;

/// What is wanted of a log.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only so many of the last lines; `None`: all.
    pub tail: Option<u64>,
    /// Only from then on.
    pub since: Option<SystemTime>,
    /// Only until then.
    pub until: Option<SystemTime>,
    /// Each line with its time before it.
    pub timestamps: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Each line with what the log driver's options add to it.
    pub details: bool,
    /// Bytes as the terminal had them, without frames.
    pub raw: bool,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// A log being read.
pub struct Reader {
    path: PathBuf,
    wanted: Wanted,
    /// Oldest first; the last one is still written.
    files: VecDeque<Part>,
    /// How far the first of them was read.
    at: u64,
    /// The beginning of an entry whose end is not there yet.
    carry: Vec<u8>,
    /// By stream: the last entry had no newline, so the next goes on with its line.
    within_line: [bool; 2],
    ended: bool,
}

impl Reader {
    /// Opens a log and finds the first line that is wanted. A log that was never written is empty.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(path: &Path, wanted: Wanted) -> Result<Reader> {
        let doing = || format!("read the log {}", path.display());
        let mut files = files(path).doing(doing())?;
        let mut at = 0;
        if let Some(lines) = wanted.tail {
            let (first, offset) = tail(&mut files, lines).doing(doing())?;
            files.drain(..first);
            at = offset;
        }
        let path = path.to_path_buf();
        Ok(Reader { path, wanted, files, at, carry: Vec::new(), within_line: [false; 2], ended: false })
    }

    /// Some more of it; empty when there is no more now. Blocks on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn more(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut block = vec![0; BLOCK];
        while out.len() < BLOCK && !self.ended {
            let Some(part) = self.files.front_mut() else {
                self.files = files(&self.path)?;
                self.at = 0;
                if self.files.is_empty() {
                    break;
                }
                continue;
            };
            let file = part.plain()?;
            if file.metadata()?.len() < self.at {
                // Emptied: a log of a single file starts over.
                self.at = 0;
                self.carry.clear();
            }
            file.seek(SeekFrom::Start(self.at))?;
            let got = file.read(&mut block)?;
            self.at += got as u64;
            if got > 0 {
                self.take(&block[..got], &mut out);
            } else if !self.next_file()? {
                break;
            }
        }
        Ok(out)
    }

    /// The log has no more that is wanted, whatever is written.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// Goes on with the file that was begun after this one was full.
    fn next_file(&mut self) -> io::Result<bool> {
        if self.files.len() == 1 {
            let Some(current) = self.files.front() else { return Ok(false) };
            let current = current.id;
            let now = files(&self.path)?;
            let mut younger = VecDeque::new();
            for part in now.into_iter().rev() {
                if part.id == current {
                    break;
                }
                younger.push_front(part);
            }
            if younger.is_empty() {
                return Ok(false);
            }
            // It may have grown between the last read and the rename.
            let file = self.files[0].plain()?;
            if file.metadata()?.len() > self.at {
                return Ok(true);
            }
            self.files.append(&mut younger);
        }
        self.files.pop_front();
        self.at = 0;
        self.carry.clear();
        Ok(true)
    }

    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.carry.is_empty() {
                self.entry(line, out);
            } else {
                let mut whole = std::mem::take(&mut self.carry);
                whole.extend_from_slice(line);
                self.entry(&whole, out);
            }
        }
        self.carry.extend_from_slice(bytes);
    }

    fn entry(&mut self, line: &[u8], out: &mut Vec<u8>) {
        // A line that a power cut tore is passed over.
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else { return };
        let is_stderr = entry.stream == "stderr";
        let begins = !std::mem::replace(&mut self.within_line[usize::from(is_stderr)], !entry.log.ends_with('\n'));
        let asked = if is_stderr { self.wanted.stderr } else { self.wanted.stdout };
        let at = time::parse_rfc3339(&entry.time).unwrap_or(SystemTime::UNIX_EPOCH);
        if self.wanted.until.is_some_and(|until| at > until) {
            self.ended = true;
        }
        if self.ended || !asked || self.wanted.since.is_some_and(|since| at < since) {
            return;
        }
        let mut stamp =
            if self.wanted.timestamps && begins { format!("{} ", time::rfc3339_fixed(at)) } else { String::new() };
        if self.wanted.details && begins {
            stamp.push_str(&extra::details(&entry.attrs));
            stamp.push(' ');
        }
        if !self.wanted.raw {
            let length = u32::try_from(stamp.len() + entry.log.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&shim::frame_header(if is_stderr { 2 } else { 1 }, length));
        }
        out.extend_from_slice(stamp.as_bytes());
        out.extend_from_slice(entry.log.as_bytes());
    }
}

/// The log's files, oldest first. The youngest is opened first: what is renamed meanwhile is then seen twice, and left out.
fn files(path: &Path) -> io::Result<VecDeque<Part>> {
    let mut files: VecDeque<Part> = VecDeque::new();
    for number in 0.. {
        match Part::open(path, number) {
            Ok(part) => {
                if !files.iter().any(|known| known.id == part.id) {
                    files.push_front(part);
                }
            }
            // Between two renames the youngest may be missing for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Where the last `lines` lines begin: in which file, and how far into it.
fn tail(files: &mut VecDeque<Part>, lines: u64) -> io::Result<(usize, u64)> {
    let mut counted = 0;
    // By stream, from the end: an entry was seen already.
    let mut seen = [false; 2];
    for index in (0..files.len()).rev() {
        let mut backwards = Backwards::new(files[index].plain()?)?;
        while let Some((start, line)) = backwards.next()? {
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
            let stream = usize::from(entry.stream == "stderr");
            // A piece without a newline belongs to the line of the piece after it, if there is one.
            let ends = entry.log.ends_with('\n') || !std::mem::replace(&mut seen[stream], true);
            seen[stream] = true;
            if ends && counted == lines {
                return Ok((index, start + line.len() as u64));
            }
            counted += u64::from(ends);
        }
    }
    Ok((0, 0))
}

/// A file's lines from the last to the first.
struct Backwards<'a> {
    file: &'a mut File,
    /// Where `held` begins in the file.
    from: u64,
    held: Vec<u8>,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a mut File) -> io::Result<Backwards<'a>> {
        let from = file.seek(SeekFrom::End(0))?;
        Ok(Backwards { file, from, held: Vec::new() })
    }

    /// A line with its newline, and where it begins.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let before_last = self.held.len().saturating_sub(1);
            if let Some(end) = self.held[..before_last].iter().rposition(|byte| *byte == b'\n') {
                let line = self.held.split_off(end + 1);
                return Ok(Some((self.from + self.held.len() as u64, line)));
            }
            if self.from == 0 {
                let line = std::mem::take(&mut self.held);
                return Ok((!line.is_empty()).then_some((0, line)));
            }
            let step = self.from.min(BLOCK as u64);
            self.from -= step;
            self.file.seek(SeekFrom::Start(self.from))?;
            let mut block = vec![0; step as usize];
            self.file.read_exact(&mut block)?;
            block.append(&mut self.held);
            self.held = block;
        }
    }
}

/// Reads a log piece by piece. With `ended`, it is read on as it grows until that future is ready. A client that does not
/// read is waited for; one that goes away ends it.
///
/// # Errors
/// The log cannot be opened.
pub async fn stream<F>(path: PathBuf, wanted: Wanted, ended: Option<F>) -> Result<mpsc::Receiver<io::Result<Bytes>>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let watch = match ended {
        Some(ended) => Some((Watch::of(&path)?, ended)),
        None => None,
    };
    let opened = tokio::task::spawn_blocking(move || Reader::open(&path, wanted));
    let reader = opened.await.doing("read the log")??;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let told = match watch {
            Some((watch, ended)) => follow(reader, &sender, watch, ended).await,
            None => drain(reader, &sender).await.map(drop),
        };
        if let Err(error) = told {
            // An error here only says that the client has gone.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(receiver)
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// Sends all that is there now; `None`: the client has gone, or there can be no more.
async fn drain(mut reader: Reader, sender: &Sender) -> io::Result<Option<Reader>> {
    loop {
        let (back, more) = tokio::task::spawn_blocking(move || {
            let more = reader.more();
            (reader, more)
        })
        .await
        .map_err(io::Error::other)?;
        reader = back;
        let more = more?;
        if more.is_empty() {
            return Ok((!reader.is_over()).then_some(reader));
        }
        if sender.send(Ok(more.into())).await.is_err() {
            return Ok(None);
        }
    }
}

async fn follow<F: Future<Output = ()>>(reader: Reader, sender: &Sender, watch: Watch, ended: F) -> io::Result<()> {
    let mut reader = reader;
    let mut ended = std::pin::pin!(ended);
    loop {
        match drain(reader, sender).await? {
            Some(back) => reader = back,
            None => return Ok(()),
        }
        tokio::select! {
            moved = watch.moved() => moved?,
            () = sender.closed() => return Ok(()),
            // All of its output is in the file by now.
            () = &mut ended => return drain(reader, sender).await.map(drop),
        }
    }
}

/// Tells when a file in the log's directory was written or renamed.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn of(path: &Path) -> Result<Watch> {
        use inotify::{CreateFlags, WatchFlags};
        let dir = path.parent().unwrap_or(Path::new("/"));
        let doing = || format!("watch {}", dir.display());
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).doing(doing())?;
        inotify::add_watch(&fd, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO).doing(doing())?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that lie about their descriptor; OwnedFd does not"
        )]
        let ready = AsyncFd::new(fd).doing(doing())?;
        Ok(Watch(ready))
    }

    async fn moved(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut notices = [0; 4096];
        while matches!(rustix::io::read(&self.0, &mut notices), Ok(got) if got > 0) {}
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
