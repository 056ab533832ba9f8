//! Avro object containers: a header with the schema, then blocks of alerts, each closed by a marker.

use std::io::Read as _;
use std::ops::Range;

use bytes::Bytes;
use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::cursor::{Cursor, Fault, Read, Reason, allowed_values};

const MAGIC: &[u8; 4] = b"Obj\x01";

/// What all blocks of one record may unpack to. Alerts are well below a megabyte; archives of them are a few dozen.
const MAX_UNPACKED: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it is not an Avro object container: it begins with {0:02x?}")]
    Magic(Vec<u8>),
    #[error("its header cannot be read: {0}")]
    Header(String),
    #[error("its header names no schema")]
    NoSchema,
    #[error("its codec '{0}' is not one of null, deflate, snappy")]
    Codec(String),
    #[error("block {0} is truncated or damaged: {1}")]
    Block(usize, String),
    #[error("block {0} unpacks to more than the limit of {MAX_UNPACKED} bytes")]
    TooLarge(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    Null,
    Deflate,
    Snappy,
}

/// The header of a container, as ranges of its bytes.
pub(super) struct Header<'a> {
    /// JSON text.
    pub schema: &'a [u8],
    pub codec: Packed,
    sync: [u8; 16],
    /// Where the first block begins.
    pub end: usize,
}

pub(super) fn header(bytes: &Bytes) -> Result<Header<'_>, Error> {
    if !bytes.starts_with(MAGIC) {
        return Err(Error::Magic(bytes.iter().take(4).copied().collect()));
    }
    let mut cursor = Cursor::new(bytes, MAGIC.len()..bytes.len(), allowed_values(bytes.len()));
    let (mut schema, mut codec) = (None, Packed::Null);
    let unreadable = |fault: Box<Fault>| Error::Header(fault.to_string());
    loop {
        let (items, _) = cursor.block().map_err(unreadable)?;
        if items == 0 {
            break;
        }
        for _ in 0..items {
            let (key, value) = key_value(&mut cursor).map_err(unreadable)?;
            match key {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = packed(value)?,
                _ => {}
            }
        }
    }
    let sync = cursor.array().map_err(unreadable)?;
    Ok(Header { schema: schema.ok_or(Error::NoSchema)?, codec, sync, end: cursor.position() })
}

fn key_value<'a>(cursor: &mut Cursor<'a>) -> Read<(&'a [u8], &'a [u8])> {
    Ok((cursor.bytes()?, cursor.bytes()?))
}

fn packed(name: &[u8]) -> Result<Packed, Error> {
    match name {
        b"null" | b"" => Ok(Packed::Null),
        b"deflate" => Ok(Packed::Deflate),
        b"snappy" => Ok(Packed::Snappy),
        other => Err(Error::Codec(String::from_utf8_lossy(other).chars().take(20).collect())),
    }
}

/// A block of alerts: a range of the record's bytes, or of new ones if it was packed.
pub(super) struct Block {
    pub n_alerts: usize,
    pub source: Bytes,
    pub range: Range<usize>,
}

/// Walks over the blocks of a container.
pub(super) struct Blocks<'a> {
    bytes: &'a Bytes,
    codec: Packed,
    sync: [u8; 16],
    pos: usize,
    n: usize,
    unpacked: usize,
}

impl<'a> Blocks<'a> {
    pub fn new(bytes: &'a Bytes, header: &Header<'_>) -> Blocks<'a> {
        Blocks { bytes, codec: header.codec, sync: header.sync, pos: header.end, n: 0, unpacked: 0 }
    }

    /// The next block, `None` after the last one.
    pub fn next(&mut self) -> Result<Option<Block>, Error> {
        if self.pos == self.bytes.len() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(self.bytes, self.pos..self.bytes.len(), 0);
        let (n_alerts, start, sync) = block_bounds(&mut cursor).map_err(|fault| self.damaged(&fault.to_string()))?;
        if sync != self.sync {
            return Err(self.damaged("the marker at its end is another one"));
        }
        let end = cursor.position();
        let range = start..end - sync.len();
        let (source, range) = match self.codec {
            Packed::Null => (self.bytes.clone(), range),
            packed => {
                let data = self.unpack(packed, &self.bytes[range])?;
                let len = data.len();
                (data, 0..len)
            }
        };
        (self.pos, self.n) = (end, self.n + 1);
        Ok(Some(Block { n_alerts, source, range }))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Block(self.n, reason.to_owned())
    }

    fn unpack(&mut self, packed: Packed, data: &[u8]) -> Result<Bytes, Error> {
        let room = MAX_UNPACKED - self.unpacked;
        let unpacked = match packed {
            Packed::Null => data.to_vec(),
            Packed::Deflate => {
                let mut unpacked = Vec::with_capacity(data.len().saturating_mul(2).min(room));
                let mut decoder = DeflateDecoder::new(data).take(room as u64 + 1);
                decoder.read_to_end(&mut unpacked).map_err(|error| self.damaged(&error.to_string()))?;
                unpacked
            }
            Packed::Snappy => self.unpack_snappy(data, room)?,
        };
        if unpacked.len() > room {
            return Err(Error::TooLarge(self.n));
        }
        self.unpacked += unpacked.len();
        Ok(Bytes::from(unpacked))
    }

    /// A snappy block ends with the CRC-32 of its unpacked bytes, big endian.
    fn unpack_snappy(&self, data: &[u8], room: usize) -> Result<Vec<u8>, Error> {
        let (data, expected) = data.split_last_chunk::<4>().ok_or_else(|| self.damaged("it has no checksum"))?;
        let len = snap::raw::decompress_len(data).map_err(|error| self.damaged(&error.to_string()))?;
        // Snappy packs at most 64 bytes into 3, so a longer claim is a lie that would cost memory.
        if len > room || len / 32 > data.len() {
            return Err(Error::TooLarge(self.n));
        }
        let unpacked =
            snap::raw::Decoder::new().decompress_vec(data).map_err(|error| self.damaged(&error.to_string()))?;
        match checksum(&unpacked) == u32::from_be_bytes(*expected) {
            true => Ok(unpacked),
            false => Err(self.damaged("its checksum is wrong")),
        }
    }
}

/// Number of alerts, where the data begins, and the marker after it.
fn block_bounds(cursor: &mut Cursor<'_>) -> Read<(usize, usize, [u8; 16])> {
    let n_alerts = cursor.long()?;
    let data = cursor.bytes()?;
    let start = cursor.position() - data.len();
    let n_alerts = usize::try_from(n_alerts).map_err(|_| Reason::Number)?;
    Ok((n_alerts, start, cursor.array()?))
}

pub(super) fn checksum(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}
