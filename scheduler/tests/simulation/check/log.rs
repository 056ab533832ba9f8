//! What may stand in a job's log, and who may write it.

use std::collections::BTreeMap;

use redpoll_core::ids::Epoch;
use redpoll_core::ledger::Line;
use redpoll_core::protocol::{Entry, Intent, Spec, Split};
use redpoll_core::quarantine::{Replay, TOPIC};
use redpoll_core::source::OffsetRange;

use super::{Checks, Planned, Process, Seen, SetAside, Sink, SplitId, Verdict, ensure};
use crate::scheduler::number;
use crate::sim::lock;

impl Checks {
    pub(super) fn entry(&self, by: Process, seq: u64, bytes: &[u8]) -> Verdict {
        let entry: Entry = serde_json::from_slice(bytes).map_err(|error| format!("not an entry: {error}"))?;
        let mut seen = self.seen();
        ensure!(seq == seen.next_entry, "I3: {by} wrote entry {seq} of the log, where {} is next", seen.next_entry);
        seen.next_entry += 1;
        if !matches!(entry, Entry::Term { .. }) {
            let reigns = seen.term.map(|(_, process)| process);
            ensure!(reigns == Some(by), "I3: {by} wrote entry {seq} of the log while {reigns:?} reigns");
        }
        match entry {
            Entry::Term { term, .. } => {
                ensure!(seen.term.is_none_or(|(last, _)| last < term), "I3: term {term} after {:?}", seen.term);
                self.sim.event(format_args!("term {term} begins, of {by}"));
                seen.term = Some((term, by));
                seen.stopped = false;
                Ok(())
            }
            Entry::Spec(spec) => seen.spec(spec),
            Entry::Intent(intent) => self.intent(&mut seen, intent),
            Entry::Prepared { epoch, attempts } => {
                self.sim.event(format_args!("epoch {epoch} is prepared"));
                seen.prepared(epoch, attempts)
            }
            Entry::Committed { from, to, tables, ledger } => {
                self.sim.event(format_args!("epochs {from} to {to} are committed"));
                self.committed(&mut seen, from, to, &ledger)?;
                seen.archives_are_complete(from, to, &tables)?;
                seen.sinks_are_complete(from, to)?;
                seen.uncommitted = Epoch(to.0 + 1);
                Ok(())
            }
            Entry::Stopped { reason } => {
                self.sim.event(format_args!("the job stops: {reason}"));
                let open = seen.epochs.keys().any(|epoch| *epoch >= seen.uncommitted);
                ensure!(!open, "I1: the job stopped with an open epoch: {reason}");
                seen.stopped = true;
                seen.stopped_by.insert(by);
                Ok(())
            }
            #[expect(unreachable_patterns, reason = "entries that say nothing about epochs")]
            _ => Ok(()),
        }
    }

    /// I1: an epoch begins where the last one ended, and ends where there is something.
    fn intent(&self, seen: &mut Seen, intent: Intent) -> Verdict {
        let epoch = intent.epoch;
        self.sim.event(format_args!("epoch {epoch} is planned: {}", ranges(&intent)));
        let pipeline = seen.pipelines.get(&intent.revision).copied();
        let pipeline = pipeline.ok_or(format!("epoch {epoch}: there is no revision {}", intent.revision))?;
        if let Some(planned) = seen.epochs.get_mut(&epoch) {
            return planned.revise(intent, &seen.pipelines);
        }
        let expected = seen.epochs.last_key_value().map_or(0, |(last, _)| last.0 + 1);
        ensure!(epoch.0 == expected, "I1: epoch {epoch} is planned after epoch {expected} - 1");
        ensure!(Some(intent.revision) == seen.revision, "epoch {epoch}: revision {} is not the job's", intent.revision);
        let mut parts: Vec<&OffsetRange> = intent.splits.iter().flat_map(|split| &split.ranges).collect();
        let mut replays = Vec::new();
        parts.sort_by_key(|range| (range.topic_partition(), range.start));
        for range in parts {
            let at = range.topic_partition();
            let begins = seen.offsets.get(&at).copied().unwrap_or(0);
            ensure!(range.start == begins, "I1: epoch {epoch} reads {at} from {}, not {begins}", range.start);
            seen.offsets.insert(at.clone(), range.end);
            if at.topic == TOPIC {
                replays.extend(redpoll_core::quarantine::replays(std::slice::from_ref(range)));
                continue;
            }
            let holds = lock(&self.source).ends().get(&at).copied().unwrap_or(0);
            ensure!(range.end <= holds, "I1: epoch {epoch} reads {at} to {}, but it ends at {holds}", range.end);
            for file in &range.files {
                ensure!(seen.files.insert(file.name.clone()), "I1: file {} is read twice", file.name);
            }
        }
        self.replayed(seen, epoch, &replays)?;
        let quarantined = &seen.quarantined;
        let items = |name: &str| items(quarantined, name);
        let outcome = |split: &Split| (split.id, self.truth.outcome(split, (intent.clock, pipeline), &items));
        let outcomes = intent.splits.iter().map(outcome).collect();
        seen.epochs.insert(epoch, Planned { intent, outcomes, chosen: None, replayed: replays.len() as u64 });
        Ok(())
    }

    /// What is sent again was set aside by an attempt that the log chose, and is sent again once.
    fn replayed(&self, seen: &mut Seen, epoch: Epoch, replays: &[Replay]) -> Verdict {
        for replay in replays {
            self.sim.count("a record of the quarantine was sent again");
            for place in &replay.places {
                let chosen = seen.epochs.get(&place.epoch).and_then(|planned| planned.chosen.as_ref());
                let attempt = chosen.and_then(|chosen| chosen.get(&place.split));
                ensure!(attempt == Some(&place.attempt), "I5: epoch {epoch} sends {replay} again, which is not chosen");
            }
            for item in replay.items() {
                ensure!(seen.replayed.insert(item), "I2: epoch {epoch} sends {item:?} again, as another did before");
            }
        }
        Ok(())
    }

    /// I1: what the ledger says became of each record and alert is what should.
    fn committed(&self, seen: &mut Seen, from: Epoch, to: Epoch, ledger: &[Line]) -> Verdict {
        ensure!(from == seen.uncommitted, "I4: epochs {from} to {to} are committed, {} was next", seen.uncommitted);
        let epochs: Vec<u64> = ledger.iter().map(|line| line.epoch.0).collect();
        ensure!(epochs == (from.0..=to.0).collect::<Vec<_>>(), "I1: epochs {from} to {to} have lines {epochs:?}");
        for line in ledger {
            let planned = seen.epochs.get(&line.epoch).ok_or(format!("I1: epoch {} was not planned", line.epoch))?;
            ensure!(planned.chosen.is_some(), "I4: epoch {} is committed and was not prepared", line.epoch);
            planned.balances(line)?;
        }
        Ok(())
    }
}

impl Planned {
    /// An epoch may be planned anew under another revision, but what it covers and what it computes stay.
    fn revise(&mut self, intent: Intent, pipelines: &BTreeMap<u32, u32>) -> Verdict {
        let epoch = intent.epoch;
        ensure!(self.chosen.is_none(), "I4: epoch {epoch} is revised after it was prepared");
        ensure!(
            Intent { revision: self.intent.revision, ..intent.clone() } == self.intent,
            "I6: epoch {epoch} is revised to other ranges or another clock"
        );
        ensure!(
            pipelines[&intent.revision] == pipelines[&self.intent.revision],
            "I6: epoch {epoch} is open by one pipeline and goes on by another"
        );
        self.intent = intent;
        Ok(())
    }

    fn balances(&self, line: &Line) -> Verdict {
        let epoch = line.epoch;
        let sum = |what: &dyn Fn(&super::Outcome) -> u64| self.outcomes.values().map(what).sum::<u64>();
        let sources = |what: &dyn Fn(&redpoll_core::ledger::SourceCounts) -> u64| {
            sum(&|outcome| outcome.sources.iter().map(what).sum())
        };
        let ours = [line.fetched, line.absent, line.decoded, line.quarantined, line.kept];
        let truth = [
            sources(&|counts| counts.fetched),
            sources(&|counts| counts.absent),
            sources(&|counts| counts.decoded),
            sources(&|counts| counts.quarantined),
            sum(&|outcome| outcome.view.kept),
        ];
        ensure!(
            ours == truth,
            "I1: epoch {epoch}: fetched, absent, decoded, quarantined, kept are {ours:?}, not {truth:?}"
        );
        let (cut, unknown): (u64, u64) = (line.cut.values().sum(), line.unknown.values().sum());
        ensure!(line.kept + cut + unknown == line.decoded, "I1: epoch {epoch}: an alert is neither kept nor cut");
        let replayed: u64 = line.replayed.values().sum();
        ensure!(replayed == self.replayed, "epoch {epoch}: {replayed} records are sent again, not {}", self.replayed);
        for sink in super::super::truth::SINKS {
            let rows = sum(&|outcome| outcome.rows[&sink].len() as u64);
            let told = line.sinks.get(sink.name()).unwrap_or(&0) + line.refused.get(sink.name()).unwrap_or(&0);
            ensure!(told == rows, "I2: epoch {epoch}: {} has {told} rows in the ledger, not {rows}", sink.name());
        }
        Ok(())
    }
}

impl Seen {
    fn spec(&mut self, spec: Spec) -> Verdict {
        match self.revision {
            None => self.offsets.clone_from(&spec.begin),
            Some(last) => ensure!(spec.revision == last + 1, "revision {} after {last}", spec.revision),
        }
        self.revision = Some(spec.revision);
        self.pipelines.insert(spec.revision, number(&spec.pipeline));
        Ok(())
    }

    /// I4, and that every chosen attempt did leave what it is chosen for.
    fn prepared(&mut self, epoch: Epoch, attempts: BTreeMap<SplitId, String>) -> Verdict {
        let before = self.epochs.range(self.uncommitted..epoch).find(|(_, planned)| planned.chosen.is_none());
        if let Some((before, _)) = before {
            return Err(format!("I4: epoch {epoch} is prepared, epoch {before} is not"));
        }
        let planned = self.epochs.get(&epoch).ok_or(format!("I4: epoch {epoch} is prepared without an intent"))?;
        ensure!(planned.chosen.is_none(), "I4: epoch {epoch} is prepared twice");
        for (split, outcome) in &planned.outcomes {
            let attempt =
                attempts.get(split).ok_or(format!("I4: epoch {epoch}: nothing is chosen for split {split}"))?;
            let key = (epoch, *split, attempt.clone());
            ensure!(self.receipts.contains_key(&key), "I5: epoch {epoch}: attempt {attempt} has no receipt");
            let kept = outcome.set_aside.is_empty() || self.quarantined.get(&key) == Some(&outcome.set_aside);
            ensure!(kept, "I1: epoch {epoch}, split {split}: records in quarantine are nowhere");
        }
        ensure!(attempts.len() == planned.outcomes.len(), "I4: epoch {epoch}: attempts of splits that it has not");
        if let Some(planned) = self.epochs.get_mut(&epoch) {
            planned.chosen = Some(attempts);
        }
        Ok(())
    }

    /// The rows that epochs were to write to a sink.
    pub(super) fn rows(&self, sink: Sink, from: Epoch, to: Epoch) -> impl Iterator<Item = &super::Alert> {
        let outcomes = self.epochs.range(from..=to).flat_map(|(_, planned)| planned.outcomes.values());
        outcomes.flat_map(move |outcome| &outcome.rows[&sink])
    }
}

/// The items that a name of the quarantine stands for.
fn items(quarantined: &BTreeMap<(Epoch, SplitId, String), Vec<SetAside>>, name: &str) -> Vec<SetAside> {
    let Ok(replay) = name.parse::<Replay>() else { return Vec::new() };
    let of = |place: redpoll_core::quarantine::Place| {
        let items = quarantined.get(&(place.epoch, place.split, place.attempt)).cloned().unwrap_or_default();
        place.rows.into_iter().filter_map(move |row| items.get(row as usize).cloned()).collect::<Vec<_>>()
    };
    replay.places.into_iter().flat_map(of).collect()
}

fn ranges(intent: &Intent) -> String {
    let split = |split: &Split| {
        let ranges =
            split.ranges.iter().map(|range| format!("{} {}..{}", range.topic_partition(), range.start, range.end));
        ranges.collect::<Vec<_>>().join(", ")
    };
    intent.splits.iter().map(split).collect::<Vec<_>>().join(" | ")
}
