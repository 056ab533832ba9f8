//! Ranges of row keys, and the ones that a filter allows.

mod filter;

use std::fmt;

use bytes::Bytes;

pub(crate) use filter::Keys;

/// Keys with `start <= key < end`, compared byte by byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// Empty: from the first key.
    pub start: Bytes,
    /// `None`: to the last key.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::default()
    }

    /// Keys that begin with these bytes.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        // The first key behind them all: the last byte that can grow, grown. Of all-ff prefixes there is none.
        let grows = prefix.iter().rposition(|byte| *byte != 0xff);
        let end = grows.map(|at| [&prefix[..at], &[prefix[at] + 1]].concat().into());
        KeyRange { start: Bytes::copy_from_slice(prefix), end }
    }

    /// One key.
    pub fn one(key: &[u8]) -> KeyRange {
        KeyRange { start: Bytes::copy_from_slice(key), end: Some(after(key)) }
    }

    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    fn and(&self, other: &KeyRange) -> KeyRange {
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (a, b) => a.clone().or(b.clone()),
        };
        KeyRange { start: self.start.clone().max(other.start.clone()), end }
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, ", self.start.escape_ascii())?;
        match &self.end {
            Some(end) => write!(f, "{})", end.escape_ascii()),
            None => write!(f, "end)"),
        }
    }
}

/// The first key behind this one.
pub(crate) fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// Keys in both of two unions of ranges.
fn intersect(a: &[KeyRange], b: &[KeyRange]) -> Vec<KeyRange> {
    unite(a.iter().flat_map(|a| b.iter().map(move |b| a.and(b))).collect())
}

/// The same keys as disjoint ranges, in order.
fn unite(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort();
    let mut united: Vec<KeyRange> = Vec::new();
    for range in ranges {
        match united.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| range.start <= *end) => {
                last.end = last.end.take().zip(range.end).map(|(a, b)| a.max(b));
            }
            _ => united.push(range),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_does_not_begin_with_it() {
        assert_eq!(KeyRange::prefix(b"ab").to_string(), "[ab, ac)");
        assert_eq!(KeyRange::prefix(b"a\xff").to_string(), "[a\\xff, b)");
        assert_eq!(KeyRange::prefix(b"\xff\xff").to_string(), "[\\xff\\xff, end)");
        assert_eq!(KeyRange::prefix(b""), KeyRange::all());
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let ranges = vec![KeyRange::prefix(b"c"), KeyRange::prefix(b"a"), KeyRange::prefix(b"b"), KeyRange::one(b"x")];
        let united: Vec<_> = unite(ranges).iter().map(KeyRange::to_string).collect();
        assert_eq!(united, ["[a, d)", "[x, x\\x00)"]);
        assert_eq!(unite(vec![KeyRange::prefix(b"a"), KeyRange::all()]), [KeyRange::all()]);
    }

    #[test]
    fn keys_in_both_of_two_ranges_may_be_none() {
        assert_eq!(intersect(&[KeyRange::prefix(b"a")], &[KeyRange::prefix(b"b")]), []);
        assert_eq!(intersect(&[KeyRange::prefix(b"a")], &[KeyRange::prefix(b"ab")]), [KeyRange::prefix(b"ab")]);
    }
}
