//! The invariants of the epoch protocol, checked at each effect that outlives the process that caused it.
//!
//! This is told of every object that is put or deleted, every Kafka transaction that is committed, every record sent
//! and every cell put. It keeps its own reading of the log, and compares with the [`Truth`].

mod archives;
mod log;
mod sinks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use object_store::path::Path;
use redpoll_core::ids::{Epoch, SplitId, Term};
use redpoll_core::protocol::{Intent, Receipt};
use redpoll_core::quarantine::{Item, Place, Replay};
use redpoll_core::source::Offsets;

use super::disk::short;
use super::sim::{Process, Sim, lock};
use super::source::{Holdings, RECORD_BYTES};
use super::truth::{Alert, Outcome, SetAside, Sink, Truth};

/// An epoch as the log has it.
struct Planned {
    intent: Intent,
    outcomes: BTreeMap<SplitId, Outcome>,
    chosen: Option<BTreeMap<SplitId, String>>,
    /// Records of the quarantine that it sends again.
    replayed: u64,
}

#[derive(Default)]
struct Seen {
    next_entry: u64,
    term: Option<(Term, Process)>,
    revision: Option<u32>,
    /// What each revision computes.
    pipelines: BTreeMap<u32, u32>,
    offsets: Offsets,
    files: BTreeSet<String>,
    epochs: BTreeMap<Epoch, Planned>,
    /// The next epoch that is to be committed.
    uncommitted: Epoch,
    stopped: bool,
    /// Schedulers that have logged the job's end.
    stopped_by: BTreeSet<Process>,
    receipts: BTreeMap<(Epoch, SplitId, String), Receipt>,
    quarantined: BTreeMap<(Epoch, SplitId, String), Vec<SetAside>>,
    /// Items that an intent sends again.
    replayed: BTreeSet<Item>,
    /// Rows of data files, by path.
    files_written: BTreeMap<String, Vec<String>>,
    archives: BTreeMap<Sink, archives::Archive>,
    /// Rows that the committed epochs were to write, by sink.
    expected: BTreeMap<Sink, usize>,
    candidates: BTreeSet<Alert>,
    alerts: BTreeSet<Alert>,
    /// Timestamps of an alert's cell.
    cells: BTreeMap<Alert, i64>,
}

pub struct Checks {
    sim: Sim,
    truth: Truth,
    source: Arc<Mutex<Holdings>>,
    seen: Mutex<Seen>,
}

/// An invariant that does not hold, by its number and with what was seen.
type Verdict = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}
use ensure;

impl Checks {
    pub fn new(sim: Sim, truth: Truth, source: Arc<Mutex<Holdings>>) -> Arc<Self> {
        Arc::new(Self { sim, truth, source, seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn judge(&self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.sim.violation(violation);
        }
    }

    /// An object was put.
    pub fn put(&self, by: Process, path: &Path, bytes: &[u8]) {
        let short = short(path);
        let verdict = match short.split('/').collect::<Vec<_>>()[..] {
            ["log", name] => match name.strip_suffix(".json").and_then(|n| n.parse().ok()) {
                Some(seq) => self.entry(by, seq, bytes),
                None => Ok(()),
            },
            ["epochs", _, "receipts", _] => self.receipt(bytes),
            ["epochs", epoch, "quarantine", name] => self.quarantined(epoch, name, bytes),
            ["tables", table, "_delta_log", version] => self.archive_entry(by, table, version, bytes),
            ["tables", _, _] => self.data_file(short, bytes),
            _ => Ok(()),
        };
        self.judge(verdict);
    }

    /// An object was deleted. Nothing may go that a reader or a restart would miss.
    pub fn deleted(&self, path: &Path) {
        let seen = self.seen();
        let short = short(path);
        let named = seen.archives.values().any(|archive| archive.names(short));
        let open = seen
            .epochs
            .keys()
            .any(|epoch| *epoch >= seen.uncommitted && short.starts_with(&format!("epochs/{:012}/", epoch.0)));
        drop(seen);
        if named || open {
            self.sim.violation(format_args!("I5: {short} was deleted, which is still to be read"));
        }
    }

    /// Same split, same rows: what attempts say must agree, whenever and wherever they ran.
    fn receipt(&self, bytes: &[u8]) -> Verdict {
        let receipt: Receipt = serde_json::from_slice(bytes).map_err(|error| format!("not a receipt: {error}"))?;
        let mut seen = self.seen();
        let (epoch, split) = (receipt.epoch, receipt.split);
        let planned = seen.epochs.get(&epoch).ok_or(format!("I5: a receipt of epoch {epoch}, which has no intent"))?;
        let outcome = planned.outcomes.get(&split).ok_or(format!("I5: a receipt of split {split} of epoch {epoch}"))?;
        let what = format!("epoch {epoch}, split {split}, attempt {}", receipt.attempt);
        ensure!(receipt.sources == outcome.sources, "I6: {what}: other records than the intent's");
        ensure!(receipt.views == [outcome.view.clone()], "I6: {what}: other rows than the intent's");
        for (sink, rows) in &outcome.rows {
            let written = receipt.sinks.get(sink.name()).ok_or(format!("{what}: nothing of {}", sink.name()))?;
            let all = written.rows + written.refused;
            ensure!(
                all == rows.len() as u64
                    && written.written == outcome.digest(*sink)
                    && written.refused_digest == outcome.refused_digest(*sink),
                "I6: {what}: other rows for {} than the intent's",
                sink.name()
            );
        }
        seen.receipts.insert((epoch, split, receipt.attempt.clone()), receipt);
        Ok(())
    }

    fn quarantined(&self, epoch: &str, name: &str, bytes: &[u8]) -> Verdict {
        let key = (|| {
            let (split, attempt) = name.strip_suffix(".parquet")?.split_once('-')?;
            Some((Epoch(epoch.parse().ok()?), SplitId(split.parse().ok()?), attempt.to_owned()))
        })();
        let items = serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))?;
        self.seen().quarantined.insert(key.ok_or(format!("{name}: not a name of a quarantine file"))?, items);
        Ok(())
    }

    /// The records in quarantine that the log chose, each alone, as their user would name them.
    pub fn set_aside(&self) -> Vec<Replay> {
        let seen = self.seen();
        let chosen = seen.epochs.iter().filter_map(|(epoch, planned)| Some((epoch, planned.chosen.as_ref()?)));
        let files = chosen.flat_map(|(epoch, chosen)| chosen.iter().map(|(split, attempt)| (*epoch, *split, attempt)));
        let mut records: BTreeMap<(String, i32, i64), Replay> = BTreeMap::new();
        for (epoch, split, attempt) in files {
            let items = seen.quarantined.get(&(epoch, split, attempt.clone())).into_iter().flatten();
            for (row, item) in (0..).zip(items) {
                let position = (item.topic.clone(), item.partition, item.offset);
                let replay =
                    records.entry(position).or_insert_with(|| Replay { places: Vec::new(), bytes: RECORD_BYTES });
                replay.places.push(Place { epoch, split, attempt: attempt.clone(), rows: vec![row] });
            }
        }
        records.into_values().collect()
    }

    /// Whether all that the source holds is committed, and the job has ended by itself.
    pub fn is_done(&self) -> bool {
        let seen = self.seen();
        seen.stopped && self.behind(&seen).is_none()
    }

    /// Whether all that the source holds is committed.
    pub fn is_committed(&self) -> bool {
        self.behind(&self.seen()).is_none()
    }

    /// Whether this scheduler has logged the job's end.
    pub fn was_stopped_by(&self, process: Process) -> bool {
        self.seen().stopped_by.contains(&process)
    }

    /// Of the scheduler that reigns.
    pub fn reigns(&self) -> Option<Process> {
        self.seen().term.map(|(_, process)| process)
    }

    /// What a committed job still lacks.
    fn behind(&self, seen: &Seen) -> Option<String> {
        let holdings = lock(&self.source);
        if let Some((at, end)) = holdings.ends().into_iter().find(|(at, end)| seen.offsets.get(at).unwrap_or(&0) != end)
        {
            return Some(format!("{at} is read to {:?} of {end}", seen.offsets.get(&at)));
        }
        let open = seen.epochs.keys().find(|epoch| **epoch >= seen.uncommitted)?;
        Some(format!("epoch {open} is not committed"))
    }

    /// What keeps a job from being over, for the message of a seed that does not come to its end.
    pub fn unfinished(&self) -> String {
        let seen = self.seen();
        self.behind(&seen).unwrap_or_else(|| "the job did not stop".to_owned())
    }
}
