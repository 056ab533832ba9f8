//! Bytes on the wire: zigzag variable-length integers, and lengths before bytes.

use super::{Error, Result};

pub fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    put_long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// Reads forward through a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn take(&mut self, n_bytes: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n_bytes).ok_or(Error::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    pub fn long(&mut self) -> Result<i64> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Error::Malformed { at: start })
    }

    /// A length: a long that is not negative.
    pub fn length(&mut self) -> Result<usize> {
        let start = self.at;
        usize::try_from(self.long()?).map_err(|_| Error::Malformed { at: start })
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let n_bytes = self.length()?;
        self.take(n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_is_read_as_it_was_written() {
        for value in [0, -1, 1, 63, -64, 64, 2_481_165_683_015_015_007, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_long(value, &mut out);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.long().unwrap(), value);
            assert!(reader.is_at_end());
        }
    }

    #[test]
    fn a_long_without_end_is_malformed_and_a_short_one_truncated() {
        assert!(matches!(Reader::new(&[0xff; 11]).long(), Err(Error::Malformed { at: 0 })));
        assert!(matches!(Reader::new(&[0xff; 3]).long(), Err(Error::Truncated)));
    }
}
