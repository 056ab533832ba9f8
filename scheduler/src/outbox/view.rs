//! What the warehouse says of a job's messages, for those who ask without a sender.

use std::sync::Arc;

use object_store::ObjectStore;
use redpoll_connectors::outbox::{Aside, Error, Record, tables};
use redpoll_core::log::Fold;
use redpoll_core::protocol::JobPaths;
use serde::{Deserialize, Serialize};

/// A table of messages of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub job: String,
    pub table: String,
    /// Its LOCATION. Secrets stand there by the names of their variables.
    pub to: String,
    /// Messages of all committed epochs.
    pub queued: u64,
    pub sent: u64,
    /// Those that their receiver did not take, with its answers.
    pub set_aside: Vec<Aside>,
}

/// The tables of messages of a job, by their records.
pub async fn views(store: &Arc<dyn ObjectStore>, paths: &JobPaths, job: &str, fold: &Fold) -> Result<Vec<View>, Error> {
    let folder = paths.outboxes();
    let mut views = Vec::new();
    for table in tables(store.as_ref(), &folder).await? {
        let known = Record::new(store.clone(), &folder, &table).read().await?;
        views.push(View {
            job: job.to_owned(),
            to: known.reign.map(|reign| reign.spec.url).unwrap_or_default(),
            queued: fold.sums.sinks.get(&table).copied().unwrap_or_default(),
            sent: known.n_sent,
            set_aside: known.aside.into_values().collect(),
            table,
        });
    }
    Ok(views)
}
