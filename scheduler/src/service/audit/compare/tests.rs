//! Rows of both sides, and what is said of those that have no like.

use std::collections::BTreeMap;

use redpoll_connectors::sinks::{Found, FoundAt};
use redpoll_core::digest::Digest;
use redpoll_core::ids::SplitId;
use redpoll_core::sink::SinkSpec;
use redpoll_core::steps::Selected;

use super::*;
use crate::service::audit::Question;

const EPOCH: Epoch = Epoch(3);

fn sink(kind: SinkKind, url: &str, options: &[(&str, &str)]) -> Sink {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let spec = SinkSpec { name: "s".into(), kind, url: url.into(), partition_by: vec![], options };
    Sink::new(&spec, false)
}

fn archive() -> Sink {
    sink(SinkKind::Delta, "file:///w/raw", &[])
}

fn topic(delivery: &str) -> Sink {
    sink(SinkKind::Topic, "kafka://h:1/bright", &[("delivery", delivery)])
}

fn store() -> Sink {
    sink(SinkKind::Store, "store:/ztf", &[("row_key", "{objectId}")])
}

fn wanted(offset: i64, mark: Option<&str>) -> Selected {
    Selected {
        output: 0,
        split: SplitId(0),
        topic: "ztf".into(),
        partition: 1,
        offset,
        row: 0,
        hash: 0,
        id: Some(format!("{}", 100 + offset)),
        mark: mark.map(|mark| mark.as_bytes().to_vec()),
    }
}

fn found(offset: i64, row: Option<u32>, at: &str) -> Found {
    let origin = FoundAt { topic: "ztf".into(), partition: 1, offset, row };
    Found { epoch: Some(EPOCH), origin: Some(origin), at: at.into(), ..Found::default() }
}

fn key(text: &str) -> Found {
    Found { mark: Some(text.to_owned().into()), at: text.into(), ..Found::default() }
}

/// The report on these rows.
fn judged(sink: Sink, wanted: Vec<Selected>, found: Vec<Found>) -> Report {
    judged_with(sink, wanted, found, BTreeMap::new(), false)
}

fn judged_with(
    sink: Sink,
    wanted: Vec<Selected>,
    found: Vec<Found>,
    tallies: BTreeMap<(Epoch, u16), Tally>,
    open_keys: bool,
) -> Report {
    let entries = wanted.into_iter().filter_map(|row| sink.wanted(0, EPOCH, row));
    let mut entries: Vec<Entry> = entries.collect();
    entries.extend(found.into_iter().map(|row| sink.found(0, row)));
    let report = Report::new("night", &Question { night: None, limit: 100 });
    let mut judge = Judge { sinks: vec![sink], tallies: tallies.into_iter().collect(), open_keys, report };
    judge.bucket(entries);
    judge.finish()
}

fn texts(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.text.as_str()).collect()
}

#[test]
fn rows_that_are_equal_cancel_out_and_the_others_are_named() {
    let there = |offsets: &[i64]| offsets.iter().map(|offset| found(*offset, None, "")).collect();
    let report = judged(archive(), (0..5).map(|offset| wanted(offset, None)).collect(), there(&[0, 1, 1, 3, 4, 9]));
    assert_eq!(
        texts(&report),
        [
            "s: alert 101 of ztf[1]@1 is there 2 times instead of 1 (epoch 3)",
            "s: alert 102 of ztf[1]@2 is missing (epoch 3)",
            "s: an alert of ztf[1]@9 should not be there (epoch 3)",
        ]
    );
    let clean = judged(archive(), (0..5).map(|offset| wanted(offset, None)).collect(), there(&[4, 3, 2, 1, 0]));
    assert!(clean.is_clean(), "{clean:?}");
}

#[test]
fn a_row_of_nobody_is_not_told_where_several_jobs_write() {
    let shared = || Sink { shared: true, ..archive() };
    let foreign = judged(shared(), vec![], vec![found(9, None, "")]);
    assert!(foreign.is_clean() && foreign.sinks[0].others == 1, "{foreign:?}");
    let ours = judged(shared(), vec![], vec![Found { ours: true, ..found(9, None, "") }]);
    assert_eq!(texts(&ours), ["s: an alert of ztf[1]@9 should not be there (epoch 3)"]);
}

#[test]
fn an_alert_that_the_source_holds_twice_is_right_twice() {
    let twice = |offset| Selected { id: Some("7".into()), ..wanted(offset, None) };
    let both = || vec![twice(0), twice(1)];
    assert!(judged(archive(), both(), vec![found(0, None, ""), found(1, None, "")]).is_clean());
    let report = judged(archive(), both(), vec![found(1, None, "")]);
    assert_eq!(texts(&report), ["s: alert 7 of ztf[1]@0 is missing (epoch 3)"]);
}

#[test]
fn a_repeat_is_a_finding_only_where_it_is_promised_not_to_be() {
    let rows = || vec![found(0, Some(0), "out[0]@4"), found(0, Some(0), "out[1]@9")];
    let report = judged(topic("exactly-once"), vec![wanted(0, None)], rows());
    assert_eq!(
        texts(&report),
        ["s: alert 100 of ztf[1]@0 is there 2 times instead of 1 (epoch 3), at out[0]@4, out[1]@9"]
    );
    let loose = judged(topic("at-least-once"), vec![wanted(0, None)], rows());
    assert!(loose.is_clean() && loose.sinks[0].repeats == 1, "{loose:?}");
    let lost = judged(topic("at-least-once"), vec![wanted(0, None), wanted(1, None)], rows());
    assert_eq!(texts(&lost), ["s: alert 101 of ztf[1]@1 is missing (epoch 3)"]);
}

#[test]
fn a_key_of_several_alerts_is_one_row() {
    let rows = || vec![wanted(0, Some("ZTF1")), wanted(1, Some("ZTF1")), wanted(2, Some("ZTF2"))];
    assert!(judged(store(), rows(), vec![key("ZTF1"), key("ZTF2")]).is_clean());
    let report = judged(store(), rows(), vec![key("ZTF2"), key("ZTF9")]);
    let mut told = texts(&report);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "s: no alert has key 'ZTF9'",
            "s: the row of key 'ZTF1' is missing: alert 100 of ztf[1]@0 and 1 more (epoch 3)",
        ]
    );
    // Whose row it is cannot be known while epochs are under way.
    let open = judged_with(store(), rows(), vec![key("ZTF1"), key("ZTF2"), key("ZTF9")], BTreeMap::new(), true);
    assert!(open.is_clean() && open.sinks[0].others == 1, "{open:?}");
}

#[test]
fn a_row_that_a_sink_refuses_is_not_looked_for() {
    assert!(judged(store(), vec![wanted(0, None)], vec![]).is_clean());
}

#[test]
fn what_may_have_expired_is_counted_and_not_called_missing() {
    let sink = Sink { expired_to: Some(EPOCH), ..topic("exactly-once") };
    let report = judged(sink, vec![wanted(0, None), wanted(1, None)], vec![found(1, Some(0), "out[0]@4")]);
    assert!(report.is_clean() && report.sinks[0].expired == 1, "{report:?}");
}

#[test]
fn an_epoch_that_was_not_computed_again_is_held_against_the_ledgers_sums() {
    let tally = |found, found_digest| Tally {
        rows: 2,
        digest: Digest(7),
        found,
        found_digest: Digest(found_digest),
        hashed: true,
        alone: true,
    };
    let judged = |tally, found| judged_with(topic("exactly-once"), vec![], found, [((EPOCH, 0), tally)].into(), false);
    let there = || vec![found(0, Some(0), "out[0]@4"), found(1, Some(0), "out[0]@5")];
    assert!(judged(tally(2, 7), there()).is_clean());
    let other = judged(tally(2, 8), there());
    assert!(texts(&other)[0].starts_with("s: the ledger has 2 rows of epoch 3, there are 2 (digests"), "{other:?}");
    // A row that is there twice is told, whatever it is.
    let twice = judged(tally(2, 7), vec![found(0, Some(0), "out[0]@4"), found(0, Some(0), "out[0]@5")]);
    assert_eq!(twice.found, [(Kind::Doubled, 1)].into());
}

#[test]
fn findings_are_counted_beyond_those_that_are_listed() {
    let mut report = Report::new("night", &Question { night: None, limit: 2 });
    for n in 0..5 {
        report.tell(Kind::Ledger, None, None, n.to_string());
    }
    assert_eq!((report.findings.len(), report.found[&Kind::Ledger]), (2, 5));
}
