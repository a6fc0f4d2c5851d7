use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may pause.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// Of the connection; `InvalidData` for an answer that is no HTTP; `TimedOut` or `WouldBlock` after 30 silent seconds.
pub fn request(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" || method == "PUT" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // An engine may refuse a body before it has read it all; its answer counts, not the broken pipe.
    let sent = stream.write_all(body);
    let answer = answer(BufReader::new(stream), method);
    if answer.is_err() {
        sent?;
    }
    answer
}

/// Reads one answer (RFC 9112).
fn answer(mut reader: impl BufRead, method: &str) -> io::Result<Answer> {
    let first = line(&mut reader)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status: u16 = status.ok_or_else(|| bad("status line", &first))?;
    let mut headers = Vec::new();
    loop {
        let field = line(&mut reader)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').ok_or_else(|| bad("header field", &field))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(&mut reader)?;
            let count = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| bad("size of a chunk", &size))?;
            exactly(&mut reader, count, &mut answer.body)?;
            line(&mut reader)?;
            if count == 0 {
                break;
            }
        }
    } else if let Some(length) = answer.header("content-length") {
        let count = length.parse().map_err(|_| bad("content length", length))?;
        exactly(&mut reader, count, &mut answer.body)?;
    } else {
        reader.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn exactly(reader: &mut impl Read, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
    let got = reader.take(count).read_to_end(into)?;
    if got as u64 == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn bad(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad {what} in an HTTP answer: `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> io::Result<Answer> {
        answer(text.as_bytes(), "GET")
    }

    #[test]
    fn answers_of_all_three_lengths() {
        let sized = parsed("HTTP/1.1 201 Created\r\nContent-Length: 2\r\nApi-Version: 1.50\r\n\r\nokrest").unwrap();
        assert_eq!((sized.status, sized.body.as_slice(), sized.header("api-version")), (201, &b"ok"[..], Some("1.50")));
        let chunked =
            parsed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!(chunked.body, b"abc0123456789");
        assert_eq!(parsed("HTTP/1.0 200 OK\r\n\r\nto the end").unwrap().body, b"to the end");
        assert_eq!(parsed("HTTP/1.1 204 No Content\r\n\r\n").unwrap().body, b"");
    }

    #[test]
    fn a_short_or_strange_answer_is_an_error() {
        assert_eq!(
            parsed("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(parsed("SSH-2.0-x\r\n\r\n").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(parsed("").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
