//! The Kafka cluster of the sinks: lanes with fenced producers, transactions with marks, and a topic that repeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redpoll_core::ids::{Epoch, Lane, SplitId};

use super::check::Checks;
use super::hazards::Hazards;
use super::sim::{Process, Sim, lock};
use super::truth::Alert;

/// Brokers abort a transaction that is open for longer, and shut its producer out.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Another producer has taken the lane.
    Fenced,
    /// An open transaction touches the mark.
    Unstable,
    /// Nobody knows what became of it.
    Unanswered,
}

/// A lane's mark: the first epoch that is not out, and what was said with the last one.
pub type Mark = (i64, String);

#[derive(Debug)]
struct Open {
    work: (Epoch, SplitId),
    records: Vec<Alert>,
    mark: Option<Mark>,
    since: Duration,
}

#[derive(Debug, Default)]
struct LaneState {
    /// Number of the producer that holds the lane.
    producer: u64,
    open: Option<Open>,
    mark: Mark,
    /// The last transaction that its producer committed: asked again, the brokers say so.
    committed: Option<(Epoch, SplitId)>,
}

pub struct Brokers {
    sim: Sim,
    checks: Arc<Checks>,
    hazards: Arc<Hazards>,
    lanes: Arc<Mutex<BTreeMap<Lane, LaneState>>>,
}

impl Brokers {
    pub fn new(sim: &Sim, checks: &Arc<Checks>, hazards: &Arc<Hazards>) -> Self {
        Self { sim: sim.clone(), checks: checks.clone(), hazards: hazards.clone(), lanes: Arc::default() }
    }

    async fn ask<T: Send + 'static>(
        &self,
        from: Process,
        lane: Lane,
        effect: impl Fn(&mut LaneState) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sim, lanes) = (self.sim.clone(), self.lanes.clone());
        let effect = move || {
            let mut lanes = lock(&lanes);
            let state = lanes.entry(lane).or_default();
            if state.open.as_ref().is_some_and(|open| open.since + TRANSACTION_TIMEOUT < sim.elapsed()) {
                sim.count("a transaction timed out");
                state.open = None;
                state.producer += 1;
            }
            effect(state)
        };
        self.sim.request(from, self.hazards.broker(), (effect, |_| Error::Unanswered)).await
    }

    /// Takes the lane: aborts what another producer left open, and shuts that one out.
    pub async fn init(&self, from: Process, lane: Lane) -> Result<u64, Error> {
        let sim = self.sim.clone();
        let init = move |state: &mut LaneState| {
            if state.open.take().is_some() {
                sim.count("a zombie's transaction was aborted");
            }
            state.producer += 1;
            state.committed = None;
            sim.event(format_args!("{from} takes lane {lane}"));
            Ok(state.producer)
        };
        self.ask(from, lane, init).await
    }

    /// Waits for a stable mark, as `require stable` does.
    pub async fn mark(&self, from: Process, lane: Lane) -> Result<Mark, Error> {
        let read = |state: &mut LaneState| match &state.open {
            Some(open) if open.mark.is_some() => Err(Error::Unstable),
            _ => Ok(state.mark.clone()),
        };
        self.ask(from, lane, read).await
    }

    pub async fn produce(
        &self,
        from: Process,
        (lane, producer): (Lane, u64),
        work: (Epoch, SplitId),
        records: Vec<Alert>,
    ) -> Result<(), Error> {
        let since = self.sim.elapsed();
        let produce = move |state: &mut LaneState| {
            state.holds(producer)?;
            state.committed = None;
            let open = state.open.get_or_insert_with(|| Open { work, records: Vec::new(), mark: None, since });
            open.records.extend(records.clone());
            Ok(())
        };
        self.ask(from, lane, produce).await
    }

    pub async fn send_mark(&self, from: Process, (lane, producer): (Lane, u64), mark: Mark) -> Result<(), Error> {
        let send = move |state: &mut LaneState| {
            state.holds(producer)?;
            let open = state.open.as_mut().ok_or(Error::Fenced)?;
            open.mark = Some(mark.clone());
            Ok(())
        };
        self.ask(from, lane, send).await
    }

    /// Makes records and mark visible together.
    pub async fn commit(
        &self,
        from: Process,
        (lane, producer): (Lane, u64),
        work: (Epoch, SplitId),
    ) -> Result<(), Error> {
        let (sim, checks) = (self.sim.clone(), self.checks.clone());
        let commit = move |state: &mut LaneState| {
            state.holds(producer)?;
            if state.committed == Some(work) {
                return Ok(());
            }
            let open = state.open.take().ok_or(Error::Fenced)?;
            state.mark = open.mark.unwrap_or(state.mark.clone());
            state.committed = Some(work);
            let (epoch, split) = open.work;
            sim.event(format_args!("{from} commits epoch {epoch}, split {split} on lane {lane}"));
            checks.transaction(epoch, split, &open.records);
            Ok(())
        };
        self.ask(from, lane, commit).await
    }

    pub async fn abort(&self, from: Process, (lane, producer): (Lane, u64)) -> Result<(), Error> {
        let abort = move |state: &mut LaneState| {
            state.holds(producer)?;
            state.open = None;
            Ok(())
        };
        self.ask(from, lane, abort).await
    }

    /// Records of the at-least-once topic: one request each batch, visible at once.
    pub async fn send(&self, from: Process, work: (Epoch, SplitId), records: Vec<Alert>) -> Result<(), Error> {
        let checks = self.checks.clone();
        let send = move || {
            records.iter().for_each(|alert| checks.sent(work.0, work.1, alert));
            Ok(())
        };
        self.sim.request(from, self.hazards.broker(), (send, |_| Error::Unanswered)).await
    }

    /// Cells of the wide-column table.
    pub async fn put(
        &self,
        from: Process,
        work: (Epoch, SplitId),
        cells: Vec<Alert>,
        timestamp: i64,
    ) -> Result<(), Error> {
        let checks = self.checks.clone();
        let put = move || {
            cells.iter().for_each(|alert| checks.cell(work.0, work.1, alert, timestamp));
            Ok(())
        };
        self.sim.request(from, self.hazards.broker(), (put, |_| Error::Unanswered)).await
    }
}

impl LaneState {
    fn holds(&self, producer: u64) -> Result<(), Error> {
        if self.producer == producer { Ok(()) } else { Err(Error::Fenced) }
    }
}
