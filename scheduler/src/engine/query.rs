//! One query: its end, its progress, its rows.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::JobId;
use ballista_core::client::BallistaClient;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{JobStatus, PartitionLocation, job_status::Status};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval};

use super::{Engine, Error, Inner};

/// Status messages that may wait; one that finds no room is made up for by the look each second.
const STATUS_ROOM: usize = 64;
/// Between two looks at a running query.
const LOOK: Duration = Duration::from_secs(1);
/// Partitions of a result that are fetched at a time.
const FETCHES: usize = 4;
/// Times that [`Engine::rows`] runs a query that lost an executor or stood still.
const TRIES: usize = 4;

/// Why a query gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("{0}")]
    Failed(String),
    #[error("cancelled")]
    Cancelled,
    /// Nothing is wrong with the query: submit what is missing again.
    #[error("executor {executor} was lost")]
    Lost { executor: String },
    /// As for `Lost`: the engine lost track of it.
    #[error("no task started or ended for {after:?}")]
    Stalled { after: Duration },
}

impl Ended {
    /// Whether the same query may well succeed if run again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Stalled { .. })
    }
}

/// Tasks of a query so far. Later stages add theirs when they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub waiting: usize,
    pub running: usize,
    /// Tasks that were ever started, so repeated ones count again.
    pub started: usize,
    pub stages_done: usize,
}

type End = Result<Arc<Vec<PartitionLocation>>, Ended>;

/// A submitted query. Dropping this does not stop it.
pub struct Query {
    engine: Arc<Inner>,
    id: String,
    name: String,
    end: watch::Receiver<Option<End>>,
    /// Executors that had left when it was submitted.
    departed: u64,
}

pub(super) async fn submit(
    engine: &Arc<Inner>,
    name: &str,
    session: SessionContext,
    plan: &LogicalPlan,
) -> Result<Query, Error> {
    let departed = engine.cluster.departed();
    let (sender, statuses) = mpsc::channel(STATUS_ROOM);
    let id = engine.server.submit_job(name, Arc::new(session), plan, Some(sender)).await;
    let id = id.map_err(|source| Error::Submit { name: name.to_owned(), source })?;
    engine.causes.insert(id.as_str().to_owned(), None);
    let (told, end) = watch::channel(None);
    let follow = Follow { engine: engine.clone(), id: id.clone(), seen: (Progress::default(), Instant::now()) };
    tokio::spawn(async move {
        let (engine, id) = (follow.engine.clone(), follow.id.clone());
        let end = follow.until_it_ends(statuses).await;
        let cause = engine.causes.remove(id.as_str()).and_then(|(_, cause)| cause);
        told.send_replace(Some(end.map_err(|reported| cause.unwrap_or(reported))));
    });
    Ok(Query { engine: engine.clone(), id: id.into_inner(), name: name.to_owned(), end, departed })
}

impl Query {
    /// Ballista's id of it, as under `/api/job/{id}`.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for its end. May be called again, and by several.
    pub async fn finished(&self) -> Result<(), Ended> {
        self.partitions().await.map(|_| ())
    }

    /// Asks for its end; [`Query::finished`] then says `Cancelled`, unless it ended otherwise before.
    pub async fn cancel(&self) {
        self.engine.end(&self.id, Ended::Cancelled).await;
    }

    /// Its tasks; none once it has ended.
    pub async fn progress(&self) -> Option<Progress> {
        progress(&self.engine, &JobId::from(self.id.as_str())).await
    }

    /// Waits for its end and fetches all rows from the executors. `Lost` if any executor left since it was submitted:
    /// rows are shown only of a query that saw no loss.
    pub async fn rows(&self) -> Result<Vec<RecordBatch>, Ended> {
        let partitions = self.partitions().await?;
        let max = self.engine.config.max_message_bytes as usize;
        let fetches = partitions.iter().cloned().map(|partition| fetch(partition, max));
        let rows: Result<Vec<_>, Ended> = stream::iter(fetches).buffered(FETCHES).try_collect().await;
        if self.engine.cluster.departed() != self.departed {
            return Err(Ended::Lost { executor: "(during the query)".into() });
        }
        Ok(rows?.into_iter().flatten().collect())
    }

    async fn partitions(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().expect("waited for"),
            Err(_) => Err(Ended::Failed("the engine was shut down".into())),
        }
    }
}

impl Engine {
    /// Runs a plan and returns its rows; again if an executor was lost on the way.
    pub async fn rows(
        &self,
        name: &str,
        group: Option<&str>,
        session: &SessionContext,
        plan: &LogicalPlan,
    ) -> Result<Vec<RecordBatch>, Error> {
        let mut tries = 1;
        loop {
            let query = self.submit(name, group, session, plan).await?;
            match query.rows().await {
                Ok(rows) => return Ok(rows),
                Err(source) if source.is_transient() && tries < TRIES => {
                    tracing::warn!(query = query.id, reason = %source, tries, "query runs again");
                }
                Err(source) => return Err(Error::Ended { name: name.to_owned(), source }),
            }
            tries += 1;
        }
    }
}

/// One partition of a result, from the executor that holds it.
async fn fetch(partition: PartitionLocation, max_message_bytes: usize) -> Result<Vec<RecordBatch>, Ended> {
    let layout = partition.layout();
    let (Some(executor), Some(id)) = (partition.executor_meta, partition.partition_id) else {
        return Err(Ended::Failed("a result partition has no place".into()));
    };
    let (host, port) = (executor.host.as_str(), executor.port as u16);
    let fetched: Result<_, BallistaError> = async {
        let mut client = BallistaClient::try_new(host, port, max_message_bytes, false, None, 1, 0, 0, 0).await?;
        let rows = client.fetch_partition(&executor.id, &id.into(), partition.file_id, layout, true).await?;
        Ok(rows.try_collect().await?)
    }
    .await;
    fetched.map_err(|error| {
        tracing::warn!(executor = executor.id, %error, "result not fetched");
        Ended::Lost { executor: executor.id }
    })
}

/// Follows a query until Ballista, or the watch, or the clock ends it.
struct Follow {
    engine: Arc<Inner>,
    id: JobId,
    /// The last progress, and since when.
    seen: (Progress, Instant),
}

impl Follow {
    async fn until_it_ends(mut self, mut statuses: mpsc::Receiver<JobStatus>) -> End {
        let mut look = interval(LOOK);
        let mut open = true;
        loop {
            let status = tokio::select! {
                status = statuses.recv(), if open => {
                    open = status.is_some();
                    status
                }
                _ = look.tick() => self.look().await,
            };
            match status.and_then(|status| status.status) {
                Some(Status::Successful(done)) => return Ok(Arc::new(done.partition_location)),
                Some(Status::Failed(failed)) if failed.error == "Cancelled" => return Err(Ended::Cancelled),
                Some(Status::Failed(failed)) => return Err(Ended::Failed(failed.error)),
                Some(Status::Queued(_) | Status::Running(_)) | None => {}
            }
        }
    }

    /// Asks for the status, and acts on what should have ended by now.
    async fn look(&mut self) -> Option<JobStatus> {
        let status = self.engine.server.state.task_manager.get_job_status(&self.id).await.ok().flatten();
        if self.engine.causes.get(self.id.as_str()).is_some_and(|cause| cause.is_some()) {
            // A query that was still being planned ignored the first call.
            _ = self.engine.server.cancel_job(self.id.clone()).await;
        } else if self.stands_still().await {
            let after = self.engine.config.stall_timeout;
            tracing::warn!(query = %self.id, ?after, "query stands still, cancelled");
            self.engine.end(self.id.as_str(), Ended::Stalled { after }).await;
        }
        status
    }

    /// Waiting for executors, or for vcores that other queries hold, is no standstill.
    async fn stands_still(&mut self) -> bool {
        let Some(progress) = progress(&self.engine, &self.id).await else { return false };
        let could_move = progress.running > 0 || self.engine.cluster.idle().is_some();
        if progress != self.seen.0 || !could_move {
            self.seen = (progress, Instant::now());
        }
        self.seen.1.elapsed() >= self.engine.config.stall_timeout
    }
}

async fn progress(engine: &Inner, id: &JobId) -> Option<Progress> {
    let running = engine.server.state.task_manager.get_running_job_cache();
    let graph = running.get(id)?.execution_graph.read().await;
    Some(Progress {
        waiting: graph.available_tasks(),
        running: graph.running_tasks().len(),
        started: graph.stages().values().filter_map(|stage| stage.task_infos()).map(<[_]>::len).sum(),
        stages_done: graph.completed_stages(),
    })
}
