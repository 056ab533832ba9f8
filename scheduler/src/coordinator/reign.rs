//! How a scheduler begins to reign over a job: it appends the next term, and the spec where that is new.

use redpoll_core::ids::Epoch;
use redpoll_core::log::{self, Fold, Log};
use redpoll_core::protocol::{Entry, Grown, Pipeline, Spec};
use redpoll_core::source::{self, Source};

use super::JobConfig;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("its configuration cannot be written: {0}")]
    Config(#[from] serde_json::Error),
    #[error(
        "job '{job}' has epoch {epoch} under way with another pipeline; run it once more as it was, then change it"
    )]
    Changed { job: String, epoch: Epoch },
}

/// Appends a term, and the spec if it is new, until both are ours. `scheduler` names who reigns; `uid` becomes the
/// job's own if it has none yet.
pub async fn reign(
    log: &Log,
    scheduler: &str,
    uid: &str,
    config: &JobConfig,
    pipeline: &Pipeline,
    source: &dyn Source,
) -> Result<Fold, Error> {
    let mut fold = log.read().await?;
    if let (Some(spec), Some((epoch, _))) = (&fold.spec, fold.open.first_key_value())
        && spec.pipeline != *pipeline
    {
        return Err(Error::Changed { job: config.name.clone(), epoch: *epoch });
    }
    log.begin_term(&mut fold, scheduler).await?;
    let value = serde_json::to_value(config)?;
    let spec = match &fold.spec {
        Some(spec) if spec.pipeline == *pipeline && spec.config == value => return Ok(fold),
        Some(spec) => Spec { revision: spec.revision + 1, pipeline: pipeline.clone(), config: value, ..spec.clone() },
        None => {
            let begin = source.begin(config.start).await?;
            Spec {
                uid: uid.to_owned(),
                revision: 0,
                pipeline: pipeline.clone(),
                config: value,
                pinned: begin.is_some(),
                begin: begin.unwrap_or_default(),
                grown: Grown::default(),
            }
        }
    };
    log.append(&mut fold, &Entry::Spec(spec)).await?;
    Ok(fold)
}
