//! What to simulate, and where to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Result};

#[derive(Debug, Clone)]
pub struct Config {
    pub origin: Origin,
    /// Alerts to write, repeats included.
    pub count: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Replayed alerts get ids of their own (`candid`, `diaSourceId`), different for each seed. Made ones always do.
    pub unique_ids: bool,
    pub shares: Shares,
    pub framing: Framing,
    pub rate: Rate,
    /// Each alert goes to all of them. None is a dry run.
    pub sinks: Vec<Sink>,
}

impl Default for Config {
    /// A thousand plain ZTF alerts in containers, as fast as possible, to nowhere.
    fn default() -> Self {
        Self {
            origin: Origin::Made { survey: Survey::Ztf, start_mjd: 61_041.1 },
            count: 1000,
            seed: 1,
            unique_ids: true,
            shares: Shares::default(),
            framing: Framing::Ocf,
            rate: Rate::Fastest,
            sinks: Vec::new(),
        }
    }
}

/// Where plain alerts come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Made up: variable stars, supernovae and asteroids, from `start_mjd` (days; the first exposure) on.
    Made { survey: Survey, start_mjd: f64 },
    /// Real ones of a folder, `.avro`, `.tar`, `.tar.gz`, or `.parquet` as a broker archives them (written under our
    /// schema of the survey again), from the start again when they run out.
    Replayed { path: PathBuf },
}

/// Whose alerts, and so which schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survey {
    /// Schema 4.02.
    Ztf,
    /// Schema 10.0.
    Lsst,
}

/// Which part of the alerts is not plain, each from 0 to 1. An alert is of one kind only.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shares {
    /// Exact repeats, byte by byte, of one of the last 256 alerts.
    pub duplicates: f64,
    /// Bad pixels (`nbad` > 0, `pixelFlags_bad`) or a low score (`rb`, `reliability`), evenly.
    pub bad_quality: f64,
    /// In the i band (`fid` 3).
    pub i_band: f64,
    /// Without a score: `rb` or `reliability` is null.
    pub null_rb: f64,
}

impl Shares {
    /// A little of everything, so that each rule of the quality cuts is met.
    pub const MIXED: Shares = Shares { duplicates: 0.01, bad_quality: 0.05, i_band: 0.05, null_rb: 0.01 };

    pub(crate) fn validate(&self) -> Result<()> {
        let shares = [
            ("duplicates", self.duplicates),
            ("bad_quality", self.bad_quality),
            ("i_band", self.i_band),
            ("null_rb", self.null_rb),
            ("all kinds", self.duplicates + self.bad_quality + self.i_band + self.null_rb),
        ];
        match shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            Some((share, value)) => Err(Error::Share { share, value }),
            None => Ok(()),
        }
    }
}

/// How an alert becomes the value (and key) of a Kafka message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// An object container with its schema, as ZTF sends.
    Ocf,
    /// A zero byte, the schema's registry id as four bytes, the datum: as LSST sends.
    Confluent { schema_id: u32 },
    /// The datum alone.
    Schemaless,
    /// The datum; the key is the schema's JSON text, as Fink's clients expect. A file keeps no key.
    Fink,
}

/// When alerts leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    Fastest,
    /// Alerts per second, evenly spaced.
    PerSecond(f64),
    /// Bursts of `alerts`, one at the start of each interval.
    Visits {
        alerts: u64,
        every: Duration,
    },
}

impl Rate {
    /// One visit of LSST.
    pub const LSST: Rate = Rate::Visits { alerts: 10_000, every: Duration::from_secs(39) };
}

#[derive(Debug, Clone)]
pub enum Sink {
    /// One file per alert, which appears whole.
    Folder(PathBuf),
    /// A `.tar`, or compressed if the name ends in `.tar.gz` or `.tgz`. It appears when the run is over.
    Tarball(PathBuf),
    Kafka(Kafka),
}

/// Alerts go to its topic partitions in turn.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port`, several with commas.
    pub servers: String,
    pub topic: String,
    /// Topic partitions, if the topic is to be created. One that exists keeps its own.
    pub n_partitions: i32,
    /// More settings of the client, as librdkafka names them, for example for SASL.
    pub options: BTreeMap<String, String>,
}
