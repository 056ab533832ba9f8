//! Each epoch once more: the same offsets, pipeline, clock and modules, and nothing written.

use std::collections::BTreeMap;
use std::sync::Arc;

use redpoll_core::ids::Epoch;
use redpoll_core::ledger::{self, Line, SourceCounts};
use redpoll_core::log::Record;
use redpoll_core::protocol::{Intent, Receipt, SinkReceipt, Split};
use redpoll_core::quarantine;
use redpoll_core::source::{Gone, OffsetRange};
use redpoll_core::steps::{EpochRun, Identified, Selected, insert_names};

use super::lines::{Records, ranges_of};
use super::plans::Plan;
use super::quarantine::Refused;
use super::report::Kind;
use super::sinks::{Sink, Tally};
use super::{Audit, Error, on_disk};
use crate::engine::Rows;
use crate::epoch_table;

/// The group of executors that computes, if there are any of it: a stream's epochs go first.
const GROUP: &str = "batch";

/// What came of an epoch.
struct Outcome {
    plan: Option<Arc<Plan>>,
    gone: Vec<Gone>,
    /// Rows that it should have written, or why they are not known.
    rows: Result<Rows, String>,
}

/// Sums of an epoch that was computed again.
#[derive(Default)]
struct Sums {
    sinks: BTreeMap<String, SinkReceipt>,
    splits: Vec<Identified>,
}

impl Audit<'_> {
    pub(super) async fn compute_again(&mut self, records: Records) -> Result<(), Error> {
        for record in records.iter() {
            let record = record.map_err(on_disk)?;
            let outcome = self.again(&record).await?;
            self.fold_in(&record, outcome).await?;
        }
        Ok(())
    }

    /// Runs an epoch's plan over what the source still holds of it.
    async fn again(&self, record: &Record) -> Result<Outcome, Error> {
        let unknown = |plan, gone, reason: String| Ok(Outcome { plan, gone, rows: Err(reason) });
        let Some(intent) = &record.intent else {
            return unknown(None, Vec::new(), "it was committed before intents were kept".to_owned());
        };
        let plan = match self.plans.of(self.spec_of(intent.revision), intent.revision).await {
            Ok(plan) => plan,
            Err(reason) => return unknown(None, Vec::new(), reason),
        };
        let source = match (&plan.source, plan.hindrance(intent)) {
            (Ok(source), None) => source,
            (_, reason) => return unknown(Some(plan.clone()), Vec::new(), reason.unwrap_or_default()),
        };
        let (mut splits, mut gone) = (Vec::new(), Vec::new());
        for split in &intent.splits {
            // What is set aside is held for ever, and not by the source.
            let (kept, ranges): (Vec<_>, Vec<_>) =
                split.ranges.iter().cloned().partition(|range| range.topic == quarantine::TOPIC);
            let held = source.held(ranges).await;
            let (mut held, lost) = held.map_err(|error| Error::failed(&plan.compiled.source.name, error))?;
            held.extend(kept);
            gone.extend(lost);
            if !held.is_empty() {
                splits.push(Split { id: split.id, ranges: held });
            }
        }
        if splits.is_empty() {
            return unknown(Some(plan), gone, "the source no longer holds it".to_owned());
        }
        let rows = self.run(intent, &plan, &splits).await?;
        Ok(Outcome { plan: Some(plan), gone, rows: Ok(rows) })
    }

    async fn run(&self, intent: &Intent, plan: &Plan, splits: &[Split]) -> Result<Rows, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::failed(format!("epoch {} could not be computed again", intent.epoch), error)
        };
        let engine = self.service.engine()?;
        let run = EpochRun {
            job: self.job().to_owned(),
            job_uid: self.job_uid(),
            epoch: intent.epoch,
            revision: intent.revision,
            clock: intent.clock,
            warehouse: self.service.inner.warehouse.url.to_string(),
            modules: intent.modules.clone(),
        };
        let again = plan.compiled.plan_again(run, splits, self.id.as_deref()).map_err(|error| failed(&error))?;
        let again = epoch_table::logical(again).map_err(|error| failed(&error))?;
        let session = engine.session().map_err(|error| failed(&error))?;
        let group = engine.has_executor(Some(GROUP)).then_some(GROUP);
        let name = format!("audit of {} epoch {}", self.job(), intent.epoch);
        engine.rows(&name, group, &session, &again).await.map_err(|error| failed(&error))
    }

    fn spec_of(&self, revision: u32) -> Option<&redpoll_core::protocol::Spec> {
        self.fold.specs.get(&revision).or(self.fold.spec.as_ref().filter(|spec| spec.revision == revision))
    }

    async fn fold_in(&mut self, record: &Record, outcome: Outcome) -> Result<(), Error> {
        let epoch = record.line.epoch;
        if let Some(plan) = &outcome.plan {
            self.know_sinks(plan);
        }
        for gone in &outcome.gone {
            self.report.note(gone_in_words(gone));
        }
        let mut partial: Vec<OffsetRange> = outcome.gone.into_iter().map(|gone| gone.range).collect();
        let (rows, plan) = match (outcome.rows, outcome.plan) {
            (Ok(rows), Some(plan)) => (rows, plan),
            (rows, _) => {
                let reason = rows.err().unwrap_or_default();
                self.report.note(format!("epochs held against the ledger's sums alone, as {reason}"));
                self.gone.insert(epoch, ranges_of(record));
                self.tally(record, |_| true);
                return Ok(());
            }
        };
        let refused = self.refused(record).await?;
        let sums = self.take_rows(epoch, &plan, rows, &refused)?;
        if let Some(reason) = self.doubt(record, &sums) {
            self.report.note(format!("epochs held against the ledger's sums alone, as {reason}"));
            self.tally(record, |_| true);
            return Ok(());
        }
        self.report.again += 1;
        partial.extend(absent_now(record, &sums));
        let whole = partial.is_empty();
        if whole {
            self.compare_lines(record, &sums);
        }
        for split in &sums.splits {
            self.check_quarantine(record, split.split, &split.quarantined).await?;
        }
        if !whole {
            self.gone.insert(epoch, partial);
        }
        let recomputed = &record.line.recomputed;
        self.tally_some(record, whole, |sink| recomputed.contains_key(&sink.spec.name));
        Ok(())
    }

    /// Puts what should be there on one side of the comparison.
    fn take_rows(&mut self, epoch: Epoch, plan: &Plan, rows: Rows, refused: &Refused) -> Result<Sums, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("rows of epoch {epoch}"), error);
        let numbers = plan.compiled.inserts().map(|(spec, _)| self.number_of(&spec.name));
        let numbers: Vec<u16> = numbers.collect::<Option<_>>().unwrap_or_default();
        let inserts = insert_names(plan.compiled.inserts().map(|(spec, _)| spec.name.as_str()));
        let mut sums = Sums::default();
        for batch in rows.into_batches().map_err(|error| failed(&error))? {
            let batch = batch.map_err(|error| failed(&error))?;
            let (selected, splits) = Identified::read(&batch).map_err(|error| failed(&error))?;
            sums.splits.extend(splits);
            for row in selected {
                let number =
                    *numbers.get(row.output).ok_or_else(|| failed(&"an output that the plan does not have"))?;
                let is_refused = refused.contains(&(inserts[row.output].clone(), row.hash));
                self.want(number, epoch, row, is_refused, &mut sums)?;
            }
        }
        Ok(sums)
    }

    fn want(
        &mut self,
        number: u16,
        epoch: Epoch,
        row: Selected,
        is_refused: bool,
        sums: &mut Sums,
    ) -> Result<(), Error> {
        let sink = &mut self.sinks[usize::from(number)];
        let sum = sums.sinks.entry(sink.spec.name.clone()).or_default();
        let digest = redpoll_core::digest::Digest::of([row.hash]);
        sum.wanted += digest;
        let Some(entry) = sink.wanted(number, epoch, row).filter(|_| !is_refused) else {
            sum.refused += 1;
            sum.refused_digest += digest;
            return Ok(());
        };
        sum.written += digest;
        sum.rows += 1;
        sink.sums.wanted += 1;
        self.spill.push(&entry).map_err(on_disk)
    }

    /// Why the rows of an epoch are not those that it wrote, though it could be computed.
    fn doubt(&self, record: &Record, sums: &Sums) -> Option<String> {
        if sums.splits.iter().any(|split| split.outgrown) {
            return Some("alerts have fields that its plan does not".to_owned());
        }
        let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
        for (module, n) in sums.splits.iter().flat_map(|split| &split.failures) {
            *failures.entry(module).or_default() += n;
        }
        let before = |module: &str| record.line.failures.get(module).copied().unwrap_or(0);
        let worse = failures.into_iter().find(|(module, n)| *n > before(module));
        worse.map(|(module, n)| format!("module '{module}' fails on {n} rows now, on {} then", before(module)))
    }

    /// The sums of the ledger against those of the epoch as it is now.
    fn compare_lines(&mut self, record: &Record, sums: &Sums) {
        let epoch = record.line.epoch;
        let receipt = Receipt {
            epoch,
            split: Default::default(),
            attempt: String::new(),
            revision: record.line.revision,
            executor: String::new(),
            sources: sums.splits.iter().flat_map(|split| split.sources.clone()).collect(),
            views: sums.splits.iter().flat_map(|split| split.views.clone()).collect(),
            sinks: sums.sinks.clone(),
            failures: BTreeMap::new(),
            withheld: BTreeMap::new(),
            set_aside: None,
            growth: Vec::new(),
            seconds: 0.0,
        };
        match ledger::balance(epoch, record.line.planned, &[receipt]) {
            Err(imbalance) => self.report.tell(Kind::Ledger, None, Some(epoch), format!("computed again, {imbalance}")),
            Ok(again) => {
                for (sink, difference) in differences(&record.line, &again) {
                    let text = format!("epoch {epoch}: {difference}");
                    self.report.tell(Kind::Ledger, sink.as_deref(), Some(epoch), text);
                }
            }
        }
    }

    /// Holds sinks of an epoch against the ledger's sums: some alone, and all of an epoch of which a part is gone.
    fn tally_some(&mut self, record: &Record, whole: bool, alone: impl Fn(&Sink) -> bool) {
        if whole && record.line.recomputed.is_empty() {
            return;
        }
        // Without an origin in each row, the rows of the part that is left are not told from the others.
        self.tally(record, |sink| alone(sink) || !whole && sink.is_folder());
        if whole {
            let epoch = record.line.epoch;
            self.tallies.retain(|(of, _), tally| *of != epoch || tally.alone);
        }
    }

    fn tally(&mut self, record: &Record, alone: impl Fn(&Sink) -> bool) {
        let single_alerts = record.line.source.iter().all(|counts| counts.records == counts.decoded);
        for (number, sink) in self.sinks.iter().enumerate() {
            let tally = Tally {
                rows: record.line.sinks.get(&sink.spec.name).copied().unwrap_or(0),
                digest: record.line.digests.get(&sink.spec.name).copied().unwrap_or_default(),
                hashed: sink.has_origins() && !sink.unnests && (sink.is_kafka() || single_alerts),
                alone: alone(sink),
                ..Tally::default()
            };
            self.tallies.insert((record.line.epoch, number as u16), tally);
        }
    }

    /// Adds the sinks of a plan to those that are known.
    fn know_sinks(&mut self, plan: &Plan) {
        let mut seen: Vec<&str> = Vec::new();
        for (spec, unnests) in plan.compiled.inserts() {
            if self.number_of(&spec.name).is_none() {
                self.sinks.push(Sink::new(spec, self.shared.contains(&spec.name)));
            }
            if let Some(sink) = self.sinks.iter_mut().find(|sink| sink.spec.name == spec.name) {
                sink.unnests |= unnests;
                sink.single &= !unnests && !seen.contains(&spec.name.as_str());
            }
            seen.push(&spec.name);
        }
    }

    fn number_of(&self, sink: &str) -> Option<u16> {
        let place = self.sinks.iter().position(|known| known.spec.name == sink)?;
        u16::try_from(place).ok()
    }
}

/// Offsets that held a record when the epoch ran and do not now: compacted meanwhile.
fn absent_now(record: &Record, sums: &Sums) -> Vec<OffsetRange> {
    let mut absent = Vec::new();
    for split in &sums.splits {
        for (index, counts) in split.sources.iter().enumerate() {
            let same = |of: &&SourceCounts| of.topic == counts.topic && of.partition == counts.partition;
            let before: u64 = record.line.source.iter().filter(same).map(|of| of.absent).sum();
            let all = sums.splits.iter().flat_map(|split| &split.sources);
            let now: u64 = all.filter(same).map(|of| of.absent).sum();
            if now <= before {
                continue;
            }
            let mut next = counts.start;
            let runs = split.runs.iter().filter(|(of, ..)| *of == index).map(|(_, from, to)| (*from, *to));
            for (from, to) in runs.chain([(counts.end, counts.end)]) {
                if next < from {
                    let (topic, partition) = (counts.topic.clone(), counts.partition);
                    absent.push(OffsetRange { topic, partition, start: next, end: from, ..OffsetRange::default() });
                }
                next = to;
            }
        }
    }
    absent
}

fn gone_in_words(gone: &Gone) -> String {
    let OffsetRange { topic, partition, start, end, files, .. } = &gone.range;
    let names = match files.as_slice() {
        [] => String::new(),
        [one] => format!(" ({})", one.name),
        [first, .., last] => format!(" ({} … {})", first.name, last.name),
    };
    format!("{topic}[{partition}]: offsets {start}..{end}{names} cannot be read again: {}", gone.reason)
}

/// What a line says and the epoch, computed again, does not; with the sink that it is about.
fn differences(ledger: &Line, again: &Line) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    let numbers = |line: &Line| {
        let counts = line.source.iter().map(|c| {
            let all = (c.start, c.end, c.fetched, c.absent, c.records, c.decoded, c.quarantined);
            ((c.topic.clone(), c.partition), all)
        });
        counts.collect::<BTreeMap<_, _>>()
    };
    let (was, is) = (numbers(ledger), numbers(again));
    for ((topic, partition), before) in &was {
        let now = is.get(&(topic.clone(), *partition)).copied().unwrap_or_default();
        if *before != now {
            let words = |(start, end, fetched, absent, records, decoded, quarantined): (
                i64,
                i64,
                u64,
                u64,
                u64,
                u64,
                u64,
            )| {
                format!(
                    "{start}..{end}: {fetched} fetched, {absent} absent, {records} decoded to {decoded} alerts, {quarantined} quarantined"
                )
            };
            found.push((
                None,
                format!("{topic}[{partition}]: the ledger has {}; computed again it is {}", words(*before), words(now)),
            ));
        }
    }
    for view in &ledger.views {
        let now = again.views.iter().find(|now| now.view == view.view);
        if now != Some(view) {
            let (kept, digest) = now.map(|now| (now.kept, now.digest)).unwrap_or_default();
            found.push((
                None,
                format!(
                    "view {}: the ledger has {} kept ({}), computed again it keeps {kept} ({digest})",
                    view.view, view.kept, view.digest
                ),
            ));
        }
    }
    for (sink, rows) in &ledger.sinks {
        if ledger.recomputed.contains_key(sink) {
            continue;
        }
        let digest = ledger.digests.get(sink).copied().unwrap_or_default();
        let now = (again.sinks.get(sink).copied().unwrap_or(0), again.digests.get(sink).copied().unwrap_or_default());
        if (*rows, digest) != now {
            let text = format!(
                "{sink}: the ledger has {rows} rows ({digest}), computed again there are {} ({})",
                now.0, now.1
            );
            found.push((Some(sink.clone()), text));
        }
    }
    found
}
