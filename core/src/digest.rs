//! An order-free fingerprint of a multiset of rows: the sum of 128-bit hashes.
//!
//! Two sets of rows that were cut, shuffled or written in another order have the same digest; a row lost, doubled or
//! exchanged changes it.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::source::OffsetRange;

/// Sum, modulo 2^128, of the hashes of rows. Written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(pub u128);

/// The hash of one row, from where it was read: `row` numbers the alerts of one record from 0.
pub fn row_hash(topic: &str, partition: i32, offset: i64, row: u32) -> u128 {
    let mut bytes = Vec::with_capacity(topic.len() + 16);
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&partition.to_le_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(&row.to_le_bytes());
    xxh3_128(&bytes)
}

/// Which positions a split reads, as one number: two splits that read other positions differ in it. A range that was cut
/// into parts since, because some of them have expired, is the same positions.
pub fn ranges_hash(ranges: &[OffsetRange]) -> u64 {
    let mut bytes = Vec::new();
    let mut rest = ranges.iter().peekable();
    while let Some(range) = rest.next() {
        let mut end = range.end;
        let follows = |next: &&OffsetRange, end| {
            next.topic == range.topic && next.partition == range.partition && next.start == end
        };
        while let Some(next) = rest.next_if(|next| follows(next, end)) {
            end = next.end;
        }
        bytes.extend_from_slice(&row_hash(&range.topic, range.partition, range.start, 0).to_le_bytes());
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// The hash of bytes by which a sink tells rows apart: an encoded alert, a row key.
pub fn bytes_hash(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

impl Digest {
    pub fn of(hashes: impl IntoIterator<Item = u128>) -> Self {
        Self(hashes.into_iter().fold(0, u128::wrapping_add))
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_that_reads_one_offset_more_has_another_hash() {
        let range =
            |partition, end| OffsetRange { topic: "ztf".into(), partition, start: 5, end, ..Default::default() };
        let hashes = [vec![range(0, 9)], vec![range(0, 10)], vec![range(1, 9)], vec![range(0, 9), range(1, 9)]];
        let mut hashes: Vec<_> = hashes.iter().map(|ranges| ranges_hash(ranges)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
        let estimated = OffsetRange { bytes: 77, ..range(0, 9) };
        assert_eq!(ranges_hash(&[estimated]), ranges_hash(&[range(0, 9)]));
        let whole = range(0, 9);
        let cut = [OffsetRange { expired: true, ..whole.slice(5, 7) }, whole.slice(7, 9)];
        assert_eq!(ranges_hash(&cut), ranges_hash(&[whole]));
    }

    #[test]
    fn order_does_not_matter_but_a_doubled_row_does() {
        let rows: Vec<_> = (0..100).map(|offset| row_hash("ztf", 1, offset, 0)).collect();
        let backwards = Digest::of(rows.iter().rev().copied());
        assert_eq!(Digest::of(rows.iter().copied()), backwards);
        assert_ne!(Digest::of(rows.iter().copied().chain([rows[0]])), backwards);
    }
}
