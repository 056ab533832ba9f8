//! The first look: the ledger's own sums, whether the epochs' ranges leave no offset out, and which epochs are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};

use chrono::{DateTime, Datelike, Utc};
use futures::TryStreamExt;
use redpoll_core::ids::Epoch;
use redpoll_core::log::{Fold, Log, Record};
use redpoll_core::source::{OffsetRange, Offsets};

use super::report::{Kind, Report};
use crate::service::Error;

/// What the first look found.
pub(super) struct Survey {
    pub epochs: BTreeSet<Epoch>,
    /// Rows that they wrote, over all sinks.
    pub rows: u64,
    pub records: Records,
}

/// The records of the epochs, in a file of this process: an audit may take longer than a sweep leaves a segment.
pub(super) struct Records(File);

impl Records {
    pub fn iter(self) -> impl Iterator<Item = Result<Record, std::io::Error>> + Send {
        let lines = BufReader::new(self.0).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?))
    }
}

/// Reads all records once.
pub(super) async fn survey(log: &Log, fold: &Fold, night: Option<u32>, report: &mut Report) -> Result<Survey, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed("the audit's first look", error);
    let mut file = BufWriter::new(tempfile::tempfile().map_err(|error| failed(&error))?);
    let (mut epochs, mut rows) = (BTreeSet::new(), 0);
    let begin = fold.specs.values().next().map(|spec| spec.begin.clone()).unwrap_or_default();
    let mut tiles = Tiles { ends: begin };
    let mut records = log.records(fold);
    while let Some(record) = records.try_next().await.map_err(|error| failed(&error))? {
        tiles.add(&record, report);
        if night.is_some_and(|night| date(record.line.planned) != Some(night)) {
            continue;
        }
        if let Err(imbalance) = record.line.verify() {
            report.tell(Kind::Ledger, None, Some(imbalance.epoch), imbalance.to_string());
        }
        let line = &record.line;
        epochs.insert(line.epoch);
        rows += line.sinks.values().sum::<u64>();
        report.epochs += 1;
        report.positions += line.fetched + line.absent;
        report.absent += line.absent;
        report.quarantined += line.quarantined;
        report.alerts += line.decoded;
        serde_json::to_writer(&mut file, &record).map_err(|error| failed(&error))?;
        file.write_all(b"\n").map_err(|error| failed(&error))?;
    }
    let mut file = file.into_inner().map_err(|error| failed(&error))?;
    file.rewind().map_err(|error| failed(&error))?;
    Ok(Survey { epochs, rows, records: Records(file) })
}

/// The UTC date of a time in milliseconds, as YYYYMMDD: what `night()` makes of a Julian date.
fn date(millis: i64) -> Option<u32> {
    let date = DateTime::<Utc>::from_timestamp_millis(millis)?.date_naive();
    Some(u32::try_from(date.year()).ok()? * 10_000 + date.month() * 100 + date.day())
}

/// How far the epochs have come in each topic partition.
struct Tiles {
    ends: Offsets,
}

impl Tiles {
    /// Each range must begin where the one before it ended.
    fn add(&mut self, record: &Record, report: &mut Report) {
        let mut spans: BTreeMap<_, Vec<(i64, i64)>> = BTreeMap::new();
        for range in ranges_of(record) {
            spans.entry(range.topic_partition()).or_default().push((range.start, range.end));
        }
        for (at, mut spans) in spans {
            spans.sort_unstable();
            let end = self.ends.entry(at.clone()).or_insert(spans[0].0);
            for (start, to) in spans {
                let told = |what: String| format!("{at}: offsets {what}");
                if start > *end {
                    let what = format!("{end}..{start} are in no epoch: neither fetched nor absent nor quarantined");
                    report.tell(Kind::Position, None, Some(record.line.epoch), told(what));
                } else if start < *end {
                    let what = format!("{start}..{} are in two epochs", to.min(*end));
                    report.tell(Kind::Position, None, Some(record.line.epoch), told(what));
                }
                *end = to.max(*end);
            }
        }
    }
}

/// The offsets of a committed epoch: from its intent, else as its ledger line has them.
pub(super) fn ranges_of(record: &Record) -> Vec<OffsetRange> {
    match &record.intent {
        Some(intent) => intent.splits.iter().flat_map(|split| split.ranges.clone()).collect(),
        None => {
            let range = |counts: &redpoll_core::ledger::SourceCounts| OffsetRange {
                topic: counts.topic.clone(),
                partition: counts.partition,
                start: counts.start,
                end: counts.end,
                ..OffsetRange::default()
            };
            record.line.source.iter().map(range).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use redpoll_core::ids::SplitId;
    use redpoll_core::protocol::{Intent, Split};
    use serde_json::json;

    use super::*;
    use crate::service::audit::Question;

    fn record(epoch: u64, spans: &[(i64, i64)]) -> Record {
        let range = |(start, end)| OffsetRange { topic: "ztf".into(), start, end, ..Default::default() };
        let ranges = spans.iter().copied().map(range).collect();
        let splits = vec![Split { id: SplitId(0), ranges }];
        let epoch = Epoch(epoch);
        let intent = Intent { epoch, revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() };
        let line = json!({ "epoch": epoch, "planned": 0, "source": [], "fetched": 0, "absent": 0, "decoded": 0,
            "quarantined": 0, "kept": 0, "cut": {}, "unknown": {}, "sinks": {}, "views": [], "digests": {},
            "failures": {}, "executors": {} });
        Record { line: serde_json::from_value(line).unwrap(), attempts: BTreeMap::new(), intent: Some(intent) }
    }

    #[test]
    fn offsets_that_no_epoch_or_two_epochs_have_are_named() {
        let mut report = Report::new("night", &Question { night: None, limit: 10 });
        let mut tiles = Tiles { ends: Offsets::new() };
        tiles.add(&record(0, &[(5, 8), (0, 5)]), &mut report);
        assert!(report.is_clean(), "{report:?}");
        tiles.add(&record(1, &[(10, 20)]), &mut report);
        tiles.add(&record(2, &[(18, 25)]), &mut report);
        let texts: Vec<_> = report.findings.iter().map(|finding| finding.text.as_str()).collect();
        let none = "ztf[0]: offsets 8..10 are in no epoch: neither fetched nor absent nor quarantined";
        assert_eq!(texts, [none, "ztf[0]: offsets 18..20 are in two epochs"]);
    }

    #[test]
    fn a_night_is_the_utc_date_of_its_planning() {
        assert_eq!(date(1_767_331_800_000), Some(20260102));
        assert_eq!(date(-1), Some(19691231));
    }
}
