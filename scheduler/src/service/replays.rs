//! The quarantine of jobs: what is in it, and requests to send some of it again.

use std::collections::{BTreeMap, BTreeSet};

use redpoll_core::protocol::{JobPaths, Spec};
use redpoll_core::quarantine::{self, Item, Listed, Place, Replay, State};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::jobs::{By, Request};
use super::{Error, Service};
use crate::coordinator::{Accepted, Ask, Asked, JobConfig, Mode, Policy};

/// Which items of a job's quarantine are to be sent again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    pub items: Vec<Item>,
    /// All of them.
    #[serde(default)]
    pub all: bool,
    /// Those too that were sent again before.
    #[serde(default)]
    pub again: bool,
}

impl Service {
    /// Sends items again through the pipeline as it is now: in the job that runs, or in one that begins for just that.
    pub async fn replay(&self, name: &str, wanted: Wanted) -> Result<Accepted, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed(name, error);
        let log = self.log(name);
        let fold = log.read().await.map_err(|error| failed(&error))?;
        let Some(spec) = fold.spec else { return Err(Error::NoJob(name.to_owned())) };
        let (store, warehouse) = self.objects();
        let listed = quarantine::list(&log, store.as_ref(), &JobPaths::new(warehouse, name)).await;
        let (records, left_out) = choose(&listed.map_err(|error| failed(&error))?, &wanted)?;
        if records.is_empty() {
            return Ok(Accepted { records: 0, left_out });
        }
        let (answer, answered) = oneshot::channel();
        let ask = Ask { asked: Asked { records, again: wanted.again }, answer };
        self.hand_over(name, spec, fold.stopped.is_some(), ask).await?;
        // A job that ends drops what it was asked.
        let accepted = answered.await.map_err(|_| Error::Busy(name.to_owned()))?;
        Ok(Accepted { left_out: accepted.left_out + left_out, ..accepted })
    }

    /// To the job that runs here, else to one that begins.
    async fn hand_over(&self, name: &str, spec: Spec, is_stopped: bool, ask: Ask) -> Result<(), Error> {
        let asks = self.inner.jobs.lock().await.get(name).filter(|job| !job.is_over()).map(|job| job.asks().clone());
        if let Some(asks) = asks {
            return asks.try_send(ask).map_err(|_| Error::Busy(name.to_owned()));
        }
        let config: JobConfig = serde_json::from_value(spec.config).map_err(|error| Error::failed(name, error))?;
        if !is_stopped && config.policy.mode != Mode::Replay {
            return Err(Error::Refused(format!(
                "job '{name}' has not ended: if it runs, name its scheduler with --scheduler; if it was interrupted, end \
                 it first with `redpoll run`"
            )));
        }
        let policy = Policy { mode: Mode::Replay, ..config.policy };
        let request = Request { config: JobConfig { policy, ..config }, pipeline: spec.pipeline, confirmed: None };
        match self.enter(request, By::Replay, Some(ask)).await {
            Err(Error::Running(name)) => Err(Error::Busy(name)),
            begun => begun.map(drop),
        }
    }
}

/// The records that hold what is wanted, and how many are left out as they were sent again before.
fn choose(listed: &[Listed], wanted: &Wanted) -> Result<(Vec<Replay>, u64), Error> {
    let known: BTreeSet<Item> = listed.iter().map(|listed| listed.item).collect();
    let named: BTreeSet<Item> = wanted.items.iter().copied().collect();
    if let Some(Item { epoch, split, row }) = named.difference(&known).next() {
        return Err(Error::Refused(format!("the quarantine has no item {row} of epoch {epoch}, split {split}")));
    }
    let mut records: BTreeMap<_, Replay> = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    for listed in listed.iter().filter(|listed| wanted.all || named.contains(&listed.item)) {
        let record = &listed.entry.record;
        let position = (record.topic.clone(), record.partition, record.offset);
        if !wanted.again && listed.state != State::SetAside {
            // Of all that there is, what is done is no news.
            left_out.extend((!wanted.all).then_some(position));
            continue;
        }
        let bytes = (record.value.len() + record.key.as_ref().map_or(0, |key| key.len())) as u64;
        let replay = records.entry(position).or_insert_with(|| Replay { places: Vec::new(), bytes });
        add(replay, listed);
    }
    let n_left_out = left_out.iter().filter(|position| !records.contains_key(*position)).count() as u64;
    let mut records: Vec<Replay> = records.into_values().collect();
    // Those of one file together, so that it is read once.
    records.sort();
    Ok((records, n_left_out))
}

fn add(replay: &mut Replay, listed: &Listed) {
    let Item { epoch, split, row } = listed.item;
    let same = |place: &&mut Place| (place.epoch, place.split) == (epoch, split);
    match replay.places.iter_mut().find(same) {
        Some(place) => place.rows.push(row),
        None => replay.places.push(Place { epoch, split, attempt: listed.attempt.clone(), rows: vec![row] }),
    }
}

#[cfg(test)]
mod tests {
    use redpoll_core::ids::{Epoch, SplitId};
    use redpoll_core::quarantine::{SetAside, Why};
    use redpoll_core::source::Record;

    use super::*;

    fn item(epoch: u64, row: u32) -> Item {
        Item { epoch: Epoch(epoch), split: SplitId(0), row }
    }

    fn listed(epoch: u64, row: u32, offset: i64, state: State) -> Listed {
        let value = "0123456789".into();
        let record = Record { topic: "ztf".into(), partition: 0, offset, timestamp: None, key: None, value };
        let entry = SetAside { record, fingerprint: None, why: Why::decode("torn") };
        Listed { item: item(epoch, row), attempt: format!("a{epoch}"), entry, state }
    }

    fn names(listed: &[Listed], wanted: &Wanted) -> (Vec<String>, u64) {
        let (records, left_out) = choose(listed, wanted).unwrap();
        (records.iter().map(Replay::to_string).collect(), left_out)
    }

    #[test]
    fn a_record_is_chosen_once_with_all_of_its_items() {
        let two =
            [listed(0, 0, 7, State::SetAside), listed(0, 1, 8, State::SetAside), listed(0, 2, 7, State::SetAside)];
        let all = Wanted { all: true, ..Wanted::default() };
        assert_eq!(names(&two, &all).0, ["0/0/a0/0,2", "0/0/a0/1"]);
        let one = Wanted { items: vec![item(0, 2)], ..Wanted::default() };
        assert_eq!(names(&two, &one).0, ["0/0/a0/2"]);
        let none = Wanted { items: vec![item(4, 2)], ..Wanted::default() };
        assert!(choose(&two, &none).unwrap_err().to_string().contains("no item 2 of epoch 4"));
    }

    #[test]
    fn what_was_sent_again_is_left_out_unless_it_is_meant() {
        let failed_again = [
            listed(0, 0, 7, State::FailedAgain(Epoch(3))),
            listed(0, 1, 8, State::Replayed(Epoch(3))),
            listed(3, 0, 7, State::SetAside),
        ];
        let all = Wanted { all: true, ..Wanted::default() };
        assert_eq!(names(&failed_again, &all), (vec!["3/0/a3/0".to_owned()], 0));
        let again = Wanted { again: true, ..all };
        assert_eq!(names(&failed_again, &again).0, ["0/0/a0/0 3/0/a3/0", "0/0/a0/1"]);
        let one = Wanted { items: vec![item(0, 1)], ..Wanted::default() };
        assert_eq!(names(&failed_again, &one), (vec![], 1));
    }
}
