//! Which modules rest, because they fail on too many rows or kill too many workers.
//!
//! A module that fails on more than its share of the rows of three epochs is not worth its time: its rows fail at once
//! while it rests. Then a few rows probe it: if they do well it is back, otherwise it rests twice as long. Fewer than
//! three epochs never judge a module: one that fails on rows of a kind, in a batch that is full of them, works.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Epochs that judge a module.
const EPOCHS: usize = 3;
/// Fewer rows than these prove nothing.
const MIN_ROWS: u64 = 50;
/// Longest rest, in rests of the first time.
const LONGEST: u32 = 8;

/// What to do with rows.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Call,
    /// Call with a few of them, and ask again.
    Probe,
    /// They fail for this reason.
    Rests(String),
}

#[derive(Debug)]
pub struct Breaker {
    rest: Duration,
    modules: Mutex<HashMap<String, State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Epoch, rows and failed rows, the newest last.
    epochs: VecDeque<(i64, u64, u64)>,
    resting: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    length: Duration,
    reason: String,
}

/// What some rows of a module came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    pub epoch: i64,
    pub rows: u64,
    pub failed: u64,
    /// Of a row that failed.
    pub reason: &'a str,
    /// Share of rows that may fail.
    pub max_share: f64,
}

impl Breaker {
    pub fn new(rest: Duration) -> Self {
        Self { rest, modules: Mutex::default() }
    }

    /// What to do with rows of the module now. Who is told to probe says how it went.
    pub fn verdict(&self, module: &str, now: Instant) -> Verdict {
        let mut modules = self.modules.lock();
        match modules.get_mut(module).and_then(|state| state.resting.as_mut()) {
            None => Verdict::Call,
            Some(rest) if now < rest.until => Verdict::Rests(rest.reason.clone()),
            Some(rest) => {
                // Others rest while it probes. If nobody ever tells how it went, another one may.
                rest.until = now + rest.length;
                Verdict::Probe
            }
        }
    }

    /// How a call went.
    pub fn on(&self, module: &str, outcome: Outcome<'_>, now: Instant) {
        let mut modules = self.modules.lock();
        let state = modules.entry(module.to_string()).or_default();
        let is_bad = |rows: u64, failed: u64| failed as f64 > outcome.max_share * rows as f64;
        if let Some(rest) = &mut state.resting {
            if is_bad(outcome.rows, outcome.failed) {
                rest.length = (2 * rest.length).min(LONGEST * self.rest);
                rest.until = now + rest.length;
            } else {
                *state = State::default();
                tracing::info!(module, "a module that rested works again");
            }
            return;
        }
        state.count(&outcome);
        let (rows, failed) = state.epochs.iter().fold((0, 0), |sum, epoch| (sum.0 + epoch.1, sum.1 + epoch.2));
        if state.epochs.len() == EPOCHS && rows >= MIN_ROWS && is_bad(rows, failed) {
            let reason = format!("it failed on {failed} of {rows} rows of {EPOCHS} epochs, as with {}", outcome.reason);
            state.resting = Some(Rest { until: now + self.rest, length: self.rest, reason: reason.clone() });
            tracing::error!(module, reason, rest = ?self.rest, "a module rests");
        }
    }

    /// Lets a module rest at once.
    pub fn open(&self, module: &str, reason: &str, now: Instant) {
        let mut modules = self.modules.lock();
        let resting = &mut modules.entry(module.to_string()).or_default().resting;
        let length = resting.as_ref().map_or(self.rest, |rest| (2 * rest.length).min(LONGEST * self.rest));
        *resting = Some(Rest { until: now + length, length, reason: reason.to_string() });
        tracing::error!(module, reason, rest = ?length, "a module rests");
    }

    /// Why the module rests, if it does.
    pub fn reason(&self, module: &str) -> Option<String> {
        Some(self.modules.lock().get(module)?.resting.as_ref()?.reason.clone())
    }
}

impl State {
    fn count(&mut self, outcome: &Outcome<'_>) {
        if !self.epochs.iter().any(|epoch| epoch.0 == outcome.epoch) {
            self.epochs.push_back((outcome.epoch, 0, 0));
            if self.epochs.len() > EPOCHS {
                self.epochs.pop_front();
            }
        }
        if let Some(epoch) = self.epochs.iter_mut().find(|epoch| epoch.0 == outcome.epoch) {
            epoch.1 += outcome.rows;
            epoch.2 += outcome.failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(60);

    fn outcome(epoch: i64, rows: u64, failed: u64) -> Outcome<'static> {
        Outcome { epoch, rows, failed, reason: "ValueError: no", max_share: 0.2 }
    }

    /// A breaker after these epochs of (rows, failed).
    fn after(epochs: &[(u64, u64)]) -> (Breaker, Instant) {
        let (breaker, now) = (Breaker::new(REST), Instant::now());
        for (epoch, (rows, failed)) in epochs.iter().enumerate() {
            breaker.on("it", outcome(epoch as i64, *rows, *failed), now);
        }
        (breaker, now)
    }

    fn rests(epochs: &[(u64, u64)], expected: bool) {
        let (breaker, now) = after(epochs);
        assert_eq!(matches!(breaker.verdict("it", now), Verdict::Rests(_)), expected, "{epochs:?}");
    }

    #[test]
    fn only_three_epochs_open_it() {
        rests(&[(100, 100), (100, 100)], false);
        rests(&[(100, 100), (100, 0), (100, 0)], true);
        rests(&[(100, 20), (100, 20), (100, 20)], false);
        rests(&[(100, 20), (100, 20), (100, 21)], true);
        rests(&[(100, 50), (100, 0), (100, 0), (100, 0)], false);
        rests(&[(10, 10), (10, 10), (10, 10)], false);
    }

    #[test]
    fn the_reason_tells_the_share_and_one_failure() {
        let (breaker, now) = after(&[(100, 30); 3]);
        let reason = "it failed on 90 of 300 rows of 3 epochs, as with ValueError: no".to_string();
        assert_eq!(breaker.verdict("it", now), Verdict::Rests(reason));
        assert_eq!(breaker.verdict("other", now), Verdict::Call);
    }

    #[test]
    fn one_probe_closes_it_and_the_count_begins_anew() {
        let (breaker, now) = after(&[(100, 30); 3]);
        let later = now + REST;
        assert_eq!(breaker.verdict("it", later), Verdict::Probe);
        assert!(matches!(breaker.verdict("it", later), Verdict::Rests(_)));
        breaker.on("it", outcome(3, 64, 0), later);
        assert_eq!((breaker.verdict("it", later), breaker.reason("it")), (Verdict::Call, None));
        breaker.on("it", outcome(4, 100, 100), later);
        assert_eq!(breaker.verdict("it", later), Verdict::Call);
    }

    #[test]
    fn a_probe_that_fails_doubles_the_rest() {
        let (breaker, now) = after(&[(100, 30); 3]);
        assert_eq!(breaker.verdict("it", now + REST), Verdict::Probe);
        breaker.on("it", outcome(3, 64, 64), now + REST);
        assert!(matches!(breaker.verdict("it", now + 2 * REST), Verdict::Rests(_)));
        assert_eq!(breaker.verdict("it", now + 3 * REST), Verdict::Probe);
    }

    #[test]
    fn a_probe_that_nobody_reports_is_made_again() {
        let (breaker, now) = after(&[(100, 30); 3]);
        assert_eq!(breaker.verdict("it", now + REST), Verdict::Probe);
        assert_eq!(breaker.verdict("it", now + 2 * REST), Verdict::Probe);
    }

    #[test]
    fn a_module_that_killed_too_many_workers_rests_at_once() {
        let (breaker, now) = after(&[]);
        breaker.open("it", "worker died: signal 9", now);
        assert_eq!(breaker.verdict("it", now), Verdict::Rests("worker died: signal 9".into()));
        assert_eq!(breaker.verdict("it", now + REST), Verdict::Probe);
    }
}
