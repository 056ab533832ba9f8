//! What each module has done.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::Usage;

/// Counts of one module since the host started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Calls of `evaluate` that gave a result.
    pub calls: u64,
    pub rows: u64,
    /// Rows that are null because the module failed on them.
    pub failures: u64,
    /// Of those, the ones that failed at once because the module rested.
    pub rested: u64,
    /// Workers that died or timed out under this module.
    pub restarts: u64,
    /// Time from asking for a worker to the result, in microseconds.
    pub busy_micros: u64,
    /// Of that, time that calls waited for a worker.
    pub queue_micros: u64,
    /// Arguments and values that crossed.
    pub bytes: u64,
    /// Largest memory of a worker in RAM, in KiB.
    pub peak_kib: u64,
    /// Why the module rests, if it does.
    pub resting: Option<String>,
}

#[derive(Debug, Default)]
pub struct All(Mutex<BTreeMap<String, Metrics>>);

impl All {
    pub fn add(&self, module: &str, rows: u64, failures: u64, usage: &Usage, busy: Duration) {
        let mut all = self.0.lock();
        let of = all.entry(module.to_string()).or_default();
        of.calls += 1;
        of.rows += rows;
        of.failures += failures;
        of.rested += usage.rested;
        of.restarts += usage.restarts;
        of.busy_micros += micros(busy);
        of.queue_micros += micros(usage.queue);
        of.bytes += usage.bytes;
        of.peak_kib = of.peak_kib.max(usage.peak_kib);
    }

    pub fn read(&self) -> BTreeMap<String, Metrics> {
        self.0.lock().clone()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
