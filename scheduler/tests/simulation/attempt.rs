//! One attempt at a split on a fake executor: what the steps of a plan do, in their order, each able to fail or to be
//! the last thing that the executor does.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::{ObjectStoreExt, PutPayload};
use redpoll_connectors::sinks::LANES;
use redpoll_core::ids::{Epoch, Lane, SplitId};
use redpoll_core::protocol::{JobPaths, Receipt, Split};
use redpoll_core::quarantine::{Replay, TOPIC};
use redpoll_core::steps::EpochRun;
use serde_json::{Value, json};

use super::Mutant;
use super::archive::folder;
use super::brokers::{Error, Mark};
use super::cluster::Cluster;
use super::disk::Store;
use super::sim::Process;
use super::truth::{Alert, Outcome, SINKS, SetAside, Sink};

/// Times that a client repeats a request that was not answered.
const TRIES: u32 = 3;
/// Rows of a batch.
const BATCH: usize = 4;

pub struct Attempt {
    pub cluster: Arc<Cluster>,
    pub executor: Process,
    pub store: Store,
    pub run: EpochRun,
    pub split: Split,
    /// What it computes.
    pub pipeline: u32,
    pub name: String,
}

/// What an attempt may write to the lane.
enum Opened {
    Already(Mark),
    Producing { producer: u64, mark: i64 },
}

impl Attempt {
    fn work(&self) -> (Epoch, SplitId) {
        (self.run.epoch, self.split.id)
    }

    fn lane(&self) -> Lane {
        Lane(self.split.id.0 % LANES)
    }

    /// A moment in which the attempt may fail.
    async fn step(&self, what: &str) -> Result<(), String> {
        let sim = &self.cluster.sim;
        sim.sleep(sim.millis(0, 50)).await;
        match sim.chance(self.cluster.hazards.attempt()) {
            true => Err(format!("{what} failed")),
            false => Ok(()),
        }
    }

    pub async fn work_through(self) -> Result<(), String> {
        self.step("the start").await?;
        let outcome = self.outcome().await?;
        let opened = self.open_lane().await.map_err(|error| format!("lane {}: {error:?}", self.lane()))?;
        let written = self.write(&outcome, &opened).await;
        if let (Err(_), Opened::Producing { producer, .. }) = (&written, &opened)
            && self.cluster.sim.chance(0.5)
        {
            _ = self.cluster.brokers.abort(self.executor, (self.lane(), *producer)).await;
        }
        let files = written?;
        if self.cluster.mutant == Some(Mutant::ReceiptBeforeSinks) {
            self.leave_receipt(&outcome, &files).await?;
        }
        self.step("finishing the sinks").await?;
        self.finish_lane(&outcome, opened).await?;
        self.leave_receipt(&outcome, &files).await
    }

    /// What the split comes to: records of the quarantine are read from its files.
    async fn outcome(&self) -> Result<Outcome, String> {
        let mut items = BTreeMap::new();
        for file in self.split.ranges.iter().filter(|range| range.topic == TOPIC).flat_map(|range| &range.files) {
            items.insert(file.name.clone(), self.set_aside(&file.name.parse()?).await?);
        }
        let named = |name: &str| items.get(name).cloned().unwrap_or_default();
        Ok(self.cluster.truth.outcome(&self.split, (self.run.clock, self.pipeline), &named))
    }

    async fn set_aside(&self, replay: &Replay) -> Result<Vec<SetAside>, String> {
        let mut found = Vec::new();
        for place in &replay.places {
            self.step("a read of the quarantine").await?;
            let path = self.paths().quarantined(place.epoch, place.split, &place.attempt);
            let read = async { self.store.get(&path).await?.bytes().await };
            let bytes = read.await.map_err(|error| error.to_string())?;
            let all: Vec<SetAside> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
            found.extend(place.rows.iter().filter_map(|row| all.get(*row as usize).cloned()));
        }
        Ok(found)
    }

    fn paths(&self) -> JobPaths {
        JobPaths::new(&"warehouse".into(), &self.run.job)
    }

    async fn write(&self, outcome: &Outcome, opened: &Opened) -> Result<BTreeMap<Sink, Value>, String> {
        for sink in SINKS.into_iter().filter(|sink| !sink.is_archive()) {
            let rows: Vec<Alert> = outcome.written(sink).cloned().collect();
            for batch in rows.chunks(BATCH) {
                self.step("a batch").await?;
                self.send(sink, batch.to_vec(), opened).await.map_err(|error| format!("{}: {error:?}", sink.name()))?;
            }
        }
        let mut files = BTreeMap::new();
        for sink in SINKS.into_iter().filter(|sink| sink.is_archive() && !outcome.rows[sink].is_empty()) {
            self.step("a data file").await?;
            files.insert(sink, self.data_file(sink, &outcome.rows[&sink]).await?);
        }
        Ok(files)
    }

    async fn send(&self, sink: Sink, rows: Vec<Alert>, opened: &Opened) -> Result<(), Error> {
        let (brokers, from, work) = (&self.cluster.brokers, self.executor, self.work());
        match (sink, opened) {
            (Sink::Candidates, Opened::Producing { producer, .. }) => {
                brokers.produce(from, (self.lane(), *producer), work, rows).await
            }
            (Sink::Candidates, Opened::Already(_)) => Ok(()),
            (Sink::Alerts, _) => brokers.send(from, work, rows).await,
            _ => brokers.put(from, work, rows, self.run.clock).await,
        }
    }

    /// As Delta's files are: named by the attempt, invisible until a commit names them.
    async fn data_file(&self, sink: Sink, rows: &[Alert]) -> Result<Value, String> {
        let EpochRun { job, epoch, .. } = &self.run;
        let name = format!("part-{job}-{epoch}-{}-{}.parquet", self.split.id, self.name);
        let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
        let body = serde_json::to_vec(&rows).expect("names of alerts are JSON");
        let size = body.len();
        let path = folder(sink.name()).join(name.as_str());
        self.store.put(&path, PutPayload::from(body)).await.map_err(|error| error.to_string())?;
        Ok(json!({ "path": name, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": true }))
    }

    async fn open_lane(&self) -> Result<Opened, Error> {
        let (lane, from, brokers) = (self.lane(), self.executor, &self.cluster.brokers);
        let kept = self.cluster.take_producer(from, lane);
        let reused = match kept {
            // Asked once: a mark that cannot be read is one that another attempt has in an open transaction.
            Some((producer, left)) => match brokers.mark(from, lane).await {
                Ok(mark) if mark.0 == left => Some((producer, mark)),
                _ => None,
            },
            None => None,
        };
        let (producer, mark) = match reused {
            Some(reused) => reused,
            None => {
                let producer = self.insist(|| brokers.init(from, lane)).await?;
                (producer, self.insist(|| brokers.mark(from, lane)).await?)
            }
        };
        let ignores = self.cluster.mutant == Some(Mutant::LaneIgnoresMarks);
        if mark.0 > self.run.epoch.0 as i64 && !ignores {
            self.cluster.sim.count("a lane was already out");
            self.cluster.keep_producer(from, lane, (producer, mark.0));
            return Ok(Opened::Already(mark));
        }
        brokers.produce(from, (lane, producer), self.work(), Vec::new()).await?;
        Ok(Opened::Producing { producer, mark: mark.0 })
    }

    async fn finish_lane(&self, outcome: &Outcome, opened: Opened) -> Result<(), String> {
        let (epoch, lane, from, brokers) = (self.run.epoch, self.lane(), self.executor, &self.cluster.brokers);
        let metadata = format!("{} {}", outcome.rows[&Sink::Candidates].len(), outcome.digest(Sink::Candidates));
        let said = |error| format!("lane {lane}: {error:?}");
        match opened {
            Opened::Already((next, _)) if next > epoch.0 as i64 + 1 => Ok(()),
            Opened::Already((_, found)) if found == metadata => Ok(()),
            Opened::Already((_, found)) => {
                let what = format!("I6: lane {lane} holds '{found}' of epoch {epoch}, a re-run computed '{metadata}'");
                self.cluster.sim.violation(&what);
                Err(what)
            }
            Opened::Producing { producer, mark } => {
                let mark = (epoch.0 as i64 + 1, metadata).max((mark, String::new()));
                let held = (lane, producer);
                self.insist(|| brokers.send_mark(from, held, mark.clone())).await.map_err(said)?;
                self.step("the commit of a transaction").await?;
                self.insist(|| brokers.commit(from, held, self.work())).await.map_err(said)?;
                self.cluster.keep_producer(from, lane, (producer, mark.0));
                Ok(())
            }
        }
    }

    /// Repeats a request that was not answered.
    async fn insist<T, F: Future<Output = Result<T, Error>>>(&self, ask: impl Fn() -> F) -> Result<T, Error> {
        for _ in 1..TRIES {
            match ask().await {
                Err(Error::Unanswered | Error::Unstable) => {
                    self.cluster.sim.sleep(self.cluster.sim.millis(20, 1000)).await;
                }
                answer => return answer,
            }
        }
        ask().await
    }

    async fn leave_receipt(&self, outcome: &Outcome, files: &BTreeMap<Sink, Value>) -> Result<(), String> {
        let paths = self.paths();
        let (epoch, split) = self.work();
        if !outcome.set_aside.is_empty() {
            self.step("the quarantine").await?;
            let path = paths.quarantined(epoch, split, &self.name);
            let body = serde_json::to_vec(&outcome.set_aside).expect("positions are JSON");
            self.store.put(&path, PutPayload::from(body)).await.map_err(|error| error.to_string())?;
        }
        self.step("the receipt").await?;
        let body = serde_json::to_vec(&self.receipt(outcome, files)).expect("a receipt is JSON");
        let path = paths.receipt(epoch, split, &self.name);
        self.store.put(&path, PutPayload::from(body)).await.map_err(|error| error.to_string())?;
        Ok(())
    }

    fn receipt(&self, outcome: &Outcome, files: &BTreeMap<Sink, Value>) -> Receipt {
        let sinks: BTreeMap<&str, Value> = outcome
            .rows
            .iter()
            .map(|(sink, rows)| {
                let n_written = outcome.written(*sink).count();
                let files: Vec<_> = files.get(sink).into_iter().collect();
                let sink_receipt = json!({ "rows": n_written, "wanted": outcome.wanted_digest(*sink),
                    "written": outcome.digest(*sink), "refused": rows.len() - n_written,
                    "refused_digest": outcome.refused_digest(*sink), "files": files });
                (sink.name(), sink_receipt)
            })
            .collect();
        let (epoch, split) = self.work();
        let receipt = json!({ "epoch": epoch, "split": split, "attempt": self.name,
            "revision": self.run.revision, "executor": self.executor.to_string(), "sources": outcome.sources,
            "views": [outcome.view], "sinks": sinks, "set_aside": outcome.set_aside.len(), "seconds": 1.0 });
        serde_json::from_value(receipt).expect("a receipt as executors write it")
    }
}
