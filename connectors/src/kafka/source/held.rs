//! Which offsets of ranges that were read before the brokers still hold.

use std::collections::BTreeMap;

use redpoll_core::source::{Error, Gone, OffsetRange};

use super::Source;
use crate::kafka::offsets::{bounds, leaders};
use crate::kafka::topic_ids::topic_ids;

pub(super) async fn held(source: &Source, ranges: Vec<OffsetRange>) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
    let mut partitions = BTreeMap::new();
    for range in &ranges {
        if !partitions.contains_key(&range.topic) {
            let found = leaders(&source.cluster, &range.topic).await?.unwrap_or_default();
            partitions.insert(range.topic.clone(), found);
        }
    }
    let there = |range: &&OffsetRange| partitions[&range.topic].contains_key(&range.partition);
    let mut asked: Vec<_> = ranges.iter().filter(there).map(OffsetRange::topic_partition).collect();
    asked.sort();
    asked.dedup();
    let topics: Vec<String> = partitions.keys().cloned().collect();
    let ids = topic_ids(&source.cluster, &topics).await?;
    let bounds = bounds(&source.cluster, &asked).await?;
    let (mut held, mut gone) = (Vec::new(), Vec::new());
    for range in ranges {
        if range.expired {
            // Known to be absent when it was planned: there is nothing to read, then and now.
            held.push(range);
            continue;
        }
        if matches!((&range.topic_id, ids.get(&range.topic)), (Some(was), Some(is)) if was != is) {
            gone.push(Gone { range, reason: "the topic was deleted and created anew".to_owned() });
            continue;
        }
        match bounds.get(&range.topic_partition()) {
            Some(bounds) => cut(&range, *bounds, &mut held, &mut gone),
            None => gone.push(Gone { range, reason: "the broker has no such topic partition any more".to_owned() }),
        }
    }
    Ok((held, gone))
}

/// Cuts a range at what a topic partition holds, `earliest..end`.
fn cut(range: &OffsetRange, (earliest, end): (i64, i64), held: &mut Vec<OffsetRange>, gone: &mut Vec<Gone>) {
    let from = earliest.clamp(range.start, range.end);
    let to = end.clamp(from, range.end);
    let mut lost = |start, end, reason: String| {
        if start < end {
            gone.push(Gone { range: range.slice(start, end), reason });
        }
    };
    lost(range.start, from, format!("the topic partition begins at offset {earliest} now"));
    lost(to, range.end, format!("the topic partition ends at offset {end} now: was the topic created anew?"));
    if from < to {
        held.push(range.slice(from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_what_the_broker_holds() {
        let range =
            OffsetRange { topic: "ztf".into(), partition: 1, start: 10, end: 20, bytes: 100, ..Default::default() };
        let check = |bounds, kept: Option<(i64, i64)>, lost: &[(i64, i64)]| {
            let (mut held, mut gone) = (Vec::new(), Vec::new());
            cut(&range, bounds, &mut held, &mut gone);
            assert_eq!(held.first().map(|range| (range.start, range.end)), kept, "{bounds:?}");
            assert_eq!(gone.iter().map(|gone| (gone.range.start, gone.range.end)).collect::<Vec<_>>(), lost);
        };
        check((0, 100), Some((10, 20)), &[]);
        check((13, 100), Some((13, 20)), &[(10, 13)]);
        check((20, 20), None, &[(10, 20)]);
        check((0, 15), Some((10, 15)), &[(15, 20)]);
        check((0, 0), None, &[(10, 20)]);
    }
}
