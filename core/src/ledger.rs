//! The ledger: every input offset ends in exactly one place, and the sums prove it.
//!
//! Per epoch and topic partition: `end - start = fetched + absent`, `fetched = decoded + quarantined` (in records; a
//! record may hold several alerts). Per view: `in = kept + cut + unknown`, where a rule is a conjunct of the view's
//! `WHERE` in text order and *unknown* is NULL; an alert on which a conjunct errs, or a module failed that sets such
//! alerts aside, is in none of them but `withheld`. What a view is asked about is what `Decode` gave, or what the view
//! that it reads kept. Per sink: the digest wanted equals that of the rows written and of the rows refused. What is
//! set aside is in the quarantine, item by item: records that did not decode, alerts withheld, rows refused.

mod modules;
mod receipts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{Epoch, SplitId};
use crate::protocol::{Intent, Receipt, SinkReceipt};
pub use modules::{ModuleCounts, Spread, add_modules};

/// What became of one offset range of a topic partition or folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceCounts {
    pub topic: String,
    pub partition: i32,
    pub start: i64,
    pub end: i64,
    /// Records.
    pub fetched: u64,
    /// Offsets that hold no record: compacted, aborted, transaction markers, and those in `expired`.
    pub absent: u64,
    /// Half-open ranges of offsets that the source no longer held when they were to be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<(i64, i64)>,
    /// Records that decoded.
    pub records: u64,
    /// Alerts in them.
    pub decoded: u64,
    /// Records that did not decode.
    pub quarantined: u64,
}

/// What a view's `WHERE` did to the rows it was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ViewCounts {
    pub view: String,
    /// The view or table it reads.
    pub from: String,
    /// It reads the source itself, not another view that cuts.
    pub root: bool,
    /// The view that it reads otherwise, the nearest one that cuts. Lines of an older version do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(rename = "in")]
    pub rows: u64,
    pub kept: u64,
    /// By conjunct: rows for which it was the first that is false.
    pub cut: BTreeMap<String, u64>,
    /// By conjunct: rows for which it was the first that is NULL.
    pub unknown: BTreeMap<String, u64>,
    /// Rows set aside, as a conjunct errs on them, or a module failed whose value it asks for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withheld: u64,
    pub digest: Digest,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How a version of a module that runs in the shadow of the one in use differs from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Fingerprint of the version in the shadow.
    pub lock: String,
    /// Rows that both were called with.
    pub rows: u64,
    /// Of those, with other values.
    pub differ: u64,
    /// Of values that are numbers, the largest difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_difference: Option<f64>,
    /// Rows that the version in the shadow failed on.
    pub failures: u64,
}

impl Shadow {
    /// Adds what other rows came to. Of two versions the later one counts.
    pub fn add(&mut self, other: &Shadow) {
        if self.lock != other.lock {
            *self = other.clone();
            return;
        }
        self.rows += other.rows;
        self.differ += other.differ;
        self.failures += other.failures;
        let largest = [self.max_difference, other.max_difference].into_iter().flatten();
        self.max_difference = largest.reduce(f64::max);
    }
}

/// One line of the ledger: an epoch of a job on one source topic or folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub epoch: Epoch,
    /// Of the job's pipeline, by which the epoch was run.
    #[serde(default)]
    pub revision: u32,
    /// Splits that an earlier revision had run before the epoch was revised.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub revised: BTreeMap<SplitId, u32>,
    /// Milliseconds since 1970-01-01 UTC at which the epoch was planned.
    pub planned: i64,
    /// Source offsets, one entry for each topic partition.
    pub source: Vec<SourceCounts>,
    pub fetched: u64,
    pub absent: u64,
    /// Alerts.
    pub decoded: u64,
    /// Records.
    pub quarantined: u64,
    /// Alerts that every root view's `WHERE` kept; those of the single root view, as a rule.
    pub kept: u64,
    pub cut: BTreeMap<String, u64>,
    pub unknown: BTreeMap<String, u64>,
    /// Rows by sink.
    pub sinks: BTreeMap<String, u64>,
    /// Rows that a sink refused, by sink: a row key with a null; and alerts on which an expression of its `INSERT` errs.
    /// Each is an item of the quarantine.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Alerts set aside since a module failed on them, by module, or a view's `WHERE` erred, by `view` and its name. Each
    /// is an item of the quarantine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub withheld: BTreeMap<String, u64>,
    /// Of an epoch that sends records of the quarantine again: how many, by the epoch that set them aside. `fetched`
    /// and all else count them as an epoch of the source does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replayed: BTreeMap<Epoch, u64>,
    /// Rows that the epoch's last run computed for a sink, where its lanes were out already with others: readers have
    /// those of `sinks`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recomputed: BTreeMap<String, u64>,
    pub views: Vec<ViewCounts>,
    pub digests: BTreeMap<String, Digest>,
    /// Rows that a module failed on, by module.
    pub failures: BTreeMap<String, u64>,
    /// What each module did and took.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, ModuleCounts>,
    /// Fingerprints of the modules that its rows were computed with, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Of modules with a version in the shadow, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shadows: BTreeMap<String, Shadow>,
    /// Attempts chosen, by executor.
    pub executors: BTreeMap<String, u64>,
}

/// A sum that does not hold: the epoch is not committed and the job stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("epoch {epoch}: {line} does not balance: {left} on one side, {right} on the other")]
pub struct Imbalance {
    pub epoch: Epoch,
    pub line: String,
    pub left: String,
    pub right: String,
}

/// Adds up the receipts that were chosen for an epoch's splits, and checks each against its split and every sum.
pub fn balance(intent: &Intent, receipts: &[Receipt]) -> Result<Line, Imbalance> {
    receipts::check_splits(intent, receipts)?;
    let line = sums(intent.epoch, intent.clock, receipts)?;
    Ok(Line { replayed: intent.replayed(), ..line })
}

/// Adds up receipts of an epoch that was planned at `planned`, in milliseconds since 1970-01-01 UTC, and checks every sum.
pub fn sums(epoch: Epoch, planned: i64, receipts: &[Receipt]) -> Result<Line, Imbalance> {
    let revision = receipts.iter().map(|receipt| receipt.revision).max().unwrap_or_default();
    let earlier = receipts.iter().filter(|receipt| receipt.revision < revision);
    let mut line = Line {
        epoch,
        revision,
        revised: earlier.map(|receipt| (receipt.split, receipt.revision)).collect(),
        planned,
        source: Vec::new(),
        fetched: 0,
        absent: 0,
        decoded: 0,
        quarantined: 0,
        kept: 0,
        cut: BTreeMap::new(),
        unknown: BTreeMap::new(),
        sinks: BTreeMap::new(),
        refused: BTreeMap::new(),
        withheld: BTreeMap::new(),
        replayed: BTreeMap::new(),
        recomputed: BTreeMap::new(),
        views: Vec::new(),
        digests: BTreeMap::new(),
        failures: BTreeMap::new(),
        modules: BTreeMap::new(),
        versions: BTreeMap::new(),
        shadows: BTreeMap::new(),
        executors: BTreeMap::new(),
    };
    let mut sinks: BTreeMap<&str, SinkReceipt> = BTreeMap::new();
    for receipt in receipts {
        receipts::check_views(receipt)?;
        receipt.sources.iter().for_each(|counts| line.add_source(counts));
        receipt.views.iter().for_each(|counts| add_view(&mut line.views, counts));
        for (name, sink) in &receipt.sinks {
            sinks.entry(name).or_default().add(sink);
        }
        add(&mut line.failures, &receipt.failures);
        for (module, shadow) in &receipt.shadows {
            line.shadows.entry(module.clone()).or_default().add(shadow);
        }
        add(&mut line.withheld, &receipt.withheld);
        add_modules(&mut line.modules, &receipt.modules);
        *line.executors.entry(receipt.executor.clone()).or_default() += 1;
    }
    line.finish(&sinks);
    line.check(&sinks)?;
    line.check_set_aside(receipts)?;
    Ok(line)
}

impl Line {
    /// Alerts and rows that are set aside though their record decoded.
    pub fn set_aside(&self) -> u64 {
        self.withheld.values().chain(self.refused.values()).sum()
    }

    fn add_source(&mut self, counts: &SourceCounts) {
        self.fetched += counts.fetched;
        self.absent += counts.absent;
        self.decoded += counts.decoded;
        self.quarantined += counts.quarantined;
        let same = |have: &&mut SourceCounts| have.topic == counts.topic && have.partition == counts.partition;
        match self.source.iter_mut().find(same) {
            Some(have) => {
                have.start = have.start.min(counts.start);
                have.end = have.end.max(counts.end);
                have.fetched += counts.fetched;
                have.absent += counts.absent;
                have.expired.extend(&counts.expired);
                have.records += counts.records;
                have.decoded += counts.decoded;
                have.quarantined += counts.quarantined;
            }
            None => self.source.push(counts.clone()),
        }
    }

    fn finish(&mut self, sinks: &BTreeMap<&str, SinkReceipt>) {
        let roots: Vec<_> = self.views.iter().filter(|view| view.root).cloned().collect();
        self.kept = roots.iter().map(|view| view.kept).min().unwrap_or(self.decoded);
        for view in &roots {
            add(&mut self.cut, &view.cut);
            add(&mut self.unknown, &view.unknown);
        }
        for (name, sink) in sinks {
            self.sinks.insert((*name).to_owned(), sink.rows);
            self.digests.insert((*name).to_owned(), sink.written);
            if sink.refused > 0 {
                self.refused.insert((*name).to_owned(), sink.refused);
            }
            if let Some(recomputed) = &sink.recomputed {
                self.recomputed.insert((*name).to_owned(), recomputed.rows);
            }
        }
    }

    /// Offsets that expired before they were read.
    pub fn expired(&self) -> u64 {
        let ranges = self.source.iter().flat_map(|counts| &counts.expired);
        ranges.map(|(start, end)| u64::try_from(end - start).unwrap_or(0)).sum()
    }

    /// Checks the sums of a line once more, as far as they are in it.
    pub fn verify(&self) -> Result<(), Imbalance> {
        self.check(&BTreeMap::new())?;
        match self.revised.is_empty() {
            true => receipts::check_flow(self.epoch, "", self.decoded, &self.views),
            // Splits of an earlier revision may have run other views.
            false => Ok(()),
        }
    }

    fn check(&self, sinks: &BTreeMap<&str, SinkReceipt>) -> Result<(), Imbalance> {
        let equal = |line: String, left: String, right: String| equal(self.epoch, line, left, right);
        for counts in &self.source {
            let name = format!("{}[{}]", counts.topic, counts.partition);
            let offsets = counts.end - counts.start;
            equal(
                format!("{name}: end - start = fetched + absent"),
                offsets.to_string(),
                (counts.fetched + counts.absent).to_string(),
            )?;
            equal(
                format!("{name}: fetched = decoded + quarantined"),
                counts.fetched.to_string(),
                (counts.records + counts.quarantined).to_string(),
            )?;
        }
        for view in &self.views {
            let out = view.kept + view.cut.values().sum::<u64>() + view.unknown.values().sum::<u64>() + view.withheld;
            let line = format!("view {}: in = kept + cut + unknown + withheld", view.view);
            equal(line, view.rows.to_string(), out.to_string())?;
        }
        for (name, sink) in sinks {
            let mut taken = sink.written;
            taken += sink.refused_digest;
            let line = format!("sink {name}: rows wanted = rows written + rows refused");
            equal(line, sink.wanted.to_string(), taken.to_string())?;
        }
        Ok(())
    }

    /// Nothing is set aside that is not in the quarantine.
    fn check_set_aside(&self, receipts: &[Receipt]) -> Result<(), Imbalance> {
        // Receipts of an older version do not count their items.
        let Some(items) = receipts.iter().map(|receipt| receipt.set_aside).sum::<Option<u64>>() else { return Ok(()) };
        let counted = self.quarantined + self.set_aside();
        let line = "quarantine: items = records quarantined + alerts withheld + rows refused".to_owned();
        equal(self.epoch, line, items.to_string(), counted.to_string())
    }
}

fn equal(epoch: Epoch, line: String, left: String, right: String) -> Result<(), Imbalance> {
    match left == right {
        true => Ok(()),
        false => Err(Imbalance { epoch, line, left, right }),
    }
}

fn add_view(views: &mut Vec<ViewCounts>, counts: &ViewCounts) {
    match views.iter_mut().find(|have| have.view == counts.view) {
        Some(have) => {
            have.rows += counts.rows;
            have.kept += counts.kept;
            have.digest += counts.digest;
            have.withheld += counts.withheld;
            add(&mut have.cut, &counts.cut);
            add(&mut have.unknown, &counts.unknown);
        }
        None => views.push(counts.clone()),
    }
}

fn add(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (key, n) in from {
        *into.entry(key.clone()).or_default() += n;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::protocol::Recomputed;

    pub fn receipt(fetched: u64, written: u128) -> Receipt {
        let source = SourceCounts {
            topic: "ztf".into(),
            end: 10,
            fetched,
            absent: 2,
            records: 7,
            decoded: 9,
            quarantined: 1,
            ..Default::default()
        };
        let view = ViewCounts {
            view: "good".into(),
            root: true,
            rows: 9,
            kept: 6,
            cut: [("nbad = 0".into(), 2)].into(),
            unknown: [("rb >= 0.55".into(), 1)].into(),
            ..Default::default()
        };
        let sink = SinkReceipt { rows: 6, wanted: Digest(42), written: Digest(written), ..Default::default() };
        Receipt {
            epoch: Epoch(3),
            split: SplitId(0),
            attempt: "a".into(),
            revision: 0,
            executor: "one".into(),
            sources: vec![source],
            views: vec![view],
            sinks: [("science".into(), sink)].into(),
            failures: BTreeMap::new(),
            shadows: BTreeMap::new(),
            withheld: BTreeMap::new(),
            modules: BTreeMap::new(),
            set_aside: Some(1),
            growth: vec![],
            seconds: 1.0,
        }
    }

    #[test]
    fn a_balanced_epoch_gives_its_line() {
        let line = sums(Epoch(3), 0, &[receipt(8, 42)]).unwrap();
        assert_eq!((line.decoded, line.kept, line.sinks["science"]), (9, 6, 6));
        assert_eq!((line.cut["nbad = 0"], line.unknown["rb >= 0.55"]), (2, 1));
    }

    #[test]
    fn a_lane_that_was_out_with_other_rows_balances_and_is_told() {
        let mut out = receipt(8, 42);
        let sink = out.sinks.get_mut("science").unwrap();
        sink.recomputed = Some(Recomputed { rows: 5, digest: Digest(7) });
        let mut other = receipt(8, 42);
        other.split = SplitId(1);
        other.sources[0].start = 10;
        other.sources[0].end = 20;
        let line = sums(Epoch(3), 0, &[out, other]).unwrap();
        assert_eq!((line.sinks["science"], line.recomputed["science"]), (12, 11));
        assert!(sums(Epoch(3), 0, &[receipt(8, 42)]).unwrap().recomputed.is_empty());
    }

    #[test]
    fn an_epoch_that_was_revised_names_the_splits_that_ran_before() {
        let mut other = receipt(8, 42);
        (other.split, other.revision) = (SplitId(1), 2);
        (other.sources[0].start, other.sources[0].end) = (10, 20);
        let line = sums(Epoch(3), 0, &[receipt(8, 42), other]).unwrap();
        assert_eq!((line.revision, line.revised), (2, [(SplitId(0), 0)].into()));
    }

    #[test]
    fn a_record_that_vanished_is_named() {
        let error = sums(Epoch(3), 0, &[receipt(7, 42)]).unwrap_err().to_string();
        assert_eq!(
            error,
            "epoch 3: ztf[0]: end - start = fetched + absent does not balance: 10 on one side, 9 on the other"
        );
    }

    #[test]
    fn a_row_that_a_sink_lost_is_named() {
        let error = sums(Epoch(3), 0, &[receipt(8, 41)]).unwrap_err();
        assert_eq!(error.line, "sink science: rows wanted = rows written + rows refused");
    }

    #[test]
    fn what_is_refused_or_withheld_is_in_the_quarantine_or_the_epoch_does_not_balance() {
        let mut receipt = receipt(8, 40);
        let sink = receipt.sinks.get_mut("science").unwrap();
        (sink.refused, sink.refused_digest) = (1, Digest(2));
        receipt.withheld = [("roid".into(), 2)].into();
        receipt.views[0].kept = 4;
        receipt.views[0].withheld = 2;
        let error = sums(Epoch(3), 0, &[receipt.clone()]).unwrap_err().to_string();
        assert!(error.contains("quarantine: items") && error.contains("1 on one side, 4 on the other"), "{error}");
        receipt.set_aside = Some(4);
        let line = sums(Epoch(3), 0, &[receipt]).unwrap();
        assert_eq!((line.set_aside(), line.refused["science"], line.withheld["roid"]), (3, 1, 2));
    }
}
