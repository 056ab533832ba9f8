//! What each module has done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::Evaluated;

/// Counts of one module since the host started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Calls of `evaluate` that gave a result.
    pub calls: u64,
    pub rows: u64,
    /// Rows that are null because the module failed on them.
    pub failures: u64,
    /// Workers that died or timed out under this module.
    pub restarts: u64,
    /// Time from asking for a worker to the result, in microseconds.
    pub busy_micros: u64,
}

#[derive(Debug, Default)]
pub struct All(Mutex<BTreeMap<String, Arc<Counters>>>);

impl All {
    pub fn of(&self, module: &str) -> Arc<Counters> {
        Arc::clone(self.0.lock().entry(module.to_string()).or_default())
    }

    pub fn read(&self) -> BTreeMap<String, Metrics> {
        self.0.lock().iter().map(|(module, counters)| (module.clone(), counters.read())).collect()
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    rows: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
    busy_micros: AtomicU64,
}

impl Counters {
    pub fn add(&self, evaluated: &Evaluated, restarts: u64, busy: Duration) {
        self.calls.fetch_add(1, Relaxed);
        self.rows.fetch_add(evaluated.values.len() as u64, Relaxed);
        self.failures.fetch_add(evaluated.failures.len() as u64, Relaxed);
        self.restarts.fetch_add(restarts, Relaxed);
        self.busy_micros.fetch_add(busy.as_micros() as u64, Relaxed);
    }

    fn read(&self) -> Metrics {
        Metrics {
            calls: self.calls.load(Relaxed),
            rows: self.rows.load(Relaxed),
            failures: self.failures.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            busy_micros: self.busy_micros.load(Relaxed),
        }
    }
}
