//! What science modules did with the rows that reached them, and what they took.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_zero;

/// One module over some rows. `in = gated + erred + called`, and of those called some are null and others failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModuleCounts {
    /// Rows of the views that call it.
    #[serde(rename = "in")]
    pub rows: u64,
    /// Rows that its own `where` keeps from it.
    pub gated: u64,
    /// Rows that were set aside, since an argument or its `where` errs on them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub erred: u64,
    /// Rows whose value it meant to be null.
    pub null: u64,
    /// Rows on which it failed.
    pub failed: u64,
    /// Of those, the ones it was not called for, because it rested.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rested: u64,
    /// Workers that died or took too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u64,
    /// Sum over batches of the time from asking for a worker to having one.
    #[serde(default)]
    pub queue_micros: u64,
    /// Arguments and values that went between executor and workers.
    #[serde(default)]
    pub bytes: u64,
    /// Largest memory of a worker that was in RAM.
    #[serde(default)]
    pub peak_kib: u64,
    /// New workers that had to import the module themselves, since its import starts threads: others are forked with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub imports: u64,
    /// Time per row, of the rows that were answered.
    #[serde(default)]
    pub micros: Spread,
}

impl ModuleCounts {
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.gated += other.gated;
        self.erred += other.erred;
        self.null += other.null;
        self.failed += other.failed;
        self.rested += other.rested;
        self.restarts += other.restarts;
        self.queue_micros += other.queue_micros;
        self.bytes += other.bytes;
        self.peak_kib = self.peak_kib.max(other.peak_kib);
        self.imports += other.imports;
        self.micros.add(&other.micros);
    }
}

/// Adds up counts by module.
pub fn add_modules(into: &mut BTreeMap<String, ModuleCounts>, from: &BTreeMap<String, ModuleCounts>) {
    for (module, counts) in from {
        into.entry(module.clone()).or_default().add(counts);
    }
}

/// How times are spread: rows by the logarithm of their microseconds, so that sums of spreads still have quantiles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spread(BTreeMap<u8, u64>);

/// Steps for each doubling: a quantile is right to a tenth.
const STEPS: f64 = 4.0;

impl Spread {
    /// Rows that took `time` together.
    pub fn record(&mut self, rows: u64, time: Duration) {
        if rows > 0 {
            let micros = time.as_secs_f64() * 1e6 / rows as f64;
            let step = (STEPS * micros.max(1.0).log2()).round().min(255.0) as u8;
            *self.0.entry(step).or_default() += rows;
        }
    }

    fn add(&mut self, other: &Self) {
        for (step, rows) in &other.0 {
            *self.0.entry(*step).or_default() += rows;
        }
    }

    /// Microseconds within which this share of the rows was answered; None of no rows.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = share * self.0.values().sum::<u64>() as f64;
        let mut sum = 0;
        let reached = self.0.iter().find(|(_, rows)| {
            sum += **rows;
            sum as f64 >= wanted
        });
        reached.map(|(step, _)| (f64::from(*step) / STEPS).exp2().round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_sums_are_right_to_a_tenth() {
        let (mut fast, mut slow) = (Spread::default(), Spread::default());
        fast.record(980, Duration::from_micros(980 * 50));
        slow.record(20, Duration::from_millis(20 * 7));
        fast.add(&slow);
        let near = |found: Option<u64>, wanted: f64| (found.unwrap() as f64 / wanted - 1.0).abs() < 0.1;
        assert!(near(fast.quantile(0.5), 50.0) && near(fast.quantile(0.99), 7000.0), "{fast:?}");
        assert_eq!(Spread::default().quantile(0.5), None);
    }

    #[test]
    fn counts_of_old_lines_are_read() {
        let counts: ModuleCounts = serde_json::from_str(r#"{"in": 5, "gated": 1, "null": 0, "failed": 2}"#).unwrap();
        assert_eq!((counts.rows, counts.failed, counts.micros.quantile(0.5)), (5, 2, None));
    }
}
