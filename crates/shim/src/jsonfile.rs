use crate::{pack, stamp};
use shim::LogConfig;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Docker's log copier cuts longer lines into entries of this many bytes, all but the last without a newline.
const LINE: usize = 16 * 1024;

/// The log file: entries of whole lines, rotated by size.
pub struct JsonFile {
    config: LogConfig,
    file: File,
    size: u64,
    lines: [Line; 2],
    /// `"attrs":{…},` or nothing.
    attrs: String,
}

/// What came of one stream since its last newline.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Entries of one cut line carry the time of the first.
    since: Option<u64>,
}

impl JsonFile {
    /// Opens or makes the file and goes on at its end.
    pub fn open(config: LogConfig) -> io::Result<JsonFile> {
        let file = open(&config, false)?;
        let size = file.metadata()?.len();
        let attrs = match config.attrs.is_empty() {
            true => String::new(),
            false => format!("\"attrs\":{},", serde_json::to_string(&config.attrs)?),
        };
        Ok(JsonFile { config, file, size, lines: Default::default(), attrs })
    }

    /// Takes what came from a stream (1 stdout, 2 stderr) and writes the lines that are complete.
    pub fn take(&mut self, stream: u8, mut bytes: &[u8]) {
        let mut entries = String::new();
        while !bytes.is_empty() {
            let line = &mut self.lines[usize::from(stream == 2)];
            let at = *line.since.get_or_insert_with(stamp::now);
            let room = LINE - line.bytes.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                line.bytes.extend_from_slice(&bytes[..=end]);
                bytes = &bytes[end + 1..];
                let whole = std::mem::take(line);
                self.entry(&mut entries, stream, &whole.bytes, at);
            } else {
                line.bytes.extend_from_slice(window);
                bytes = &bytes[window.len()..];
                if line.bytes.len() == LINE {
                    let cut = boundary(&line.bytes);
                    let rest = line.bytes.split_off(cut);
                    let part = std::mem::replace(&mut line.bytes, rest);
                    self.entry(&mut entries, stream, &part, at);
                }
            }
        }
        self.write(&entries);
    }

    /// Writes what is left of unfinished lines. Call when no more will come.
    pub fn flush(&mut self) {
        for stream in [1, 2] {
            let line = std::mem::take(&mut self.lines[usize::from(stream == 2)]);
            if !line.bytes.is_empty() {
                let mut entry = String::new();
                self.entry(&mut entry, stream, &line.bytes, line.since.unwrap_or_else(stamp::now));
                self.write(&entry);
            }
        }
    }

    /// Appends one entry to `entries`; writes those first and rotates if the file would grow too big with it.
    fn entry(&mut self, entries: &mut String, stream: u8, text: &[u8], at: u64) {
        let start = entries.len();
        entries.push_str("{\"log\":\"");
        escape(entries, text);
        entries.push_str(if stream == 2 { "\",\"stream\":\"stderr\"," } else { "\",\"stream\":\"stdout\"," });
        entries.push_str(&self.attrs);
        entries.push_str("\"time\":\"");
        stamp::push(entries, at);
        entries.push_str("\"}\n");
        let Some(max) = self.config.max_size else { return };
        let size = self.size + entries.len() as u64;
        if size > max && self.size + start as u64 > 0 {
            let last = entries.split_off(start);
            self.write(entries);
            self.rotate();
            *entries = last;
        }
    }

    /// A full disk must not stop the container, so a failed write loses log lines and nothing else.
    fn write(&mut self, entries: &str) {
        if self.file.write_all(entries.as_bytes()).is_ok() {
            self.size += entries.len() as u64;
        }
    }

    /// `PATH.1` becomes `PATH.2` and so on, `PATH` becomes `PATH.1`; a single file is emptied. What cannot be renamed is
    /// written on: too big a log is better than none.
    fn rotate(&mut self) {
        let log = &self.config.path;
        if self.config.max_files > 1 {
            let _lock = pack::lock(log);
            let oldest = self.config.max_files - 1;
            let names: [fn(&Path, u32) -> PathBuf; 2] = [pack::numbered, pack::packed];
            for name in names {
                let _ = fs::remove_file(name(log, oldest));
                for number in (1..oldest).rev() {
                    let _ = fs::rename(name(log, number), name(log, number + 1));
                }
            }
            let _ = fs::rename(log, pack::numbered(log, 1));
        }
        if let Ok(file) = open(&self.config, self.config.max_files <= 1) {
            self.size = file.metadata().map_or(0, |meta| meta.len());
            self.file = file;
        }
        if self.config.compress && self.config.max_files > 1 {
            // Uncompressed it is as readable.
            let _ = pack::start(&self.config.path);
        }
    }
}

fn open(config: &LogConfig, empty: bool) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&config.path)?;
    if empty {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Where to cut so that no UTF-8 sequence is torn: at most three bytes before the end.
fn boundary(bytes: &[u8]) -> usize {
    let end = bytes.len();
    for back in 1..=3.min(end) {
        let byte = bytes[end - back];
        if byte & 0b1100_0000 != 0b1000_0000 {
            let needs = match byte {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            return if needs > back && back < end { end - back } else { end };
        }
    }
    end
}

/// A JSON string's inside as Docker's own writer has it: bytes that are not UTF-8 become U+FFFD.
fn escape(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    use std::fmt::Write;
                    let _ = write!(out, "\\u{:04x}", u32::from(char));
                }
                _ => out.push(char),
            }
        }
        if !chunk.invalid().is_empty() {
            out.push_str("\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn log(max_size: Option<u64>, max_files: u32) -> (tempfile::TempDir, JsonFile) {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            path: dir.path().join("c.log"),
            max_size,
            max_files,
            compress: false,
            attrs: Default::default(),
        };
        (dir, JsonFile::open(config).unwrap())
    }

    fn entries(path: &std::path::Path) -> Vec<(String, String)> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                assert!(value["time"].as_str().unwrap().ends_with('Z'), "{line}");
                (value["stream"].as_str().unwrap().into(), value["log"].as_str().unwrap().into())
            })
            .collect()
    }

    #[test]
    fn lines_are_entries_and_the_last_needs_no_newline() {
        let (dir, mut log) = log(None, 1);
        log.take(1, b"one\ntw");
        log.take(2, b"bad \"quoted\"\t<\xff>\n");
        log.take(1, b"o\nrest");
        log.flush();
        let want = [("stderr", "bad \"quoted\"\t<\u{fffd}>\n"), ("stdout", "two\n"), ("stdout", "rest")];
        let have = entries(&dir.path().join("c.log"));
        assert_eq!(have[0], ("stdout".into(), "one\n".into()));
        for (have, want) in have[1..].iter().zip(want) {
            assert_eq!((have.0.as_str(), have.1.as_str()), want);
        }
        assert_eq!(have.len(), 4);
    }

    #[test]
    fn attributes_come_with_every_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        let attrs = [("tag".to_owned(), "a \"b\"".to_owned())].into();
        let mut log =
            JsonFile::open(LogConfig { path: path.clone(), max_size: None, max_files: 1, compress: false, attrs })
                .unwrap();
        log.take(1, b"one\n");
        let text = fs::read_to_string(path).unwrap();
        let (before, _) = text.split_once("\"time\"").unwrap();
        assert_eq!(before, r#"{"log":"one\n","stream":"stdout","attrs":{"tag":"a \"b\""},"#);
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn long_lines_are_cut_as_docker_cuts_them() {
        let (dir, mut log) = log(None, 1);
        let mut text = "x".repeat(LINE - 1);
        text.push('é');
        text.push_str(&"y".repeat(LINE));
        text.push('\n');
        for piece in text.as_bytes().chunks(1000) {
            log.take(1, piece);
        }
        log.flush();
        let have = entries(&dir.path().join("c.log"));
        assert_eq!(have.iter().map(|(_, text)| text.as_str()).collect::<String>(), text);
        assert_eq!(have.len(), 3);
        assert_eq!(have[0].1.len(), LINE - 1, "é is not torn");
        assert!(have[0].1.ends_with('x') && have[2].1.ends_with('\n'));
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_entry_and_its_newline_another() {
        let (dir, mut log) = log(None, 1);
        log.take(1, &[b'x'; LINE]);
        log.take(1, b"\n");
        let have = entries(&dir.path().join("c.log"));
        assert_eq!(have.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [LINE, 1]);
    }

    #[test]
    fn a_big_log_is_rotated() {
        let (dir, mut log) = log(Some(200), 3);
        for number in 0..9 {
            log.take(1, format!("line {number} {}\n", "-".repeat(40)).as_bytes());
        }
        let text = |name: &str| {
            entries(&dir.path().join(name)).iter().map(|(_, line)| line[5..6].to_owned()).collect::<String>()
        };
        assert_eq!((text("c.log").as_str(), text("c.log.1").as_str(), text("c.log.2").as_str()), ("8", "7", "6"));
        assert!(!dir.path().join("c.log.3").exists());
        let size = fs::metadata(dir.path().join("c.log.1")).unwrap().len();
        assert!(size <= 200, "{size}");
    }

    #[test]
    fn one_file_is_emptied() {
        let (dir, mut log) = log(Some(100), 1);
        log.take(1, b"first line that is quite long\nsecond line that is quite long\n");
        let have = entries(&dir.path().join("c.log"));
        assert_eq!(have, [("stdout".to_owned(), "second line that is quite long\n".to_owned())]);
        assert!(!dir.path().join("c.log.1").exists());
    }
}
