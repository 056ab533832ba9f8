//! Checkpoints: the fold of a log so far, written beside it, so that opening a job reads few objects after months.
//!
//! `checkpoint-<seq>` folds the entries before `seq`. Whoever writes it, its content is the same, for it follows from
//! the log; so it is put without a condition, and a torn one is only passed over: the one before it and the entries
//! since say the same. That is why sweeping keeps two.

use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload, path::Path};

use super::{Error, Fold, Log};

impl Log {
    /// Writes the fold as a checkpoint, after its records of committed epochs went into the history.
    pub async fn checkpoint(&self, fold: &mut Fold) -> Result<(), Error> {
        let history = self.extended_history(fold).await?;
        let written = Fold { history, recent: Vec::new(), checkpoint: fold.next, ..fold.clone() };
        let path = self.paths.checkpoint(fold.next);
        let body = serde_json::to_vec(&written).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        let put = self.store.put(&path, PutPayload::from(body)).await;
        put.map_err(|source| Error::Store { path, source })?;
        *fold = written;
        Ok(())
    }

    /// Numbers of the checkpoints, the newest first.
    pub async fn checkpoints(&self) -> Result<Vec<u64>, Error> {
        let prefix = self.paths.log();
        // A name that sorts after those of all entries and before those of checkpoints.
        let offset = prefix.clone().join("checkpoint");
        let found = self.store.list_with_offset(Some(&prefix), &offset);
        let found = found.try_filter_map(|object| async move { Ok(checkpoint_of(&object.location)) });
        let mut numbers: Vec<u64> =
            found.try_collect().await.map_err(|source| Error::Store { path: prefix, source })?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// The fold that a checkpoint holds.
    pub async fn load(&self, checkpoint: u64) -> Result<Fold, Error> {
        let path = self.paths.checkpoint(checkpoint);
        let bytes = self.get(&path).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Malformed { path, source })
    }

    /// The newest checkpoint that can be read, without one the fold of no entries; and the number that the log is known
    /// to reach, which is that of the newest checkpoint, whether or not it can be read.
    pub(super) async fn last_checkpoint(&self) -> Result<(Fold, u64), Error> {
        let numbers = self.checkpoints().await?;
        let reached = numbers.first().copied().unwrap_or_default();
        for number in numbers {
            match self.load(number).await {
                Ok(fold) if fold.next == number => return Ok((fold, reached)),
                Ok(fold) => {
                    let path = self.paths.checkpoint(number);
                    tracing::warn!(%path, folds = fold.next, "checkpoint passed over: it is not what its name says");
                }
                Err(error @ Error::Malformed { .. }) => tracing::warn!(%error, "checkpoint passed over"),
                // Swept since it was listed: there are newer ones, but those were listed too and cannot be read.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((Fold::default(), reached))
    }

    /// Whether entry `seq` is folded into a checkpoint already.
    pub(super) async fn has_checkpoint_after(&self, seq: u64) -> Result<bool, Error> {
        Ok(self.checkpoints().await?.first().is_some_and(|newest| *newest > seq))
    }
}

/// The number of a checkpoint by its name.
pub fn checkpoint_of(path: &Path) -> Option<u64> {
    path.filename()?.strip_prefix("checkpoint-")?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests;
