//! One query: its end, its progress, its rows.
//!
//! Rows go to a user, and no receipt says which of them are right. So they are held back here until the query has
//! ended, all of them have come, no executor has left since it was submitted, and each that is in the books answers
//! once more. Otherwise they are thrown away and the query is run again.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::JobId;
use ballista_core::client::BallistaClient;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{JobStatus, PartitionLocation, job_status::Status};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval};

use super::spool::{Rows, Spool};
use super::watch::all_answer;
use super::{Engine, Error, Inner};

/// Status messages that may wait; one that finds no room is made up for by the look each second.
const STATUS_ROOM: usize = 64;
/// Between two looks at a running query.
const LOOK: Duration = Duration::from_secs(1);
/// Partitions of a result that are asked for ahead of the one whose rows are taken.
const FETCHES: usize = 4;
/// Times that [`Engine::rows`] runs a query that lost an executor or stood still.
const TRIES: usize = 8;

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
    #[error("no executor {}was there for {after:?}; start one, or more", group.as_ref().map(|group| format!("of group '{group}' ")).unwrap_or_default())]
    NoExecutor { group: Option<String>, after: Duration },
    #[error("the result is larger than {limit} bytes; ask for less, or give the scheduler a larger --result-limit")]
    TooLarge { limit: u64 },
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
#[derive(Clone)]
pub struct Query {
    engine: Arc<Inner>,
    id: String,
    name: String,
    /// Of the rows, if there are none to tell.
    schema: SchemaRef,
    end: watch::Receiver<Option<End>>,
    /// Executors that had left when it was submitted.
    departed: u64,
}

pub(super) async fn submit(
    engine: &Arc<Inner>,
    name: &str,
    group: Option<&str>,
    session: SessionContext,
    plan: &LogicalPlan,
) -> Result<Query, Error> {
    let departed = engine.cluster.departed();
    let (sender, statuses) = mpsc::channel(STATUS_ROOM);
    let id = engine.server.submit_job(name, Arc::new(session), plan, Some(sender)).await;
    let id = id.map_err(|source| Error::Submit { name: name.to_owned(), source })?;
    engine.causes.insert(id.as_str().to_owned(), None);
    let (told, end) = watch::channel(None);
    let follow = Follow {
        engine: engine.clone(),
        id: id.clone(),
        group: group.map(str::to_owned),
        seen: (Progress::default(), Instant::now()),
    };
    tokio::spawn(async move {
        let (engine, id) = (follow.engine.clone(), follow.id.clone());
        let end = follow.until_it_ends(statuses).await;
        let cause = engine.causes.remove(id.as_str()).and_then(|(_, cause)| cause);
        told.send_replace(Some(end.map_err(|reported| cause.unwrap_or(reported))));
    });
    let schema = Arc::new(Schema::clone(plan.schema().as_arrow()));
    Ok(Query { engine: engine.clone(), id: id.into_inner(), name: name.to_owned(), schema, end, departed })
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

    /// Waits for its end and brings all rows here. `Lost` if any executor left since it was submitted, whether its
    /// rows had been fetched or not: what is returned is of a run that lost nobody.
    pub async fn rows(&self) -> Result<Rows, Ended> {
        let partitions = self.partitions().await?;
        let mut departed = self.engine.cluster.departures();
        // One that was stopped in mid-fetch would keep its connection, and the fetch, for ever.
        let rows = tokio::select! {
            rows = self.fetch(&partitions) => rows?,
            () = async { _ = departed.wait_for(|departed| *departed != self.departed).await } => return Err(left()),
        };
        // One that died a moment ago may have left a trace that Ballista repaired in its own way.
        all_answer(&self.engine).await?;
        match self.engine.cluster.departed() == self.departed {
            true => Ok(rows),
            false => Err(left()),
        }
    }

    async fn fetch(&self, partitions: &[PartitionLocation]) -> Result<Rows, Ended> {
        let max = self.engine.config.max_message_bytes as usize;
        let streams = partitions.iter().cloned().map(|partition| open(partition, max));
        let mut streams = stream::iter(streams).buffered(FETCHES);
        let mut spool = Spool::new(&self.engine.config.results);
        while let Some(opened) = streams.next().await {
            let (executor, mut rows) = opened?;
            while let Some(batch) = rows.next().await {
                spool.write(&batch.map_err(|error| not_fetched(&executor, &error))?)?;
            }
        }
        spool.finish(self.schema.clone())
    }

    async fn partitions(&self) -> End {
        let mut end = self.end.clone();
        let ended = match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().expect("waited for"),
            Err(_) => return Err(Ended::Failed("the engine was shut down".into())),
        };
        match ended {
            Err(Ended::Failed(reason)) => Err(self.why(reason).await),
            ended => ended,
        }
    }

    /// A task that reads from an executor fails when that dies, before the loss is known to anybody else.
    async fn why(&self, reason: String) -> Ended {
        match all_answer(&self.engine).await {
            Err(lost) => lost,
            Ok(()) if self.engine.cluster.departed() != self.departed => left(),
            Ok(()) => Ended::Failed(reason),
        }
    }
}

impl Engine {
    /// Runs a plan and returns its rows; again if an executor was lost on the way. A call that is dropped ends its
    /// query.
    pub async fn rows(
        &self,
        name: &str,
        group: Option<&str>,
        session: &SessionContext,
        plan: &LogicalPlan,
    ) -> Result<Rows, Error> {
        let mut tries = 1;
        loop {
            let query = EndWithThis(Some(self.submit(name, group, session, plan).await?));
            let rows = tokio::select! {
                rows = query.rows() => rows,
                ended = self.deserted(group) => Err(ended),
            };
            match rows {
                Ok(rows) => return Ok(rows),
                Err(source) if source.is_transient() && tries < TRIES => {
                    tracing::warn!(query = query.id, reason = %source, tries, "query runs again");
                }
                Err(source) => return Err(Error::Ended { name: name.to_owned(), source }),
            }
            tries += 1;
        }
    }

    /// Returns once no executor has been there for long: somebody waits for these rows.
    async fn deserted(&self, group: Option<&str>) -> Ended {
        let (mut look, after) = (interval(LOOK), self.inner.config.executor_wait);
        let mut since = Instant::now();
        loop {
            look.tick().await;
            if self.inner.cluster.has_open(group) {
                since = Instant::now();
            }
            if since.elapsed() >= after {
                return Ended::NoExecutor { group: group.map(str::to_owned), after };
            }
        }
    }
}

/// A query that nobody wants any more once this is gone.
struct EndWithThis(Option<Query>);

impl std::ops::Deref for EndWithThis {
    type Target = Query;

    fn deref(&self) -> &Query {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl Drop for EndWithThis {
    fn drop(&mut self) {
        if let Some(query) = self.0.take().filter(|query| query.end.borrow().is_none()) {
            tokio::spawn(async move { query.cancel().await });
        }
    }
}

fn left() -> Ended {
    Ended::Lost { executor: "(during the query)".into() }
}

fn not_fetched(executor: &str, error: &dyn std::fmt::Display) -> Ended {
    tracing::warn!(executor, %error, "result not fetched");
    Ended::Lost { executor: executor.to_owned() }
}

/// One partition of a result at the executor that holds it.
async fn open(
    partition: PartitionLocation,
    max_message_bytes: usize,
) -> Result<(String, SendableRecordBatchStream), Ended> {
    let layout = partition.layout();
    let (Some(executor), Some(id)) = (partition.executor_meta, partition.partition_id) else {
        return Err(Ended::Failed("a result partition has no place".into()));
    };
    let (host, port) = (executor.host.as_str(), executor.port as u16);
    let opened: Result<_, BallistaError> = async {
        let mut client = BallistaClient::try_new(host, port, max_message_bytes, false, None, 1, 0, 0, 0).await?;
        client.fetch_partition(&executor.id, &id.into(), partition.file_id, layout, true).await
    }
    .await;
    match opened {
        Ok(rows) => Ok((executor.id, rows)),
        Err(error) => Err(not_fetched(&executor.id, &error)),
    }
}

/// Follows a query until Ballista, or the watch, or the clock ends it.
struct Follow {
    engine: Arc<Inner>,
    id: JobId,
    group: Option<String>,
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
        } else if let Some(after) = self.stands_still().await {
            tracing::warn!(query = %self.id, ?after, "query stands still, cancelled");
            self.engine.end(self.id.as_str(), Ended::Stalled { after }).await;
        }
        status
    }

    /// For how long nothing has moved, if that is too long. Waiting for executors, or for vcores that other queries
    /// hold, is no standstill. A query without a task that runs and without one that waits for a place was lost track
    /// of: nothing would ever move it.
    async fn stands_still(&mut self) -> Option<Duration> {
        let progress = progress(&self.engine, &self.id).await?;
        let has_place = || self.engine.cluster.idle(self.group.as_deref()).is_some();
        let could_move = progress.running > 0 || progress.waiting == 0 || has_place();
        if progress != self.seen.0 || !could_move {
            self.seen = (progress, Instant::now());
        }
        let config = &self.engine.config;
        let after = if progress.running > 0 { config.stall_timeout } else { config.lost_timeout };
        (self.seen.1.elapsed() >= after).then_some(after)
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
