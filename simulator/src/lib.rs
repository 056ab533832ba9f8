//! Alerts of a survey without the survey: made from a seed, or replayed from real ones, at any rate, in any framing.
//!
//! [`Alerts`] is the stream itself: an origin gives plain alerts, a seeded draw decides which become bad, i-band,
//! null or exact repeats, and a framing turns each into the bytes of one Kafka message. [`run`] writes the stream to
//! all sinks in one pass, so that a folder or tarball holds the very bytes that went to a topic. The same [`Config`]
//! gives the same bytes on every machine.

mod config;
mod error;

mod alerts;
mod framing;
mod shares;

mod avro;
mod made;
mod replay;

mod rate;
mod sinks;

use std::collections::BTreeMap;
use std::time::Instant;

pub use alerts::{Alert, Alerts};
pub use config::{Config, Framing, Kafka, Origin, Rate, Shares, Sink, Survey};
pub use error::{Error, Result};
pub use shares::Kind;

/// What a run wrote. Each alert counts once, however many sinks took it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub alerts: u64,
    /// Bytes of the framed values, without keys.
    pub bytes: u64,
    pub by_kind: BTreeMap<Kind, u64>,
}

/// Writes the alerts that `config` describes to its sinks, at its rate. `progress` hears of each alert: how many are
/// done, of how many. A file sink appears under its name only when it is whole, and a Kafka sink returns when the
/// brokers have acknowledged every record. Blocks: call it from a blocking thread.
pub fn run(config: &Config, mut progress: impl FnMut(u64, u64)) -> Result<Summary> {
    let alerts = Alerts::new(config)?;
    let mut sinks = sinks::open(config)?;
    let mut summary = Summary::default();
    let start = Instant::now();
    for alert in alerts {
        let alert = alert?;
        std::thread::sleep(config.rate.due(alert.sequence).saturating_sub(start.elapsed()));
        for sink in &mut sinks {
            sink.write(&alert)?;
        }
        summary.alerts += 1;
        summary.bytes += alert.value.len() as u64;
        *summary.by_kind.entry(alert.kind).or_default() += 1;
        progress(summary.alerts, config.count);
    }
    sinks.into_iter().try_for_each(|sink| sink.finish())?;
    Ok(summary)
}
