//! The source: topic partitions that grow and become more, or a folder where files appear, late and under early names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use redpoll_core::source::{Error, Gone, OffsetRange, Offsets, Record, Source, Start, Taken, TopicPartition};
use serde_json::json;

use super::hazards::Hazards;
use super::sim::{Process, Sim, lock};

/// Bytes of a record or file, as the source tells them.
pub const RECORD_BYTES: u64 = 100;

/// What the source holds at present.
#[derive(Debug)]
pub enum Holdings {
    /// The end of each partition of `ztf`.
    Topic(Vec<i64>),
    Folder(BTreeSet<String>),
}

impl Holdings {
    pub fn draw(sim: &Sim) -> Self {
        match sim.chance(0.3) {
            true => Holdings::Folder(BTreeSet::new()),
            false => Holdings::Topic(vec![0; sim.between(1, 3) as usize]),
        }
    }

    pub fn ends(&self) -> Offsets {
        match self {
            Holdings::Topic(ends) => (0..).zip(ends).map(|(partition, end)| (at("ztf", partition), *end)).collect(),
            Holdings::Folder(files) => [(at("folder", 0), files.len() as i64)].into(),
        }
    }

    /// More records or files.
    pub fn grow(&mut self, sim: &Sim, n: u64) {
        match self {
            Holdings::Topic(ends) => {
                if ends.len() < 4 && sim.chance(0.05) {
                    sim.event(format_args!("topic partition {} appears", ends.len()));
                    ends.push(0);
                }
                for _ in 0..n {
                    let partition = sim.below(ends.len() as u64) as usize;
                    ends[partition] += 1;
                }
            }
            Holdings::Folder(files) => {
                files.extend((0..n).map(|_| format!("{:06}.avro", sim.below(1_000_000))));
            }
        }
        sim.event(format_args!("the source holds {:?}", self.ends().into_values().collect::<Vec<_>>()));
    }

    fn available(&self, from: &Offsets, max_bytes: u64, taken: &Taken) -> Vec<OffsetRange> {
        let room = (max_bytes / RECORD_BYTES).max(1);
        match self {
            Holdings::Topic(ends) => {
                let share = (room / ends.len() as u64).max(1) as i64;
                let behind = self.ends().into_iter().map(|(at, end)| {
                    let start = from.get(&at).copied().unwrap_or(0);
                    (at, start, end.min(start + share))
                });
                let behind = behind.filter(|(_, start, end)| start < end).take(room as usize);
                behind.map(|(at, start, end)| range(&at, start, end, &[])).collect()
            }
            Holdings::Folder(files) => {
                let at = at("folder", 0);
                let start = from.get(&at).copied().unwrap_or(0);
                let new = files.iter().filter(|file| !taken.contains(&at.topic, file)).take(room as usize);
                let new: Vec<String> = new.cloned().collect();
                let end = start + new.len() as i64;
                if new.is_empty() { Vec::new() } else { vec![range(&at, start, end, &new)] }
            }
        }
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_owned(), partition }
}

fn range(at: &TopicPartition, start: i64, end: i64, files: &[String]) -> OffsetRange {
    let files: Vec<_> = files.iter().map(|name| json!({ "name": name, "size": RECORD_BYTES })).collect();
    let bytes = RECORD_BYTES * (end - start) as u64;
    let range = json!({ "topic": at.topic, "partition": at.partition, "start": start, "end": end, "bytes": bytes,
        "files": files });
    serde_json::from_value(range).expect("a range as the log has it")
}

/// The source as one process sees it.
#[derive(Clone)]
pub struct Feed {
    pub sim: Sim,
    pub process: Process,
    pub hazards: Arc<Hazards>,
    pub holdings: Arc<Mutex<Holdings>>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the source of {}", self.process)
    }
}

impl Feed {
    async fn ask<T: Send + 'static>(&self, look: impl Fn(&Holdings) -> T + Send + 'static) -> Result<T, Error> {
        let holdings = self.holdings.clone();
        let look = move || Ok(look(&lock(&holdings)));
        let broken = |_| Error::Read { location: "simulated".into(), reason: "the brokers do not answer".into() };
        self.sim.request(self.process, self.hazards.source(), (look, broken)).await
    }
}

#[async_trait]
impl Source for Feed {
    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error> {
        self.available_except(from, start, max_bytes, &Taken::default()).await
    }

    async fn begin(&self, start: Start) -> Result<Option<Offsets>, Error> {
        match start {
            Start::Earliest => Ok(None),
            _ => {
                self.ask(|holdings| match holdings {
                    Holdings::Topic(_) => Some(holdings.ends()),
                    Holdings::Folder(_) => None,
                })
                .await
            }
        }
    }

    /// Everything is held for ever, but who asks may get no answer.
    async fn lost(&self, _: &[OffsetRange]) -> Result<Vec<Gone>, Error> {
        self.ask(|_| Vec::new()).await
    }

    async fn available_except(
        &self,
        from: &Offsets,
        _: Start,
        max_bytes: u64,
        taken: &Taken,
    ) -> Result<Vec<OffsetRange>, Error> {
        let (from, taken) = (from.clone(), taken.clone());
        self.ask(move |holdings| holdings.available(&from, max_bytes, &taken)).await
    }

    fn read(&self, _: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        futures::stream::empty().boxed()
    }
}
