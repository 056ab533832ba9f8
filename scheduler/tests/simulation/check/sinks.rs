//! What readers see of topics and of the wide-column table.

use redpoll_core::ids::{Epoch, SplitId};

use super::{Alert, Checks, Seen, Sink, Verdict, ensure};

impl Checks {
    /// A transaction was committed: these records are now there for `read_committed` readers.
    pub fn transaction(&self, epoch: Epoch, split: SplitId, records: &[Alert]) {
        let verdict = (|| {
            let mut seen = self.seen();
            let expected = seen.expected(Sink::Candidates, epoch, split)?;
            ensure!(records == expected, "I2: epoch {epoch}, split {split} sent other records than its own");
            for alert in records {
                ensure!(seen.candidates.insert(alert.clone()), "I2: read_committed readers see {alert} twice");
            }
            Ok(())
        })();
        self.judge(verdict);
    }

    /// A record of the at-least-once topic. It may come again, with equal headers.
    pub fn sent(&self, epoch: Epoch, split: SplitId, alert: &Alert) {
        let verdict = (|| {
            let mut seen = self.seen();
            let ours = seen.expected(Sink::Alerts, epoch, split)?.contains(alert);
            ensure!(ours, "I2: {alert} was sent, which epoch {epoch} does not want");
            seen.alerts.insert(alert.clone());
            Ok(())
        })();
        self.judge(verdict);
    }

    /// A cell was put: the same again, or a first one.
    pub fn cell(&self, epoch: Epoch, split: SplitId, alert: &Alert, timestamp: i64) {
        let verdict = (|| {
            let mut seen = self.seen();
            let ours = seen.expected(Sink::Store, epoch, split)?.contains(alert);
            ensure!(ours, "I2: {alert} was put, which epoch {epoch} does not want");
            let before = seen.cells.insert(alert.clone(), timestamp);
            ensure!(before.is_none_or(|before| before == timestamp), "I2: {alert} has two cells");
            Ok(())
        })();
        self.judge(verdict);
    }
}

impl Seen {
    fn expected(&self, sink: Sink, epoch: Epoch, split: SplitId) -> Result<Vec<Alert>, String> {
        let planned = self.epochs.get(&epoch).ok_or(format!("I5: epoch {epoch} runs without an intent"))?;
        let outcome = planned.outcomes.get(&split).ok_or(format!("I5: epoch {epoch} has no split {split}"))?;
        Ok(outcome.rows[&sink].clone())
    }

    /// I2: what was committed is out, in every sink.
    pub(super) fn sinks_are_complete(&self, from: Epoch, to: Epoch) -> Verdict {
        for alert in self.rows(Sink::Candidates, from, to) {
            ensure!(self.candidates.contains(alert), "I2: {alert} is committed, and not in the exactly-once topic");
        }
        for alert in self.rows(Sink::Alerts, from, to) {
            ensure!(self.alerts.contains(alert), "I2: {alert} is committed, and not in the at-least-once topic");
        }
        let outcomes = self.epochs.range(from..=to).flat_map(|(_, planned)| planned.outcomes.values());
        for alert in outcomes.flat_map(|outcome| outcome.written(Sink::Store)) {
            ensure!(self.cells.contains_key(alert), "I2: {alert} is committed, and not in the store");
        }
        Ok(())
    }
}
