//! How a scheduler begins to reign over a job: it appends the next term, and the spec where that is new.
//!
//! Before that, [`Revision::plan`] says what would be other than in the revision before. Whoever asked for the run sees
//! it, and [`reign`] applies what was seen or nothing.

use redpoll_core::ids::Epoch;
use redpoll_core::log::{self, Fold, Log};
use redpoll_core::protocol::{Entry, Pipeline, Spec};
use redpoll_core::revision::{Change, Move, Outline};
use redpoll_core::source::{Offsets, Source, Start, TopicPartition};
use serde::{Deserialize, Serialize};

use super::point;
use super::revision::{Meant, OtherSource, changes};
use super::{JobConfig, Mode};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Point(#[from] point::Error),
    #[error("its configuration cannot be written: {0}")]
    Config(#[from] serde_json::Error),
    #[error("job '{job}' cannot go on with this pipeline: {source}")]
    Source { job: String, source: OtherSource },
    #[error("it was given another revision meanwhile; look again")]
    Overtaken,
    #[error("job '{job}' has epoch {epoch} under way by another pipeline, which is to finish it first")]
    UnderWay { job: String, epoch: Epoch },
}

/// A job as it is to be run from now on.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub config: &'a JobConfig,
    pub pipeline: &'a Pipeline,
    /// Of the pipeline.
    pub outline: &'a Outline,
    pub meant: &'a Meant,
}

/// Who would run it.
#[derive(Debug, Clone, Copy)]
pub struct Scheduler<'a> {
    pub name: &'a str,
    /// URL at which it can be asked about its jobs.
    pub address: Option<&'a str>,
}

/// What a run of a job would change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Revision {
    /// The revision before; none of a new job.
    pub after: Option<u32>,
    pub changes: Vec<Change>,
    pub moves: Vec<Move>,
    /// An epoch that is open, and is finished by the revision before first.
    #[serde(default)]
    pub open: Option<Epoch>,
    /// Of the pipeline that was looked at.
    pub outline: Outline,
}

impl Revision {
    pub async fn plan(fold: &Fold, wanted: Wanted<'_>, source: &dyn Source) -> Result<Self, Error> {
        let outline = wanted.outline.clone();
        let Some(spec) = &fold.spec else { return Ok(Self { outline, ..Self::default() }) };
        let changes = match &spec.outline {
            Some(before) => {
                changes(before, &outline, wanted.meant).map_err(|source| Error::Source { job: wanted.config.name.clone(), source })?
            }
            None if spec.pipeline.text == wanted.pipeline.text => Vec::new(),
            None => vec![Change {
                what: "its log does not say what the pipeline was before: the rows of every table may differ".into(),
                asks: true,
                ..Change::default()
            }],
        };
        let moves = match wanted.config.from.as_ref().filter(|_| !is_set(spec, wanted.config)) {
            Some(from) => from.moves(source, &fold.offsets).await?,
            None => Vec::new(),
        };
        let revision = Self { after: Some(spec.revision), changes, moves, open: None, outline };
        Ok(Self { open: revision.under_way(fold, wanted), ..revision })
    }

    /// An open epoch that another pipeline has to finish before this one takes over.
    fn under_way(&self, fold: &Fold, wanted: Wanted<'_>) -> Option<Epoch> {
        let is_other = fold.spec.as_ref().is_some_and(|spec| spec.pipeline != *wanted.pipeline);
        let alters = is_other && self.changes.iter().any(|change| change.asks);
        fold.open.keys().next().filter(|_| alters).copied()
    }

    /// Whether whoever asks for the run has to agree.
    pub fn asks(&self) -> bool {
        !self.moves.is_empty() || self.changes.iter().any(Change::is_open)
    }
}

/// Whether a job began, or was set, where it is asked to begin. A run that is asked for again as it was, by a service
/// manager or a scheduler that starts, goes on where it stands.
pub fn is_set(spec: &Spec, config: &JobConfig) -> bool {
    config.from.is_some() && before(spec).is_some_and(|before| before.from == config.from)
}

fn before(spec: &Spec) -> Option<JobConfig> {
    serde_json::from_value(spec.config.clone()).ok()
}

/// Appends a term, and the spec if it is new, until both are ours. `uid` becomes the job's own if it has none yet.
pub async fn reign(
    log: &Log,
    scheduler: Scheduler<'_>,
    uid: &str,
    wanted: Wanted<'_>,
    revision: &Revision,
    source: &dyn Source,
) -> Result<Fold, Error> {
    let mut fold = log.read().await?;
    check(&fold, revision, wanted)?;
    log.begin_term(&mut fold, scheduler.name, scheduler.address).await?;
    // Whoever reigned until now may have planned an epoch meanwhile.
    check(&fold, revision, wanted)?;
    let config = serde_json::to_value(wanted.config)?;
    let (pipeline, outline) = (wanted.pipeline.clone(), Some(wanted.outline.clone()));
    let (changes, moves) = (revision.changes.clone(), revision.moves.clone());
    let spec = match &fold.spec {
        Some(spec) => {
            let same_rows = spec.outline.is_none() || spec.outline == outline;
            if spec.pipeline == pipeline && spec.config == config && same_rows && moves.is_empty() {
                return Ok(fold);
            }
            let end = end(wanted.config, Some(spec), source).await?;
            Spec { revision: spec.revision + 1, pipeline, config, outline, changes, moves, end, ..spec.clone() }
        }
        None => {
            let from = wanted.config.from.clone().unwrap_or_default();
            let begin = from.begin(source).await?;
            // What `latest` or a time means is pinned by `begin`: a topic partition that appears later is new.
            let start = if begin.is_some() { Start::Earliest } else { from.start() };
            let (uid, begin) = (uid.to_owned(), begin.unwrap_or_default());
            let end = end(wanted.config, None, source).await?;
            Spec { uid, pipeline, config, begin, start, outline, end, ..Spec::default() }
        }
    };
    log.append(&mut fold, &Entry::Spec(spec)).await?;
    Ok(fold)
}

/// What was looked at must be what is there.
fn check(fold: &Fold, revision: &Revision, wanted: Wanted<'_>) -> Result<(), Error> {
    let now = fold.spec.as_ref().map(|spec| spec.revision);
    let stands = revision.moves.iter().all(|moved| {
        let at = TopicPartition { topic: moved.topic.clone(), partition: moved.partition };
        fold.offsets.get(&at).is_none_or(|offset| *offset == moved.from)
    });
    match revision.under_way(fold, wanted) {
        _ if now != revision.after || !stands => Err(Error::Overtaken),
        Some(epoch) => Err(Error::UnderWay { job: wanted.config.name.clone(), epoch }),
        None => Ok(()),
    }
}

/// Where the job ends: as it was found for the revision before, if that was asked to end at the same point.
async fn end(config: &JobConfig, before: Option<&Spec>, source: &dyn Source) -> Result<Offsets, Error> {
    let Mode::To(point) = &config.policy.mode else { return Ok(Offsets::new()) };
    match before.filter(|spec| self::before(spec).is_some_and(|before| before.policy.mode == config.policy.mode)) {
        Some(spec) => Ok(spec.end.clone()),
        None => Ok(point.end(source).await?),
    }
}
