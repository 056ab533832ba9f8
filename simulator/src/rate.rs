//! When the n-th alert is due.

use std::time::Duration;

use crate::Rate;

impl Rate {
    /// Time from the start of the run until the alert with this number, from 0, may leave.
    pub(crate) fn due(self, sequence: u64) -> Duration {
        match self {
            Rate::Fastest => Duration::ZERO,
            Rate::PerSecond(rate) => Duration::try_from_secs_f64(sequence as f64 / rate).unwrap_or(Duration::MAX),
            Rate::Visits { alerts, every } => every.mul_f64((sequence / alerts.max(1)) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rate: Rate, sequence: u64, expected_ms: u64) {
        assert_eq!(rate.due(sequence), Duration::from_millis(expected_ms));
    }

    #[test]
    fn alerts_are_evenly_spaced_or_come_in_bursts() {
        check(Rate::Fastest, 1_000_000, 0);
        check(Rate::PerSecond(256.0), 0, 0);
        check(Rate::PerSecond(256.0), 128, 500);
        check(Rate::LSST, 9_999, 0);
        check(Rate::LSST, 10_000, 39_000);
        check(Rate::LSST, 29_999, 78_000);
    }
}
