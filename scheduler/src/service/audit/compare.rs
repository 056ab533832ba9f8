//! Where both sides meet: rows that are equal cancel out, and what is left is named.

use std::collections::HashMap;

use redpoll_core::ids::Epoch;
use redpoll_core::sink::SinkKind;

use super::report::{Finding, Kind, Report};
use super::sinks::{Sink, Tally};
use super::spill::Entry;
use super::{Audit, Error, on_disk};

/// Places of one row that a finding names.
const SHOWN_PLACES: usize = 5;

/// Equal rows of both sides.
#[derive(Default)]
struct Meeting {
    wanted: Vec<Entry>,
    found: Vec<Entry>,
}

/// Judges what is left over on either side.
pub(super) struct Judge {
    pub sinks: Vec<Sink>,
    pub tallies: HashMap<(Epoch, u16), Tally>,
    /// A row of a wide-column table that no epoch wants may be of an epoch that was not computed again.
    pub open_keys: bool,
    pub report: Report,
}

impl Audit<'_> {
    pub(super) fn compare(self) -> Result<Report, Error> {
        let open_keys = self.has_open_keys();
        let mut judge = Judge { sinks: self.sinks, tallies: self.tallies, open_keys, report: self.report };
        for bucket in self.spill.into_buckets() {
            judge.bucket(bucket.map_err(on_disk)?);
        }
        Ok(judge.finish())
    }

    fn has_open_keys(&self) -> bool {
        let under_way = self.fold.stopped.is_none() || !self.fold.open.is_empty();
        !self.whole || under_way || self.report.again < self.report.epochs || !self.gone.is_empty()
    }
}

impl Judge {
    fn bucket(&mut self, bucket: Vec<Entry>) {
        let mut meetings: HashMap<(u16, u128), Meeting> = HashMap::new();
        for entry in bucket {
            let meeting = meetings.entry((entry.sink, entry.key)).or_default();
            if entry.wanted { meeting.wanted.push(entry) } else { meeting.found.push(entry) }
        }
        // In an order that is the same each time.
        let mut meetings: Vec<_> = meetings.into_values().filter(|meeting| !meeting.is_even()).collect();
        meetings.sort_by_key(Meeting::order);
        meetings.into_iter().for_each(|meeting| self.meet(&meeting));
    }

    fn meet(&mut self, meeting: &Meeting) {
        let Some(one) = meeting.one() else { return };
        let alone = self.tallies.get(&(one.epoch, one.sink)).is_some_and(|tally| tally.alone);
        let sink = &mut self.sinks[usize::from(one.sink)];
        match (sink.spec.kind, alone) {
            (SinkKind::Store, _) => self.meet_key(meeting, alone),
            (_, true) => {
                let n = meeting.found.len();
                if sink.single && !sink.may_repeat() && n > 1 && sink.has_origins() {
                    self.tell(Kind::Doubled, meeting, n - 1);
                }
            }
            (_, false) => self.meet_rows(meeting),
        }
    }

    /// In a wide-column table rows of one key are one row.
    fn meet_key(&mut self, meeting: &Meeting, alone: bool) {
        let Some(one) = meeting.one() else { return };
        let sink = &mut self.sinks[usize::from(one.sink)];
        match (meeting.wanted.is_empty(), meeting.found.is_empty()) {
            (false, true) if !alone && !sink.unread => self.tell(Kind::Missing, meeting, 1),
            (true, false) if sink.shared || self.open_keys => sink.sums.others += 1,
            (true, false) => self.tell(Kind::Unexpected, meeting, 1),
            _ => {}
        }
    }

    fn meet_rows(&mut self, meeting: &Meeting) {
        let Some(one) = meeting.one() else { return };
        let sink = &mut self.sinks[usize::from(one.sink)];
        let (wanted, found) = (meeting.wanted.len(), meeting.found.len());
        if found < wanted {
            if sink.expired_to.is_some_and(|last| one.epoch <= last) {
                sink.sums.expired += (wanted - found) as u64;
            } else if !sink.unread {
                self.tell(Kind::Missing, meeting, wanted - found);
            }
        } else if wanted == 0 && sink.shared && meeting.found.iter().all(|row| !row.ours) {
            sink.sums.others += found as u64;
        } else if wanted == 0 {
            self.tell(Kind::Unexpected, meeting, found);
        } else if sink.may_repeat() {
            sink.sums.repeats += (found - wanted) as u64;
        } else {
            self.tell(Kind::Doubled, meeting, found - wanted);
        }
    }

    fn tell(&mut self, kind: Kind, meeting: &Meeting, n: usize) {
        let Some(one) = meeting.one() else { return };
        let sink = &self.sinks[usize::from(one.sink)];
        let text = meeting.in_words(kind, sink, n);
        let of_store = sink.spec.kind == SinkKind::Store && !one.wanted;
        self.report.add(Finding {
            kind,
            sink: Some(sink.spec.name.clone()),
            epoch: (!of_store).then_some(one.epoch),
            alert: one.id.clone(),
            position: (!one.topic.is_empty()).then(|| (one.topic.clone(), one.partition, one.offset, one.row)),
            n: n as u64,
            text,
        });
    }

    fn finish(mut self) -> Report {
        let mut tallies: Vec<_> = std::mem::take(&mut self.tallies).into_iter().collect();
        tallies.sort_by_key(|(of, _)| *of);
        for ((epoch, number), tally) in tallies {
            self.compare_tally(epoch, number, &tally);
        }
        for sink in self.sinks {
            if sink.sums.expired > 0 {
                let expired = sink.sums.expired;
                self.report
                    .note(format!("{}: {expired} rows may have expired, and are not looked for", sink.spec.name));
            }
            self.report.sinks.push(sink.sums);
        }
        self.report
    }

    /// The ledger's sums of what was not computed again.
    fn compare_tally(&mut self, epoch: Epoch, number: u16, tally: &Tally) {
        let sink = &self.sinks[usize::from(number)];
        let expired = sink.expired_to.is_some_and(|last| epoch <= last);
        if sink.unread || sink.spec.kind == SinkKind::Store || expired {
            return;
        }
        let same = tally.found == tally.rows && (!tally.hashed || tally.found_digest == tally.digest);
        if same || sink.may_repeat() && tally.found >= tally.rows {
            return;
        }
        let name = sink.spec.name.clone();
        let digests = match tally.hashed {
            true => format!(" (digests {} and {})", tally.digest, tally.found_digest),
            false => String::new(),
        };
        let (rows, found) = (tally.rows, tally.found);
        let text = format!("{name}: the ledger has {rows} rows of epoch {epoch}, there are {found}{digests}");
        self.report.tell(Kind::Ledger, Some(&name), Some(epoch), text);
    }
}

impl Meeting {
    /// As many are there as should be: most rows of most nights.
    fn is_even(&self) -> bool {
        self.wanted.len() == self.found.len()
    }

    /// Any of them: they are alike.
    fn one(&self) -> Option<&Entry> {
        self.wanted.first().or(self.found.first())
    }

    fn order(&self) -> (u16, u64, String, i32, i64, u32, String) {
        let Some(one) = self.one() else { return Default::default() };
        (one.sink, one.epoch.0, one.topic.clone(), one.partition, one.offset, one.row, one.at.clone())
    }

    fn in_words(&self, kind: Kind, sink: &Sink, n: usize) -> String {
        let Some(one) = self.one() else { return String::new() };
        let (name, epoch, wanted) = (&sink.spec.name, one.epoch, self.wanted.len());
        let (who, of_store) = (one.who(), sink.spec.kind == SinkKind::Store);
        match kind {
            Kind::Missing if of_store && wanted > 1 => {
                format!("{name}: the row of key '{}' is missing: {who} and {} more (epoch {epoch})", one.at, wanted - 1)
            }
            Kind::Missing if of_store => format!("{name}: {who} under key '{}' is missing (epoch {epoch})", one.at),
            Kind::Missing if wanted > 1 => format!("{name}: {n} of {wanted} rows of {who} are missing (epoch {epoch})"),
            Kind::Missing => format!("{name}: {who} is missing (epoch {epoch})"),
            Kind::Doubled => {
                let (found, wanted, at) = (self.found.len(), wanted.max(1), self.places());
                format!("{name}: {who} is there {found} times instead of {wanted} (epoch {epoch}){at}")
            }
            _ if of_store => format!("{name}: no alert has key '{}'", one.at),
            _ => format!("{name}: {who} should not be there (epoch {epoch}){}", self.places()),
        }
    }

    /// Where in the sink the rows are, if it has places.
    fn places(&self) -> String {
        let places = self.found.iter().map(|found| found.at.as_str()).filter(|at| !at.is_empty());
        let places: Vec<&str> = places.take(SHOWN_PLACES).collect();
        if places.is_empty() { String::new() } else { format!(", at {}", places.join(", ")) }
    }
}

impl Entry {
    /// Which alert it is, as far as it says.
    fn who(&self) -> String {
        let Entry { id, topic, partition, offset, row, .. } = self;
        let alert = id.as_ref().map_or_else(|| "an alert".to_owned(), |id| format!("alert {id}"));
        match (topic.is_empty(), row) {
            (true, _) => alert,
            (false, 0) => format!("{alert} of {topic}[{partition}]@{offset}"),
            (false, row) => format!("{alert} of {topic}[{partition}]@{offset} (number {} of its record)", row + 1),
        }
    }
}

#[cfg(test)]
mod tests;
