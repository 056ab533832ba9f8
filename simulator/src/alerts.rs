//! The stream of alerts that a config describes.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::avro::cell::Cell;
use crate::avro::container::Writer;
use crate::avro::edit::edit;
use crate::made::Made;
use crate::replay::Replay;
use crate::shares::Kind;
use crate::{Config, Error, Framing, Origin, Result, Shares, Survey};

/// How far back a repeat may reach. Bounds the memory: 256 alerts of 110 kB are 28 MB.
const MAX_RECENT: usize = 256;

/// One alert as it is sent. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its number in the stream, from 0.
    pub sequence: u64,
    /// `candid` or `diaSourceId`.
    pub id: i64,
    pub kind: Kind,
    pub key: Option<Bytes>,
    pub value: Bytes,
}

/// A plain alert: its datum, and what it was written with.
pub(crate) struct Plain<'a> {
    pub writer: &'a Writer,
    pub survey: Survey,
    pub datum: Vec<u8>,
    pub id: i64,
    /// Where the datum holds its id.
    pub id_paths: &'a [&'static str],
    /// Says where it came from in an error.
    pub name: String,
}

enum Source {
    Made(Made),
    Replay(Replay),
}

impl Source {
    fn next(&mut self, id: i64) -> Result<Plain<'_>> {
        match self {
            Source::Made(made) => made.next(id),
            Source::Replay(replay) => replay.next(),
        }
    }
}

/// The alerts in order. Ends after `count`, or at the first error.
pub struct Alerts {
    source: Source,
    shares: Shares,
    framing: Framing,
    unique_ids: bool,
    first_id: i64,
    next: u64,
    count: u64,
    rng: ChaCha8Rng,
    recent: VecDeque<Alert>,
}

impl Alerts {
    pub fn new(config: &Config) -> Result<Self> {
        config.shares.validate()?;
        let source = match &config.origin {
            Origin::Made { survey, start_mjd } => Source::Made(Made::new(*survey, *start_mjd, config.seed)?),
            Origin::Replayed { path } => Source::Replay(Replay::open(path)?),
        };
        Ok(Self {
            source,
            unique_ids: config.unique_ids,
            shares: config.shares,
            framing: config.framing,
            first_id: first_id(config.seed),
            next: 0,
            count: config.count,
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            recent: VecDeque::with_capacity(MAX_RECENT),
        })
    }

    fn make(&mut self) -> Result<Alert> {
        let sequence = self.next;
        let kind = Kind::draw(&self.shares, &mut self.rng);
        if kind == Kind::Duplicate && !self.recent.is_empty() {
            let earlier = &self.recent[self.rng.random_range(0..self.recent.len())];
            return Ok(Alert { sequence, kind, ..earlier.clone() });
        }
        // The very first alert has nothing to repeat.
        let kind = if kind == Kind::Duplicate { Kind::Plain } else { kind };
        let alert = self.single(sequence, kind)?;
        if self.shares.duplicates > 0.0 {
            self.recent.truncate(MAX_RECENT - 1);
            self.recent.push_front(alert.clone());
        }
        Ok(alert)
    }

    fn single(&mut self, sequence: u64, kind: Kind) -> Result<Alert> {
        let new_id = self.first_id + sequence as i64;
        let plain = self.source.next(new_id)?;
        let mut edits = kind.edits(plain.survey, &mut self.rng);
        let id = if self.unique_ids { new_id } else { plain.id };
        if id != plain.id {
            edits.extend(plain.id_paths.iter().map(|path| (*path, Cell::Int(id))));
        }
        let datum = match edits.is_empty() {
            true => plain.datum,
            false => edit(&plain.writer.schema, &plain.datum, &edits)
                .map_err(|cause| Error::Replayed { name: plain.name.clone(), cause })?,
        };
        let (key, value) = self.framing.frame(plain.writer, datum);
        Ok(Alert { sequence, id, kind, key, value })
    }
}

impl Iterator for Alerts {
    type Item = Result<Alert>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let alert = self.make();
        self.next = if alert.is_ok() { self.next + 1 } else { self.count };
        Some(alert)
    }
}

/// Where the ids of a seed start: room for a million million alerts, then the next seed's begin.
fn first_id(seed: u64) -> i64 {
    (1_000_000 + (seed % 1_000_000) as i64) * 1_000_000_000_000
}
