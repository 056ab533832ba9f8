//! When the next request is due: pauses between tries, and the rate that a receiver allows.

use std::time::Duration;

/// The pause after a first failure; it doubles from there.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// A receiver that asks for a longer pause is asked again before.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The pauses between the tries of one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    failed: u32,
}

impl Pauses {
    /// Spreads senders that failed together.
    pub fn jitter() -> f64 {
        rand::random()
    }

    /// Tries that failed so far.
    pub fn failed(self) -> u32 {
        self.failed
    }

    /// Notes a failure, and says how long to wait: at least as long as the receiver asked for (`after`), else half to
    /// all of a span that doubles with each failure. `jitter` is from 0 to 1.
    pub fn next(&mut self, after: Option<Duration>, jitter: f64) -> Duration {
        let span = FIRST.saturating_mul(1 << self.failed.min(16)).min(LONGEST);
        self.failed = self.failed.saturating_add(1);
        let pause = span.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        after.map_or(pause, |after| after.min(LONGEST_ASKED).max(pause))
    }
}

/// Most requests in a time, as evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The least time between the starts of two requests.
    pub gap: Duration,
}

impl Rate {
    /// `5/s`, `30/m` or `1000/h`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no rate; write '5/s', '30/m' or '1000/h'");
        let (n, unit) = text.split_once('/').ok_or_else(wrong)?;
        let n: u32 = n.trim().parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        let unit = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        Ok(Self { gap: Duration::from_secs(unit) / n })
    }
}
