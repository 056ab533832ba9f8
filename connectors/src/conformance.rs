//! What every source must do, whatever it reads from: call [`check`] with one that holds at least two records.

use futures::TryStreamExt;
use futures::stream::StreamExt;
use redpoll_core::source::{OffsetRange, Offsets, Record, Source, Start, TopicPartition};

/// A record as far as two readings must agree on it.
type Seen = (String, i32, i64, Option<i64>, Option<Vec<u8>>, Vec<u8>);

/// Checks the contract of a source that nobody writes to meanwhile; gives back its records, range by range.
pub async fn check(source: &dyn Source) -> Vec<Record> {
    let whole = source.available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap();
    assert!(!whole.is_empty(), "the source holds records");
    let mut records = Vec::new();
    for range in &whole {
        records.extend(a_range_reads_in_order_and_twice_alike(source, range).await);
        parts_of_a_range_read_as_the_whole(source, range).await;
        a_dropped_stream_leaves_nothing_behind(source, range).await;
    }
    splits_cover_every_record_once(source, &whole, &records).await;
    small_steps_arrive_where_one_large_step_does(source, &whole, &records).await;
    nothing_lies_beyond_the_ends(source, &whole).await;
    records
}

pub async fn read(source: &dyn Source, range: &OffsetRange) -> Vec<Record> {
    source.read(range.clone()).try_collect().await.unwrap()
}

fn seen(records: &[Record]) -> Vec<Seen> {
    let one = |r: &Record| {
        let key = r.key.as_ref().map(|key| key.to_vec());
        (r.topic.to_string(), r.partition, r.offset, r.timestamp, key, r.value.to_vec())
    };
    records.iter().map(one).collect()
}

fn sorted(records: &[Record]) -> Vec<Seen> {
    let mut seen = seen(records);
    seen.sort();
    seen
}

async fn a_range_reads_in_order_and_twice_alike(source: &dyn Source, range: &OffsetRange) -> Vec<Record> {
    assert!(!range.is_empty(), "{range:?}");
    let (first, second) = futures::join!(read(source, range), read(source, range));
    assert_eq!(seen(&first), seen(&second), "two readers of {range:?} at once");
    assert!(first.is_sorted_by(|a, b| a.offset < b.offset), "{range:?} is read in order");
    assert!(first.iter().all(|r| r.partition == range.partition && (range.start..range.end).contains(&r.offset)));
    first
}

async fn parts_of_a_range_read_as_the_whole(source: &dyn Source, range: &OffsetRange) {
    let whole = read(source, range).await;
    let len = range.end - range.start;
    for cut in [1, len / 3, len / 2, len - 1].into_iter().filter(|cut| (1..len).contains(cut)) {
        let cut = range.start + cut;
        let mut parts = read(source, &range.slice(range.start, cut)).await;
        parts.extend(read(source, &range.slice(cut, range.end)).await);
        assert_eq!(seen(&parts), seen(&whole), "{range:?} cut at {cut}");
    }
}

async fn a_dropped_stream_leaves_nothing_behind(source: &dyn Source, range: &OffsetRange) {
    let whole = read(source, range).await;
    drop(source.read(range.clone()).next().await);
    assert_eq!(seen(&read(source, range).await), seen(&whole), "{range:?} after a stream was dropped");
}

async fn splits_cover_every_record_once(source: &dyn Source, whole: &[OffsetRange], records: &[Record]) {
    let bytes: u64 = whole.iter().map(|range| range.bytes).sum();
    for max_bytes in [u64::MAX, bytes / 5 + 1, 1] {
        let mut read_by_splits = Vec::new();
        for range in source.split(whole, max_bytes).iter().flatten() {
            read_by_splits.extend(read(source, range).await);
        }
        assert_eq!(sorted(&read_by_splits), sorted(records), "splits of {max_bytes} bytes");
    }
}

async fn small_steps_arrive_where_one_large_step_does(source: &dyn Source, whole: &[OffsetRange], records: &[Record]) {
    let step = whole.iter().map(|range| range.bytes).sum::<u64>() / 7 + 1;
    let (mut from, mut stepped) = (Offsets::new(), Vec::new());
    loop {
        let ranges = source.available(&from, Start::Earliest, step).await.unwrap();
        if ranges.is_empty() {
            break;
        }
        for range in &ranges {
            let next = from.insert(range.topic_partition(), range.end);
            assert!(next.is_none_or(|next| next == range.start), "{range:?} begins where {next:?} ended");
            stepped.extend(read(source, range).await);
        }
    }
    assert_eq!(sorted(&stepped), sorted(records));
}

async fn nothing_lies_beyond_the_ends(source: &dyn Source, whole: &[OffsetRange]) {
    let end =
        |range: &OffsetRange| (TopicPartition { topic: range.topic.clone(), partition: range.partition }, range.end);
    let ends: Offsets = whole.iter().map(end).collect();
    assert_eq!(source.available(&ends, Start::Earliest, u64::MAX).await.unwrap(), []);
}
