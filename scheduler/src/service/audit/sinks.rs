//! What the sinks hold, row by row.

use futures::TryStreamExt;
use object_store::path::Path;
use redpoll_connectors::sinks::{Asked, Contents, Found, FoundAt, Queued, contents};
use redpoll_core::digest::{Digest, bytes_hash, row_hash};
use redpoll_core::ids::Epoch;
use redpoll_core::log::Record;
use redpoll_core::sink::{SinkKind, SinkSpec};
use redpoll_core::source::OffsetRange;
use redpoll_core::steps::Selected;

use super::report::{Kind, SinkSums};
use super::spill::Entry;
use super::{Audit, Error, on_disk};

/// A sink of the job, whatever revision of its pipeline writes it.
pub(super) struct Sink {
    pub spec: SinkSpec,
    pub sums: SinkSums,
    /// Each alert is at most one of its rows.
    pub single: bool,
    /// An alert may become several rows of one `INSERT`.
    pub unnests: bool,
    /// It could not be read, so nothing is said to be missing from it.
    pub unread: bool,
    /// The last epoch of which records may have expired.
    pub expired_to: Option<Epoch>,
    /// Another job writes it too.
    pub shared: bool,
}

/// The ledger's sums of an epoch in a sink, against what is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Of the ledger.
    pub rows: u64,
    pub digest: Digest,
    /// Found.
    pub found: u64,
    pub found_digest: Digest,
    /// Every row's hash follows from what the sink keeps.
    pub hashed: bool,
    /// No row of the epoch is known: only the sums are compared.
    pub alone: bool,
}

impl Sink {
    pub fn new(spec: &SinkSpec, shared: bool) -> Self {
        let by = match spec.kind {
            SinkKind::Delta => "position",
            SinkKind::Topic if spec.url.starts_with("kafka://") => "headers",
            SinkKind::Topic => "bytes",
            SinkKind::Store => "row key",
            SinkKind::Outbox => "messages",
        };
        let sums = SinkSums {
            name: spec.name.clone(),
            kind: spec.kind,
            by: by.to_owned(),
            wanted: 0,
            found: 0,
            repeats: 0,
            expired: 0,
            others: 0,
        };
        Self { spec: spec.clone(), sums, single: true, unnests: false, unread: false, expired_to: None, shared }
    }

    pub fn is_kafka(&self) -> bool {
        self.spec.kind == SinkKind::Topic && self.spec.url.starts_with("kafka://")
    }

    /// Its rows say which split wrote them, not where they were read.
    pub fn is_folder(&self) -> bool {
        self.spec.kind == SinkKind::Topic && !self.is_kafka()
    }

    pub fn may_repeat(&self) -> bool {
        self.is_kafka() && self.spec.options.get("delivery").is_some_and(|delivery| delivery == "at-least-once")
    }

    /// Rows in it say where they were read.
    pub fn has_origins(&self) -> bool {
        self.spec.kind == SinkKind::Delta || self.numbers_alerts()
    }

    /// Rows in it say which alert of a record they are.
    pub fn numbers_alerts(&self) -> bool {
        self.spec.kind == SinkKind::Outbox || self.is_kafka()
    }

    /// What a row that should be there is told by; `None` if the sink refuses it.
    pub fn wanted(&self, number: u16, epoch: Epoch, row: Selected) -> Option<Entry> {
        let key = match self.spec.kind {
            SinkKind::Store => key(number, None, row.mark.as_deref()?),
            SinkKind::Topic if self.is_folder() => {
                key(number, Some(epoch), &in_file(row.split.0, row.output, row.mark.as_deref().unwrap_or_default()))
            }
            _ => {
                let at = (row.topic.as_str(), row.partition, row.offset, self.numbers_alerts().then_some(row.row));
                key(number, Some(epoch), &at_origin(at, row.mark.as_deref()))
            }
        };
        let at = match self.spec.kind {
            SinkKind::Store => String::from_utf8_lossy(row.mark.as_deref()?).into_owned(),
            _ => String::new(),
        };
        let Selected { topic, partition, offset, row, id, .. } = row;
        Some(Entry { sink: number, wanted: true, ours: true, key, epoch, topic, partition, offset, row, id, at })
    }

    /// What a row that is there is told by.
    pub fn found(&self, number: u16, found: Found) -> Entry {
        let mark = found.mark.as_deref();
        let bytes = match (&found.origin, found.place) {
            (Some(at), _) => at_origin((&at.topic, at.partition, at.offset, at.row), mark),
            (None, Some((split, place))) => in_file(split.0, place, mark.unwrap_or_default()),
            (None, None) => mark.unwrap_or_default().to_vec(),
        };
        let FoundAt { topic, partition, offset, row } =
            found.origin.unwrap_or(FoundAt { topic: String::new(), partition: 0, offset: 0, row: None });
        let id = match self.spec.kind {
            SinkKind::Delta => mark.map(|id| String::from_utf8_lossy(id).into_owned()),
            _ => None,
        };
        Entry {
            sink: number,
            wanted: false,
            ours: found.ours,
            key: key(number, found.epoch, &bytes),
            epoch: found.epoch.unwrap_or_default(),
            topic,
            partition,
            offset,
            row: row.unwrap_or_default(),
            id,
            at: found.at,
        }
    }
}

fn key(sink: u16, epoch: Option<Epoch>, rest: &[u8]) -> u128 {
    let epoch = epoch.map_or(u64::MAX, |epoch| epoch.0);
    bytes_hash(&[&sink.to_le_bytes()[..], &epoch.to_le_bytes(), rest].concat())
}

fn at_origin((topic, partition, offset, row): (&str, i32, i64, Option<u32>), mark: Option<&[u8]>) -> Vec<u8> {
    let row = row.map_or(u64::MAX, u64::from);
    let numbers = [&partition.to_le_bytes()[..], &offset.to_le_bytes(), &row.to_le_bytes()].concat();
    [&numbers[..], &(topic.len() as u64).to_le_bytes(), topic.as_bytes(), mark.unwrap_or_default()].concat()
}

fn in_file(split: u32, place: usize, mark: &[u8]) -> Vec<u8> {
    [&split.to_le_bytes()[..], &(place as u64).to_le_bytes(), mark].concat()
}

impl Audit<'_> {
    pub(super) async fn read_sinks(&mut self) -> Result<(), Error> {
        for number in 0..self.sinks.len() {
            let name = self.sinks[number].spec.name.clone();
            if let Err(reason) = self.read_sink(number as u16).await? {
                self.sinks[number].unread = true;
                let text = format!("{name}: it cannot be read, and nothing of it is compared: {reason}");
                self.report.tell(Kind::Unreadable, Some(&name), None, text);
            }
        }
        Ok(())
    }

    /// Reads all rows of the job; what the sink says against it is the inner error.
    async fn read_sink(&mut self, number: u16) -> Result<Result<(), String>, Error> {
        let (spec, uid, job) = (self.sinks[usize::from(number)].spec.clone(), self.job_uid(), self.job().to_owned());
        let objects = match spec.kind {
            SinkKind::Outbox => self.messages(&spec.name).await?,
            _ => Vec::new(),
        };
        let queued = Some(Queued { store: self.service.objects().0, objects: &objects });
        let asked = Asked { job: &job, job_uid: &uid, id: self.id.as_deref(), queued };
        let inner = &self.service.inner;
        let Contents { mut rows, shortened } =
            match contents(&spec, asked, &inner.stores, inner.config.store.as_deref()).await {
                Ok(contents) => contents,
                Err(error) => return Ok(Err(error.reason)),
            };
        let mut first: Vec<Option<Epoch>> = vec![None; shortened.len()];
        loop {
            match rows.try_next().await {
                Ok(Some(chunk)) => {
                    for found in chunk {
                        note_first(&found, &shortened, &mut first);
                        self.take(number, found)?;
                    }
                }
                Ok(None) => break,
                Err(error) => return Ok(Err(error.reason)),
            }
        }
        self.expire(number, &shortened, &first);
        Ok(Ok(()))
    }

    /// Objects that hold the messages of the epochs that are compared.
    async fn messages(&self, table: &str) -> Result<Vec<(Epoch, Path)>, Error> {
        let log = self.service.log(self.job());
        let records: Vec<Record> = {
            let records = log.records_of(&self.fold, &self.epochs);
            let asked = records.try_filter(|record| std::future::ready(self.epochs.contains(&record.line.epoch)));
            asked.try_collect().await.map_err(|error| Error::failed("the job's log", error))?
        };
        let wrote = |record: &&Record| record.line.sinks.get(table).is_some_and(|rows| *rows > 0);
        let epochs: Vec<_> = records.iter().filter(wrote).map(|record| (record.line.epoch, &record.attempts)).collect();
        log.queued(table, &epochs).await.map_err(|error| Error::failed(table, error))
    }

    fn take(&mut self, number: u16, found: Found) -> Result<(), Error> {
        if !self.is_asked(number, &found) {
            return Ok(());
        }
        self.sinks[usize::from(number)].sums.found += 1;
        if let Some(epoch) = found.epoch
            && !self.is_comparable(epoch, number, &found)
        {
            return Ok(());
        }
        let entry = self.sinks[usize::from(number)].found(number, found);
        self.spill.push(&entry).map_err(on_disk)
    }

    /// Whether a row is of the epochs that are compared. Tells of one that is of no epoch, or is no row at all.
    fn is_asked(&mut self, number: u16, found: &Found) -> bool {
        let sink = &self.sinks[usize::from(number)];
        match found.epoch {
            _ if sink.spec.kind == SinkKind::Store => true,
            // Of an epoch that is not asked for, or not committed yet.
            Some(epoch) if !self.epochs.contains(&epoch) => false,
            Some(epoch) if sink.is_folder() && found.mark.is_none() => {
                self.tell_of(number, Kind::Unreadable, Some(epoch), &found.at);
                false
            }
            Some(_) => true,
            None => {
                if self.whole {
                    let at = format!("a row that no epoch of the job wrote: {}", found.at);
                    self.tell_of(number, Kind::Unexpected, None, &at);
                }
                false
            }
        }
    }

    fn tell_of(&mut self, number: u16, kind: Kind, epoch: Option<Epoch>, at: &str) {
        let name = self.sinks[usize::from(number)].spec.name.clone();
        self.report.tell(kind, Some(&name), epoch, format!("{name}: {at}"));
    }

    /// Counts a row for the sums of its epoch, if those are compared; false if the source no longer says what it should
    /// be compared with.
    fn is_comparable(&mut self, epoch: Epoch, number: u16, found: &Found) -> bool {
        let Some(tally) = self.tallies.get_mut(&(epoch, number)) else { return true };
        tally.found += 1;
        let Some(at) = &found.origin else { return true };
        tally.found_digest += Digest::of([row_hash(&at.topic, at.partition, at.offset, at.row.unwrap_or_default())]);
        let gone = self.gone.get(&epoch).is_some_and(|gone| gone.iter().any(|range| holds(range, at)));
        tally.alone || !gone
    }

    /// Of a topic partition whose first records have expired, everything up to its first epoch that is left may be gone.
    fn expire(&mut self, number: u16, shortened: &[(i32, i64)], first: &[Option<Epoch>]) {
        let sink = &mut self.sinks[usize::from(number)];
        for ((partition, offset), first) in shortened.iter().zip(first) {
            let last = self.epochs.last().copied();
            sink.expired_to = sink.expired_to.max(first.or(last));
            let note = format!("{}[{partition}]: records before offset {offset} have expired", sink.spec.name);
            self.report.note(note);
        }
    }
}

/// Keeps the first epoch that is left in each topic partition that has lost records.
fn note_first(found: &Found, shortened: &[(i32, i64)], first: &mut [Option<Epoch>]) {
    for ((partition, _), first) in shortened.iter().zip(first) {
        if found.at.contains(&format!("[{partition}]@")) && first.is_none() {
            *first = found.epoch;
        }
    }
}

/// Whether an offset range holds a position. Files of a range have names of their own, but offsets in one sequence.
pub(super) fn holds(range: &OffsetRange, at: &FoundAt) -> bool {
    let same = !range.files.is_empty() || range.topic == at.topic;
    same && range.partition == at.partition && (range.start..range.end).contains(&at.offset)
}
