//! What a receipt says, held against the split that it is of and against itself.
//!
//! Sums over an epoch would hide what one split lost and another has twice; and `decoded` alerts that no view was asked
//! about would be in no sum at all.

use std::collections::BTreeMap;

use super::{Imbalance, SourceCounts, ViewCounts, add_view, equal};
use crate::ids::Epoch;
use crate::protocol::{Intent, Receipt};
use crate::source::OffsetRange;

/// Half-open ranges of offsets by topic and partition, in order.
type Spans = BTreeMap<(String, i32), Vec<(i64, i64)>>;

/// Each split of an epoch has one receipt, for the positions that it was given.
pub(super) fn check_splits(intent: &Intent, receipts: &[Receipt]) -> Result<(), Imbalance> {
    let epoch = intent.epoch;
    let ids = |ids: &mut dyn Iterator<Item = u32>| {
        let mut ids: Vec<u32> = ids.collect();
        ids.sort_unstable();
        format!("{ids:?}")
    };
    let wanted = ids(&mut intent.splits.iter().map(|split| split.id.0));
    let line = "splits of the intent = splits with a receipt".to_owned();
    equal(epoch, line, wanted, ids(&mut receipts.iter().map(|receipt| receipt.split.0)))?;
    for receipt in receipts {
        let split = intent.splits.iter().find(|split| split.id == receipt.split);
        let given = split.map(|split| &split.ranges[..]).unwrap_or_default();
        let line = format!("split {}: positions of the intent = positions of its receipt", receipt.split);
        let read = joined(receipt.sources.iter().map(|c| (&c.topic, c.partition, c.start, c.end)));
        equal(epoch, line, in_words(&joined(given.iter().map(parts))), in_words(&read))?;
        check_expired(epoch, given, receipt)?;
    }
    Ok(())
}

/// Nothing is given up as expired that the intent does not give up.
fn check_expired(epoch: Epoch, given: &[OffsetRange], receipt: &Receipt) -> Result<(), Imbalance> {
    let marked = joined(given.iter().filter(|range| range.expired).map(parts));
    let lost = |c: &'_ SourceCounts| {
        let of = |(start, end): &(i64, i64)| (c.topic.clone(), c.partition, *start, *end);
        c.expired.iter().map(of).collect::<Vec<_>>()
    };
    let lost: Vec<_> = receipt.sources.iter().flat_map(lost).collect();
    let told = joined(lost.iter().map(|(topic, partition, start, end)| (topic, *partition, *start, *end)));
    let is_marked = told.iter().all(|(place, spans)| {
        let marked = marked.get(place).map(|spans| &spans[..]).unwrap_or_default();
        spans.iter().all(|told| marked.iter().any(|marked| marked.0 <= told.0 && told.1 <= marked.1))
    });
    match is_marked {
        true => Ok(()),
        false => {
            let line = format!("split {}: positions expired by the intent = by its receipt", receipt.split);
            Err(Imbalance { epoch, line, left: in_words(&marked), right: in_words(&told) })
        }
    }
}

/// In each view of a split are the alerts that were decoded, or those that the view has that it reads.
pub(super) fn check_views(receipt: &Receipt) -> Result<(), Imbalance> {
    let mut views = Vec::new();
    receipt.views.iter().for_each(|counts| add_view(&mut views, counts));
    let decoded = receipt.sources.iter().map(|counts| counts.decoded).sum();
    check_flow(receipt.epoch, &format!("split {}: ", receipt.split), decoded, &views)
}

/// As [`check_views`], of sums. `whose` stands before the line that does not hold.
pub(super) fn check_flow(epoch: Epoch, whose: &str, decoded: u64, views: &[ViewCounts]) -> Result<(), Imbalance> {
    for ViewCounts { view, rows, root, parent, .. } in views {
        let (line, given) = match parent {
            _ if *root => (format!("{whose}view {view}: in = decoded"), decoded.to_string()),
            // Of an older version.
            None => continue,
            Some(parent) => {
                let kept = views.iter().find(|of| of.view == *parent).map(|of| of.kept.to_string());
                let kept = kept.unwrap_or_else(|| "no such view".to_owned());
                (format!("{whose}view {view}: in = kept by view {parent}"), kept)
            }
        };
        equal(epoch, line, rows.to_string(), given)?;
    }
    Ok(())
}

fn parts(range: &OffsetRange) -> (&String, i32, i64, i64) {
    (&range.topic, range.partition, range.start, range.end)
}

/// Ranges that touch are one: a part that expired may be a range of its own, and was none before.
fn joined<'a>(ranges: impl Iterator<Item = (&'a String, i32, i64, i64)>) -> Spans {
    let mut of_partition = Spans::new();
    for (topic, partition, start, end) in ranges {
        of_partition.entry((topic.clone(), partition)).or_default().push((start, end));
    }
    for spans in of_partition.values_mut() {
        spans.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (start, end) in spans.drain(..) {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => joined.push((start, end)),
            }
        }
        *spans = joined;
    }
    of_partition
}

fn in_words(spans: &Spans) -> String {
    let words = spans.iter().flat_map(|((topic, partition), spans)| {
        spans.iter().map(move |(start, end)| format!("{topic}[{partition}] {start}..{end}"))
    });
    match words.collect::<Vec<_>>() {
        words if words.is_empty() => "none".to_owned(),
        words => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::receipt;
    use super::super::{Line, balance, sums};
    use super::*;
    use crate::ids::SplitId;
    use crate::protocol::Split;

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange { topic: "ztf".into(), start, end, ..OffsetRange::default() }
    }

    fn intent(splits: &[&[OffsetRange]]) -> Intent {
        let splits = (0..).zip(splits).map(|(id, ranges)| Split { id: SplitId(id), ranges: ranges.to_vec() });
        let (splits, modules) = (splits.collect(), BTreeMap::new());
        Intent { epoch: Epoch(3), revision: 0, clock: 7, seed: 0, splits, modules }
    }

    /// Of the ten positions that the receipt is for.
    fn check(intent: &Intent, receipts: &[Receipt], line: &str, left: &str, right: &str) {
        let error = balance(intent, receipts).unwrap_err();
        assert_eq!((&*error.line, &*error.left, &*error.right), (line, left, right));
    }

    fn child(rows: u64, parent: &str) -> ViewCounts {
        let (view, parent) = ("near".to_owned(), Some(parent.to_owned()));
        ViewCounts { view, parent, rows, kept: rows, ..ViewCounts::default() }
    }

    #[test]
    fn an_epoch_balances_whose_receipts_are_for_what_their_splits_were_given() {
        let line = balance(&intent(&[&[range(0, 10)]]), &[receipt(8, 42)]).unwrap();
        assert_eq!((line.planned, line.decoded), (7, 9));
        // A part was marked as expired after the attempt had read it.
        let marked = OffsetRange { expired: true, ..range(0, 4) };
        assert!(balance(&intent(&[&[marked.clone(), range(4, 10)]]), &[receipt(8, 42)]).is_ok());
        let mut expired = receipt(8, 42);
        expired.sources[0].expired = vec![(1, 3)];
        assert!(balance(&intent(&[&[marked, range(4, 10)]]), &[expired]).is_ok());
    }

    #[test]
    fn a_receipt_for_other_positions_than_its_splits_is_named() {
        let line = "split 0: positions of the intent = positions of its receipt";
        let read = "ztf[0] 0..10";
        check(&intent(&[&[range(0, 12)]]), &[receipt(8, 42)], line, "ztf[0] 0..12", read);
        check(&intent(&[&[range(0, 10), range(20, 30)]]), &[receipt(8, 42)], line, "ztf[0] 0..10, ztf[0] 20..30", read);
        let other = OffsetRange { partition: 1, ..range(0, 10) };
        check(&intent(&[&[other]]), &[receipt(8, 42)], line, "ztf[1] 0..10", read);
        check(&intent(&[&[]]), &[receipt(8, 42)], line, "none", read);
    }

    #[test]
    fn positions_that_only_a_receipt_gives_up_are_named() {
        let mut lost = receipt(8, 42);
        lost.sources[0].expired = vec![(0, 2)];
        let line = "split 0: positions expired by the intent = by its receipt";
        check(&intent(&[&[range(0, 10)]]), &[lost], line, "none", "ztf[0] 0..2");
    }

    #[test]
    fn a_split_without_a_receipt_and_one_with_two_are_named() {
        let two = intent(&[&[range(0, 10)], &[range(10, 20)]]);
        let line = "splits of the intent = splits with a receipt";
        check(&two, &[receipt(8, 42)], line, "[0, 1]", "[0]");
        check(&intent(&[&[range(0, 10)]]), &[receipt(8, 42), receipt(8, 42)], line, "[0]", "[0, 0]");
    }

    #[test]
    fn alerts_that_a_view_was_not_asked_about_are_named() {
        let one = intent(&[&[range(0, 10)]]);
        let mut fewer = receipt(8, 42);
        (fewer.views[0].rows, fewer.views[0].kept) = (8, 5);
        check(&one, &[fewer], "split 0: view good: in = decoded", "8", "9");
        let mut of_child = receipt(8, 42);
        of_child.views.push(child(5, "good"));
        check(&one, &[of_child.clone()], "split 0: view near: in = kept by view good", "5", "6");
        of_child.views[1] = child(6, "bright");
        check(&one, &[of_child.clone()], "split 0: view near: in = kept by view bright", "6", "no such view");
        of_child.views[1] = child(6, "good");
        assert!(balance(&one, &[of_child]).is_ok());
    }

    #[test]
    fn what_one_split_lost_another_does_not_make_up_for() {
        let (mut fewer, mut more) = (receipt(8, 42), receipt(8, 42));
        (fewer.views[0].rows, fewer.views[0].kept) = (8, 5);
        (more.views[0].rows, more.views[0].kept) = (10, 7);
        more.split = SplitId(1);
        (more.sources[0].start, more.sources[0].end) = (10, 20);
        let error = balance(&intent(&[&[range(0, 10)], &[range(10, 20)]]), &[fewer, more]).unwrap_err();
        assert_eq!(error.line, "split 0: view good: in = decoded");
    }

    #[test]
    fn a_line_is_checked_once_more_unless_its_splits_ran_by_several_revisions() {
        let line = sums(Epoch(3), 0, &[receipt(8, 42)]).unwrap();
        assert!(line.verify().is_ok());
        let broken = Line { decoded: 10, ..line };
        assert_eq!(broken.verify().unwrap_err().line, "view good: in = decoded");
        assert!(Line { revised: [(SplitId(0), 1)].into(), ..broken }.verify().is_ok());
    }
}
