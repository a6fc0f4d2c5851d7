//! Recognises and undoes the compressions that layers and archives come in, within limits.

use std::io::{self, BufRead, BufReader, Read};

use crate::config::media;
use crate::error::{Doing, Refusal, Result, in_io};
use crate::limits::Limits;

/// How a blob is compressed, by its first bytes: media types are often wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Judges by magic numbers (RFC 1952, RFC 8878). Compressions that are not supported are refused by name.
    pub fn of(start: &[u8]) -> Result<Compression, Refusal> {
        let refused = |name: &str| {
            Refusal::BadArchive(format!("{name} compression is not supported; use gzip, zstd or a plain tar archive"))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
            // Skippable frames, which some zstd writers put first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(refused("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, ..] => Err(refused("bzip2")),
            _ => Ok(Compression::None),
        }
    }

    /// The OCI media type of a layer so compressed.
    pub fn layer_type(self) -> &'static str {
        match self {
            Compression::None => media::OCI_LAYER,
            Compression::Gzip => media::OCI_LAYER_GZIP,
            Compression::Zstd => media::OCI_LAYER_ZSTD,
        }
    }
}

/// The decompressed form of a stream, whatever its compression.
pub(crate) fn decompressed<'a, R: Read + 'a>(reader: R) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let start = reader.fill_buf().doing(|| "reading an archive".to_owned())?;
    let compression = Compression::of(start)?;
    let plain: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(Damage(flate2::bufread::MultiGzDecoder::new(reader), "gzip")),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(reader).doing(|| "starting zstd".to_owned())?;
            Box::new(Damage(decoder, "zstd"))
        }
    };
    Ok((compression, plain))
}

/// Decoders report damaged data as an `io::Error` like any other; here it becomes the archive's refusal.
struct Damage<R>(R, &'static str);

impl<R: Read> Read for Damage<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|error| {
            if error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<Refusal>()) {
                return error;
            }
            in_io(Refusal::BadArchive(format!("the {} data is damaged: {error}", self.1)))
        })
    }
}

/// A reader that refuses to become longer than a limit, or too many times longer than its source.
pub(crate) struct Bounded<R> {
    inner: R,
    count: u64,
    bytes: u64,
    /// The bound that the ratio sets.
    by_ratio: u64,
    ratio: u64,
}

impl<R: Read> Bounded<R> {
    /// Bounds the decompressed form of a blob of `stored` bytes.
    pub fn new(inner: R, stored: u64, limits: &Limits) -> Self {
        let by_ratio = stored.saturating_mul(limits.ratio).max(limits.ratio_from);
        Bounded { inner, count: 0, bytes: limits.layer_bytes, by_ratio, ratio: limits.ratio }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count += n as u64;
        if self.count > self.bytes.min(self.by_ratio) {
            let limit = match self.count > self.bytes {
                true => format!("{} bytes", self.bytes),
                false => format!("{} bytes, {} times its stored size", self.by_ratio, self.ratio),
            };
            return Err(in_io(Refusal::OverLimit { what: "the decompressed layer".to_owned(), limit }));
        }
        Ok(n)
    }
}
