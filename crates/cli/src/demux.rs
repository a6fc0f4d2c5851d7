//! Output of a container without a terminal: frames of eight bytes of header and their data.
//!
//! The header (Docker Engine API, "Attach to a container", stream format): the stream (0 input echoed, 1 output,
//! 2 error, 3 an error of the engine itself), three zeros, the length as 32 bits, most significant byte first.

use std::io::{self, Write};

/// Splits frames as they come, in whatever portions.
#[derive(Default)]
pub struct Demux {
    header: Vec<u8>,
    stream: u8,
    left: usize,
}

impl Demux {
    /// Takes the next bytes of the connection and writes their data to `out` or `err`.
    ///
    /// # Errors
    /// What writing met, or `InvalidData` for a frame of an unknown stream.
    pub fn take(&mut self, mut data: &[u8], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        while !data.is_empty() {
            if self.left == 0 {
                let missing = (8 - self.header.len()).min(data.len());
                self.header.extend_from_slice(&data[..missing]);
                data = &data[missing..];
                let Ok(header) = <[u8; 8]>::try_from(self.header.as_slice()) else {
                    return Ok(());
                };
                self.header.clear();
                let [stream, _, _, _, length @ ..] = header;
                if stream > 3 {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a frame of the unknown stream {stream}"),
                    ));
                }
                self.stream = stream;
                self.left = u32::from_be_bytes(length) as usize;
                continue;
            }
            let (now, later) = data.split_at(self.left.min(data.len()));
            if self.stream < 2 {
                crate::printer::bytes(out, now)?;
            } else {
                crate::printer::bytes(err, now)?;
            }
            self.left -= now.len();
            data = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_may_be_cut_anywhere() {
        let mut wire = vec![1, 0, 0, 0, 0, 0, 0, 6];
        wire.extend(b"hello\n");
        wire.extend([2, 0, 0, 0, 0, 0, 0, 3]);
        wire.extend(b"bad");
        wire.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        wire.extend([1, 0, 0, 0, 0, 0, 0, 1, b'!']);
        for step in 1..wire.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for part in wire.chunks(step) {
                demux.take(part, &mut out, &mut err).expect("frames");
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello\n!"[..], &b"bad"[..]), "by {step}");
        }
    }

    #[test]
    fn an_unknown_stream_is_no_frame() {
        let refused = Demux::default().take(&[9; 8], &mut Vec::new(), &mut Vec::new());
        assert_eq!(refused.map_err(|err| err.kind()), Err(io::ErrorKind::InvalidData));
    }
}
