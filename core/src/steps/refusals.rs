//! What `FanOut` sets aside: alerts that a science module failed on, alerts on which an expression errs, and rows that a
//! sink refused.
//!
//! Each goes to the `INSERT`s that can take it all the same; an item of the quarantine names those that lack it, and a
//! replay sends it to these alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use super::evaluate::Erred;
use super::mask::mask_of;
use super::notes::note_of;
use super::origin::Position;
use super::{Output, SplitRun, StepContext, failed, failed_column, internal, mask_column};
use crate::digest::Digest;
use crate::protocol::SinkReceipt;
use crate::quarantine::{SetAside, Stage, Why};
use crate::sink::{Refused, Rows};

/// A module or a view that keeps alerts from an `INSERT` by failing on them, and the column that tells which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// `Module` or `View`.
    pub stage: Stage,
    pub by: String,
    pub column: String,
}

impl Withheld {
    /// By the module whose value is a column.
    pub fn by_module(module: &str, column: &str) -> Self {
        Self { stage: Stage::Module, by: module.to_owned(), column: failed_column(column) }
    }

    pub fn by_view(view: &str) -> Self {
        Self { stage: Stage::View, by: view.to_owned(), column: failed_column(&mask_column(view)) }
    }

    /// In notes and in the ledger, where views and modules stand side by side.
    pub fn name(&self) -> String {
        match self.stage {
            Stage::View => format!("view {}", self.by),
            _ => self.by.clone(),
        }
    }
}

/// Names of `INSERT`s, by the tables that they write: the second one into a table is `table#2`.
pub fn insert_names<'a>(tables: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut of_table: BTreeMap<&str, usize> = BTreeMap::new();
    let name = |table: &'a str| {
        let n = of_table.entry(table).or_default();
        *n += 1;
        if *n == 1 { table.to_owned() } else { format!("{table}#{n}") }
    };
    tables.into_iter().map(name).collect()
}

/// Of one attempt.
#[derive(Debug)]
pub(super) struct Refusals {
    /// Names of the `INSERT`s: their table, and from the second one into it on, which one.
    labels: Vec<String>,
    items: Vec<(Position, Why)>,
}

impl Refusals {
    pub fn new(outputs: &[Output]) -> Self {
        Self { labels: insert_names(outputs.iter().map(|output| output.sink.name.as_str())), items: Vec::new() }
    }

    /// Notes the alerts that modules and views keep from `INSERT`s.
    pub fn withhold(&mut self, outputs: &[Output], batch: &RecordBatch, run: &SplitRun) -> Result<()> {
        let mut by: Vec<&Withheld> = Vec::new();
        outputs.iter().flat_map(|output| &output.withheld_by).for_each(|withheld| {
            if !by.contains(&withheld) {
                by.push(withheld);
            }
        });
        let failures = by.iter().map(|withheld| mask_of(batch, Some(withheld.column.as_str())));
        let failures: Vec<BooleanArray> = failures.collect::<Result<_>>()?;
        let rows: BTreeSet<usize> =
            failures.iter().flat_map(|failure| (0..failure.len()).filter(|row| failure.value(*row))).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let alerts = Alerts::of(batch)?;
        for row in rows {
            let failing: Vec<&Withheld> = by
                .iter()
                .zip(&failures)
                .filter(|(_, failure)| failure.value(row))
                .map(|(withheld, _)| *withheld)
                .collect();
            let lacks = |output: &Output| failing.iter().any(|withheld| output.withheld_by.contains(withheld));
            let lacking = self.labels.iter().zip(outputs).filter(|(_, output)| lacks(output));
            let [first, ..] = failing[..] else { continue };
            let why = Why {
                stage: first.stage,
                by: Some(first.by.clone()),
                error: note(batch, row, &failing)?,
                alert: Some(alerts.alert(row)),
                lacking: Some(lacking.map(|(label, _)| label.clone()).collect()),
                hash: None,
            };
            let n = self.set_aside(alerts.position(row), why, run) as u64;
            if n > 0 {
                *run.counts().withheld.entry(first.name()).or_default() += n;
            }
        }
        Ok(())
    }

    /// Notes the alerts on which an expression of an `INSERT` errs, by their rows in `batch`: its sink refuses each as one
    /// row, whatever it would have become.
    pub fn err(
        &mut self,
        output: &Output,
        index: usize,
        batch: &RecordBatch,
        hashes: &[u128],
        erred: Erred,
        run: &SplitRun,
    ) -> Result<SinkReceipt> {
        let mut receipt = SinkReceipt::default();
        if erred.is_empty() {
            return Ok(receipt);
        }
        let alerts = Alerts::of(batch)?;
        for (row, error) in erred {
            let why = Why {
                stage: Stage::Sink,
                by: Some(output.sink.name.clone()),
                error,
                alert: Some(alerts.alert(row)),
                lacking: Some(vec![self.labels[index].clone()]),
                hash: None,
            };
            for _ in 0..self.set_aside(alerts.position(row), why, run) {
                receipt.wanted += Digest(hashes[row]);
                receipt.refused += 1;
                receipt.refused_digest += Digest(hashes[row]);
            }
        }
        Ok(receipt)
    }

    /// Of an alert of the quarantine no more than was wanted. Returns how many items it is.
    fn set_aside(&mut self, position: Position, why: Why, run: &SplitRun) -> usize {
        let (topic, partition, offset) = &position;
        let whys = match run.origin().target(topic, *partition, *offset) {
            Some(target) => target.narrow(&why),
            None => vec![why],
        };
        let n = whys.len();
        self.items.extend(whys.into_iter().map(|why| (position.clone(), why)));
        n
    }

    /// Where the alerts were on which an expression errs, and why.
    pub fn erred(&self) -> impl Iterator<Item = (&Position, &str)> {
        let erred = |(_, why): &&(Position, Why)| matches!(why.stage, Stage::View | Stage::Sink);
        self.items.iter().filter(erred).map(|(position, why)| (position, why.error.as_str()))
    }

    /// Of rows for an `INSERT`, those that it lacks: all of them, unless they come from the quarantine.
    pub fn lacked(&self, index: usize, rows: Rows, run: &SplitRun) -> Result<Rows> {
        let had = self.had(index, &rows, run)?;
        match had.is_empty() {
            true => Ok(rows),
            false => Ok(rows.without(&had)?),
        }
    }

    /// Of rows for an `INSERT`, those that it has already, in order.
    pub fn had(&self, index: usize, rows: &Rows, run: &SplitRun) -> Result<Vec<Refused>> {
        let origin = run.origin();
        if !origin.is_replay() {
            return Ok(Vec::new());
        }
        let alerts = Alerts::of(&rows.meta)?;
        let mut had = Vec::new();
        for (row, hash) in rows.hashes.iter().enumerate() {
            let (topic, partition, offset) = alerts.place(row);
            let target = origin.target(topic, partition, offset);
            if target.is_some_and(|target| !target.wants(alerts.alert(row), &self.labels[index], *hash)) {
                had.push(Refused { row, reason: String::new() });
            }
        }
        Ok(had)
    }

    /// Notes the rows that a sink refused.
    pub fn refuse(&mut self, output: &Output, index: usize, rows: &Rows, refused: Vec<Refused>) -> Result<SinkReceipt> {
        let alerts = Alerts::of(&rows.meta)?;
        let mut receipt = SinkReceipt::default();
        for Refused { row, reason } in refused {
            let hash = *rows.hashes.get(row).ok_or_else(|| internal("a sink refused a row that it was not given"))?;
            receipt.refused += 1;
            receipt.refused_digest += Digest(hash);
            let why = Why {
                stage: Stage::Sink,
                by: Some(output.sink.name.clone()),
                error: reason,
                alert: Some(alerts.alert(row)),
                lacking: Some(vec![self.labels[index].clone()]),
                hash: Some(hash),
            };
            self.items.push((alerts.position(row), why));
        }
        Ok(receipt)
    }

    /// All items with the bytes of their records, which are read again.
    pub async fn items(self, context: &StepContext) -> Result<Vec<SetAside>> {
        let mut items = std::mem::take(&mut context.run.counts().set_aside);
        if self.items.is_empty() {
            return Ok(items);
        }
        let origin = context.run.origin().clone();
        let positions: HashSet<Position> = self.items.iter().map(|(position, _)| position.clone()).collect();
        let records = origin.read_again(positions.into_iter().collect()).await.map_err(failed)?;
        let spec = origin.spec.as_ref().ok_or_else(|| internal("a split without its table of alerts"))?;
        for (position, why) in self.items {
            let record = records.get(&position).ok_or_else(|| internal("a record was not read again"))?.clone();
            let fingerprint = context.runtime.fingerprint(spec, &record);
            items.push(SetAside { record, fingerprint, why });
        }
        Ok(items)
    }
}

/// How many items there are, a record that does not decode counted once.
pub(super) fn count(items: &[SetAside]) -> u64 {
    let broken = |item: &&SetAside| item.why.stage == Stage::Decode;
    let place = |item: &SetAside| (item.record.topic.clone(), item.record.partition, item.record.offset);
    let records: HashSet<_> = items.iter().filter(broken).map(place).collect();
    (records.len() + items.iter().filter(|item| !broken(item)).count()) as u64
}

/// Where the rows of a batch came from, by the columns of [`super::meta_fields`].
struct Alerts<'a> {
    topics: &'a arrow::array::StringArray,
    partitions: &'a arrow::array::Int32Array,
    offsets: &'a arrow::array::Int64Array,
    rows: &'a arrow::array::Int32Array,
}

impl<'a> Alerts<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| internal(format!("no column {name}")));
        Ok(Self {
            topics: column("_topic")?.as_string::<i32>(),
            partitions: column("_partition")?.as_primitive::<Int32Type>(),
            offsets: column("_offset")?.as_primitive::<Int64Type>(),
            rows: column("_row")?.as_primitive::<Int32Type>(),
        })
    }

    fn place(&self, row: usize) -> (&str, i32, i64) {
        (self.topics.value(row), self.partitions.value(row), self.offsets.value(row))
    }

    fn position(&self, row: usize) -> Position {
        let (topic, partition, offset) = self.place(row);
        (topic.into(), partition, offset)
    }

    /// Number of the alert in its record.
    fn alert(&self, row: usize) -> i32 {
        self.rows.value(row)
    }
}

/// What was noted in a row by those that fail on it.
fn note(batch: &RecordBatch, row: usize, failing: &[&Withheld]) -> Result<String> {
    let mut texts: Vec<String> = Vec::new();
    for name in failing.iter().map(|withheld| withheld.name()) {
        let text = note_of(batch, row, &name)?.map(|text| format!("{name}: {text}"));
        texts.extend(text.filter(|text| !texts.contains(text)));
    }
    Ok(texts.join("; "))
}
