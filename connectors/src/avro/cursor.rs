//! Reads Avro's primitive encodings from bytes that nobody has vouched for.
//!
//! Every length is checked against what is left, and a record may only expand to so many values, so that hostile
//! bytes cost no more memory than honest ones.

use std::ops::Range;

use bytes::Bytes;

/// How many values `bytes` of a record may expand to. Honest values take a byte or more each; the rest is room for
/// columns that the writer lacks. (345 LSST sources of history are about 35,000 values in 200 kB.)
pub(super) fn allowed_values(bytes: usize) -> usize {
    (1 << 20) + 4 * bytes
}

/// Why a value could not be read, and the field it belongs to.
#[derive(Debug)]
pub(super) struct Fault {
    pub reason: Reason,
    /// Names of the fields around the value, innermost first.
    pub path: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error("the bytes end inside a value")]
    Truncated,
    #[error("a length of {0} where {1} bytes are left")]
    Length(i64, usize),
    #[error("a number that does not fit its type")]
    Number,
    #[error("branch {0} of a union that has no such branch")]
    Branch(i64),
    #[error("symbol {0} of an enum that has no such symbol")]
    Symbol(i64),
    #[error("a boolean byte of {0}")]
    Boolean(u8),
    #[error("a string that is not UTF-8")]
    Utf8,
    #[error("the record expands to more values than its bytes allow")]
    TooManyValues,
    #[error("the batch holds more than 2 GiB in one column")]
    BatchFull,
    #[error("types nest deeper than the limit")]
    Depth,
    #[error("{0}")]
    Unresolved(String),
}

impl Fault {
    /// Adds the name of the field that was being read.
    #[cold]
    pub fn inside(mut self: Box<Self>, field: &str) -> Box<Self> {
        self.path.push(field.to_owned());
        self
    }
}

impl From<Reason> for Box<Fault> {
    #[cold]
    fn from(reason: Reason) -> Self {
        Box::new(Fault { reason, path: Vec::new() })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<_> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "field {}: ", path.join("."))?;
        }
        write!(f, "{}", self.reason)
    }
}

pub(super) type Read<T> = Result<T, Box<Fault>>;

/// A position in the bytes of one datum or of one block of a container.
pub(super) struct Cursor<'a> {
    data: &'a [u8],
    pos: usize,
    /// Values the record may still expand to.
    pub values: usize,
    /// The bytes that `data` is the beginning of: views into it stay references.
    pub source: &'a Bytes,
}

impl<'a> Cursor<'a> {
    /// Reads this range of `source`, expanding to no more than so many values.
    pub fn new(source: &'a Bytes, range: Range<usize>, values: usize) -> Cursor<'a> {
        let end = range.end.min(source.len());
        Cursor { data: &source[..end], pos: range.start.min(end), values, source }
    }

    pub fn position(&self) -> usize {
        self.pos
    }

    pub fn left(&self) -> usize {
        self.data.len() - self.pos
    }

    #[inline]
    pub fn byte(&mut self) -> Read<u8> {
        let Some(byte) = self.data.get(self.pos) else { return Err(Reason::Truncated.into()) };
        self.pos += 1;
        Ok(*byte)
    }

    #[inline]
    pub fn long(&mut self) -> Read<i64> {
        match self.data.get(self.pos) {
            Some(byte) if byte & 0x80 == 0 => {
                self.pos += 1;
                Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1))
            }
            _ => self.long_varint(),
        }
    }

    /// The branch of a union of null and one other type: whether it is null, which is written as this byte (0 or 2).
    #[inline]
    pub fn is_null(&mut self, null: u8) -> Read<bool> {
        let byte = self.byte()?;
        if byte <= 2 && byte != 1 {
            return Ok(byte == null);
        }
        self.pos -= 1;
        match self.long()? {
            branch @ (0 | 1) => Ok(branch == i64::from(null >> 1)),
            other => Err(Reason::Branch(other).into()),
        }
    }

    fn long_varint(&mut self) -> Read<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Reason::Number.into())
    }

    #[inline]
    pub fn int(&mut self) -> Read<i32> {
        let value = self.long()?;
        if value as i32 as i64 != value {
            return Err(Reason::Number.into());
        }
        Ok(value as i32)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some(bytes) = self.data[self.pos..].first_chunk::<N>() else { return Err(Reason::Truncated.into()) };
        self.pos += N;
        Ok(*bytes)
    }

    pub fn boolean(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Reason::Boolean(other).into()),
        }
    }

    /// A length and so many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Read<&'a [u8]> {
        let len = self.long()?;
        let left = self.left();
        match usize::try_from(len) {
            Ok(n) if n <= left => self.fixed(n),
            _ => Err(Reason::Length(len, left).into()),
        }
    }

    #[inline]
    pub fn fixed(&mut self, len: usize) -> Read<&'a [u8]> {
        let Some(bytes) = self.data[self.pos..].get(..len) else { return Err(Reason::Truncated.into()) };
        self.pos += len;
        Ok(bytes)
    }

    /// The next block of an array or a map: its number of items, 0 at the end, and its bytes if the writer told them.
    pub fn block(&mut self) -> Read<(usize, Option<usize>)> {
        let count = self.long()?;
        let bytes = match count < 0 {
            true => Some(self.long()?),
            false => None,
        };
        let left = self.left();
        let bytes = match bytes.map(usize::try_from) {
            None => None,
            Some(Ok(bytes)) if bytes <= left => Some(bytes),
            Some(_) => return Err(Reason::Length(bytes.unwrap_or_default(), left).into()),
        };
        let items = usize::try_from(count.unsigned_abs()).map_err(|_| Reason::TooManyValues)?;
        Ok((items, bytes))
    }

    /// Takes `items` times `width` values from what the record may expand to.
    pub fn spend(&mut self, items: usize, width: usize) -> Read<()> {
        match items.checked_mul(width.max(1)).and_then(|n| self.values.checked_sub(n)) {
            Some(left) => self.values = left,
            None => return Err(Reason::TooManyValues.into()),
        }
        Ok(())
    }
}
