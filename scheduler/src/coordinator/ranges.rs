//! What of the ranges that a source offers becomes an epoch.

use redpoll_core::source::{OffsetRange, Offsets};

/// The part of a range that was there at the first look.
pub(super) fn up_to(range: OffsetRange, ends: &Offsets) -> Option<OffsetRange> {
    let end = range.end.min(*ends.get(&range.topic_partition())?);
    (end > range.start).then(|| range.slice(range.start, end))
}

/// As much of the first range as `max_bytes` hold by estimate, one record at least.
pub(super) fn first(ranges: Vec<OffsetRange>, max_bytes: u64) -> Vec<OffsetRange> {
    let Some(range) = ranges.into_iter().next() else { return Vec::new() };
    let most = u128::from(max_bytes) * u128::from(range.len()) / u128::from(range.bytes.max(1));
    let most = i64::try_from(most).unwrap_or(i64::MAX).max(1);
    vec![range.slice(range.start, range.end.min(range.start.saturating_add(most)))]
}

/// Puts surplus splits together, so that no two splits of an epoch share a lane.
pub(super) fn at_most(splits: Vec<Vec<OffsetRange>>, lanes: usize) -> Vec<Vec<OffsetRange>> {
    let mut merged: Vec<Vec<OffsetRange>> = Vec::new();
    for (i, split) in splits.into_iter().enumerate() {
        match i < lanes.max(1) {
            true => merged.push(split),
            false => merged[i % lanes.max(1)].extend(split),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i64, end: i64, bytes: u64) -> OffsetRange {
        OffsetRange { topic: "t".into(), start, end, bytes, ..Default::default() }
    }

    #[test]
    fn as_much_is_taken_as_the_bytes_hold_and_one_record_at_least() {
        let check = |bytes, end| assert_eq!(first(vec![range(10, 20, 1000), range(20, 30, 1)], bytes)[0].end, end);
        check(300, 13);
        check(0, 11);
        check(u64::MAX, 20);
        assert!(first(Vec::new(), 1).is_empty());
    }

    #[test]
    fn no_two_splits_share_a_lane() {
        let splits = at_most((0..7).map(|start| vec![range(start, start + 1, 1)]).collect(), 3);
        let starts: Vec<Vec<i64>> = splits.iter().map(|split| split.iter().map(|r| r.start).collect()).collect();
        assert_eq!(starts, [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
    }
}
